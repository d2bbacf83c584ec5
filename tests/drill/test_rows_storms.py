"""Fault row 24 on a real edge: thousands of slow clients, and a storm of disconnects. `python -m bench.storms` is the same
at length."""

import pytest
import uvloop
from fault_rows import Rows

from bench.storms import storm

pytestmark = pytest.mark.slow

FDS_MORE = 8
"""Descriptors that may be open more than before: the behaving client's, one of /metrics."""
RSS_MORE_MB = 80.0
"""1,250 readers that take nothing have 64 KiB each waiting at once, which the allocator keeps for the next."""


def test_slow_clients_and_disconnects_leave_nothing(row: Rows) -> None:
    """Row 24: everybody slow is let go, the target's work stops, and afterwards there is no more than before."""
    got = uvloop.run(storm(clients=5000, seconds=10.0, rate=1000))
    before, slow, after = got["before"], got["slow"], got["after_disconnects"]
    row(
        24,
        "5,000 slow clients, 10 s of 1,000 disconnects/s",
        f"let go after {slow['let_go_after_s']} s; fds {before['fds']} -> {slow['in_it']['fds']} -> {after['fds']}, "
        f"RSS {before['rss_mb']:.0f} -> {slow['in_it']['rss_mb']:.0f} -> {after['rss_mb']:.0f} MB, "
        f"tasks {before['tasks']} -> {after['tasks']}; the behaving one's p99 {got['behaving']['p99_ms']} ms",
        limit="all let go, flat",
    )
    assert slow["not_let_go"] == 0
    assert got["behaving"]["failed"] == 0
    assert got["disconnects"]["refused"] == 0
    for then in (got["after_slow"], after):
        assert then["target_requests"] == 0
        assert then["fds"] <= before["fds"] + FDS_MORE
        assert then["tasks"] <= before["tasks"] + 1
        assert then["rss_mb"] <= before["rss_mb"] + RSS_MORE_MB
    assert got["exit_code"] == 0
