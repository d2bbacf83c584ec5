"""What the running stack survives: issue rows (a) to (f), on real processes, seen over public HTTP only."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from fault_rows import Rows
from local_stack import LocalStack, seconds_since, utc, wait_for
from traffic import Traffic, VersionLog

LEASE_TTL_S = 5.0
SOURCE_TIMEOUT_S = 5.0

Figure = Callable[[str], None]


def targets_of(region: str) -> set[str]:
    return {f"alpha-{region}", f"beta-{region}"}


def kept_away(stack: LocalStack, targets: set[str]) -> bool:
    """Whether a decision in force sends nothing to `targets`."""
    used = stack.used()
    return bool(used) and not used & targets


def test_all_targets_of_a_region_killed(stack: LocalStack, figure: Figure, row: Rows) -> None:
    """(a) Its edge serves from other regions and no request fails, before or after the decision."""
    region = stack.least_struck(among=set(stack.regions))
    stack.strike(region)
    with Traffic(stack, stack.regions) as traffic, VersionLog(stack) as versions:
        time.sleep(1.0)
        killed_at = stack.kill(region, "--only", "targets")
        wait_for(
            "verdict DOWN",
            lambda: {stack.verdicts().get(target) for target in targets_of(region)} == {"DOWN"},
            timeout_s=15,
        )
        detected_s = seconds_since(killed_at)
        wait_for("a decision without them", lambda: kept_away(stack, targets_of(region)), timeout_s=15)
        decided_s = seconds_since(killed_at)
        wait_for("the edges to agree", stack.fresh, timeout_s=15)
        applied_at = time.monotonic()
        time.sleep(1.5)
    figure(
        f"(a) targets of {region} killed: detected {detected_s:.2f} s, decided {decided_s:.2f} s, "
        f"applied {applied_at - killed_at:.2f} s; {traffic.summary()}"
    )
    row(
        15,
        "all targets of a region killed: detected, decided, applied after",
        f"{detected_s:.2f} s, {decided_s:.2f} s, {applied_at - killed_at:.2f} s, "
        f"failed {len(traffic.failed())} of {len(traffic.answers)}",
        limit="0 failed",
        detected_s=detected_s,
        decided_s=decided_s,
        applied_s=applied_at - killed_at,
        failed=len(traffic.failed()),
    )
    assert not traffic.failed()
    own = [answer for answer in traffic.since(killed_at) if answer.edge == region]
    assert own
    assert {answer.served_by for answer in own} <= set(stack.regions) - {region}
    settled = [answer for answer in traffic.since(applied_at + 0.2) if answer.edge == region]
    assert settled
    assert all(answer.attempts == 1 for answer in settled), "the decision spares clients the detour"
    assert not versions.falls()


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["the leader's", "another"])
def test_a_whole_region_killed(stack: LocalStack, figure: Figure, row: Rows, whose: str) -> None:
    """(b) The other regions' edges fail no request. When it was the leader's region, a new leader
    decides within TTL + 2 s, or TTL + 5 s when etcd's own leader died with it."""
    leader = stack.leader()
    assert leader is not None
    others = set(stack.regions) - {leader["region"]}
    region = leader["region"] if whose == "the leader's" else stack.least_struck(among=others)
    stack.strike(region)
    etcd_died = stack.etcd_leader() == region
    survivors = tuple(each for each in stack.regions if each != region)

    def decided_by() -> str | None:
        """The holder of the decision that leaves the region, once there is one."""
        documents = stack.documents().values()
        if not kept_away(stack, targets_of(region)):
            return None
        newest = max(documents, key=lambda document: (document["generation"], document["seq"]))
        holder = newest["term"]["holder"]
        return holder if whose == "another" or newest["term"]["epoch"] > leader["epoch"] else None

    with Traffic(stack, survivors) as traffic, VersionLog(stack) as versions:
        time.sleep(1.0)
        killed_at = stack.kill(region)
        holder = wait_for("a decision without the region", decided_by, timeout_s=30)
        decided_s = seconds_since(killed_at)
        wait_for("surviving edges to apply it", lambda: stack.fresh(*survivors), timeout_s=15)
        applied_s = seconds_since(killed_at)
        time.sleep(1.5)
    figure(
        f"(b) {whose} region ({region}) killed, etcd's own leader {'died' if etcd_died else 'lived'}: "
        f"{holder} decided after {decided_s:.2f} s, applied after {applied_s:.2f} s; {traffic.summary()}"
    )
    lease_s = LEASE_TTL_S + (5.0 if etcd_died else 2.0)
    row(
        15,
        f"everything in a region killed ({whose}): decided, applied after",
        f"{decided_s:.2f} s, {applied_s:.2f} s, failed {len(traffic.failed())} of {len(traffic.answers)}",
        limit=f"0 failed{f', {lease_s:.0f} s to decide' if whose != 'another' else ''}",
        decided_s=decided_s,
        applied_s=applied_s,
        failed=len(traffic.failed()),
    )
    assert not traffic.failed()
    assert not versions.falls()
    if whose == "the leader's":
        assert decided_s <= lease_s


