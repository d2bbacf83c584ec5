"""Two hundred streams whose target is killed in the middle of their answers: what every client has in the end.

Real processes over public HTTP: two simulated targets, and an edge that serves by its own file. The simulator's
answers follow from the prompt alone, so each client knows the whole text it should have.
"""

import asyncio
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fault_rows import Rows
from local_stack import free_port_base

from ops.simulator.answers import expected_answer
from tests.support.processes import HOST, Child, temporary_directory, until

pytestmark = pytest.mark.slow

STREAMS = 200
TOKENS = 60
TOKENS_PER_S = 20
EARLY = 10
"""Tokens that every client has before the target is killed."""
TOO_FEW = 120
"""Requests that the second target takes at once, in the case where it has no room for all."""

ROUTES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "terminate": ({}, {}),
    "replay": ({"stream_recovery": "resume"}, {}),
    "continuation": ({"stream_recovery": "resume"}, {"capabilities": ["stream", "prefill"]}),
    "no-room": ({"stream_recovery": "resume"}, {"capacity_inflight": TOO_FEW}),
    "hold": ({"stream_recovery": "hold"}, {}),
}
"""Of each case: what its route says, and what its second target is."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The running processes."""

    edge_url: str
    metrics_url: str
    start_alpha: Callable[[], Child]


@dataclass(frozen=True, slots=True)
class Got:
    """What one client has: how its stream ended, whether another target went on with it, and its text."""

    end: str
    resumed: bool
    text: str
    expected: str

    @property
    def exact(self) -> bool:
        """No token lost, doubled or changed; of a stream that ended early, up to where it did."""
        return self.text == self.expected if self.end == "whole" else self.expected.startswith(self.text)


def _node(edge: int, admin: int, alpha: int, beta: int, state_dir: Path) -> dict[str, Any]:
    targets = []
    routes = []
    for name, (route, second) in ROUTES.items():
        common = {"region": "us-east", "capacity_inflight": 1000}
        places = {"alpha": ("alpha-large", alpha, {}), "beta": ("beta-medium", beta, second)}
        for provider, (model, port, more) in places.items():
            url = f"http://{HOST}:{port}/v1"
            one = {"id": f"{provider}-{name}", "provider": provider, "model": model, "url": url}
            targets.append({**one, **common, **more})
        tiers = [{"targets": [f"{provider}-{name}"]} for provider in places]
        routes.append({"id": name, "match": {"models": [name]}, "tiers": tiers, **route})
    return {
        "node": {
            "role": "edge",
            "id": "edge-us-east",
            "region": "us-east",
            "state_dir": str(state_dir),
            "listen": f"{HOST}:{edge}",
            "admin_listen": f"{HOST}:{admin}",
            "control_planes": [f"http://{HOST}:{admin + 1}"],  # where nobody is: it serves by this file
        },
        "fleet": {
            "regions": [{"id": "us-east"}],
            "targets": targets,
            "routes": routes,
            "client_keys": [{"id": "dev", "sha256": hashlib.sha256(b"dev").hexdigest()}],
        },
    }


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """An edge and the second target; the first is started for each case."""
    base = free_port_base()
    edge, admin, alpha, alpha_admin, beta, beta_admin = (base + 50 * kind for kind in range(1, 7))
    with temporary_directory("streams") as directory, ExitStack() as stack:

        def start(name: str, *arguments: str) -> Child:
            argv = [sys.executable, "-m", "ops.cli", *arguments]
            return stack.enter_context(Child(argv, log=directory / f"{name}.log", env=dict(os.environ)))

        def simulator(name: str, port: int, admin_port: int) -> Child:
            listening = ("--listen", f"{HOST}:{port}", "--admin-listen", f"{HOST}:{admin_port}")
            pace = ("--ttft-ms", "20", "--tokens-per-s", str(TOKENS_PER_S))
            child = start(name, "simulator", "--id", name, *listening, *pace)
            asyncio.run(_answers(f"http://{HOST}:{port}/v1/models", child))
            return child

        file = directory / "edge.yaml"
        file.write_text(yaml.safe_dump(_node(edge, admin, alpha, beta, directory / "state")))
        simulator("beta-us-east", beta, beta_admin)
        child = start("edge", "edge", "--config", str(file))
        asyncio.run(_answers(f"http://{HOST}:{admin}/readyz", child))
        yield Scene(
            f"http://{HOST}:{edge}/v1/chat/completions",
            f"http://{HOST}:{admin}/metrics",
            lambda: simulator("alpha-us-east", alpha, alpha_admin),
        )


