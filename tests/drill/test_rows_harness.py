"""What the fault rows are measured with: links that break as told, and namespaces that let nothing by."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import netns
from tests.support.fault_proxy import HOST, FaultProxy, Link, address, host

SOON_S = 5.0
SILENT_S = 0.3


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Gives back what it is sent."""
    with socket.create_server((HOST, 0)) as listener:

        def echo(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                while piece := client.recv(4096):
                    client.sendall(piece)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=echo, args=(client,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def link(proxy: FaultProxy, server: socket.socket) -> Link:
    return proxy.open(server.getsockname()[1])


def connect(link: Link) -> socket.socket:
    return socket.create_connection((HOST, link.port), timeout=SOON_S)


def answer(client: socket.socket, said: bytes = b"hello", *, within_s: float = SOON_S) -> bytes | None:
    """What comes back; None when nothing does in time."""
    client.settimeout(within_s)
    try:
        client.sendall(said)
        return client.recv(4096)
    except TimeoutError:
        return None


def test_a_link_passes(link: Link) -> None:
    """Bytes, the end of one side, and the count of both."""
    with connect(link) as client:
        assert answer(client) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""
    assert link.counts()["accepted"] == 1
    assert (link.counts()["up"], link.counts()["down"]) == (5, 5)


def test_a_slow_link_is_late_both_ways(link: Link) -> None:
    """By `latency_s` for each way."""
    with connect(link) as client:
        link.set("latency", latency_s=0.1)
        began = time.monotonic()
        assert answer(client) == b"hello"
        assert time.monotonic() - began >= 0.2


def test_what_is_dropped_comes_when_the_link_is_whole(link: Link) -> None:
    """Nothing arrives and nothing ends; then everything arrives, as TCP would send it again."""
    with connect(link) as client:
        assert answer(client) == b"hello"
        link.set("drop")
        assert answer(client, b"one", within_s=SILENT_S) is None
        with connect(link) as later:
            assert answer(later, within_s=SILENT_S) is None
            link.heal()
            assert later.recv(10) == b"hello"
        client.settimeout(SOON_S)
        assert client.recv(10) == b"one"


def test_one_way_may_be_cut_alone(link: Link) -> None:
    """The server hears, the client does not."""
    with connect(link) as client:
        assert answer(client) == b"hello"
        link.set("drop", direction="down")
        assert answer(client, b"heard", within_s=SILENT_S) is None
        assert link.counts()["up"] == 10
        link.heal()
        client.settimeout(SOON_S)
        assert client.recv(10) == b"heard"


def test_a_reset_is_a_reset(link: Link) -> None:
    """Connections of before and new ones."""
    with connect(link) as client:
        assert answer(client) == b"hello"
        link.set("reset")
        with pytest.raises(ConnectionResetError):
            answer(client)
    with pytest.raises(ConnectionError), connect(link) as client:
        answer(client)


def test_half_open_is_for_ever_for_those_of_before(link: Link) -> None:
    """They hear nothing even when all is whole again; new ones work at once."""
    with connect(link) as client, connect(link) as idle:
        assert answer(client) == answer(idle) == b"hello"
        link.set("half_open")
        assert answer(client, within_s=SILENT_S) is None
        with connect(link) as later:
            assert answer(later) == b"hello"
        link.heal()
        assert answer(idle, within_s=SILENT_S) is None


def test_a_brokers_address_is_rewritten(proxy: FaultProxy, server: socket.socket) -> None:
    """What a broker says of where it is leads back to the link."""
    port = server.getsockname()[1]
    link = proxy.open(port, rewrite="kafka")
    with connect(link) as client:
        assert answer(client, b"at " + address(port)) == b"at " + address(link.port)


def test_a_servers_own_name_is_rewritten(proxy: FaultProxy, server: socket.socket) -> None:
    """A server hears its own address in Host, not the link's."""
    port = server.getsockname()[1]
    link = proxy.open(port, rewrite="http")
    with connect(link) as client:
        assert answer(client, b"Host: " + host(link.port)) == b"Host: " + host(port)


def test_a_namespace_lets_nothing_by_but_links(proxy: FaultProxy, server: socket.socket) -> None:
    """A process inside reaches a port of the outside under its own number, and nothing once that is cut."""
    if reason := netns.why_not():
        pytest.skip(reason)
    port = server.getsockname()[1]
    script = (
        "import socket,sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=2);"
        "c.settimeout(0.5); c.sendall(b'x'); print(c.recv(9))"
    )

    def ask(number: int) -> str:
        argv = [*inside.prefix, sys.executable, "-c", script, str(number)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    with (
        socket.create_server((HOST, 0)) as unreached,
        netns.enclosure(proxy, inward=[], outward=[port]) as inside,
    ):
        assert ask(port) == "b'x'"
        assert "Connection refused" in ask(unreached.getsockname()[1])
        inside.set("drop")
        assert "timed out" in ask(port)
