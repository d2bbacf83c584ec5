"""What is wrong now, in the words of alarms; and what of it is news.

`complaints` reads a moment and says everything that is amiss. `advance` compares it with the book that leaders
hand on: what is new begins (once it has held for as long as its kind must), what has been untrue for `settle_s`
ends, all else is no news. A leader who has just begun reads the same book, so nothing is told twice; what it
cannot know yet (how long something has held) it counts from its own beginning, which only delays.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from shared.vocabulary.alerts import AlarmBook, AlarmEvent, AlertPolicy, Links, Notice, Severity, Standing
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.decision import Term
from shared.vocabulary.drill import Drill
from shared.vocabulary.terms import EdgeMode, Role, Verdict
from shared.vocabulary.view import HealthView

MAX_STANDING = 300
"""More alarms are told to nobody's use; the graver ones come first."""
MAX_UNTOLD = 200
NAMED = 20
"""Ids that one alarm names."""

SEVERITY: Mapping[AlarmEvent, Severity] = {
    "REGION_DOWN": "page",
    "PROVIDER_DOWN": "page",
    "NO_LEADER": "page",
    "FREEZE": "page",
    "ANSWERS_DEGRADED": "page",
    "EDGE_STATIC": "page",
    "ETCD_ALARM": "page",
    "CAPACITY_SHED": "page",
    "EDGE_STALE": "ticket",
    "EDGE_SILENT": "ticket",
    "PROBERS_SILENT": "ticket",
    "BUS_UNREACHABLE": "ticket",
    "QUOTA_EXHAUSTED": "ticket",
    "DRILL_FAILED": "ticket",
}
HOLDS_S: Mapping[AlarmEvent, float] = {
    "ANSWERS_DEGRADED": 10.0,
    "EDGE_STALE": 10.0,
    "PROBERS_SILENT": 5.0,
    "BUS_UNREACHABLE": 15.0,
    "CAPACITY_SHED": 5.0,
}
"""How long each must be true before it is told; at once where nothing stands here: those are damped already."""


@dataclass(frozen=True, slots=True)
class EdgeWord:
    """What is known of one edge."""

    edge: str
    region: str
    mode: EdgeMode
    version: Version
    age_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """All that alarms are read from."""

    view: HealthView | None
    edges: Sequence[EdgeWord] = ()
    etcd_alarms: Sequence[str] = ()
    shed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Permille by (route, region), of the decisions in force."""
    watching: frozenset[str] = frozenset()
    """Regions from which the configuration has targets probed."""
    drills: Sequence[Drill] = ()
    """In the order of their making."""
    leaderless: tuple[datetime, float] | None = None
    """When the leader before this one was last heard of, and for how many seconds nobody led."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is amiss."""

    event: AlarmEvent
    subject: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None
    """Where it is known better than by when it was first seen."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is, and of what."""
        return (self.event, self.subject)


def complaints(moment: Moment, policy: AlertPolicy) -> dict[tuple[str, str], Complaint]:
    """Everything amiss at `moment`."""
    found = [
        *(_of_view(moment.view) if moment.view is not None else ()),
        *(_of_answers(moment.view, policy) if moment.view is not None else ()),
        *_of_edges(moment.edges, policy),
        *_of_probers(moment),
        *_of_control(moment, policy),
        *_of_drills(moment.drills),
    ]
    running = next((drill.id for drill in moment.drills if drill.state == "RUNNING"), None)
    if running is not None:
        # Whoever is paged must see at once that somebody may be doing this on purpose.
        found = [_during(complaint, running) for complaint in found]
    return {complaint.key: complaint for complaint in found}


def _during(complaint: Complaint, drill: str) -> Complaint:
    text = f"{complaint.text} ({drill} is under way)"
    return replace(complaint, text=text, values={"during_drill": drill, **complaint.values})


