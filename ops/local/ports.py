"""Which port each process of a local stack has, and whether it is free.

A stack occupies the block `base .. base + 799`; two stacks live beside each other when their blocks
do not overlap.
"""

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from ops.errors import Bad, Usage

HOST = "127.0.0.1"
BLOCK = 800
"""Ports from the base up that a stack may use."""
MAX_REGIONS = 10
"""More would run one kind's ports into the next kind's."""


def keeper_port(base: int) -> int:
    """Where the keeper of a stack with this `base` listens."""
    return base + 50


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of region number `index` in a stack with this `base`."""

    base: int
    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_REGIONS:
            raise Usage(f"a local stack has at most {MAX_REGIONS} regions")
        if not 1024 <= self.base <= 65_536 - BLOCK:
            raise Usage(f"--port-base must lie between 1024 and {65_536 - BLOCK}")

    @property
    def control_plane(self) -> int:
        """The control plane's API."""
        return self.base + 100 + self.index

    @property
    def edge(self) -> int:
        """The edge's data plane,"""
        return self.base + 200 + self.index

    @property
    def edge_admin(self) -> int:
        """and its admin listener."""
        return self.base + 250 + self.index

    @property
    def prober_admin(self) -> int:
        """The prober's admin listener."""
        return self.base + 300 + self.index

    @property
    def bus(self) -> int:
        """The Kafka protocol."""
        return self.base + 400 + self.index

    @property
    def etcd_client(self) -> int:
        """etcd, for its clients,"""
        return self.base + 500 + self.index

    @property
    def etcd_peer(self) -> int:
        """and for its peers."""
        return self.base + 550 + self.index

    @property
    def alpha(self) -> int:
        """The simulated target of provider alpha."""
        return self.base + 600 + self.index

    @property
    def beta(self) -> int:
        """The simulated target of provider beta."""
        return self.base + 650 + self.index

    @property
    def alpha_admin(self) -> int:
        """The fault panel of alpha."""
        return self.base + 700 + self.index

    @property
    def beta_admin(self) -> int:
        """The fault panel of beta."""
        return self.base + 750 + self.index


def free(port: int) -> bool:
    """Whether a process could listen on `port` now. A port in TIME_WAIT counts as free, as it does
    for servers."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def answers(port: int, *, timeout_s: float = 0.25) -> bool:
    """Whether somebody accepts connections on `port`."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def require_free(wanted: Iterable[tuple[str, int]]) -> None:
    """Check `(process id, port)` pairs; raises Bad that names every port taken, who wants it and,
    where the system tells, who has it."""
    taken = [(process, port) for process, port in wanted if not free(port)]
    if not taken:
        return
    lines = [f"port {port}, wanted by {process}, is taken{_holder(port)}" for process, port in taken]
    raise Bad("\n".join([*lines, "choose another block with --port-base"]))


def _holder(port: int) -> str:
    """` by pid 12 (name)`, or nothing where that cannot be seen."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            listens = connection.status == psutil.CONN_LISTEN and local and local.port == port
            if listens and connection.pid:
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return ""
