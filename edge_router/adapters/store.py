"""The last-known-good files: what an edge serves by when it starts and nothing else answers.

Three generations, `lkg-<serial>-<generation>.<seq>.json`; the newest that is undamaged counts. Rules:

* A file is written under a temporary name, synced, renamed, and its directory synced: a crash at any
  moment leaves the old files and at most one temporary one, which the next write or start removes.
* The first line holds the length and SHA-256 of all that follows: a file that was cut, or changed in
  any byte, is passed over for an older one.
* The name tells the version even when the content is lost, so that an edge which has to fall back
  still knows how far it had been.
* A disk that is full, read-only or hanging costs the edge its file, never its traffic: the work is
  done in a thread, one write at a time, with a deadline.
"""

import asyncio
import contextlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_router.ports import Kept, Recalled, StoreError
from shared.vocabulary.base import NO_VERSION, Version, canonical_json, sha256_hex

GENERATIONS = 3
MAX_BYTES = 128 * 2**20
"""Larger is neither written nor read."""
WRITE_S = 5.0
"""Given to a write before it counts as failed."""
FORMAT = 1
TEMPORARY = ".tmp"

_NAME = re.compile(r"lkg-([0-9]{1,15})-([0-9]{1,16})\.([0-9]{1,16})\.json")


class Files(Protocol):
    """The few things asked of a file system; tests pass one that fails."""

    def names(self, directory: Path) -> list[str]:
        """Of all entries; none where the directory does not exist."""
        ...

    def read(self, path: Path, limit: int) -> bytes:
        """At most `limit` bytes from its start."""
        ...

    def write(self, path: Path, raw: bytes) -> None:
        """Create or truncate, write all, sync."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Atomically, and sync the directory."""
        ...

    def remove(self, path: Path) -> None:
        """No error when it is gone."""
        ...


class DiskFiles:
    """The real ones. Every method raises OSError."""

    def names(self, directory: Path) -> list[str]:
        try:
            return [path.name for path in directory.iterdir()]
        except FileNotFoundError:
            return []

    def read(self, path: Path, limit: int) -> bytes:
        with path.open("rb") as file:
            return file.read(limit)

    def write(self, path: Path, raw: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)
        directory = os.open(new.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    serial: int
    version: Version
    name: str


class DiskStore:
    """`LastKnownGood` in a directory that belongs to one edge."""

    def __init__(self, directory: Path, *, files: Files | None = None) -> None:
        self._directory = directory
        self._files = files or DiskFiles()
        self._writing: asyncio.Future[None] | None = None
        self._damaged: set[str] = set()

    async def recall(self) -> Recalled:
        """Reads in this thread: an edge that starts has nothing else to do."""
        kept: list[Kept] = []
        damaged: list[str] = []
        seen = NO_VERSION
        try:
            entries = self._entries()
        except OSError as error:
            return Recalled((), NO_VERSION, (f"{self._directory}: {error.strerror}",))
        for entry in entries:
            seen = max(seen, entry.version)
            try:
                read = _unpack(self._files.read(self._directory / entry.name, MAX_BYTES + 1))
            except (OSError, ValueError) as error:
                damaged.append(f"{entry.name}: {error}")
                self._damaged.add(entry.name)
            else:
                kept.append(read)
                seen = max(seen, read.seen)
        return Recalled(tuple(kept), seen, tuple(damaged))

    async def keep(self, kept: Kept) -> None:
        """In a thread, within `WRITE_S`. A write that hangs goes on hanging and refuses the next one
        until it ends: a dead disk holds one thread, not one for each decision."""
        if self._writing is not None and not self._writing.done():
            raise StoreError("the write before this one has not ended")
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._keep, kept)
        self._writing.add_done_callback(_consume)
        try:
            async with asyncio.timeout(WRITE_S):
                await asyncio.shield(self._writing)
        except TimeoutError:
            raise StoreError(f"no answer from the disk for {WRITE_S:g} s") from None
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from None

    def _keep(self, kept: Kept) -> None:
        raw = _pack(kept)
        if len(raw) > MAX_BYTES:
            raise StoreError(f"{len(raw)} bytes are more than {MAX_BYTES}")
        entries = self._entries()
        self._remove_temporary()
        serial = entries[0].serial + 1 if entries else 1
        path = self._directory / f"lkg-{serial:06d}-{kept.version}.json"
        temporary = path.with_name(f"{path.name}{TEMPORARY}")
        try:
            self._files.write(temporary, raw)
            self._files.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                self._files.remove(temporary)
            raise
        good = [entry for entry in entries if entry.name not in self._damaged]
        for entry in {*good[GENERATIONS - 1 :], *(e for e in entries if e.name in self._damaged)}:
            self._files.remove(self._directory / entry.name)
        self._damaged.clear()

    def _entries(self) -> list[_Entry]:
        """The newest first."""
        matches = (_NAME.fullmatch(name) for name in self._files.names(self._directory))
        entries = [_Entry(int(m[1]), Version(int(m[2]), int(m[3])), m[0]) for m in matches if m]
        return sorted(entries, reverse=True)

    def _remove_temporary(self) -> None:
        for name in self._files.names(self._directory):
            if name.startswith("lkg-") and name.endswith(TEMPORARY):
                self._files.remove(self._directory / name)


def _pack(kept: Kept) -> bytes:
    sections = (kept.config, kept.head or b"", *kept.documents)
    index = {
        "version": str(kept.version),
        "seen": str(kept.seen),
        "lengths": [len(section) for section in sections],
    }
    body = b"\n".join((canonical_json(index), *sections, b""))
    return _first_line(body) + body


def _unpack(raw: bytes) -> Kept:
    """Raises ValueError, which says how the file is damaged."""
    if len(raw) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES} bytes")
    line, end, body = raw.partition(b"\n")
    # Compared as a whole, so that no byte of the file can change unnoticed, not even in this line.
    if not end or line + end != _first_line(body):
        raise ValueError("does not have the length and hash that its first line states")
    line, _, rest = body.partition(b"\n")
    try:
        index = json.loads(line)
        sections: list[bytes] = []
        at = 0
        for length in index["lengths"]:
            sections.append(rest[at : at + length])
            at += length + 1
        config, head, *documents = sections
        return Kept(
            config=config,
            head=head or None,
            documents=tuple(documents),
            version=Version.parse(index["version"]),
            seen=Version.parse(index["seen"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is of a form this release does not know: {error!r}") from None


def _first_line(body: bytes) -> bytes:
    return canonical_json({"leeward_lkg": FORMAT, "bytes": len(body), "sha256": sha256_hex(body)}) + b"\n"


def _consume(writing: asyncio.Future[None]) -> None:
    """A write that fails after its deadline was already reported as failed."""
    if not writing.cancelled():
        writing.exception()
