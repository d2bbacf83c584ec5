"""Ground truth: outages as the events show them, whatever any policy makes of them."""

from collections.abc import Callable

from ops.replay.truth import Outages, Witness
from shared.vocabulary.config import Policy
from shared.vocabulary.terms import Outcome
from tests.unit.control_plane.brain_worlds import REGIONS, passive_event, probe_event, probe_state
from tests.unit.ops.replay_worlds import at

TARGET = "alpha-eu-west"


def watched(lasts_s: int, down: Callable[[str, int], bool], *, silent: Callable[[str, int], bool]) -> Outages:
    """Three probers that speak every second unless silent."""
    witness = Witness(Policy())
    for second in range(lasts_s):
        for region in REGIONS:
            if not silent(region, second):
                state = probe_state(TARGET, "DOWN" if down(region, second) else "UP", at=at(second))
                witness.hear(probe_event(region, [state], seq=second + 1), at(second))
    return witness.finish(at(lasts_s))


def never(*_: object) -> bool:
    return False


def test_an_outage_is_what_nearly_all_probers_see() -> None:
    """From the last prober's first bad outcome to the first good one."""
    found = watched(60, lambda _, second: 20 <= second < 40, silent=never)
    assert found.intervals == {(TARGET, None): [(at(20), at(40))]}


def test_two_of_three_are_no_outage() -> None:
    """Two thirds are not 900 permille: what a majority decides on may still be wrong."""
    assert not watched(60, lambda region, _: region != "us-east", silent=never).intervals


def test_who_is_silent_has_no_voice() -> None:
    """A region that died with its prober does not keep the others from seeing it, nor from having seen
    it before its last good word of second 19 was stale."""
    found = watched(
        60,
        lambda region, second: region != "eu-west" and second >= 20,
        silent=lambda region, second: region == "eu-west" and second >= 20,
    )
    assert found.intervals == {(TARGET, None): [(at(20), at(60))]}


def test_silence_ends_an_outage() -> None:
    """When nobody speaks any more it is over with the last word's five seconds."""
    found = watched(60, lambda _, second: second >= 20, silent=lambda _, second: second >= 30)
    assert found.intervals == {(TARGET, None): [(at(20), at(34))]}


def test_a_bad_probe_is_no_outage() -> None:
    """Shorter than a second is none; a gap of a second is bridged."""
    assert not watched(
        60, lambda region, second: second == 20 and region == "us-east", silent=never
    ).intervals
    found = watched(60, lambda _, second: 20 <= second < 30 and second != 25, silent=never)
    assert found.intervals == {(TARGET, None): [(at(20), at(30))]}


def test_live_traffic_shows_a_region_s_own_outage() -> None:
    """Probers see nothing, yet one region's requests break: an outage for its clients alone."""
    witness = Witness(Policy())
    for second in range(30):
        for region in REGIONS:
            witness.hear(probe_event(region, [probe_state(TARGET)], seq=second + 1), at(second))
        bad = 10 <= second < 20
        counts = {Outcome.FAILED: 95, Outcome.OK: 5} if bad else {Outcome.OK: 100}
        witness.hear(passive_event("ap-south", {TARGET: counts}, seq=second + 1), at(second))
    found = witness.finish(at(30))
    assert found.intervals == {(TARGET, "ap-south"): [(at(10), at(20))]}
    assert found.of(TARGET, "ap-south") == [(at(10), at(20))]
    assert found.of(TARGET, "us-east") == []


def test_what_all_see_is_told_once() -> None:
    """The same outage in live traffic is not another one."""
    witness = Witness(Policy())
    for second in range(30):
        bad = 10 <= second < 20
        for region in REGIONS:
            state = probe_state(TARGET, "DOWN" if bad else "UP")
            witness.hear(probe_event(region, [state], seq=second + 1), at(second))
        counts = {Outcome.FAILED if 12 <= second < 22 else Outcome.OK: 100}
        witness.hear(passive_event("ap-south", {TARGET: counts}, seq=second + 1), at(second))
    found = witness.finish(at(30))
    assert found.listed() == [((TARGET, None), (at(10), at(20)))]
    assert found.of(TARGET, "ap-south") == [(at(10), at(22))]


def test_old_and_repeated_words_change_nothing() -> None:
    """As in the fold: only the greatest (boot, seq) of a source counts."""
    witness = Witness(Policy())
    for second in range(10):
        for region in REGIONS:
            witness.hear(probe_event(region, [probe_state(TARGET)], seq=10 + second), at(second))
            late = probe_event(region, [probe_state(TARGET, "DOWN")], seq=5)
            witness.hear(late, at(second))
    assert not witness.finish(at(10)).intervals
