"""The health view: quorum, silence, several monitors and probers, live traffic, contrarians."""

from datetime import timedelta

import pytest
from brain_worlds import REGIONS, START, World, fleet_config, passive_event, probe_event, probe_state

from control_plane.core.contrarian import Ballot, set_aside
from control_plane.core.votes import count
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import TargetHealth

A = "alpha-us-east"


def health_of(world: World, target: str = A) -> TargetHealth:
    return next(each for each in world.look().targets if each.id == target)


@pytest.mark.parametrize(
    ("voices", "quorum", "verdict"),
    [
        ("", 2, "UNKNOWN"),
        ("UUU", 2, "UNKNOWN"),
        ("HHH", 2, "HEALTHY"),
        ("HHX", 2, "HEALTHY"),
        ("HXX", 2, "DOWN"),
        ("XX", 2, "DOWN"),
        ("X", 2, "UNKNOWN"),
        ("X", 1, "DOWN"),
        ("XH", 1, "UNKNOWN"),
        ("HHXX", 2, "UNKNOWN"),
        ("HHXXX", 2, "DOWN"),
        ("HDD", 2, "DEGRADED"),
        ("HD", 2, "DEGRADED"),
        ("HDX", 2, "DEGRADED"),
        ("HUU", 2, "HEALTHY"),
        ("XUU", 2, "UNKNOWN"),
        ("XXU", 2, "DOWN"),
    ],
)
def test_the_count(voices: str, quorum: int, verdict: str) -> None:
    """DOWN needs the quorum and more than half of the fresh; a tie is UNKNOWN."""
    names = {"H": Verdict.HEALTHY, "D": Verdict.DEGRADED, "X": Verdict.DOWN, "U": Verdict.UNKNOWN}
    assert count([(names[voice], False) for voice in voices], quorum=quorum).verdict == verdict


def test_silence_is_unknown_and_never_down() -> None:
    """A target that was HEALTHY becomes UNKNOWN when everybody falls silent."""
    world = World()
    world.tick()
    assert health_of(world).verdict is Verdict.HEALTHY
    world.clock_s += 6
    health = health_of(world)
    assert (health.verdict, health.votes) == (Verdict.UNKNOWN, ())
    assert health.reason == "no fresh vantage speaks"


def test_one_vantage_cannot_flip_what_others_agree_on() -> None:
    """One DOWN against two HEALTHY changes no verdict; two of three do."""
    world = World()
    world.down = {"us-east": {A: True}}
    world.report()
    assert health_of(world).verdict is Verdict.HEALTHY
    world.down["eu-west"] = {A: True}
    world.report()
    health = health_of(world)
    assert (health.verdict, health.hard) == (Verdict.DOWN, True)
    assert health.reason == "2 of 3 vantages DOWN: refused"


def test_a_good_outcome_is_no_cause_of_a_down() -> None:
    """A target that begins to answer again is still DOWN: its last probe says OK, and explains nothing."""
    world = World(down={"us-east": {A: True}, "eu-west": {A: True}})
    world.report()
    for seq, region in enumerate(("us-east", "eu-west"), start=1_000):
        returning = probe_event(region, [probe_state(A, "DOWN", outcome=Outcome.OK)], seq=seq)
        world.fold.apply(returning, received_at=world.clock_s)
    assert health_of(world).reason == "2 of 3 vantages DOWN"


def test_the_last_fresh_vantage_alone_makes_no_down() -> None:
    """Where three regions are configured to check, one voice is not enough even when it is the only one."""
    world = World(silent={"eu-west", "ap-south"}, down={"us-east": {A: True}})
    world.report()
    health = health_of(world)
    assert health.verdict is Verdict.UNKNOWN
    assert "2 are needed" in health.reason


def test_a_single_check_region_decides_alone() -> None:
    """With one configured check region its vote is the quorum; others' entries do not count."""
    config = fleet_config(monitors=[{"id": "http", "kind": "http", "check_regions": ["us-east"]}])
    world = World(config=config, down={"us-east": {A: False}})
    world.report()
    health = health_of(world)
    assert (health.verdict, health.hard) == (Verdict.DOWN, False)
    assert [vote.vantage for vote in health.votes] == ["us-east"]


