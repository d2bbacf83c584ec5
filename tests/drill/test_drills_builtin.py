"""`leeward drill`, as its user sees it: every built-in drill on one stack, one after another, in its short
form; and what becomes of a drill whose driver is told to end, or dies."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import BESIDE
from fault_rows import Rows
from local_stack import LEEWARD, LocalStack, free_port_base, processes_of, seconds_since, wait_for

from shared.vocabulary.drill import FAULT_TTL_S
from shared.vocabulary.status import DrillReport

NINE = (
    ("brownout-429", "eu-west"),
    ("control-plane-loss", None),
    ("bus-loss", "ap-south"),
    ("prober-split", "ap-south"),
    ("stream-cut", "us-east"),
    ("region-outage", "us-east"),
    ("recovery-stampede", "ap-south"),
    ("provider-outage", None),
    ("gray-region", "eu-west"),
)
"""Regions take turns, for a target that dies again and again is held out for longer each time."""
UNDONE_S = FAULT_TTL_S + 5.0
"""An injector's time to live, and what it takes to start processes on a busy machine."""
LEASE_S = 60.0


@pytest.fixture(scope="module")
def drilled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack of its own, for drills leave targets that are held out for longer; the shared one stands
    still meanwhile."""
    beside = list(request.config.stash[BESIDE])
    for other in beside:
        other.leeward("kill", *other.regions, "--signal", "STOP")
    stack = LocalStack(tmp_path_factory.mktemp("drilled") / "stack", free_port_base(start=30_000))
    try:
        started = stack.up()
        assert started.returncode == 0, started.stdout + started.stderr
        wait_for("verdicts", lambda: set(stack.verdicts().values()) == {"HEALTHY"}, timeout_s=30)
        _ramp_quickly(stack, tmp_path_factory.mktemp("quick"))
        stack.note_baseline()
        yield stack
    finally:
        stack.http.close()
        stack.leeward("kill", *stack.regions, "--signal", "CONT")
        down = stack.leeward("down")
        for process in processes_of(stack.state_dir):
            process.kill()
        for other in beside:
            other.leeward("kill", *other.regions, "--signal", "CONT")
        assert down.returncode == 0, down.stderr


def _ramp_quickly(stack: LocalStack, folder: Path) -> None:
    """What recovers is back in 2 s and not in 6, for each drill waits for that twice over."""
    fleet = json.loads(json.dumps(stack.ask_plane("/v1/config")["fleet"]))  # type: ignore[index]
    fleet["policy"]["ramp_s"] = 2.0
    written = folder / "quick.yaml"
    written.write_text(json.dumps({"fleet": fleet}))
    stack.do("config", "apply", str(written), "--reason", "many drills, one after another")


@pytest.mark.parametrize(("name", "region"), NINE, ids=[name for name, _ in NINE])
def test_every_built_in_drill_passes(
    name: str, region: str | None, drilled: LocalStack, figure: Callable[[str], None]
) -> None:
    """Its hypothesis holds, it prints the contract, its report is kept and on record."""
    begun = time.monotonic()
    where = ("--region", region) if region is not None else ()
    done = drilled.leeward("drill", "run", name, "--short", *where, "-o", "json", timeout_s=150)
    took_s = seconds_since(begun)
    assert done.returncode == 0, done.stdout + done.stderr
    report = DrillReport.model_validate_json(done.stdout)
    figure(f"drill {name}: {_figures(report)}; {took_s:.0f} s in all")
    assert report.outcome == "PASSED"
    assert report.requests > 100
    assert report.lost_streams == 0
    assert report.streams > 0
    assert all(each.ok for each in report.expectations)
    assert report.report_html is not None
    assert "PASSED" in Path(report.report_html).read_text()
    if report.decide_ms is not None:
        assert report.detect_ms is not None
        assert report.apply_ms is not None
        assert 0 < report.detect_ms <= report.decide_ms <= report.apply_ms
        assert report.trace_id is not None
    record = drilled.ask_plane(f"/v1/drills/{report.id}")
    assert record["state"] == "PASSED"
    assert [one["state"] for one in record["progress"]["injections"]].count("UNDONE") == len(
        record["progress"]["injections"]
    )
    assert record["report"]["success_rate"] == report.success_rate


def test_a_drill_that_is_asked_for_is_run_by_the_agent(
    drilled: LocalStack, figure: Callable[[str], None]
) -> None:
    """The dashboard's way: a POST without a runner, and the keeper's agent takes it."""
    request = {
        "name": "bus-loss",
        "region": "eu-west",
        "hold_s": 3,
        "author": "ann",
        "reason": "from the page",
    }
    begun = time.monotonic()
    asked = drilled.http.post(f"{drilled.plane_url('us-east')}/v1/drills", json=request, timeout=15)
    assert asked.status_code == 201, asked.text
    name = asked.json()["id"]
    taken = wait_for(
        "an agent to take it", lambda: _taken(drilled.ask_plane(f"/v1/drills/{name}")), timeout_s=20
    )
    figure(f"drill asked for by HTTP: its agent began after {seconds_since(begun):.1f} s")
    assert taken["runner"].startswith("agent on ")
    record = wait_for(
        "its end", lambda: _over(drilled.ask_plane(f"/v1/drills/{name}")), timeout_s=90, poll_s=0.2
    )
    assert record["state"] == "PASSED", record["report"] or record["note"]
    assert record["report_sha"]


def test_a_terminated_drill_mends_what_it_broke(drilled: LocalStack, row: Rows) -> None:
    """SIGTERM in the middle ends the drill as ABORTED, exit code 1, with the bus started again."""
    driver = _start(drilled, "bus-loss", "--region", "us-east", "--hold", "60")
    try:
        wait_for("the bus to die", lambda: not _bus_runs(drilled, "us-east"), timeout_s=60)
        ended_at = time.monotonic()
        os.kill(driver.pid, signal.SIGTERM)
        output, _ = driver.communicate(timeout=30)
    finally:
        _end(driver)
    assert driver.returncode == 1
    report = DrillReport.model_validate_json(output)
    assert (report.outcome, report.failures[0]) == ("ABORTED", "interrupted")
    wait_for("the bus to run again", lambda: _bus_runs(drilled, "us-east"), timeout_s=10)
    undone_s = seconds_since(ended_at)
    row(
        31,
        "drill driver told to end (TERM): fault undone after",
        f"{undone_s:.1f} s",
        limit="20 s",
        undone_s=undone_s,
    )
    assert undone_s < 20


def test_a_killed_driver_leaves_nothing_behind(drilled: LocalStack, tmp_path: Path, row: Rows) -> None:
    """SIGKILL in the middle: a killed process runs again, and neither the panel nor the edges hold a fault,
    within the faults' time to live; nobody but the injectors is left to see to it."""
    driver = _start(drilled, str(_everything(tmp_path)), "--region", "ap-south")
    try:
        wait_for("all faults in place", lambda: _held(drilled) == {"stack", "panel", "edge"}, timeout_s=60)
        # Renewals keep them beyond their first time to live, or nothing would be proved by their end.
        killed_at = time.monotonic()
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait(timeout=10)
    finally:
        _end(driver)
    wait_for(
        "every fault to be undone", lambda: not _held(drilled) and drilled.all_run(), timeout_s=UNDONE_S + 10
    )
    undone_s = seconds_since(killed_at)
    row(
        31,
        "drill driver killed: every injector's fault undone after",
        f"{undone_s:.1f} s",
        limit=f"{UNDONE_S:.0f} s",
        undone_s=undone_s,
    )
    assert undone_s <= UNDONE_S


