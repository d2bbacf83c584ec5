"""The commands that start the local stack's bus and etcd."""

from pathlib import Path

import pytest

from ops.local import bus, etcd


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ("etcd Version: 3.5.1\nGit SHA: e8732fb5f\n", (3, 5, 1)),
        ("warning\netcd Version: 3.10.0-rc.1\n", (3, 10, 0)),
        ("something else", None),
    ],
)
def test_versions_are_compared_as_numbers(shown: str, version: tuple[int, ...] | None) -> None:
    """3.10 is later than 3.5."""
    assert etcd.parse_version(shown) == version


def test_a_member_knows_all_its_peers() -> None:
    """Every member gets the same cluster, its own ports, and says nothing below a warning."""
    argv = etcd.member_argv("b", 7501, 7551, {"b": 7551, "a": 7550}, Path("/data/b"), new=True)
    assert "--initial-cluster=a=http://127.0.0.1:7550,b=http://127.0.0.1:7551" in argv
    assert "--listen-client-urls=http://127.0.0.1:7501" in argv
    assert "--initial-cluster-state=new" in argv
    assert "--log-level=warn" in argv
    assert "--unsafe-no-fsync" not in argv


def test_settings_of_the_surroundings_do_not_leak_in() -> None:
    """What would be taken for a flag is left out, all else is passed on."""
    assert etcd.member_env({"ETCD_NAME": "x", "PATH": "/bin"}) == {"PATH": "/bin"}
    assert bus.broker_env({"STORAGE_ENGINE": "s3://x", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_the_bus_listens_on_loopback_only() -> None:
    """And advertises the same address."""
    assert bus.broker_argv(7400).count("tcp://127.0.0.1:7400") == 2


async def test_nobody_there_is_not_up() -> None:
    """A closed port is answered at once with False."""
    assert not await bus.is_up(1)
    assert not await etcd.is_up(1)
