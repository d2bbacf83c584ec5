"""Leadership: a leased key in etcd, and this replica's own, shorter idea of how long it may act.

What is guaranteed: a write that carries the fence (`create_revision(leader) == epoch`) happens only
in the term it belongs to. What is not: that two replicas never *believe* to lead at the same moment.
A process may be paused between a check and the act that follows it; so `holds` keeps the overlap
small, and etcd's transaction alone makes it harmless.

Only times taken from this machine's monotonic clock are trusted. The deadline counts from before a
keep-alive was sent, never from when its answer came, and ends a tenth of the TTL early, for clocks
that run at different rates. Once passed it is final: a term is never resumed.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from control_plane.loops.pulse import closing
from control_plane.metrics import Metrics
from control_plane.ports import LeaderRecord, Tenure
from shared import keys
from shared.backoff import Backoff
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Compare, Coordination, PortError, Put, Unavailable
from shared.vocabulary.node import Node, Timings

log = get_logger(__name__)

MARGIN = 0.1
"""Of the TTL, given up at its end."""
RENEWALS = 3
"""Keep-alives in one TTL: two may fail."""
RETRY_S = 0.1
"""Between keep-alives while etcd does not answer."""
RELEASE_S = 1.0
"""Longest wait for etcd to take a lease back; it expires by itself otherwise. Who resigns has no haste
of his own and tries for a whole TTL, through an election of etcd's own leader."""


@dataclass(slots=True)
class _Held:
    """One term and what keeps it."""

    term: Tenure
    lease: int
    deadline: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""

    def end(self, why: str) -> None:
        """Final; the first reason stands."""
        if not self.ended.is_set():
            self.why = why
            self.ended.set()


