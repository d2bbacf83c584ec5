"""The fault filter of an edge with workers: put and shown at the parent, in force in the workers."""

import random
from collections.abc import Callable, Mapping

from edge_router.core.fault_filter import FaultFilter, FilterOrder, InForce
from edge_router.core.frames import FaultOrder, Faults
from shared.vocabulary.node import Node


class SharedFaults(FaultFilter):
    """The parent's. It strikes nothing itself: `on_change` is called whenever other faults are in force, and
    what workers say they have struck is taken in by `tell_struck`."""

    __slots__ = ("on_change",)

    def __init__(self) -> None:
        super().__init__(lambda: 1.0)
        self.on_change: Callable[[], None] = _nothing

    def put(self, name: str, order: FilterOrder, now: float) -> bool:
        new = super().put(name, order, now)
        self.on_change()
        return new

    def drop(self, name: str, now: float) -> bool:
        there = super().drop(name, now)
        if there:
            self.on_change()
        return there

    def as_message(self) -> Faults:
        """All that are in force."""
        return Faults(
            [
                FaultOrder(name, fault.order.model_dump_json().encode(), fault.until)
                for name, fault in self.in_force.items()
            ]
        )

    def tell_struck(self, struck: Mapping[str, int]) -> None:
        """How many attempts each fault has struck, in all workers together."""
        for name, fault in self.in_force.items():
            fault.struck = struck.get(name, 0)


def fault_filter_of(node: Node, rng: random.Random) -> FaultFilter | None:
    """The one of the process that `node` describes; None where it allows none."""
    if not node.fault_filter:
        return None
    return SharedFaults() if node.workers > 1 else FaultFilter(rng.random)


def take_over(faults: FaultFilter, told: Faults) -> None:
    """A worker's: have exactly those in force that its parent told. What is renewed goes on counting."""
    known = dict(faults.in_force)
    faults.in_force.clear()
    for each in told.orders:
        order = FilterOrder.model_validate_json(each.order)
        before = known.get(each.name)
        if before is not None and before.order.model_copy(update={"for_s": order.for_s}) == order:
            before.until = each.until
            faults.in_force[each.name] = before
        else:
            faults.in_force[each.name] = InForce(order, each.until)


def _nothing() -> None: ...
