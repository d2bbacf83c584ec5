"""Probes of a TCP port: whether it accepts a connection. Nothing is sent."""

import asyncio
import socket
from typing import Final

from prober.adapters.credentials import origin_of
from prober.core.counters import Finding
from prober.core.jobs import Job
from shared.classify import Classified, Phase, fault_of_error, of_answer, of_fault
from shared.clock import Clock
from shared.log import get_logger

log = get_logger(__name__)

MAX_ADDRESSES: Final = 4
"""Of one name, tried in the order that the resolver gives (RFC 6724)."""

ACCEPTED: Final = 200
"""`of_answer` judges by status; a port that accepts has given the answer that was expected."""


class TcpProbe:
    """The `Probe` port over bare sockets. Connecting is all there is, so it has the whole timeout."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock

    async def probe(self, job: Job) -> Finding | None:
        """See the port. The latency is that of the look-up and of the connection."""
        began = self._clock.monotonic()
        _, host, port = origin_of(job.target.url)
        phase, connected, error = Phase.RESOLVE, False, OSError()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(job.monitor.timeout_s):
                addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                phase = Phase.CONNECT
                for family, _, protocol, _, address in addresses[:MAX_ADDRESSES]:
                    try:
                        await _connect(loop, family, protocol, address)
                    except TimeoutError:
                        raise
                    except OSError as refusal:
                        error = refusal
                    else:
                        connected = True
                        break
        except OSError as failure:  # TimeoutError and gaierror among them
            error = failure
        latency_ms = (self._clock.monotonic() - began) * 1000
        result: Classified | None
        if connected:
            result = of_answer(ACCEPTED, expected=True, latency_ms=latency_ms, slow_ms=job.monitor.slow_ms)
        else:
            code = error.errno if phase is Phase.CONNECT else None  # a gaierror's number is not an errno
            result = of_fault(phase, fault_of_error(error), code=code)
        if result is None:
            log.warning("probe failed on this side", target=job.target.id, errno=error.errno)
            return None
        return Finding(result.outcome, latency_ms, result.hard, result.detail)

    async def close(self) -> None:
        """Nothing is kept."""


async def _connect(
    loop: asyncio.AbstractEventLoop, family: int, protocol: int, address: tuple[str | int | bytes, ...]
) -> None:
    with socket.socket(family, socket.SOCK_STREAM, protocol) as candidate:
        candidate.setblocking(False)
        await loop.sock_connect(candidate, address)
