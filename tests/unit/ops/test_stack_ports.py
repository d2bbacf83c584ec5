"""Where the processes of a local stack listen."""

import socket

import pytest

from ops.errors import Bad, Usage
from ops.local import fleet
from ops.local.ports import BLOCK, MAX_REGIONS, Ports, free, require_free

KINDS = (
    "control_plane",
    "edge",
    "edge_admin",
    "prober_admin",
    "bus",
    "etcd_client",
    "etcd_peer",
    "alpha",
    "beta",
    "alpha_admin",
    "beta_admin",
)


def test_no_two_processes_want_the_same_port() -> None:
    """In the largest stack every port is wanted once, inside the block."""
    wanted = [getattr(Ports(7000, index), kind) for index in range(MAX_REGIONS) for kind in KINDS]
    assert len(set(wanted)) == len(wanted)
    assert min(wanted) >= 7000
    assert max(wanted) < 7000 + BLOCK


def test_the_fleet_knows_where_its_simulators_listen() -> None:
    """The built-in fleet's targets and the port plan agree."""
    for index in range(MAX_REGIONS):
        ports = Ports(9000, index)
        for provider in ("alpha", "beta"):
            assert fleet.target_port(provider, index, port_base=9000) == getattr(ports, provider)
            admin = fleet.target_admin_port(provider, index, port_base=9000)
            assert admin == getattr(ports, f"{provider}_admin")


@pytest.mark.parametrize(("base", "index"), [(80, 0), (65_000, 0), (7000, 10), (7000, -1)])
def test_a_block_that_does_not_fit_is_refused(base: int, index: int) -> None:
    """Privileged ports, ports beyond 65535 and an eleventh region are the user's mistake."""
    with pytest.raises(Usage):
        Ports(base, index)


def test_a_taken_port_is_told_with_who_wants_it() -> None:
    """The message has the port, the process that wants it, and what to do; a free one is not named."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        assert not free(port)
        with pytest.raises(Bad, match=rf"port {port}, wanted by edge-x, is taken") as refusal:
            require_free([("edge-x", port)])
    assert "--port-base" in str(refusal.value)
    require_free([("edge-x", port)])
