"""Drills as a runner would have measured them: a small one, and the largest there can be."""

from datetime import UTC, datetime

from ops.drill.record import (
    MAX_DECISIONS,
    MAX_FAILED,
    MAX_SAID,
    MAX_SECONDS,
    DecisionSeen,
    DrillRecordData,
    FailedRequest,
    Figures,
    Injected,
    Second,
    TargetLoad,
)
from shared.vocabulary.drill import MAX_EVENTS, MAX_INJECTIONS, DrillFault, DrillGuard, DrillSpec
from shared.vocabulary.status import DrillEvent, DrillReport, Expected, GuardRail

AT = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
REGIONS = ("us-east", "eu-west", "ap-south")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HARM = "<script>alert(1)</script>'\"><img src=x onerror=y>&"


def spec(**more: object) -> DrillSpec:
    values: dict[str, object] = {
        "drill": "region-outage",
        "what": "Everything in one region dies at once, and comes back.",
        "hypothesis": "Clients of the other regions notice nothing; decisions leave the dead targets at once.",
        "region": "eu-west",
        "faults": (DrillFault(fault="kill", by="stack"),),
        "guard": DrillGuard(max_latency_ms_p99=400.0),
    }
    return DrillSpec.model_validate(values | more)


def report(outcome: str = "FAILED", **more: object) -> DrillReport:
    ok = outcome == "PASSED"
    values: dict[str, object] = {
        "drill": "region-outage",
        "id": "drill-23",
        "region": "eu-west",
        "outcome": outcome,
        "hypothesis": spec().hypothesis,
        "started_at": "2030-01-01T11:59:55+00:00",
        "detect_ms": 412.3,
        "decide_ms": 455.0,
        "apply_ms": 498.9,
        "recovered_ms": 6012.5,
        "requests": 900,
        "failed": 4,
        "degraded": 2,
        "success_rate": 0.993333,
        "streams": 270,
        "lost_streams": 0,
        "expectations": (
            Expected(name="detect_ms", expected=5000.0, measured=412.3, ok=True),
            Expected(name="min_success_permille", expected=995.0, measured=993.3, ok=ok),
            Expected(name="recover_ms", expected=60000.0, measured=None, ok=ok),
            Expected(name="moves", expected="yes", measured="yes", ok=True),
        ),
        "guard_rails": (
            GuardRail(name="success_permille", limit=990.0, worst=993.3, ok=True),
            GuardRail(name="latency_ms_p99", limit=400.0, worst=512.0, ok=ok),
        ),
        "timeline": (
            DrillEvent(at_ms=-3000.0, event="steady", values={"decision": "1.4", "leader_in_region": True}),
            DrillEvent(at_ms=0.0, event="injected", values={"region": "eu-west"}),
            DrillEvent(at_ms=412.3, event="detected", values={"replica": "control-plane-us-east"}),
            DrillEvent(at_ms=16012.5, event="recovered", values={"decision": "1.9"}),
        ),
        "trace_id": TRACE,
        "report_html": None,
        "failures": () if ok else ("success rate: expected at least 99.5 %, measured 99.33 %",),
    }
    return DrillReport.model_validate(values | more)


def second(at: int, regions: tuple[str, ...] = REGIONS) -> Second:
    struck = 0 <= at < 10
    failed = 3 if at == 0 else int(at == 1)
    served = {
        client: {region: 10} if not (struck and region == "eu-west") else {"us-east": 6, "ap-south": 4}
        for client, region in zip(regions, regions, strict=True)
    }
    return Second(
        at_s=at,
        ok=30 - failed - 2 * (at == 3),
        failed=failed,
        degraded=2 * (at == 3),
        latency_ms_p50=80.0 + 40 * struck + at % 5,
        latency_ms_p99=140.0 + (350 if at in (0, 1) else 60 * struck) + 7 * (at % 4),
        by_client=dict.fromkeys(regions, 10),
        served=served,
    )


