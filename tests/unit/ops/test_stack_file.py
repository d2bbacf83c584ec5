"""What a state directory tells of its stack."""

import os
from pathlib import Path

import pytest

from ops.errors import Bad, Usage
from ops.local import nodes
from ops.local.fleet import local_fleet
from ops.local.nodes import Blueprint
from ops.local.processes import Kind, start_time
from ops.local.stack import Stack, StackFile
from ops.local.up import blueprint


def stack_in(state_dir: Path, **changes: object) -> Stack:
    plan = Blueprint(
        state_dir=state_dir,
        port_base=7000,
        regions=("one", "two"),
        fleet=local_fleet(("one", "two")),
        simulated=True,
        credentials={},
    )
    stack = Stack(state_dir)
    stack.write(
        StackFile(
            state="running",
            detached=True,
            port_base=7000,
            regions=("one", "two"),
            simulated=True,
            fleet_sha="0",
            processes=nodes.records(plan),
        ).model_copy(update=changes)
    )
    return stack


def test_selection_by_region_process_and_kind(tmp_path: Path) -> None:
    """A region means all in it, a process itself, `only` narrows; an unknown name is told with what there is."""
    stack = stack_in(tmp_path)
    assert len(stack.select(["one"])) == 7
    assert [record.id for record in stack.select(["edge-two"])] == ["edge-two"]
    assert [record.id for record in stack.select(["keeper"])] == ["keeper"]
    assert not stack.select(["one", "two"], [Kind.KEEPER])
    only = stack.select(["one", "two"], [Kind.BUS, Kind.ETCD])
    assert {record.id for record in only} == {"bus-one", "bus-two", "etcd-one", "etcd-two"}
    with pytest.raises(Usage, match=r"no region or process 'three'.*one, two"):
        stack.select(["three"])


def test_no_stack_is_a_usage_error(tmp_path: Path) -> None:
    """The message says how to get one."""
    with pytest.raises(Usage, match="leeward up"):
        Stack.find(tmp_path / "nothing")


def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    """No traceback, and what to do."""
    (tmp_path / "stack.json").write_text('{"state": "running"')
    with pytest.raises(Bad, match=r"damaged; remove it"):
        Stack.find(tmp_path)


def test_one_change_at_a_time(tmp_path: Path) -> None:
    """While one command changes the stack another one waits, then says so."""
    with (
        Stack(tmp_path).locked(),
        pytest.raises(Bad, match="another command is changing"),
        Stack(tmp_path, lock_wait_s=0.0).locked(),
    ):
        raise AssertionError("two at once")
    with Stack(tmp_path).locked():
        pass


def test_what_counts_as_running(tmp_path: Path) -> None:
    """A detached stack runs while one of its processes does; a foreground one while its `up` does;
    what a crashed `up` left behind does not count."""
    me = {"pid": os.getpid(), "started": start_time(os.getpid())}
    parent = os.getppid()
    alive = tuple(record.model_copy(update=me) for record in stack_in(tmp_path).file.processes)
    supervised = {"supervisor_pid": parent, "supervisor_started": start_time(parent)}
    assert stack_in(tmp_path, processes=alive).running()
    assert not stack_in(tmp_path).running()
    assert not stack_in(tmp_path, processes=alive, state="stopped").running()
    assert not stack_in(tmp_path, processes=alive, detached=False).running()
    assert not stack_in(tmp_path, processes=alive, state="starting").running()
    assert stack_in(tmp_path, detached=False, **supervised).running()
    supervised["supervisor_started"] = -1.0
    assert not stack_in(tmp_path, detached=False, **supervised).running()


def test_a_blueprint_from_the_command_line(tmp_path: Path) -> None:
    """Regions default to the built-in three, or to the file's; mistakes are usage errors."""
    default = blueprint(state_dir=tmp_path, port_base=7000, regions=None, config=None)
    assert default.regions == ("us-east", "eu-west", "ap-south")
    assert default.simulated
    for regions, base in ((["a", "a"], 7000), (["a"], 100)):
        with pytest.raises(Usage):
            blueprint(state_dir=tmp_path, port_base=base, regions=regions, config=None)


def test_a_blueprint_from_a_users_fleet(tmp_path: Path) -> None:
    """The file's regions run, without simulators; its credentials go along; a foreign region is refused."""
    config = tmp_path / "leeward.yaml"
    config.write_text(
        "node: {role: edge, id: e, region: home, state_dir: /tmp/x, listen: '127.0.0.1:1', buses: {home: 'h:1'},\n"
        "  credentials: {key: {secret: 'env:KEY', origins: ['https://api.example.com']}}}\n"
        "fleet:\n"
        "  regions: [{id: home}]\n"
        "  targets: [{id: t, provider: p, model: m, region: home, url: 'https://api.example.com/v1', credential: key}]\n"
        "  routes: [{id: r, match: {models: [m]}, tiers: [{targets: [t]}]}]\n"
    )
    plan = blueprint(state_dir=tmp_path, port_base=7000, regions=None, config=config)
    assert plan.regions == ("home",)
    assert not plan.simulated
    assert set(plan.credentials) == {"key"}
    with pytest.raises(Usage, match="no region away"):
        blueprint(state_dir=tmp_path, port_base=7000, regions=["away"], config=config)
