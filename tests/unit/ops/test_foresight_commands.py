"""`leeward plan`, `record`, `replay`: what they take, what they print, their exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from control_plane.api.plan import report
from control_plane.core.foresee import Outlook, assuming
from control_plane.core.onward import Course
from control_plane.core.orders import NO_ORDERS
from ops.cli.app import build
from ops.cli.foresight import parse_pins, plan_table, planned
from ops.errors import OpsError, Usage
from ops.overrides import named
from ops.render import WIDTH, console
from tests.unit.control_plane.brain_worlds import World
from tests.unit.ops.replay_worlds import recording


def leeward(*arguments: str) -> Result:
    return CliRunner().invoke(build(), arguments)


def test_a_recording_is_replayed(tmp_path: Path) -> None:
    """As JSON, whole; a policy beside it by the name of its file."""
    made = recording(
        tmp_path / "f.jsonl",
        lasts_s=30,
        down=lambda _, target, second: target == "alpha-eu-west" and second >= 20,
    )
    (tmp_path / "still.yaml").write_text("policy:\n  automatic: false\n")
    done = leeward("replay", "--from", str(made.path), "--policy", str(tmp_path / "still.yaml"), "-o", "json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert {course["name"]: course["removals"] for course in found["courses"]} == {
        "happened": 0,
        "recorded": 1,
        "still": 0,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["record", "--to", "f"],
        ["record", "--to", "f", "--for", "5m", "--from", "5m"],
        ["record", "--to", "f", "--for", "soon"],
        ["record", "--to", "f", "--from", "5m", "--until", "10m"],
        ["record", "--to", "/nowhere/at/all", "--from", "5m"],
        ["replay", "--from", "no-such-file"],
        ["replay", "--from", "5m", "--url", "http://127.0.0.1:1"],
        ["replay", "--from", "5m", "--tolerance", "much"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    """A mistake of usage, before anybody is asked anything."""
    done = leeward(*arguments)
    assert isinstance(done.exception, OpsError)
    assert done.exception.exit_code == 2


def test_orders_are_read_from_the_command_line() -> None:
    """A name is a region's when there is such a region, else a target's."""
    fleet = {"regions": [{"id": "eu-west"}], "targets": [{"id": "alpha-us-east"}]}

    def whom(name: str) -> dict[str, str]:
        return named(fleet, name, of="plan.yaml")

    pins = parse_pins(["chat=eu-west"])
    assert planned(whom, ["eu-west", "alpha-us-east"], pins, ["all", "chat"]) == [
        {"kind": "drain", "region": "eu-west"},
        {"kind": "drain", "target": "alpha-us-east"},
        {"kind": "pin", "route": "chat", "region": "eu-west"},
        {"kind": "freeze"},
        {"kind": "freeze", "route": "chat"},
    ]
    with pytest.raises(Usage, match="write ROUTE=REGION"):
        parse_pins(["chat"])
    with pytest.raises(Usage, match=r"'mars' is neither a region \(eu-west\) nor a target of plan\.yaml"):
        planned(whom, ["mars"], [], [])


def test_a_plan_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Who gets what now, at once and in the end; reasons, exclusions and warnings in sentences."""
    world = World()
    for _ in range(3):
        world.tick()
    assert world.view is not None
    down = [target for target in world.config.fleet.targets if target.id != "beta-ap-south"]
    view = assuming(world.view, down)
    outlook = Outlook(
        Course(world.head, world.documents, world.memory), world.config, view, orders=NO_ORDERS, now=world.now
    )
    for _ in outlook.passes():
        pass
    answer = report(outlook, world.config, view, ["routes.chat: a made-up objection"]).model_dump(mode="json")
    assert not answer["safe"]
    console().print(plan_table(answer))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    for said in (
        "beta-ap-south",
        "because Target alpha-eu-west left the traffic",
        "without alpha-eu-west on chat",
        "nobody stands by for beta-ap-south",
        "refused: routes.chat: a made-up objection",
    ):
        assert said in " ".join(shown.split())
