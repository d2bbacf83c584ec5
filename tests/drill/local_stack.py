"""A local stack as the drills see it: the `leeward` command and public HTTP, nothing else.

Written apart from `ops.client` and `ops.status`, so that a mistake there cannot hide itself.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psutil

LEEWARD = Path(sys.executable).with_name("leeward")
BLOCK = 800
REGIONS = ("us-east", "eu-west", "ap-south")
KEY = {"authorization": "Bearer dev"}

Found = TypeVar("Found")


def free_port_base(*, start: int = 20_000) -> int:
    """The first base from `start` whose whole block nobody listens in; below the ports that the system gives
    to outgoing connections, one of which would take the place of a process that is down for a while."""
    offsets = [kind + index for kind in (*range(50, 800, 50),) for index in range(10)]
    for base in range(start, 32_000, BLOCK):
        if all(_free(base + offset) for offset in offsets):
            return base
    raise AssertionError("no free block of ports on this machine")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for(what: str, look: Callable[[], Found | None], *, timeout_s: float, poll_s: float = 0.05) -> Found:
    """What `look` finds, once it is truthy; fails the test with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(poll_s)


class LocalStack:
    """One stack, by its state directory."""

    def __init__(self, state_dir: Path, port_base: int, regions: tuple[str, ...] = REGIONS) -> None:
        self.state_dir = state_dir
        self.port_base = port_base
        self.regions = regions
        self.http = httpx2.Client(timeout=2.0, trust_env=False)
        self.baseline: dict[str, Any] | None = None
        self.given_up = ""
        self.struck: dict[str, int] = dict.fromkeys(regions, 0)
        """How often a region's targets died: hold-downs double with every flap, so tests take turns."""

    # ------------------------------------------------------------ the command line

    def leeward(self, *arguments: str, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run one command on this stack, whatever its exit code."""
        return subprocess.run(
            [LEEWARD, *arguments, "--state-dir", str(self.state_dir)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )

    def do(self, *arguments: str, timeout_s: float = 90.0) -> str:
        """Run one command that must succeed; returns its stdout."""
        done = self.leeward(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"leeward {' '.join(arguments)} -> {done.returncode}\n{done.stderr}"
        return done.stdout

    def kill(self, *arguments: str) -> float:
        """`leeward kill`; returns when it struck, on the monotonic clock: starting the command takes
        longer on a busy machine than what is measured."""
        return self._moment(self.do("kill", *arguments))

    def start(self, *arguments: str) -> float:
        """`leeward start`; returns when the last of them was launched, on the monotonic clock."""
        return self._moment(self.do("start", *arguments))

    def up(self, *more: str) -> subprocess.CompletedProcess[str]:
        """`leeward up --detach` on this stack's ports."""
        return self.leeward(
            "up", "--detach", "--port-base", str(self.port_base), "--regions", ",".join(self.regions), *more
        )

    def status(self) -> dict[str, Any]:
        """`leeward status -o json`, good or bad."""
        answer: dict[str, Any] = json.loads(self.leeward("status", "-o", "json").stdout)
        return answer

    def send(self, process: str, number: signal.Signals) -> float:
        """Signal one process without a command's start in between; returns when, on the monotonic clock."""
        pid = self.processes()[process]["pid"]
        at = time.monotonic()
        os.kill(pid, number)
        return at

    def processes(self) -> dict[str, dict[str, Any]]:
        """What `stack.json` records, by process id."""
        file = json.loads((self.state_dir / "stack.json").read_text())
        return {record["id"]: record for record in file["processes"]}

    @staticmethod
    def _moment(said: str) -> float:
        moments = re.findall(r" at (\S+)$", said, re.MULTILINE)
        assert moments, f"the command did nothing: {said}"
        return time.monotonic() - (datetime.now(UTC) - max(map(utc, moments))).total_seconds()

    # ------------------------------------------------------------ public HTTP

    def edge_url(self, region: str) -> str:
        return f"http://127.0.0.1:{self.port_base + 200 + self.regions.index(region)}"

    def plane_url(self, region: str) -> str:
        return f"http://127.0.0.1:{self.port_base + 100 + self.regions.index(region)}"

    def edge(self, region: str) -> dict[str, Any] | None:
        """What the region's edge says of itself; None when it does not answer."""
        return self._json(f"http://127.0.0.1:{self.port_base + 250 + self.regions.index(region)}/status")

    def ask_plane(self, path: str) -> Any | None:
        """The first control plane's answer; None when none answers."""
        for region in self.regions:
            answer = self._json(self.plane_url(region) + path)
            if answer is not None:
                return answer
        return None

    def leader(self) -> dict[str, Any] | None:
        """Id, region and epoch of the leader with the greatest epoch that any replica names."""
        answers = [self._json(f"{self.plane_url(region)}/v1/leader") for region in self.regions]
        named = [answer["leader"] for answer in answers if answer and answer.get("leader")]
        return max(named, key=lambda leader: int(leader["epoch"]), default=None)

    def verdicts(self) -> dict[str, str]:
        """Global verdict by target, as the first replica that answers has it."""
        view = self.ask_plane("/v1/health")
        return {target["id"]: target["verdict"] for target in view["targets"]} if view else {}

    def documents(self) -> dict[str, dict[str, Any]]:
        """The decision documents in force, by route; the newest that any replica holds."""
        best: dict[str, dict[str, Any]] = {}
        version = (-1, -1)
        for region in self.regions:
            answer = self._json(f"{self.plane_url(region)}/v1/decisions/current")
            if answer and answer.get("head"):
                head = (answer["head"]["generation"], answer["head"]["seq"])
                if head > version:
                    version = head
                    best = {document["route"]: document for document in answer["documents"]}
        return best

    def used(self) -> set[str]:
        """Every target that any route may send to from anywhere."""
        return {
            target["id"]
            for document in self.documents().values()
            for region in document["regions"].values()
            for tier in region["tiers"]
            for target in tier["targets"]
        }

    def metric(self, region: str, name: str, **labels: str) -> float | None:
        """The sum of a control plane's metric over these labels, short name; None when it does not answer."""
        try:
            text = self.http.get(f"{self.plane_url(region)}/metrics").text
        except httpx2.HTTPError:
            return None
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith(f"leeward_control_plane_{name}")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(each in line for each in wanted))

    def etcd_leader(self) -> str | None:
        """The region of etcd's own leader, by the members' metrics."""
        for index, region in enumerate(self.regions):
            try:
                text = self.http.get(f"http://127.0.0.1:{self.port_base + 500 + index}/metrics").text
            except httpx2.HTTPError:
                continue
            if "\netcd_server_is_leader 1" in text:
                return region
        return None

    def chat(self, region: str, prompt: str = "hello", *, timeout_s: float = 10.0) -> httpx2.Response:
        """One chat completion through the region's edge."""
        body = {"model": "chat", "messages": [{"role": "user", "content": prompt}], "max_tokens": 8}
        return self.http.post(
            f"{self.edge_url(region)}/v1/chat/completions", json=body, headers=KEY, timeout=timeout_s
        )

    def _json(self, url: str) -> Any | None:
        try:
            answer = self.http.get(url)
            return answer.json() if answer.status_code == 200 else None
        except (httpx2.HTTPError, ValueError):
            return None

    # ------------------------------------------------------------ conditions

    def fresh(self, *regions: str) -> bool:
        """Whether these regions' edges (all when none is named) are FRESH and serve one same head."""
        edges = [self.edge(region) for region in regions or self.regions]
        return (
            all(edge is not None and edge["mode"] == "FRESH" and edge["decision"] != "0.0" for edge in edges)
            and len({edge["decision"] for edge in edges if edge}) == 1
        )

    def ailments(self) -> list[str]:
        """What is not as it was when the stack came up: one leader, edges FRESH on one head, targets
        HEALTHY, and the traffic planned as it was (no ramp under way)."""
        sick = [
            f"{target} is {verdict}" for target, verdict in self.verdicts().items() if verdict != "HEALTHY"
        ]
        if self.leader() is None:
            sick.append("nobody leads")
        if not self.fresh():
            edges = {region: self.edge(region) for region in self.regions}
            shown = {
                region: f"{edge['mode']}@{edge['decision']}" if edge else None
                for region, edge in edges.items()
            }
            sick.append(f"edges are {shown}")
        if self._plan() != self.baseline:
            sick.append("traffic is not planned as in the beginning")
        return sick

    def well(self) -> bool:
        """Whether nothing ails it."""
        return not self.ailments()

    def all_run(self) -> bool:
        """Whether every process runs, and none is stopped: a dead etcd member ails nobody."""
        for record in self.processes().values():
            try:
                if psutil.Process(record["pid"]).status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                    return False
            except psutil.NoSuchProcess:
                return False
        return True

    def note_baseline(self) -> None:
        """Remember how traffic is planned while all is well."""
        self.baseline = self._plan()

    def heal(self, *, timeout_s: float = 60.0) -> None:
        """Continue what is stopped, start what is dead, and wait until all is well. Fails at once when
        an earlier healing failed: a broken stack must not cost every later test its minute."""
        assert not self.given_up, f"the stack did not heal: {self.given_up}"
        self.do("kill", *self.regions, "--signal", "CONT")
        self.do("start", *self.regions)
        try:
            wait_for("the stack is well again", self.well, timeout_s=timeout_s, poll_s=0.2)
        except AssertionError:
            self.given_up = "; ".join(self.ailments())
            raise AssertionError(
                f"not well {timeout_s:.0f} s after everything was started: {self.given_up}"
            ) from None

    def strike(self, region: str) -> None:
        """Note that this region's targets are about to die."""
        self.struck[region] += 1

    def least_struck(self, *, among: set[str]) -> str:
        """The region of `among` whose targets died least often."""
        return min(sorted(among), key=lambda region: self.struck[region])

    def _plan(self) -> dict[str, Any]:
        return {route: document["regions"] for route, document in self.documents().items()}


def seconds_since(then: float) -> float:
    """By the monotonic clock."""
    return time.monotonic() - then


def utc(text: str) -> datetime:
    """An RFC 3339 time out of a JSON document."""
    return datetime.fromisoformat(text).astimezone(UTC)


def processes_of(state_dir: Path) -> list[psutil.Process]:
    """Every living process whose command line names the state directory, or that works in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            named = any(str(state_dir) in word for word in process.cmdline())
            if named or process.cwd() == str(state_dir):
                found.append(process)
    return found
