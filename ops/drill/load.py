"""Steady traffic, so that a drill measures what clients would have felt.

Open loop: requests leave at their times whether or not earlier ones have come back, as real clients'
do; a closed loop would go quiet in exactly the moments that matter.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping, Sequence

import httpx2

from ops.drill.scope import Edge
from ops.drill.streams import StreamEnd, read_stream
from ops.drill.tally import Sample, Tallies
from shared.clock import Clock
from shared.supervise import Supervisor
from shared.telemetry import sampled_context
from shared.vocabulary.drill import DrillLoad

MAX_INFLIGHT = 256
REQUEST_TIMEOUT_S = 15.0
MAX_TOKENS = 8


class Load:
    """`spec.rate_per_s` chat requests, spread evenly over `edges`, until the supervisor stops.

    `regions` says where targets stand (target id -> region), `key` is what a client would send, and
    `is_whole` judges the text of an answer, where that can be done. At most MAX_INFLIGHT wait at once:
    one more counts as failed without being sent.
    """

    def __init__(
        self,
        spec: DrillLoad,
        edges: Sequence[Edge],
        *,
        clock: Clock,
        key: str,
        regions: Mapping[str, str],
        is_whole: Callable[[str], bool] | None = None,
    ) -> None:
        if not edges:
            raise ValueError("a load needs an edge")
        self.tallies = Tallies()
        self._spec = spec
        self._edges = edges
        self._clock = clock
        self._headers = {"authorization": f"Bearer {key}"}
        self._regions = regions
        self._is_whole = is_whole
        self._inflight = 0
        self._streams = 0
        self._rng = random.Random()
        """For trace ids: every request of a drill is recorded."""

    async def run(self) -> None:
        """Send until cancelled; requests still under way then are given up and not counted."""
        limits = httpx2.Limits(max_connections=MAX_INFLIGHT, max_keepalive_connections=32)
        async with (
            httpx2.AsyncClient(timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False) as client,
            Supervisor() as requests,
        ):
            begun, interval_s = self._clock.monotonic(), 1.0 / self._spec.rate_per_s
            for number in itertools.count():
                await asyncio.sleep(max(0.0, begun + number * interval_s - self._clock.monotonic()))
                edge = self._edges[number % len(self._edges)]
                if self._inflight >= MAX_INFLIGHT:
                    self._note(edge, self._clock.monotonic(), "too many requests under way")
                else:
                    requests.spawn("request", self._one(client, number, edge, streamed=self._streams_next()))

    def _streams_next(self) -> bool:
        """Evenly, so that every edge gets its part of them."""
        self._streams += self._spec.stream_permille
        if self._streams < 1000:
            return False
        self._streams -= 1000
        return True

    async def _one(self, client: httpx2.AsyncClient, number: int, edge: Edge, *, streamed: bool) -> None:
        left = self._clock.monotonic()
        body = {
            "model": self._spec.model,
            "messages": [{"role": "user", "content": f"drill {number}"}],
            "max_tokens": MAX_TOKENS,
            **({"stream": True} if streamed else {}),
        }
        url = f"{edge.url}/v1/chat/completions"
        headers = {**self._headers, "traceparent": sampled_context(self._rng)}
        self._inflight += 1
        try:
            if streamed:
                async with client.stream("POST", url, json=body, headers=headers) as answer:
                    ended = await read_stream(answer, self._is_whole)
                    self._note(edge, left, ended.fault, answer.headers, stream=ended)
            else:
                answer = await client.post(url, json=body, headers=headers)
                self._note(edge, left, fault_of(answer, self._is_whole), answer.headers)
        except httpx2.HTTPError as error:
            # No answer had begun: nothing of a stream is lost that was never there.
            self._note(edge, left, f"{type(error).__name__}: {error}")
        finally:
            self._inflight -= 1

    def _note(
        self,
        edge: Edge,
        left: float,
        fault: str,
        headers: httpx2.Headers | None = None,
        *,
        stream: StreamEnd | None = None,
    ) -> None:
        found = headers if headers is not None else httpx2.Headers()
        target = found.get("x-leeward-target", "")
        self.tallies.add(
            Sample(
                at=left,
                edge=edge.id,
                client=edge.region,
                latency_ms=(self._clock.monotonic() - left) * 1000,
                ok=not fault,
                degraded="x-leeward-degraded" in found,
                streamed=stream is not None,
                lost=stream is not None and stream.lost,
                detail=fault,
                target=target,
                serving=self._regions.get(target, ""),
            )
        )


def fault_of(answer: httpx2.Response, is_whole: Callable[[str], bool] | None = None) -> str:
    """What is wrong with a chat completion: nothing, when it is a whole one."""
    if answer.status_code != 200:
        return f"status {answer.status_code}: {answer.text[:200]}"
    try:
        choice = answer.json()["choices"][0]
        text = choice["message"]["content"]
        whole = bool(text) and choice["finish_reason"] in ("stop", "length")
    except (ValueError, LookupError, TypeError):
        return "not a chat completion"
    if not whole:
        return "an incomplete completion"
    return "" if is_whole is None or is_whole(text) else "a completion that is not as it was made"
