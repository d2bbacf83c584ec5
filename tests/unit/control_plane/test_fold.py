"""EventFold keeps the latest word of every source, however the events arrive."""

from datetime import timedelta

from brain_worlds import REGIONS, START, fleet_config, passive_event, probe_event, probe_state
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core import fold as fold_module
from control_plane.core.conclude import conclude
from control_plane.core.fold import EventFold
from shared.vocabulary.health import HealthEvent, RouteLoad
from shared.vocabulary.terms import Outcome, Role
from shared.vocabulary.view import HealthView

CONFIG = fleet_config()
TARGETS = ("alpha-us-east", "alpha-eu-west", "beta-us-east")


def view_of(fold: EventFold, *, monotonic: float = 10.0) -> HealthView:
    return conclude(fold, CONFIG, replica="cp", now=START, monotonic=monotonic, previous=None)


@st.composite
def histories(draw: st.DrawFn) -> list[HealthEvent]:
    """Events of a few sources over a few boots; each event is unique in (source, boot, seq)."""
    events: list[HealthEvent] = []
    for region in REGIONS:
        for boot in range(1, draw(st.integers(1, 3)) + 1):
            for seq in range(draw(st.integers(0, 4))):
                states = [
                    probe_state(
                        target,
                        draw(st.sampled_from(["UP", "DOWN", "UNKNOWN"])),
                        hard=draw(st.booleans()),
                        at=START + timedelta(seconds=seq),
                    )
                    for target in draw(st.sets(st.sampled_from(TARGETS)))
                ]
                vantage = draw(st.sampled_from(REGIONS)) if draw(st.integers(0, 9)) == 0 else region
                events.append(probe_event(vantage, states, seq=seq, boot=boot, source=f"prober-{region}"))
        for seq in range(draw(st.integers(0, 3))):
            windows = {
                target: {Outcome.OK: draw(st.integers(0, 30)), Outcome.FAILED: draw(st.integers(0, 300))}
                for target in draw(st.sets(st.sampled_from(TARGETS)))
            }
            events.append(passive_event(region, windows, seq=seq))
    return events


