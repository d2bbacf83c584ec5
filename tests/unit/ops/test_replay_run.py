"""Replays of recordings written by hand: the figures can be computed on paper."""

from pathlib import Path
from threading import active_count

import pytest

from ops.errors import Bad
from ops.render import WIDTH, console
from ops.replay.recording import Recording
from ops.replay.render import report
from ops.replay.run import WORTH_SHARING_BYTES, ReplayedCourse, replay
from shared.vocabulary.config import Fleet
from shared.vocabulary.terms import Outcome
from tests.unit.control_plane.brain_worlds import REGIONS, fleet_config
from tests.unit.ops.replay_worlds import at, commit, document, recording, traffic

EU = "alpha-eu-west"


def with_policy(**fields: object) -> Fleet:
    """The recorded fleet with another policy."""
    fleet = fleet_config().fleet
    return fleet.model_copy(update={"policy": fleet.policy.model_copy(update=fields)})


def courses(made: Recording, **candidates: Fleet) -> dict[str, ReplayedCourse]:
    """Every course's figures by name."""
    found = replay(made, candidates, tolerance_s=10.0)
    return {course.name: course for course in found.courses}


def outage(_: str, target: str, second: float) -> bool:
    """alpha-eu-west is down from 20 to 60."""
    return target == EU and 20 <= second < 60


def test_what_was_late_is_avoided(tmp_path: Path) -> None:
    """What happened took 12 s; the same policy, decided again, takes no more than the pause
    between two passes: on hard evidence a third of all traffic leaves at once."""
    made = recording(
        tmp_path / "f",
        lasts_s=100,
        down=outage,
        commits=[commit(32, document([EU], seq=2)), commit(70, document(seq=3))],
    )
    found = courses(made)
    assert found["happened"].traffic_on_down_s == pytest.approx(12 / 3)
    assert found["happened"].removed_after_mean_s == 12.0
    assert found["recorded"].traffic_on_down_s <= 0.004
    assert found["recorded"].removed_after_mean_s == pytest.approx(0.0, abs=0.01)
    assert found["recorded"].avoided_s == pytest.approx(4.0, abs=0.01)
    assert (found["recorded"].removals, found["recorded"].false_alarms) == (1, 0)


def test_soft_evidence_leaves_by_steps(tmp_path: Path) -> None:
    """20 % of eu-west's traffic at once, 20 % after 30 s, while the target is down for 40 s: of its
    requests 30 s x 80 % + 10 s x 60 % = 30 s are lost, a third of that of all. A policy that moves
    everything at once loses nothing."""
    made = recording(tmp_path / "f", lasts_s=100, down=outage, hard=False)
    found = courses(made, bold=with_policy(soft_move_permille=1000))
    assert found["recorded"].traffic_on_down_s == pytest.approx(30 / 3, abs=0.15)
    assert found["recorded"].outages_unanswered == 1
    assert found["bold"].traffic_on_down_s == pytest.approx(0.0, abs=0.01)
    assert found["bold"].outages_unanswered == 0


def test_a_majority_that_is_wrong_is_a_false_alarm(tmp_path: Path) -> None:
    """Two of three probers see DOWN what the third sees well. The policy in force removes; one whose
    automatic course is switched off does not."""
    made = recording(
        tmp_path / "f",
        lasts_s=80,
        down=lambda vantage, target, second: target == EU and 20 <= second < 40 and vantage != "us-east",
    )
    found = courses(made, by_hand=with_policy(automatic=False))
    assert (found["recorded"].removals, found["recorded"].false_alarms) == (1, 1)
    assert found["recorded"].out_while_good_s == pytest.approx(20, abs=1)
    assert (found["by_hand"].removals, found["by_hand"].false_alarms) == (0, 0)


def test_a_longer_hold_down_ends_flapping(tmp_path: Path) -> None:
    """Down every 20 s for 5 s: by default removed each time, three flaps among four removals; held
    down for 100 s, removed once, and out of service while good for the 15 s in each 20."""
    made = recording(
        tmp_path / "f",
        lasts_s=100,
        down=lambda _, target, second: target == EU and second >= 20 and second % 20 < 5,
    )
    found = courses(made, patient=with_policy(hold_down_s=100.0))
    assert (found["recorded"].removals, found["recorded"].flaps) == (4, 3)
    assert (found["patient"].removals, found["patient"].flaps) == (1, 0)
    assert found["patient"].out_while_good_s == pytest.approx(60, abs=1)