async def _answers(url: str, child: Child) -> None:
    async with httpx2.AsyncClient(timeout=2.0, trust_env=False) as http:

        async def ready() -> bool:
            try:
                return (await http.get(url)).status_code == 200
            except httpx2.HTTPError:
                return False

        await until(ready, within_s=30, what=lambda: f"{url}: {child.last_lines()}")


async def _read(http: httpx2.AsyncClient, url: str, model: str, number: int, heard: Counter[int]) -> Got:
    prompt = f"Stream {number}: what grows on the lee side, in {TOKENS} words?"
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    text, end, resumed = "", "lost", False
    try:
        async with http.stream("POST", url, json=body, headers={"authorization": "Bearer dev"}) as answer:
            if answer.status_code != 200:
                end = f"status {answer.status_code}"
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    end = "whole"
                elif line.startswith(": leeward: resumed"):
                    resumed = True
                elif line.startswith("data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        end = "in-band"
                    for choice in event.get("choices", ()):
                        text += choice["delta"].get("content") or ""
                        heard[number] += bool(choice["delta"].get("content"))
    except httpx2.HTTPError:
        # What comes behind an in-band error is no clean end, as it must be; behind anything else it is a loss.
        if end == "whole":
            end = "lost"
    return Got(end, resumed, text, expected_answer(prompt))


async def _case(scene: Scene, alpha: Child, model: str) -> tuple[list[Got], int, float]:
    """What the clients have; tokens that they had when the target was killed; seconds from then to the end."""
    heard: Counter[int] = Counter()
    loop = asyncio.get_running_loop()
    limits = httpx2.Limits(max_connections=STREAMS + 1)
    async with httpx2.AsyncClient(timeout=60.0, trust_env=False, limits=limits) as http:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_read(http, scene.edge_url, model, number, heard))
                for number in range(STREAMS)
            ]

            async def under_way() -> bool:
                if model == "hold":
                    return await _carried(http, scene) == STREAMS
                return len(heard) == STREAMS and min(heard.values()) >= EARLY

            await until(
                under_way, within_s=40, what=lambda: f"{len(heard)} streams, {heard.most_common()[-3:]}"
            )
            if model == "hold":
                await asyncio.sleep(EARLY / TOKENS_PER_S)  # nothing shows how far they are: so by the clock
            alpha.stop()
            killed = loop.time()
            had = sum(heard.values())
        return [task.result() for task in tasks], had, loop.time() - killed


async def _carried(http: httpx2.AsyncClient, scene: Scene) -> int:
    """Requests at the first target of the case that holds."""
    for line in (await http.get(scene.metrics_url)).text.splitlines():
        if line.startswith('leeward_edge_inflight{target="alpha-hold"}'):
            return int(float(line.split()[-1]))
    return 0


@pytest.mark.parametrize("model", ROUTES)
def test_the_target_of_two_hundred_streams_is_killed(
    scene: Scene, model: str, figure: Callable[[str], None], row: Rows
) -> None:
    """Resumed or ended in-band, none lost, and not a token lost or doubled (FAULTS row 20)."""
    got, had, seconds = asyncio.run(_case(scene, scene.start_alpha(), model))
    ends = Counter(one.end for one in got)
    resumed = sum(one.resumed and one.end == "whole" for one in got)
    wrong = sum(not one.exact for one in got)
    figure(
        f"{STREAMS} streams, target killed, {model}: {resumed} resumed, {ends['whole'] - resumed} whole otherwise, "
        f"{ends['in-band']} ended in-band, {ends['lost']} lost, {wrong} with lost or doubled tokens; "
        f"{had} of {STREAMS * TOKENS} tokens sent before, all over {seconds:.1f} s after"
    )
    row(
        20,
        f"{STREAMS} streams, their target killed, {model}",
        f"{ends['whole']} whole, {ends['in-band']} told in-band, {ends['lost']} lost, {wrong} with lost or doubled tokens",
        limit="0 lost, 0 wrong",
        whole=ends["whole"],
        lost=ends["lost"],
        wrong=wrong,
    )
    assert wrong == 0
    assert ends["lost"] == 0
    if model == "terminate":
        assert ends == {"in-band": STREAMS}
    elif model == "no-room":
        assert ends == {"whole": TOO_FEW, "in-band": STREAMS - TOO_FEW}
        assert resumed == TOO_FEW
    else:
        assert ends == {"whole": STREAMS}
        assert resumed == (0 if model == "hold" else STREAMS)
