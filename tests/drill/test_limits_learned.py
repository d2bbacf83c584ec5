"""A limit that one region's edge has run into is known to the other regions by decision, before they run into it."""

import time
from collections.abc import Callable

import pytest
from local_stack import LocalStack, wait_for

pytestmark = pytest.mark.slow  # what is moved for a limit stays moved for two minutes

LIMITED = "alpha-eu-west"


def test_a_429_at_one_edge_changes_the_other_regions_decision(
    stack: LocalStack, figure: Callable[[str], None]
) -> None:
    """The answer that got it is good all the same; the leader decides TARGET_COOLING; every edge applies it. When
    nobody spares the target any more it has its place again."""
    panel = f"{stack.processes()[LIMITED]['admin_url']}/faults/limit"
    fault = {
        "throttle": {"retry_after": 40},
        "only": {"paths": ["/v1/chat"], "agents": ["*httpx*"]},
        "for_s": 30,
    }
    stack.http.put(panel, json=fault).raise_for_status()

    def last_for(region: str) -> bool:
        targets = stack.documents()["chat"]["regions"][region]["tiers"][0]["targets"]
        return targets[-1]["id"] == LIMITED and targets[-1]["weight_permille"] == 0

    began = time.monotonic()
    answer = stack.chat("eu-west")
    assert answer.status_code == 200
    assert answer.headers["x-leeward-target"] != LIMITED
    answered_ms = (time.monotonic() - began) * 1000
    wait_for("the decision", lambda: last_for("us-east") or None, timeout_s=15, poll_s=0.005)
    decided_ms = (time.monotonic() - began) * 1000
    document = stack.documents()["chat"]
    assert ("TARGET_COOLING", LIMITED) in {(each["code"], each["target"]) for each in document["reasons"]}
    version = f"{document['generation']}.{document['seq']}"

    def applied() -> bool | None:
        shown = [stack.edge(region) for region in stack.regions]
        return all(edge is not None and edge["routes"]["chat"] == version for edge in shown) or None

    wait_for("all edges serve by it", applied, timeout_s=15, poll_s=0.005)
    applied_ms = (time.monotonic() - began) * 1000
    figure(
        f"429 at one edge: answered elsewhere after {answered_ms:.0f} ms, decided for all regions {decided_ms:.0f} ms, "
        f"applied by all edges {applied_ms:.0f} ms"
    )
    assert stack.chat("eu-west").headers["x-leeward-attempts"] == "1"
    wait_for("it has its place again", lambda: stack.well() or None, timeout_s=200, poll_s=0.5)
