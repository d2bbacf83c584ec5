"""Giving and lifting overrides from outside, over any replica's HTTP, and waiting for what follows."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.client import ControlPlanes, Refused
from ops.errors import Bad, Unreachable, Usage

CARRIED_WITHIN_S = 10.0
"""A leader decides within a second; one that has just died is replaced within seven."""
LOOK_EVERY_S = 0.2
LOOKED_THROUGH = 50
_GIVING = ("DRAINED", "PINNED", "WEIGHTS_SET", "OPERATOR_FROZEN")
_ENDING = ("UNDRAINED", "OVERRIDE_ENDED")


@dataclass(frozen=True, slots=True)
class Word:
    """Who orders something, and why."""

    author: str
    reason: str

    @property
    def body(self) -> dict[str, str]:
        """As the API takes it."""
        return {"author": self.author, "reason": self.reason}


async def whom(planes: ControlPlanes, name: str) -> dict[str, str]:
    """`{"region": name}` or `{"target": name}`, by the configuration in force; a region comes first.

    Raises Usage when it is neither.
    """
    return named((await planes.get("/v1/config"))["fleet"], name)


def named(fleet: Mapping[str, Any], name: str, *, of: str = "the configuration in force") -> dict[str, str]:
    """As `whom`, by `fleet`, which an operator knows as `of`. Raises Usage."""
    for kind in ("region", "target"):
        if any(each["id"] == name for each in fleet[f"{kind}s"]):
            return {kind: name}
    regions = ", ".join(region["id"] for region in fleet["regions"])
    raise Usage(f"{name!r} is neither a region ({regions}) nor a target of {of}")


async def foreseen(planes: ControlPlanes, spec: Mapping[str, Any]) -> Sequence[str]:
    """Lines on what `spec` would change at once; none when no plan can be had. Never fails."""
    try:
        plan = await planes.change("POST", "/v1/plan", {"overrides": [dict(spec)]})
    except (Refused, Unreachable, Bad):
        return ()
    lines = []
    for clients in plan["changes"]:
        moved = [
            f"{share['target']} {share['now_permille'] / 10:g} -> {share['at_once_permille'] / 10:g} %"
            for share in clients["targets"]
            if share["now_permille"] != share["at_once_permille"]
        ]
        if moved:
            lines.append(f"{clients['route']}, clients in {clients['region']}: {', '.join(moved)}")
    return lines


async def give(planes: ControlPlanes, spec: Mapping[str, Any], word: Word, **more: Any) -> Any:
    """The override as it was given; `more` are `for_s` and `forced`. Raises Refused, Unreachable."""
    return await planes.change("POST", "/v1/overrides", {**spec, **word.body, **more})


async def lift(planes: ControlPlanes, name: str, word: Word) -> Any:
    """The override as it was ended. Raises Refused, Unreachable."""
    return await planes.change("DELETE", f"/v1/overrides/{name}", word.body)


async def in_force(planes: ControlPlanes, wanted: Callable[[Any], bool]) -> list[Any]:
    """The overrides in force that are `wanted`, the newest first."""
    return [each for each in (await planes.get("/v1/overrides"))["overrides"] if wanted(each)]


async def carried_by(
    planes: ControlPlanes, name: str, *, ended: bool = False, within_s: float = CARRIED_WITHIN_S
) -> str | None:
    """The version of the decision that carries override `name`, or its end; None when there is none in time."""
    codes = _ENDING if ended else _GIVING
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        timeline = await planes.get(f"/v1/decisions?limit={LOOKED_THROUGH}")
        for commit in timeline["decisions"]:
            for reason in commit["reasons"]:
                if reason["code"] in codes and reason["values"].get("override") == name:
                    return str(commit["version"])
        if loop.time() >= deadline:
            return None
        await asyncio.sleep(LOOK_EVERY_S)
