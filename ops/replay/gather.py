"""Making a recording: events from every region's bus, commits from the control plane.

The past is read from the buses' own logs (they keep a week), the present is waited for. Each bus is read
by itself into a scratch file per partition, so that one that is slow or away holds nobody up and memory
stays small; then all are merged by the broker's time. A bus that cannot be reached is said in the notes.
"""

import asyncio
import heapq
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, TypeVar

from control_plane.loops.decode import Poison, health_event
from control_plane.loops.pulse import closing
from ops.client import ControlPlanes, Refused
from ops.errors import Bad, Unreachable
from ops.replay.recording import Commit, Header, commit_line, config_line, event_line, write
from shared.adapters.kafka import KafkaBus
from shared.clock import Clock, SystemClock
from shared.ports import Batch, Bus, PortError, Record
from shared.topics import HEALTH
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.node import BusAddress

LEAD_IN_S = 30.0
"""Of events before the time asked for: several rounds of everybody, and the first passes of a replay."""
SETTLE_S = 1.0
"""After the end, for what is still on its way."""
GIVE_UP_S = 15.0
"""Longest that a bus may hold up the end of a recording."""
MAX_COMMITS = 1_000
"""As many as the control plane keeps."""
PATIENCE = 30
"""Times, a second apart, that the control plane is asked again what it decided."""
REORDER = 2_000
"""Records of one partition that are put in order of time: producers' clocks differ a little."""


Answer = TypeVar("Answer")
Connect = Callable[[str, BusAddress], Bus]
"""A bus for a region, made inside the loop that reads it."""


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when."""

    began_at: datetime
    ended_at: datetime

    @property
    def heard_from(self) -> datetime:
        """The beginning of the lead-in."""
        return self.began_at - timedelta(seconds=LEAD_IN_S)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came of it."""

    events: int
    commits: int
    notes: tuple[str, ...]


async def record(
    span: Span,
    path: Path,
    *,
    buses: Mapping[str, BusAddress],
    planes: ControlPlanes,
    reconcile_s: float,
    progress: Callable[[str], None] = lambda _: None,
    connect: Connect | None = None,
    clock: Clock | None = None,
) -> Gathered:
    """Write the recording of `span` to `path`; waits for the end where that is still to come. `connect`
    and `clock` are Kafka and the machine's where they are absent.

    Raises Bad when no event of that time is to be had, Unreachable when no control plane answers.
    """
    clock = clock or SystemClock()
    notes: list[str] = []
    await planes.get("/v1/leader")  # rather now than when the waiting is over
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".leeward-record-", dir=path.parent) as scratch:
        taps = [_Tap(region, Path(scratch) / region, span) for region, _ in distinct(buses)]
        async with asyncio.TaskGroup() as tasks:
            for tap, (region, address) in zip(taps, distinct(buses), strict=True):
                tasks.create_task(_read(tap, (connect or _kafka)(region, address), clock))
            await _wait(taps, progress, clock)
        for tap in taps:
            notes += tap.notes()
        header, commits = await _patiently(lambda: decided(span, planes))
        header = header.model_copy(update={"reconcile_s": reconcile_s, "notes": (*header.notes, *notes)})
        events = sum(tap.kept for tap in taps)
        if not events:
            said = "; ".join(notes) or "nobody published any"
            raise Bad(
                f"no health events between {span.heard_from:%H:%M:%S} and {span.ended_at:%H:%M:%S} UTC: {said}"
            )
        streams = [*(stream for tap in taps for stream in tap.streams()), iter(commits)]
        write(path, header, (line for _, line in heapq.merge(*streams)))
    return Gathered(events, len(commits), header.notes)


def distinct(buses: Mapping[str, BusAddress]) -> list[tuple[str, BusAddress]]:
    """Each cluster once, under the first region that names it."""
    found: dict[tuple[str, ...], tuple[str, BusAddress]] = {}
    for region, address in buses.items():
        found.setdefault(address.bootstrap, (region, address))
    return list(found.values())