def record(**more: object) -> DrillRecordData:
    values: dict[str, object] = {
        "id": "drill-23",
        "spec": spec(),
        "author": "ann",
        "reason": "before the holidays",
        "runner": "ann@laptop",
        "injected_at": AT,
        "held_s": 10.0,
        "ended_s": 22.0,
        "regions": REGIONS,
        "struck_regions": ("eu-west",),
        "struck_targets": ("alpha-eu-west",),
        "seconds": tuple(second(at) for at in range(-4, 22)),
        "figures": tuple(
            Figures(
                period=period,
                from_s=begin,
                to_s=end,
                requests=120,
                failed=failed,
                degraded=0,
                success_rate=1 - failed / 120,
                streams=40,
                lost_streams=0,
                latency_ms_p50=81.0,
                latency_ms_p99=230.0,
            )
            for period, begin, end, failed in (
                ("before", -4.0, 0.0, 0),
                ("during", 0.0, 10.0, 4),
                ("after", 10.0, 22.0, 0),
            )
        ),
        "decisions": (
            DecisionSeen(
                version="1.5",
                at_s=0.455,
                by="control-plane-us-east",
                routes=("chat", "embed"),
                said=("Target alpha-eu-west left the traffic: seen 3 of 3 vantages DOWN, hard yes.",),
                trace_id=TRACE,
            ),
            DecisionSeen(
                version="1.6",
                at_s=13.2,
                by="control-plane-us-east",
                routes=("chat", "embed"),
                said=("Target alpha-eu-west is returning, step by step: permille 100.",),
            ),
        ),
        "injections": (
            Injected(
                n=0,
                by="stack",
                fault="kill",
                where="eu-west: alpha-eu-west, edge-eu-west",
                state="UNDONE",
                planned_s=-0.1,
                done_s=0.0,
                undone_s=10.0,
            ),
        ),
        "loads": (
            TargetLoad(
                target="alpha-us-east",
                region="us-east",
                planned_permille_of_capacity=640,
                given_permille_of_plan=1020,
            ),
        ),
        "failed": (
            FailedRequest(
                at_s=0.1,
                client="us-east",
                target="alpha-eu-west",
                latency_ms=203.0,
                detail='status 503: {"error": "no target"}',
            ),
        ),
    }
    return DrillRecordData.model_validate(values | more)


def largest() -> tuple[DrillReport, DrillRecordData]:
    """Every list as long as it may be, every text as long and as harmful."""
    words = (HARM * 20)[:512]
    regions = tuple(f"region-with-a-long-name-number-{n}" for n in range(40))
    seconds = tuple(
        second(at, regions).model_copy(
            update={"served": {client: dict.fromkeys(regions, 3) for client in regions}}
        )
        for at in range(-60, 300)
    )
    spread = tuple(
        seconds[n % 360].model_copy(update={"at_s": float(n - 60)}) for n in range(0, MAX_SECONDS, 3)
    )
    long_report = report(
        timeline=tuple(
            DrillEvent(at_ms=float(n * 100), event=words[:60], values={"reason": words, HARM[:30]: [words]})
            for n in range(MAX_EVENTS)
        ),
        failures=(words,) * 100,
        hypothesis=words,
        expectations=tuple(
            Expected(name=words[:64], expected=words, measured=words, ok=False) for _ in range(9)
        ),
    )
    long_record = record(
        regions=regions,
        ended_s=float(MAX_SECONDS),
        seconds=spread,
        decisions=tuple(
            DecisionSeen(
                version=f"1.{n}",
                at_s=float(n),
                by=words[:63],
                routes=(words[:63],) * 50,
                said=(words,) * MAX_SAID,
            )
            for n in range(MAX_DECISIONS)
        ),
        injections=tuple(
            Injected(n=n, by="panel", fault="latency", where=words, state="LAPSED", planned_s=0.0)
            for n in range(MAX_INJECTIONS)
        ),
        loads=tuple(TargetLoad(target=f"target-{n}", region=words[:63]) for n in range(200)),
        failed=(FailedRequest(at_s=1.0, client=words[:63], target=words[:63], latency_ms=1.0, detail=words),)
        * MAX_FAILED,
    )
    return long_report, long_record
