"""A stack of toys with a real keeper: what `leeward keeper` does, without etcd and the rest."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from ops.local.ports import free
from ops.local.processes import Kind, ProcessRecord, stop_all
from ops.local.stack import Stack, StackFile

LEEWARD = Path(sys.executable).with_name("leeward")
WAIT_S = 20.0
TELL_CLOCK = (
    "import signal; from shared.clock import SystemClock; "
    "print(SystemClock().now().isoformat(), flush=True); signal.pause()"
)


def until(what: str, look: Callable[[], Any], *, timeout_s: float = WAIT_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.02)
    return found


class Kept:
    """A stack of toys, and its keeper."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.port = next(port for port in range(24_900, 26_000) if free(port))
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.Client(timeout=20.0, trust_env=False)
        self.stack = Stack(state_dir)
        keeper = [str(LEEWARD), "keeper", "--state-dir", str(state_dir), "--listen", f"127.0.0.1:{self.port}"]
        kinds = {"edge-a": Kind.EDGE, "bus-a": Kind.BUS, "prober-a": Kind.PROBER}
        records = [self._record("keeper", Kind.KEEPER, keeper)]
        records += [
            self._record(name, kind, [sys.executable, "-c", TELL_CLOCK]) for name, kind in kinds.items()
        ]
        self.stack.write(
            StackFile(
                state="running",
                detached=True,
                port_base=20_000,
                regions=("a",),
                simulated=True,
                fleet_sha="",
                processes=tuple(records),
            )
        )
        self.start(*(record.id for record in records))

    def _record(self, name: str, kind: Kind, argv: list[str]) -> ProcessRecord:
        return ProcessRecord(
            id=name,
            kind=kind,
            region="a",
            argv=tuple(argv),
            cwd=str(self.state_dir),
            log=str(self.state_dir / f"{name}.log"),
            ports={},
        )

    def start(self, *names: str) -> None:
        with self.stack.locked():
            self.stack.launch(self.stack.select(names))
        if "keeper" in names:
            until("the keeper listens", lambda: not free(self.port))

    def record(self, name: str) -> ProcessRecord:
        return next(record for record in self.stack.file.processes if record.id == name)

    def state(self, name: str) -> str:
        """As the system calls it: S sleeps, T is stopped; "" for none."""
        record = self.record(name)
        if not record.alive:
            return ""
        return Path(f"/proc/{record.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def lives(self, name: str) -> bool:
        return self.state(name) not in ("", "T")

    def inner(self) -> int:
        """The keeper's process that does the work."""
        outer = self.record("keeper").pid

        def found() -> int | None:
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
            return int(children[0]) if children else None

        return int(until("the inner keeper", found))

    def put(self, name: str, **order: Any) -> httpx2.Response:
        return self.http.put(f"{self.url}/faults/{name}", json=order)

    def faults(self) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = self.http.get(f"{self.url}/faults").json()["faults"]
        return shown

    def close(self) -> None:
        self.http.close()
        inner = self.inner() if self.record("keeper").alive else None
        stop_all(self.stack.file.processes, grace_s=3.0, launcher=self.stack.launcher)
        if inner is not None:
            until("the inner keeper ends", lambda: not Path(f"/proc/{inner}").exists())
        self.stack.launcher.release()
