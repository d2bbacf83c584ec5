"""Rows 5 and 8 to 11 of the fault table: what etcd, or the way to it, can do to the fleet. On the etcd of the wheel
and, where `make etcd` has built it, on a newer one."""

import base64
import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fault_rows import Rows
from local_stack import seconds_since, wait_for
from sightings import TTL_S, entries_of, leader_of, victim_of, without
from traffic import Traffic, VersionLog
from wired_stack import CONT, KILL, STOP, WiredStack

pytestmark = [pytest.mark.slow, pytest.mark.every_etcd]

MIB = bytes(1024 * 1024)


class Etcd:
    """One member's HTTP gateway, for what an operator's tools would do."""

    def __init__(self, stack: WiredStack, region: str) -> None:
        self._http = stack.http
        self._url = f"http://127.0.0.1:{stack.port_base + 500 + stack.regions.index(region)}/v3"

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer, an error included."""
        answer: dict[str, Any] = self._http.post(f"{self._url}/{path}", json=body, timeout=10.0).json()
        return answer

    def revision(self) -> int:
        return int(self.ask("kv/range", key=_text(b"/"))["header"]["revision"])

    def compact(self) -> None:
        self.ask("kv/compaction", revision=self.revision())

    def put(self, key: bytes, value: bytes) -> str:
        """Empty, or why not."""
        answer = self.ask("kv/put", key=_text(key), value=_text(value))
        return str(answer.get("error", "")) or str(answer.get("message", ""))

    def delete(self, first: bytes, end: bytes) -> None:
        self.ask("kv/deleterange", key=_text(first), range_end=_text(end))


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def role_of(stack: WiredStack, region: str) -> str | None:
    """What the region's replica says it is."""
    try:
        answer: dict[str, str] = stack.http.get(f"{stack.plane_url(region)}/v1/leader", timeout=1.0).json()
    except (httpx2.HTTPError, ValueError):
        return None
    return answer["role"]


def documents_of(stack: WiredStack, region: str) -> dict[str, Any]:
    """The version and documents that this replica holds."""
    try:
        answer = stack.http.get(f"{stack.plane_url(region)}/v1/decisions/current").json()
    except (httpx2.HTTPError, ValueError):
        return {}
    return {"version": answer["version"], "documents": answer["documents"]}


def version_of(stack: WiredStack) -> tuple[int, int]:
    """The newest version that any edge serves."""
    return max(_versions(stack), default=(0, 0))


def _versions(stack: WiredStack) -> list[tuple[int, int]]:
    edges = [edge for region in stack.regions if (edge := stack.edge(region))]
    return [
        (int(generation), int(seq)) for generation, seq in (edge["decision"].split(".") for edge in edges)
    ]


def test_the_leaders_link_to_etcd_is_cut(wired: WiredStack, row: Rows) -> None:
    """Row 5: alive but cut off, it stops before its lease can end, so that no two lead at any moment."""
    leader = leader_of(wired)
    others = [region for region in wired.regions if region != leader["region"]]
    stopped_s: float | None = None
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        wired.set("drop", f"{leader['id']}>etcd-")
        cut_at = time.monotonic()
        while True:
            if stopped_s is None and role_of(wired, leader["region"]) != "leader":
                stopped_s = seconds_since(cut_at)
            begun_s = seconds_since(cut_at)
            if any(role_of(wired, region) == "leader" for region in others):
                break
            assert begun_s < 20.0, "nobody leads"
            time.sleep(0.01)
        time.sleep(0.5)
    overlap_s = max(0.0, (stopped_s if stopped_s is not None else 99.0) - begun_s)
    row(
        5,
        f"leader's link to etcd cut (etcd {wired.etcd_runs}): stops leading after",
        f"{stopped_s:.2f} s, the next begins after {begun_s:.2f} s, overlap {overlap_s:.2f} s",
        limit=f"{TTL_S:.0f} s, overlap 0 s",
        stopped_s=stopped_s or 99.0,
        begun_s=begun_s,
        overlap_s=overlap_s,
    )
    assert stopped_s is not None
    assert stopped_s < TTL_S
    assert overlap_s == 0.0
    assert not traffic.failed()
    assert not versions.falls()


