"""Every injector ends its fault by itself: nobody says anything after it was put."""

from typing import Any

import httpx2
import pytest
from local_stack import LocalStack, wait_for

pytestmark = pytest.mark.slow  # in `make test` a drill whose driver is killed shows the same

TTL_S = 3.0
WORD = {"author": "a test", "reason": "nobody will undo this"}


def put(url: str, **body: Any) -> None:
    answer = httpx2.put(url, json={**body, "for_s": TTL_S}, timeout=20, trust_env=False)
    assert answer.status_code == 201, answer.text


def targets_of(stack: LocalStack, region: str) -> set[str]:
    """Who answers there now."""
    return {stack.chat(region).headers.get("x-leeward-target", "") for _ in range(4)}


def test_the_keepers_faults_lapse(stack: LocalStack) -> None:
    """A killed edge is started again and becomes FRESH; a stopped prober goes on. Neither is in a region,
    nor does the keeper itself die with one."""
    region = stack.regions[-1]
    keeper = f"http://127.0.0.1:{stack.port_base + 50}/faults"
    assert "keeper" not in stack.do("kill", region, "--signal", "CONT")
    before = stack.processes()[f"edge-{region}"]["pid"]
    put(f"{keeper}/lapse-1", fault="kill", processes=[f"edge-{region}"])
    put(f"{keeper}/lapse-2", fault="stop", processes=[f"prober-{region}"])
    assert stack.edge(region) is None
    wait_for("the edge serves again", lambda: stack.edge(region) and stack.fresh(), timeout_s=30)
    assert stack.processes()[f"edge-{region}"]["pid"] != before
    wait_for("all processes run", stack.all_run, timeout_s=10)
    assert httpx2.get(keeper, trust_env=False).json() == {"faults": []}


def test_the_edges_faults_lapse(stack: LocalStack) -> None:
    """Its own region's target is refused here alone, and used again afterwards."""
    region = stack.regions[0]
    admin = f"http://127.0.0.1:{stack.port_base + 250}"
    assert targets_of(stack, region) == {f"alpha-{region}"}
    put(f"{admin}/faults/lapse-3", fault="refuse", targets=[f"alpha-{region}"])
    assert f"alpha-{region}" not in targets_of(stack, region)
    shown = stack.edge(region)
    assert shown is not None
    assert [each["id"] for each in shown["fault_filter"]] == ["lapse-3"]
    wait_for("it is used again", lambda: targets_of(stack, region) == {f"alpha-{region}"}, timeout_s=40)
    shown = stack.edge(region)
    assert shown is not None
    assert shown["fault_filter"] == []


def test_an_override_lapses(stack: LocalStack) -> None:
    """A drain ends at its `expires_at`, and its target is planned again."""
    target = f"beta-{stack.regions[-1]}"
    order = {"kind": "drain", "target": target, **WORD, "for_s": TTL_S}
    answer = stack.http.post(f"{stack.plane_url(stack.regions[0])}/v1/overrides", json=order)
    assert answer.status_code == 201, answer.text

    def excluded() -> bool:
        return any(
            out["target"] == target and out["by"] == "operator"
            for document in stack.documents().values()
            for out in document["excluded"]
        )

    wait_for("it is drained", excluded, timeout_s=10)
    wait_for("it is back", lambda: not excluded() and stack.well(), timeout_s=60)
