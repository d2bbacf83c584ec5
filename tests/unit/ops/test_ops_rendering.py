"""What people see: tables and the drill's page."""

import io
from datetime import UTC, datetime

from rich.console import Console

from ops import render
from ops.drill.html import page
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
from shared.vocabulary.terms import EdgeMode, Verdict

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


def test_one_line_says_it_all() -> None:
    """For logs: leader, regions and edges."""
    line = render.plain_line(status())
    assert "\n" not in line
    assert f"edge-{LONG}=FRESH@12.345678" in line
    assert "nobody" in render.plain_line(status(alive=False))


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
