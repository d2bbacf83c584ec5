"""One trace on real processes: from the probe that failed to the first request served elsewhere, and of each request
that had to move; read with `leeward trace`, without any backend."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from time import monotonic
from typing import Any

import pytest
from local_stack import LocalStack, wait_for

pytestmark = pytest.mark.slow  # in `make test` tests/integration/test_trace_chain.py shows the chain


def test_an_outage_is_one_trace(stack: LocalStack, figure: Callable[[str], None]) -> None:
    """The whole chain hangs together, every edge applied it, and heard of it by both paths; a request that failed
    over under way is found by the id that its answer named."""
    known = {trace["trace_id"] for trace in _listed(stack)}
    region = stack.least_struck(among=set(stack.regions))
    stack.strike(region)
    moved: list[str] = []

    def outage() -> dict[str, Any] | None:
        for client in (region, *stack.regions):
            answer = stack.chat(client)
            assert answer.status_code == 200, answer.text
            if answer.headers["x-leeward-attempts"] != "1":
                moved.append(answer.headers["x-leeward-request-id"])
        for brief in _listed(stack):
            if brief["trace_id"] not in known:
                whole = _kept(stack, f"/traces/{brief['trace_id']}")
                if _is_whole(stack, whole):
                    return whole
        return None

    with ThreadPoolExecutor(max_workers=1) as beside:
        # Asked all the while: the command may take longer to return than the fleet to decide.
        kill = beside.submit(stack.kill, region, "--only", "targets")
        trace = wait_for("the trace of an outage", outage, timeout_s=60, poll_s=0.02)
        begun = kill.result()
    figure(f"trace of an outage: {trace['spans']} spans, there {monotonic() - begun:.1f} s after the kill")
    spans = {span["span_id"]: span for span in trace["all"]}
    served = next(span for span in trace["all"] if span["name"] == "first served")
    above = _upwards(served, spans)
    chain = [span["name"].split()[0] for span in above]
    if above[-1]["service"] == "leeward-edge":
        # Live traffic told of it before any probe did: the edge's word is where it began.
        assert chain[-2:] == ["fold", "publish"]
    else:
        assert chain[-3:] == ["fold", "publish", "probe"]
        assert above[-1]["failed"]
        assert above[-1]["attributes"]["leeward.target"].endswith(region)
    # A second decision about the same outage continues the first.
    assert [name for name, _ in groupby(chain[: chain.index("fold")])] in (
        ["first", "apply", "receive", "decide"],
        ["first", "apply", "receive", "publish", "decide"],
    )
    assert not served["attributes"]["leeward.target"].endswith(region)
    assert "commit" in {span["name"] for span in trace["all"]}
    drawn = stack.do("trace", trace["trace_id"])
    assert max(map(len, drawn.splitlines())) <= 100
    version = next(span for span in trace["all"] if span["name"] == "decide")["attributes"][
        "leeward.decision"
    ]
    assert trace["trace_id"] in stack.do("trace", version)
    assert trace["trace_id"] in stack.do("explain", version)
    assert moved, "no request had to move"
    wait_for(
        "the spans of a failover", lambda: _tells_failover(stack, moved[0]) or None, timeout_s=10, poll_s=0.3
    )


def _listed(stack: LocalStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _kept(stack, "/traces?kind=decision&limit=100")["traces"]
    return found


def _kept(stack: LocalStack, path: str) -> Any:
    """What the keeper holds."""
    keeper = stack.processes()["keeper"]["url"]
    return stack.http.get(keeper + path).raise_for_status().json()


def _is_whole(stack: LocalStack, trace: dict[str, Any]) -> bool:
    """Whether it began with an observation (a later step of the same decision begins with itself), each edge
    applied it and received it by both paths, one has served by it, and nothing is missing above of that."""
    spans = {span["span_id"]: span for span in trace["all"]}
    served = [span for span in trace["all"] if span["name"] == "first served"]
    above = _upwards(served[0], spans) if served else []
    if not above or above[-1]["parent_id"] is not None or "fold" not in {span["name"] for span in above}:
        return False
    applied = {span["node"] for span in trace["all"] if span["name"] == "apply"}
    heard = {
        (span["node"], span["attributes"]["leeward.path"])
        for span in trace["all"]
        if span["name"].startswith("receive")
    }
    edges = {f"edge-{region}" for region in stack.regions}
    return applied == edges and heard == {(edge, path) for edge in edges for path in ("bus", "http")}


def _upwards(span: dict[str, Any], spans: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """`span` and all that is above of it."""
    found = [span]
    while (parent := spans.get(found[-1]["parent_id"])) is not None:
        found.append(parent)
    return found


def _tells_failover(stack: LocalStack, request_id: str) -> bool:
    said = stack.leeward("trace", request_id, "-o", "json")
    if said.returncode != 0:
        return False
    spans = json.loads(said.stdout)["all"]
    attempts = [span for span in spans if span["kind"] == "client"]
    return len(attempts) >= 2 and attempts[0]["failed"] and not attempts[-1]["failed"]
