"""Tables for a terminal of 100 columns or less. Data in, rich renderables out; prints nothing."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from shared.vocabulary.status import StackStatus
from shared.vocabulary.terms import EdgeMode, Verdict
from shared.vocabulary.view import HealthView, TargetHealth

WIDTH = 100

_COLOURS = {
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


def status(now: StackStatus) -> Group:
    """A line for the leader, a row per region, and a line per target that is not HEALTHY."""
    table = _table("region", "verdict", "targets", "control plane", "edge", "decision", "beat", "prober")
    if now.buses:
        table.add_column("bus", no_wrap=True)
    if now.etcd:
        table.add_column("etcd", no_wrap=True)
    for region in _regions_of(now):
        table.add_row(*_region_row(now, region))
    lines: list[Table | Text] = [_leader_line(now), table, *_config_lines(now)]
    lines += (
        Text.assemble("target ", target.id, " is ", _coloured(target.verdict))
        for target in now.targets
        if target.verdict is not Verdict.HEALTHY
    )
    return Group(*lines)


def health(view: HealthView) -> Group:
    """Regions, then targets with the reason of each verdict."""
    title = Text(f"{view.status}, as {view.replica} sees it at {view.as_of:%H:%M:%S} UTC")
    regions = _table("region", "verdict", "targets", "sources fresh")
    for region in view.regions:
        regions.add_row(
            region.id,
            _coloured(region.verdict),
            f"{region.targets_healthy}/{region.targets}",
            f"{region.sources_fresh}/{region.sources}",
        )
    targets = _table("target", "verdict", "p50 ms")
    targets.add_column("votes")
    targets.add_column("why")
    for target in view.targets:
        targets.add_row(
            target.id,
            _coloured(target.verdict),
            "-" if target.latency_ms_p50 is None else f"{target.latency_ms_p50:.1f}",
            _votes(target),
            target.reason,
        )
    notes = [Text(line) for line in _notes(view)]
    return Group(title, *notes, regions, targets, *_scores(view))


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


def _scores(view: HealthView) -> list[Table]:
    """Quality, where anybody judges it."""
    if not view.quality:
        return []
    table = _table("model", "target", "by", "right", "answers", "quality")
    for score in view.quality:
        table.add_row(
            f"{score.provider}/{score.model}",
            score.target or "all",
            score.by,
            f"{score.score_permille / 10:g} %",
            str(score.judged),
            score.standing,
        )
    return [table]


def _votes(target: TargetHealth) -> str:
    """`2 HEALTHY, ap-south DOWN`: who differs from most is named."""
    counts = Counter(vote.verdict for vote in target.votes)
    if not counts:
        return "none"
    most, number = counts.most_common(1)[0]
    others = [f"{vote.vantage} {vote.verdict.value}" for vote in target.votes if vote.verdict is not most]
    return ", ".join([f"{number} {most.value}", *others])


def rows(headers: Sequence[str], content: Sequence[Sequence[str]], *, wrapping: Sequence[str] = ()) -> Table:
    """A plain table whose last column may wrap, and those that are named."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in headers[:-1]:
        wraps = name in wrapping
        table.add_column(name, no_wrap=not wraps, overflow="fold", min_width=12 if wraps else None)
    table.add_column(headers[-1], overflow="fold", min_width=12)
    for row in content:
        table.add_row(*row)
    return table


def plain_line(now: StackStatus) -> str:
    """The whole status in one line, for logs."""
    leader = f"{now.leader.id} epoch {now.leader.epoch}" if now.leader else "nobody"
    edges = " ".join(
        f"{edge.id}={edge.mode.value if edge.mode else 'unreachable'}@{edge.decision or '-'}"
        for edge in now.edges
    )
    regions = " ".join(f"{region.id}={region.verdict.value}" for region in now.regions)
    return f"leader {leader}; {regions}; {edges}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _leader_line(now: StackStatus) -> Text:
    if now.leader is None:
        return Text.assemble("leader ", ("nobody", "red"))
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
    return Text(word.value, style=_COLOURS[word])


def _role(role: str) -> Text:
    return _gone() if role == "unreachable" else Text(role, style="bold" if role == "leader" else "")


def _gone() -> Text:
    return Text("unreachable", style="red")


def _up(reachable: bool) -> Text:
    return Text("up", style="green") if reachable else Text("down", style="red")


def _age(seconds: float | None) -> Text:
    return Text("-" if seconds is None else f"{seconds:.1f} s")
