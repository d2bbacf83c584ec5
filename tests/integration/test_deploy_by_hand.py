"""docs/DEPLOY.md, carried out: its files, with only addresses replaced, against Apache Kafka and a three-member etcd."""

import asyncio
import hashlib
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from shared.config_file import load
from tests.support.brokers import BROKERS, running
from tests.support.etcd import etcd_cluster
from tests.support.processes import HOST, Child, free_ports, temporary_directory, until

DEPLOY = Path(__file__).parents[2] / "docs" / "DEPLOY.md"
TARGETS = {
    "alpha-us-east": "https://us.alpha.example",
    "alpha-eu-west": "https://eu.alpha.example",
    "beta-eu-west": "https://api.beta.example",
}
CALL = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


def blocks() -> dict[str, dict[str, Any]]:
    """The YAML files of the page: `fleet`, and one for each role."""
    found = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DEPLOY.read_text(), re.DOTALL)
    ]
    files = {block["node"]["role"]: block for block in found if "node" in block}
    files["fleet"] = next(block for block in found if "node" not in block and "fleet" in block)
    assert set(files) == {"fleet", "control-plane", "prober", "edge"}
    return files


@dataclass(slots=True)
class Deployment:
    """The processes, started one by one with the commands of the page."""

    directory: Path
    replaced: Mapping[str, str]
    stack: AsyncExitStack
    children: dict[str, Child] = field(default_factory=dict)

    def write(self, role: str) -> Path:
        """The node file of `role`: the page's, below it the page's fleet, with this machine's addresses."""
        files = blocks()
        node = files[role]
        node["fleet"] = files["fleet"]["fleet"]
        if "credentials" in node["node"]:
            node["node"]["credentials"] = files["prober"]["node"]["credentials"]
        text = yaml.safe_dump(node, sort_keys=False)
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        path = self.directory / f"{role}.yaml"
        path.write_text(text)
        return path

    def start(self, name: str, *arguments: str) -> None:
        """`leeward ARGUMENTS…`."""
        child = Child(
            [sys.executable, "-m", "ops.cli", *arguments],
            log=self.directory / f"{name}.log",
            env={**os.environ, "ALPHA_API_KEY": "sk-alpha"},
        )
        self.children[name] = self.stack.enter_context(child)


@pytest.fixture
async def deployment() -> AsyncIterator[tuple[Deployment, int, int, int]]:
    """Kafka, etcd and the targets run; nothing of Leeward does yet. Also the ports of API, edge and edge admin."""
    why_not = BROKERS["apache"].why_not()
    if why_not is not None:
        pytest.skip(f"Apache Kafka is not at hand: {why_not}")
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(running("apache"))
        etcd = await stack.enter_async_context(etcd_cluster())
        directory = stack.enter_context(temporary_directory("deploy"))
        (directory / "beta").write_text("sk-beta\n")
        api, edge, edge_admin, prober_admin, *ports = free_ports(4 + 2 * len(TARGETS))
        endpoints = etcd.address().endpoints
        replaced = {f"etcd-{number}:2379": endpoint for number, endpoint in enumerate(endpoints, start=1)}
        replaced |= {f"kafka-{region}:9092": kafka.bootstrap for region in ("us", "eu")}
        replaced |= {"/var/lib/leeward": str(directory), "/run/secrets/beta": str(directory / "beta")}
        replaced |= {"127.0.0.1:7100": f"{HOST}:{api}", "0.0.0.0:7200": f"{HOST}:{edge}"}
        replaced |= {"127.0.0.1:7250": f"{HOST}:{edge_admin}", "127.0.0.1:7300": f"{HOST}:{prober_admin}"}
        replaced |= {"SHA-256 OF THE KEY, 64 HEX DIGITS": hashlib.sha256(b"dev").hexdigest()}
        places = dict(zip(TARGETS, zip(ports[::2], ports[1::2], strict=True), strict=True))
        replaced |= {url: f"http://{HOST}:{places[target][0]}" for target, url in TARGETS.items()}
        deployment = Deployment(directory, replaced, stack)
        for target, (port, admin) in places.items():
            listens = ["--listen", f"{HOST}:{port}", "--admin-listen", f"{HOST}:{admin}"]
            deployment.start(target, "simulator", "--id", target, *listens)
        yield deployment, api, edge, edge_admin


@pytest.mark.kafka_apache
@pytest.mark.timeout(300)
async def test_the_pages_own_files_make_a_fleet_on_apache_kafka(
    deployment: tuple[Deployment, int, int, int],
) -> None:
    """A replica, a prober and an edge, started singly, find each other, serve, and lose a target without an error."""
    fleet, api, edge, edge_admin = deployment
    for role in ("control-plane", "prober", "edge"):
        path = fleet.write(role)
        assert load(path).node.role.value == role
        fleet.start(role, role, "--config", str(path))

    def why() -> str:
        return "\n".join(f"{name}:\n{child.last_lines()}" for name, child in fleet.children.items())

    async with httpx2.AsyncClient(timeout=10.0, trust_env=False) as client:

        async def answers(url: str) -> Any:
            try:
                return (await client.get(url)).json()
            except (httpx2.HTTPError, ValueError):
                return None

        async def follows() -> bool:
            status = await answers(f"http://{HOST}:{edge_admin}/status")
            return bool(status) and status["mode"] == "FRESH" and status["decision"] != "0.0"

        async def sees_all() -> bool:
            view = await answers(f"http://{HOST}:{api}/v1/health")
            return bool(view) and [target["verdict"] for target in view["targets"]] == ["HEALTHY"] * 3

        await until(follows, within_s=90, what=why)
        await until(sees_all, within_s=60, what=why)
        key = {"authorization": "Bearer dev"}
        call = f"http://{HOST}:{edge}/v1/chat/completions"
        served = await client.post(call, headers=key, json=CALL)
        assert (served.status_code, served.headers["x-leeward-target"]) == (200, "alpha-us-east")
        fleet.children["alpha-us-east"].stop()
        after = await asyncio.gather(*(client.post(call, headers=key, json=CALL) for _ in range(10)))
        assert {answer.status_code for answer in after} == {200}
        assert {answer.headers["x-leeward-target"] for answer in after} == {"alpha-eu-west"}
