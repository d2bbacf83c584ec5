"""What is known over time: figures out of the usual, quality, strain, the fleet at a glance."""

from datetime import timedelta

import pytest
from brain_worlds import REGIONS, START, fleet_config, probe_event, probe_state
from health_worlds import Scene, Traffic
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.conclude import look
from control_plane.core.fold import EventFold
from control_plane.core.hindsight import UNAWARE
from control_plane.core.tally import removals
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Reason
from shared.vocabulary.health import HealthEvent, RouteLoad
from shared.vocabulary.terms import Outcome, Role, Verdict

A = "alpha-us-east"
WARM_S = 310.0
WINDOW_S = 10.0


def quick_config(**health: object) -> FleetConfig:
    """The defaults, and one target per region."""
    targets = {f"alpha-{region}": region for region in REGIONS}
    return fleet_config(targets=targets, tiers=[list(targets)], policy={"health": health})


def warm(scene: Scene) -> Scene:
    """Past the first block of every baseline."""
    scene.pass_s(WARM_S, pace_s=5.0)
    return scene


def test_slower_than_usual_for_three_windows_is_degraded() -> None:
    """DEGRADED with the figures in words and half of its weight advised; one slow window is nothing."""
    scene = Scene(config=quick_config(), p50_ms={A: 120.0})
    warm(scene)
    scene.p50_ms[A] = 480.0
    scene.pass_s(WINDOW_S, pace_s=5.0)
    assert (scene.health(A).verdict, scene.health(A).caution_permille) == (Verdict.HEALTHY, 1000)
    scene.pass_s(3 * WINDOW_S, pace_s=5.0)
    health = scene.health(A)
    assert (health.verdict, health.hard, health.caution_permille) == (Verdict.DEGRADED, False, 500)
    assert health.reason.startswith(
        "probe latency p50 480 ms, 18.0 deviations above 120 ms at this hour; 3 of 3"
    )
    assert scene.health("alpha-eu-west").verdict is Verdict.HEALTHY
    scene.p50_ms[A] = 120.0
    scene.pass_s(4 * WINDOW_S, pace_s=5.0)
    assert scene.health(A).verdict is Verdict.DEGRADED, "the way back is longer"
    scene.pass_s(4 * WINDOW_S, pace_s=5.0)
    assert (scene.health(A).verdict, scene.health(A).caution_permille) == (Verdict.HEALTHY, 1000)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Traffic(ms=900.0), "live latency p50 900 ms"),
        (Traffic(good=80, bad=20), "live error rate 20.0 %, "),
    ],
)
def test_live_traffic_has_a_baseline_too(seen: Traffic, words: str) -> None:
    """Latency, time to first byte and errors of live traffic, though every probe is well."""
    scene = Scene(config=quick_config(), traffic={"us-east": {A: Traffic()}})
    warm(scene)
    scene.traffic["us-east"][A] = seen
    scene.pass_s(4 * WINDOW_S, pace_s=5.0)
    health = scene.health(A)
    assert health.verdict is Verdict.DEGRADED
    assert health.reason.startswith(words)
    assert not any(summary.failing for summary in health.passive)


def test_traffic_that_moves_in_from_afar_degrades_nobody() -> None:
    """After a failover a target answers farther clients too: their way is longer, it is not slower."""
    scene = Scene(config=quick_config(), traffic={"us-east": {A: Traffic(ms=50.0)}})
    warm(scene)
    scene.traffic["ap-south"] = {A: Traffic(ms=600.0)}
    scene.pass_s(6 * WINDOW_S, pace_s=5.0)
    assert scene.health(A).verdict is Verdict.HEALTHY


def test_a_silent_vantage_degrades_nobody() -> None:
    """When the nearest vantage falls silent the median rises, and nothing is slower."""
    scene = Scene(config=quick_config())

    def report(vantages: tuple[str, ...]) -> None:
        scene.seq += 1
        for vantage in vantages:
            state = probe_state(A, at=scene.now).model_copy(
                update={"latency_ms_p50": {"us-east": 1.0, "eu-west": 2.0, "ap-south": 900.0}[vantage]}
            )
            scene.fold.apply(probe_event(vantage, [state], seq=scene.seq), received_at=scene.clock_s)
        scene.look()

    for second in range(450):
        scene.clock_s += 1.0
        report(REGIONS if second < 350 else ("eu-west", "ap-south"))
    assert scene.health(A).verdict is Verdict.HEALTHY


def test_down_is_not_softened_nor_unknown_judged() -> None:
    """What votes call DOWN stays DOWN, hard, however slow it was; what nobody sees is UNKNOWN."""
    scene = Scene(config=quick_config(), p50_ms={A: 120.0})
    warm(scene)
    scene.p50_ms[A] = 480.0
    scene.pass_s(4 * WINDOW_S, pace_s=5.0)
    scene.fails(A)
    scene.pass_s(4)
    health = scene.health(A)
    assert (health.verdict, health.hard, health.caution_permille) == (Verdict.DOWN, True, 1000)
    scene.silent = set(REGIONS)
    scene.pass_s(8)
    health = scene.health(A)
    assert (health.verdict, health.caution_permille, health.warning) == (Verdict.UNKNOWN, 1000, "")


