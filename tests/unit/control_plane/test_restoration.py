"""What a restore writes: nothing goes back, no audit entry is lost."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.core.backup import Damaged
from control_plane.core.restoration import Plan, Standing, planned
from ops.local.fleet import local_fleet
from shared import keys
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import canonical_json, sha256_hex
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.rollout import Rollout, RolloutSpec

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CONFIG = canonical_json(FleetConfig(config_version=3, fleet=local_fleet()).model_dump(mode="json"))


def audited(n: int, subject: str = "config") -> bytes:
    return AuditEntry(
        n=n, at=NOW, author="ada", action="config.apply", subject=f"{subject} {n}", reason="because"
    ).canonical()


def override(name: str, *, hours: float) -> bytes:
    return Override(
        id=name,
        spec=OverrideSpec(kind="drain", region="us-east"),
        reason="r",
        author="ada",
        created_at=NOW - timedelta(hours=2),
        expires_at=NOW + timedelta(hours=hours),
    ).canonical()


def backup(**more: bytes) -> Mapping[str, bytes]:
    """At 4.9 with configuration 3, two audit entries and an override."""
    return {
        keys.CONFIG_HEAD: canonical_json({"config_version": 3, "sha": sha256_hex(CONFIG)}),
        keys.blob(sha256_hex(CONFIG)): CONFIG,
        keys.GENERATION: b"4",
        keys.DECISIONS_HEAD: canonical_json({"generation": 4, "seq": 9, "config_version": 3, "routes": {}}),
        keys.log_entry(4, 9): b"{}",
        keys.audit(1): audited(1),
        keys.audit(2): audited(2),
        keys.AUDIT_HEAD: b"2",
        keys.override("o1"): override("o1", hours=1),
        **more,
    }


def standing(**more: Any) -> Standing:
    fields = {
        "generation": 0,
        "config_version": 0,
        "audit": {},
        "audited": 0,
        "orders": frozenset(),
        "decided": False,
    }
    return Standing(**{**fields, **more})


def plan(records: Mapping[str, bytes] | None = None, **more: Any) -> Plan:
    return planned(records or backup(), standing(**more), now=NOW)


@pytest.mark.parametrize(("seen", "generation"), [(0, 5), (4, 5), (7, 8)])
def test_the_generation_rises_above_all_that_were_seen(seen: int, generation: int) -> None:
    """The backup's, etcd's, and every edge's."""
    assert plan(generation=seen).generation == generation


@pytest.mark.parametrize(("seen", "version"), [(0, 4), (3, 4), (12, 13)])
def test_the_fleet_comes_back_under_a_new_version(seen: int, version: int) -> None:
    """Edges would take an old number for a late message."""
    done = plan(config_version=seen)
    assert (done.config_version, done.fleet) == (version, local_fleet())


def test_into_an_empty_etcd_everything_comes_as_it_was() -> None:
    """Head, log, audit numbers, orders; the restore's own entry follows."""
    done = plan()
    assert {keys.DECISIONS_HEAD, keys.override("o1")} <= done.in_force.keys()
    assert done.histories[keys.audit(2)] == audited(2)
    assert keys.log_entry(4, 9) in done.histories
    assert (done.audited, done.deletes) == (2, ())


def test_a_head_that_stands_is_kept() -> None:
    """It says what edges are told at this moment."""
    assert keys.DECISIONS_HEAD not in plan(decided=True).in_force


def test_no_audit_entry_is_lost() -> None:
    """Those that stand keep their numbers, those of the backup that are not among them follow."""
    here = {keys.audit(1): audited(1), keys.audit(2): audited(2, "another")}
    done = plan(audit=here, audited=2)
    added = {key: value for key, value in done.histories.items() if key.startswith(keys.AUDIT)}
    assert added.keys() == {keys.audit(3)}
    entry = AuditEntry.model_validate_json(added[keys.audit(3)])
    assert (entry.n, entry.subject) == (3, "config 2")
    assert done.audited == 3


def test_a_restore_that_was_cut_short_is_not_written_over() -> None:
    """Its entries stand, and the number of the last one was never raised."""
    left = {keys.audit(1): audited(1), keys.audit(2): audited(2)}
    done = plan(audit=left, audited=0)
    assert not any(key.startswith(keys.AUDIT) for key in done.histories)
    assert done.audited == 2


def test_orders_are_those_of_the_backup_that_still_hold() -> None:
    """What was given since goes, what has expired does not come back."""
    records = backup(**{keys.override("o2"): override("o2", hours=-1)})
    done = plan(records, orders=frozenset({keys.override("o1"), keys.override("o7")}))
    assert keys.override("o2") not in done.in_force
    assert done.deletes == (keys.override("o7"),)


def test_a_backup_without_a_readable_fleet_is_refused() -> None:
    """Before anything is written."""
    for raw in (None, b"{}", b"\xff"):
        records = {key: value for key, value in backup().items() if not key.startswith(keys.BLOBS)}
        if raw is not None:
            records[keys.blob(sha256_hex(CONFIG))] = raw
        with pytest.raises(Damaged):
            plan(records)


def test_a_running_rollout_begins_its_step_anew() -> None:
    """The time since the backup is no bake time; one that has ended is as it was."""
    long_ago = NOW - timedelta(days=3)
    running = Rollout(
        id="ro-1",
        spec=RolloutSpec(route="chat", targets=("new",)),
        step_since=long_ago,
        created_at=long_ago,
        author="ada",
        reason="try it",
    )
    ended = running.model_copy(update={"id": "ro-2", "state": "PROMOTED"})
    records = {keys.rollout(each.id): each.canonical() for each in (running, ended)}
    plan = planned(backup(**records), standing(), now=NOW)
    restored = Rollout.model_validate_json(plan.in_force[keys.rollout("ro-1")])
    assert restored == running.model_copy(update={"step_since": NOW})
    assert plan.in_force[keys.rollout("ro-2")] == ended.canonical()
