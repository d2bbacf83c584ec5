"""The form of a backup: what a control plane knows, as lines that prove themselves.

    {"leeward_backup": 1, "version": "1.7", "head_sha": …, "since": null, …}      what it is
    {"key": "config/head", "sha256": …, "text": …}                                a record, and so on
    {"records": 41, "sha256": …}                                                  of all lines before

So a file that was cut short, changed or put together wrongly is known as such before anything is done
with it. A backup since a version holds what was recorded after that commit; it proves by the hash of
that commit's head that it goes on where the ones before it end. What is replaced in place (heads,
orders) is in each file whole, and the last file's word counts; histories and blobs add up.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, ValidationError

from shared import keys
from shared.vocabulary.base import Message, Sha256, Version, canonical_json, sha256_hex

SCHEMA = 1
HISTORIES = (keys.DECISIONS_LOG, keys.CONFIG_VERSIONS, keys.AUDIT, keys.BLOBS)
"""Prefixes whose records are written once; everything else is replaced in place."""


class Damaged(ValueError):
    """It must not be used; the message says which file, where and why."""


class Manifest(Message):
    """The first line."""

    leeward_backup: Annotated[int, Field(ge=1)] = SCHEMA
    at: AwareDatetime
    replica: str
    version: str
    """Of the head, `generation.seq`."""
    head_sha: Sha256 | None
    """None for 0.0."""
    generation: int
    config_version: int
    since: str | None = None
    """The commit after which its histories begin; None for a full backup."""
    since_sha: Sha256 | None = None
    """Of the head that this commit made."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One file, proven whole."""

    manifest: Manifest
    records: Mapping[str, bytes]
    """Value by key, relative to `/leeward/`."""

    @property
    def version(self) -> Version:
        """Of its head."""
        return Version.parse(self.manifest.version)