def test_early_warning_is_opt_in() -> None:
    """A climb towards the limit: with the flag a warning and 800 permille, without it nothing."""
    for asked in (True, False):
        scene = Scene(config=quick_config(early_warning=asked), p50_ms={A: 120.0})
        warm(scene)
        for step in range(7):
            scene.p50_ms[A] = 120.0 + 13.0 * step
            scene.pass_s(WINDOW_S, pace_s=5.0)
        health = scene.health(A)
        assert health.verdict is Verdict.HEALTHY
        assert (health.caution_permille, bool(health.warning)) == ((800, True) if asked else (1000, False))


def test_the_switch_stops_baselines() -> None:
    """Without `baseline` nothing is learnt, and what was held is dropped."""
    scene = Scene(config=quick_config(baseline=False), p50_ms={A: 120.0})
    warm(scene)
    scene.p50_ms[A] = 4800.0
    scene.pass_s(6 * WINDOW_S, pace_s=5.0)
    assert scene.health(A).verdict is Verdict.HEALTHY
    assert scene.hindsight.vitals[A].trends == (None, None, None, None)


def test_lasting_strain_is_a_reason_for_caution() -> None:
    """Votes call a SLOW target DEGRADED at once; its weight is touched when that lasts."""
    scene = Scene(config=quick_config())

    def pass_slow_s(seconds: int, outcome: Outcome) -> None:
        for _ in range(seconds):
            scene.clock_s += 1.0
            scene.seq += 1
            for vantage in REGIONS:
                state = probe_state(A, outcome=outcome, at=scene.now)
                scene.fold.apply(probe_event(vantage, [state], seq=scene.seq), received_at=scene.clock_s)
            scene.look()

    pass_slow_s(15, Outcome.SLOW)
    assert (scene.health(A).verdict, scene.health(A).caution_permille) == (Verdict.DEGRADED, 1000)
    pass_slow_s(25, Outcome.SLOW)
    assert scene.health(A).caution_permille == 500
    pass_slow_s(20, Outcome.OK)
    assert (scene.health(A).verdict, scene.health(A).caution_permille) == (Verdict.HEALTHY, 500)
    pass_slow_s(60, Outcome.OK)
    assert scene.health(A).caution_permille == 1000


def test_wrong_answers_degrade_and_drain() -> None:
    """By known answers: below 90 % DEGRADED, below half DOWN on soft evidence, with the score in words."""
    scene = Scene(config=quick_config(), answers={A: (50, 4)})
    scene.pass_s(3)
    assert scene.health(A).verdict is Verdict.HEALTHY
    scene.answers[A] = (60, 14)
    scene.pass_s(3)
    health = scene.health(A)
    assert (health.verdict, health.caution_permille) == (Verdict.DEGRADED, 500)
    assert health.reason.startswith("quality 76.6 % of 180 answers by probes; 3 of 3 vantages HEALTHY")
    scene.answers[A] = (100, 54)
    scene.pass_s(3)
    health = scene.health(A)
    assert (health.verdict, health.hard) == (Verdict.DOWN, False)
    scene.fails(A)
    scene.pass_s(3)
    assert scene.health(A).hard
    assert scene.health(A).reason.startswith("3 of 3 vantages DOWN"), "votes go before quality"
    scene.broken.clear()
    scene.answers[A] = (100, 0)
    scene.pass_s(3)
    assert scene.health(A).verdict is Verdict.HEALTHY


def test_scores_are_shown_by_model_and_by_target() -> None:
    """Models first, then who is not plainly good; a target with few answers shares its model's standing
    unless another target of that model is good."""
    scene = Scene(config=quick_config(), answers={A: (40, 30), "alpha-eu-west": (4, 1)})
    view = scene.pass_s(WINDOW_S * 2, pace_s=5.0)
    assert [(score.target, score.score_permille, score.judged, score.standing) for score in view.quality] == [
        (None, 295, 132, "DRAINED"),
        (A, 250, 120, "DRAINED"),
        ("alpha-eu-west", 750, 12, "DRAINED"),
    ]
    assert scene.health("alpha-eu-west").verdict is Verdict.DOWN
    assert scene.health("alpha-ap-south").verdict is Verdict.HEALTHY, "nobody judged it"
    scene.answers["alpha-ap-south"] = (100, 0)
    scene.pass_s(WINDOW_S * 2, pace_s=5.0)
    assert scene.health("alpha-eu-west").verdict is Verdict.HEALTHY
    assert scene.health(A).verdict is Verdict.DOWN