def _of_view(view: HealthView) -> Iterator[Complaint]:
    down = {region.id for region in view.regions if region.verdict is Verdict.DOWN}
    for region in view.regions:
        here = [target for target in view.targets if target.region == region.id]
        if region.id in down:
            why = next((target.reason for target in here if target.reason), "")
            yield Complaint(
                "REGION_DOWN",
                region.id,
                f"all {region.targets} targets of region {region.id} are DOWN" + (f": {why}" if why else ""),
                {"targets": _ids([target.id for target in here])},
            )
    for provider in sorted({target.provider for target in view.targets}):
        own = [target for target in view.targets if target.provider == provider]
        # Where all of it stands in one region that is down, that says it all.
        if all(target.verdict is Verdict.DOWN for target in own) and {t.region for t in own} - down:
            yield Complaint(
                "PROVIDER_DOWN",
                provider,
                f"all {len(own)} targets of provider {provider} are DOWN",
                {"targets": _ids([target.id for target in own])},
            )
    for provider, poor in _without_quota(view).items():
        yield Complaint(
            "QUOTA_EXHAUSTED",
            provider,
            f"no quota or no money left with provider {provider} for {len(poor)} targets",
            {"targets": _ids(poor)},
        )
    for freeze in view.freezes:
        yield Complaint(
            "FREEZE",
            freeze.cause.lower(),
            f"automatic removals are frozen: {freeze.detail or freeze.cause}",
            {"cause": freeze.cause, "targets": _ids(freeze.targets)},
            freeze.since,
        )
    for bus in view.buses:
        if not bus.reachable:
            yield Complaint(
                "BUS_UNREACHABLE", bus.region, f"the bus of {bus.region} does not answer the leader"
            )


def _without_quota(view: HealthView) -> Mapping[str, list[str]]:
    """Provider -> its targets of whose account an edge was told so, and spares them for it yet."""
    found: dict[str, list[str]] = {}
    for target in view.targets:
        if any(summary.quota_exhausted for summary in target.passive):
            found.setdefault(target.provider, []).append(target.id)
    return found


def _of_answers(view: HealthView, policy: AlertPolicy) -> Iterator[Complaint]:
    for route in view.summary.routes if view.summary is not None else ():
        if route.success_permille is None or route.requests < policy.answers_least:
            continue
        lost = 1000 - route.success_permille
        if lost > policy.answers_permille:
            yield Complaint(
                "ANSWERS_DEGRADED",
                route.route,
                f"{lost / 10:g} % of the last {route.requests} requests for {route.route} had no full answer",
                {"lost_permille": lost, "requests": route.requests},
            )


def _of_edges(edges: Sequence[EdgeWord], policy: AlertPolicy) -> Iterator[Complaint]:
    by_region: dict[str, list[EdgeWord]] = {}
    for edge in edges:
        by_region.setdefault(edge.region, []).append(edge)
    for region, all_of_it in sorted(by_region.items()):
        silent = [edge.edge for edge in all_of_it if edge.age_s > policy.edge_silent_s]
        spoken = [edge for edge in all_of_it if edge.age_s <= policy.edge_silent_s]
        kinds: tuple[tuple[AlarmEvent, list[str], str], ...] = (
            ("EDGE_SILENT", silent, f"silent for more than {policy.edge_silent_s:g} s"),
            ("EDGE_STALE", [e.edge for e in spoken if e.mode is EdgeMode.STALE], "STALE"),
            ("EDGE_STATIC", [e.edge for e in spoken if e.mode is EdgeMode.STATIC], "STATIC"),
        )
        for event, ids, what in kinds:
            if ids:
                text = f"{len(ids)} of {len(all_of_it)} edges in {region} are {what}: {', '.join(_ids(ids))}"
                yield Complaint(event, region, text, {"edges": _ids(ids), "of": len(all_of_it)})


def _of_probers(moment: Moment) -> Iterator[Complaint]:
    if moment.view is None:
        return
    heard = {source.vantage for source in moment.view.sources if source.role is Role.PROBER and source.fresh}
    for region in sorted(moment.watching - heard):
        yield Complaint("PROBERS_SILENT", region, f"no prober of {region} is heard")


def _of_control(moment: Moment, policy: AlertPolicy) -> Iterator[Complaint]:
    for alarm in sorted(set(moment.etcd_alarms)):
        yield Complaint("ETCD_ALARM", alarm.lower()[:63], f"etcd has raised the alarm {alarm}")
    for route in sorted({route for (route, _), share in moment.shed.items() if share > policy.shed_permille}):
        regions = {region: share for (one, region), share in moment.shed.items() if one == route and share}
        worst = max(regions, key=lambda region: (regions[region], region))
        yield Complaint(
            "CAPACITY_SHED",
            route,
            f"capacity is short for {route}: {regions[worst] / 10:g} % of it is turned away in {worst}",
            {"shed_permille": regions},
        )
    if moment.leaderless is not None and moment.leaderless[1] > policy.no_leader_s:
        since, gap_s = moment.leaderless
        yield Complaint(
            "NO_LEADER",
            "control-plane",
            f"nobody led for {gap_s:.0f} s; somebody does now",
            {"seconds": round(gap_s, 1)},
            since,
        )


