"""The load a drill runs under: what counts as failed."""

import httpx2
import pytest

from ops.drill.load import Load, Sample, Tally, fault_of
from shared.clock import SystemClock

WHOLE = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (httpx2.Response(200, json=WHOLE), ""),
        (httpx2.Response(503, text="no"), "status 503: no"),
        (httpx2.Response(200, json={"choices": []}), "not a chat completion"),
        (httpx2.Response(200, text="<html>"), "not a chat completion"),
        (
            httpx2.Response(200, json={"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}),
            "an incomplete completion",
        ),
        (
            httpx2.Response(200, json={"choices": [{"message": {"content": "x"}, "finish_reason": None}]}),
            "an incomplete completion",
        ),
    ],
)
def test_only_a_whole_completion_is_good(answer: httpx2.Response, fault: str) -> None:
    """A truncated or garbled answer is a failure, whatever its status."""
    assert fault_of(answer) == fault


def test_a_degraded_answer_counts_as_failed() -> None:
    """In the success rate, not in `failed`."""
    load = Load([("e", "http://e")], rate_per_s=1, clock=SystemClock())
    for at, ok, degraded in ((1.0, True, False), (2.0, True, True), (3.0, False, False), (4.0, True, False)):
        load.samples.append(
            Sample(at, "e", 1.0, ok=ok, degraded=degraded, detail="", target="", decision="", attempts=1)
        )
    assert load.tally() == Tally(requests=4, failed=1, degraded=1)
    assert load.tally().success_rate == 0.5
    assert load.tally(since=2.0, until=3.0) == Tally(requests=1, failed=0, degraded=1)
    assert Tally(0, 0, 0).success_rate == 1.0
