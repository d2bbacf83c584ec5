"""Operators' words on rollouts, carried out on any replica: start, abort, end."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from control_plane.core.consent import bereft
from control_plane.core.orders import orders_of
from control_plane.core.rollout import baseline, tally_of
from control_plane.core.rollout_check import refusals
from control_plane.loops.operations import MAX_ROLLOUTS, Operations, Stand, Write
from control_plane.loops.overrides import SKEW_S
from control_plane.loops.stage import Stager, old_of
from control_plane.ports import InForce, NotKept, Unfit
from shared import keys
from shared.clock import Clock
from shared.vocabulary.config import Fleet
from shared.vocabulary.rollout import Baseline, Rollout, RolloutSpec
from shared.vocabulary.view import HealthView


class Rollouts:
    """Implements `control_plane.ports.RolloutDesk`. `stager` knows how the running ones fare,
    `view` what this replica knows of health."""

    def __init__(
        self,
        operations: Operations,
        stager: Stager,
        *,
        in_force: Callable[[], InForce],
        view: Callable[[], HealthView | None],
        clock: Clock,
    ) -> None:
        self._operations = operations
        self._stager = stager
        self._in_force = in_force
        self._view = view
        self._clock = clock

    def all(self) -> Sequence[tuple[Rollout, str]]:
        return [(each, self._stager.why(each.id)) for each in self._in_force().rollouts]

    async def start(self, spec: RolloutSpec, *, author: str, reason: str) -> Rollout:
        begun: list[Rollout] = []

        def prepare(stand: Stand) -> Write:
            if stand.config is None:
                raise Unfit("no configuration is in force yet")
            if len(stand.rollouts) >= MAX_ROLLOUTS:
                raise Unfit(f"{MAX_ROLLOUTS} rollouts are on record: end some")
            if reasons := refusals(spec, stand.config.fleet, stand.rollouts):
                raise Unfit(*reasons)
            now = self._clock.now()
            rollout = Rollout(
                id=f"ro-{stand.audited + 1}",
                spec=spec,
                step_since=now,
                created_at=now,
                author=author,
                reason=reason,
            )
            rollout = rollout.model_copy(update={"old_before": self._of_the_old(rollout, stand.config.fleet)})
            begun[:] = [rollout]
            return _writing("rollout.start", rollout, {"targets": list(spec.targets)})

        await self._operations.write(author=author, reason=reason, prepare=prepare)
        return begun[0]

    async def abort(self, name: str, *, author: str, reason: str, forced: bool = False) -> Rollout:
        ended: list[Rollout] = []

        def prepare(stand: Stand) -> Write:
            rollout = _found(stand, name)
            if rollout.state != "RUNNING":
                raise Unfit(f"rollout {name!r} is {rollout.state}: only a running one can be aborted")
            after = rollout.model_copy(
                update={"state": "ABORTED", "step_since": self._clock.now(), "outcome": reason}
            )
            if not forced:
                self._check_left(rollout, after, stand)
            ended[:] = [after]
            return _writing("rollout.abort", after, _insisted(forced))

        await self._operations.write(author=author, reason=reason, prepare=prepare)
        return ended[0]

    async def end(self, name: str, *, author: str, reason: str, forced: bool = False) -> None:
        def prepare(stand: Stand) -> Write:
            rollout = _found(stand, name)
            if rollout.state == "RUNNING":
                raise Unfit(f"rollout {name!r} is running: abort it first")
            if not forced:
                self._check_left(rollout, None, stand)
                self._check_followed(rollout, stand)
            return Write(
                action="rollout.end",
                subject=name,
                values={"route": rollout.spec.route, "state": rollout.state, **_insisted(forced)},
                deletes=(keys.rollout(name),),
            )

        await self._operations.write(author=author, reason=reason, prepare=prepare)

    def _of_the_old(self, rollout: Rollout, fleet: Fleet) -> Baseline:
        """Their traffic just before: with one step of 1000 they have none from then on."""
        view = self._view()
        if view is None:
            return Baseline()
        healths = {health.id: health for health in view.targets}
        return baseline(tally_of(healths, old_of(rollout, fleet)))

    def _check_followed(self, rollout: Rollout, stand: Stand) -> None:
        """Raises Unfit when the configuration would undo what was promoted."""
        route = stand.config.fleet.routes_by_id.get(rollout.spec.route) if stand.config is not None else None
        waiting = {
            target for tier in (route.tiers if route is not None else ()) for target in tier.candidates
        }
        undone = sorted(waiting & set(rollout.spec.targets)) if rollout.state == "PROMOTED" else []
        if undone:
            raise Unfit(
                f"{', '.join(undone)} would lose everything, for the configuration still has them as candidates: "
                "apply one that does not, or force it if that is meant"
            )

    def _check_left(self, rollout: Rollout, after: Rollout | None, stand: Stand) -> None:
        """Raises Unfit when `after`, or nothing, in the place of `rollout` leaves its route without anybody
        who answers."""
        if stand.config is None:
            return
        # A drain counts for a little longer than this replica's clock says, as when one is given.
        earlier = self._clock.now() - timedelta(seconds=SKEW_S)
        others = [each for each in stand.rollouts if each.id != rollout.id]
        lost = bereft(
            rollout.spec.route,
            stand.config,
            self._view(),
            before=orders_of(stand.overrides, stand.rollouts, earlier),
            after=orders_of(stand.overrides, others if after is None else [*others, after], earlier),
        )
        if lost is not None:
            raise Unfit(f"nobody who answers would be left to route {lost}: force it if that is meant")


def _found(stand: Stand, name: str) -> Rollout:
    for rollout in stand.rollouts:
        if rollout.id == name:
            return rollout
    raise NotKept(f"no rollout {name!r}")


def _insisted(forced: bool) -> Mapping[str, bool]:
    return {"forced": True} if forced else {}


def _writing(action: str, rollout: Rollout, values: Mapping[str, Any]) -> Write:
    return Write(
        action=action,
        subject=rollout.id,
        values={"route": rollout.spec.route, "permille": rollout.permille, **values},
        puts={keys.rollout(rollout.id): rollout.canonical()},
    )
