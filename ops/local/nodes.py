"""What a local stack consists of: the node files it generates, and the command that starts each process.

Every process of Leeward is started from its node file with the command a user would type
(`leeward edge --config …`), so that what runs here is what runs on separate hosts.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ops.local import bus, etcd
from ops.local.ports import HOST, Ports, keeper_port
from ops.local.processes import Kind, ProcessRecord
from shared.telemetry import ENDPOINT_VARIABLES
from shared.vocabulary.config import Fleet
from shared.vocabulary.node import BusAddress, Credential, EtcdAddress, Node, NodeFile
from shared.vocabulary.terms import Role

NO_REGION = "local"
"""Where the keeper stands: beside the regions, in none of them."""

_FETCH_WAIT_MS = {Role.CONTROL_PLANE: 25, Role.EDGE: 100, Role.PROBER: 500}
"""The embedded broker answers a fetch only when its wait is over, so the wait is the latency, and the
number of fetches the price. Health events cannot wait; what edges follow comes by HTTP as well, and a
prober reads nothing but a new configuration."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Everything `up` needs to know before it touches anything."""

    state_dir: Path
    """Absolute."""
    port_base: int
    regions: tuple[str, ...]
    """Where processes run, in the order that gives them their ports."""
    fleet: Fleet
    simulated: bool
    """Whether the targets are simulators of this stack, or somebody else's endpoints."""
    credentials: Mapping[str, Credential]

    def ports(self, region: str) -> Ports:
        """The ports of `region`."""
        return Ports(self.port_base, self.regions.index(region))

    def by_distance(self, region: str) -> list[str]:
        """The stack's regions, nearest to `region` first."""
        return [near for near in self.fleet.by_distance(region) if near in self.regions]


def records(blueprint: Blueprint) -> tuple[ProcessRecord, ...]:
    """Every process of the stack, none of them running yet, in the order of their start: the keeper,
    then what others need comes first."""
    makers = [_etcd, _bus]
    if blueprint.simulated:
        makers += [_simulators]
    makers += [_edge, _control_plane, _prober]
    return (
        _keeper(blueprint),
        *(record for maker in makers for region in blueprint.regions for record in maker(blueprint, region)),
    )


def write_node_files(blueprint: Blueprint) -> None:
    """Write `nodes/<id>.yaml` for every process that has one."""
    folder = blueprint.state_dir / "nodes"
    folder.mkdir(parents=True, exist_ok=True)
    for region in blueprint.regions:
        for node in (
            control_plane_node(blueprint, region),
            edge_node(blueprint, region),
            prober_node(blueprint, region),
        ):
            text = to_yaml(NodeFile(node=node, fleet=blueprint.fleet))
            (folder / f"{node.id}.yaml").write_text(_HEADER + text)


_HEADER = "# Written by `leeward up`; the next `up` writes it again.\n"


def to_yaml(file: NodeFile) -> str:
    """A node file as an operator would write it: without what nobody has set."""
    content: dict[str, Any] = file.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def control_plane_node(blueprint: Blueprint, region: str) -> Node:
    """`node:` of the region's control-plane replica: the buses of all regions, etcd's nearest member first."""
    ports = blueprint.ports(region)
    return Node(
        role=Role.CONTROL_PLANE,
        id=f"control-plane-{region}",
        region=region,
        state_dir=str(blueprint.state_dir / "data"),
        listen=f"{HOST}:{ports.control_plane}",
        buses={each: _bus_address(blueprint, each, Role.CONTROL_PLANE) for each in blueprint.regions},
        etcd=EtcdAddress(
            endpoints=tuple(
                f"{HOST}:{blueprint.ports(near).etcd_client}" for near in blueprint.by_distance(region)
            )
        ),
    )


def edge_node(blueprint: Blueprint, region: str) -> Node:
    """`node:` of the region's edge: its own bus, and every replica, nearest first."""
    ports = blueprint.ports(region)
    return Node(
        role=Role.EDGE,
        id=f"edge-{region}",
        region=region,
        state_dir=str(blueprint.state_dir / "data"),
        listen=f"{HOST}:{ports.edge}",
        admin_listen=f"{HOST}:{ports.edge_admin}",
        buses={region: _bus_address(blueprint, region, Role.EDGE)},
        control_planes=tuple(_control_plane_url(blueprint, near) for near in blueprint.by_distance(region)),
        credentials=blueprint.credentials,
        fault_filter=True,
    )


def prober_node(blueprint: Blueprint, region: str) -> Node:
    """`node:` of the region's prober: its own bus, nothing else."""
    return Node(
        role=Role.PROBER,
        id=f"prober-{region}",
        region=region,
        state_dir=str(blueprint.state_dir / "data"),
        admin_listen=f"{HOST}:{blueprint.ports(region).prober_admin}",
        buses={region: _bus_address(blueprint, region, Role.PROBER)},
        credentials=blueprint.credentials,
    )


def _keeper(blueprint: Blueprint) -> ProcessRecord:
    port = keeper_port(blueprint.port_base)
    argv = [
        *_command("keeper"),
        "--state-dir",
        str(blueprint.state_dir),
        "--listen",
        f"{HOST}:{port}",
    ]
    url = f"http://{HOST}:{port}"
    return _record(blueprint, Kind.KEEPER, NO_REGION, "keeper", argv, {"listen": port}, url=url)


