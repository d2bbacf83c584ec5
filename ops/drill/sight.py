"""What a drill sees while it runs: edges, verdicts, leader and decisions, polled over public HTTP.

Times are when this process saw something, hence upper bounds by one poll.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import httpx2

from ops.client import ControlPlanes, EdgeState, edge_state
from ops.drill.plans import Out, Plan, excluded_in, leaving_in, plan_of
from ops.errors import OpsError
from shared.clock import Clock
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.decision import Decision, Reason
from shared.vocabulary.override import Override
from shared.vocabulary.status import LeaderStatus
from shared.vocabulary.terms import EdgeMode
from shared.vocabulary.view import HealthView

EDGE_POLL_S = 0.03
CONTROL_PLANE_POLL_S = 0.06
MAX_HEADS = 500

Found = TypeVar("Found")


class Stopped(Exception):
    """The drill is to end now; `str()` says why."""


@dataclass(frozen=True, slots=True)
class HeadSeen:
    """A head, when it was first seen, and what it plans."""

    at: float
    version: Version
    plan: Plan
    excluded: Out = frozenset()
    leaving: tuple[Reason, ...] = ()
    """Of what is new since the head seen before it."""


@dataclass(slots=True)
class Sight:
    """The latest of everything. `follow_*` keep it up to date; `until` waits for something in it."""

    edges: Mapping[str, str | None]
    """Edge id -> admin URL; None where the control plane is asked what it knows of the edge."""
    planes: ControlPlanes
    client: httpx2.AsyncClient
    clock: Clock
    states: dict[str, EdgeState] = field(default_factory=dict)
    """The edges that answered the last poll."""
    view: HealthView | None = None
    leader: LeaderStatus | None = None
    reached: bool = False
    """Whether a control plane answered the last poll; while none does, its last word stands."""
    head: Version = NO_VERSION
    documents: Mapping[str, Decision] = field(default_factory=dict)
    """In force, by route."""
    heads: deque[HeadSeen] = field(default_factory=lambda: deque(maxlen=MAX_HEADS))
    """Those seen, oldest first."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: str | None = None

    def stop(self, reason: str) -> None:
        """End the present wait, and every later one, with Stopped. The first reason stands."""
        self._stopped = self._stopped or reason
        self._changed.set()

    @property
    def stopped(self) -> str | None:
        """Why it was stopped."""
        return self._stopped

    async def follow_edges(self) -> None:
        """Poll the edges' own listeners for ever."""
        asked = {name: url for name, url in self.edges.items() if url}
        while True:
            answers = await asyncio.gather(*(edge_state(self.client, url) for url in asked.values()))
            for name, state in zip(asked, answers, strict=True):
                self._keep(name, state)
            self._changed.set()
            await asyncio.sleep(EDGE_POLL_S)

    async def follow_control_planes(self) -> None:
        """Poll the control planes for ever; while none answers, the last word stands."""
        unasked = [name for name, url in self.edges.items() if not url]
        while True:
            try:
                view, leader = await self.planes.health(), await self.planes.leader()
                head, documents = await self.planes.in_force()
                acked = await self.planes.get("/v1/edges") if unasked else {"edges": []}
            except OpsError:
                self.reached = False
            else:
                self.reached, self.view, self.leader = True, view, leader
                for raw in acked["edges"]:
                    if raw["id"] in unasked:
                        self._keep(raw["id"], None if raw["silent"] else _acked(raw))
                self._decided(head, documents)
            self._changed.set()
            await asyncio.sleep(CONTROL_PLANE_POLL_S)

    async def until(self, look: Callable[[], Found | None], *, timeout_s: float) -> Found | None:
        """What `look` finds, as soon as it finds something; None after `timeout_s`. Raises Stopped."""
        deadline = self.clock.monotonic() + timeout_s
        while True:
            self._changed.clear()
            if self._stopped is not None:
                raise Stopped(self._stopped)
            if (found := look()) is not None:
                return found
            left = deadline - self.clock.monotonic()
            if left <= 0:
                return None
            # Not `wait_for`: before Python 3.12 it may swallow a cancellation that meets a change.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    async def pause(self, seconds: float) -> None:
        """Let time pass. Raises Stopped."""
        await self.until(lambda: None, timeout_s=seconds)

    def all_serve(self, edges: Iterable[str], version: Version) -> bool:
        """Whether each of `edges` serves `version` or a later one."""
        return all(edge in self.states and self.states[edge].decision >= version for edge in edges)

    def all_fresh(self, edges: Sequence[str]) -> bool:
        """Whether each of `edges` answers, and hears its Beats."""
        return all(edge in self.states and self.states[edge].mode is EdgeMode.FRESH for edge in edges)

    def since(self, before: HeadSeen) -> list[HeadSeen]:
        """The heads seen after `before`, oldest first."""
        return [head for head in self.heads if head.version > before.version]

    async def overrides(self) -> tuple[Override, ...]:
        """Those in force. Raises Unreachable, Refused."""
        answer = await self.planes.get("/v1/overrides")
        return tuple(Override.model_validate(one, extra="ignore") for one in answer["overrides"])

    def _keep(self, name: str, state: EdgeState | None) -> None:
        if state is None:
            self.states.pop(name, None)
        else:
            self.states[name] = state

    def _decided(self, head: Version, documents: Mapping[str, Decision]) -> None:
        self.head, self.documents = head, documents
        if not self.heads or self.heads[-1].version != head:
            known = self.heads[-1].version if self.heads else NO_VERSION
            self.heads.append(
                HeadSeen(
                    self.clock.monotonic(),
                    head,
                    plan_of(documents),
                    excluded_in(documents),
                    leaving_in(documents, after=known),
                )
            )


def _acked(raw: Mapping[str, Any]) -> EdgeState:
    return EdgeState(
        id=raw["id"],
        region=raw["region"],
        mode=EdgeMode(raw["mode"]),
        decision=Version.parse(raw["decision"]),
        beat_age_s=raw["beat_age_s"],
        applied_at=datetime.fromisoformat(raw["applied_at"]),
        config_version=raw["config_version"],
    )
