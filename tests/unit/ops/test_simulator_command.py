"""The options of `leeward simulator`."""

import pytest

from ops.simulator.command import parser
from ops.simulator.identity import Identity, identity_of


def test_a_name_is_enough():
    """The local stack gives an id and two addresses; provider, region and model follow."""
    assert identity_of("beta-ap-south") == Identity("beta-ap-south", "ap-south", "beta", "beta-medium")
    assert identity_of("acme-eu-west").model == "acme-1"
    assert identity_of("lonely").region == "nowhere"


def test_addresses_are_read_as_host_and_port():
    """IPv6 in brackets, as everywhere."""
    chosen = parser().parse_args(["--listen", "[::1]:80", "--admin-listen", "localhost:0"])
    assert (chosen.listen, chosen.admin_listen) == (("::1", 80), ("localhost", 0))


@pytest.mark.parametrize("address", ["80", ":x", "h:", "h:70000", "h:-1"])
def test_what_is_no_address_is_wrong_usage(address, capsys):
    """Exit code 2, and the word that was wrong."""
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args(["--listen", address])
    assert stopped.value.code == 2
    assert repr(address) in capsys.readouterr().err