def test_the_fleet_at_a_glance() -> None:
    """Success over attempts, the mean response over answers, requests per route, who is silent since when."""
    load = RouteLoad(route="chat", inflight=2.5, requests=40, failed=4, window_s=10)
    scene = Scene(
        config=quick_config(),
        traffic={
            "us-east": {A: Traffic(good=90, bad=10, ms=100.0)},
            "eu-west": {"alpha-eu-west": Traffic(good=10, bad=0, ms=1100.0)},
        },
        loads={"us-east": (load,), "eu-west": (load,)},
    )
    scene.pass_s(3)
    scene.fold.apply(
        HealthEvent(
            kind="heartbeat",
            source="cp-eu-west",
            role=Role.CONTROL_PLANE,
            vantage="eu-west",
            boot=1,
            seq=1,
            observed_at=scene.now,
        ),
        received_at=scene.clock_s,
    )
    fallen = scene.now
    view = scene.pass_s(6)
    assert view.summary is not None
    assert (view.summary.attempts, view.summary.success_permille) == (110, 909)
    assert view.summary.response_ms_mean == 200.0
    assert [(r.route, r.requests, r.success_permille, r.inflight) for r in view.summary.routes] == [
        ("chat", 80, 900, 5.0)
    ]
    assert [(load.route, load.region) for load in view.loads] == [("chat", "eu-west"), ("chat", "us-east")]
    assert view.summary.silent == ("cp-eu-west",)
    replica = next(source for source in view.sources if source.id == "cp-eu-west")
    assert (replica.role, replica.fresh, replica.silent_since) == (Role.CONTROL_PLANE, False, fallen)
    region = next(region for region in view.regions if region.id == "eu-west")
    assert (region.sources, region.sources_fresh) == (2, 2), "a replica observes nothing"


def test_failovers_are_counted_once_an_outage() -> None:
    """Soft evidence that leaves in steps, several routes, several regions: one; back and out again: two."""
    down, up = Reason(code="TARGET_DOWN", target=A), Reason(code="RAMP_STEP", target=A)
    other = Reason(code="TARGET_DOWN", target="beta-us-east", region="eu-west")
    hour = timedelta(hours=1)
    log = [
        (START - 2 * hour, [down]),
        (START - hour - timedelta(seconds=1), [up, other]),
        (START - timedelta(minutes=50), [down, Reason(code="CONFIG_CHANGED")]),
        (START - timedelta(minutes=49), [down, other]),
        (START - timedelta(minutes=30), [up]),
        (START - timedelta(minutes=20), [down]),
    ]
    assert removals(log, START) == 2
    assert removals([], START) == 0


def test_another_configuration_leaves_nothing_behind() -> None:
    """Targets that are gone are forgotten."""
    scene = Scene(config=quick_config(), answers={A: (40, 30)}, p50_ms={A: 120.0})
    scene.pass_s(30)
    assert A in scene.hindsight.vitals
    scene.config = fleet_config(targets={"alpha-eu-west": "eu-west"}, tiers=[["alpha-eu-west"]], version=2)
    scene.pass_s(3)
    assert {*scene.hindsight.vitals, *scene.hindsight.scores, *scene.hindsight.findings} <= {"alpha-eu-west"}


@settings(max_examples=40, deadline=None)
@given(st.data(), st.randoms(use_true_random=False))
def test_order_and_duplicates_change_nothing_of_it(data: st.DataObject, random: object) -> None:
    """Quality, loads, freezes and the summary are state: what is late, doubled or out of order is no news."""
    scene = Scene(config=quick_config())
    events: list[HealthEvent] = []
    targets = [target.id for target in scene.config.fleet.targets]
    for _ in range(data.draw(st.integers(1, 4))):
        for target in targets:
            judged = data.draw(st.integers(0, 100))
            scene.answers[target] = (judged, data.draw(st.integers(0, judged)))
            seen = Traffic(
                bad=data.draw(st.integers(0, 50)), judged=100, garbled=data.draw(st.integers(0, 100))
            )
            scene.traffic.setdefault("us-east", {})[target] = seen
            if data.draw(st.booleans()):
                scene.fails(target, data.draw(st.sampled_from(REGIONS)))
        load = RouteLoad(route="chat", inflight=1, requests=data.draw(st.integers(0, 9)), window_s=10)
        scene.loads = {"us-east": (load,)}
        events += scene.round()
    delivered = events + [event for event in events if random.random() < 0.3]  # type: ignore[attr-defined]
    random.shuffle(delivered)  # type: ignore[attr-defined]
    views = []
    for order in (events, delivered):
        fold = EventFold()
        for event in order:
            fold.apply(event, received_at=1000.0)
        view, _ = look(fold, scene.config, UNAWARE, replica="r", now=START, monotonic=1001.0, previous=None)
        views.append(view)
    assert views[0] == views[1]
