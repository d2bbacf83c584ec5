"""Orders from the command line: how they are read, what they ask, and how they are waited for."""

from typing import Any, cast

import pytest
from typer.testing import CliRunner

from ops.cli.app import build
from ops.cli.faults import in_options
from ops.cli.overrides import parse_weights
from ops.client import ControlPlanes, Refused
from ops.errors import Unreachable, Usage
from ops.overrides import Word, carried_by, foreseen, give, lift, whom


class Planes:
    """Answers by path, as told; keeps what it was asked to change."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {
            "/v1/config": {
                "fleet": {
                    "regions": [{"id": "us-east"}, {"id": "both"}],
                    "targets": [{"id": "alpha-us-east"}, {"id": "both"}],
                }
            }
        } | answers
        self.changes: list[tuple[str, str, Any]] = []

    async def get(self, path: str) -> Any:
        return self.answers[path.partition("?")[0]]

    async def change(self, method: str, path: str, body: Any = None) -> Any:
        self.changes.append((method, path, body))
        answer = self.answers.get(path, {})
        if isinstance(answer, Exception):
            raise answer
        return answer


def asked(planes: Planes) -> ControlPlanes:
    """As the functions under test take it."""
    return cast(ControlPlanes, planes)


def timeline(*reasons: tuple[str, str, str]) -> dict[str, Any]:
    """`(version, code, override)`, newest first."""
    return {
        "decisions": [
            {"version": version, "reasons": [{"code": code, "values": {"override": name}}]}
            for version, code, name in reasons
        ]
    }


async def test_a_name_is_a_region_before_it_is_a_target() -> None:
    """What is neither is said so, with the regions there are."""
    planes = asked(Planes())
    assert await whom(planes, "us-east") == {"region": "us-east"}
    assert await whom(planes, "alpha-us-east") == {"target": "alpha-us-east"}
    assert await whom(planes, "both") == {"region": "both"}
    with pytest.raises(Usage, match=r"neither a region \(us-east, both\)"):
        await whom(planes, "mars")


async def test_an_order_carries_who_and_why() -> None:
    """Flat, as the API takes it; lifting too."""
    planes = Planes()
    word = Word("ann", "new racks")
    await give(asked(planes), {"kind": "drain", "region": "us-east"}, word, for_s=60.0, forced=False)
    await lift(asked(planes), "drain-1", word)
    who = {"author": "ann", "reason": "new racks"}
    assert planes.changes == [
        (
            "POST",
            "/v1/overrides",
            {"kind": "drain", "region": "us-east", **who, "for_s": 60.0, "forced": False},
        ),
        ("DELETE", "/v1/overrides/drain-1", who),
    ]


async def test_the_decision_that_carries_an_order_is_found() -> None:
    """By its id; that it was given and that it ended are two decisions; none yet is None."""
    planes = asked(
        Planes(
            **{
                "/v1/decisions": timeline(
                    ("1.9", "UNDRAINED", "drain-1"),
                    ("1.8", "DRAINED", "drain-2"),
                    ("1.7", "DRAINED", "drain-1"),
                )
            }
        )
    )
    assert await carried_by(planes, "drain-1", within_s=0) == "1.7"
    assert await carried_by(planes, "drain-1", ended=True, within_s=0) == "1.9"
    assert await carried_by(planes, "drain-2", ended=True, within_s=0) is None


@pytest.mark.parametrize("failure", [Refused(503, "busy"), Unreachable("nobody")])
async def test_without_a_plan_an_order_is_given_all_the_same(failure: Exception) -> None:
    """What would change is a courtesy."""
    assert await foreseen(asked(Planes(**{"/v1/plan": failure})), {"kind": "freeze"}) == ()


async def test_what_would_change_is_said_in_shares() -> None:
    """Only where they change."""
    share = {"target": "alpha-us-east", "now_permille": 1000, "at_once_permille": 250}
    same = {"target": "beta-us-east", "now_permille": 0, "at_once_permille": 0}
    plan = {"changes": [{"route": "chat", "region": "us-east", "targets": [share, same]}]}
    planes = asked(Planes(**{"/v1/plan": plan}))
    assert await foreseen(planes, {"kind": "freeze"}) == [
        "chat, clients in us-east: alpha-us-east 100 -> 25 %"
    ]


def test_weights_are_parts_of_a_whole() -> None:
    """In any unit; a part is never rounded away, and 0 stays 0."""
    assert parse_weights(["a=1", "b=3"]) == {"a": 250, "b": 750}
    assert parse_weights(["a=0.5", "b=0.5", "c=0"]) == {"a": 500, "b": 500, "c": 0}
    assert parse_weights(["a=1", "b=99999"]) == {"a": 1, "b": 1000}


@pytest.mark.parametrize(
    "parts", [["a"], ["=1"], ["a=x"], ["a=-1"], ["a=inf"], ["a=nan"], ["a=0"], ["a=1", "a=2"]]
)
def test_other_weights_are_a_mistake(parts: list[str]) -> None:
    """Named, before anybody is asked."""
    with pytest.raises(Usage):
        parse_weights(parts)


@pytest.mark.parametrize(
    "arguments",
    [
        ["drain", "us-east", "--reason", "x"],
        ["drain", "us-east", "--for", "5m"],
        ["pin", "chat", "--for", "5m", "--reason", "x"],
        ["weights", "chat", "--for", "5m", "--reason", "x"],
        ["freeze", "--reason", "x"],
        ["undrain"],
        ["overrides", "end"],
    ],
)
def test_whom_how_long_and_why_must_be_said(arguments: list[str]) -> None:
    """Wrong usage is exit code 2."""
    assert CliRunner().invoke(build(), arguments).exit_code == 2


@pytest.mark.parametrize(
    "command",
    ["drain", "undrain", "pin", "weights", "freeze", "unfreeze", "overrides", "overrides end", "audit"],
)
def test_every_order_explains_itself(command: str) -> None:
    """And takes a stack or a URL, and all three forms of output."""
    shown = CliRunner().invoke(build(), [*command.split(), "--help"])
    assert shown.exit_code == 0
    for option in ("--state-dir", "--url", "--output"):
        assert option in shown.stdout


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ("soon", "--for soon: is no time span: write 90s, 30m, 2h or 1d"),
        ("0s", "--for 0s: that is no time at all: write 90s, 30m, 2h or 1d"),
        ("31d", "--for 31d: is too long: at most 30d"),
    ],
)
@pytest.mark.parametrize(
    "order", [["drain", "us-east"], ["pin", "chat", "--to", "x"], ["weights", "chat", "a=1"], ["freeze"]]
)
def test_a_time_that_cannot_be_is_said_before_anybody_is_asked(
    order: list[str], span: str, said: str
) -> None:
    """Wrong usage: exit code 2 though nobody answers there, which would be 3."""
    nobody = ["--url", "http://127.0.0.1:9"]
    error = CliRunner().invoke(build(), [*order, "--for", span, "--reason", "x", *nobody]).exception
    assert isinstance(error, Usage)
    assert str(error) == said


def test_what_a_replica_cannot_read_is_wrong_usage_by_the_options_name() -> None:
    """422 is exit code 2; no field of the API is named. Other refusals are 1, in the replica's words."""
    faults = [
        "body.reason: must not be empty",
        "body: Value error, the steps must rise",
        "body.spec.steps.0.bake_s: too long",
    ]
    refused = Refused(422, "the request is not valid", faults=faults)
    assert refused.exit_code == 2
    assert in_options(refused) == "--reason: must not be empty\nthe steps must rise\n--steps: too long"
    unfit = Refused(409, "refused unless forced: it hurts", faults=["routes.chat: it hurts"])
    assert unfit.exit_code == 1
    assert in_options(unfit) == str(unfit)


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 513])
@pytest.mark.parametrize("order", [["drain", "us-east"], ["freeze"], ["rollout", "abort", "ro-1"]])
def test_a_reason_that_cannot_go_on_record_is_said_before_anybody_is_asked(
    order: list[str], reason: str
) -> None:
    """Wrong usage, and not a field of the API."""
    span = [] if order[0] == "rollout" else ["--for", "5m"]
    words = [*order, *span, "--reason", reason, "--url", "http://127.0.0.1:9"]
    error = CliRunner().invoke(build(), words).exception
    assert isinstance(error, Usage)
    assert str(error).startswith("--reason: say why")