def _of_drills(drills: Sequence[Drill]) -> Iterator[Complaint]:
    last = {drill.spec.drill: drill for drill in drills if drill.over}
    for name, drill in sorted(last.items()):
        if drill.state == "FAILED":
            why = "; ".join(drill.report.failures) if drill.report is not None else drill.note
            text = f"drill {name} ({drill.id}) failed" + (f": {why}" if why else "")
            yield Complaint("DRILL_FAILED", name, text, {"drill": drill.id}, drill.ended_at)


def _ids(ids: Sequence[str]) -> list[str]:
    return sorted(ids)[:NAMED]


# ---------------------------------------------------------------- news


@dataclass(slots=True)
class Patience:
    """Since when, monotonic, each complaint has held, and each alarm has had none. A leader's own."""

    held: dict[tuple[str, str], float] = field(default_factory=dict)
    quiet: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells, and what the links lead to."""

    term: Term
    version: Version
    base_url: str | None


def advance(
    book: AlarmBook,
    found: Mapping[tuple[str, str], Complaint],
    patience: Patience,
    policy: AlertPolicy,
    *,
    teller: Teller,
    now: datetime,
    monotonic: float,
) -> tuple[AlarmBook, tuple[Notice, ...]]:
    """The book after this moment, and what is news; the same book when nothing is."""
    standing: dict[tuple[str, str], Standing] = {
        (alarm.event, alarm.subject): alarm for alarm in book.standing
    }
    notices: list[Notice] = []
    patience.held = {key: patience.held.get(key, monotonic) for key in found}
    patience.quiet = {key: patience.quiet.get(key, monotonic) for key in standing if key not in found}
    for key, since in patience.quiet.items():
        if monotonic - since >= policy.settle_s:
            notices.append(_notice(standing.pop(key), teller, {}, until=now))
    for key, complaint in sorted(found.items(), key=lambda item: (SEVERITY[item[1].event], item[0])):
        held_s = monotonic - patience.held[key]
        if key in standing or held_s < HOLDS_S.get(complaint.event, 0.0) or len(standing) >= MAX_STANDING:
            continue
        alarm = standing[key] = Standing(
            event=complaint.event,
            subject=complaint.subject[:128],
            severity=SEVERITY[complaint.event],
            text=complaint.text[:1000],
            since=complaint.since or now,
        )
        notices.append(_notice(alarm, teller, complaint.values))
    if not notices:
        return book, ()
    untold = (*book.untold, *notices)[-MAX_UNTOLD:]
    return AlarmBook(standing=tuple(standing.values()), untold=untold), tuple(notices)


def told(book: AlarmBook, ids: frozenset[str]) -> AlarmBook:
    """The book without the notices `ids`; the same one when it has none of them."""
    untold = tuple(notice for notice in book.untold if notice.id not in ids)
    return book if len(untold) == len(book.untold) else book.model_copy(update={"untold": untold})


def _notice(
    alarm: Standing, teller: Teller, values: Mapping[str, Any], *, until: datetime | None = None
) -> Notice:
    state = "firing" if until is None else "resolved"
    version = None if teller.version == NO_VERSION else str(teller.version)
    base = teller.base_url.rstrip("/") if teller.base_url is not None else None
    return Notice(
        id=f"{alarm.alarm}/{state}",
        alarm=alarm.alarm,
        state="firing" if until is None else "resolved",
        event=alarm.event,
        subject=alarm.subject,
        severity=alarm.severity,
        text=alarm.text if until is None else f"over: {alarm.text}",
        values=values,
        since=alarm.since,
        until=until,
        decision=version,
        links=Links(
            dashboard=f"{base}/" if base is not None else None,
            decision=f"{base}/v1/decisions/{version}" if base is not None and version is not None else None,
            runbook=f"docs/ALERTS.md#{alarm.event.lower()}",
        ),
        term=teller.term,
    )
