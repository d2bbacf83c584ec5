"""What a restore writes: from what a backup holds and what stands, to records.

Nothing goes back that anybody has seen go forward: the generation rises above all that were seen, and
the fleet comes under a version that nobody has passed. Audit entries that stand here keep their
numbers; those of the backup that are not among them follow, so that no entry is lost on either side.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from control_plane.core.backup import Damaged
from shared import keys
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.drill import Drill
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands where it is restored to, and what was seen of its edges."""

    generation: int
    """The greatest of etcd's and of any ack or Beat."""
    config_version: int
    """The same."""
    audit: Mapping[str, bytes]
    """Entries by key."""
    audited: int
    orders: frozenset[str]
    """Keys of the overrides and rollouts on record."""
    decided: bool
    """Whether there is a head: what edges are told at this moment."""
    drills: frozenset[str] = frozenset()
    """Keys of the drills and their schedules on record: they stay as they are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written, in this order."""

    generation: int
    config_version: int
    fleet: Fleet
    blobs: Mapping[str, bytes]
    """By hash."""
    histories: Mapping[str, bytes] = field(default_factory=dict)
    """Log, versions, audit, drills: no decision rests on them."""
    in_force: Mapping[str, bytes] = field(default_factory=dict)
    """Orders, and the head and memory where none stand: to be written in one transaction with generation
    and configuration."""
    deletes: tuple[str, ...] = ()
    """Orders that stand and are not in the backup."""
    audited: int = 0
    """The last number given, after the backup's entries."""


def planned(records: Mapping[str, bytes], standing: Standing, *, now: datetime) -> Plan:
    """The writes that put `records` in force on `standing`. Raises Damaged where the backup has no
    configuration that this release can read.

    A head that stands is kept, with its memory: it says what edges are told at this moment, and the
    leader moves on from there. Overrides that have ended are left out, and a rollout that runs begins its
    step anew: what happened since it was backed up is no trial.
    """
    histories = {
        key: value
        for key, value in records.items()
        if key.startswith((keys.DECISIONS_LOG, keys.CONFIG_VERSIONS))
    }
    entries, audited = _audit(records, standing)
    orders = {
        key: _anew(value, now) if key.startswith(keys.ROLLOUTS) else value
        for key, value in records.items()
        if key.startswith(keys.ROLLOUTS) or (key.startswith(keys.OVERRIDES) and _holds(value, now))
    }
    course = {
        key: records[key]
        for key in (keys.DECISIONS_HEAD, keys.DECISIONS_MEMORY)
        if key in records and not standing.decided
    }
    return Plan(
        generation=max(standing.generation, *_generations(records)) + 1,
        config_version=max(standing.config_version, *_config_versions(records)) + 1,
        fleet=_fleet(records),
        blobs={
            key.removeprefix(keys.BLOBS): value
            for key, value in records.items()
            if key.startswith(keys.BLOBS)
        },
        histories={**histories, **_drills(records, standing, now), **entries},
        in_force={**orders, **course},
        deletes=tuple(sorted(standing.orders - orders.keys())),
        audited=audited,
    )


def _audit(records: Mapping[str, bytes], standing: Standing) -> tuple[Mapping[str, bytes], int]:
    """The backup's entries that do not stand here, under the next numbers."""
    known = set(standing.audit.values())
    # A restore that was cut short has left entries behind a number that was never raised.
    number = max(standing.audited, *(_entry_number(key) for key in standing.audit), 0)
    found: dict[str, bytes] = {}
    for key in sorted(key for key in records if key.startswith(keys.AUDIT)):
        if records[key] in known:
            continue
        try:
            entry = AuditEntry.model_validate_json(records[key])
        except ValidationError:
            continue
        number = max(number + 1, entry.n if not standing.audit else 0)
        found[keys.audit(number)] = entry.model_copy(update={"n": number}).canonical()
    return found, number


def _drills(records: Mapping[str, bytes], standing: Standing, now: datetime) -> Mapping[str, bytes]:
    """The backup's drills and schedules that do not stand here. One that was under way is over: its runner
    went with the fleet that was backed up. No claim comes back, for it has no lease."""
    return {
        key: _over(value, now)
        for key, value in records.items()
        if key.startswith(keys.DRILLS) and key != keys.DRILL_ACTIVE and key not in standing.drills
    }


def _over(value: bytes, now: datetime) -> bytes:
    """A drill, ended; anything else as it is."""
    try:
        drill = Drill.model_validate_json(value)
    except ValidationError:
        return value
    if drill.over:
        return value
    note = "restored from a backup: what became of it is not known"
    return drill.model_copy(update={"state": "ABORTED", "ended_at": now, "note": note}).canonical()


def _entry_number(key: str) -> int:
    """`audit/000000000012` -> 12; 0 for what is no entry's key."""
    digits = key.removeprefix(keys.AUDIT)
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _fleet(records: Mapping[str, bytes]) -> Fleet:
    sha = _field(records.get(keys.CONFIG_HEAD), "sha")
    raw = records.get(keys.blob(str(sha)))
    if raw is None:
        raise Damaged("it holds no configuration")
    try:
        return FleetConfig.from_wire(raw).fleet
    except ValidationError as error:
        raise Damaged(
            f"its configuration cannot be read by this release: {error.error_count()} faults"
        ) from None


def _generations(records: Mapping[str, bytes]) -> Sequence[int]:
    """All that it tells of."""
    found = [_number(records.get(keys.GENERATION)), _field(records.get(keys.DECISIONS_HEAD), "generation")]
    logged = [key.removeprefix(keys.DECISIONS_LOG) for key in records if key.startswith(keys.DECISIONS_LOG)]
    found += [int(name.partition(".")[0]) for name in logged if name.partition(".")[0].isdigit()]
    return [number for number in found if isinstance(number, int)]


def _config_versions(records: Mapping[str, bytes]) -> Sequence[int]:
    heads = [
        value
        for key, value in records.items()
        if key in (keys.CONFIG_HEAD, keys.DECISIONS_HEAD) or key.startswith(keys.CONFIG_VERSIONS)
    ]
    return [
        number for number in (_field(head, "config_version") for head in heads) if isinstance(number, int)
    ]


def _holds(value: bytes, now: datetime) -> bool:
    try:
        return Override.model_validate_json(value).holds(now)
    except ValidationError:
        return False


def _anew(value: bytes, now: datetime) -> bytes:
    """A running rollout, its step begun at `now`; anything else as it is."""
    try:
        rollout = Rollout.model_validate_json(value)
    except ValidationError:
        return value
    if rollout.state != "RUNNING":
        return value
    return rollout.model_copy(update={"step_since": now}).canonical()


def _field(value: bytes | None, name: str) -> Any:
    try:
        content = json.loads(value or b"{}")
    except (ValueError, RecursionError):
        return None
    return content.get(name) if isinstance(content, dict) else None


def _number(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() else 0