def _etcd(blueprint: Blueprint, region: str) -> list[ProcessRecord]:
    ports = blueprint.ports(region)
    name = f"etcd-{region}"
    cluster = {f"etcd-{each}": blueprint.ports(each).etcd_peer for each in blueprint.regions}
    data_dir = blueprint.state_dir / "data" / name
    argv = etcd.member_argv(name, ports.etcd_client, ports.etcd_peer, cluster, data_dir, new=True)
    return [
        _record(
            blueprint,
            Kind.ETCD,
            region,
            name,
            argv,
            {"client": ports.etcd_client, "peer": ports.etcd_peer},
            url=f"http://{HOST}:{ports.etcd_client}",
        )
    ]


def _bus(blueprint: Blueprint, region: str) -> list[ProcessRecord]:
    port = blueprint.ports(region).bus
    return [_record(blueprint, Kind.BUS, region, f"bus-{region}", bus.broker_argv(port), {"listen": port})]


def _control_plane(blueprint: Blueprint, region: str) -> list[ProcessRecord]:
    name = f"control-plane-{region}"
    port = blueprint.ports(region).control_plane
    argv = _leeward("control-plane", blueprint, name)
    url = _control_plane_url(blueprint, region)
    return [_record(blueprint, Kind.CONTROL_PLANE, region, name, argv, {"listen": port}, url=url)]


def _edge(blueprint: Blueprint, region: str) -> list[ProcessRecord]:
    ports = blueprint.ports(region)
    name = f"edge-{region}"
    return [
        _record(
            blueprint,
            Kind.EDGE,
            region,
            name,
            _leeward("edge", blueprint, name),
            {"listen": ports.edge, "admin": ports.edge_admin},
            url=f"http://{HOST}:{ports.edge}",
            admin_url=f"http://{HOST}:{ports.edge_admin}",
        )
    ]


def _prober(blueprint: Blueprint, region: str) -> list[ProcessRecord]:
    port = blueprint.ports(region).prober_admin
    name = f"prober-{region}"
    argv = _leeward("prober", blueprint, name)
    admin_url = f"http://{HOST}:{port}"
    return [_record(blueprint, Kind.PROBER, region, name, argv, {"admin": port}, admin_url=admin_url)]


def _simulators(blueprint: Blueprint, region: str) -> list[ProcessRecord]:
    ports = blueprint.ports(region)
    found = []
    for provider, listen, admin in (
        ("alpha", ports.alpha, ports.alpha_admin),
        ("beta", ports.beta, ports.beta_admin),
    ):
        name = f"{provider}-{region}"
        argv = [
            *_command("simulator"),
            "--id",
            name,
            "--listen",
            f"{HOST}:{listen}",
            "--admin-listen",
            f"{HOST}:{admin}",
        ]
        found.append(
            _record(
                blueprint,
                Kind.TARGETS,
                region,
                name,
                argv,
                {"listen": listen, "admin": admin},
                url=f"http://{HOST}:{listen}",
                admin_url=f"http://{HOST}:{admin}",
            )
        )
    return found


def _record(
    blueprint: Blueprint,
    kind: Kind,
    region: str,
    name: str,
    argv: Sequence[str],
    ports: Mapping[str, int],
    *,
    url: str | None = None,
    admin_url: str | None = None,
) -> ProcessRecord:
    return ProcessRecord(
        id=name,
        kind=kind,
        region=region,
        argv=tuple(argv),
        env=_telemetry_env(blueprint, kind),
        cwd=str(blueprint.state_dir),
        log=str(blueprint.state_dir / "logs" / f"{name}.log"),
        ports=ports,
        url=url,
        admin_url=admin_url,
    )


def _leeward(command: str, blueprint: Blueprint, name: str) -> list[str]:
    return [*_command(command), "--config", str(blueprint.state_dir / "nodes" / f"{name}.yaml")]


def _command(command: str) -> list[str]:
    """The `leeward` beside this interpreter; without it (a source tree) the module, with the working
    directory kept off the path, so that a folder named `ops` there cannot take our place."""
    script = Path(sys.executable).with_name("leeward")
    program = [str(script)] if script.is_file() else [sys.executable, "-P", "-m", "ops.cli"]
    return [*program, command]


def _telemetry_env(blueprint: Blueprint, kind: Kind) -> dict[str, str]:
    """Where traces go, kept for restarts from another terminal; headers may hold a token and are not. Without a
    backend of the user's own they go to the stack's keeper."""
    said = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("OTEL_") and not name.endswith("_HEADERS")
    }
    if kind not in _TRACED or any(said.get(name) for name in ENDPOINT_VARIABLES):
        return said
    keeper = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{keeper_port(blueprint.port_base)}",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
    }
    for name in ("no_proxy", "NO_PROXY"):
        # The exporter would ask a proxy of this shell's for an address that only this machine has.
        keeper[name] = ",".join(filter(None, (os.environ.get(name), HOST)))
    return {**keeper, **said}


_TRACED = (Kind.CONTROL_PLANE, Kind.EDGE, Kind.PROBER, Kind.KEEPER)


def _control_plane_url(blueprint: Blueprint, region: str) -> str:
    return f"http://{HOST}:{blueprint.ports(region).control_plane}"


def _bus_address(blueprint: Blueprint, region: str, role: Role) -> BusAddress:
    return BusAddress(
        bootstrap=(f"{HOST}:{blueprint.ports(region).bus}",),
        fetch_max_wait_ms=_FETCH_WAIT_MS[role],
        replication_factor=1,
    )
