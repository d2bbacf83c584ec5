"""The node files and commands that a local stack consists of."""

import os
from pathlib import Path

import pytest

from ops.local import nodes
from ops.local.fleet import local_fleet
from ops.local.nodes import Blueprint
from ops.local.processes import Kind
from shared.config_file import load
from shared.vocabulary.node import Credential
from shared.vocabulary.terms import Role

REGIONS = ("us-east", "eu-west", "ap-south")


def blueprint(state_dir: Path, *, simulated: bool = True) -> Blueprint:
    return Blueprint(
        state_dir=state_dir,
        port_base=7000,
        regions=REGIONS,
        fleet=local_fleet(REGIONS),
        simulated=simulated,
        credentials={"k": Credential(secret="env:KEY", origins=("https://api.example.com",))},
    )


def test_every_region_has_one_of_each(tmp_path: Path) -> None:
    """Seven processes a region and one keeper, ids unique, what others need first."""
    records = nodes.records(blueprint(tmp_path))
    assert len(records) == len({record.id for record in records}) == 22
    for region in REGIONS:
        kinds = [record.kind for record in records if record.region == region]
        assert sorted(kinds) == sorted([*set(Kind) - {Kind.KEEPER}, Kind.TARGETS])
    order = [record.kind for record in records]
    assert (order[0], order.count(Kind.KEEPER)) == (Kind.KEEPER, 1)
    assert order.index(Kind.ETCD) < order.index(Kind.BUS) < order.index(Kind.EDGE)


def test_external_targets_need_no_simulators(tmp_path: Path) -> None:
    """With a user's own fleet no target is started."""
    kinds = {record.kind for record in nodes.records(blueprint(tmp_path, simulated=False))}
    assert kinds == set(Kind) - {Kind.TARGETS}


def test_node_files_read_back_as_written(tmp_path: Path) -> None:
    """A generated file is valid for its own loader, and says what was meant; spaces in the path too."""
    plan = blueprint(tmp_path / "a state dir")
    plan.state_dir.mkdir()
    nodes.write_node_files(plan)
    files = sorted((plan.state_dir / "nodes").glob("*.yaml"))
    assert len(files) == 9
    for path in files:
        read = load(path)
        assert read.node.id == path.stem
        assert read.fleet == plan.fleet
    assert load(plan.state_dir / "nodes" / "edge-eu-west.yaml").node == nodes.edge_node(plan, "eu-west")


def test_each_process_knows_only_whom_it_talks_to(tmp_path: Path) -> None:
    """Edges and probers know their own region's bus; control planes all buses and all of etcd; everybody
    the nearest first."""
    plan = blueprint(tmp_path)
    plane = nodes.control_plane_node(plan, "eu-west")
    edge = nodes.edge_node(plan, "eu-west")
    prober = nodes.prober_node(plan, "eu-west")
    assert (plane.role, edge.role, prober.role) == (Role.CONTROL_PLANE, Role.EDGE, Role.PROBER)
    assert set(plane.buses) == set(REGIONS)
    assert set(edge.buses) == set(prober.buses) == {"eu-west"}
    assert plane.etcd is not None
    assert plane.etcd.endpoints == ("127.0.0.1:7501", "127.0.0.1:7500", "127.0.0.1:7502")
    assert edge.control_planes == (
        "http://127.0.0.1:7101",
        "http://127.0.0.1:7100",
        "http://127.0.0.1:7102",
    )
    assert edge.credentials == prober.credentials == plan.credentials
    assert not plane.credentials


def test_processes_start_from_their_files(tmp_path: Path) -> None:
    """The recorded command is the one a user would type, with absolute paths."""
    records = {record.id: record for record in nodes.records(blueprint(tmp_path))}
    argv = records["edge-us-east"].argv
    assert argv[-3:] == ("edge", "--config", str(tmp_path / "nodes" / "edge-us-east.yaml"))
    assert Path(argv[0]).is_absolute()
    assert records["alpha-us-east"].argv[-4:] == (
        "--listen",
        "127.0.0.1:7600",
        "--admin-listen",
        "127.0.0.1:7700",
    )


def test_traces_go_to_the_keeper_unless_the_user_has_a_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the processes that make any; a user's own endpoint, or the word that nobody wants them, stands. Headers
    may hold a token and are not kept."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "internal.example")

    def env_of(kind: Kind) -> dict[str, str]:
        return dict(next(r for r in nodes.records(blueprint(tmp_path)) if r.kind is kind).env)

    keeper = next(r for r in nodes.records(blueprint(tmp_path)) if r.kind is Kind.KEEPER).url
    for kind in (Kind.EDGE, Kind.CONTROL_PLANE, Kind.PROBER):
        assert env_of(kind)["OTEL_EXPORTER_OTLP_ENDPOINT"] == keeper
        assert env_of(kind)["NO_PROXY"] == "internal.example,127.0.0.1"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in env_of(Kind.TARGETS)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert env_of(Kind.EDGE)["OTEL_SDK_DISABLED"] == "true"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://backend.example/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    assert env_of(Kind.EDGE) == {
        "OTEL_SDK_DISABLED": "true",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://backend.example/v1/traces",
    }
