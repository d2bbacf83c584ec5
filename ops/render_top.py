"""`leeward top` as one screen: what is wrong first, and as much of the rest as there is room for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, Group, RenderableType
from rich.text import Text

from ops.glance import EdgeGlance, Glance, Traffic
from ops.leading import NO_ETCD
from ops.render import COLOURS, Grid
from ops.shaping import said
from shared.vocabulary.terms import EdgeMode, Verdict
from shared.vocabulary.view import RegionHealth, TargetHealth

LAST = 6
"""Decisions that are shown where there is room."""
_RANK = {Verdict.DOWN: 0, Verdict.DEGRADED: 1, Verdict.UNKNOWN: 2, Verdict.HEALTHY: 3}


@dataclass(frozen=True, slots=True)
class Room:
    """How many rows each part may have."""

    regions: int = 1_000
    targets: int = 10_000
    edges: int = 1_000
    decisions: int = LAST
    notes: float = 2.5
    """How many lines, about, each note may have."""
    names: int = 1_000
    """Characters of a name, less its middle where it has more,"""
    words: int = 100_000
    """and of what is said of anything."""

    def name(self, text: str) -> str:
        """As much of it as tells it from others: names differ at both ends."""
        if len(text) <= self.names:
            return text
        tail = (self.names - 1) // 2
        return f"{text[: self.names - 1 - tail]}…{text[-tail:]}"

    def said(self, text: str, part: float = 1.0) -> str:
        """Its beginning; `part` of what may be said where there is less room."""
        most = int(self.words * part)
        return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


ONE_LINE = {"names": 20, "words": 76}
"""With these each row of a screen of 100 columns is one line."""
LEAST = {"targets": 5, "edges": 3, "regions": 3, "decisions": 1}
BARE = {"targets": 2, "edges": 1, "regions": 1, "decisions": 1}
"""Rows that each part keeps; and where not even those fit."""


def screen(glance: Glance, console: Console, *, head: Sequence[Text] = ()) -> Group:
    """As much as fits into the height of `console`; targets give first, then edges, regions, decisions."""
    room = Room(**ONE_LINE)
    while True:
        found = top(glance, room, head=head)
        excess = len(console.render_lines(found, pad=False)) - console.height
        smaller = _smaller(room, glance, excess)
        if excess <= 0 or smaller == room:
            return found
        room = smaller


def top(glance: Glance, room: Room, *, head: Sequence[Text] = ()) -> Group:
    """All parts, each cut to its room; what is left out is counted."""
    parts: list[RenderableType] = [*head, _title(glance, room)]
    parts += [] if glance.etcd_answers else [Text(NO_ETCD, style="bold red")]
    parts += [Text(room.said(line, room.notes), style="yellow") for line in _notes(glance)]
    parts += _regions(glance, room)
    parts += _targets(glance, room)
    parts += _edges(glance.edges, room)
    parts += _decisions(glance, room)
    return Group(*parts)


def _smaller(room: Room, glance: Glance, excess: int) -> Room:
    """One step towards less, by what is too much; never below a few rows of each."""
    there = {
        "targets": len(glance.view.targets),
        "edges": len(glance.edges),
        "regions": len(glance.view.regions),
        "decisions": len(glance.decisions),
    }
    rows = {name: min(getattr(room, name), number) for name, number in there.items()}
    for least in (LEAST, BARE):
        for name, kept in least.items():
            given = min(excess, max(0, rows[name] - kept))
            if given > 0:
                # A line tells of what is left out.
                return replace(room, **(rows | {name: max(kept, rows[name] - given - 1)}))
    return replace(room, notes=1)


def _notes(glance: Glance) -> Iterator[str]:
    yield from said(glance.shaping)
    for freeze in glance.view.freezes:
        yield f"automatic removals suspended since {freeze.since:%H:%M:%S}: {freeze.detail}"
    if glance.view.set_aside:
        yield f"set aside, for contradicting the majority: {', '.join(glance.view.set_aside)}"


def _title(glance: Glance, room: Room) -> Text:
    view, summary = glance.view, glance.view.summary
    colour = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}[view.status]
    leader = glance.leader
    led = f"{room.name(leader['id'])} leads, epoch {leader['epoch']}" if leader else "nobody leads"
    if not leader and glance.last_leader:
        led += f" (last: {room.name(glance.last_leader['id'])})"
    traffic = ""
    if summary is not None and summary.success_permille is not None:
        traffic = f"; {summary.success_permille / 10:g} % of attempts succeed"
        if summary.response_ms_mean is not None:
            traffic += f", {summary.response_ms_mean:.0f} ms (mean)"
    return Text.assemble(
        (view.status, f"bold {colour}"),
        f" at {view.as_of:%H:%M:%S} UTC as {room.name(view.replica)} sees it; ",
        (led, "" if leader else "bold red"),
        f"; decision {glance.head}, configuration {view.config_version}{traffic}",
    )


def _regions(glance: Glance, room: Room) -> list[RenderableType]:
    def rank(region: RegionHealth) -> tuple[int, float, str]:
        return _RANK[region.verdict], -glance.traffic.get(region.id, Traffic()).requests_per_s, region.id

    ranked = sorted(glance.view.regions, key=rank)
    content: list[list[str | Text]] = []
    for region in ranked[: room.regions]:
        traffic = glance.traffic.get(region.id, Traffic())
        failed = "-" if traffic.failed_permille is None else f"{traffic.failed_permille / 10:g} %"
        content.append(
            [
                room.name(region.id),
                _verdict(region.verdict),
                f"{region.targets_healthy}/{region.targets}",
                f"{region.sources_fresh}/{region.sources}",
                f"{traffic.requests_per_s:g}",
                failed,
            ]
        )
    table = Grid(("region", "verdict", "targets", "sources", "requests/s", "failed"), content)
    rest = Counter(region.verdict.value for region in ranked[room.regions :])
    return [Text(), table, *_left_out(rest)]


def _targets(glance: Glance, room: Room) -> list[RenderableType]:
    def full(target: TargetHealth) -> float:
        slots = glance.capacity.get(target.id)
        return glance.inflight.get(target.id, 0) / slots if slots else 0.0

    ranked = sorted(glance.view.targets, key=lambda target: (_RANK[target.verdict], -full(target), target.id))
    content: list[list[str | Text]] = [
        [
            room.name(target.id),
            _verdict(target.verdict),
            "-" if target.latency_ms_p50 is None else f"{target.latency_ms_p50:.0f}",
            f"{glance.inflight.get(target.id, 0)}/{glance.capacity.get(target.id, '-')}",
            room.said(target.warning or target.reason, 0.55),
        ]
        for target in ranked[: room.targets]
    ]
    table = Grid(("target", "verdict", "p50 ms", "inflight", "why"), content)
    rest = Counter(target.verdict.value for target in ranked[room.targets :])
    return [Text(), table, *_left_out(rest)]


def _edges(edges: Sequence[EdgeGlance], room: Room) -> list[RenderableType]:
    def rank(edge: EdgeGlance) -> tuple[bool, bool, str]:
        return edge.mode == EdgeMode.FRESH.value, not edge.behind, edge.id

    ranked = sorted(edges, key=rank)
    content: list[list[str | Text]] = [
        [
            room.name(edge.id),
            room.name(edge.region),
            _mode(edge.mode),
            edge.decision + (f" ({edge.behind} behind)" if edge.behind else ""),
            "-" if edge.lag_ms is None else f"{edge.lag_ms:.0f} ms",
            "-" if edge.beat_age_s is None else f"{edge.beat_age_s:.1f} s",
            "-" if edge.requests_per_s is None else f"{edge.requests_per_s:g}",
        ]
        for edge in ranked[: room.edges]
    ]
    table = Grid(("edge", "region", "mode", "decision", "lag", "beat", "requests/s"), content)
    return [Text(), table, *_left_out(Counter(edge.mode for edge in ranked[room.edges :]))]


def _decisions(glance: Glance, room: Room) -> list[RenderableType]:
    if not glance.decisions:
        return [Text(), Text("no decision yet")]
    content = [
        (
            each["version"],
            str(each["at"])[11:19],
            room.said(_short(list(dict.fromkeys(each.get("brief") or each["said"])))),
        )
        for each in glance.decisions[: room.decisions]
    ]
    return [Text(), Grid(("decision", "at (UTC)", "why"), content)]


def _short(sentences: Sequence[str]) -> str:
    if not sentences:
        return "-"
    more = len(sentences) - 1
    return sentences[0] + (f" And {more} more." if more else "")


def _left_out(rest: Counter[str]) -> list[RenderableType]:
    if not rest:
        return []
    told = ", ".join(f"{number} {word}" for word, number in sorted(rest.items()))
    return [Text(f"and {sum(rest.values())} more: {told}", style="dim")]


def _verdict(verdict: Verdict) -> Text:
    return Text(verdict.value, style=COLOURS[verdict])


def _mode(mode: str) -> Text:
    known = next((each for each in EdgeMode if each.value == mode), None)
    return Text(mode, style="red" if known is None else COLOURS[known])
