"""TLS on both sides of the edge, with certificates made here: what is shown, what is trusted, what is refused."""

import asyncio
import re
import shutil
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from edge_router.adapters.certificates import ServedCertificate, towards_targets
from edge_router.core.limits import Limits
from shared.vocabulary.entrance import ListenTls, TargetTls
from tests.support.certificates import Authority, Pair
from tests.support.data_path import (
    CALL,
    STREAM,
    STREAM_HEAD,
    Conversation,
    Target,
    World,
    answer,
    chunk,
    delta,
    request,
    serving,
    until,
)


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """On both loops: edges run on uvloop, whose TLS is another than asyncio's."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


LONG = 12_000_000
"""More than the kernel takes on behalf of a client that does not read."""
SECURE = World(base="https://localhost")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def server(pair: Pair, seen: list[str | None] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if seen is not None:
        context.sni_callback = lambda _, name, __: seen.append(name)
    return context


def listening(pair: Pair, **more: str) -> ServedCertificate:
    return ServedCertificate(ListenTls(cert_file=pair.cert, key_file=pair.key, **more))


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.ca_file)


# ------------------------------------------------------------ targets


async def test_a_target_is_verified_and_told_its_name(authority: Authority) -> None:
    """SNI carries the target's host; connections are kept as in the clear."""
    names: list[str | None] = []
    target = Target()
    target.tls = server(authority.issue("target", "localhost"), names)
    trusted = towards_targets(TargetTls(ca_file=authority.ca_file))
    async with serving({"alpha": target}, SECURE, target_tls=trusted) as edge:
        assert [(await edge.ask()).status for _ in range(3)] == [200] * 3
    assert set(names) == {"localhost"}
    assert target.connections == 1
    assert target.seen[0].fields["host"] == f"localhost:{target.port}"


@pytest.mark.parametrize("wrong", ["expired", "another host", "unknown authority"])
async def test_a_target_that_cannot_be_verified_fails_and_another_answers(
    authority: Authority, tmp_path: Path, wrong: str
) -> None:
    """FAILED, and named as TLS; nothing of the request reaches it."""
    bad, good = Target(), Target()
    good.tls = server(authority.issue("good", "localhost"))
    if wrong == "expired":
        bad.tls = server(authority.issue("bad", "localhost", days=-1))
    elif wrong == "another host":
        bad.tls = server(authority.issue("bad", "elsewhere.test"))
    else:
        bad.tls = server(Authority(tmp_path, "stranger").issue("bad", "localhost"))
    trusted = towards_targets(TargetTls(ca_file=authority.ca_file))
    async with serving({"bad": bad, "good": good}, SECURE, target_tls=trusted) as edge:
        got = await edge.ask()
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="FAILED") == 1
    assert (got.status, got.fields["x-leeward-target"]) == (200, "good")
    assert 'next-hop="bad"' in got.fields["proxy-status"]
    assert "error=tls_protocol_error" in got.fields["proxy-status"]
    assert bad.seen == []


async def test_without_a_private_authority_the_systems_roots_decide(authority: Authority) -> None:
    """A certificate that only this test trusts is refused."""
    target = Target()
    target.tls = server(authority.issue("target", "localhost"))
    async with serving({"alpha": target}, SECURE) as edge:
        got = await edge.ask()
    assert got.status == 502
    assert "error=tls_protocol_error" in got.fields["proxy-status"]


# ------------------------------------------------------------ clients


async def test_the_listener_speaks_tls_and_nothing_else(authority: Authority) -> None:
    """Plain, streamed and pieced requests; what is in the clear, or older than TLS 1.2, gets nothing."""

    async def act(talk: Conversation) -> None:
        if b'"stream":true' in talk.request.body:
            await talk.send(STREAM_HEAD, chunk(delta("x")), chunk(delta(finish="stop")))
            await talk.send(chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")
        else:
            await talk.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n"
            )
            await talk.send(b'{"choices":[{}]} ')

    certificate = listening(authority.issue("edge", "localhost"))
    async with serving({"alpha": Target(act)}, certificate=certificate) as edge:
        tls = {"ssl": trusting(authority), "server_hostname": "localhost"}
        async with edge.client(**tls) as client:
            assert (await client.ask()).status == 200
            assert (await client.ask(STREAM)).clean
            big = CALL[:-1] + b',"x":"' + b"x" * 1_000_000 + b'"}'
            assert (await client.ask(big)).status == 200
        async with edge.client() as clear:
            clear.write(request())
            assert await clear.closed()
        old = trusting(authority)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(edge.host, edge.port, ssl=old, server_hostname="localhost")
        await until(lambda: not edge.gateway.clients)


async def test_plain_routes_hear_that_the_client_came_by_tls(authority: Authority) -> None:
    """`x-forwarded-proto`."""
    target = Target()
    certificate = listening(authority.issue("edge", "localhost"))
    world = World(dialect="http", paths=("/docs",))
    async with (
        serving({"alpha": target}, world, certificate=certificate) as edge,
        edge.client(ssl=trusting(authority), server_hostname="localhost") as client,
    ):
        assert (await client.ask(b"", method="GET", path="/docs")).status == 200
    assert target.seen[0].fields["x-forwarded-proto"] == "https"


