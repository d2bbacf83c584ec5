"""Everything that `leeward top` shows, asked for at once over any replica's public HTTP."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops.client import ControlPlanes
from ops.errors import OpsError
from ops.leading import leading
from ops.shaping import Shaping, shaping
from shared.vocabulary.view import HealthView

LATE_S = 3.0
"""An edge says something every second: with three missed, what it said last is history."""
DECISIONS = 50
"""Of the timeline: enough to know when the one an edge serves was committed."""


@dataclass(frozen=True, slots=True)
class EdgeGlance:
    """One edge."""

    id: str
    region: str
    mode: str
    """`no answer` when nothing was heard of it for 3 s, `silent` when for 10 s."""
    decision: str
    behind: int | None
    lag_ms: float | None
    """From the commit of what it serves until it served it, by two machines' clocks; null when the
    commit is no longer among the last."""
    beat_age_s: float | None
    requests_per_s: float | None
    """Null where other edges of its region report with it."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Clients' requests of one region, by what its edges report."""

    requests_per_s: float = 0.0
    failed_permille: int | None = None
    """Null without requests."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One look."""

    view: HealthView
    leader: Mapping[str, Any] | None
    """Null while nobody leads."""
    beat_age_s: float | None
    head: str
    edges: Sequence[EdgeGlance]
    traffic: Mapping[str, Traffic]
    """By client region."""
    inflight: Mapping[str, int]
    """By target: requests under way, summed over the edges' last windows."""
    capacity: Mapping[str, int]
    """By target: `capacity_inflight`, where the configuration states one."""
    shaping: Shaping
    decisions: Sequence[Any]
    """The last commits, newest first."""
    last_leader: Mapping[str, Any] | None = None
    """The last one on record, whether it leads or not."""
    etcd_answers: bool = True


class Glancer:
    """Looks; remembers the configuration it has read, for it changes seldom."""

    def __init__(self, planes: ControlPlanes) -> None:
        self._planes = planes
        self._capacity: tuple[int, Mapping[str, int]] = (-1, {})

    async def look(self) -> Glance:
        """Everything as one replica knows it now. Raises Unreachable, Refused."""
        view, led, acked, timeline, shaped = await asyncio.gather(
            self._planes.health(),
            self._planes.get("/v1/leader"),
            self._planes.get("/v1/edges"),
            self._planes.get(f"/v1/decisions?limit={DECISIONS}"),
            shaping(self._planes),
        )
        await self._know_capacity(view.config_version)
        traffic, known = _traffic(view), leading([led])
        return Glance(
            view=view,
            leader=led.get("leader") if known.leader is not None else None,
            last_leader=led.get("leader"),
            etcd_answers=known.etcd_answers,
            beat_age_s=led.get("beat_age_s"),
            head=acked.get("head", "0.0"),
            edges=_edges(acked.get("edges", ()), timeline["decisions"], traffic),
            traffic=traffic,
            inflight={target.id: sum(each.inflight for each in target.passive) for target in view.targets},
            capacity=self._capacity[1],
            shaping=shaped,
            decisions=timeline["decisions"],
        )

    async def _know_capacity(self, version: int) -> None:
        if self._capacity[0] == version:
            return
        try:
            fleet = (await self._planes.get("/v1/config"))["fleet"]
        except OpsError:
            return
        known = {each["id"]: each.get("capacity_inflight") for each in fleet["targets"]}
        self._capacity = (version, {target: slots for target, slots in known.items() if slots})


def plain(glance: Glance) -> dict[str, Any]:
    """As JSON and YAML show it."""
    view = glance.view
    return {
        "as_of": view.as_of.isoformat(),
        "replica": view.replica,
        "status": view.status,
        "leader": glance.leader,
        "last_leader": glance.last_leader,
        "etcd_answers": glance.etcd_answers,
        "decision": glance.head,
        "config_version": view.config_version,
        "regions": [
            {
                **region.model_dump(mode="json"),
                "requests_per_s": glance.traffic.get(region.id, Traffic()).requests_per_s,
                "failed_permille": glance.traffic.get(region.id, Traffic()).failed_permille,
            }
            for region in view.regions
        ],
        "targets": [
            {
                "id": target.id,
                "region": target.region,
                "verdict": target.verdict.value,
                "latency_ms_p50": target.latency_ms_p50,
                "inflight": glance.inflight.get(target.id, 0),
                "capacity_inflight": glance.capacity.get(target.id),
                "reason": target.reason,
            }
            for target in view.targets
        ],
        "edges": [{name: getattr(edge, name) for name in EdgeGlance.__slots__} for edge in glance.edges],
        "overrides": list(glance.shaping.overrides or ()),
        "rollouts": [each for each in glance.shaping.rollouts or () if each["rollout"]["state"] == "RUNNING"],
        "drill": glance.shaping.drill,
        "decisions": list(glance.decisions[:10]),
    }


def _traffic(view: HealthView) -> dict[str, Traffic]:
    sums: dict[str, list[float]] = {}
    for load in view.loads:
        found = sums.setdefault(load.region, [0.0, 0.0, 0.0])
        found[0] += load.requests / load.window_s if load.window_s > 0 else 0.0
        found[1] += load.requests
        found[2] += load.failed
    return {
        region: Traffic(round(rate, 1), round(1000 * failed / requests) if requests else None)
        for region, (rate, requests, failed) in sums.items()
    }


def _edges(
    edges: Sequence[Any], decisions: Sequence[Any], traffic: Mapping[str, Traffic]
) -> list[EdgeGlance]:
    committed = {each["version"]: datetime.fromisoformat(each["at"]) for each in decisions}
    alone = [each["region"] for each in edges]
    return [
        EdgeGlance(
            id=each["id"],
            region=each["region"],
            mode=_mode(each),
            decision=each["decision"],
            behind=each.get("behind"),
            lag_ms=_lag_ms(each, committed),
            beat_age_s=each.get("beat_age_s"),
            requests_per_s=(
                traffic.get(each["region"], Traffic()).requests_per_s
                if alone.count(each["region"]) == 1
                else None
            ),
        )
        for each in edges
    ]


def _mode(edge: Any) -> str:
    """What it said last, while it still speaks."""
    if edge.get("silent"):
        return "silent"
    return "no answer" if (edge.get("last_ack_age_s") or 0.0) > LATE_S else str(edge["mode"])


def _lag_ms(edge: Any, committed: Mapping[str, datetime]) -> float | None:
    at = committed.get(edge["decision"])
    if at is None or not edge.get("applied_at"):
        return None
    return round((datetime.fromisoformat(edge["applied_at"]) - at).total_seconds() * 1000)
