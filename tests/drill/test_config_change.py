"""The configuration is changed, brought back, saved and restored under running processes."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from local_stack import LEEWARD, LocalStack, free_port_base, processes_of, seconds_since, wait_for

Figure = Callable[[str], None]


def pids(stack: LocalStack) -> dict[str, int]:
    return {name: record["pid"] for name, record in stack.processes().items()}


def config(stack: LocalStack) -> dict[str, Any]:
    found = stack.ask_plane("/v1/config")
    assert isinstance(found, dict)
    return found


def written(path: Path, fleet: dict[str, Any]) -> str:
    path.write_text(json.dumps({"fleet": fleet}))
    return str(path)


def talked(stack: LocalStack, region: str) -> int:
    """The status of a request to the route that comes and goes."""
    return stack.http.post(
        f"{stack.edge_url(region)}/v1/chat/completions",
        json={"model": "talk", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8},
        headers={"authorization": "Bearer dev"},
        timeout=10.0,
    ).status_code


def paces(stack: LocalStack) -> set[float]:
    """How often the probers now put the monitor `http` to targets, by their own word."""
    admins = [record["admin_url"] for name, record in stack.processes().items() if name.startswith("prober-")]
    answers = [stack.http.get(f"{url}/status").json() for url in admins]
    return {probe["interval_s"] for said in answers for probe in said["probes"] if probe["monitor"] == "http"}


def test_a_change_is_lived_without_a_restart(stack: LocalStack, tmp_path: Path, figure: Figure) -> None:
    """A target and a route are added and a monitor's pace changed: every replica, edge and prober runs
    it, the new route serves; then it is brought back. No process was started anew, and a fleet that would
    leave regions behind changes nothing."""
    before, running = config(stack), pids(stack)
    fleet = json.loads(json.dumps(before["fleet"]))
    gamma = {**fleet["targets"][0], "id": "gamma-new", "provider": "gamma"}
    fleet["targets"].append(gamma)
    talk = {"id": "talk", "match": {"models": ["talk"]}, "tiers": [{"targets": ["gamma-new"]}]}
    fleet["routes"].append(talk)
    fleet["monitors"][0].update(interval_s=0.8, timeout_s=0.7)
    said = stack.do("config", "apply", written(tmp_path / "new.yaml", fleet), "--reason", "gamma joins")
    assert "+ target gamma-new" in said
    assert "interval_s: 1.0 -> 0.8" in said
    assert "everybody runs it" in said
    version = config(stack)["config_version"]
    assert version == before["config_version"] + 1
    assert {talked(stack, region) for region in stack.regions} == {200}
    wait_for(
        "the new target is healthy", lambda: stack.verdicts().get("gamma-new") == "HEALTHY", timeout_s=10
    )
    wait_for("probers changed their pace", lambda: paces(stack) == {0.8}, timeout_s=10)

    fleet["regions"] = [{"id": stack.regions[0]}]
    fleet["targets"] = [target for target in fleet["targets"] if target["region"] == stack.regions[0]]
    fleet["routes"] = [talk]
    refused = stack.leeward("config", "apply", written(tmp_path / "bad.yaml", fleet))
    assert refused.returncode == 1
    assert f"edge-{stack.regions[1]} still serves there" in refused.stderr
    assert config(stack)["config_version"] == version

    back = stack.do("config", "rollback", str(before["config_version"]))
    assert "- target gamma-new" in back
    assert config(stack)["fleet"] == before["fleet"]
    assert talked(stack, stack.regions[1]) == 404
    assert "gamma-new" not in stack.verdicts()
    assert pids(stack) == running
    (newest, previous, *_) = stack.ask_plane("/v1/audit")["entries"]
    assert (newest["action"], previous["action"]) == ("config.rollback", "config.apply")
    assert previous["reason"] == "gamma joins"
    figure(f"configuration {version} and {version + 1} applied under {len(running)} running processes")


@pytest.fixture
def small(tmp_path: Path, running_stack: LocalStack) -> Iterator[LocalStack]:
    """A stack of one region beside the first one; gone afterwards."""
    stack = LocalStack(tmp_path / "second", free_port_base(start=running_stack.port_base + 800), ("solo",))
    started = stack.up()
    assert started.returncode == 0, started.stdout + started.stderr
    yield stack
    stack.http.close()
    stack.leeward("down")
    for process in processes_of(stack.state_dir):
        process.kill()


@pytest.mark.slow
def test_an_emptied_etcd_is_restored_and_the_edge_goes_on(
    small: LocalStack, tmp_path: Path, figure: Figure
) -> None:
    """A full backup, one since it, and changes after both; etcd loses everything; restored, the fleet,
    the audit and the history are back, and the edge, which was ahead, is FRESH in a higher generation."""
    fleet = config(small)["fleet"]
    full, later = tmp_path / "full", tmp_path / "later"
    small.do("backup", "--to", str(full))
    since = small.ask_plane("/v1/decisions/current")["version"]
    fleet["policy"]["ramp_s"] = 5.0
    small.do("config", "apply", written(tmp_path / "f.yaml", fleet), "--reason", "a shorter ramp")
    small.do("backup", "--to", str(later), "--since", since)
    fleet["policy"]["ramp_s"] = 4.0
    small.do("config", "apply", written(tmp_path / "f.yaml", fleet), "--reason", "shorter still")
    proven = subprocess.run([LEEWARD, "backup", "verify", full, later], capture_output=True, text=True)
    assert proven.returncode == 0, proven.stderr
    swapped = subprocess.run([LEEWARD, "backup", "verify", later, full], capture_output=True, text=True)
    assert swapped.returncode == 1

    edge = small.edge("solo")
    assert edge is not None
    generation = int(edge["decision"].partition(".")[0])
    small.kill("solo", "--only", "etcd")
    for member in (small.state_dir / "data").glob("etcd-*"):
        shutil.rmtree(member)
        member.mkdir()
    small.start("solo", "--only", "etcd")
    wait_for("the edge is confirmed again", small.fresh, timeout_s=60)
    emptied = config(small)
    assert emptied["fleet"]["policy"]["ramp_s"] == 6.0, "the file's fleet"
    began = monotonic()
    restored = small.do("restore", str(full), str(later), "--reason", "etcd was lost")
    figure(f"restore: in force after {seconds_since(began):.1f} s ({restored.strip()})")
    wait_for(
        "the restored fleet is decided by",
        lambda: (edge := small.edge("solo")) and edge["config_version"] > emptied["config_version"],
        timeout_s=15,
    )
    wait_for("the edge is FRESH", small.fresh, timeout_s=15)
    edge = small.edge("solo")
    assert edge is not None
    assert int(edge["decision"].partition(".")[0]) > generation + 1
    assert config(small)["fleet"]["policy"]["ramp_s"] == 5.0
    entries = small.ask_plane("/v1/audit")["entries"]
    assert [entry["action"] for entry in entries] == ["backup.restore", "config.apply"]
    assert small.chat("solo").status_code == 200