@settings(max_examples=120, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_order_and_duplicates_change_nothing(events: list[HealthEvent], random: object) -> None:
    """Duplicates, delay and reordering leave the final view unchanged."""
    in_order, shuffled = EventFold(), EventFold()
    for event in events:
        in_order.apply(event, received_at=5.0)
    delivered = events + [event for event in events if random.random() < 0.3]  # type: ignore[attr-defined]
    random.shuffle(delivered)  # type: ignore[attr-defined]
    for event in delivered:
        shuffled.apply(event, received_at=5.0)
    assert view_of(in_order) == view_of(shuffled)


@settings(max_examples=60, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.data())
def test_a_last_full_round_makes_good_any_loss(
    events: list[HealthEvent], random: object, data: st.DataObject
) -> None:
    """Whatever was lost before, once every source has told everything again the view is the same."""
    rounds = [
        probe_event(
            region,
            [probe_state(t, data.draw(st.sampled_from(["UP", "DOWN"]))) for t in TARGETS],
            seq=99,
            boot=9,
        )
        for region in REGIONS
    ]
    events = [event for event in events if event.kind == "probe"]
    whole, lossy = EventFold(), EventFold()
    for event in events:
        whole.apply(event, received_at=5.0)
        if random.random() < 0.5:  # type: ignore[attr-defined]
            lossy.apply(event, received_at=5.0)
    for event in rounds:
        whole.apply(event, received_at=6.0)
        lossy.apply(event, received_at=6.0)
    assert view_of(whole) == view_of(lossy)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_a_remembered_conclusion_is_the_one_that_would_be_drawn_now(events: list[HealthEvent]) -> None:
    """Looking in between does not change what is seen at the end, but for the evidence quoted."""
    watched, unwatched = EventFold(), EventFold()
    for event in events:
        watched.apply(event, received_at=5.0)
        unwatched.apply(event, received_at=5.0)
        view_of(watched, monotonic=5.0)

    def said(view: HealthView) -> object:
        return [
            (t.id, t.verdict, t.hard, t.reason, [(v.vantage, v.verdict, v.hard) for v in t.votes], t.passive)
            for t in view.targets
        ]

    assert said(view_of(watched)) == said(view_of(unwatched))


def test_a_new_boot_voids_the_old_one() -> None:
    """What an older boot said is gone when the new one speaks, and stays gone when it comes late."""
    fold = EventFold()
    fold.apply(probe_event("us-east", [probe_state("alpha-us-east", "DOWN")], seq=90, boot=1), received_at=1)
    fold.apply(probe_event("us-east", [], seq=0, boot=2), received_at=2)
    late = probe_event("us-east", [probe_state("alpha-us-east", "DOWN")], seq=91, boot=1)
    assert not fold.apply(late, received_at=3)
    assert fold.targets == {}


def test_a_replayed_topic_keeps_nobody_alive() -> None:
    """Events already known renew no freshness."""
    fold = EventFold()
    event = probe_event("us-east", [probe_state("alpha-us-east")], seq=1)
    fold.apply(event, received_at=1.0)
    fold.apply(event, received_at=100.0)
    assert fold.sources["prober-us-east"].heard_at == 1.0


def test_a_prober_that_repeats_itself_goes_stale() -> None:
    """Publishing on while probes hang is silence about the target: UNKNOWN after three intervals."""
    fold = EventFold()
    for seq in range(20):
        states = [probe_state("alpha-us-east", at=START)]
        fold.apply(probe_event("us-east", states, seq=seq), received_at=float(seq))
        if seq == 4:
            assert view_of(fold, monotonic=4.0).targets[0].votes
    health = next(t for t in view_of(fold, monotonic=19.0).targets if t.id == "alpha-us-east")
    assert health.votes == ()


def test_only_news_asks_for_a_decision() -> None:
    """`apply` is true for a change of state and for traffic going wrong, not for repetition."""
    fold = EventFold()

    def say(state: str, seq: int) -> bool:
        later = START + timedelta(seconds=seq)
        states = [probe_state("alpha-us-east", state, at=later)]
        return fold.apply(probe_event("us-east", states, seq=seq), received_at=float(seq))

    assert [say("UP", 1), say("UP", 2), say("DOWN", 3), say("DOWN", 4)] == [True, False, True, False]
    fold.apply(passive_event("us-east", {"alpha-us-east": {Outcome.OK: 5}}, seq=1), received_at=5)
    better = passive_event("us-east", {"alpha-us-east": {Outcome.OK: 9}}, seq=2)
    worse = passive_event("us-east", {"alpha-us-east": {Outcome.OK: 9, Outcome.FAILED: 1}}, seq=3)
    assert not fold.apply(better, received_at=6)
    assert fold.apply(worse, received_at=7)


def test_the_newest_event_names_role_and_vantage() -> None:
    """A source that moved votes from its new place only."""
    fold = EventFold()
    fold.apply(
        probe_event("us-east", [probe_state("alpha-us-east")], seq=1, source="prober-1"), received_at=1
    )
    moved = probe_event("eu-west", [], seq=2, source="prober-1").model_copy(update={"role": Role.EDGE})
    assert fold.apply(moved, received_at=2)
    health = next(t for t in view_of(fold, monotonic=2).targets if t.id == "alpha-us-east")
    assert [vote.vantage for vote in health.votes] == ["eu-west"]


def test_forget_drops_the_silent_and_hears_a_reset_boot_again() -> None:
    """After `forget` nothing of a silent source is held, and a lower boot of it counts anew."""
    fold = EventFold()
    fold.apply(probe_event("us-east", [probe_state("alpha-us-east")], seq=1, boot=2**53), received_at=1)
    assert not fold.apply(
        probe_event("us-east", [probe_state("alpha-us-east")], seq=1, boot=1), received_at=2
    )
    fold.forget(before=60)
    assert (fold.sources, fold.targets) == ({}, {})
    assert fold.apply(probe_event("us-east", [probe_state("alpha-us-east")], seq=1, boot=1), received_at=61)


def test_forget_drops_entries_no_longer_named() -> None:
    """A monitor that was taken away leaves no entry behind while its prober lives on."""
    fold = EventFold()
    fold.apply(probe_event("us-east", [probe_state("alpha-us-east")], seq=1), received_at=1)
    fold.apply(probe_event("us-east", [], seq=2), received_at=100)
    fold.forget(before=50)
    assert list(fold.sources) == ["prober-us-east"]
    assert fold.targets == {}


def test_loads_are_the_latest_word_of_each_edge_and_route() -> None:
    """Late and doubled words change nothing; a new boot voids them, `forget` drops the unnamed."""
    fold = EventFold()

    def say(requests: int, seq: int, at: float, boot: int = 1, route: str = "chat") -> None:
        load = RouteLoad(route=route, inflight=0, requests=requests, window_s=10)
        event = passive_event("us-east", {}, seq=seq).model_copy(update={"routes": (load,), "boot": boot})
        fold.apply(event, received_at=at)

    def told() -> dict[str, int]:
        return {route: word.load.requests for route, word in fold.sources["edge-us-east"].loads.items()}

    say(5, seq=2, at=1.0)
    say(3, seq=1, at=2.0)
    say(9, seq=2, at=3.0)
    assert told() == {"chat": 5}
    say(7, seq=3, at=4.0, route="embed")
    fold.forget(before=3.5)
    assert told() == {"embed": 7}
    say(1, seq=0, at=5.0, boot=2)
    assert told() == {"chat": 1}


def test_a_run_of_failures_keeps_its_beginning() -> None:
    """`broken_since` is the receipt of the first failure without a break; being throttled is a break."""
    fold = EventFold()
    since = []
    refused, failed, throttled, ok = Outcome.REFUSED, Outcome.FAILED, Outcome.THROTTLED, Outcome.OK
    for seq, outcome in enumerate((ok, refused, failed, refused, throttled, failed, ok)):
        fold.apply(probe_event("us-east", [probe_state("a", outcome=outcome)], seq=seq), received_at=seq)
        since.append(fold.sources["prober-us-east"].probes["a", "http"].broken_since)
    never = float("inf")
    assert since == [never, 1, 1, 1, never, 5, never]


def test_floods_meet_a_bound(monkeypatch: object) -> None:
    """Sources and words over the bounds are refused and counted, the known ones go on."""
    fold = EventFold()
    known = probe_event("us-east", [probe_state("alpha-us-east")], seq=1)
    fold.apply(known, received_at=1)
    for name in range(fold_module.MAX_SOURCES + 5):
        fold.apply(probe_event("us-east", [], seq=1, source=f"made-up-{name}"), received_at=1)
    assert len(fold.sources) == fold_module.MAX_SOURCES
    assert fold.refused == 6
    down = probe_event("us-east", [probe_state("alpha-us-east", "DOWN")], seq=2)
    assert fold.apply(down, received_at=2)
