"""Network namespaces of tests: a process with a loopback of its own, reached only through links of the fault proxy.

Inside one every address is as outside (`127.0.0.1:port`), so nothing of a process's configuration changes: what
it listens on is offered outside, and what it connects to is offered inside, each by a link that can be cut.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from tests.support.fault_proxy import FaultProxy, Link, Mode

_names = itertools.count(1)


@cache
def why_not() -> str | None:
    """The reason why there can be none here, or None."""
    if not shutil.which("ip"):
        return "no `ip` command"
    name = f"leeward-{os.getpid()}-probe"
    made = subprocess.run(
        ["ip", "netns", "add", name], capture_output=True, text=True, timeout=10, check=False
    )
    if made.returncode != 0:
        return f"network namespaces are not permitted: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10, check=False)
    return None


@dataclass
class Enclosure:
    """One namespace and the links through its wall: `inward` by the port served inside, `outward` by the port
    that is reached from inside."""

    name: str
    inward: Mapping[int, Link] = field(default_factory=dict)
    outward: Mapping[int, Link] = field(default_factory=dict)

    @property
    def prefix(self) -> Sequence[str]:
        """Put before a command, it runs inside; the pid stays its own."""
        return ("ip", "netns", "exec", self.name)

    def set(self, mode: Mode) -> None:
        """All links at once: `drop` is a partition."""
        for link in (*self.inward.values(), *self.outward.values()):
            link.set(mode)


@contextmanager
def enclosure(proxy: FaultProxy, *, inward: Sequence[int], outward: Sequence[int]) -> Iterator[Enclosure]:
    """A namespace with its loopback up; nothing runs in it afterwards, or the kernel keeps it."""
    name = f"leeward-{os.getpid()}-{next(_names)}"
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, timeout=10)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True, timeout=10)
        yield Enclosure(
            name,
            {port: proxy.open(port, listen=port, connect_in=name) for port in inward},
            {port: proxy.open(port, listen=port, listen_in=name) for port in outward},
        )
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10, check=False)
