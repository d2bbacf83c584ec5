"""docs/DEGRADING.md holds what it says: its YAML is a configuration, its lists and numbers are the code's."""

import re
from pathlib import Path

import yaml

from edge_router.core.ladder import call, promised, store
from shared.vocabulary import degradation
from shared.vocabulary.config import Fleet, Route, problems

PAGE = (Path(__file__).parents[3] / "docs" / "DEGRADING.md").read_text(encoding="utf-8")
PLAIN = " ".join(PAGE.split())


def test_the_example_is_a_sound_configuration() -> None:
    """Its routes, with the targets that they name, make a fleet without a fault."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    routes = tuple(Route.model_validate(route) for route in yaml.safe_load(block)["fleet"]["routes"])
    names = {target for route in routes for tier in route.tiers for target in tier.targets}
    fleet = Fleet.model_validate(
        {
            "regions": [{"id": "us-east"}, {"id": "eu-west"}],
            "targets": [
                {"id": n, "provider": "p", "model": "m", "region": n.partition("-")[2], "url": "http://h/v1"}
                for n in sorted(names)
            ],
            "routes": [route.model_dump() for route in routes],
        }
    )
    assert problems(fleet) == []
    rungs = fleet.routes[0].degradation
    assert rungs is not None
    assert rungs.step_down == fleet.routes[1].id
    assert rungs.stored is not None
    assert rungs.rules
    assert rungs.static is not None


def test_what_may_differ_is_listed_whole() -> None:
    """Every member that the key leaves out, and no other."""
    (listed,) = re.findall(r"only these members may differ: (.*?)\. `anthropic-version`", PLAIN)
    assert re.findall(r"`([a-z_]+)`", listed) == list(call.DELIVERY)


def test_limits_are_the_codes() -> None:
    """Each number of the page beside the constant that it states."""
    stated = (
        f"{store.ANSWER_BYTES // 1024} KiB at most",
        f"{store.STORE_BYTES // 2**20} MiB or {store.STORE_ENTRIES:,} answers",
        f"Requests over {call.MAX_CALL_BYTES // 1024} KiB",
        f"the first {call.MAX_TEXT_CHARS:,} characters",
        f"{degradation.MAX_RULES} rules of {degradation.MAX_KEYWORDS} keywords and {degradation.MAX_PATTERNS} patterns",
        f"up to {promised.MAX_ANSWER_BYTES // 2**20} MiB",
        f"up to {promised.MAX_SCHEMA_BYTES // 1024} KiB, {promised.MAX_LEVELS} levels",
    )
    assert [text for text in stated if text not in PLAIN] == []
    assert all(f"`{{{name}}}`" in PAGE for name in degradation.PLACEHOLDERS)
