"""Differences of fleets, as an operator reads them."""

from control_plane.core.config_diff import changes
from ops.differences import lines
from ops.local.fleet import local_fleet
from shared.vocabulary.config import Fleet


def test_an_item_is_a_paragraph() -> None:
    """Signs for what comes, goes and changes; values as `old -> new`, cut where they are endless."""
    old = local_fleet()
    raw = old.model_dump(mode="json")
    gone = raw["monitors"].pop(0)
    raw["targets"].append({**raw["targets"][0], "id": "gamma"})
    raw["policy"]["ramp_s"] = 5.0
    raw["routes"][0]["match"]["models"] = [f"model-{number}" for number in range(100)]
    said = [line.plain for line in lines(changes(old, Fleet.model_validate(raw)))]
    assert said[:2] == ["+ target gamma", "    provider: alpha"]
    assert f"- monitor {gone['id']}" in said
    assert said[-2:] == ["~ policy", "    ramp_s: 6.0 -> 5.0"]
    (models,) = [line for line in said if "match.models" in line]
    assert models.startswith('    match.models: ["chat"] -> ["model-0", ')
    assert models.endswith("...")
