"""Probes against real sockets: each way in which a target can be wrong, told apart and within its deadline."""

import asyncio
import gc
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from prober.adapters.probes import Probes
from prober.core.counters import Finding
from prober.core.jobs import Job
from shared.clock import SystemClock
from shared.vocabulary.config import Monitor, Target
from shared.vocabulary.node import Credential
from shared.vocabulary.terms import Dialect, Outcome

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TIMEOUT_S = 0.6


def target(url: str, **fields: Any) -> Target:
    return Target(**{"id": "alpha", "provider": "alpha", "model": "m", "region": "r", "url": url, **fields})


def monitor(kind: str = "http", **fields: Any) -> Monitor:
    return Monitor(**{"id": kind, "kind": kind, "timeout_s": TIMEOUT_S, "interval_s": 10.0, **fields})


@asynccontextmanager
async def served(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that treats every connection with `handler`; the URL of its API."""
    seen: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.add(writer)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}/v1"
    finally:
        server.close()
        for writer in seen:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def request_of(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    return head[0], headers, await reader.readexactly(int(headers.get("content-length", 0)))


def answers(raw: bytes, *, after_s: float = 0.0) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        await asyncio.sleep(after_s)
        writer.write(raw)
        await writer.drain()

    return handler


def response(status: int, body: bytes | dict[str, Any] = b"{}", *headers: str) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(raw)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + raw


def said(content: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "choices": [
            {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    }


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.1)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    # Zero linger: closing sends RST instead of FIN.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)


@pytest.fixture
async def probes() -> AsyncIterator[Probes]:
    """The adapters; a test that leaves them a socket fails."""
    before = open_sockets()
    made = Probes(credentials={}, clock=SystemClock())
    yield made
    await made.close()
    for _ in range(50):
        if open_sockets() <= before:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the probes left sockets open")


def open_sockets() -> int:
    gc.collect()
    own = psutil.Process()
    return len(own.net_connections(kind="all"))


async def within(deadline_s: float, probes: Probes, job: Job) -> Finding:
    """The finding of one probe, which may not take longer than `deadline_s`."""
    async with asyncio.timeout(deadline_s):
        finding = await probes.probe(job)
    assert finding is not None
    return finding


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def full_backlog() -> AsyncIterator[int]:
    """A port whose queue of connections is full: a connect to it hangs, as one into a black hole does."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = int(listener.getsockname()[1])
    waiting = []
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        waiting.append(filler)
    await asyncio.sleep(0.05)
    try:
        yield port
    finally:
        for each in (*waiting, listener):
            each.close()


@pytest.mark.parametrize("kind", ["http", "tcp", "chat", "embedding"])
async def test_a_refused_connection_is_hard_and_found_at_once(probes: Probes, kind: str) -> None:
    """Nothing waits for a timeout when nobody listens."""
    finding = await within(0.3, probes, Job(target(f"http://127.0.0.1:{closed_port()}"), monitor(kind)))
    assert (finding.outcome, finding.hard) == (Outcome.REFUSED, True)
    assert finding.detail == "connect ECONNREFUSED"


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_a_connection_that_is_never_made_times_out_hard(probes: Probes, kind: str) -> None:
    """A black hole is told apart from a slow server, and the monitor's timeout holds."""
    async with full_backlog() as port:
        finding = await within(
            TIMEOUT_S + 0.3, probes, Job(target(f"http://127.0.0.1:{port}"), monitor(kind))
        )
    assert (finding.outcome, finding.hard, finding.detail) == (Outcome.TIMED_OUT, True, "connect timeout")


@pytest.mark.parametrize(
    ("handler", "outcome", "hard", "detail"),
    [
        (hang, Outcome.TIMED_OUT, False, "answer timeout"),
        (drip_head, Outcome.TIMED_OUT, False, "answer timeout"),
        (drip_body, Outcome.TIMED_OUT, False, "body timeout"),
        (reset, Outcome.FAILED, True, "answer ECONNRESET"),
        (hang_up, Outcome.FAILED, False, "answer closed"),
        (answers(response(200)), Outcome.OK, False, ""),
        (endless, Outcome.OK, False, ""),
        (answers(response(500)), Outcome.FAILED, False, "status 500"),
        (answers(response(503)), Outcome.FAILED, False, "status 503"),
        (answers(response(503, b"", "retry-after: 1")), Outcome.THROTTLED, False, "status 503"),
        (answers(response(429)), Outcome.THROTTLED, False, "status 429"),
        (answers(response(529)), Outcome.THROTTLED, False, "status 529"),
        (answers(response(401)), Outcome.GARBLED, False, "status 401"),
        (answers(response(302, b"", "location: http://127.0.0.1:1/")), Outcome.GARBLED, False, "status 302"),
        (answers(b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n"), Outcome.GARBLED, False, "answer malformed"),
        (
            answers(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort"),
            Outcome.GARBLED,
            False,
            "body closed",
        ),
        (
            answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            Outcome.GARBLED,
            False,
            None,
        ),
        (answers(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"), Outcome.GARBLED, False, None),
        (answers(response(200), after_s=0.15), Outcome.SLOW, False, None),
    ],
)
async def test_http_outcomes(
    probes: Probes, handler: Handler, outcome: Outcome, hard: bool, detail: str | None
) -> None:
    """Every fault has its own outcome, hardness and words, within the monitor's timeout."""
    async with served(handler) as url:
        finding = await within(TIMEOUT_S + 0.3, probes, Job(target(url), monitor(slow_ms=100.0)))
    assert (finding.outcome, finding.hard) == (outcome, hard), finding
    assert detail is None or finding.detail == detail


async def test_a_target_that_drops_one_connection_is_not_asked_again(probes: Probes) -> None:
    """One probe is one attempt: a second one that succeeds would hide the first."""
    connections = 0

    async def every_other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request_of(reader)
        if connections > 1:
            writer.write(response(200))

    async with served(every_other) as url:
        finding = await within(1.0, probes, Job(target(url), monitor()))
    assert (finding.outcome, connections) == (Outcome.FAILED, 1)


async def test_expected_body_and_status_decide(probes: Probes) -> None:
    """An operator's expectations come before the usual meaning of a status."""
    async with served(answers(response(401, b"please log in"))) as url:
        content = Job(target(url), monitor(expect_status=(401,), expect_body="log in"))
        wanting = Job(target(url), monitor(expect_status=(401,), expect_body="welcome"))
        assert (await within(1.0, probes, content)).outcome is Outcome.OK
        finding = await within(1.0, probes, wanting)
    assert (finding.outcome, finding.detail) == (Outcome.GARBLED, "body without the expected text")


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (said("Ready."), Outcome.OK),
        (said([{"type": "text", "text": "ready"}]), Outcome.OK),
        (said("", "length", reasoning_content="Let me"), Outcome.OK),
        (said(None, "length"), Outcome.OK),
        (said("<think>The user wants", "length"), Outcome.OK),
        (said("Go away"), Outcome.GARBLED),
        (said(""), Outcome.GARBLED),
        ({"choices": []}, Outcome.GARBLED),
        ({"error": {"message": "ready"}}, Outcome.GARBLED),
        (b"<html>ready</html>", Outcome.GARBLED),
        (b"[" * 50_000, Outcome.GARBLED),
        (b'{"choices":' * 50_000, Outcome.GARBLED),
        (b"", Outcome.GARBLED),
        (b'{"x":"' + b"y" * 2_000_000 + b'"}', Outcome.GARBLED),
    ],
)
async def test_chat_answers_are_read(probes: Probes, body: bytes | dict[str, Any], outcome: Outcome) -> None:
    """A right answer is OK, a thinking model that was cut off too; garbage with status 200 is not."""
    async with served(answers(response(200, body))) as url:
        finding = await within(1.0, probes, Job(target(url), monitor("chat", expect_answer="ready")))
    assert finding.outcome is outcome, finding


async def test_chat_is_asked_in_the_dialect_of_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Path, limit and credential are what each dialect wants, and the secret goes to its own origin only."""
    monkeypatch.setenv("LEEWARD_TEST_KEY", "s3cret")
    requests: list[tuple[str, dict[str, str], bytes]] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        writer.write(response(200, {**said("ready"), "content": [{"type": "text", "text": "ready"}]}))

    async with served(note) as url:
        credentials = {
            "bearer": Credential(secret="env:LEEWARD_TEST_KEY", origins=(url,)),
            "key": Credential(secret="env:LEEWARD_TEST_KEY", origins=(url,), header="x-api-key"),
            "elsewhere": Credential(secret="env:LEEWARD_TEST_KEY", origins=("https://api.example.com",)),
            "absent": Credential(secret="env:LEEWARD_NO_SUCH_KEY", origins=(url,)),
        }
        probes = Probes(credentials=credentials, clock=SystemClock())
        plain = target(url, credential="bearer")
        reasoning = target(url, credential="bearer", capabilities=("reasoning",))
        anthropic = target(url, credential="key", dialect=Dialect.ANTHROPIC)
        for each in (plain, reasoning, anthropic):
            assert (await within(1.0, probes, Job(each, monitor("chat")))).outcome is Outcome.OK
        for withheld in ("elsewhere", "absent", "unknown"):
            assert await probes.probe(Job(target(url, credential=withheld), monitor())) is None
        await probes.close()
    lines = [line for line, _, _ in requests]
    bodies = [json.loads(body) for _, _, body in requests]
    assert lines == [
        "POST /v1/chat/completions HTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1",
        "POST /v1/messages HTTP/1.1",
    ]
    assert [("max_tokens" in body, "max_completion_tokens" in body) for body in bodies] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    assert [headers.get("authorization") for _, headers, _ in requests] == ["Bearer s3cret"] * 2 + [None]
    assert requests[2][1]["x-api-key"] == "s3cret"


@pytest.mark.parametrize(
    ("vector", "outcome"),
    [
        ([0.1, -0.2], Outcome.OK),
        ([], Outcome.GARBLED),
        (["x"], Outcome.GARBLED),
        (None, Outcome.GARBLED),
    ],
)
async def test_embeddings_have_a_dimension(probes: Probes, vector: Any, outcome: Outcome) -> None:
    """An empty or unreadable vector is no embedding."""
    async with served(answers(response(200, {"data": [{"embedding": vector}]}))) as url:
        assert (await within(1.0, probes, Job(target(url), monitor("embedding")))).outcome is outcome


async def test_a_name_that_does_not_exist_is_refused(probes: Probes) -> None:
    """`.invalid` never resolves (RFC 6761); whether DNS denies it or is away, nobody was reached."""
    finding = await within(6.0, probes, Job(target("http://leeward.invalid"), monitor(timeout_s=5.0)))
    assert finding.outcome in (Outcome.REFUSED, Outcome.TIMED_OUT)
    assert finding.detail.startswith("resolve ")


async def test_plain_text_on_a_tls_port_is_not_an_absent_target(probes: Probes) -> None:
    """A broken handshake is somebody who answers wrongly: FAILED, and soft."""

    async def speaks_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(400))
        await reader.read()

    async with served(speaks_at_once) as url:
        finding = await within(1.0, probes, Job(target(url.replace("http:", "https:")), monitor()))
    assert (finding.outcome, finding.hard, finding.detail) == (Outcome.FAILED, False, "connect tls")


async def test_a_handshake_that_never_ends_is_a_connect_timeout(probes: Probes) -> None:
    """TCP accepts for a server that hangs; until TLS stands, nobody has been reached."""
    async with served(hang) as url:
        finding = await within(1.0, probes, Job(target(url.replace("http:", "https:")), monitor()))
    assert (finding.outcome, finding.hard, finding.detail) == (Outcome.TIMED_OUT, True, "connect timeout")


async def test_a_cancelled_probe_leaves_nothing(probes: Probes) -> None:
    """Ending a prober in the middle of its probes closes their connections (see the fixture)."""
    async with served(hang) as url:
        jobs = [Job(target(url), monitor(kind, timeout_s=5.0)) for kind in ("http", "chat")]
        tasks = [asyncio.create_task(probes.probe(job)) for job in jobs]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


async def test_a_monitor_s_headers_and_body_are_what_is_sent() -> None:
    """They go out as configured, beside the credential and never instead of it; the answer is judged by class."""
    requests: list[tuple[str, dict[str, str], bytes]] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        writer.write(response(202, b"queued"))

    async with served(note) as url:
        probes = Probes(credentials={}, clock=SystemClock())
        posted = monitor(
            method="POST",
            path="/jobs?dry=1",
            headers={"X-Team": "sre", "User-Agent": "watch"},
            body='{"ping": true}',
            expect_status=("2xx",),
            expect_body="queued",
        )
        typed = monitor(
            method="POST", headers={"Content-Type": "text/plain"}, body="ping", expect_status=(200,)
        )
        assert (await within(1.0, probes, Job(target(url), posted))).outcome is Outcome.OK
        finding = await within(1.0, probes, Job(target(url), typed))
        await probes.close()
    assert (finding.outcome, finding.detail) == (Outcome.GARBLED, "status 202")
    (line, headers, body), (_, typed_headers, typed_body) = requests
    assert line == "POST /v1/jobs?dry=1 HTTP/1.1"
    assert (headers["x-team"], headers["user-agent"]) == ("sre", "watch")
    assert (headers["content-type"], body) == ("application/json", b'{"ping": true}')
    assert (typed_headers["content-type"], typed_body) == ("text/plain", b"ping")


async def test_a_target_is_told_which_regions_prober_asks() -> None:
    """So that a drill can part one region's probers from a target, and an operator can read its log."""
    requests: list[tuple[str, dict[str, str], bytes]] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        writer.write(response(200, b"{}"))

    async with served(note) as url:
        probes = Probes(credentials={}, clock=SystemClock(), region="eu-west")
        await within(1.0, probes, Job(target(url), monitor()))
        await probes.close()
    assert requests[0][1]["user-agent"] == "leeward-prober/eu-west"


async def test_an_answer_that_was_cut_off_while_thinking_says_that_it_was_not_judged(probes: Probes) -> None:
    """The operator sees that the token limit is too small for the known answer to mean anything."""
    thinking = said("", "length", reasoning_content="Let me")
    async with served(answers(response(200, thinking))) as url:
        finding = await within(1.0, probes, Job(target(url), monitor("chat", expect_answer="ready")))
    assert (finding.outcome, finding.detail) == (Outcome.OK, "cut off by the token limit before an answer")
    assert finding.unjudged