@pytest.mark.slow
def test_a_killed_drivers_record_is_ended(drilled: LocalStack, tmp_path: Path, row: Rows) -> None:
    """Its lease runs out, the leader writes ABORTED, and the next drill may begin."""
    wait_for("no drill under way", lambda: _idle(drilled), timeout_s=LEASE_S + 30, poll_s=0.5)
    driver = _start(drilled, str(_everything(tmp_path)), "--region", "ap-south")
    try:
        wait_for("all faults in place", lambda: len(_held(drilled)) == 3, timeout_s=60)
        name = _active(drilled)
        killed_at = time.monotonic()
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait(timeout=10)
    finally:
        _end(driver)
    record: dict[str, Any] = wait_for(
        "the record to be ended",
        lambda: _over(drilled.ask_plane(f"/v1/drills/{name}")),
        timeout_s=LEASE_S + 30,
        poll_s=0.5,
    )
    ended_s = seconds_since(killed_at)
    assert record["state"] == "ABORTED"
    assert "runner" in record["note"]
    limit_s = LEASE_S + 30
    row(
        31,
        "drill driver killed: its record ABORTED after",
        f"{ended_s:.0f} s",
        limit=f"{limit_s:.0f} s",
        ended_s=ended_s,
    )
    assert ended_s <= limit_s