def test_a_transactions_reply_is_lost(wired: WiredStack, row: Rows) -> None:
    """Row 8: the leader reads back what became of its write, and does not write it again."""
    leader = leader_of(wired)
    before = len(entries_of(wired))
    victim = victim_of(wired, leader)
    wired.arm(leader["id"], "lose-reply")
    wired.send(victim, KILL)
    wait_for("the decision", lambda: without(wired, victim), timeout_s=20)
    time.sleep(2.0)
    entries = entries_of(wired)
    doubles = [
        entry["version"]
        for former, entry in itertools.pairwise(entries[before - 1 :])
        if plan_of(wired, former["version"]) == plan_of(wired, entry["version"])
    ]
    read_back = wired.metric(leader["region"], "read_backs_total") or 0.0
    row(
        8,
        f"transaction reply lost (etcd {wired.etcd_runs}): double commits",
        f"{len(doubles)} of {len(entries) - before}, read back {read_back:.0f}",
        limit="0",
        doubles=len(doubles),
    )
    assert not (wired.failpoints(leader["id"]) / "lose-reply").exists(), "the failpoint happened"
    assert len(entries) > before
    assert not doubles
    assert read_back >= 1


def plan_of(stack: WiredStack, version: str) -> dict[str, Any]:
    """What one commit decided, without its version: the same twice is a double commit."""
    report = wait_for(version, lambda: stack.ask_plane(f"/v1/decisions/{version}"), timeout_s=10)
    return {
        each["route"]: (each["regions"], each["excluded"], each["removed"]) for each in report["documents"]
    }


@pytest.mark.parametrize("fault", ["killed", "hanging", "partitioned"])
def test_one_etcd_member_is_lost(wired: WiredStack, row: Rows, fault: str) -> None:
    """Row 9: a member less, be it etcd's own leader, and nothing is to be seen of it."""
    last = wired.regions[-1]
    if fault == "partitioned":
        if f"etcd-{last}" not in wired.enclosures:
            pytest.skip("no network namespaces here")
        member = last
    else:
        member = wait_for("etcd's leader", wired.etcd_leader, timeout_s=10)
    leader, head = leader_of(wired), version_of(wired)
    was_leader = wired.etcd_leader() == member
    oldest_s = 0.0
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        if fault == "partitioned":
            wired.enclosures[f"etcd-{member}"].set("drop")
        else:
            wired.send(f"etcd-{member}", KILL if fault == "killed" else STOP)
        lost_at = time.monotonic()
        while seconds_since(lost_at) < 12.0:
            ages = [edge["beat_age_s"] for region in wired.regions if (edge := wired.edge(region))]
            oldest_s = max([oldest_s, *(age for age in ages if age is not None)])
            time.sleep(0.1)
    after = leader_of(wired)
    if fault == "hanging":
        wired.send(f"etcd-{member}", CONT)
    row(
        9,
        f"one etcd member {fault}{', etcd`s leader' if was_leader else ''} (etcd {wired.etcd_runs}):".replace(
            "`", "'"
        ),
        f"edge errors {len(traffic.failed())} of {len(traffic.answers)}, oldest Beat {oldest_s:.1f} s, "
        f"{'same leader' if after == leader else 'another leader'}",
        limit="0 errors, FRESH (30 s)",
        failed=len(traffic.failed()),
        oldest_beat_s=oldest_s,
    )
    assert not traffic.failed()
    assert not versions.falls()
    assert version_of(wired) == head, "nothing was decided because of it"
    assert oldest_s < 30.0


