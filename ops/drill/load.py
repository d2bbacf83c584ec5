"""Steady traffic, so that a drill measures what clients would have felt.

Open loop: requests leave at their times whether or not earlier ones have come back, as real clients'
do; a closed loop would go quiet in exactly the moments that matter.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2

from shared.clock import Clock
from shared.supervise import Supervisor

MAX_INFLIGHT = 256
MAX_SAMPLES = 200_000
REQUEST_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and what came of it."""

    at: float
    """When it left, on the clock's monotonic time."""
    edge: str
    latency_ms: float
    ok: bool
    degraded: bool
    detail: str
    """Why it failed, in a few words; empty when it did not."""
    target: str
    decision: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests so far. A degraded answer counts as failed in `success_rate`."""

    requests: int
    failed: int
    degraded: int

    @property
    def success_rate(self) -> float:
        """1.0 while there were none."""
        return 1.0 if not self.requests else (self.requests - self.failed - self.degraded) / self.requests


class Load:
    """`rate_per_s` chat requests, spread evenly over `edges` (id, base URL), until the supervisor stops.

    `model` and `key` are what a client would send. At most MAX_INFLIGHT wait at once: one more counts
    as failed without being sent.
    """

    def __init__(
        self,
        edges: Sequence[tuple[str, str]],
        *,
        rate_per_s: float,
        clock: Clock,
        model: str = "chat",
        key: str = "dev",
    ) -> None:
        if not edges or not 0 < rate_per_s <= 200:
            raise ValueError("a load needs an edge, and 0 < rate_per_s <= 200")
        self.samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        self._edges = edges
        self._interval_s = 1.0 / rate_per_s
        self._clock = clock
        self._model = model
        self._headers = {"authorization": f"Bearer {key}"}
        self._inflight = 0

    async def run(self) -> None:
        """Send until cancelled; requests still under way then are given up and not counted."""
        limits = httpx2.Limits(max_connections=MAX_INFLIGHT, max_keepalive_connections=32)
        async with (
            httpx2.AsyncClient(timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False) as client,
            Supervisor() as requests,
        ):
            begun = self._clock.monotonic()
            for number in itertools.count():
                await asyncio.sleep(max(0.0, begun + number * self._interval_s - self._clock.monotonic()))
                edge, url = self._edges[number % len(self._edges)]
                if self._inflight >= MAX_INFLIGHT:
                    self._note(edge, self._clock.monotonic(), "too many requests under way")
                else:
                    requests.spawn("request", self._one(client, number, edge, url))

    def tally(self, *, since: float = float("-inf"), until: float = float("inf")) -> Tally:
        """Of the requests that left in this time and have come back."""
        chosen = [sample for sample in self.samples if since <= sample.at < until]
        return Tally(
            requests=len(chosen),
            failed=sum(not sample.ok for sample in chosen),
            degraded=sum(sample.ok and sample.degraded for sample in chosen),
        )

    def failures(self) -> list[Sample]:
        """Those that failed, oldest first."""
        return [sample for sample in self.samples if not sample.ok]

    async def _one(self, client: httpx2.AsyncClient, number: int, edge: str, url: str) -> None:
        left = self._clock.monotonic()
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": f"drill {number}"}],
            "max_tokens": 8,
        }
        self._inflight += 1
        try:
            answer = await client.post(f"{url}/v1/chat/completions", json=body, headers=self._headers)
            self._note(edge, left, fault_of(answer), answer.headers)
        except httpx2.HTTPError as error:
            self._note(edge, left, f"{type(error).__name__}: {error}")
        finally:
            self._inflight -= 1

    def _note(self, edge: str, left: float, fault: str, headers: httpx2.Headers | None = None) -> None:
        found = headers if headers is not None else httpx2.Headers()
        attempts = found.get("x-leeward-attempts", "0")
        self.samples.append(
            Sample(
                at=left,
                edge=edge,
                latency_ms=(self._clock.monotonic() - left) * 1000,
                ok=not fault,
                degraded="x-leeward-degraded" in found,
                detail=fault,
                target=found.get("x-leeward-target", ""),
                decision=found.get("x-leeward-decision", ""),
                attempts=int(attempts) if attempts.isdigit() else 0,
            )
        )


def fault_of(answer: httpx2.Response) -> str:
    """What is wrong with a chat completion: nothing, when it is a whole one."""
    if answer.status_code != 200:
        return f"status {answer.status_code}: {answer.text[:200]}"
    try:
        choice = answer.json()["choices"][0]
        whole = bool(choice["message"]["content"]) and choice["finish_reason"] in ("stop", "length")
    except (ValueError, LookupError, TypeError):
        return "not a chat completion"
    return "" if whole else "an incomplete completion"