# ---------------------------------------------------------------- a driver, and what it leaves


def _everything(folder: Path) -> Path:
    """A drill that uses three injectors at once, and holds for long."""
    file = folder / "everything.yaml"
    file.write_text(
        """
drill: everything
what: A bus dies, streams are cut by the panel, and edges make requests slow.
hypothesis: It does not get far enough to tell.
faults:
  - {fault: kill, by: stack, processes: [bus]}
  - {fault: cut, by: panel, share_permille: 10}
  - {fault: latency, by: edge, ms: 20, share_permille: 10}
load: {through: all, rate_per_s: 10}
guard: {min_success_permille: 500}
expect: {moves: false}
warm_s: 1
hold_s: 120
"""
    )
    return file


def _start(stack: LocalStack, *arguments: str) -> "subprocess.Popen[str]":
    command = [LEEWARD, "drill", "run", *arguments, "-o", "json", "--state-dir", str(stack.state_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _end(driver: "subprocess.Popen[str]") -> None:
    if driver.poll() is None:
        driver.kill()
        driver.wait()


def _held(stack: LocalStack) -> set[str]:
    """Which injectors have a fault in place, by what there is to see of it."""
    found = set()
    if not _bus_runs(stack, "ap-south"):
        found.add("stack")
    processes = stack.processes()
    panel = stack.http.get(f"{processes['alpha-ap-south']['admin_url']}/faults").json()
    if "drill-" in json.dumps(panel):
        found.add("panel")
    edge = stack.http.get(f"{processes['edge-us-east']['admin_url']}/faults").json()
    if "drill-" in json.dumps(edge):
        found.add("edge")
    return found


def _bus_runs(stack: LocalStack, region: str) -> bool:
    try:
        process = psutil.Process(stack.processes()[f"bus-{region}"]["pid"])
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _active(stack: LocalStack) -> str | None:
    listed = stack.ask_plane("/v1/drills")
    return listed["active"] if listed else None


def _idle(stack: LocalStack) -> bool:
    listed = stack.ask_plane("/v1/drills")
    return bool(listed) and all(_over(drill) for drill in listed["drills"])


def _over(record: Any) -> dict[str, Any] | None:
    return record if record and record["state"] not in ("DUE", "RUNNING") else None


def _taken(record: Any) -> dict[str, Any] | None:
    return record if record and record["state"] != "DUE" else None


def _figures(report: DrillReport) -> str:
    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value:.0f} ms"

    return (
        f"{report.outcome}, detect {ms(report.detect_ms)}, decide {ms(report.decide_ms)}, apply "
        f"{ms(report.apply_ms)}, recovered {ms(report.recovered_ms)}, {report.requests} requests, "
        f"{report.failed} failed, {report.lost_streams} of {report.streams} streams lost"
    )