@pytest.mark.slow
def test_the_leader_paused_past_its_lease(stack: LocalStack, figure: Figure, row: Rows) -> None:
    """(c) The leader, stopped past its lease and continued, writes nothing, and the version at every
    edge only rises, although something to decide happened while it was away."""
    leader = stack.leader()
    assert leader is not None
    region = stack.least_struck(among=set(stack.regions) - {leader["region"]})
    stack.strike(region)
    victim = f"alpha-{region}"
    with VersionLog(stack) as versions, Traffic(stack, stack.regions) as traffic:
        stopped_at = stack.kill(leader["id"], "--signal", "STOP")
        stack.kill(victim)
        successor = wait_for(
            "a new leader",
            lambda: (now := stack.leader()) and now["epoch"] > leader["epoch"] and now,
            timeout_s=LEASE_TTL_S + 10,
        )
        took_s = seconds_since(stopped_at)
        wait_for("its decision", lambda: kept_away(stack, {victim}), timeout_s=15)
        continued_at = datetime.now(UTC)
        stack.do("kill", leader["id"], "--signal", "CONT")
        stack.do("start", victim)
        wait_for("the target's return", lambda: victim in stack.used(), timeout_s=30)
        time.sleep(1.0)
        entries = stack.ask_plane("/v1/decisions?limit=100")["decisions"]
    late = [
        entry
        for entry in entries
        if entry["term"]["epoch"] == leader["epoch"] and utc(entry["at"]) > continued_at
    ]
    ours = [entry for entry in entries if entry["term"]["epoch"] >= successor["epoch"]]
    figure(
        f"(c) leader {leader['id']} stopped for {(took_s):.1f} s until {successor['id']} led; "
        f"{len(ours)} decisions since, {len(late)} by the old one; {traffic.summary()}"
    )
    row(
        3,
        f"leader stopped for {took_s:.1f} s, past its lease: commits of the old term after it",
        f"{len(late)} of {len(ours)}",
        limit="0",
        stale=len(late),
    )
    assert ours
    assert not late
    order = sorted(entries, key=lambda entry: (entry["generation"], entry["seq"]))
    epochs = [entry["term"]["epoch"] for entry in order]
    assert epochs == sorted(epochs), "terms never interleave"
    assert not versions.falls()
    assert all(versions.seen[each] for each in stack.regions)
    assert not traffic.failed()


@pytest.fixture
def dark_stack(running_stack: LocalStack) -> LocalStack:
    """The stack with every control plane, etcd member and bus dead, whoever killed them."""
    up = [
        record["id"] for record in running_stack.status()["control_planes"] if record["role"] != "unreachable"
    ]
    if up:
        if not running_stack.well():
            running_stack.heal()
        _darken(running_stack)
    return running_stack


def _darken(stack: LocalStack) -> None:
    stack.do("kill", *stack.regions, "--only", "etcd,bus,control-plane")


def test_everything_behind_the_edges_dead(stack: LocalStack, figure: Figure, row: Rows) -> None:
    """(d) With all control planes, etcd members and buses dead every edge serves, and one that is
    restarted in that state serves its last decision within 3 s."""
    region = stack.regions[1]
    before = stack.edge(region)
    assert before is not None
    with Traffic(stack, stack.regions) as traffic:
        _darken(stack)
        time.sleep(3.0)
    others = tuple(each for each in stack.regions if each != region)
    with Traffic(stack, others) as rest:
        stack.do("kill", f"edge-{region}")
        begun = stack.start(f"edge-{region}")
        answer = wait_for(
            "the restarted edge to serve", lambda: _served(stack, region), timeout_s=10, poll_s=0.02
        )
        restart_s = seconds_since(begun)
    figure(
        f"(d) everything behind the edges dead: {traffic.summary()}; edge restarted in that state served "
        f"{answer['decision']} ({answer['mode']}) after {restart_s:.2f} s; others: {rest.summary()}"
    )
    row(
        6,
        "all control planes, etcd and buses dead: failed requests",
        f"{len(traffic.failed()) + len(rest.failed())} of {len(traffic.answers) + len(rest.answers)}, "
        f"an edge restarted meanwhile serves after {restart_s:.2f} s",
        limit="0, 3 s",
        failed=len(traffic.failed()) + len(rest.failed()),
        restart_s=restart_s,
    )
    assert not traffic.failed()
    assert not rest.failed()
    assert restart_s <= 3.0
    assert answer["decision"] == _decision_of(stack, before["decision"])
    assert answer["mode"] in ("STALE", "STATIC")