async def _patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The control plane may be in trouble itself: what was heard so long is not thrown away for that."""
    for _ in range(PATIENCE):
        try:
            return await ask()
        except Unreachable:
            await asyncio.sleep(1.0)
    return await ask()


Timed = tuple[int, bytes]
"""Milliseconds of the epoch, and the line."""


@dataclass(slots=True)
class _Tap:
    """What one bus gives."""

    region: str
    folder: Path
    span: Span
    kept: int = 0
    poison: int = 0
    gaps: int = 0
    trouble: str = ""
    answered: bool = False
    done: bool = False
    _files: dict[int, IO[bytes]] = field(default_factory=dict)

    def take(self, batch: Batch) -> None:
        """Keep those of the batch's events that belong to the time."""
        self.answered = True
        self.gaps += batch.gap
        for each in batch.records:
            at = datetime.fromtimestamp(each.timestamp_ms / 1000, UTC)
            if not self.span.heard_from <= at <= self.span.ended_at:
                continue
            try:
                health_event(each.value, now=at)
            except Poison:
                self.poison += 1
                continue
            self._put(each, at)

    def close(self) -> None:
        """Nothing more comes."""
        for file in self._files.values():
            file.close()
        self.done = True

    def streams(self) -> Iterator[Iterator[Timed]]:
        """The lines of each partition, in order of time."""
        return (_in_order(self.folder / str(partition)) for partition in self._files)

    def notes(self) -> list[str]:
        """What is missing here."""
        found = []
        if not self.answered:
            found.append(f"the bus of {self.region} could not be read: {self.trouble or 'no answer'}")
        elif not self.kept:
            found.append(f"the bus of {self.region} has no event of that time")
        elif self.trouble:
            found.append(f"the bus of {self.region} was away for a time: {self.trouble}")
        if self.gaps:
            found.append(f"the bus of {self.region} had lost messages {self.gaps} times")
        if self.poison:
            found.append(f"the bus of {self.region} carried {self.poison} messages that nobody can read")
        return found

    def _put(self, each: Record, at: datetime) -> None:
        file = self._files.get(each.partition)
        if file is None:
            self.folder.mkdir(exist_ok=True)
            file = self._files[each.partition] = (self.folder / str(each.partition)).open("wb")
        assert each.value is not None
        file.write(b"%d\t%s\n" % (each.timestamp_ms, event_line(at, self.region, each.value)))
        self.kept += 1


def _kafka(region: str, address: BusAddress) -> Bus:
    bare = address.model_copy(update={"create_topics": False})
    return KafkaBus(region, bare, client_id="leeward-record", clock=SystemClock())


async def _read(tap: _Tap, bus: Bus, clock: Clock) -> None:
    """Read one bus until the end of the time, or until it has held everybody up for `GIVE_UP_S`."""
    late = max(clock.now(), tap.span.ended_at) + timedelta(seconds=GIVE_UP_S)
    try:
        while not tap.done and clock.now() < late:
            back_s = (clock.now() - tap.span.heard_from).total_seconds()
            try:
                await _follow(tap, bus.consume([HEALTH], start=max(1.0, back_s)), clock)
            except PortError as error:
                tap.trouble = str(error).partition(":")[0][:200]
                if clock.now() > tap.span.ended_at:
                    break
                await asyncio.sleep(0.25)
    finally:
        tap.close()
        await bus.close()


async def _follow(tap: _Tap, batches: AsyncIterator[Batch], clock: Clock) -> None:
    async with closing(batches) as read:
        async for batch in read:
            tap.take(batch)
            if batch.caught_up and clock.now() > tap.span.ended_at + timedelta(seconds=SETTLE_S):
                tap.done = True
                return


async def _wait(taps: Sequence[_Tap], progress: Callable[[str], None], clock: Clock) -> None:
    while not all(tap.done for tap in taps):
        left_s = (taps[0].span.ended_at - clock.now()).total_seconds()
        when = f"{left_s:.0f} s to go" if left_s > 0 else "reading what is there"
        progress(f"{sum(tap.kept for tap in taps)} events, {when}")
        await asyncio.sleep(0.25)


def _in_order(path: Path) -> Iterator[Timed]:
    """The lines of one partition, a little disorder among them put right."""
    waiting: list[Timed] = []
    with path.open("rb") as file:
        for raw in file:
            stamp, _, line = raw.rstrip(b"\n").partition(b"\t")
            heapq.heappush(waiting, (int(stamp), line))
            if len(waiting) > REORDER:
                yield heapq.heappop(waiting)
    while waiting:
        yield heapq.heappop(waiting)


# ---------------------------------------------------------------- what was decided


