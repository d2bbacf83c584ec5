"""What people see: tables and the drill's page."""

import io
from datetime import UTC, datetime

from rich.console import Console

from ops import render
from ops.drill.html import page
from ops.leading import NO_ETCD
from ops.status import is_good, nobody_answers
from shared.vocabulary.status import (
    BusStatus,
    ControlPlaneStatus,
    DrillEvent,
    DrillReport,
    EdgeStatus,
    EtcdStatus,
    GuardRail,
    LeaderStatus,
    ProberStatus,
    RegionStatus,
    StackStatus,
    TargetStatus,
)
from shared.vocabulary.terms import EdgeMode, Role, Verdict
from shared.vocabulary.view import (
    Freeze,
    HealthSummary,
    HealthView,
    QualityScore,
    RouteSummary,
    SourceHealth,
    TargetHealth,
)

LONG = "northeurope-central"


def status(*, alive: bool = True) -> StackStatus:
    return StackStatus(
        leader=LeaderStatus(id=f"control-plane-{LONG}", region=LONG, epoch=123456) if alive else None,
        control_planes=(
            ControlPlaneStatus(
                id=f"control-plane-{LONG}",
                region=LONG,
                url="http://127.0.0.1:7100",
                role="leader" if alive else "unreachable",
            ),
        ),
        edges=(
            EdgeStatus(
                id=f"edge-{LONG}",
                region=LONG,
                url="http://127.0.0.1:7200",
                admin_url="http://127.0.0.1:7250",
                mode=EdgeMode.FRESH if alive else None,
                decision="12.345678" if alive else None,
                beat_age_s=1.25 if alive else None,
            ),
        ),
        probers=(ProberStatus(id=f"prober-{LONG}", region=LONG, last_event_age_s=0.5 if alive else None),),
        buses=(BusStatus(region=LONG, bootstrap="127.0.0.1:7400", reachable=alive),),
        etcd=(EtcdStatus(region=LONG, url="http://127.0.0.1:7500", reachable=alive),),
        regions=(
            RegionStatus(
                id=LONG,
                verdict=Verdict.HEALTHY if alive else Verdict.UNKNOWN,
                targets_healthy=2 if alive else 0,
                targets=2,
            ),
        ),
        targets=(
            TargetStatus(
                id=f"alpha-{LONG}",
                region=LONG,
                verdict=Verdict.HEALTHY if alive else Verdict.UNKNOWN,
                url="http://127.0.0.1:7600",
            ),
        ),
    )


def printed(what: object) -> str:
    output = io.StringIO()
    Console(file=output, width=render.WIDTH).print(what)
    return output.getvalue()


def test_the_status_table_fits() -> None:
    """100 columns hold even long names, with nothing cut; dead parts are said to be."""
    text = printed(render.status(status()))
    assert max(len(line) for line in text.splitlines()) <= render.WIDTH
    for word in (LONG, "12.345678", "FRESH", "HEALTHY", "leader", "1.2 s"):
        assert word in text
    dead = printed(render.status(status(alive=False)))
    assert "nobody" in dead
    assert "unreachable" in dead
    assert f"target alpha-{LONG} is UNKNOWN" in dead


def test_good_and_unreachable() -> None:
    """Exit codes follow from these: all well, something bad, nobody there."""
    assert is_good(status())
    assert not nobody_answers(status())
    assert not is_good(status(alive=False))
    assert nobody_answers(status(alive=False))
    empty = RegionStatus(id="away", verdict=Verdict.UNKNOWN, targets_healthy=0, targets=0)
    assert is_good(status().model_copy(update={"regions": (*status().regions, empty)}))
    assert not is_good(status().model_copy(update={"regions": ()}))
    no_leader = status().model_copy(update={"leader": None})
    assert not is_good(no_leader)
    assert not nobody_answers(no_leader)


def test_a_lost_quorum_is_said_and_is_not_good() -> None:
    """Nobody leads, whoever did last; one line tells what that means."""
    whole = status()
    lost = whole.model_copy(update={"leader": None, "last_leader": whole.leader, "etcd_answers": False})
    text = printed(render.status(lost))
    assert f"nobody leads (last: control-plane-{LONG})" in text
    assert text.splitlines()[1] == NO_ETCD
    assert "etcd does not answer" in render.plain_line(lost)
    assert not is_good(whole.model_copy(update={"etcd_answers": False}))


def test_one_line_says_it_all() -> None:
    """For logs: leader, regions and edges."""
    line = render.plain_line(status())
    assert "\n" not in line
    assert f"edge-{LONG}=FRESH@12.345678" in line
    assert "nobody" in render.plain_line(status(alive=False))


def test_health_says_first_what_an_operator_must_know() -> None:
    """Traffic, failovers, suspended removals, who is silent since when, who is set aside, warnings, quality."""
    at = datetime(2030, 1, 1, 12, 0, 7, tzinfo=UTC)
    silent = SourceHealth(
        id="cp-west",
        role=Role.CONTROL_PLANE,
        vantage="west",
        fresh=False,
        last_event_age_s=12.0,
        silent_since=at,
        boot=1,
        seq=9,
        config_version=1,
    )
    warned = TargetHealth(
        id="a", region="west", provider="p", verdict=Verdict.HEALTHY, warning="live error rate 4.0 %"
    )
    score = {"provider": "p", "model": "m", "by": "probes", "judged": 40, "standing": "DEGRADED"}
    view = HealthView(
        as_of=at,
        replica="cp-east",
        status="healthy",
        config_version=1,
        regions=(),
        targets=(warned,),
        sources=(silent,),
        set_aside=("south",),
        freezes=(Freeze(cause="MOST_SILENT", since=at, detail="2 of 3 vantages silent: a, b"),),
        quality=(QualityScore.model_validate(score | {"score_permille": 875}),),
        summary=HealthSummary(
            failovers_last_hour=3,
            attempts=2000,
            success_permille=995,
            response_ms_mean=81.4,
            routes=(RouteSummary(route="chat", requests=50, success_permille=980, inflight=2),),
        ),
    )
    text = " ".join(printed(render.health(view)).split())
    for said in (
        "99.5 % of 2000 attempts succeed, 81 ms to an answer (mean); failovers in the last hour: 3",
        "route chat: 98 % of 50 requests succeed",
        "automatic removals suspended since 12:00:07 for all targets: 2 of 3 vantages silent: a, b",
        "control-plane cp-west has been silent since 12:00:07",
        "set aside, for contradicting the majority: south",
        "warning: a: live error rate 4.0 %",
        "87.5 %",
    ):
        assert said in text


def test_the_report_is_one_harmless_file() -> None:
    """Nothing is loaded from elsewhere, and what a fleet says cannot become markup."""
    report = DrillReport(
        drill="region-outage",
        outcome="FAILED",
        detect_ms=12.3,
        decide_ms=None,
        apply_ms=None,
        recovered_ms=None,
        requests=10,
        failed=1,
        degraded=0,
        success_rate=0.9,
        guard_rails=(GuardRail(name="success_rate", limit=0.99, worst=0.9, ok=False),),
        timeline=(DrillEvent(at_ms=0.0, event="killed", values={"region": "<script>"}),),
        trace_id="ab" * 16,
        report_html=None,
        failures=("<img src=x>",),
    )
    text = page(report, at=datetime(2030, 1, 1, tzinfo=UTC))
    assert "<script" not in text
    assert "<img" not in text
    assert "http" not in text
    assert "never" in text
    assert "crossed" in text
    assert "ab" * 16 in text
