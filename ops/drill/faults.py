"""The faults of one drill: put on record, put in place, renewed, undone.

The order is the promise: a fault is on record as PLANNED before it is put anywhere, whatever was begun
is undone, and what cannot be undone is told apart (LAPSED: its own time to live ended it). Whoever
dies in between leaves faults that end by themselves within FAULT_TTL_S.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ops.drill.ports import Injector, Injectors, Place
from ops.errors import Bad, OpsError
from shared.clock import Clock
from shared.vocabulary.drill import FAULT_TTL_S, DrillFault, Injection

RENEW_S = FAULT_TTL_S / 3
RETRY_S = 1.0
CLEAR_OF_TTL_S = 2.0


@dataclass(slots=True)
class Fault:
    """One fault at one place."""

    n: int
    what: DrillFault
    place: Place
    injector: Injector
    state: str = "PLANNED"
    at: datetime | None = None
    """Of its last change of state."""
    planned_at: float | None = None
    """On the monotonic clock, as all that follow."""
    renewed_at: float | None = None
    """When it was last put or renewed, or that was tried: its time to live counts from there at most."""
    done_at: float | None = None
    undone_at: float | None = None

    def on_record(self) -> Injection:
        """As the control plane keeps it."""
        return Injection.model_validate(
            {
                "n": self.n,
                "by": self.what.by,
                "fault": self.what.fault,
                "where": self.place.where,
                "state": self.state,
                "at": self.at,
            }
        )


class Faults:
    """Those of one drill. `on_record` puts their present state on record, and raises OpsError when it
    could not: then nothing is done. `lapsed` hears why a fault ended before its time."""

    def __init__(
        self,
        placed: Sequence[tuple[DrillFault, Place]],
        injectors: Injectors,
        *,
        clock: Clock,
        on_record: Callable[[], Awaitable[None]],
        lapsed: Callable[[str], None],
        author: str,
        reason: str,
    ) -> None:
        self._clock = clock
        self._on_record = on_record
        self._lapsed = lapsed
        self._order = asyncio.Lock()
        self._closed = False
        self.all = [
            Fault(n, fault, place, injectors.at(fault, place, author=author, reason=reason))
            for n, (fault, place) in enumerate(placed)
        ]

    @property
    def delays(self) -> list[float]:
        """When something is to be put, in seconds from the injection, in order."""
        return sorted({fault.what.delay_s for fault in self.all})

    @property
    def planned(self) -> tuple[Injection, ...]:
        """What is on record, or about to be."""
        return tuple(fault.on_record() for fault in self.all if fault.planned_at is not None)

    async def plan(self) -> None:
        """Put all of them on record. Raises OpsError: then none may be put."""
        for fault in self.all:
            fault.planned_at = self._clock.monotonic()
            self._becomes(fault, "PLANNED")
        await self._on_record()

    async def put(self, delay_s: float) -> None:
        """Put those of this delay in place, all at once. Raises OpsError when one cannot be."""
        async with self._order:
            if self._closed:
                return
            due = [fault for fault in self.all if fault.what.delay_s == delay_s]
            if any(fault.planned_at is None for fault in due):
                raise Bad("a fault must be on record before it is put")
            results = await asyncio.gather(*(self._put(fault) for fault in due), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def keep(self) -> None:
        """Renew what is in place, for ever."""
        while True:
            await asyncio.sleep(RENEW_S)
            async with self._order:
                await asyncio.gather(*(self._renew(fault) for fault in self.all if fault.state == "DONE"))

    async def undo(self, *, patient: bool = True) -> list[str]:
        """End all of them, and let none begin any more; returns what could not be undone, in words.

        Tries again until a fault's time to live has passed; once only when not `patient`. Safe to call
        again, and while nothing is in place.
        """
        async with self._order:
            self._closed = True
            begun = [
                fault
                for fault in self.all
                if fault.renewed_at is not None and fault.state in ("PLANNED", "DONE")
            ]
            told = await asyncio.gather(*(self._undo(fault, patient=patient) for fault in begun))
        return [words for words in told if words]

    async def _put(self, fault: Fault) -> None:
        fault.renewed_at = self._clock.monotonic()
        await fault.injector.put(for_s=FAULT_TTL_S)
        fault.done_at = self._clock.monotonic()
        self._becomes(fault, "DONE")

    async def _renew(self, fault: Fault) -> None:
        begun = self._clock.monotonic()
        try:
            await fault.injector.renew(for_s=FAULT_TTL_S)
            fault.renewed_at = begun
        except OpsError as error:
            if fault.renewed_at is not None and begun - fault.renewed_at > FAULT_TTL_S:
                fault.undone_at = begun
                self._becomes(fault, "LAPSED")
                self._lapsed(
                    f"{fault.what.fault} at {fault.place.where} lapsed, it could not be renewed: {error}"
                )

    async def _undo(self, fault: Fault, *, patient: bool) -> str | None:
        over_at = (fault.renewed_at or 0.0) + FAULT_TTL_S + CLEAR_OF_TTL_S
        while True:
            try:
                await fault.injector.undo()
            except OpsError as error:
                if patient and self._clock.monotonic() < over_at:
                    await asyncio.sleep(RETRY_S)
                    continue
                fault.undone_at = self._clock.monotonic()
                self._becomes(fault, "LAPSED")
                return f"{fault.what.fault} at {fault.place.where} could not be undone, its time to live ends it: {error}"
            fault.undone_at = self._clock.monotonic()
            self._becomes(fault, "UNDONE")
            return None

    def _becomes(self, fault: Fault, state: str) -> None:
        fault.state, fault.at = state, self._clock.now()
