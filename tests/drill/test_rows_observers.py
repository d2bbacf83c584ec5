"""Rows 14, 16 and 17 of the fault table: what observers may lose or say without anything being taken out, and what is
taken out rightly. Row 15 is `test_survival.py`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fault_rows import Rows
from local_stack import LocalStack, seconds_since, wait_for
from sightings import silent, watch_removals
from traffic import Traffic, VersionLog
from wired_stack import KILL, STOP, WiredStack

pytestmark = pytest.mark.slow

ALL_PROVIDERS = ("alpha", "beta")
FLAP_S = 300.0
SETTLED_MINUTES = 3
"""By then the hold-down has doubled to two minutes: the first flaps are let back soon, for most targets flap once."""


def targets_of(stack: LocalStack, *providers: str) -> list[str]:
    return [f"{provider}-{region}" for provider in providers for region in stack.regions]


@contextmanager
def faults_on(stack: LocalStack, *targets: str, for_s: float = 300.0, **faults: Any) -> Iterator[float]:
    """These faults on the simulators' panels; gives when they began. They undo themselves."""
    records = stack.processes()
    panels = [f"{records[target]['admin_url']}/faults" for target in targets]
    began = time.monotonic()
    for panel in panels:
        stack.http.put(panel, json={**faults, "for_s": for_s}).raise_for_status()
    try:
        yield began
    finally:
        for panel in panels:
            stack.http.delete(panel).raise_for_status()


def test_a_prober_is_cut_from_its_bus(wired: WiredStack, row: Rows) -> None:
    """Row 14: its silence is UNKNOWN, and drains nothing."""
    region = wired.regions[0]
    with Traffic(wired, wired.regions) as traffic:
        wired.set("drop", f"prober-{region}>bus-")
        cut_at = time.monotonic()
        wait_for("its silence to be noticed", lambda: silent(wired, f"prober-{region}"), timeout_s=30)
        noticed_s = seconds_since(cut_at)
        drained = watch_removals(wired, for_s=8.0)
    row(
        14,
        "prober cut from its bus: false drains",
        f"{len(drained)}, silence noticed after {noticed_s:.1f} s, edge errors {len(traffic.failed())}",
        limit="0",
        drains=len(drained),
        noticed_s=noticed_s,
    )
    assert not drained
    assert not traffic.failed()


def test_a_prober_is_cut_from_the_targets(wired: WiredStack, row: Rows) -> None:
    """Row 14: one vantage that finds everything dead, against two that do not, is set aside and named."""
    region = wired.regions[-1]
    prober = wired.enclosures.get(f"prober-{region}")
    if prober is None:
        pytest.skip("no network namespaces here")
    bus = wired.processes()[f"bus-{region}"]["ports"]["listen"]
    links = [link for port, link in prober.outward.items() if port != bus]
    with Traffic(wired, wired.regions) as traffic:
        for link in links:
            link.set("drop")
        cut_at = time.monotonic()

        def set_aside() -> list[str]:
            return list((wired.ask_plane("/v1/health") or {}).get("set_aside", []))

        wait_for("it to be set aside", set_aside, timeout_s=30)
        aside_s = seconds_since(cut_at)
        named = set_aside()
        drained = watch_removals(wired, for_s=8.0)
    row(
        14,
        "prober cut from all targets: false drains",
        f"{len(drained)}, set aside ({', '.join(named)}) after {aside_s:.1f} s, edge errors {len(traffic.failed())}",
        limit="0",
        drains=len(drained),
        aside_s=aside_s,
    )
    assert named == [region]
    assert not drained
    assert not traffic.failed()