async def decided(span: Span, planes: ControlPlanes) -> tuple[Header, list[Timed]]:
    """The header of a recording of `span`, and the lines of what was committed and configured in it.
    Raises OpsError."""
    notes: list[str] = []
    entries = await _timeline(span, planes, notes)
    within = [(at, entry) for at, entry in entries if at > span.heard_from]
    lines: list[Timed] = []
    for at, entry in within:
        documents = await _documents(planes, entry["version"], notes)
        lines.append((_ms(at), commit_line(at, Commit(version=entry["version"], documents=documents))))
    config, later = await _configs(span, planes, notes)
    lines += ((_ms(at), config_line(at, changed)) for at, changed in later)
    rollouts = await _listed(planes, "/v1/rollouts", "rollouts")
    if rollouts:
        notes.append("rollouts are replayed at the step at which they stood when this was recorded")
    header = Header(
        heard_from=span.heard_from,
        began_at=span.began_at,
        ended_at=span.ended_at,
        config=config,
        documents=await _in_force_before(
            planes, [entry for at, entry in entries if at <= span.heard_from], within, notes
        ),
        overrides=await _listed(planes, "/v1/overrides?all=true", "overrides"),
        rollouts=[each["rollout"] for each in rollouts],
        notes=tuple(notes),
    )
    return header, sorted(lines)


async def _timeline(span: Span, planes: ControlPlanes, notes: list[str]) -> list[tuple[datetime, Any]]:
    """The commits up to the end of `span` that are kept, oldest first."""
    timeline = (await planes.get(f"/v1/decisions?limit={MAX_COMMITS}"))["decisions"]
    entries = [(datetime.fromisoformat(entry["at"]), entry) for entry in reversed(timeline)]
    if len(timeline) == MAX_COMMITS and entries[0][0] > span.heard_from:
        notes.append(f"commits before {entries[0][0]:%H:%M:%S} UTC are not kept any more")
    return [(at, entry) for at, entry in entries if at <= span.ended_at]


async def _configs(
    span: Span, planes: ControlPlanes, notes: list[str]
) -> tuple[FleetConfig, list[tuple[datetime, FleetConfig]]]:
    """The configuration at the beginning, and the later ones with their times."""
    kept = await _listed(planes, "/v1/config/versions", "versions")
    stamps = sorted((datetime.fromisoformat(each["at"]), each["config_version"]) for each in kept)
    before = [version for at, version in stamps if at <= span.heard_from]
    if not before:
        if stamps and stamps[0][0] <= span.ended_at:
            notes.append("the first configurations of that time are not kept any more, or it had none")
        first = stamps[0][1] if stamps else None
    else:
        first = before[-1]
    path = "/v1/config" if first is None else f"/v1/config/versions/{first}"
    begins = _config(await planes.get(path))
    later = [
        (at, _config(await planes.get(f"/v1/config/versions/{version}")))
        for at, version in stamps
        if span.heard_from < at <= span.ended_at and version != first
    ]
    return begins, later


async def _in_force_before(
    planes: ControlPlanes, before: Sequence[Any], within: Sequence[tuple[datetime, Any]], notes: list[str]
) -> tuple[Decision, ...]:
    """The documents that were in force as the recording begins: those of today where nothing has
    changed since, for the others the last commit before."""
    changed = {route for _, entry in within for route, _ in entry["routes"]}
    _, current = await planes.in_force()
    found = {route: document for route, document in current.items() if route not in changed}
    missing = set(changed)
    for entry in reversed(before):
        if wanted := missing.intersection(route for route, _ in entry["routes"]):
            for document in await _documents(planes, entry["version"], notes):
                if document.route in wanted and not document.removed:
                    found[document.route] = document
            missing -= wanted
        if not missing:
            break
    if missing:
        notes.append(f"what was in force before the recording is not known for {', '.join(sorted(missing))}")
    return tuple(found[route] for route in sorted(found))


async def _documents(planes: ControlPlanes, version: str, notes: list[str]) -> tuple[Decision, ...]:
    try:
        answer = await planes.get(f"/v1/decisions/{version}")
    except Refused:
        notes.append(f"the documents of {version} are not kept any more")
        return ()
    return tuple(Decision.model_validate(document) for document in answer["documents"])


async def _listed(planes: ControlPlanes, path: str, name: str) -> Any:
    """Records of a list; none where the control plane does not know the path."""
    with suppress(Refused):
        return (await planes.get(path))[name]
    return ()


def _config(answer: Any) -> FleetConfig:
    return FleetConfig.from_wire(json.dumps(answer).encode())


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