def test_etcds_quorum_is_lost(wired: WiredStack, row: Rows) -> None:
    """Row 9: decisions freeze, traffic does not, not even with a target dying meanwhile; both go on after."""
    leader, head = leader_of(wired), version_of(wired)
    members = [f"etcd-{region}" for region in wired.regions if region != leader["region"]]
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        for member in members:
            wired.send(member, KILL)
        time.sleep(2.0)
        victim = victim_of(wired, leader)
        wired.send(victim, KILL)
        time.sleep(10.0)
        frozen = version_of(wired)
        back_at = wired.start(*members)
        wait_for("the decision", lambda: without(wired, victim), timeout_s=45)
        decided_s = seconds_since(back_at)
    row(
        9,
        f"etcd's quorum lost for 12 s (etcd {wired.etcd_runs}): decisions meanwhile",
        f"{frozen[1] - head[1]}, edge errors {len(traffic.failed())} of {len(traffic.answers)}, "
        f"decides again {decided_s:.1f} s after its return",
        limit="0, 0 errors",
        failed=len(traffic.failed()),
        decided_s=decided_s,
    )
    assert frozen == head
    assert not traffic.failed()
    assert not versions.falls()


@pytest.mark.parametrize("fault", ["watch cut and history compacted", "watch server stopped"])
def test_a_watch_is_lost(wired: WiredStack, row: Rows, fault: str) -> None:
    """Row 10: a replica that could not see changes, and cannot ask for them any more, lists anew and misses none."""
    leader = leader_of(wired)
    follower = next(region for region in wired.regions if region != leader["region"])
    member = watched_by(wired, follower)
    stopped = fault == "watch server stopped"
    listed = wired.metric(follower, "relists_total") or 0.0
    if stopped:
        wired.send(f"etcd-{member}", STOP)
    else:
        wired.set("drop", f"control-plane-{follower}>etcd-")
    try:
        lost_at = time.monotonic()
        victim = victim_of(wired, leader)
        wired.send(victim, KILL)
        deciders = [region for region in wired.regions if region != follower]
        wait_for("a decision", lambda: holds_without(wired, deciders[0], victim), timeout_s=20)
        if not stopped:
            wait_for("it to give up", lambda: wired.metric(follower, "etcd_synced") == 0, timeout_s=30)
            Etcd(wired, member).compact()
            assert not _same(wired, follower, deciders[0])
            wired.mend()
            lost_at = time.monotonic()
        wait_for("it to hold what the others hold", lambda: _same(wired, follower, deciders[0]), timeout_s=30)
        caught_up_s = seconds_since(lost_at)
    finally:
        if stopped:
            wired.send(f"etcd-{member}", CONT)
    relists = (wired.metric(follower, "relists_total") or 0.0) - listed
    missed = 0 if _same(wired, follower, deciders[0]) else 1
    row(
        10,
        f"{fault} (etcd {wired.etcd_runs}): missed changes",
        f"{missed}, everything held {caught_up_s:.1f} s after the {'stop' if stopped else 'return'}, {relists:.0f} relists",
        limit="0, 15 s",
        missed=missed,
        caught_up_s=caught_up_s,
    )
    assert missed == 0
    assert caught_up_s <= 15.0
    assert relists >= 1


def holds_without(stack: WiredStack, region: str, target: str) -> bool:
    """Whether this replica holds documents, and none of them sends anything to `target`."""
    documents = documents_of(stack, region).get("documents", ())
    return bool(documents) and not any(target in str(document["regions"]) for document in documents)


def watched_by(stack: WiredStack, follower: str) -> str:
    """The region of the member that this replica's watch is on: the one that answers it."""

    def heard() -> dict[str, int]:
        return {
            region: stack.links[f"control-plane-{follower}>etcd-{region}"].counts()["down"]
            for region in stack.regions
        }

    before = heard()
    time.sleep(4.0)  # longer than a watch waits between two questions after its server's health
    after = heard()
    return max(stack.regions, key=lambda region: after[region] - before[region])


def _same(stack: WiredStack, one: str, other: str) -> bool:
    held = documents_of(stack, one)
    return bool(held) and held == documents_of(stack, other)