def encode(manifest: Manifest, records: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The lines, made as they are asked for."""
    writer = Writer(manifest)
    yield writer.first
    for key, value in records:
        yield writer.record(key, value)
    yield writer.last()


class Writer:
    """Makes the lines one by one, for records that arrive one by one."""

    def __init__(self, manifest: Manifest) -> None:
        self._hash = hashlib.sha256()
        self._count = 0
        self.first = self._line(manifest.model_dump(mode="json"))

    def record(self, key: str, value: bytes) -> bytes:
        """The line of one record."""
        self._count += 1
        return self._line({"key": key, "sha256": sha256_hex(value), **_carried(value)})

    def last(self) -> bytes:
        """The line that closes it."""
        return canonical_json({"records": self._count, "sha256": self._hash.hexdigest()}) + b"\n"

    def _line(self, content: Mapping[str, Any]) -> bytes:
        line = canonical_json(content) + b"\n"
        self._hash.update(line)
        return line


def decode(raw: bytes, *, name: str) -> tuple[Backup, ...]:
    """The backups in `raw`, one after another; `name` is how to call it. Raises Damaged."""
    found: list[Backup] = []
    rest = raw
    while rest:
        label = name if not found else f"{name}, part {len(found) + 1}"
        backup, rest = _one(rest, label)
        found.append(backup)
    if not found:
        raise Damaged(f"{name}: is empty")
    return tuple(found)


def chained(backups: Sequence[Backup]) -> Mapping[str, bytes]:
    """What a full backup and the ones since it say together, by key. Raises Damaged when they are no
    chain, or when a blob that a head or version names is in none of them."""
    first = backups[0].manifest
    if first.since is not None:
        raise Damaged(f"the first one begins after {first.since}: a full backup must come before it")
    merged = dict(backups[0].records)
    for number, (before, backup) in enumerate(pairwise(backups), start=2):
        _check_link(number, merged, before, backup)
        merged = {key: value for key, value in merged.items() if _is_history(key)} | dict(backup.records)
    missing = sorted(sha for sha in essential_blobs(merged) if keys.blob(sha) not in merged)
    if missing:
        raise Damaged(f"{len(missing)} blobs that its heads name are missing, {missing[0]} for one")
    return merged


def essential_blobs(records: Mapping[str, bytes]) -> set[str]:
    """Hashes of what must be there to work by it: documents of the head, memory, configurations."""
    head = _json(records.get(keys.DECISIONS_HEAD))
    named = {sha for _, sha in head.get("routes", {}).values()}
    for key, value in records.items():
        if key == keys.CONFIG_HEAD or key.startswith(keys.CONFIG_VERSIONS):
            named.add(_json(value).get("sha", ""))
    named.add(_json(records.get(keys.DECISIONS_MEMORY)).get("blob", ""))
    return named - {""}


def _one(raw: bytes, name: str) -> tuple[Backup, bytes]:
    """The backup that `raw` begins with, and what follows it."""
    first, at = _next(raw, 0, name, 1)
    manifest = _manifest(first, name)
    records: dict[str, bytes] = {}
    number = 1
    while True:
        number += 1
        begin = at
        line, at = _next(raw, at, name, number)
        if "records" in line:
            whole = line.get("sha256") == sha256_hex(raw[:begin]) and line["records"] == number - 2
            if not whole:
                raise Damaged(f"{name}: its last line does not match what is before it: it was changed")
            return Backup(manifest, records), raw[at:]
        key, value = _record(line, name, number)
        records[key] = value


def _next(raw: bytes, at: int, name: str, number: int) -> tuple[dict[str, Any], int]:
    end = raw.find(b"\n", at)
    if end < 0:
        raise Damaged(f"{name}: ends in line {number}, before its closing line: it was cut short")
    try:
        line = json.loads(raw[at:end])
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise Damaged(f"{name}: line {number} is no record of a backup: it was changed")
    return line, end + 1


def _manifest(line: Mapping[str, Any], name: str) -> Manifest:
    schema = line.get("leeward_backup")
    if not isinstance(schema, int):
        raise Damaged(f"{name}: is no backup: its first line does not say so")
    if schema > SCHEMA:
        raise Damaged(
            f"{name}: has form {schema}, and this release reads up to {SCHEMA}: use the release that wrote it"
        )
    try:
        manifest = Manifest.model_validate(line)
        Version.parse(manifest.version)
        Version.parse(manifest.since or "0.0")
    except (ValidationError, ValueError):
        raise Damaged(f"{name}: its first line does not say what it holds: it was changed") from None
    return manifest


def _record(line: Mapping[str, Any], name: str, number: int) -> tuple[str, bytes]:
    key = line.get("key")
    try:
        value = line["text"].encode() if "text" in line else base64.b64decode(line["base64"], validate=True)
    except (KeyError, ValueError, AttributeError, TypeError):
        value = None
    if not isinstance(key, str) or value is None or sha256_hex(value) != line.get("sha256"):
        raise Damaged(f"{name}: line {number}, {key!s:.80}: does not match its hash: it was changed")
    sha = key.removeprefix(keys.BLOBS)
    if sha != key and sha != line["sha256"]:
        raise Damaged(f"{name}: line {number}: blob {sha:.80} has another content than its name says")
    return key, value


def _check_link(number: int, merged: Mapping[str, bytes], before: Backup, backup: Backup) -> None:
    since = backup.manifest.since
    if since is None:
        raise Damaged(f"number {number} is a full backup: it goes first, or alone")
    entry = _json(merged.get(keys.log_entry(*Version.parse(since))))
    known = before.manifest.head_sha if since == before.manifest.version else entry.get("head_sha")
    if known is None or backup.version < before.version:
        raise Damaged(
            f"number {number} goes on after {since}, and the ones before it end at {before.manifest.version}: "
            "one is missing, or they are in the wrong order"
        )
    if known != backup.manifest.since_sha:
        raise Damaged(
            f"number {number} goes on after another {since} than the one before: not of one history"
        )


def _is_history(key: str) -> bool:
    return key.startswith(HISTORIES)


def _carried(value: bytes) -> dict[str, str]:
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _json(value: bytes | None) -> dict[str, Any]:
    """What a record of ours says; nothing where it is absent or none of ours."""
    if value is None:
        return {}
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
