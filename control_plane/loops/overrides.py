"""Overrides: given and lifted by operators on any replica, and cleared away when long over.

Each is one operator's write (`operations`), judged on what stands at that very moment: so of two
replicas that each drain one of the last two regions, one is refused. What is lifted stays on record
with who lifted it, so that the decision that follows can say so; the leader clears it away later.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from control_plane.core.consent import faults, stranded, warnings
from control_plane.core.orders import Orders, orders_of
from control_plane.loops.blobs import Missing
from control_plane.loops.lead import Lead
from control_plane.loops.ledger import fence
from control_plane.loops.mirror import Mirror
from control_plane.loops.operations import MAX_OVERRIDES, Operations, Stand, Write
from control_plane.ports import Busy, Given, NotKept, Unfit
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import PortError
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.override import MAX_OVERRIDE_S, Ended, Override, OverrideRequest
from shared.vocabulary.view import HealthView

log = get_logger(__name__)

LOOK_S = 60.0
KEPT_S = 3_600.0
"""So long an override stays on record when it is over: for the decisions and people that ask how it ended."""
SKEW_S = 60.0
"""By which clocks of replicas may differ: for so long after its end another's drain still counts, when
the question is who would be left."""
MAX_CLEARED = 50
"""At once; etcd takes 128 operations a transaction by default."""


class Desk:
    """Implements `control_plane.ports.OverrideDesk`. `view` is what this replica knows of health."""

    def __init__(
        self,
        operations: Operations,
        mirror: Mirror,
        *,
        view: Callable[[], HealthView | None],
        clock: Clock,
    ) -> None:
        self._operations = operations
        self._mirror = mirror
        self._view = view
        self._clock = clock

    def on_record(self) -> tuple[datetime, Sequence[Override]]:
        """As `OverrideDesk.on_record`."""
        return self._clock.now(), self._mirror.in_force.overrides

    async def give(self, request: OverrideRequest) -> Given:
        """As `OverrideDesk.give`."""
        now = self._clock.now()
        until = _until(request, now)
        given: Given | None = None

        def prepare(stand: Stand) -> Write:
            nonlocal given
            n = stand.audited + 1
            override = Override(
                id=f"{request.kind}-{n}",
                n=n,
                spec=request.spec,
                reason=request.reason,
                author=request.author,
                created_at=now,
                expires_at=until,
                forced=request.forced,
            )
            given = self._judged(override, stand, now)
            return Write(
                action="override.create",
                subject=override.id,
                values=_values(override),
                puts={keys.override(override.id): override.canonical()},
            )

        await self._operations.write(author=request.author, reason=request.reason, prepare=prepare)
        assert given is not None
        return given

    async def lift(self, name: str, *, author: str, reason: str) -> Override:
        """As `OverrideDesk.lift`."""
        now = self._clock.now()
        lifted: Override | None = None

        def prepare(stand: Stand) -> Write:
            nonlocal lifted
            found = next((each for each in stand.overrides if each.id == name), None)
            if found is None:
                raise NotKept(f"no override {name!r} is on record")
            # Not by this replica's clock alone, which may be fast: what is not yet ended is ended now.
            if found.ended is not None or now >= found.expires_at + timedelta(seconds=SKEW_S):
                lifted = found
                raise _IsOver
            lifted = found.model_copy(update={"ended": Ended(at=now, by=author, reason=reason)})
            return Write(
                action="override.end",
                subject=name,
                values={"given_by": found.author, "expires_at": found.expires_at.isoformat()},
                puts={keys.override(name): lifted.canonical()},
            )

        try:
            await self._operations.write(author=author, reason=reason, prepare=prepare)
        except _IsOver:
            log.info("an override that is over was lifted again", override=name, author=author)
        assert lifted is not None
        return lifted

    def _judged(self, override: Override, stand: Stand, now: datetime) -> Given:
        """Raises Unfit."""
        config, spec = stand.config, override.spec
        if config is None:
            raise Unfit("no configuration is in force yet")
        if len(stand.overrides) >= MAX_OVERRIDES:
            raise Unfit(f"{MAX_OVERRIDES} overrides are on record: lift some, or wait an hour")
        before = orders_of(stand.overrides, stand.rollouts, now)
        if wrong := faults(spec, config.fleet, before.overrides):
            raise Unfit("; ".join(wrong))
        after = orders_of((*stand.overrides, override), stand.rollouts, now)
        if not override.forced:
            earlier = now - timedelta(seconds=SKEW_S)
            self._check_drain(
                override, config, orders_of((*stand.overrides, override), stand.rollouts, earlier)
            )
        return Given(override, warnings(spec, config, self._view(), after))

    def _check_drain(self, override: Override, config: FleetConfig, after: Orders) -> None:
        lost = stranded(override.spec, config, self._view(), after)
        if lost:
            raise Unfit(
                f"nobody who answers would be left to route {'; '.join(map(str, lost))}: "
                "force it if that is meant"
            )


class Clearance:
    """Takes overrides off the record that have been over for long, while this replica leads; on audit."""

    def __init__(
        self, operations: Operations, mirror: Mirror, *, lead: Lead, replica: str, clock: Clock
    ) -> None:
        self._operations = operations
        self._mirror = mirror
        self._lead = lead
        self._replica = replica
        self._clock = clock

    async def run(self) -> None:
        """Look once a minute."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.clear()
            except (Busy, Missing, PortError) as error:
                log.info("overrides were not cleared away", error=repr(error))

    async def clear(self) -> None:
        """One look. Raises Busy, blobs.Missing, PortError."""
        term = self._lead.term
        if term is None or not self._old(self._mirror.in_force.overrides):
            return

        def prepare(stand: Stand) -> Write:
            old = self._old(stand.overrides)
            if not old:
                raise _IsOver
            return Write(
                action="override.expire",
                subject=old[0].id if len(old) == 1 else f"{len(old)} overrides",
                values={"overrides": [each.id for each in old]},
                deletes=tuple(keys.override(each.id) for each in old),
                compares=tuple(fence(term)),
            )

        try:
            await self._operations.write(author=self._replica, reason="over for an hour", prepare=prepare)
        except _IsOver:
            return

    def _old(self, overrides: Sequence[Override]) -> list[Override]:
        before = self._clock.now() - timedelta(seconds=KEPT_S)
        return [each for each in overrides if each.over_at < before][:MAX_CLEARED]


class _IsOver(Exception):
    """Nothing is left to be written."""


def _until(request: OverrideRequest, now: datetime) -> datetime:
    """Raises Unfit."""
    until = request.expires_at
    if until is None:
        assert request.for_s is not None
        until = now + timedelta(seconds=request.for_s)
    if until <= now:
        raise Unfit(f"expires_at {until.isoformat()} is past: here it is {now.isoformat()}")
    if (until - now).total_seconds() > MAX_OVERRIDE_S:
        raise Unfit(f"expires_at {until.isoformat()} is more than 30 days ahead")
    return until


def _values(override: Override) -> Mapping[str, Any]:
    spec = override.spec.model_dump(mode="json", exclude_defaults=True)
    forced = {"forced": True} if override.forced else {}
    return {**spec, "expires_at": override.expires_at.isoformat(), **forced}
