"""Fault rows 25 and 26 on a real edge process: it starts with everything unreachable, with a damaged file, and its disk
runs full. What it follows until then is the HTTP side of a replica that this test plays, byte for byte."""

import asyncio
import hashlib
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from edge_stand import KEY, Simulated, fixed_ports
from fault_rows import Rows

from shared.vocabulary.base import canonical_json
from shared.vocabulary.config import ClientKey, FleetConfig
from tests.support.edge_worlds import ToyControlPlane, fleet
from tests.support.processes import Child, until
from tests.support.toy_replica import ToyReplica

CALL = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


@dataclass
class ColdStart:
    """An edge that can be killed and started, one target, and the replica it follows."""

    folder: Path
    url: str
    admin_url: str
    replica: ToyReplica
    http: httpx2.AsyncClient
    wrapper: tuple[str, ...] = ()
    edge: Child | None = None

    def start(self) -> float:
        """Launch the edge; returns when, monotonic."""
        began = time.monotonic()
        self.edge = Child(
            [
                *self.wrapper,
                sys.executable,
                "-m",
                "ops.cli",
                "edge",
                "--config",
                str(self.folder / "leeward.yaml"),
            ],
            log=self.folder / "edge.log",
        )
        return began

    def kill(self) -> None:
        """SIGKILL."""
        if self.edge is not None:
            self.edge.stop()

    async def status(self) -> dict[str, Any]:
        """`GET /status`, empty while it cannot be asked."""
        try:
            status: dict[str, Any] = (await self.http.get(f"{self.admin_url}/status")).json()
        except httpx2.HTTPError:
            return {}
        return status

    async def serves(self) -> bool:
        """Whether a client gets an answer."""
        try:
            answer = await self.http.post(f"{self.url}/v1/chat/completions", json=CALL, headers=KEY)
        except httpx2.HTTPError:
            return False
        return answer.status_code == 200

    async def until_shows(self, **expected: Any) -> dict[str, Any]:
        """Until its status says so."""
        shown: dict[str, Any] = {}

        async def as_expected() -> bool:
            shown.update(await self.status())
            return all(shown.get(name) == value for name, value in expected.items())

        await until(as_expected, within_s=30, what=lambda: f"{shown}\n{self.edge and self.edge.last_lines()}")
        return shown

    async def follow(self, *routes: str) -> None:
        """A further decision, applied and acknowledged, which is said only once the file is written."""
        head = self.replica.cp.commit(*routes)
        await self.replica.tell_newest()
        version = f"{head.generation}.{head.seq}"
        await self.until_shows(decision=version)

    def files(self) -> list[Path]:
        """The last-known-good files, oldest first."""
        return sorted((self.folder / "state" / "edge-us-east").glob("lkg-*.json"))


@asynccontextmanager
async def cold_start(
    folder: Path, *, wrapper: tuple[str, ...] = (), node: Mapping[str, Any] | None = None
) -> AsyncIterator[ColdStart]:
    """Everything up, the edge following decision 1.1; all gone afterwards."""
    ports = fixed_ports(5)
    target = Simulated("alpha", ports[0], ports[1], folder)
    target.start("--model", "alpha-1", "--ttft-ms", "1", "--tokens-per-s", "0")
    cp = ToyControlPlane()
    keyed = fleet(port=target.port).model_copy(
        update={"client_keys": (ClientKey(id="dev", sha256=hashlib.sha256(b"dev").hexdigest()),)}
    )
    cp.configs[-1] = canonical_json(FleetConfig(config_version=1, fleet=keyed).model_dump(mode="json"))
    cp.commit()
    config = {
        "node": {
            "role": "edge",
            "id": "edge-us-east",
            "region": "us-east",
            "state_dir": str(folder / "state"),
            "listen": f"127.0.0.1:{ports[2]}",
            "admin_listen": f"127.0.0.1:{ports[3]}",
            "control_planes": [f"http://127.0.0.1:{ports[4]}"],
            **(node or {}),
        }
    }
    (folder / "leeward.yaml").write_text(yaml.safe_dump(config))
    replica = ToyReplica(cp)
    async with httpx2.AsyncClient(timeout=5.0, trust_env=False) as http:
        stage = ColdStart(
            folder, f"http://127.0.0.1:{ports[2]}", f"http://127.0.0.1:{ports[3]}", replica, http, wrapper
        )
        try:
            await replica.start(ports[4])
            stage.start()
            await stage.until_shows(decision="1.1")
            await until(stage.serves, within_s=20, what="the edge serves")
            yield stage
        finally:
            stage.kill()
            await replica.stop()
            target.stop()


