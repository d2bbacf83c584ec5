"""A local stack whose links can be broken one by one, and whose processes have failpoints.

The same processes from the same node files as `leeward up`, but for the addresses: every process of Leeward reaches
etcd, its buses and the control planes through links of its own (`links["FROM>TO"]`, by process id), and the last
region's etcd member and prober stand in network namespaces, where these are permitted (`enclosures`).
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from local_stack import LocalStack, wait_for

from ops.local import nodes
from ops.local.processes import Kind, ProcessRecord
from ops.local.stack import Stack, StackFile
from ops.local.up import blueprint
from tests.support import etcd, netns
from tests.support.failpoints import DIRECTORY
from tests.support.fault_proxy import HOST, FaultProxy, Link, Mode, Protocol
from tests.support.netns import Enclosure

ROOT = Path(__file__).parents[2]
QUOTA_BYTES = 24 * 1024 * 1024
"""Of etcd's store: small enough to be filled by a test."""

_PROTOCOLS: dict[Kind, Protocol] = {Kind.BUS: "kafka", Kind.CONTROL_PLANE: "http"}


class WiredStack(LocalStack):
    """Use `wired_stack`."""

    def __init__(self, state_dir: Path, port_base: int, *, etcd_runs: str, proxy: FaultProxy) -> None:
        super().__init__(state_dir, port_base)
        self.etcd_runs = etcd_runs
        self.proxy = proxy
        self.links: dict[str, Link] = {}
        self.enclosures: dict[str, Enclosure] = {}
        self.records: dict[str, ProcessRecord] = {}

    # ------------------------------------------------------------ breaking

    def set(self, mode: Mode, *names: str, latency_s: float = 0.0) -> None:
        """The links of these names, or of all that begin with them (`edge-us-east>`)."""
        for name in names:
            chosen = [link for each, link in self.links.items() if each.startswith(name)]
            assert chosen, f"no link {name}; there are {', '.join(sorted(self.links))}"
            for link in chosen:
                link.set(mode, latency_s=latency_s)

    def arm(self, process: str, failpoint: str, content: str = "") -> None:
        """Let a failpoint of this process happen next."""
        (self.failpoints(process) / failpoint).write_text(content)

    def failpoints(self, process: str) -> Path:
        """The directory of this process's failpoints."""
        return self.state_dir / "failpoints" / process

    def heal(self, *, timeout_s: float = 60.0) -> None:
        """As in the beginning: links whole, no failpoint waiting, everything running, and etcd empty, so that no
        target is held down for what earlier tests did to it."""
        self.mend()
        members = [f"etcd-{region}" for region in self.regions]
        self.kill(*members)
        for member in members:
            shutil.rmtree(self.state_dir / "data" / member, ignore_errors=True)
            (self.state_dir / "data" / member).mkdir(mode=0o700)
        super().heal(timeout_s=timeout_s)

    def mend(self) -> None:
        """Every link passes, no failpoint waits."""
        for link in self.links.values():
            link.heal()
        for enclosed in self.enclosures.values():
            enclosed.set("pass")
        for left in (self.state_dir / "failpoints").glob("*/*"):
            if left.name != "committed":
                left.unlink()

    # ------------------------------------------------------------ building

    def prepare(self, stack: ExitStack) -> None:
        """Write the node files and the record of the processes; nothing runs yet."""
        plan = blueprint(
            state_dir=self.state_dir, port_base=self.port_base, regions=self.regions, config=None
        )
        self.state_dir.mkdir(parents=True)
        nodes.write_node_files(plan)
        found = {record.id: record for record in nodes.records(plan)}
        last = self.regions[-1]
        if netns.why_not() is None:
            for name in (f"etcd-{last}", f"prober-{last}"):
                self.enclosures[name] = stack.enter_context(self._enclosed(found, name))
        self.records = {name: self._altered(record) for name, record in found.items()}
        for record in self.records.values():
            if record.kind in (Kind.CONTROL_PLANE, Kind.EDGE, Kind.PROBER):
                self.failpoints(record.id).mkdir(parents=True)
                if record.id not in self.enclosures:
                    self._wire(record)
            elif record.kind is Kind.ETCD:
                (self.state_dir / "data" / record.id).mkdir(parents=True, mode=0o700)
        Stack(self.state_dir).write(
            StackFile(
                state="running",
                detached=True,
                port_base=self.port_base,
                regions=self.regions,
                simulated=True,
                fleet_sha="",
                processes=tuple(self.records.values()),
            )
        )

    def _enclosed(self, found: dict[str, ProcessRecord], name: str) -> AbstractContextManager[Enclosure]:
        """An etcd member reaches its peers, a prober its bus and the targets."""
        record = found[name]
        outward = []
        for other in found.values():
            if record.kind is Kind.ETCD:
                if other.kind is Kind.ETCD and other.id != name:
                    outward.append(other.ports["peer"])
            elif other.kind is Kind.TARGETS or other.id == f"bus-{record.region}":
                outward.append(other.ports["listen"])
        return netns.enclosure(self.proxy, inward=list(record.ports.values()), outward=outward)

    def _altered(self, record: ProcessRecord) -> ProcessRecord:
        argv = list(record.argv)
        env = dict(record.env)
        if record.kind is Kind.ETCD:
            argv[0] = str(etcd.binary(self.etcd_runs))
            argv = [word for word in argv if not word.startswith("--quota-backend-bytes")]
            argv += [f"--quota-backend-bytes={QUOTA_BYTES}", "--unsafe-no-fsync"]
        elif record.kind in (Kind.CONTROL_PLANE, Kind.EDGE, Kind.PROBER):
            role = argv.index(record.kind.value)
            argv = [sys.executable, "-P", "-m", "tests.support.failpoints", *argv[role:]]
            path = os.environ.get("PYTHONPATH")
            env["PYTHONPATH"] = f"{path}{os.pathsep}{ROOT}" if path else str(ROOT)
            env[DIRECTORY] = str(self.failpoints(record.id))
        if record.id in self.enclosures:
            argv = [*self.enclosures[record.id].prefix, *argv]
        return record.model_copy(update={"argv": tuple(argv), "env": env})

    def _wire(self, record: ProcessRecord) -> None:
        """Put a link in the place of every address that its node file names."""
        path = self.state_dir / "nodes" / f"{record.id}.yaml"
        node, marker, fleet = path.read_text().partition("\nfleet:")
        for other in self.records.values():
            port = other.ports.get("client") or other.ports.get("listen")
            address = f"{HOST}:{port}"
            if other.id == record.id or other.kind is Kind.TARGETS or address not in node:
                continue
            protocol: Protocol | None = _PROTOCOLS.get(other.kind)
            link = self.proxy.open(port or 0, name=f"{record.id}>{other.id}", rewrite=protocol)
            self.links[link.name] = link
            node = node.replace(address, f"{HOST}:{link.port}")
        path.write_text(node + marker + fleet)

    def bring_up(self) -> None:
        """Start everything and wait until all is well."""
        self.do("start", *self.regions, "--only", "etcd,bus,targets")
        wait_for("etcd has a leader", self.etcd_leader, timeout_s=30)
        self.do("start", *self.regions)
        wait_for("edges FRESH", self.fresh, timeout_s=60, poll_s=0.2)
        wait_for("edges to follow a replica", self._all_follow, timeout_s=20, poll_s=0.2)
        wait_for("verdicts", lambda: set(self.verdicts().values()) == {"HEALTHY"}, timeout_s=30, poll_s=0.2)
        wait_for("a plan", self.documents, timeout_s=20)
        self.note_baseline()

    def _all_follow(self) -> bool:
        return all(edge and edge["stream"] for edge in map(self.edge, self.regions))


@contextmanager
def wired_stack(state_dir: Path, port_base: int, *, etcd_runs: str) -> Iterator[WiredStack]:
    """A running one; gone afterwards, whatever happened."""
    with ExitStack() as everything:
        proxy = everything.enter_context(FaultProxy())
        stack = WiredStack(state_dir, port_base, etcd_runs=etcd_runs, proxy=proxy)
        everything.callback(stack.http.close)
        stack.prepare(everything)
        try:
            stack.bring_up()
            yield stack
        finally:
            stack.mend()
            stack.leeward("kill", *stack.regions, "--signal", "KILL")
            stack.leeward("down")


STOP, CONT, KILL, TERM = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL, signal.SIGTERM
