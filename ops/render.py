"""Tables for a terminal of 100 columns or less. Data in, rich renderables out; prints nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ops.leading import NO_ETCD
from shared.vocabulary.status import StackStatus
from shared.vocabulary.terms import EdgeMode, Verdict
from shared.vocabulary.view import HealthView, TargetHealth

WIDTH = 100
GAP = 2
"""Between two columns."""
HEADING = 12
"""Characters of a heading's word that stay together while there is room: longer ones are names."""

COLOURS = {
    Verdict.HEALTHY: "green",
    Verdict.DEGRADED: "yellow",
    Verdict.DOWN: "red",
    Verdict.UNKNOWN: "magenta",
    EdgeMode.FRESH: "green",
    EdgeMode.STALE: "yellow",
    EdgeMode.STATIC: "red",
}


def console(*, stderr: bool = False) -> Console:
    """Where tables go: at most `WIDTH` columns, plain where nobody watches or NO_COLOR is set."""
    plain = Console(stderr=stderr, highlight=False)
    width = min(WIDTH, plain.width) if plain.is_terminal else WIDTH
    return Console(stderr=stderr, highlight=False, width=width)


def status(now: StackStatus, notes: Iterable[str] = ()) -> Group:
    """A line for the leader, `notes` on what shapes the traffic besides health, a row per region, and a
    line per target that is not HEALTHY."""
    headers = ["region", "verdict", "targets", "control plane", "edge", "decision", "beat", "prober"]
    headers += ["bus"] if now.buses else []
    headers += ["etcd"] if now.etcd else []
    table = Grid(headers, [_region_row(now, region) for region in _regions_of(now)])
    lines: list[RenderableType] = [_leader_line(now), *_alarm(now.etcd_answers), *_noted(notes), table]
    lines += _config_lines(now)
    lines += (
        Text.assemble("target ", target.id, " is ", _coloured(target.verdict))
        for target in now.targets
        if target.verdict is not Verdict.HEALTHY
    )
    return Group(*lines)


def health(view: HealthView, notes: Iterable[str] = (), *, etcd_answers: bool = True) -> Group:
    """Regions, then targets with the reason of each verdict; `notes` on what shapes the traffic besides."""
    title = Text(f"{view.status}, as {view.replica} sees it at {view.as_of:%H:%M:%S} UTC")
    regions = Grid(
        ("region", "verdict", "targets", "sources fresh"),
        [
            (
                region.id,
                _coloured(region.verdict),
                f"{region.targets_healthy}/{region.targets}",
                f"{region.sources_fresh}/{region.sources}",
            )
            for region in view.regions
        ],
    )
    targets = Grid(
        ("target", "verdict", "p50 ms", "votes", "why"),
        [
            (
                target.id,
                _coloured(target.verdict),
                "-" if target.latency_ms_p50 is None else f"{target.latency_ms_p50:.1f}",
                _votes(target),
                target.reason,
            )
            for target in view.targets
        ],
    )
    return Group(
        title,
        *_alarm(etcd_answers),
        *_noted(notes),
        *(Text(line) for line in _notes(view)),
        regions,
        targets,
        *_scores(view),
    )


def _alarm(etcd_answers: bool) -> list[Text]:
    return [] if etcd_answers else [Text(NO_ETCD, style="bold red")]


def _noted(notes: Iterable[str]) -> list[Text]:
    return [Text(line, style="yellow") for line in notes]


def _notes(view: HealthView) -> Iterator[str]:
    """The fleet at a glance, and what an operator should know before reading on."""
    now = view.summary
    if now is not None:
        traffic = "no live traffic"
        if now.success_permille is not None:
            mean = (
                "" if now.response_ms_mean is None else f", {now.response_ms_mean:.0f} ms to an answer (mean)"
            )
            traffic = f"{now.success_permille / 10:g} % of {now.attempts} attempts succeed{mean}"
        yield f"{traffic}; failovers in the last hour: {now.failovers_last_hour}"
        for route in now.routes:
            if route.success_permille is not None:
                yield f"route {route.route}: {route.success_permille / 10:g} % of {route.requests} requests succeed"
    for freeze in view.freezes:
        whose = ", ".join(freeze.targets) or "all targets"
        yield f"automatic removals suspended since {freeze.since:%H:%M:%S} for {whose}: {freeze.detail}"
    for source in view.sources:
        if source.silent_since is not None:
            yield f"{source.role.value} {source.id} has been silent since {source.silent_since:%H:%M:%S}"
    if view.set_aside:
        yield f"set aside, for contradicting the majority: {', '.join(view.set_aside)}"
    for target in view.targets:
        if target.warning:
            yield f"warning: {target.id}: {target.warning}"


def _scores(view: HealthView) -> list[RenderableType]:
    """Quality, where anybody judges it."""
    if not view.quality:
        return []
    content = [
        (
            f"{score.provider}/{score.model}",
            score.target or "all",
            score.by,
            f"{score.score_permille / 10:g} %",
            str(score.judged),
            score.standing,
        )
        for score in view.quality
    ]
    return [Grid(("model", "target", "by", "right", "answers", "quality"), content)]