def test_live_traffic_counts_by_the_policy_of_the_course(tmp_path: Path) -> None:
    """Half of one region's requests break. 900 permille are needed by default; a stricter policy
    removes at 400, for that region's clients alone."""
    words = [
        traffic(second, "ap-south", {"alpha-ap-south": {Outcome.FAILED: 50, Outcome.OK: 50}}, seq=second)
        for second in range(20, 60)
    ]
    made = recording(tmp_path / "f", lasts_s=60, down=lambda *_: False, commits=words)
    found = courses(made, strict=with_policy(passive_down_permille=400))
    assert found["recorded"].removals == 0
    assert [(each.target, each.clients) for each in found["strict"].removed] == [
        ("alpha-ap-south", ("ap-south",))
    ]


def test_the_same_file_gives_the_same_figures(tmp_path: Path) -> None:
    """To the last digit: nothing in a replay depends on the machine, its clock or the order of a set."""
    made = recording(tmp_path / "f", lasts_s=60, down=outage, hard=False)
    once = replay(made, {"bold": with_policy(soft_move_permille=1000)}, tolerance_s=10.0)
    again = replay(
        Recording.open(made.path), {"bold": with_policy(soft_move_permille=1000)}, tolerance_s=10.0
    )
    assert once.model_dump_json() == again.model_dump_json()


def test_processes_make_no_difference(tmp_path: Path) -> None:
    """A long recording is shared out among processes, and comes to the same."""
    if active_count() > 1:
        pytest.skip("an earlier test has left a thread, and then nothing is forked")
    made = recording(tmp_path / "f", lasts_s=30, down=outage)
    with made.path.open("ab") as file:
        file.write(b" " * WORTH_SHARING_BYTES)
    other = {"still": with_policy(automatic=False)}
    told: list[float] = []
    shared = replay(made, other, tolerance_s=10.0, workers=2, progress=told.append)
    assert shared == replay(made, other, tolerance_s=10.0)
    assert told == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


def test_an_empty_time_says_so(tmp_path: Path) -> None:
    """Rather than a table of zeros."""
    made = recording(tmp_path / "f", lasts_s=5, down=lambda *_: False, began_s=4.5)
    header, *lines = made.path.read_bytes().splitlines(keepends=True)
    made.path.write_bytes(header + b"".join(lines[:3]))
    with pytest.raises(Bad, match=r"no health events between 2026-11-01 12:00:04 and 12:00:05"):
        replay(Recording.open(made.path), {}, tolerance_s=10.0)


def test_monitors_cannot_be_replayed_and_it_says_so(tmp_path: Path) -> None:
    """Thresholds of monitors are the probers' own."""
    made = recording(tmp_path / "f", lasts_s=15, down=lambda *_: False)
    other = fleet_config(monitors=[{"id": "http", "kind": "http", "consecutive_down": 5}]).fleet
    found = replay(made, {"calm": other}, tolerance_s=10.0)
    assert found.courses[2].differences == ("monitors differ",)
    assert any("cannot be replayed" in note for note in found.notes)


def test_the_report_fits_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However many courses there are."""
    made = recording(tmp_path / "f", lasts_s=30, down=outage)
    many = {
        f"a-rather-long-name-of-a-policy-{number}": with_policy(hold_down_s=3.0 + number)
        for number in range(5)
    }
    console().print(report(replay(made, many, tolerance_s=10.0)))
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= WIDTH
    assert any(line.startswith("traffic on targets that were down") for line in shown)


def test_the_recorded_configuration_follows_its_changes(tmp_path: Path) -> None:
    """A configuration that came into force meanwhile is what `recorded` decides by from then on."""
    from ops.replay.recording import config_line

    off = fleet_config(version=2, policy={"automatic": False})
    made = recording(tmp_path / "f", lasts_s=60, down=outage, commits=[(15.0, config_line(at(15), off))])
    found = courses(made, still=fleet_config().fleet)
    assert found["recorded"].removals == 0
    assert found["still"].removals == 1


def test_all_regions_are_watched(tmp_path: Path) -> None:
    """The worlds of these tests are what they claim: three vantages, six targets."""
    made = recording(tmp_path / "f", lasts_s=2, down=lambda *_: False)
    events = [line.event for line in made.lines() if line.event]
    assert {event.vantage for event in events} == set(REGIONS)
    assert {len(event.probes) for event in events} == {6}
