"""Tokens between real processes' code over real sockets and TLS: an edge that follows, operators that steer."""

import asyncio
import hashlib
import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane import app
from edge_router.adapters.store import DiskStore
from edge_router.adapters.stream import HttpControlPlane, Presented
from edge_router.app import Outside
from edge_router.app import serve as serve_edge
from edge_router.core.table import RouteTable
from ops import presenting
from ops.client import ControlPlanes, Refused, open_client
from ops.errors import Unreachable
from shared.adapters.memory import MemoryBroker, MemoryStore
from shared.clock import SystemClock
from shared.telemetry import NoTelemetry
from shared.tls import client_context
from shared.vocabulary.decision import Decision
from shared.vocabulary.node import Node, NodeFile, Tls
from tests.integration.test_edge_follow import Recorder
from tests.support.processes import HOST, free_ports, until
from tests.support.replicas import fleet

WORDS = {"viewer": "looks", "operator": "steers", "admin": "owns", "edge": "follows"}
TIMINGS = {"lease_ttl_s": 2, "beat_s": 0.5, "etcd_beat_s": 1.0, "round_s": 0.2}


@dataclass
class Files:
    """A certificate for this machine that signs itself, its key, and the tokens, one a file."""

    certificate: Path
    key: Path
    folder: Path

    def token(self, role: str) -> Path:
        return self.folder / f"{role}.token"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    made = Files(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path)
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=leeward", "-addext", f"subjectAltName=IP:{HOST}"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    for role, word in WORDS.items():
        made.token(role).write_text(f"{word}\n")
    return made


@asynccontextmanager
async def replica(files: Files) -> AsyncIterator[str]:
    """A real one, over etcd and Kafka in memory, that speaks TLS and knows a token of each role; its URL."""
    (port,) = free_ports(1)
    node = Node.model_validate(
        {
            "role": "control-plane",
            "id": "cp-east",
            "region": "east",
            "state_dir": "/nowhere",
            "listen": f"{HOST}:{port}",
            "buses": {"east": f"{HOST}:9"},
            "etcd": {"endpoints": [f"{HOST}:9"]},
            "timings": TIMINGS,
            "api": {
                "tokens": [
                    {"id": f"{role}-1", "role": role, "sha256": hashlib.sha256(word.encode()).hexdigest()}
                    for role, word in WORDS.items()
                ],
                "tls": {"cert_file": str(files.certificate), "key_file": str(files.key)},
            },
        }
    )
    clock, stop, started = SystemClock(), asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        app.serve(
            NodeFile(node=node, fleet=fleet(("east",))),
            buses={"east": MemoryBroker("east", clock=clock, rng=random.Random(1)).bus("cp-east")},
            store=MemoryStore(rng=random.Random(2)).client("cp-east"),
            clock=clock,
            rng=random.Random(3),
            telemetry=NoTelemetry(),
            stop=stop,
            started=started.set,
        )
    )
    try:
        async with asyncio.timeout(10):
            await started.wait()
        yield f"https://{HOST}:{port}"
    finally:
        stop.set()
        async with asyncio.timeout(15):
            await serving


@asynccontextmanager
async def edge(url: str, files: Files, *, token: Path) -> AsyncIterator[list[Recorder]]:
    """One that hears nothing but `url`, and presents what `token` holds; its data path, once it has one."""
    node = Node.model_validate(
        {
            "role": "edge",
            "id": "edge-east",
            "region": "east",
            "state_dir": str(files.folder),
            "listen": f"{HOST}:9",
            "control_planes": [url],
            "control_plane_token": f"file:{token}",
            "control_plane_tls": {"ca_file": str(files.certificate)},
            "timings": TIMINGS,
        }
    )
    made: list[Recorder] = []
    ended = asyncio.Event()

    def make_serving(table: RouteTable, *_: object) -> Recorder:
        made.append(Recorder(table))
        return made[-1]

    async with AsyncExitStack() as held:
        assert node.control_plane_token is not None
        control_plane = HttpControlPlane(
            token=Presented(node.control_plane_token, urls=node.control_planes),
            tls=client_context(Tls(ca_file=str(files.certificate))),
        )
        held.push_async_callback(control_plane.close)
        outside = Outside(
            bus=None,
            control_plane=control_plane,
            store=DiskStore(files.folder / "lkg"),
            make_serving=make_serving,
            clock=SystemClock(),
            telemetry=NoTelemetry(),
            rng=random.Random(4),
        )
        serving = asyncio.create_task(serve_edge(node, None, outside, boot=1, ended=ended))
        try:
            yield made
        finally:
            ended.set()
            async with asyncio.timeout(15):
                await serving


@asynccontextmanager
async def operator(url: str, files: Files, role: str | None) -> AsyncIterator[ControlPlanes]:
    """What the command line uses, with the role's token in `--token-file`, or with none."""
    token = files.token(role) if role is not None else None
    with presenting.given(token_file=token, ca_file=files.certificate):
        async with open_client() as client:
            yield ControlPlanes(client, [url])


async def test_an_edge_follows_and_acknowledges_with_its_token_alone(files: Files) -> None:
    """Over TLS, by HTTP alone, from a real replica: it serves the decision, and the replica knows that it
    does. One with an old token gets nothing, and follows once its file has the new one."""
    async with replica(files) as url, operator(url, files, "viewer") as viewer:
        token = files.folder / "own.token"
        token.write_text("an old one")
        async with edge(url, files, token=token) as made:

            async def follows() -> bool:
                known = (await viewer.get("/v1/edges"))["edges"]
                return bool(made) and [(one["id"], one["via"]) for one in known] == [("edge-east", "http")]

            token.write_text("follows\n")
            await until(follows, within_s=20, what="the edge neither followed nor told what it serves")
        assert (await viewer.get("/v1/decisions/current"))["version"] != "0.0"


async def test_operators_are_let_in_by_role_and_their_token_goes_on_record(files: Files) -> None:
    """The author stays as given; whose token it was stands beside it."""
    async with replica(files) as url:
        freeze = {"kind": "freeze", "author": "ada", "reason": "rehearsal", "for_s": 60}
        async with operator(url, files, "viewer") as viewer:
            await until(lambda: _decided(viewer), within_s=10, what="no decision")
            with pytest.raises(Refused, match="viewer-1 is viewer") as refused:
                await viewer.change("POST", "/v1/overrides", freeze)
            assert refused.value.status == 403
        async with operator(url, files, "operator") as steering:
            await steering.change("POST", "/v1/overrides", freeze)
            (entry,) = (await steering.get("/v1/audit"))["entries"]
            assert (entry["author"], entry["by"]) == ("ada", "operator-1")
        async with operator(url, files, None) as nobody:
            with pytest.raises(Refused, match=r"wants a token.*--token-file"):
                await nobody.get("/v1/edges")
        with presenting.given(token_file=files.token("admin"), ca_file=None):
            async with open_client() as client:
                with pytest.raises(Unreachable):
                    await ControlPlanes(client, [url]).get("/v1/edges")


async def _decided(planes: ControlPlanes) -> bool:
    version, documents = await planes.in_force()
    return str(version) != "0.0" and all(isinstance(each, Decision) for each in documents.values())
