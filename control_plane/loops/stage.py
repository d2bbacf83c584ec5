"""The leader's watch over rollouts: add up what live traffic shows, rule, and put the ruling on record.

The sums of the step under way are kept in memory only, and so is the time for which it was watched: a
new leader counts both afresh and so waits longer, never less, before it moves a rollout on. What the
old did before the step is on the rollout's record. What is written is a ruling that changes something,
through the same audited door as operators' writes, and under the leader's fence.

Back goes only what the old can take: while none of them answers, a rollout that should go back stays
at its step, and says so.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.core.consent import Stranded, bereft
from control_plane.core.orders import orders_of
from control_plane.core.rollout import Ruling, Tally, against, baseline, rule, tally_of
from control_plane.loops.blobs import Missing
from control_plane.loops.lead import Lead
from control_plane.loops.ledger import fence
from control_plane.loops.operations import Operations, Stand, Write
from control_plane.ports import Busy, InForce, Tenure
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import PortError
from shared.vocabulary.config import Fleet
from shared.vocabulary.rollout import Rollout
from shared.vocabulary.view import HealthView

log = get_logger(__name__)

_STATES = {"NEXT": "RUNNING", "PROMOTE": "PROMOTED", "ROLL_BACK": "ROLLED_BACK"}


class Superseded(Exception):
    """Somebody else has changed the rollout since the ruling."""


class _NobodyLeft(Exception):
    """Going back would leave the route without anybody who answers."""

    def __init__(self, lost: Stranded) -> None:
        super().__init__(f"nobody who answers would be left to route {lost}")


@dataclass(slots=True)
class _Watched:
    """One rollout's sums. `step` and `since` tell whether they still belong to the step under way."""

    step: int
    since: datetime
    began_s: float
    """When this replica, leading, first looked at the step; monotonic."""
    new: Tally = field(default_factory=Tally)
    old: Tally = field(default_factory=Tally)
    why: str = ""


class Stager:
    """`run` is its loop; it acts only while this replica leads."""

    def __init__(
        self,
        operations: Operations,
        *,
        lead: Lead,
        in_force: Callable[[], InForce],
        view: Callable[[], HealthView | None],
        replica: str,
        clock: Clock,
    ) -> None:
        self._operations = operations
        self._lead = lead
        self._in_force = in_force
        self._view = view
        self._replica = replica
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    def why(self, rollout: str) -> str:
        """What the last look at a running rollout found, where this replica leads; else empty."""
        watched = self._watched.get(rollout)
        return watched.why if watched is not None else ""

    async def run(self) -> None:
        """Look once in each passive window: windows that do not overlap can be added up."""
        while True:
            force = self._in_force()
            pace_s = force.config.fleet.policy.passive_window_s if force.config is not None else 1.0
            await asyncio.sleep(pace_s)
            term = self._lead.term
            if term is None:
                self._watched.clear()
                continue
            try:
                await self.look(term)
            except (Busy, Missing, PortError) as error:
                log.warning("a rollout's ruling was not written, it is tried again", error=repr(error))

    async def look(self, term: Tenure) -> None:
        """Add up, rule, write. Raises Busy, blobs.Missing, PortError."""
        force, view = self._in_force(), self._view()
        if force.config is None or view is None:
            return
        running = {each.id: each for each in force.rollouts if each.state == "RUNNING"}
        self._watched = {name: watched for name, watched in self._watched.items() if name in running}
        healths = {health.id: health for health in view.targets}
        for rollout in running.values():
            watched = self._sums_of(rollout)
            watched.new += tally_of(healths, rollout.spec.targets)
            watched.old += tally_of(healths, old_of(rollout, force.config.fleet))
            held_against = against(rollout, watched.old)
            baked_s = self._clock.monotonic() - watched.began_s
            ruling = rule(rollout, watched.new, held_against, healths, baked_s=baked_s)
            watched.why = ruling.why
            if ruling.what == "WAIT":
                continue
            try:
                await self._carry_out(rollout, ruling, held_against, term)
            except _NobodyLeft as error:
                watched.why = f"should go back, but {error}: {ruling.why}"
                log.warning("a rollout cannot go back", rollout=rollout.id, found=watched.why)

    def _sums_of(self, rollout: Rollout) -> _Watched:
        watched = self._watched.get(rollout.id)
        if watched is None or (watched.step, watched.since) != (rollout.step, rollout.step_since):
            watched = _Watched(rollout.step, rollout.step_since, self._clock.monotonic())
            self._watched[rollout.id] = watched
        return watched

    async def _carry_out(self, rollout: Rollout, ruling: Ruling, held_against: Tally, term: Tenure) -> None:
        """Raises _NobodyLeft beside what `look` does."""

        def prepare(stand: Stand) -> Write:
            if rollout not in stand.rollouts:
                raise Superseded
            after = rollout.model_copy(
                update={
                    "state": _STATES[ruling.what],
                    "step": rollout.step + (ruling.what == "NEXT"),
                    "step_since": self._clock.now(),
                    "outcome": ruling.why,
                    "old_before": baseline(held_against),
                }
            )
            if ruling.what == "ROLL_BACK":
                self._check_way_back(stand, after)
            return Write(
                action={"NEXT": "rollout.step", "PROMOTE": "rollout.promote"}.get(
                    ruling.what, "rollout.rollback"
                ),
                subject=rollout.id,
                values={"route": rollout.spec.route, "step": after.step, "permille": after.permille},
                puts={keys.rollout(rollout.id): after.canonical()},
                compares=tuple(fence(term)),
            )

        try:
            await self._operations.write(author=self._replica, reason=ruling.why, prepare=prepare)
        except Superseded:
            log.info("the rollout was changed by somebody else meanwhile", rollout=rollout.id)

    def _check_way_back(self, stand: Stand, after: Rollout) -> None:
        """Raises _NobodyLeft."""
        if stand.config is None:
            return
        now = self._clock.now()
        others = [each for each in stand.rollouts if each.id != after.id]
        lost = bereft(
            after.spec.route,
            stand.config,
            self._view(),
            before=orders_of(stand.overrides, stand.rollouts, now),
            after=orders_of(stand.overrides, [*others, after], now),
        )
        if lost is not None:
            raise _NobodyLeft(lost)


def old_of(rollout: Rollout, fleet: Fleet) -> Mapping[str, None]:
    """The targets that the rollout's are held against: the others of their tier, in its order."""
    route = fleet.routes_by_id.get(rollout.spec.route)
    new = set(rollout.spec.targets)
    tiers = [tier.targets for tier in route.tiers if new & set(tier.targets)] if route is not None else []
    return dict.fromkeys(target for tier in tiers for target in tier if target not in new)