def _votes(target: TargetHealth) -> str:
    """`2 HEALTHY, ap-south DOWN`: who differs from most is named."""
    counts = Counter(vote.verdict for vote in target.votes)
    if not counts:
        return "none"
    most, number = counts.most_common(1)[0]
    others = [f"{vote.vantage} {vote.verdict.value}" for vote in target.votes if vote.verdict is not most]
    return ", ".join([f"{number} {most.value}", *others])


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as wide as there is room. What does not fit goes on in the next line, in the widest columns
    first; nothing is cut, for two names that begin alike must stay two names."""

    headers: Sequence[str]
    content: Sequence[Sequence[str | Text]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = range(len(self.headers))
        content = [max((_wide(row[place]) for row in self.content), default=0) for place in columns]
        natural = [max(cell_len(name), wide) for name, wide in zip(self.headers, content, strict=True)]
        words = [min(HEADING, max(map(cell_len, name.split()), default=0)) for name in self.headers]
        room = options.max_width - GAP * (len(self.headers) - 1)
        widths = fitted(natural, room, [max(pair) for pair in zip(content, words, strict=True)])
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
        for name, width in zip(self.headers, widths, strict=True):
            table.add_column(name, overflow="fold", width=width)
        for row in self.content:
            table.add_row(*row)
        yield table


def rows(headers: Sequence[str], content: Sequence[Sequence[str]], *, wrapping: Sequence[str] = ()) -> Grid:
    """A plain table. Every column may wrap, the widest first, so `wrapping` needs not name any."""
    return Grid(headers, content)


def fitted(natural: Sequence[int], room: int, least: Sequence[int] = ()) -> list[int]:
    """The widths that columns get: their own where all fit, else the widest give, evenly. First only what
    they have above `least`: a heading wraps before what stands under it."""
    widths = [max(1, width) for width in natural]
    for floor in ([max(1, width) for width in least] or widths, [1] * len(widths)):
        while sum(widths) > room:
            above = [place for place, width in enumerate(widths) if width > floor[place]]
            if not above:
                break
            widths[max(above, key=lambda place: widths[place])] -= 1
    return widths


def _wide(cell: str | Text) -> int:
    lines = (cell.plain if isinstance(cell, Text) else cell).splitlines()
    return max((cell_len(line) for line in lines), default=0)


def plain_line(now: StackStatus) -> str:
    """The whole status in one line, for logs."""
    leader = f"{now.leader.id} epoch {now.leader.epoch}" if now.leader else "nobody"
    edges = " ".join(
        f"{edge.id}={edge.mode.value if edge.mode else 'unreachable'}@{edge.decision or '-'}"
        for edge in now.edges
    )
    regions = " ".join(f"{region.id}={region.verdict.value}" for region in now.regions)
    etcd = "" if now.etcd_answers else "etcd does not answer; "
    return f"leader {leader}; {etcd}{regions}; {edges}"


def _leader_line(now: StackStatus) -> Text:
    if now.leader is None:
        last = f" (last: {now.last_leader.id})" if now.last_leader is not None else ""
        return Text(f"nobody leads{last}", style="red")
    return Text.assemble(
        "leader ", (now.leader.id, "bold"), f" in {now.leader.region}, epoch {now.leader.epoch}"
    )


def _config_lines(now: StackStatus) -> list[Text]:
    """One line when all work by one configuration; one for each version, with who runs it, otherwise."""
    running: dict[int, list[str]] = {}
    everybody = [
        *((plane.id, plane.config_version) for plane in now.control_planes),
        *((edge.id, edge.config_version) for edge in now.edges),
        *((prober.id, prober.config_version) for prober in now.probers),
    ]
    for name, version in everybody:
        if version is not None:
            running.setdefault(version, []).append(name)
    if len(running) == 1:
        return [Text(f"configuration {next(iter(running))} everywhere")]
    return [
        Text(f"configuration {version}: {', '.join(running[version])}", style="yellow")
        for version in sorted(running, reverse=True)
    ]


def _regions_of(now: StackStatus) -> list[str]:
    found = [region.id for region in now.regions]
    found += [plane.region for plane in now.control_planes if plane.region]
    found += [edge.region for edge in now.edges]
    return list(dict.fromkeys(found))


def _region_row(now: StackStatus, region: str) -> list[Text | str]:
    verdict = next((one for one in now.regions if one.id == region), None)
    edges = [edge for edge in now.edges if edge.region == region]
    row: list[Text | str] = [
        region,
        _coloured(verdict.verdict) if verdict else "-",
        f"{verdict.targets_healthy}/{verdict.targets}" if verdict else "-",
        _stacked([_role(plane.role) for plane in now.control_planes if plane.region == region]),
        _stacked([_coloured(edge.mode) if edge.mode else _gone() for edge in edges]),
        _stacked([Text(edge.decision or "-") for edge in edges]),
        _stacked([_age(edge.beat_age_s) for edge in edges]),
        _stacked([_age(prober.last_event_age_s) for prober in now.probers if prober.region == region]),
    ]
    if now.buses:
        row.append(_stacked([_up(bus.reachable) for bus in now.buses if bus.region == region]))
    if now.etcd:
        row.append(_stacked([_up(member.reachable) for member in now.etcd if member.region == region]))
    return row


def _stacked(parts: Sequence[Text]) -> Text:
    return Text("\n").join(parts) if parts else Text("-")


def _coloured(word: Verdict | EdgeMode) -> Text:
    return Text(word.value, style=COLOURS[word])


def _role(role: str) -> Text:
    return _gone() if role == "unreachable" else Text(role, style="bold" if role == "leader" else "")


def _gone() -> Text:
    return Text("unreachable", style="red")


def _up(reachable: bool) -> Text:
    return Text("up", style="green") if reachable else Text("down", style="red")


def _age(seconds: float | None) -> Text:
    return Text("-" if seconds is None else f"{seconds:.1f} s")