def test_etcd_is_out_of_space(wired: WiredStack, row: Rows) -> None:
    """Row 11: the alarm is seen and traffic goes on; with space again, decisions do."""
    region = leader_of(wired)["region"]
    etcd = Etcd(wired, region)
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        for number in range(100):
            refusal = etcd.put(f"/filler/{number:03}".encode(), MIB)
            if refusal:
                break
        assert "space" in refusal, refusal
        full_at = time.monotonic()
        wait_for("the alarm", lambda: any(_alarms(wired)), timeout_s=30)
        seen_s = seconds_since(full_at)
        time.sleep(2.0)
    row(
        11,
        f"etcd out of space (etcd {wired.etcd_runs}): alarm seen after",
        f"{seen_s:.1f} s, edge errors {len(traffic.failed())} of {len(traffic.answers)}",
        limit="seen, 0 errors",
        seen_s=seen_s,
        failed=len(traffic.failed()),
    )
    _make_space(wired)
    victim = victim_of(wired, leader_of(wired))
    wired.send(victim, KILL)
    wait_for("a decision", lambda: without(wired, victim), timeout_s=30)
    assert not traffic.failed()
    assert not versions.falls()


def _alarms(stack: WiredStack) -> list[float]:
    return [stack.metric(region, "etcd_alarms") or 0.0 for region in stack.regions]


def _make_space(stack: WiredStack) -> None:
    """As etcd's manual says: compact, defragment every member, disarm."""
    members = [Etcd(stack, region) for region in stack.regions]
    members[0].delete(b"/filler/", b"/filler0")
    members[0].compact()
    for member in members:
        member.ask("maintenance/defragment")
    for alarm in members[0].ask("maintenance/alarm", action="GET").get("alarms", []):
        members[0].ask("maintenance/alarm", action="DEACTIVATE", **alarm)
    wait_for("no alarm", lambda: not any(_alarms(stack)), timeout_s=30)


@pytest.mark.parametrize("fault", ["older snapshot restored", "emptied"])
def test_etcd_goes_back(wired: WiredStack, row: Rows, fault: str, tmp_path: Path) -> None:
    """Row 11: with running edges ahead of it, the next leader raises the generation and every edge follows."""
    members = [f"etcd-{region}" for region in wired.regions]

    def each(change: Callable[[Path], None]) -> None:
        for member in members:
            change(wired.state_dir / "data" / member)

    wired.kill(*members)
    each(lambda data: _copy(data, tmp_path / data.name))
    wired.start(*members)
    wait_for("all well with the snapshot taken", wired.well, timeout_s=45, poll_s=0.2)
    victim = victim_of(wired, leader_of(wired))
    wired.send(victim, KILL)
    wait_for("a decision after it", lambda: without(wired, victim), timeout_s=20)
    with Traffic(wired, wired.regions) as traffic, VersionLog(wired) as versions:
        wired.kill(*members)
        time.sleep(1.0)  # whatever was on its way to the edges
        ahead = version_of(wired)
        each(_empty if fault == "emptied" else lambda data: _copy(tmp_path / data.name, data))
        back_at = wired.start(*members)

        def followed() -> bool:
            return wired.fresh() and min(_versions(wired))[0] > ahead[0]

        wait_for("every edge FRESH on a newer generation", followed, timeout_s=60)
        took_s = seconds_since(back_at)
    stuck = [version for version in _versions(wired) if version <= ahead]
    row(
        11,
        f"etcd {fault} under running edges (etcd {wired.etcd_runs}): stuck edges",
        f"{len(stuck)}, generation {ahead[0]} -> {version_of(wired)[0]}, all FRESH after {took_s:.1f} s, "
        f"edge errors {len(traffic.failed())} of {len(traffic.answers)}",
        limit="0, generation raised",
        stuck=len(stuck),
        took_s=took_s,
    )
    assert not stuck
    assert version_of(wired)[0] > ahead[0]
    assert not versions.falls()
    assert not traffic.failed()


def _copy(source: Path, target: Path) -> None:
    _empty(target)
    shutil.copytree(source, target, dirs_exist_ok=True)


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
