"""Rows 27, 28 and 30 of the fault table: decisions nobody should follow, orders nobody should give, clocks that lie."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from fault_rows import Rows
from local_stack import LEEWARD, LocalStack, seconds_since, wait_for
from on_the_bus import read_bus, write_bus, write_large
from sightings import entries_of, leader_of, removals
from traffic import Traffic, VersionLog
from wired_stack import WiredStack

from shared import topics
from shared.vocabulary.base import canonical_json, sha256_hex

HOUR_S = 3600.0
Forge = Callable[[dict[str, Any]], Any]


def each_region(document: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> None:
    for region in document["regions"].values():
        change(region)


def drain_all(document: dict[str, Any]) -> None:
    """Nobody may serve, and nobody is said to be why."""

    def drain(region: dict[str, Any]) -> None:
        for tier in region["tiers"]:
            tier["targets"], tier["share_permille"] = [], 0
        region["shed_permille"] = 1000

    each_region(document, drain)


def zero_weights(document: dict[str, Any]) -> None:
    """A share of 1000 for targets that all weigh nothing."""

    def zero(region: dict[str, Any]) -> None:
        for tier in region["tiers"]:
            for target in tier["targets"]:
                target["weight_permille"] = 0

    each_region(document, zero)


def nan_weights(document: dict[str, Any]) -> None:
    def nan(region: dict[str, Any]) -> None:
        for tier in region["tiers"]:
            for target in tier["targets"]:
                target["weight_permille"] = float("nan")

    each_region(document, nan)


def many_rows(document: dict[str, Any]) -> None:
    """10^5 targets in every tier."""

    def fill(region: dict[str, Any]) -> None:
        rows = [{"id": f"t{number}", "weight_permille": 1} for number in range(100_000)]
        region["tiers"][0]["targets"] = rows

    each_region(document, fill)


def strangers(document: dict[str, Any]) -> None:
    """Targets that the fleet does not have."""

    def rename(region: dict[str, Any]) -> None:
        for tier in region["tiers"]:
            for target in tier["targets"]:
                target["id"] = f"nobody-{target['id']}"

    each_region(document, rename)


FORGERIES: Mapping[str, Forge] = {
    "drains all": drain_all,
    "zero weights": zero_weights,
    "NaN weights": nan_weights,
    "10^5 rows": many_rows,
    "unknown targets": strangers,
}


def forged(stack: LocalStack, forge: Forge, beat: dict[str, Any]) -> tuple[bytes, bytes]:
    """A document for route chat that comes next, and the Beat that states it, as the leader would write them."""
    document = stack.documents()["chat"]
    document["seq"] = beat["head_seq"] + 1
    forge(document)
    raw = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    head = {
        "schema_version": 1,
        "generation": beat["generation"],
        "seq": document["seq"],
        "config_version": beat["config_version"],
        "routes": {**beat["routes"], "chat": [document["seq"], sha256_hex(raw)]},
    }
    stated = {
        **beat,
        "beat": beat["beat"] + 1,
        "head_seq": head["seq"],
        "head_sha": sha256_hex(canonical_json(head)),
        "routes": head["routes"],
        "sent_at": datetime.now(UTC).isoformat(),
    }
    return raw, json.dumps(stated).encode()


def newest_beat(stack: LocalStack, region: str) -> dict[str, Any]:
    port = stack.port_base + 400 + stack.regions.index(region)
    beats = [json.loads(record.value) for record in read_bus(port, [topics.BEATS]) if record.value]
    return max(beats, key=lambda beat: (beat["generation"], beat["epoch"], beat["beat"]))


@pytest.mark.slow
def test_decisions_nobody_should_follow(stack: LocalStack, row: Rows) -> None:
    """Row 27: an edge refuses each as a whole and says so; it serves on by what it had, or by what the leader says
    next. (What the control plane refuses before it commits: `tests/unit/control_plane/test_inspect.py`.)"""
    region = stack.regions[1]
    port = stack.port_base + 400 + stack.regions.index(region)
    used, refused = stack.used(), {}
    with Traffic(stack, (region,)) as traffic, VersionLog(stack) as versions:
        for name, forge in FORGERIES.items():
            before = _refusals(stack, region)
            document, beat = forged(stack, forge, newest_beat(stack, region))
            write_large(port, [(topics.DECISIONS, b"chat", document), (topics.BEATS, b"forged", beat)])
            wait_for(
                f"{name}: the edge refuses it",
                lambda before=before: _refusals(stack, region) > before,  # type: ignore[misc]
                timeout_s=10,
            )
            refused[name] = (stack.edge(region) or {}).get("refused", {})
        old = stack.documents()["chat"]
        before = _refusals(stack, region)
        old["seq"] -= 1
        write_bus(port, [(topics.DECISIONS, b"chat", json.dumps(old).encode())])
        wait_for("an older one is refused", lambda: _refusals(stack, region) > before, timeout_s=10)
        time.sleep(0.5)
    names = [*FORGERIES, "an older version"]
    row(
        27,
        f"decisions that nobody should follow ({', '.join(names)}): refused by the edge",
        f"{len(refused) + 1} of {len(names)}, edge errors {len(traffic.failed())} of {len(traffic.answers)}",
        limit="all, 0 errors",
        refused=len(refused) + 1,
    )
    assert stack.used() == used
    assert not traffic.failed()
    assert not versions.falls()


def _refusals(stack: LocalStack, region: str) -> int:
    edge = stack.edge(region)
    return sum((edge or {}).get("refused", {}).values())


@pytest.mark.slow
def test_the_last_healthy_region_is_drained(stack: LocalStack, row: Rows) -> None:
    """Row 28: refused unless forced, also when two people ask two replicas for the last two at the same moment."""
    first, *last_two = stack.regions

    def drain(region: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = [
            "drain",
            region,
            "--for",
            "5m",
            "--reason",
            "row 28",
            *more,
            "--url",
            stack.plane_url(region),
        ]
        return subprocess.run([LEEWARD, *words], capture_output=True, text=True, timeout=60)

    try:
        with Traffic(stack, stack.regions) as traffic:
            assert drain(first).returncode == 0
            with ThreadPoolExecutor() as people:
                told = dict(zip(last_two, people.map(drain, last_two), strict=True))
            wait_for("the drains to be decided", lambda: len(regions_used(stack)) == 1, timeout_s=20)
        refused = [region for region, done in told.items() if done.returncode == 1]
        forced = drain(refused[0], "--force") if refused else None
        if forced is not None:
            wait_for("the forced one to be decided", lambda: not stack.used(), timeout_s=20)
    finally:
        for region in stack.regions:
            stack.leeward("undrain", region)
    row(
        28,
        "the last two healthy regions drained at the same moment on two replicas: refused",
        f"{len(refused)} of 2, forced: exit code {forced.returncode if forced else '-'}, "
        f"edge errors before that {len(traffic.failed())} of {len(traffic.answers)}",
        limit="1, forced 0, 0 errors",
        refused=len(refused),
    )
    assert len(refused) == 1, {region: done.stderr for region, done in told.items()}
    assert forced is not None
    assert forced.returncode == 0, forced.stderr
    assert not traffic.failed()


def regions_used(stack: LocalStack) -> set[str]:
    """Where the targets stand that any route may use."""
    return {target.partition("-")[2] for target in stack.used()}


@pytest.mark.slow
@pytest.mark.parametrize("offset_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_clocks_lie(wired: WiredStack, row: Rows, offset_s: float) -> None:
    """Row 30: the wall clocks of the leader, of an edge and of a prober step by an hour. Leases, freshness and
    staleness count monotonic time, so nothing expires."""
    leader = leader_of(wired)
    region = next(each for each in wired.regions if each != leader["region"])
    before = len(entries_of(wired))
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        for process in (leader["id"], f"edge-{region}", f"prober-{region}"):
            wired.arm(process, "clock-offset", str(offset_s))
        stepped_at = time.monotonic()
        stale: set[str] = set()
        drained: set[str] = set()
        while seconds_since(stepped_at) < 20.0:
            for each in wired.regions:
                edge = wired.edge(each)
                if edge is None or edge["mode"] != "FRESH":
                    stale.add(each)
            drained |= set(removals(wired))
            time.sleep(0.2)
        after = leader_of(wired)
    row(
        30,
        f"wall clocks of leader, edge and prober {'+' if offset_s > 0 else '-'}1 h: wrong expiries",
        f"{len(stale) + len(drained) + (after != leader)} (edges not FRESH {len(stale)}, drained {len(drained)}, "
        f"leader changes {int(after != leader)}), decisions {len(entries_of(wired)) - before}, "
        f"edge errors {len(traffic.failed())}",
        limit="0",
        wrong=len(stale) + len(drained),
    )
    assert not stale
    assert not drained
    assert after == leader
    assert not traffic.failed()
    assert not versions.falls()