def test_hard_needs_the_quorum_on_hard_evidence() -> None:
    """Two DOWN of which one is hard is DOWN, softly."""
    world = World(down={"us-east": {A: True}, "eu-west": {A: False}})
    world.report()
    health = health_of(world)
    assert (health.verdict, health.hard) == (Verdict.DOWN, False)


def test_any_monitor_down_is_the_vote_and_strain_is_degraded() -> None:
    """Of several monitors one DOWN is enough; mostly SLOW or THROTTLED is DEGRADED, never DOWN."""
    config = fleet_config(monitors=[{"id": name, "kind": "http"} for name in ("http", "chat", "deep")])
    world = World(config=config)

    def say(*states: tuple[str, str, Outcome], seq: int) -> Verdict:
        event = probe_event(
            "us-east", [probe_state(A, state, monitor=m, outcome=o) for m, state, o in states], seq=seq
        )
        world.fold.apply(event, received_at=world.clock_s)
        return health_of(world).votes[0].verdict

    ok, slow, throttled = Outcome.OK, Outcome.SLOW, Outcome.THROTTLED
    assert say(("http", "UP", ok), ("chat", "UP", slow), ("deep", "UP", ok), seq=1) is Verdict.HEALTHY
    assert say(("deep", "UP", throttled), seq=2) is Verdict.DEGRADED
    assert say(("http", "UNKNOWN", ok), seq=3) is Verdict.DEGRADED
    assert say(("chat", "DOWN", Outcome.GARBLED), seq=4) is Verdict.DOWN
    evidence = health_of(world).votes[0].evidence
    assert [(ref.monitor, ref.seq, ref.outcome) for ref in evidence] == [("chat", 4, Outcome.GARBLED)]


def test_probers_of_a_region_fold_to_one_vote() -> None:
    """One vote a region, by majority; a tie is UNKNOWN."""
    world = World()
    for number, state in enumerate(("DOWN", "UP")):
        event = probe_event("us-east", [probe_state(A, state)], seq=1, source=f"prober-{number}")
        world.fold.apply(event, received_at=world.clock_s)
    assert [vote.verdict for vote in health_of(world).votes] == [Verdict.UNKNOWN]
    event = probe_event("us-east", [probe_state(A, "DOWN")], seq=1, source="prober-2")
    world.fold.apply(event, received_at=world.clock_s)
    assert [vote.verdict for vote in health_of(world).votes] == [Verdict.DOWN]


def test_live_traffic_failing_in_two_regions_is_down() -> None:
    """Passive data is a region's DOWN from 20 attempts at 90 % on; two regions make it global, and hard."""
    world = World()
    world.report()
    failing = {A: {Outcome.OK: 2, Outcome.TIMED_OUT: 18}}
    world.fold.apply(passive_event("us-east", failing, seq=1), received_at=world.clock_s)
    health = health_of(world)
    assert health.verdict is Verdict.HEALTHY
    assert [(summary.region, summary.failing) for summary in health.passive] == [("us-east", True)]
    assert health.passive[0].evidence[0].detail == "18 of 20 attempts in 10 s"
    world.fold.apply(passive_event("eu-west", failing, seq=1), received_at=world.clock_s)
    health = health_of(world)
    assert (health.verdict, health.hard) == (Verdict.DOWN, True)


@pytest.mark.parametrize(
    "counts",
    [
        {Outcome.FAILED: 19},
        {Outcome.FAILED: 89, Outcome.OK: 11},
        {Outcome.THROTTLED: 500},
        {Outcome.GARBLED: 500},
    ],
)
def test_passive_floors(counts: dict[Outcome, int]) -> None:
    """Too few attempts, too few of them bad, or bad in another way: not failing."""
    world = World()
    world.fold.apply(passive_event("us-east", {A: counts}, seq=1), received_at=world.clock_s)
    assert [summary.failing for summary in health_of(world).passive] == [False]


