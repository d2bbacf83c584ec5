"""Steady client traffic through edges while something breaks, and a count of what clients felt."""

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx2
from local_stack import KEY, LocalStack

RATE_PER_S = 12.0
"""For each edge: enough that a gap of a tenth of a second would be seen, little enough for 2 cores."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its client saw it."""

    at: float
    edge: str
    fault: str
    latency_s: float
    served_by: str
    decision: str
    attempts: int


@dataclass
class Traffic:
    """Requests through the edges of `regions`, each by a thread of its own, while the context is open."""

    stack: LocalStack
    regions: tuple[str, ...]
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(region,), name=f"traffic-{region}", daemon=True)
            for region in self.regions
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(timeout=20)

    def failed(self) -> list[Answer]:
        """Those that went wrong."""
        return [answer for answer in self.answers if answer.fault]

    def since(self, then: float) -> list[Answer]:
        """Those that left at or after this monotonic time."""
        return [answer for answer in self.answers if answer.at >= then]

    def summary(self) -> str:
        """One line for the report."""
        slowest = max((answer.latency_s for answer in self.answers), default=0.0)
        moved = sum(answer.attempts > 1 for answer in self.answers)
        faults = Counter(answer.fault[:60] for answer in self.failed())
        return (
            f"{len(self.answers)} requests, {len(self.failed())} failed, {moved} took a second attempt, "
            f"slowest {slowest * 1000:.0f} ms" + (f"; {dict(faults)}" if faults else "")
        )

    def _run(self, region: str) -> None:
        url = f"{self.stack.edge_url(region)}/v1/chat/completions"
        number = 0
        with httpx2.Client(timeout=15.0, trust_env=False) as client:
            while not self._end.is_set():
                left = time.monotonic()
                self.answers.append(self._one(client, url, region, number, left))
                number += 1
                self._end.wait(max(0.0, 1 / RATE_PER_S - (time.monotonic() - left)))

    @staticmethod
    def _one(client: httpx2.Client, url: str, region: str, number: int, left: float) -> Answer:
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": f"{region} {number}"}],
            "max_tokens": 6,
        }
        fault, headers = "", httpx2.Headers()
        try:
            answer = client.post(url, json=body, headers=KEY)
            headers = answer.headers
            if answer.status_code != 200:
                fault = f"status {answer.status_code}: {answer.text[:120]}"
            elif not answer.json()["choices"][0]["message"]["content"]:
                fault = "empty answer"
            elif "x-leeward-degraded" in headers:
                fault = f"degraded: {headers['x-leeward-degraded']}"
        except httpx2.HTTPError as error:
            fault = repr(error)
        except (ValueError, LookupError) as error:
            fault = f"garbled: {error!r}"
        return Answer(
            at=left,
            edge=region,
            fault=fault,
            latency_s=time.monotonic() - left,
            served_by=headers.get("x-leeward-region", ""),
            decision=headers.get("x-leeward-decision", ""),
            attempts=int(headers.get("x-leeward-attempts", "0")),
        )


@dataclass
class VersionLog:
    """Watches every edge's applied version, for "versions only rise"."""

    stack: LocalStack
    seen: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(timeout=10)

    def falls(self) -> list[str]:
        """Every step at which an edge went back."""
        return [
            f"{region}: {before} -> {after}"
            for region, versions in self.seen.items()
            for before, after in itertools.pairwise(versions)
            if after < before
        ]

    def _run(self) -> None:
        watcher = LocalStack(self.stack.state_dir, self.stack.port_base, self.stack.regions)
        while not self._end.wait(0.05):
            for region in self.stack.regions:
                edge = watcher.edge(region)
                if edge is not None:
                    generation, _, seq = edge["decision"].partition(".")
                    version = (int(generation), int(seq))
                    history = self.seen.setdefault(region, [])
                    if not history or history[-1] != version:
                        history.append(version)
        watcher.http.close()
