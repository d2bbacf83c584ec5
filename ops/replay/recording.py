"""A recording: one file that says what was heard and what was decided, for as long as anybody likes to ask.

JSON lines, `.jsonl` or `.jsonl.gz` (told by content, not by name), in order of time:

    {"leeward_recording": 1, "heard_from": …, "began_at": …, "ended_at": …, "config": {…}, …}   the header
    {"at": …, "region": "us-east", "event": {…}}              a HealthEvent, on whose bus, by the broker's time
    {"at": …, "decision": {"version": "1.7", "documents": […]}}   a commit, by the leader's time
    {"at": …, "config": {…}}                                  another configuration in force

Between `heard_from` and `began_at` lies the lead-in: it fills the view and brings a replayed course to
where things stood, and counts for nothing. A line earlier than the one before it is taken to have
arrived with that one. Unknown fields are ignored; a newer schema is refused.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ops.errors import Usage
from shared.vocabulary.base import Id, Message, PositiveSeconds
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.health import HealthEvent
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout

SCHEMA = 1
MAX_LINE_BYTES = 256 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_Source = gzip.GzipFile | BufferedReader


class Header(Message):
    """The first line."""

    leeward_recording: Literal[1] = 1
    """The schema of the whole file."""
    heard_from: AwareDatetime
    began_at: AwareDatetime
    ended_at: AwareDatetime
    config: FleetConfig
    """In force at `heard_from`."""
    documents: tuple[Decision, ...] = ()
    """In force at `heard_from`, one per route."""
    overrides: tuple[Override, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    """On record when it was made."""
    reconcile_s: PositiveSeconds = 0.25
    """The leader's pace."""
    notes: tuple[str, ...] = ()
    """What is missing in it, and what to know when reading it."""


class Commit(Message):
    """What one commit wrote."""

    version: str
    documents: tuple[Decision, ...]


class Line(Message):
    """Any line but the first: an event, a commit, or a configuration."""

    at: AwareDatetime
    region: Id | None = None
    event: HealthEvent | None = None
    decision: Commit | None = None
    config: FleetConfig | None = None


class _Stamp(Message):
    leeward_recording: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Recording:
    """A file that has been found to begin as a recording does."""

    path: Path
    header: Header

    @classmethod
    def open(cls, path: Path) -> "Recording":
        """Read the header. Raises Usage with the line and what is wrong with it."""
        with _opened(path) as lines:
            raw = _line(path, lines, 1)
        try:
            stamp = _Stamp.model_validate_json(raw)
        except ValidationError:
            raise Usage(f"{path}:1: is no recording: its first line has no `leeward_recording`") from None
        if stamp.leeward_recording > SCHEMA:
            raise Usage(
                f"{path}:1: was written by a newer Leeward (schema {stamp.leeward_recording}, "
                f"this one reads {SCHEMA})"
            )
        try:
            return cls(path, Header.model_validate_json(raw, extra="ignore"))
        except ValidationError as error:
            raise Usage(f"{path}:1: {_first(error)}") from None

    def lines(self) -> Iterator[Line]:
        """Every event and commit, in order of time. Raises Usage, as `open` does, when it gets there."""
        latest: datetime | None = None
        with _opened(self.path) as source:
            _line(self.path, source, 1)
            number = 1
            while raw := _line(self.path, source, number := number + 1):
                if raw.isspace():
                    continue
                line = _read(self.path, number, raw)
                if latest is not None and line.at < latest:
                    line = line.model_copy(update={"at": latest})
                latest = line.at
                yield line


def write(path: Path, header: Header, lines: Iterator[bytes]) -> int:
    """Write a recording in one step that leaves no half of a file; returns the number of its lines.

    `lines` are encoded already, without line ends, in order of time.
    """
    scratch = path.with_name(f".{path.name}.part")
    count = 0
    try:
        with gzip.open(scratch, "wb", compresslevel=5) if path.suffix == ".gz" else scratch.open("wb") as out:
            out.write(header.model_dump_json().encode() + b"\n")
            for line in lines:
                out.write(line + b"\n")
                count += 1
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def event_line(at: datetime, region: str, event: bytes) -> bytes:
    """The line of an event, given as the JSON that the bus carried."""
    # Line ends occur in JSON between tokens only, where a blank says the same.
    bare = event.replace(b"\n", b" ").replace(b"\r", b" ")
    return b'{"at":"%s","region":"%s","event":%s}' % (at.isoformat().encode(), region.encode(), bare)


def commit_line(at: datetime, commit: Commit) -> bytes:
    """The line of a commit."""
    return b'{"at":"%s","decision":%s}' % (at.isoformat().encode(), commit.model_dump_json().encode())


def config_line(at: datetime, config: FleetConfig) -> bytes:
    """The line of a configuration that came into force."""
    return b'{"at":"%s","config":%s}' % (at.isoformat().encode(), config.model_dump_json().encode())


def changes_of(commit: Commit) -> Mapping[str, Decision]:
    """Its documents by route."""
    return {document.route: document for document in commit.documents}


def _read(path: Path, number: int, raw: bytes) -> Line:
    try:
        line = Line.model_validate_json(raw, extra="ignore")
    except ValidationError as error:
        raise Usage(f"{path}:{number}: {_first(error)}") from None
    if [line.event, line.decision, line.config].count(None) != 2:
        raise Usage(f"{path}:{number}: needs an `event`, a `decision` or a `config`, one of them")
    if line.event is not None and line.region is None:
        raise Usage(f"{path}:{number}: an event needs the `region` of the bus that carried it")
    return line


def _opened(path: Path) -> _Source:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        return gzip.open(path, "rb") if packed else path.open("rb")
    except OSError as error:
        raise Usage(f"{path}: cannot be read: {error.strerror or error}") from None


def _line(path: Path, lines: _Source, number: int) -> bytes:
    """The next line, empty at the end of the file."""
    try:
        raw = lines.readline(MAX_LINE_BYTES + 1)
    except (OSError, EOFError) as error:  # gzip: cut off, or damaged
        raise Usage(f"{path}:{number}: the file is cut off or damaged: {error}") from None
    if len(raw) > MAX_LINE_BYTES:
        raise Usage(f"{path}:{number}: is longer than {MAX_LINE_BYTES} bytes")
    return raw


def _first(error: ValidationError) -> str:
    """`event.probes.0.target: Field required`"""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(step) for step in fault["loc"])
    text = json.dumps(fault["msg"], ensure_ascii=False)[1:-1]
    return f"{where}: {text}" if where else text
