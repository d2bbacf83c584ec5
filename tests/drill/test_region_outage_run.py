"""`leeward drill run region-outage`, as its user sees it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from fault_rows import Rows
from local_stack import LEEWARD, LocalStack, seconds_since, wait_for

from shared.vocabulary.status import DrillReport


def test_region_outage_passes(stack: LocalStack, figure: Callable[[str], None]) -> None:
    """The drill passes on a stack that is well, prints the contract, leaves a report, and heals."""
    region = stack.least_struck(among=set(stack.regions))
    stack.strike(region)
    done = stack.leeward("drill", "run", "region-outage", "--region", region, "-o", "json", timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    report = DrillReport.model_validate_json(done.stdout)
    figure(
        f"drill region-outage on {region}: {report.outcome}, detect {report.detect_ms:.0f} ms, decide "
        f"{report.decide_ms:.0f} ms, apply {report.apply_ms:.0f} ms, recovered {report.recovered_ms:.0f} ms, "
        f"{report.requests} requests, {report.failed} failed"
    )
    assert report.outcome == "PASSED"
    assert report.detect_ms is not None
    assert report.decide_ms is not None
    assert report.apply_ms is not None
    assert report.recovered_ms is not None
    assert 0 < report.detect_ms <= report.decide_ms <= report.apply_ms
    assert report.requests > 100
    assert report.success_rate >= 0.99
    assert report.trace_id is not None
    assert report.report_html is not None
    page = Path(report.report_html).read_text()
    assert "PASSED" in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_terminated_drill_mends_what_it_broke(stack: LocalStack, row: Rows) -> None:
    """SIGTERM in the middle ends the drill as ABORTED, exit code 1, with the region started again."""
    region = stack.least_struck(among=set(stack.regions))
    stack.strike(region)
    command = [LEEWARD, "drill", "run", "region-outage", "--region", region, "-o", "json"]
    driver = subprocess.Popen(
        [*command, "--state-dir", str(stack.state_dir)], stdout=subprocess.PIPE, text=True
    )
    try:
        wait_for("the region to die", lambda: stack.edge(region) is None, timeout_s=30)
        ended_at = time.monotonic()
        os.kill(driver.pid, signal.SIGTERM)
        output, _ = driver.communicate(timeout=30)
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()
    assert driver.returncode == 1
    assert DrillReport.model_validate_json(output).outcome == "ABORTED"
    wait_for("the region's edge to answer again", lambda: stack.edge(region), timeout_s=20)
    undone_s = seconds_since(ended_at)
    row(
        31,
        "drill driver told to end (TERM): fault undone after",
        f"{undone_s:.1f} s",
        limit="20 s",
        undone_s=undone_s,
    )