async def test_an_edge_starts_with_everything_unreachable(tmp_path: Path, row: Rows) -> None:
    """Row 25: from the last-known-good file alone, no fleet in its node file, nothing answering behind it."""
    async with cold_start(tmp_path) as stage:
        await stage.follow("chat")
        await until(_written(stage, 2), within_s=10, what="the file is written")
        stage.kill()
        await stage.replica.stop()
        began = stage.start()
        await until(stage.serves, within_s=20, what="it serves", every_s=0.01)
        took_s = time.monotonic() - began
        shown = await stage.status()
        row(25, "cold start, nothing reachable", f"serves after {took_s:.2f} s", limit="3 s", took_s=took_s)
        assert (shown["decision"], shown["mode"]) == ("1.2", "STALE")
        assert took_s <= 3.0


async def test_a_damaged_file_is_passed_over_for_the_one_before(tmp_path: Path, row: Rows) -> None:
    """Row 26: one bit of the newest file is another; the older generation is served, and an alarm says why."""
    async with cold_start(tmp_path) as stage:
        await stage.follow("chat")
        await until(_written(stage, 2), within_s=10, what="the file is written")
        stage.kill()
        await stage.replica.stop()
        newest = stage.files()[-1]
        raw = bytearray(newest.read_bytes())
        raw[len(raw) // 2] ^= 1
        newest.write_bytes(raw)
        stage.start()
        await until(stage.serves, within_s=20, what="it serves")
        shown = await stage.status()
        row(
            26,
            "newest file damaged",
            f"serves {shown['decision']} of {shown['seen']}",
            limit="the one before",
        )
        assert (shown["decision"], shown["seen"]) == ("1.1", "1.2")
        assert "LKG_DAMAGED" in [alarm["code"] for alarm in shown["alarms"]]


async def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, row: Rows) -> None:
    """Row 26: the state directory is a file system of 64 KiB, filled up while the edge follows. Traffic and decisions
    go on, an alarm stands, what was written stays whole; with space again the next decision is written."""
    state = tmp_path / "state"
    state.mkdir()
    mount = f'mount -t tmpfs -o size=64k tmpfs {state} && exec "$@"'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "edge")
    if shutil.which("unshare") is None or not await _may(wrapper):
        pytest.skip("no mount namespaces here: a full disk cannot be made")
    async with cold_start(tmp_path, wrapper=wrapper) as stage:
        await until(_written_inside(stage, state, 1), within_s=10, what="the first file is written")
        inside = _inside(stage, state)
        _fill(inside / "ballast")
        await stage.follow("chat")

        async def alarmed() -> bool:
            return "LKG_UNWRITABLE" in [alarm["code"] for alarm in (await stage.status()).get("alarms", [])]

        await until(alarmed, within_s=20, what="the alarm stands")
        left = {path.name: path.stat().st_size for path in (inside / "edge-us-east").iterdir()}
        served = await stage.serves()
        whole = [name for name in left if name.startswith("lkg-") and "-1.1." in name]
        row(
            26,
            "disk full",
            f"decision 1.2 applied, {len(left) - len(whole)} partial files, "
            f"{'serves' if served else 'fails'}",
            limit="0, serves",
        )
        assert served
        assert len(left) == len(whole) == 1, left
        (inside / "ballast").unlink()
        await stage.follow("chat")
        await until(_written_inside(stage, state, 2), within_s=20, what="the next decision is written")
        await stage.until_shows(alarms=[])


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as ballast:
        try:
            for _ in range(1024):
                ballast.write(bytes(512))
        except OSError:
            return
    raise AssertionError("the file system took more than it should hold")


def _inside(stage: ColdStart, state: Path) -> Path:
    """The state directory as the edge's own mount namespace has it. `unshare` executes what it wraps, so the
    child's pid is the edge's."""
    assert stage.edge is not None
    return Path(f"/proc/{stage.edge.pid}/root") / state.relative_to("/")


async def _may(wrapper: tuple[str, ...]) -> bool:
    trial = await asyncio.create_subprocess_exec(
        *wrapper, "true", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await trial.wait() == 0


def _written(stage: ColdStart, count: int) -> Any:
    async def look() -> bool:
        return len(stage.files()) >= count

    return look


def _written_inside(stage: ColdStart, state: Path, count: int) -> Any:
    async def look() -> bool:
        folder = _inside(stage, state) / "edge-us-east"
        return folder.is_dir() and len(list(folder.glob("lkg-*.json"))) >= count

    return look
