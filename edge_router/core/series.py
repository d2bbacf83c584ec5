"""Metrics as plain values, so that those of several processes can be added up and served as one.

sums        counters, the buckets of histograms, and gauges: what is under way here and there is under way
maxima      what every worker says of the same thing, like the mode of the edge
the worst   the state a target is in: that of the worker that thinks least of it

A worker that has ended goes on counting with what it last told (`Retired`), so that no counter falls; its gauges
go with it.
"""

from collections.abc import Container, Iterable
from typing import Final

import msgspec

Labels = tuple[tuple[str, str], ...]
"""Names and values, as the worker wrote them."""

MAXIMA: Final = frozenset({"leeward_edge_mode", "leeward_edge_fault_filter_faults"})
STATES: Final = {"leeward_edge_admission": ("EJECTED", "PROBATION", "ADMITTING")}
"""Families with 1 for one of these states, the worst first, and 0 for the others."""


class Family(msgspec.Struct, array_like=True):
    """One metric. `samples` by (the sample's name, labels)."""

    name: str
    text: str
    kind: str
    """`counter`, `gauge` or `histogram`, as Prometheus says."""
    samples: dict[tuple[str, Labels], float]


def merge(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """All the families there are, each with the samples of all workers."""
    found: dict[str, Family] = {}
    for families in parts:
        for family in families:
            known = found.get(family.name)
            if known is None:
                known = found[family.name] = Family(family.name, family.text, family.kind, {})
            _take_in(known, family)
    for name, states in STATES.items():
        if name in found:
            _leave_worst(found[name], states)
    return list(found.values())


MAX_RETIRED: Final = 40_000
"""Series of one family that are remembered of workers that have ended: of tenants there may be ever new ones."""


class Retired:
    """What workers that have ended had counted. Mutable, and bounded."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    @property
    def families(self) -> list[Family]:
        """As if one more worker told them."""
        return list(self._families.values())

    def add(self, families: Iterable[Family]) -> None:
        """A worker has ended, and these were its last words."""
        for family in families:
            if family.kind != "gauge":
                known = self._families.setdefault(
                    family.name, Family(family.name, family.text, family.kind, {})
                )
                _take_in(known, family, most=MAX_RETIRED)

    def keep(self, *, routes: Container[str], targets: Container[str]) -> None:
        """Forget what is about routes and targets that are gone."""
        alive = {"route": routes, "target": targets}
        for family in self._families.values():
            family.samples = {
                key: value
                for key, value in family.samples.items()
                if all(label not in alive or name in alive[label] for label, name in key[1])
            }


def _take_in(known: Family, family: Family, *, most: int | None = None) -> None:
    """Beyond `most` series no new ones are taken."""
    samples, greatest = known.samples, family.name in MAXIMA
    for key, value in family.samples.items():
        before = samples.get(key)
        if before is None:
            if most is None or len(samples) < most:
                samples[key] = value
        else:
            samples[key] = max(before, value) if greatest else before + value


def _leave_worst(family: Family, states: tuple[str, ...]) -> None:
    """One state of each thing: the first of `states` that any worker sees it in."""
    worst: dict[Labels, int] = {}
    for (_, labels), value in family.samples.items():
        thing, state = _split(labels)
        if value and state in states:
            worst[thing] = min(worst.get(thing, len(states)), states.index(state))
    for name, labels in family.samples:
        thing, state = _split(labels)
        place = worst.get(thing)
        family.samples[name, labels] = float(place is not None and states[place] == state)


def _split(labels: Labels) -> tuple[Labels, str]:
    return tuple(pair for pair in labels if pair[0] != "state"), dict(labels).get("state", "")
