"""What `leeward up` and its companions promise to whoever types them."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from local_stack import LEEWARD, LocalStack, free_port_base, processes_of, seconds_since, wait_for

from shared.vocabulary.status import StackStatus

Figure = Callable[[str], None]


@pytest.fixture
def small(tmp_path: Path, running_stack: LocalStack) -> Iterator[LocalStack]:
    """A stack of one region beside the first one, not started; whatever runs of it is stopped after."""
    stack = LocalStack(tmp_path / "second", free_port_base(start=running_stack.port_base + 800), ("solo",))
    yield stack
    stack.http.close()
    if (stack.state_dir / "stack.json").exists():
        stack.leeward("down")
    for process in processes_of(stack.state_dir):
        process.kill()


def test_status_json_is_the_contract(stack: LocalStack) -> None:
    """`status -o json` of a stack that is well has every part, reachable, and exit code 0."""
    done = stack.leeward("status", "-o", "json")
    assert done.returncode == 0, done.stdout
    status = StackStatus.model_validate_json(done.stdout)
    assert status.leader is not None
    assert [edge.region for edge in status.edges] == list(stack.regions)
    assert {edge.mode for edge in status.edges} == {"FRESH"}
    assert sorted(plane.role for plane in status.control_planes) == ["follower", "follower", "leader"]
    assert [(region.targets_healthy, region.targets) for region in status.regions] == [(2, 2)] * 3
    assert len(status.targets) == 6
    assert len(status.probers) == 3
    assert all(part.reachable for part in (*status.buses, *status.etcd))
    for part in (*status.control_planes, *status.edges, *status.probers, *status.targets):
        assert part.pid is not None
        assert psutil.pid_exists(part.pid)


def test_status_by_url(stack: LocalStack) -> None:
    """A control plane alone knows enough for `status --url` and for the other reading commands."""
    url = stack.plane_url(stack.regions[0])
    done = subprocess.run(
        [LEEWARD, "status", "--url", url, "-o", "json"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(StackStatus.model_validate_json(done.stdout).edges) == 3
    for command in (["health"], ["decisions"], ["config", "show"]):
        done = subprocess.run([LEEWARD, *command, "--url", url], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        assert all(len(line) <= 100 for line in done.stdout.splitlines()) or command == ["config", "show"]


def test_a_response_can_be_explained(stack: LocalStack) -> None:
    """The decision that a response names is what `explain` explains."""
    version = stack.chat(stack.regions[0]).headers["x-leeward-decision"]
    shown = stack.do("explain", version)
    assert "route chat" in shown
    assert stack.leeward("explain", "9999.1").returncode == 1


def test_the_printed_curl_works(small: LocalStack, figure: Figure) -> None:
    """`up --detach` beside another stack returns 0 when ready, and the request it proposes succeeds."""
    begun = time.monotonic()
    started = small.up()
    ready_s = seconds_since(begun)
    assert started.returncode == 0, started.stdout + started.stderr
    figure(f"a second stack of one region beside the first: ready after {ready_s:.1f} s")
    assert small.fresh()
    command = re.search(r"curl .*?\\\n.*?}'\n", started.stdout, re.DOTALL)
    assert command is not None, started.stdout
    words = shlex.split(command.group().replace("\\\n", " "))
    answer = subprocess.run([*words, "-sS"], capture_output=True, text=True, timeout=20)
    assert answer.stdout.startswith("HTTP/1.1 200"), answer.stdout
    again = small.up()
    assert again.returncode == 1
    assert "already runs" in again.stderr
    assert small.do("down")
    assert not processes_of(small.state_dir)


def test_a_taken_port_is_named(small: LocalStack) -> None:
    """A port that is taken ends `up` with exit code 1, its number and who wanted it; nothing starts."""
    port = small.port_base + 200
    with socket.create_server(("127.0.0.1", port)):
        started = small.up()
    assert started.returncode == 1
    assert f"port {port}, wanted by edge-solo" in started.stderr
    assert not processes_of(small.state_dir)


def test_a_process_that_dies_at_start_is_named(small: LocalStack) -> None:
    """A process that ends while the stack starts is named with the end of its log; the rest stops."""
    (small.state_dir / "data" / "etcd-solo").mkdir(parents=True)
    (small.state_dir / "data" / "etcd-solo" / "member").write_text("not a directory")
    started = small.up()
    assert started.returncode == 1
    assert "etcd-solo ended while starting" in started.stderr
    assert "etcd-solo.log" in started.stderr
    assert "not a directory" in started.stderr
    assert not processes_of(small.state_dir)


def test_ctrl_c_leaves_nothing(small: LocalStack, tmp_path: Path) -> None:
    """The foreground `up`, interrupted, leaves no process, no port, no file outside its state directory."""
    here = tmp_path / "elsewhere"
    here.mkdir()
    command = [LEEWARD, "up", "--state-dir", str(small.state_dir), "--port-base", str(small.port_base)]
    with (tmp_path / "output").open("w+") as output:
        foreground = subprocess.Popen(
            [*command, "--regions", "solo"], cwd=here, stdout=output, stderr=output, start_new_session=True
        )
        try:
            wait_for("ready", lambda: "leeward is up" in (tmp_path / "output").read_text(), timeout_s=60)
            started = processes_of(small.state_dir)
            assert len(started) >= 8
            os.kill(foreground.pid, signal.SIGINT)
            assert foreground.wait(timeout=40) == 0
        finally:
            if foreground.poll() is None:
                foreground.kill()
                foreground.wait()
    assert not processes_of(small.state_dir)
    ports = [small.port_base + offset for offset in (100, 200, 250, 300, 400, 500, 550, 600, 650, 700, 750)]
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert not list(here.iterdir())
    assert "had to kill" not in (tmp_path / "output").read_text()


def test_a_crashed_up_is_cleared_away(small: LocalStack) -> None:
    """After `up` itself was killed, the next `up` stops what it left running, and starts."""
    command = [LEEWARD, "up", "--state-dir", str(small.state_dir), "--port-base", str(small.port_base)]
    crashed = subprocess.Popen(
        [*command, "--regions", "solo"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(
            "some processes",
            lambda: (small.state_dir / "stack.json").exists() and len(processes_of(small.state_dir)) > 4,
            timeout_s=60,
        )
    finally:
        crashed.kill()
        crashed.wait()
    left = {process.pid for process in processes_of(small.state_dir)}
    assert left
    started = small.up()
    assert started.returncode == 0, started.stdout + started.stderr
    assert "stopping what an earlier stack left running" in started.stdout
    assert not left & {process.pid for process in processes_of(small.state_dir)}


def test_the_module_is_the_command() -> None:
    """`python -m ops.cli` is `leeward`."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "drill", "list"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    assert "region-outage" in done.stdout