class Lead:
    """Campaigns for ever, and says at any moment whether this replica may act as leader.

    `run` is its loop; `resign` ends it. `on_change` is called whenever the answer may have changed.
    Raises ValueError on timings under which a healthy leader would lose its lease.
    """

    def __init__(
        self,
        store: Coordination,
        *,
        node: Node,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        on_change: Callable[[], None],
    ) -> None:
        check_timings(node.timings)
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._on_change = on_change
        self._rng = rng
        self._ttl_s = node.timings.lease_ttl_s
        self._holder = node.id
        record = LeaderRecord(id=node.id, region=node.region, url=advertised_url(node))
        self._value = record.model_dump_json(include={"id", "region", "url"}).encode()
        self._held: _Held | None = None
        self._resigned = asyncio.Event()
        self._released = asyncio.Event()
        self._released.set()

    @property
    def term(self) -> Tenure | None:
        """The term under way, while this replica may act in it."""
        held = self._held
        return held.term if held is not None and self.holds(held.term) else None

    def holds(self, term: Tenure) -> bool:
        """Whether `term` is this replica's and its deadline has not passed. Ask before every act."""
        return self.remaining_s(term) > 0.0

    def remaining_s(self, term: Tenure) -> float:
        """Seconds until the deadline; 0 when `term` is over."""
        held = self._held
        if held is None or held.term != term or held.ended.is_set():
            return 0.0
        return max(0.0, held.deadline - self._clock.monotonic())

    def give_up(self, term: Tenure, why: str) -> None:
        """End `term` at once: etcd said that another leads."""
        held = self._held
        if held is not None and held.term == term:
            held.end(why)
            self._on_change()

    async def resign(self) -> None:
        """Stop campaigning and hand the lease back, within a TTL and a little."""
        self._resigned.set()
        if self._held is not None:
            self._held.end("resigned")
            self._on_change()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ttl_s + 0.5):
                await self._released.wait()

    async def run(self) -> None:
        """Campaign, reign, campaign again, until resigned."""
        backoff = Backoff(base_s=0.1, cap_s=0.5, rng=self._rng)
        while not self._resigned.is_set():
            try:
                held = await self._campaign()
            except PortError as error:
                log.info("cannot campaign", error=repr(error))
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            if held is not None:
                await self._reign(held)

    async def _campaign(self) -> _Held | None:
        """One attempt: wait until the key is vacant, then claim it. None when another was faster."""
        record, revision = await self._store.get(keys.LEADER)
        if record is not None:
            await self._until_vacant(revision + 1)
            return None
        sent = self._clock.monotonic()
        lease = await self._store.grant(self._ttl_s)
        epoch = await self._claim(lease)
        if epoch is None or self._resigned.is_set():
            await self._release(lease)
            return None
        deadline = sent + self._ttl_s * (1 - MARGIN)
        return _Held(Tenure(holder=self._holder, epoch=epoch, lease=lease), lease, deadline)

    async def _until_vacant(self, from_revision: int) -> None:
        """Watch the key; look again once a TTL in any case, for a watch can hang silently."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ttl_s):
                async with closing(self._store.watch(keys.LEADER, from_revision=from_revision)) as batches:
                    async for batch in batches:
                        if any(c.key == keys.LEADER and c.value is None for c in batch.changes):
                            return

    async def _claim(self, lease: int) -> int | None:
        """The epoch, or None. A lost reply is read back: the lease in the key says whose it is."""
        try:
            result = await self._store.commit(
                [Compare(keys.LEADER, "create", 0)], [Put(keys.LEADER, self._value, lease)]
            )
        except Unavailable:
            record, _ = await self._store.get(keys.LEADER)
            return record.create_revision if record is not None and record.lease == lease else None
        return result.revision if result.succeeded else None

    async def _reign(self, held: _Held) -> None:
        self._held = held
        self._released.clear()
        self._metrics.is_leader.set(1)
        self._metrics.epoch.set(held.term.epoch)
        self._metrics.terms.inc()
        log.info("leading", epoch=held.term.epoch)
        self._on_change()
        try:
            async with asyncio.TaskGroup() as group:
                guard = group.create_task(self._guard(held))
                await self._renew(held)
                guard.cancel()
        finally:
            held.end("cancelled")
            self._held = None
            self._metrics.is_leader.set(0)
            log.info("no longer leading", epoch=held.term.epoch, why=held.why)
            self._on_change()
        # Not when cancelled: a process that is torn down leaves its lease to expire, as a crash would.
        await self._release(held.lease)
        self._released.set()

    async def _renew(self, held: _Held) -> None:
        """Keep the lease until the term ends."""
        pause_s = self._ttl_s / RENEWALS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause_s, held.deadline - self._clock.monotonic())):
                    await held.ended.wait()
            sent = self._clock.monotonic()
            if held.ended.is_set():
                return
            if sent >= held.deadline:
                held.end("the deadline passed without a renewal")
                return
            try:
                async with asyncio.timeout(min(self._ttl_s / RENEWALS, held.deadline - sent)):
                    granted_s = await self._store.keep_alive(held.lease)
            except (PortError, TimeoutError):
                pause_s = RETRY_S
                continue
            if granted_s <= 0:
                held.end("etcd no longer knows the lease")
                return
            if self._clock.monotonic() >= held.deadline:
                held.end("paused past the deadline")
                return
            held.deadline = sent + min(granted_s, self._ttl_s) * (1 - MARGIN)
            pause_s = self._ttl_s / RENEWALS

    async def _guard(self, held: _Held) -> None:
        """End the term when its key is deleted under it: by an operator, or with an emptied etcd."""
        backoff = Backoff(base_s=0.2, cap_s=2.0, rng=self._rng)
        while not held.ended.is_set():
            try:
                record, revision = await self._store.get(keys.LEADER)
                if record is None or record.lease != held.lease:
                    held.end("the leader key is not ours")
                    return
                async with closing(self._store.watch(keys.LEADER, from_revision=revision + 1)) as batches:
                    async for batch in batches:
                        if any(c.key == keys.LEADER for c in batch.changes):
                            break
            except PortError:
                await asyncio.sleep(backoff.next())

    async def _release(self, lease: int) -> None:
        with suppress(TimeoutError, PortError):
            async with asyncio.timeout(self._ttl_s if self._resigned.is_set() else RELEASE_S):
                while True:
                    try:
                        return await self._store.revoke(lease)
                    except Unavailable:
                        await asyncio.sleep(RETRY_S)


def check_timings(timings: Timings) -> None:
    """Raises ValueError when the paces contradict each other."""
    deadline_s = timings.lease_ttl_s * (1 - MARGIN)
    if timings.lease_ttl_s / RENEWALS + RETRY_S >= deadline_s:
        raise ValueError(f"lease_ttl_s {timings.lease_ttl_s} leaves no room for a failed renewal")
    if timings.reconcile_s >= deadline_s:
        raise ValueError(f"reconcile_s {timings.reconcile_s:g} is not shorter than a term's {deadline_s:g} s")


def advertised_url(node: Node) -> str | None:
    """How others reach this replica's API."""
    scheme = "http" if node.api.tls is None else "https"
    return node.advertise_url or (f"{scheme}://{node.listen}" if node.listen else None)