async def test_who_is_turned_away_while_still_sending_learns_why(authority: Authority) -> None:
    """TLS has no half-close: the answer must arrive all the same, and the connection end after a while."""
    certificate = listening(authority.issue("edge", "localhost"))
    limits = Limits(body_bytes=1024, linger_s=0.5)
    async with serving({"alpha": Target()}, certificate=certificate, limits=limits) as edge:
        async with edge.client(ssl=trusting(authority), server_hostname="localhost") as client:
            client.write(request(b"").replace(b"content-length: 0", b"content-length: 9000000"))
            for _ in range(20):
                client.write(b"x" * 10_000)
            got = await client.read()
            assert (got.status, got.fields["connection"]) == (413, "close")
            client.write(b"x" * 100_000)
            assert await client.closed()
        await until(lambda: not edge.gateway.clients)


async def test_clients_must_show_a_certificate_where_that_is_asked(
    authority: Authority, tmp_path: Path
) -> None:
    """One of `client_ca_file`; none, or a stranger's, and nothing is served."""
    certificate = listening(authority.issue("edge", "localhost"), client_ca_file=authority.ca_file)
    mine = authority.issue("client", "client")
    stranger = Authority(tmp_path, "stranger").issue("other", "client")
    async with serving({"alpha": Target()}, certificate=certificate) as edge:
        for pair, status in ((mine, 200), (stranger, None), (None, None)):
            context = trusting(authority)
            if pair is not None:
                context.load_cert_chain(pair.cert, pair.key)
            try:
                async with edge.client(ssl=context, server_hostname="localhost") as client:
                    got = (await client.ask()).status
            except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
                got = None
            assert got == status


async def test_a_renewed_certificate_is_shown_without_a_restart(authority: Authority) -> None:
    """A half-written pair changes nothing; a whole one counts from the next connection on."""
    shown = authority.issue("edge", "localhost")
    certificate = listening(shown)
    async with serving({"alpha": Target()}, certificate=certificate) as edge:

        async def serial() -> int:
            async with edge.client(ssl=trusting(authority), server_hostname="localhost") as client:
                assert (await client.ask()).status == 200
                return client.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]

        first = await serial()
        new = authority.issue("new", "localhost")
        shutil.copy(new.cert, shown.cert)
        certificate.look()
        assert (certificate.renewed, await serial()) == (0, first)
        Path(shown.key).unlink()
        certificate.look()
        assert (certificate.renewed, await serial()) == (0, first)
        shutil.copy(new.key, shown.key)
        certificate.look()
        assert certificate.renewed == 1
        assert await serial() != first


@pytest.mark.parametrize(
    ("tls", "named"),
    [
        ({"cert_file": "/none.pem", "key_file": "/none.key"}, "node.listen_tls, cert_file /none.pem"),
        ({"client_ca_file": "/none.ca"}, "node.listen_tls.client_ca_file, /none.ca"),
    ],
)
def test_files_that_cannot_be_used_are_named(authority: Authority, tls: dict[str, str], named: str) -> None:
    """With the field of the node file they stand in."""
    pair = authority.issue("edge", "localhost")
    with pytest.raises(OSError, match=re.escape(named)):
        ServedCertificate(ListenTls(**{"cert_file": pair.cert, "key_file": pair.key, **tls}))
    with pytest.raises(OSError, match=re.escape("node.target_tls.ca_file, /none")):
        towards_targets(TargetTls(ca_file="/none"))


async def test_a_reader_that_drips_is_given_up_on_tls_too(authority: Authority) -> None:
    """What waits to be encrypted counts like what waits to be sent."""
    certificate = listening(authority.issue("edge", "localhost"))
    limits = Limits(write_stall_s=0.6, write_bytes_per_s=20_000)
    long = b'{"choices":[{"message":{"content":"' + b"x" * LONG + b'"}}]}'
    stop = threading.Event()
    trusted = trusting(authority)

    def drip(port: int) -> None:
        with socket.socket() as bare:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            bare.settimeout(10)
            bare.connect(("127.0.0.1", port))
            with trusted.wrap_socket(bare, server_hostname="localhost") as client, suppress(OSError):
                client.sendall(request())
                while client.recv(1) and not stop.wait(0.02):
                    pass

    async with serving({"alpha": Target(answer(long))}, certificate=certificate, limits=limits) as edge:
        dripping = asyncio.ensure_future(asyncio.to_thread(drip, edge.port))
        await until(lambda: bool(edge.gateway.exchanges))
        began = time.monotonic()
        try:
            await until(lambda: not edge.gateway.clients)
            assert limits.write_stall_s <= time.monotonic() - began < 10 * limits.write_stall_s
        finally:
            stop.set()
            await dripping
