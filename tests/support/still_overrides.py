"""Overrides that stand still: one in force, one over, and an answer for every change."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from control_plane.ports import Busy, Given, NotKept, Unfit
from shared.ports import Unavailable
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.override import Ended, Override, OverrideRequest, OverrideSpec

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def override(n: int = 17, *, kind: str = "drain", minutes: float = 30, **spec: object) -> Override:
    """Number `n` in the audit; drains the region `east` unless `spec` says otherwise."""
    what = {"kind": kind, **(spec or {"region": "east"})}
    return Override(
        id=f"{kind}-{n}",
        n=n,
        spec=OverrideSpec.model_validate(what),
        reason="new racks",
        author="ann",
        created_at=NOW - timedelta(minutes=1),
        expires_at=NOW + timedelta(minutes=minutes),
    )


class StillOverrides:
    """Implements `control_plane.ports.OverrideDesk`: `drain-17` is in force, `freeze-9` was lifted.

    `etcd_answers` False and `busy` make writes fail; a drain of `west` is refused unless forced."""

    def __init__(self) -> None:
        self.etcd_answers = True
        self.busy = False
        self.given: list[OverrideRequest] = []
        over = override(9, kind="freeze", route="chat")
        self.known = [
            over.model_copy(update={"ended": Ended(at=NOW, by="bob", reason="all is calm")}),
            override(),
        ]

    def on_record(self) -> tuple[datetime, Sequence[Override]]:
        return NOW, self.known

    async def give(self, request: OverrideRequest) -> Given:
        self._reach()
        if request.region == "west" and not request.forced:
            raise Unfit("nobody who answers would be left to route chat in east, west")
        self.given.append(request)
        until = request.expires_at or NOW + timedelta(seconds=request.for_s or 0)
        given = override(18, kind=request.kind, **request.spec.model_dump(exclude={"kind"}))
        return Given(given.model_copy(update={"expires_at": until}), ("route chat: nearly full",))

    async def lift(self, name: str, *, author: str, reason: str) -> Override:
        self._reach()
        for known in self.known:
            if known.id == name:
                return known.model_copy(update={"ended": Ended(at=NOW, by=author, reason=reason)})
        raise NotKept(f"no override {name!r} is on record")

    def _reach(self) -> None:
        if not self.etcd_answers:
            raise Unavailable("no member answers")
        if self.busy:
            raise Busy("other changes were made each time this one was tried: try again")


def audit() -> list[AuditEntry]:
    """Three changes, newest first."""
    return [
        AuditEntry(
            n=17, at=NOW, author="ann", action="override.create", subject="drain-17", reason="new racks"
        ),
        AuditEntry(
            n=16, at=NOW, author="bob", action="override.end", subject="freeze-9", reason="all is calm"
        ),
        AuditEntry(n=15, at=NOW, author="ann", action="config.apply", subject="config 2", reason="a region"),
    ]