def _served(stack: LocalStack, region: str) -> dict[str, str] | None:
    import httpx2

    try:
        answer = stack.chat(region, timeout_s=1.0)
    except httpx2.HTTPError:
        return None
    if answer.status_code != 200:
        return None
    return {"decision": answer.headers["x-leeward-decision"], "mode": answer.headers["x-leeward-mode"]}


def _decision_of(stack: LocalStack, head: str) -> str:
    """The version of the chat route's document at every other edge: what a restart must not lose."""
    answers = {stack.chat(region).headers["x-leeward-decision"] for region in stack.regions}
    assert len(answers) == 1, f"edges of one head {head} serve one document"
    return answers.pop()


def test_everything_back(dark_stack: LocalStack, figure: Figure) -> None:
    """(e) When control planes, etcd and buses are back, every edge is FRESH again by itself."""
    stack = dark_stack
    pids = {region: stack.processes()[f"edge-{region}"]["pid"] for region in stack.regions}
    ages = {region: (stack.edge(region) or {}).get("beat_age_s") for region in stack.regions}

    def revived() -> bool:
        """FRESH by a Beat that came after the return, not by one remembered."""
        edges = [stack.edge(region) for region in stack.regions]
        return stack.fresh() and all(
            edge is not None and edge["beat_age_s"] is not None and edge["beat_age_s"] < seconds_since(begun)
            for edge in edges
        )

    begun = time.monotonic()
    with Traffic(stack, stack.regions) as traffic, VersionLog(stack) as versions:
        begun = stack.start(*stack.regions, "--only", "etcd,bus,control-plane")
        wait_for("every edge FRESH", revived, timeout_s=45)
        fresh_s = seconds_since(begun)
    figure(
        f"(e) everything back: edges FRESH after {fresh_s:.2f} s (Beats before were "
        f"{', '.join('none' if age is None else f'{age:.0f} s' for age in ages.values())} old); {traffic.summary()}"
    )
    assert pids == {region: stack.processes()[f"edge-{region}"]["pid"] for region in stack.regions}
    assert not traffic.failed()
    assert not versions.falls()
    wait_for("the stack is well", stack.well, timeout_s=60, poll_s=0.2)


@pytest.mark.slow
def test_one_prober_killed(stack: LocalStack, figure: Figure, row: Rows) -> None:
    """(f) Silence is not DOWN: with one prober dead nothing is drained and nothing is decided."""
    region = stack.regions[2]
    before = {route: document["regions"] for route, document in stack.documents().items()}
    with Traffic(stack, stack.regions) as traffic:
        killed_at = stack.kill(f"prober-{region}")

        def silent() -> bool:
            view = stack.ask_plane("/v1/health")
            sources = {source["id"]: source["fresh"] for source in view["sources"]} if view else {}
            return not sources.get(f"prober-{region}", True)

        wait_for("its silence to be noticed", silent, timeout_s=SOURCE_TIMEOUT_S + 10)
        noticed_s = seconds_since(killed_at)
        verdicts = []
        while seconds_since(killed_at) < SOURCE_TIMEOUT_S + 3:
            verdicts.append(stack.verdicts())
            time.sleep(0.2)
    after = {route: document["regions"] for route, document in stack.documents().items()}
    figure(f"(f) prober of {region} killed: silence noticed after {noticed_s:.1f} s; {traffic.summary()}")
    row(
        14,
        "all probers of a healthy region (one) killed: decisions because of it",
        f"{int(after != before)}, silence noticed after {noticed_s:.1f} s",
        limit="0",
        decisions=int(after != before),
        noticed_s=noticed_s,
    )
    assert after == before
    assert verdicts
    assert all(set(each.values()) == {"HEALTHY"} for each in verdicts)
    assert not traffic.failed()
