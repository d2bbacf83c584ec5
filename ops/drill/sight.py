"""What a drill sees while it runs: edges, verdicts, leader and decisions, polled over public HTTP.

Times are when this process saw something, hence upper bounds by one poll.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import httpx2

from ops.client import ControlPlanes, EdgeState, edge_state
from ops.errors import OpsError
from shared.clock import Clock
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.decision import Decision
from shared.vocabulary.status import LeaderStatus
from shared.vocabulary.terms import Verdict

EDGE_POLL_S = 0.03
CONTROL_PLANE_POLL_S = 0.06

Found = TypeVar("Found")


class Stopped(Exception):
    """The drill is to end now; `str()` says why."""


@dataclass(slots=True)
class Sight:
    """The latest of everything. `follow_*` keep it up to date; `until` waits for something in it."""

    edges: Mapping[str, str]
    """Edge id -> admin URL."""
    planes: ControlPlanes
    client: httpx2.AsyncClient
    clock: Clock
    states: dict[str, EdgeState] = field(default_factory=dict)
    """The edges that answered the last poll."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """By target."""
    since: dict[str, datetime] = field(default_factory=dict)
    """By target: when that replica first held its verdict."""
    replica: str = ""
    """Whose view that is."""
    leader: LeaderStatus | None = None
    head: Version = NO_VERSION
    documents: Mapping[str, Decision] = field(default_factory=dict)
    """In force, by route."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: str | None = None

    def stop(self, reason: str) -> None:
        """End the present wait, and every later one, with Stopped. The first reason stands."""
        self._stopped = self._stopped or reason
        self._changed.set()

    async def follow_edges(self) -> None:
        """Poll the edges for ever."""
        while True:
            names = list(self.edges)
            answers = await asyncio.gather(*(edge_state(self.client, self.edges[name]) for name in names))
            self.states = {
                name: state for name, state in zip(names, answers, strict=True) if state is not None
            }
            self._changed.set()
            await asyncio.sleep(EDGE_POLL_S)

    async def follow_control_planes(self) -> None:
        """Poll the control planes for ever; while none answers, the last word stands."""
        while True:
            try:
                view = await self.planes.health()
                self.leader = await self.planes.leader()
                self.head, self.documents = await self.planes.in_force()
            except OpsError:
                await asyncio.sleep(CONTROL_PLANE_POLL_S)
                continue
            self.verdicts = {target.id: target.verdict for target in view.targets}
            self.since = {target.id: target.since for target in view.targets if target.since is not None}
            self.replica = view.replica
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
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return None

    async def pause(self, seconds: float) -> None:
        """Let time pass. Raises Stopped."""
        await self.until(lambda: None, timeout_s=seconds)

    def all_serve(self, edges: Sequence[str], version: Version) -> bool:
        """Whether each of `edges` serves `version` or a later one."""
        return all(edge in self.states and self.states[edge].decision >= version for edge in edges)


def version_without(
    documents: Mapping[str, Decision], targets: frozenset[str], *, after: Version
) -> Version | None:
    """The version from which on no route sends anything to `targets`; None while one still does.

    Only documents later than `after` tell: what was in force before the fault is no answer to it.
    """
    if not documents or any(_used(document) & targets for document in documents.values()):
        return None
    latest = max(document.version for document in documents.values())
    return latest if latest > after else None


def version_with(
    documents: Mapping[str, Decision], targets: frozenset[str], *, after: Version
) -> Version | None:
    """The version from which on no route excludes any of `targets`; None while one still does."""
    if not documents or any(
        out.target in targets for document in documents.values() for out in document.excluded
    ):
        return None
    latest = max(document.version for document in documents.values())
    return latest if latest > after else None


def _used(document: Decision) -> frozenset[str]:
    return frozenset(
        target.id for region in document.regions.values() for tier in region.tiers for target in tier.targets
    )
