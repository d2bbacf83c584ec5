"""Rows 12, 13 and 32 of the fault table: buses that die or hang, and connections that are dead without a word."""

import time

import psutil
import pytest
from fault_rows import Rows
from local_stack import seconds_since, wait_for
from sightings import leader_of, removals, silent, watch_removals
from traffic import Traffic, VersionLog
from wired_stack import CONT, KILL, STOP, WiredStack

pytestmark = pytest.mark.slow

NOTICED_S = 15.0
STREAM = "edge to its replica"
GROWTH_MB = 16.0
"""What a process may grow by in half a minute without its bus: events not sent are replaced, not kept."""


def rss_mb(stack: WiredStack, *names: str) -> dict[str, float]:
    records = stack.processes()
    return {name: psutil.Process(records[name]["pid"]).memory_info().rss / 2**20 for name in names}


@pytest.mark.parametrize("fault", ["dead", "hanging"])
def test_a_regions_bus_is_lost(wired: WiredStack, row: Rows, fault: str) -> None:
    """Row 12: its observers fall silent, which is UNKNOWN; nothing is drained, nobody's memory grows, its edge
    follows over HTTP."""
    leader = leader_of(wired)
    region = next(each for each in wired.regions if each != leader["region"])
    watched = [f"prober-{region}", f"edge-{region}", *(f"control-plane-{each}" for each in wired.regions)]
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        time.sleep(3.0)
        before = rss_mb(wired, *watched)
        lost_at = wired.send(f"bus-{region}", KILL if fault == "dead" else STOP)
        wait_for("its silence to be noticed", lambda: silent(wired, f"prober-{region}"), timeout_s=30)
        noticed_s = seconds_since(lost_at)
        drained = watch_removals(wired, for_s=25.0)
        grown = {name: mb - before[name] for name, mb in rss_mb(wired, *watched).items()}
        edge = wired.edge(region)
    if fault == "hanging":
        wired.send(f"bus-{region}", CONT)
    worst = max(grown, key=lambda name: grown[name])
    row(
        12,
        f"a region's bus {fault} for 30 s: wrong drains",
        f"{len(drained)}, UNKNOWN after {noticed_s:.1f} s, edge {edge and edge['mode']}, memory at most "
        f"+{grown[worst]:.1f} MB ({worst}), edge errors {len(traffic.failed())} of {len(traffic.answers)}",
        limit=f"0, +{GROWTH_MB:.0f} MB, 0 errors",
        drains=len(drained),
        noticed_s=noticed_s,
        grown_mb=grown[worst],
    )
    assert not drained
    assert edge is not None
    assert edge["mode"] == "FRESH"
    assert grown[worst] <= GROWTH_MB
    assert not traffic.failed()
    assert not versions.falls()


def test_a_consumer_is_stuck(wired: WiredStack, row: Rows) -> None:
    """Row 13: a fetch that is never answered, on a connection that never ends, is given up; reading goes on."""
    leader = leader_of(wired)
    region = next(each for each in wired.regions if each != leader["region"])
    seen = wired.metric(leader["region"], "events_total", bus=region)
    assert seen, "it reads that bus"
    wired.set("half_open", f"{leader['id']}>bus-{region}")
    stuck_at = time.monotonic()
    time.sleep(0.5)
    seen = wired.metric(leader["region"], "events_total", bus=region) or 0.0
    wait_for(
        "it to read again",
        lambda: (wired.metric(leader["region"], "events_total", bus=region) or 0.0) > seen,
        timeout_s=40,
    )
    stuck_s = seconds_since(stuck_at)
    row(
        13,
        "consumer stuck on a dead connection: reads again after",
        f"{stuck_s:.1f} s, removed meanwhile {len(removals(wired))}",
        limit=f"{NOTICED_S:.0f} s, 0",
        stuck_s=stuck_s,
    )
    assert stuck_s <= NOTICED_S
    assert not removals(wired)


def test_half_open_links_are_noticed(wired: WiredStack, row: Rows) -> None:
    """Row 32: every connection of a region's processes and of the leader is dead without a word, as after a
    firewall forgot them; each process opens new ones in time, and nobody's traffic suffers."""
    leader = leader_of(wired)
    region = next(each for each in wired.regions[:-1] if each != leader["region"])
    parties = {
        "leader to etcd": f"{leader['id']}>etcd-",
        "follower to etcd": f"control-plane-{region}>etcd-",
        "leader to a bus": f"{leader['id']}>bus-{region}",
        "edge to its bus": f"edge-{region}>bus-",
        "prober to its bus": f"prober-{region}>bus-",
    }
    groups = {
        party: [link for name, link in wired.links.items() if name.startswith(prefix)]
        for party, prefix in parties.items()
    }
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        accepted = {
            party: sum(each.counts()["accepted"] for each in links) for party, links in groups.items()
        }
        followed = wired.edge(region)
        assert followed is not None
        for prefix in (*parties.values(), f"edge-{region}>control-plane-"):
            wired.set("half_open", prefix)
        begun = time.monotonic()
        noticed: dict[str, float] = {}

        def all_noticed() -> bool:
            for party, links in groups.items():
                now = sum(each.counts()["accepted"] for each in links)
                if party not in noticed and now > accepted[party]:
                    noticed[party] = seconds_since(begun)
            # Its acks go by connections of their own, so new ones say nothing of the stream.
            edge = wired.edge(region)
            if STREAM not in noticed and edge is not None and edge["stream"] != followed["stream"]:
                noticed[STREAM] = seconds_since(begun)
            return len(noticed) == len(groups) + 1

        late = ""
        try:
            wait_for("every party to open new connections", all_noticed, timeout_s=40)
        except AssertionError:
            late = ", ".join(sorted({*groups, STREAM} - noticed.keys()))
        wait_for("all well again", wired.well, timeout_s=40, poll_s=0.2)
        whole_s = seconds_since(begun)
    shown = ", ".join(f"{party} {after:.1f} s" for party, after in sorted(noticed.items()))
    row(
        32,
        "connections half open: noticed by",
        f"{shown}{f', NEVER {late}' if late else ''}; all well after {whole_s:.1f} s, "
        f"edge errors {len(traffic.failed())} of {len(traffic.answers)}",
        limit=f"{NOTICED_S:.0f} s",
        **{party.replace(" ", "_"): after for party, after in noticed.items()},
    )
    assert not late
    assert max(noticed.values()) <= NOTICED_S
    assert not traffic.failed()
    assert not versions.falls()
