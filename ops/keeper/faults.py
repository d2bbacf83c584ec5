"""The stack's faults: what is in force, until when, and on disk so that a restarted keeper undoes
what its predecessor did.

A fault is written down before it is done, with every process it may reach, and crossed out after it
was undone; so whatever a crash interrupts, the file names at least what is broken. `until` is
monotonic and not on disk: a keeper that starts undoes everything it finds there at once.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from ops.errors import Bad, OpsError, Usage
from ops.keeper import hands
from ops.local.stack import Stack
from shared.clock import Clock
from shared.log import get_logger
from shared.vocabulary.base import Id, Message

log = get_logger(__name__)

MAX_FOR_S = 300.0
MAX_FAULTS = 32
RETRY_S = 1.0
"""After an undoing that failed."""
POLL_S = 0.1

StackFault = Literal["kill", "stop", "partition", "clock_skew"]


class FaultOrder(Message):
    """The body of `PUT /faults/{id}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: StackFault
    processes: Annotated[tuple[Id, ...], Field(min_length=1, max_length=200)]
    skew_s: Annotated[float, Field(ge=-31_536_000, le=31_536_000, allow_inf_nan=False)] | None = None
    """`clock_skew`: what the wall clock of these processes is off by."""
    for_s: Annotated[float, Field(gt=0, le=MAX_FOR_S, allow_inf_nan=False)]
    """Time to live, from when it is done or last renewed."""

    @model_validator(mode="after")
    def _whole(self) -> "FaultOrder":
        if (self.skew_s is not None) != (self.fault == "clock_skew"):
            raise ValueError("skew_s belongs to clock_skew, which needs it")
        return self


class Written(Message):
    """One fault as the file has it."""

    id: Id
    fault: StackFault
    processes: tuple[Id, ...]
    """All that it may have reached."""
    skew_s: float | None = None


class FaultsFile(Message):
    """`keeper/faults.json` in the state directory."""

    schema_version: Literal[1] = 1
    faults: tuple[Written, ...] = ()


@dataclass(slots=True)
class Held:
    """A fault in force, or on its way in or out."""

    written: Written
    until: float
    """Monotonic."""
    state: Literal["doing", "in_force", "undoing"] = "doing"
    problem: str = ""
    """Why its undoing failed last; it is tried again."""


class Refused(OpsError):
    """The fault cannot be put; nothing was done."""


class Faults:
    """All faults of one stack. One change at a time; renewals wait for nobody."""

    def __init__(self, stack: Stack, *, clock: Clock) -> None:
        self._stack = stack
        self._clock = clock
        self._held: dict[str, Held] = {}
        self._changing = asyncio.Lock()

    # ------------------------------------------------------------ what the panel asks for

    async def put(self, name: str, order: FaultOrder) -> tuple[Held, bool]:
        """Do it, or renew it when it is in force; gives it, and whether it is new.

        Raises Refused when another fault has that id, there are too many, the stack is not up or the
        processes are unknown or cannot suffer it; Bad when it could not be done (and is undone).
        """
        if (known := self._held.get(name)) is not None and known.state == "in_force":
            return self._renewed(known, order), False
        async with self._changing:
            known = self._held.get(name)
            if known is not None and known.state == "in_force":
                return self._renewed(known, order), False
            if known is not None:
                raise Refused(f"{name} is being undone: {known.problem or 'try again'}")
            if len(self._held) >= MAX_FAULTS:
                raise Refused(f"{MAX_FAULTS} faults are in force; more would hide what is broken by which")
            return await self._done(name, order), True

    async def drop(self, name: str) -> Held | None:
        """Undo it; None when there is no such fault. Raises Bad when it could not be: it is tried again."""
        async with self._changing:
            held = self._held.get(name)
            if held is not None:
                await self._undo(held)
            return held

    def shown(self) -> list[dict[str, object]]:
        """Every fault, for `GET /faults`."""
        now = self._clock.monotonic()
        return [self.as_json(held, now) for held in self._held.values()]

    def as_json(self, held: Held, now: float | None = None) -> dict[str, object]:
        """One fault as the panel shows it."""
        now = self._clock.monotonic() if now is None else now
        return {
            **held.written.model_dump(mode="json", exclude_none=True),
            "state": held.state,
            "remaining_s": round(max(0.0, held.until - now), 3),
            **({"problem": held.problem} if held.problem else {}),
        }

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Undo what lapses, until cancelled. First what an earlier keeper left."""
        for written in read_file(self._stack.state_dir).faults:
            log.warning("undoing what an earlier keeper left", fault=written.id, what=written.fault)
            self._held.setdefault(written.id, Held(written, until=self._clock.monotonic(), state="undoing"))
        while True:
            self._stack.launcher.collect()
            now = self._clock.monotonic()
            for held in [each for each in self._held.values() if each.state != "doing" and now >= each.until]:
                async with self._changing:
                    if self._held.get(held.written.id) is not held or self._clock.monotonic() < held.until:
                        continue
                    if held.state == "in_force":
                        log.warning("fault lapsed: nobody renewed it", fault=held.written.id)
                    try:
                        await self._undo(held)
                    except OpsError as error:
                        log.warning("fault not undone, trying again", fault=held.written.id, error=str(error))
            await asyncio.sleep(POLL_S)

    async def undo_all(self, *, lock_wait_s: float) -> None:
        """On the way out. What cannot be undone now stays on file for the next keeper, or for `down`."""
        async with self._changing:
            for held in list(self._held.values()):
                try:
                    await self._undo(held, lock_wait_s=lock_wait_s)
                except OpsError as error:
                    lock_wait_s = 0.0  # whoever holds the lock was waited for
                    log.warning("fault left on file", fault=held.written.id, error=str(error))

    # ------------------------------------------------------------ details

    def _renewed(self, held: Held, order: FaultOrder) -> Held:
        written = held.written
        if (written.fault, written.skew_s) != (order.fault, order.skew_s) or not set(
            written.processes
        ) <= set(order.processes):
            raise Refused(f"{written.id} is already in force as another fault: undo it first")
        held.until = self._clock.monotonic() + order.for_s
        return held

    async def _done(self, name: str, order: FaultOrder) -> Held:
        written = Written(id=name, fault=order.fault, processes=order.processes, skew_s=order.skew_s)
        struck = await asyncio.to_thread(hands.check, self._stack, order.fault, order.processes)
        held = Held(
            written.model_copy(update={"processes": struck}), until=self._clock.monotonic() + order.for_s
        )
        self._held[name] = held
        try:
            await self._keep()
        except BaseException:
            del self._held[name]  # nothing was done
            raise
        try:
            await asyncio.to_thread(hands.do, self._stack, order.fault, struck, skew_s=order.skew_s)
        except OpsError as error:
            held.problem = str(error)
            await self._undo(held)
            raise
        except BaseException as error:
            # It may be done in part: `run` undoes it, for what is "doing" does not lapse.
            held.problem = f"it could not be done: {error!r}"
            held.state, held.until = "undoing", self._clock.monotonic()
            raise
        held.state = "in_force"
        held.until = self._clock.monotonic() + order.for_s
        log.warning("fault in force", fault=name, what=order.fault, processes=list(struck), for_s=order.for_s)
        return held

    async def _undo(self, held: Held, *, lock_wait_s: float | None = None) -> None:
        """Raises OpsError, having set when to try again."""
        held.state = "undoing"
        others = [each.written for each in self._held.values() if each is not held]
        try:
            await asyncio.to_thread(undo, self._stack, held.written, others, lock_wait_s=lock_wait_s)
        except (OpsError, OSError) as error:
            held.problem = str(error)
            held.until = self._clock.monotonic() + RETRY_S
            raise error if isinstance(error, OpsError) else Bad(str(error)) from None
        del self._held[held.written.id]
        await self._keep()
        log.warning("fault undone", fault=held.written.id, what=held.written.fault)

    async def _keep(self) -> None:
        file = FaultsFile(faults=tuple(held.written for held in self._held.values()))
        try:
            await asyncio.to_thread(write_file, self._stack.state_dir, file)
        except OSError as error:
            raise Bad(f"faults cannot be kept in {self._stack.state_dir}: {error}") from None


def undo(stack: Stack, written: Written, others: list[Written], *, lock_wait_s: float | None = None) -> None:
    """Undo one fault, except where one of `others` has broken the same process. Blocks. Raises OpsError."""
    held_by_others = {
        process for other in others if other.fault == written.fault for process in other.processes
    }
    killed = {process for other in others if other.fault == "kill" for process in other.processes}
    hands.undo(
        stack,
        written.fault,
        [process for process in written.processes if process not in held_by_others],
        leave_dead=killed,
        lock_wait_s=lock_wait_s,
    )


def undo_file(state_dir: Path, only: str | None = None) -> list[str]:
    """Undo what a dead keeper left on file, all or the one of that id, in its place; gives the ids.

    For whoever finds the keeper gone: a runner, `leeward start`. Blocks. Raises OpsError.
    """
    stack = Stack(state_dir)
    undone = []
    for written in read_file(state_dir).faults:
        if only in (None, written.id):
            others = [each for each in read_file(state_dir).faults if each.id != written.id]
            undo(stack, written, others)
            write_file(state_dir, FaultsFile(faults=tuple(others)))
            undone.append(written.id)
    stack.launcher.release()
    return undone


def read_file(state_dir: Path) -> FaultsFile:
    """What is on file; nothing when there is none. Raises Usage for a file that makes no sense."""
    path = state_dir / "keeper" / "faults.json"
    try:
        return FaultsFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return FaultsFile()
    except ValidationError:
        raise Usage(f"{path} is damaged: `leeward down` and `up` begin afresh") from None


def write_file(state_dir: Path, file: FaultsFile) -> None:
    """Replace it in one step; an empty one is removed. Raises OSError."""
    path = state_dir / "keeper" / "faults.json"
    if not file.faults:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(file.model_dump_json(indent=1) + "\n")
    scratch.replace(path)
