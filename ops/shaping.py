"""What shapes the traffic besides health: operators' overrides, freezes, rollouts, a drill under way.

All may look green while somebody keeps a region out of it; whoever is on call should read so at once.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.client import ControlPlanes
from ops.errors import OpsError

NAMED = 3
"""Overrides that the line names; of more it tells how many."""
FIRST = {"drain": 0, "freeze": 1, "pin": 2, "weights": 3}
"""Which kinds are named before others: those that take away."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """As one replica knows it; `None` where it could not be asked."""

    overrides: Sequence[Any] | None = ()
    """Those in force, as `GET /v1/overrides` tells them."""
    rollouts: Sequence[Any] | None = ()
    """Those on record, as `GET /v1/rollouts` does."""
    drill: Any | None = None
    """The one that is DUE or RUNNING, in brief."""


async def shaping(planes: ControlPlanes) -> Shaping:
    """Ask for all of it at once. Never fails: what is not answered is not told."""
    overrides, rollouts, drills = await asyncio.gather(
        _asked(planes, "/v1/overrides"), _asked(planes, "/v1/rollouts"), _asked(planes, "/v1/drills")
    )
    return Shaping(
        overrides=overrides.get("overrides", ()) if overrides is not None else None,
        rollouts=rollouts.get("rollouts", ()) if rollouts is not None else None,
        drill=active_drill(drills),
    )


def active_drill(drills: Any) -> Any | None:
    """The drill under way of what `GET /v1/drills` answered."""
    if not isinstance(drills, Mapping) or not drills.get("active"):
        return None
    return next((drill for drill in drills.get("drills", ()) if drill.get("id") == drills["active"]), None)


def said(found: Shaping) -> Iterator[str]:
    """A line for each kind of thing; none when health alone decides."""
    if found.overrides is None:
        yield "whether operators shape the traffic is not known: no control plane says"
    elif found.overrides:
        yield _overrides(found.overrides)
    for each in found.rollouts or ():
        rollout = each["rollout"]
        if rollout["state"] == "RUNNING":
            targets, route = " ".join(rollout["spec"]["targets"]), rollout["spec"]["route"]
            yield f"rollout {rollout['id']} gives {targets} {each['permille'] / 10:g} % of its tier on {route}"
    if found.drill is not None:
        drill = found.drill
        where = f" in {drill['region']}" if drill.get("region") else ""
        state = "waits for its runner" if drill["state"] == "DUE" else f"is under way ({drill['phase']})"
        yield f"drill {drill['id']}, {drill['drill']}{where}, {state}, by {drill['author']}: what fails may be meant"


def what(spec: Mapping[str, Any]) -> str:
    """An override in words: `drain eu-west on all routes`, `pin chat to ap-south for clients in us-east`."""
    named = spec.get("region") or spec.get("target")
    parts = [spec["kind"]]
    if spec["kind"] == "pin":
        parts += [spec["route"], "to", named]
    elif spec["kind"] == "weights":
        parts += [spec["route"], *(f"{target}={part}" for target, part in spec["weights"].items())]
    else:
        parts += [named] if named else []
        parts += ["on", spec.get("route") or "all routes"]
    return " ".join([*parts, *(["for clients in", spec["clients"]] if spec.get("clients") else [])])


def left(seconds: float) -> str:
    """`14m54s`, `1h59m`, `3d04h`; `-` for nothing."""
    if seconds <= 0:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def _overrides(overrides: Sequence[Any]) -> str:
    ranked = sorted(overrides, key=lambda each: (FIRST.get(each["spec"]["kind"], 9), -each["n"]))
    named = "; ".join(
        f"{what(each['spec'])} ({each['id']} by {each['author']}, {left(each['remaining_s'])} left)"
        for each in ranked[:NAMED]
    )
    more = f"; and {len(ranked) - NAMED} more, see leeward overrides" if len(ranked) > NAMED else ""
    return f"operators shape the traffic: {named}{more}"


async def _asked(planes: ControlPlanes, path: str) -> Any | None:
    try:
        return await planes.get(path)
    except OpsError:
        return None
