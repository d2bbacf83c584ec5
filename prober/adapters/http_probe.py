"""Probes over HTTP: the `http`, `chat` and `embedding` monitors.

Every probe opens a connection of its own and closes it. A kept one would save a handshake and hide
what newcomers meet: a listener that is gone, a certificate that ran out, a balancer without servers
behind it; and on a half-open link it would wait for its whole timeout instead of failing to connect,
which is the difference between soft and hard evidence.
"""

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import aiohttp

from prober.adapters.credentials import Credentials, Withheld
from prober.core.counters import Finding
from prober.core.dialects import Question, judge, question
from prober.core.jobs import Job
from shared.classify import Fault, Phase, fault_of_error, of_answer, of_fault
from shared.clock import Clock
from shared.log import get_logger

log = get_logger(__name__)

MAX_BODY: Final = 1 << 20
"""Bytes read of an answer; no model needs more to say one word, and an endless body costs no memory."""
CONNECT_SHARE: Final = 0.75
"""Of the timeout, for connecting: TCP and TLS take two round trips, the answer at least one more. It
must be less than all, or a connect that hangs could not be told from an answer that does."""
CONNECT_MOST_S: Final = 5.0
"""However patient the monitor: who waits longer for a handshake waits in vain."""
USER_AGENT: Final = "leeward-prober"
"""With the region behind it, so that a target (or a drill) can tell one region's probers from another's."""


@dataclass(slots=True)
class _Progress:
    """How far one attempt has come; moved on by the hooks that aiohttp offers."""

    phase: Phase = Phase.RESOLVE


_progress: ContextVar[_Progress] = ContextVar("_progress")
"""Of the attempt that runs in this context: not every hook is told whom it is called for."""


class _Stopped(Exception):
    """What stopped an attempt. Not an aiohttp error, so that aiohttp does not send the request again:
    it repeats idempotent ones whose connection broke, and a target that drops every other connection
    would look well."""

    def __init__(self, phase: Phase, fault: Fault, code: int | None = None) -> None:
        super().__init__(phase, fault)
        self.phase = phase
        self.fault = fault
        self.code = code


class HttpProbe:
    """The `Probe` port over aiohttp. To be made inside a running event loop."""

    def __init__(self, *, credentials: Credentials, clock: Clock, region: str | None = None) -> None:
        self._credentials = credentials
        self._clock = clock
        self._session = aiohttp.ClientSession(
            # The caller bounds concurrency; a limit here would only queue probes and age them.
            connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_connecting),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # `identity` is asked for, and no body may grow in our memory
            middlewares=(_once,),
            trace_configs=[_tracing()],
            headers={
                "user-agent": USER_AGENT if region is None else f"{USER_AGENT}/{region}",
                "accept-encoding": "identity",
            },
        )

    async def probe(self, job: Job) -> Finding | None:
        """See the port. The latency is from the look-up of the name to the end of the body."""
        began = self._clock.monotonic()
        try:
            return await self._answered(job, began)
        except Withheld as withheld:
            log.warning("probe not sent", target=job.target.id, reason=str(withheld))
            return None
        except _Stopped as stopped:
            result = of_fault(stopped.phase, stopped.fault, code=stopped.code)
            if result is None:
                log.warning("probe failed on this side", target=job.target.id, errno=stopped.code)
                return None
            return Finding(result.outcome, self._ms_since(began), result.hard, result.detail)

    async def close(self) -> None:
        await self._session.close()

    async def _answered(self, job: Job, began: float) -> Finding:
        """What a complete answer came to. Raises Withheld and _Stopped."""
        asked = question(job)
        secret = self._credentials.headers_for(job.target.credential, job.target.url)
        async with self._answer(job, asked, {**asked.headers, **job.monitor.headers, **secret}) as response:
            body, complete = await _read(response)
        latency_ms = self._ms_since(began)
        judgement = judge(job, body, complete=complete)
        result = of_answer(
            response.status,
            expected=_expected(job, response.status),
            retry_after="retry-after" in response.headers,
            problem=_encoding_problem(response) or judgement.problem,
            latency_ms=latency_ms,
            slow_ms=job.monitor.slow_ms,
        )
        remark = judgement.remark if result.outcome.good else ""
        return Finding(
            outcome=result.outcome,
            latency_ms=latency_ms,
            hard=result.hard,
            detail=result.detail or remark,
            tokens_in=judgement.tokens_in,
            tokens_out=judgement.tokens_out,
            unjudged=bool(judgement.remark),
        )

    def _ms_since(self, began: float) -> float:
        return (self._clock.monotonic() - began) * 1000

    @asynccontextmanager
    async def _answer(
        self, job: Job, asked: Question, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The head of the answer; the body is read inside the context. Raises _Stopped, then too."""
        progress = _Progress()
        _progress.set(progress)
        timeout_s = job.monitor.timeout_s
        timeout = aiohttp.ClientTimeout(
            total=timeout_s,
            connect=min(CONNECT_MOST_S, timeout_s * CONNECT_SHARE),
            ceil_threshold=float("inf"),  # aiohttp would round longer deadlines up to whole seconds
        )
        try:
            async with self._session.request(
                asked.method,
                job.target.url + asked.path,
                data=asked.body,
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                progress.phase = Phase.BODY
                yield response
        except TimeoutError:
            raise _Stopped(progress.phase, Fault.TIMEOUT) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _stopped(error, progress.phase) from None


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body up to MAX_BODY, and whether that was all of it."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            return b"".join(parts)[:MAX_BODY], False
    return b"".join(parts), True


def _expected(job: Job, status: int) -> bool:
    return job.monitor.expects(status) if job.monitor.kind == "http" else status == 200


def _encoding_problem(response: aiohttp.ClientResponse) -> str | None:
    encoding = response.headers.get("content-encoding", "identity")
    return None if encoding == "identity" else "a content coding that was not asked for"


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """One attempt per probe: see `_Stopped`."""
    try:
        return await send(request)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        phase = Phase.CONNECT if isinstance(error, aiohttp.ClientConnectorError) else Phase.ANSWER
        raise _stopped(error, phase) from None


def _stopped(error: aiohttp.ClientError | OSError, phase: Phase) -> _Stopped:
    """The fact behind one of aiohttp's errors, by its type and number."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _Stopped(Phase.RESOLVE, fault_of_error(error.os_error))
    if isinstance(error, aiohttp.ClientSSLError):
        return _Stopped(Phase.CONNECT, Fault.TLS)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _Stopped(Phase.CONNECT, fault_of_error(error.os_error), error.os_error.errno)
    if isinstance(error, OSError):
        return _Stopped(phase, fault_of_error(error), error.errno)
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError)):
        return _Stopped(phase, Fault.CLOSED)
    if isinstance(error, aiohttp.ClientResponseError):  # a head that is not HTTP
        return _Stopped(phase, Fault.MALFORMED)
    return _Stopped(phase, Fault.OTHER)


def _connecting(address: aiohttp.connector.AddrInfoType) -> socket.socket:
    """Makes aiohttp's sockets: when the first is made, the name has been resolved. (Its own DNS hooks
    do not fire for those who wait for somebody else's look-up of the same name.)"""
    family, kind, protocol, _, _ = address
    _progress.get().phase = Phase.CONNECT
    return socket.socket(family, kind, protocol)


def _tracing() -> aiohttp.TraceConfig:
    async def connected(_session: object, _context: object, _params: object) -> None:
        _progress.get().phase = Phase.ANSWER

    config: aiohttp.TraceConfig = aiohttp.TraceConfig()
    config.on_connection_create_end.append(connected)
    return config
