"""docs/MONITORS.md holds what it says: its YAML is a configuration, and its numbers are the code's."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from prober.core import pace
from prober.core.dialects import UNJUDGED
from prober.core.jobs import SPOKEN
from prober.core.schedule import JITTER
from shared.config_file import load_fleet
from shared.vocabulary.monitor import Monitor

PAGE = (Path(__file__).parents[3] / "docs" / "MONITORS.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
FLEET: dict[str, Any] = {
    "regions": [{"id": "us-east"}],
    "targets": [
        {"id": name, "provider": "p", "model": "m", "region": "us-east", "url": "https://h.example/v1"}
        for name in ("alpha-us-east", "beta-us-east")
    ],
    "routes": [{"id": "chat", "match": {"models": ["m"]}, "tiers": [{"targets": ["alpha-us-east"]}]}],
}


def monitors(block: dict[str, Any], directory: Path) -> tuple[Monitor, ...]:
    """What `leeward config validate` makes of a file with the page's monitors in it."""
    file = directory / "leeward.yaml"
    file.write_text(yaml.safe_dump({"fleet": {**FLEET, **block}}, sort_keys=False))
    return load_fleet(file).monitors


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["monitors"][0]["id"])
def test_each_example_is_a_configuration_without_faults(block: dict[str, Any], tmp_path: Path) -> None:
    """An operator may copy any of them."""
    assert [monitor.id for monitor in monitors(block, tmp_path)] == [each["id"] for each in block["monitors"]]


def test_every_kind_has_an_example() -> None:
    """And every key of a monitor is explained or at least named."""
    assert {each["kind"] for block in BLOCKS for each in block["monitors"]} == set(SPOKEN)
    unnamed = [field for field in Monitor.model_fields if field not in PAGE]
    assert unnamed == []


def test_the_numbers_of_the_pace_are_those_of_the_code() -> None:
    """Whoever changes one changes the other."""
    for claim in (
        f"the {pace.WATCHED} after it",
        f"{pace.EASING:g} times the last",
        f"{pace.SLOWING:g} times the last",
        f"OK for {pace.STABLE_PROBES} probes in a row",
        f"fit into {pace.STABLE_S / 60:g} min",
        f"{JITTER / 2:.0%}".replace("%", " %"),
        UNJUDGED,
    ):
        assert claim in PAGE
