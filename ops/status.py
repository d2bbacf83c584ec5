"""What a whole fleet says of itself, put together as `leeward status` prints it.

Every part is asked at the same time, with a deadline; a part that does not answer is shown as such
and hides nothing else.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx2

from ops import presenting
from ops.client import ControlPlanes, EdgeState, edge_state, get_json
from ops.leading import leading
from ops.local.processes import Kind, ProcessRecord
from ops.local.stack import StackFile
from shared.vocabulary.status import (
    BusStatus,
    ControlPlaneStatus,
    EdgeStatus,
    EtcdStatus,
    LeaderStatus,
    ProberStatus,
    RegionStatus,
    StackStatus,
    TargetStatus,
)
from shared.vocabulary.terms import EdgeMode, Role, Verdict
from shared.vocabulary.view import HealthView


async def of_stack(client: httpx2.AsyncClient, file: StackFile) -> StackStatus:
    """The status of a local stack, dead parts included."""
    by_kind = {kind: [record for record in file.processes if record.kind is kind] for kind in Kind}
    planes = by_kind[Kind.CONTROL_PLANE]
    views, leaders, edges, etcds, buses = await asyncio.gather(
        _each(client, planes, "/v1/health"),
        _each(client, planes, "/v1/leader"),
        asyncio.gather(*(edge_state(client, edge.admin_url or "") for edge in by_kind[Kind.EDGE])),
        asyncio.gather(*(_etcd_answers(client, member.url or "") for member in by_kind[Kind.ETCD])),
        asyncio.gather(*(_accepts(bus.ports["listen"]) for bus in by_kind[Kind.BUS])),
    )
    view = _freshest(views)
    known = leading(leaders, everybody=True)
    return StackStatus(
        leader=known.leader,
        last_leader=known.last,
        etcd_answers=known.etcd_answers and (not etcds or 2 * sum(etcds) > len(etcds)),
        control_planes=tuple(
            ControlPlaneStatus(
                id=plane.id,
                region=plane.region,
                url=plane.url or "",
                role=_role(said),
                last_event_age_s=_event_age(view, plane.id),
                config_version=said.get("config_version") if said else None,
                pid=_pid(plane),
            )
            for plane, said in zip(planes, leaders, strict=True)
        ),
        edges=tuple(_edge(record, state) for record, state in zip(by_kind[Kind.EDGE], edges, strict=True)),
        probers=tuple(
            ProberStatus(
                id=record.id,
                region=record.region,
                last_event_age_s=_event_age(view, record.id),
                config_version=_works_by(view, record.id),
                pid=_pid(record),
            )
            for record in by_kind[Kind.PROBER]
        ),
        buses=tuple(
            BusStatus(
                region=record.region,
                bootstrap=f"127.0.0.1:{record.ports['listen']}",
                reachable=reachable,
                pid=_pid(record),
            )
            for record, reachable in zip(by_kind[Kind.BUS], buses, strict=True)
        ),
        etcd=tuple(
            EtcdStatus(region=record.region, url=record.url or "", reachable=reachable, pid=_pid(record))
            for record, reachable in zip(by_kind[Kind.ETCD], etcds, strict=True)
        ),
        regions=_regions(view, file.regions),
        targets=_targets(view, by_kind[Kind.TARGETS]),
    )


async def of_url(client: httpx2.AsyncClient, url: str) -> StackStatus:
    """The status as one control plane knows it: no process ids, etcd not shown. Raises Unreachable."""
    planes = ControlPlanes(client, [url])
    view, said, acked = await asyncio.gather(
        planes.health(), planes.get("/v1/leader"), planes.get("/v1/edges")
    )
    known = leading([said])
    leader = known.leader
    edges = acked.get("edges", [])
    return StackStatus(
        leader=leader,
        last_leader=known.last,
        etcd_answers=known.etcd_answers,
        control_planes=(
            ControlPlaneStatus(
                id=view.replica,
                region=said.get("replica_region") or "",
                url=url,
                role=_role(said),
                config_version=said.get("config_version"),
                last_event_age_s=_event_age(view, view.replica),
            ),
            *_other_planes(view, leader),
        ),
        edges=tuple(
            EdgeStatus(
                id=edge["id"],
                region=edge["region"],
                url=edge.get("url") or "",
                admin_url=edge.get("admin_url") or "",
                mode=edge.get("mode"),
                decision=edge.get("decision"),
                beat_age_s=edge.get("beat_age_s"),
                config_version=edge.get("config_version"),
            )
            for edge in edges
        ),
        probers=tuple(
            ProberStatus(
                id=source.id,
                region=source.vantage,
                last_event_age_s=source.last_event_age_s,
                config_version=source.config_version,
            )
            for source in view.sources
            if source.role is Role.PROBER
        ),
        buses=tuple(
            BusStatus(region=bus.region, bootstrap=bus.bootstrap, reachable=bus.reachable)
            for bus in view.buses
        ),
        etcd=(),
        regions=_regions(view, ()),
        targets=_targets(view, ()),
    )


def is_good(status: StackStatus) -> bool:
    """Whether everything works: somebody leads, etcd answers, every part answers, every edge is FRESH, every
    target HEALTHY. A region in which no target stands has no verdict to be judged by."""
    return (
        status.leader is not None
        and status.etcd_answers
        and all(plane.role != "unreachable" for plane in status.control_planes)
        and all(edge.mode is EdgeMode.FRESH for edge in status.edges)
        and all(bus.reachable for bus in status.buses)
        and all(member.reachable for member in status.etcd)
        and all(region.verdict is Verdict.HEALTHY for region in status.regions if region.targets)
        and bool(status.regions)
    )


def nobody_answers(status: StackStatus) -> bool:
    """Whether neither a control plane nor an edge could be reached."""
    return all(plane.role == "unreachable" for plane in status.control_planes) and all(
        edge.mode is None for edge in status.edges
    )


async def _each(client: httpx2.AsyncClient, planes: Sequence[ProcessRecord], path: str) -> list[Any]:
    shown = presenting.headers()
    return list(
        await asyncio.gather(*(get_json(client, f"{plane.url}{path}", headers=shown) for plane in planes))
    )


async def _etcd_answers(client: httpx2.AsyncClient, url: str) -> bool:
    """Whether the member itself answers; a member without a quorum does."""
    try:
        await client.get(f"{url}/version")
    except httpx2.HTTPError:
        return False
    return True


async def _accepts(port: int) -> bool:
    from ops.local import bus

    return await bus.is_up(port)


def _freshest(views: Sequence[Any]) -> HealthView | None:
    """The view of a replica that hears the most; of equals the newest."""
    found = [HealthView.model_validate(view) for view in views if view is not None]
    return max(
        found, key=lambda view: (sum(source.fresh for source in view.sources), view.as_of), default=None
    )


def _role(said: Mapping[str, Any] | None) -> Any:
    """As the replica says of itself."""
    if said is None:
        return "unreachable"
    return "leader" if said.get("role") == "leader" else "follower"


def _other_planes(view: HealthView, leader: LeaderStatus | None) -> Iterator[ControlPlaneStatus]:
    """The replicas that the one asked hears on the buses."""
    for source in view.sources:
        if source.role is Role.CONTROL_PLANE and source.id != view.replica:
            leads = leader is not None and leader.id == source.id
            yield ControlPlaneStatus(
                id=source.id,
                region=source.vantage,
                url="",
                role="unreachable" if not source.fresh else "leader" if leads else "follower",
                config_version=source.config_version,
                last_event_age_s=source.last_event_age_s,
            )


def _edge(record: ProcessRecord, state: EdgeState | None) -> EdgeStatus:
    return EdgeStatus(
        id=record.id,
        region=record.region,
        url=record.url or "",
        admin_url=record.admin_url or "",
        mode=state.mode if state else None,
        decision=str(state.decision) if state else None,
        beat_age_s=state.beat_age_s if state else None,
        config_version=state.config_version if state else None,
        pid=_pid(record),
    )


def _event_age(view: HealthView | None, source: str) -> float | None:
    if view is None:
        return None
    return next((each.last_event_age_s for each in view.sources if each.id == source), None)


def _works_by(view: HealthView | None, source: str) -> int | None:
    if view is None:
        return None
    return next((each.config_version for each in view.sources if each.id == source), None)


def _regions(view: HealthView | None, known: Sequence[str]) -> tuple[RegionStatus, ...]:
    if view is None:
        return tuple(
            RegionStatus(id=region, verdict=Verdict.UNKNOWN, targets_healthy=0, targets=0) for region in known
        )
    return tuple(
        RegionStatus(
            id=region.id,
            verdict=region.verdict,
            targets_healthy=region.targets_healthy,
            targets=region.targets,
        )
        for region in view.regions
    )


def _targets(view: HealthView | None, records: Sequence[ProcessRecord]) -> tuple[TargetStatus, ...]:
    """The view's targets, with the process of each where this stack runs it."""
    verdicts = {target.id: target.verdict for target in view.targets} if view else {}
    regions = {target.id: target.region for target in view.targets} if view else {}
    simulated = {record.id: record for record in records}
    return tuple(
        TargetStatus(
            id=target,
            region=simulated[target].region if target in simulated else regions[target],
            verdict=verdicts.get(target, Verdict.UNKNOWN),
            url=(simulated[target].url or "") if target in simulated else "",
            admin_url=simulated[target].admin_url if target in simulated else None,
            pid=_pid(simulated[target]) if target in simulated else None,
        )
        for target in (verdicts or simulated)
    )


def _pid(record: ProcessRecord) -> int | None:
    return record.pid if record.alive else None
