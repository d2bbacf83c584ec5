"""Rollouts that stand still: one running, and an answer for every change."""

from collections.abc import Sequence
from datetime import UTC, datetime

from control_plane.ports import NotKept, Unfit
from shared.ports import Unavailable
from shared.vocabulary.rollout import Rollout, RolloutSpec

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class StillRollouts:
    """Implements `control_plane.ports.RolloutDesk`; `etcd_answers` False makes writes fail."""

    def __init__(self) -> None:
        self.etcd_answers = True
        self.running = Rollout(
            id="ro-4",
            spec=RolloutSpec(route="chat", targets=("alpha-west",)),
            step_since=NOW,
            created_at=NOW,
            author="ann",
            reason="a newer model",
        )

    def all(self) -> Sequence[tuple[Rollout, str]]:
        return [(self.running, "40 of 50 attempts")]

    async def start(self, spec: RolloutSpec, *, author: str, reason: str) -> Rollout:
        self._reach()
        if spec.route == self.running.spec.route:
            raise Unfit("rollout 'ro-4' of this route is RUNNING: abort it first")
        return self.running.model_copy(
            update={"id": "ro-5", "spec": spec, "author": author, "reason": reason}
        )

    async def abort(self, name: str, *, author: str, reason: str, forced: bool = False) -> Rollout:
        self._find(name)
        return self.running.model_copy(update={"state": "ABORTED", "outcome": reason})

    async def end(self, name: str, *, author: str, reason: str, forced: bool = False) -> None:
        self._find(name)
        raise Unfit(f"rollout {name!r} is running: abort it first")

    def _find(self, name: str) -> None:
        self._reach()
        if name != self.running.id:
            raise NotKept(f"no rollout {name!r}")

    def _reach(self) -> None:
        if not self.etcd_answers:
            raise Unavailable("no member answers")
