"""Other configurations for a replay, and the times and buses an operator types."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from ops.errors import Usage
from ops.moments import is_moment, moment, span_s
from ops.replay.candidates import candidates, fleet_of
from ops.replay.origins import origins
from shared.config_file import ConfigError
from tests.unit.control_plane.brain_worlds import fleet_config

NOW = datetime(2026, 11, 22, 19, 30, tzinfo=UTC)


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_a_policy_alone_is_laid_over_the_recorded_one(tmp_path: Path) -> None:
    """What it leaves out stays as recorded, and not as the defaults are."""
    recorded = fleet_config(policy={"hold_down_s": 7.0, "ramp_s": 9.0}).fleet
    found = fleet_of(written(tmp_path / "p.yaml", "policy:\n  hold_down_s: 30\n"), recorded)
    assert (found.policy.hold_down_s, found.policy.ramp_s) == (30.0, 9.0)
    assert found.model_copy(update={"policy": recorded.policy}) == recorded


def test_a_whole_fleet_is_taken_as_it_is(tmp_path: Path) -> None:
    """With `fleet:` around it or not."""
    fleet = fleet_config(policy={"hold_down_s": 7.0}).fleet
    plain = fleet.model_dump(mode="json")
    assert fleet_of(written(tmp_path / "a.yaml", plain), fleet_config().fleet) == fleet
    assert fleet_of(written(tmp_path / "b.yaml", {"fleet": plain}), fleet_config().fleet) == fleet


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("policy:\n  hold_down: 3\n", r"p.yaml:2: policy.hold_down: "),
        ("policy:\n  ramp_s: 5\n  hold_down_s: never\n", r"p.yaml:3: policy.hold_down_s: "),
        ("policy:\n  hold_down_s: 900\n", r"p.yaml:.*hold_down_cap_s: must be at least hold_down_s"),
        ("policy: [", r"p.yaml:\d+: "),
        ("", r"p.yaml: "),
    ],
)
def test_a_faulty_policy_is_named_by_its_line(tmp_path: Path, text: str, wrong: str) -> None:
    """As `config validate` would."""
    with pytest.raises(ConfigError, match=wrong):
        fleet_of(written(tmp_path / "p.yaml", text), fleet_config().fleet)


def test_candidates_have_different_names(tmp_path: Path) -> None:
    """Two files of one name, and one that is named like a course that is always there."""
    (tmp_path / "other").mkdir()
    paths = [
        written(folder / name, "policy: {hold_down_s: 3}")
        for folder, name in (
            (tmp_path, "a.yaml"),
            (tmp_path / "other", "a.yaml"),
            (tmp_path, "recorded.yaml"),
        )
    ]
    assert list(candidates(paths, fleet_config().fleet)) == ["a", "a-2", "recorded-2"]
    with pytest.raises(Usage, match="8 are the most"):
        candidates(paths * 3, fleet_config().fleet)


def test_times() -> None:
    """ISO 8601, UTC without a zone, or a span before now."""
    assert moment("30m", now=NOW) == datetime(2026, 11, 22, 19, 0, tzinfo=UTC)
    assert moment("2026-11-22T10:00:00", now=NOW) == datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    assert moment("2026-11-22T10:00:00+01:00", now=NOW) == datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
    assert (span_s("90s"), span_s("1.5h"), span_s("1d")) == (90, 5_400, 86_400)
    assert not is_moment("outage.jsonl")


@pytest.mark.parametrize("text", ["soon", "0s", "40d", "-5m", "5", "nans"])
def test_no_times(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(Usage):
        span_s(text)


def test_buses_by_hand(tmp_path: Path) -> None:
    """`region=host:port`, further servers after commas; anything else is a mistake of usage."""
    found = origins(tmp_path, node=None, buses=["us-east=a:9092,b:9092", "eu-west=c:1"], without_stack=True)
    assert {region: bus.bootstrap for region, bus in found.buses.items()} == {
        "us-east": ("a:9092", "b:9092"),
        "eu-west": ("c:1",),
    }
    for wrong in ("us-east", "=a:1", "us-east=", "us-east=a"):
        with pytest.raises(Usage, match="write REGION=HOST:PORT"):
            origins(tmp_path, node=None, buses=[wrong], without_stack=True)
    with pytest.raises(Usage, match="say whose buses"):
        origins(tmp_path, node=None, buses=[], without_stack=True)