def test_a_contrarian_is_set_aside_and_named() -> None:
    """A vantage that contradicts the others about most targets counts for nothing until it agrees again."""
    world = World()
    world.down = {"ap-south": dict.fromkeys(world.targets, True), "us-east": {A: True}}
    world.report()
    view = world.look()
    assert view.set_aside == ("ap-south",)
    health = health_of(world)
    assert health.verdict is Verdict.UNKNOWN, "one honest DOWN, joined by the contrarian's, is no quorum"
    assert health.reason.endswith("set aside: ap-south")
    world.down.pop("ap-south")
    world.clock_s += 1
    world.report()
    assert world.look().set_aside == ()
    assert health_of(world).verdict is Verdict.HEALTHY


def test_a_dead_region_makes_nobody_a_contrarian() -> None:
    """Disagreement about one region's targets only is not about most targets."""
    world = World(down={"us-east": {A: True, "beta-us-east": True}})
    world.report()
    assert world.look().set_aside == ()


@pytest.mark.parametrize("split", [("us-east", "eu-west"), ("us-east", "eu-west", "sa-east")])
def test_an_even_split_sets_nobody_aside(split: tuple[str, ...]) -> None:
    """Neither half is the majority; all of them together still make a target DOWN."""
    others = ("ap-south", "us-west", "ca-east")[: len(split)]
    regions = (*split, *others)
    targets = {f"alpha-{n}": "us-east" for n in range(4)} | {"beta": "us-east"}
    world = World(config=fleet_config(regions=regions, targets=targets))
    world.down = {region: {"beta": True} for region in regions}
    for region in split:
        world.down[region] = dict.fromkeys(targets, True)
    world.report()
    view = world.look()
    assert view.set_aside == ()
    assert health_of(world, "beta").verdict is Verdict.DOWN


def test_an_even_split_compares_nobody() -> None:
    """Not even where many others speak, of other targets."""
    tied = Ballot(up=frozenset("ab"), down=frozenset("cd"))
    elsewhere = Ballot(up=frozenset("efghi"), down=frozenset())
    assert set_aside([tied] * 4 + [elsewhere]) == frozenset()


def test_never_are_half_of_the_vantages_set_aside() -> None:
    """Two of four, each against two others about all that it sees."""
    ballots = [Ballot(up=frozenset("cd"), down=frozenset(each)) for each in "ab" for _ in range(4)]
    assert set_aside(ballots) == frozenset()
    assert set_aside(ballots[:4]) == {"a"}


def test_live_traffic_of_a_region_the_fleet_does_not_have_counts_for_nothing() -> None:
    """Its edges may outlive the configuration that named it."""
    world = World()
    world.report()
    for region in ("us-east", "gone"):
        event = passive_event(region, {A: {Outcome.TIMED_OUT: 30}}, seq=1)
        world.fold.apply(event, received_at=world.clock_s)
    health = health_of(world)
    assert (health.verdict, health.hard) == (Verdict.HEALTHY, False)
    assert health.reason.endswith("live traffic fails in us-east")


def test_entries_of_unknown_monitors_do_not_count() -> None:
    """What the configuration no longer runs has no vote."""
    world = World()
    event = probe_event("us-east", [probe_state(A, "DOWN", monitor="gone")], seq=1)
    world.fold.apply(event, received_at=world.clock_s)
    assert health_of(world).votes == ()


def test_since_is_carried_while_the_verdict_holds() -> None:
    """`since` moves with the verdict and not with the view."""
    world = World()
    world.tick()
    first = health_of(world).since
    world.tick(after_s=3)
    assert health_of(world).since == first == START + timedelta(seconds=1)
    world.everywhere_down(A)
    world.tick()
    assert health_of(world).since == START + timedelta(seconds=5)


def test_regions_sources_and_status() -> None:
    """A region is what its targets are; the status counts HEALTHY targets."""
    world = World(down={region: {A: True, "beta-us-east": True} for region in REGIONS})
    world.silent = {"ap-south"}
    world.report()
    view = world.look()
    assert [(r.id, r.verdict, r.sources_fresh, r.sources) for r in view.regions] == [
        ("us-east", Verdict.DOWN, 1, 1),
        ("eu-west", Verdict.HEALTHY, 1, 1),
        ("ap-south", Verdict.HEALTHY, 0, 0),
    ]
    assert view.status == "unhealthy"
    world.clock_s += 10
    view = world.look()
    assert [source.fresh for source in view.sources] == [False, False]
    assert {region.verdict for region in view.regions} == {Verdict.UNKNOWN}
