"""The waterfall: who carries which part of which demand.

One stream is the traffic of one route from one client region. It has stages, groups of targets in the
order in which it would have them: what an operator pinned first; then tier after tier; in a tier, what
a rollout has staged, then group after group, the own region first, then by distance; within a tier those
moved last come after all others. A stage takes what still flows, and what it does not take flows on.

    full members      share equally what the others of their group leave
    partial members   (on the ramp, cautious, leaving) take their part of an equal share and no more
    staged members    take their permille of what reaches their tier
    overflow          what nobody takes in full goes to those who have some, tier after tier

Several streams pour into the same targets, whose rooms are limited: all streams pour stage by stage and
in step, so that every client region is first served by its own region, then by the nearest spill; and
where a target's room is short, those at the same stage share it in proportion to what they ask for.
What is left of a stream when all is full is shed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from control_plane.core.roster import Placing
from control_plane.core.standing import FULL

Parts = tuple[tuple[str, int], ...]
"""Targets with less than their full part, sorted: `(id, permille)`. 0: not used at all."""

Step = tuple[int, int, int]
"""What orders stages over all streams: pinned before others; tier; nearness within the tier."""

PINNED, OTHERS = 0, 1
STAGED = -1
MOVED_LAST = 1_000_000
GRAIN = 1e-9
"""Of a stream or a room: less is nothing."""


class Stage(NamedTuple):
    """Targets that one stream uses alike."""

    step: Step
    tier: int
    members: tuple[str, ...]
    staged: bool = False


@dataclass(slots=True, eq=False)
class Stream:
    """The traffic of one route from one client region, while it is poured."""

    demand: float
    stages: Sequence[Stage]
    parts: Mapping[str, int]
    """Of those that have less than their full part; 0 is not among the stages."""
    staged: Mapping[str, int]
    left: float = 0.0
    taken: dict[str, float] = field(default_factory=dict)
    """Target -> what it carries, in the unit of the demand."""

    def __post_init__(self) -> None:
        self.left = self.demand


class Rooms:
    """What targets can still take: `planned` with the headroom and the ramp respected, `most` without."""

    def __init__(self, planned: Mapping[str, float], most: Mapping[str, float]) -> None:
        self._planned = dict(planned)
        self._most = dict(most)
        self._floors = {target: GRAIN * room for target, room in most.items()}

    def of(self, target: str, *, over: bool) -> float:
        """The room left; 0 where it is next to nothing."""
        room = (self._most if over else self._planned)[target]
        return room if room > self._floors[target] else 0.0

    def take(self, target: str, amount: float) -> None:
        """Use some of it."""
        self._planned[target] = max(0.0, self._planned[target] - amount)
        self._most[target] = max(0.0, self._most[target] - amount)

    def close(self, target: str, *, over: bool) -> None:
        """It is full, whatever rounding has left of it."""
        self._planned[target] = 0.0
        if over:
            self._most[target] = 0.0


Claim = tuple[Stream, str, float]


def stages_of(placing: Placing, region: str, parts: Mapping[str, int], last: Iterable[str]) -> list[Stage]:
    """The stages of the clients of `region`, in order; targets whose part is 0 are in none."""
    pinned, behind = placing.preferred.get(region, frozenset()), frozenset(last)
    if not (pinned or behind or parts or placing.staged):
        return [
            Stage((OTHERS, tier, 0 if group.region == region else 1 + place), tier, group.targets)
            for tier, groups in enumerate(placing.tiers[region])
            for place, group in enumerate(groups)
        ]
    members: dict[Step, list[str]] = {}
    for tier, groups in enumerate(placing.tiers[region]):
        for place, group in enumerate(groups):
            near = 0 if group.region == region else 1 + place
            usual = (OTHERS, tier, near)
            for target in group.targets:
                if not parts.get(target, FULL) or not placing.staged.get(target, FULL):
                    continue
                step = usual
                if target in placing.staged:
                    step = (OTHERS, tier, STAGED)
                elif target in pinned:
                    step = (PINNED, tier, near)
                elif target in behind:
                    step = (OTHERS, tier, MOVED_LAST + near)
                members.setdefault(step, []).append(target)
    return [
        Stage(step, tier=step[1], members=tuple(members[step]), staged=step[2] == STAGED)
        for step in sorted(members)
    ]


def pour(streams: Sequence[Stream], rooms: Rooms | None) -> None:
    """Pour all `streams` in step; without `rooms`, as if every target could take everything."""
    steps: dict[Step, list[tuple[Stream, Stage]]] = {}
    for stream in streams:
        for stage in stream.stages:
            steps.setdefault(stage.step, []).append((stream, stage))
    for step in sorted(steps):
        _offer([each for each in steps[step] if _flows(each[0])], rooms)
    for tier in sorted({stage.tier for stream in streams if _flows(stream) for stage in stream.stages}):
        _overflow([stream for stream in streams if _flows(stream)], tier, rooms)


def pour_alone(stream: Stream) -> None:
    """The same for one stream without limits; quicker."""
    for stage in stream.stages:
        if not _flows(stream):
            return
        _offer([(stream, stage)], None)
    for tier in range(max((stage.tier for stage in stream.stages), default=-1) + 1):
        if _flows(stream):
            _overflow([stream], tier, None)


def _flows(stream: Stream) -> bool:
    return stream.left > GRAIN * stream.demand


def _offer(meeting: Iterable[tuple[Stream, Stage]], rooms: Rooms | None) -> None:
    """One stage of each stream that still flows."""
    claims: list[Claim] = []
    full: list[tuple[Stream, list[str]]] = []
    for stream, stage in meeting:
        each = stream.left / len(stage.members)
        members: list[str] = []
        for target in stage.members:
            part = stream.parts.get(target, FULL)
            if stage.staged:
                claims.append((stream, target, stream.left * stream.staged[target] * part / FULL**2))
            elif part < FULL:
                claims.append((stream, target, each * part / FULL))
            else:
                members.append(target)
        if members:
            full.append((stream, members))
    if claims:
        _grant(claims, rooms, over=False)
    while full:
        claims = []
        for stream, members in full:
            able = members if rooms is None else [t for t in members if rooms.of(t, over=False)]
            claims += [(stream, target, stream.left / len(able)) for target in able if _flows(stream)]
        # Each round satisfies everybody or fills a target, so there are no more rounds than targets.
        if not claims or not _grant(claims, rooms, over=False):
            return


def _overflow(streams: Sequence[Stream], tier: int, rooms: Rooms | None) -> None:
    """What nobody took, to those of `tier` that have some: headroom and ramp give way before shedding."""
    while True:
        claims: list[Claim] = []
        for stream in streams:
            able = [
                target
                for stage in stream.stages
                if stage.tier == tier
                for target in stage.members
                if rooms is None or rooms.of(target, over=True)
            ]
            weights = {target: stream.taken.get(target, 0.0) for target in able}
            if not any(weights.values()):
                weights = {target: stream.parts.get(target, FULL) for target in able}
            total = sum(weights.values())
            if total and _flows(stream):
                claims += [(stream, target, stream.left * each / total) for target, each in weights.items()]
        if not claims or not _grant(claims, rooms, over=True):
            return


def _grant(claims: Sequence[Claim], rooms: Rooms | None, *, over: bool) -> bool:
    """Give what is claimed as far as there is room, in proportion; whether anybody was cut short."""
    scale: dict[str, float] = {}
    cut = False
    if rooms is not None:
        asked: dict[str, float] = {}
        for _, target, amount in claims:
            asked[target] = asked.get(target, 0.0) + amount
        for target, amount in asked.items():
            room = rooms.of(target, over=over)
            if amount > room:
                scale[target], cut = room / amount, True
    for stream, target, amount in claims:
        granted = amount * scale.get(target, 1.0)
        if granted:
            stream.taken[target] = stream.taken.get(target, 0.0) + granted
            stream.left -= granted
            if rooms is not None:
                rooms.take(target, granted)
    if rooms is not None:
        for target in scale:
            rooms.close(target, over=over)
    return cut