@pytest.mark.timeout(FLAP_S + 120)
def test_a_flapping_target(wired: WiredStack, row: Rows) -> None:
    """Row 16: the hold-down of a target that comes and goes every few seconds doubles, until it moves in decisions
    once a minute at most; clients notice nothing from the beginning."""
    victim = f"alpha-{wired.regions[1]}"
    moves: list[float] = []
    was = True
    flap = {"up_s": 6.0, "down_s": 4.0}
    with (
        Traffic(wired, wired.regions) as traffic,
        faults_on(wired, victim, for_s=FLAP_S + 60, flap=flap) as began,
    ):
        while seconds_since(began) < FLAP_S:
            now = victim in wired.used()
            if now is not was:
                moves.append(seconds_since(began))
                was = now
            time.sleep(0.1)
    minutes = [sum(60 * each <= at < 60 * (each + 1) for at in moves) for each in range(int(FLAP_S // 60))]
    settled = minutes[SETTLED_MINUTES:]
    rate = sum(settled) / len(settled)
    row(
        16,
        "target flapping (4 s down, 6 s up): transitions",
        f"{rate:.1f} a minute once its hold-down has grown ({'/'.join(map(str, minutes))} in the first "
        f"{len(minutes)} minutes), edge errors {len(traffic.failed())} of {len(traffic.answers)}",
        limit="1 a minute",
        settled_per_minute=rate,
        first_minute=minutes[0],
    )
    assert not traffic.failed()
    assert rate <= 1.0


def test_everything_reports_down_at_once(wired: WiredStack, row: Rows) -> None:
    """Row 17: what would leave no target to any route is not believed by the decision: nothing is taken out for good,
    and traffic is served as soon as anything lives."""
    targets = targets_of(wired, *ALL_PROVIDERS)
    with VersionLog(wired) as versions:
        with faults_on(wired, *targets, refuse=True):
            down_at = time.monotonic()
            wait_for("everything DOWN", lambda: set(wired.verdicts().values()) == {"DOWN"}, timeout_s=20)
            empty = _empty_routes(wired, for_s=5.0)
        back_at = time.monotonic()
        wait_for("an answer", lambda: wired.chat(wired.regions[0]).status_code == 200, timeout_s=20)
        served_s = seconds_since(back_at)
    row(
        17,
        "every target reports DOWN at once: routes left without a target",
        f"{len(empty)} in {back_at - down_at:.0f} s, served {served_s:.2f} s after their return",
        limit="removed to nothing 0",
        empty=len(empty),
        served_s=served_s,
    )
    assert not empty
    assert not versions.falls()


def _empty_routes(stack: LocalStack, *, for_s: float) -> set[str]:
    """`route/region` that a decision in force gives no target at all, at any moment."""
    seen: set[str] = set()
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        for route, document in stack.documents().items():
            for region, share in document["regions"].items():
                if not any(tier["targets"] for tier in share["tiers"]):
                    seen.add(f"{route}/{region}")
        time.sleep(0.1)
    return seen


def test_most_vantages_fall_silent(wired: WiredStack, row: Rows) -> None:
    """Row 17: with two of three probers gone, and one target really failing for the last one, nothing is removed."""
    speaking, *quiet = wired.regions
    with Traffic(wired, wired.regions) as traffic:
        for region in quiet:
            wired.send(f"prober-{region}", STOP)
        stopped_at = time.monotonic()
        wait_for(
            "the silence to be noticed",
            lambda: all(silent(wired, f"prober-{region}") for region in quiet),
            timeout_s=30,
        )
        noticed_s = seconds_since(stopped_at)
        drained = watch_removals(wired, for_s=10.0)
    row(
        17,
        "two of three vantages fall silent: removed",
        f"{len(drained)}, noticed after {noticed_s:.1f} s, edge errors {len(traffic.failed())}",
        limit="0",
        removed=len(drained),
        noticed_s=noticed_s,
    )
    assert speaking
    assert not drained
    assert not traffic.failed()


def test_passive_data_contradicts_probes(wired: WiredStack, row: Rows) -> None:
    """Row 17: probes of most targets fail while live traffic to them goes well: nothing is removed."""
    targets = targets_of(wired, "alpha")
    with Traffic(wired, wired.regions) as traffic:
        time.sleep(3.0)  # traffic that can contradict
        with faults_on(wired, *targets, status={"code": 500}, only={"paths": ["/v1/models"]}):
            drained = watch_removals(wired, for_s=12.0)
            verdicts = wired.verdicts()
    down = [target for target in targets if verdicts.get(target) == "DOWN"]
    row(
        17,
        f"probes of {len(targets)} targets fail ({len(down)} DOWN) while live traffic to them goes well: removed",
        f"{len(drained)}, edge errors {len(traffic.failed())} of {len(traffic.answers)}",
        limit="0",
        removed=len(drained),
    )
    assert down, "the probes failed"
    assert not drained
    assert not traffic.failed()


def test_a_provider_of_most_targets_dies(wired: WiredStack, row: Rows) -> None:
    """Row 17: that is no reason to freeze: its traffic goes to the tier that lives, with no request failed."""
    targets = targets_of(wired, "alpha")
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        time.sleep(1.0)
        killed_at = max(wired.send(target, KILL) for target in targets)
        wait_for("decisions without it", lambda: not wired.used() & set(targets), timeout_s=20)
        decided_s = seconds_since(killed_at)
        wait_for("the edges to agree", wired.fresh, timeout_s=15)
        applied_s = seconds_since(killed_at)
        time.sleep(1.0)
    row(
        17,
        "a provider with half of all targets (the first tier) dies: fails over, decided after",
        f"{decided_s:.2f} s, applied {applied_s:.2f} s, edge errors {len(traffic.failed())} of {len(traffic.answers)}",
        limit="fails over, 0 errors",
        decided_s=decided_s,
        applied_s=applied_s,
        failed=len(traffic.failed()),
    )
    assert not traffic.failed()
    assert not versions.falls()
