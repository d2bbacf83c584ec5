"""One route: from where its targets stand to which part of its weight each target has.

A part is the permille that a target gets of what would naturally be its weight: 1000 when in, the ramp's
when coming back, what is kept when leaving on soft evidence or under caution, 0 when out; for a client
region the lesser of the global and the regional one. `waterfall` and `weights` turn parts into weights.

UNKNOWN targets are in, with full part: nothing is moved on a suspicion. A freeze keeps whoever goes out
at the part it had when it went. But a freeze for silence doubts what is not heard, and does not hold a
target where the live traffic of the clients' own region fails now and somebody else is left to them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from control_plane.core.advance import UP, Standings
from control_plane.core.last_resort import Candidate, Resort, last_resort
from control_plane.core.memory import Memory, RouteMemory, Standing
from control_plane.core.roster import ByIdentity, Placing
from control_plane.core.soften import Held, may_move, move
from control_plane.core.standing import FULL
from control_plane.core.waterfall import Parts
from control_plane.core.weights import shares_alone
from shared.vocabulary.config import Policy
from shared.vocabulary.decision import Reason, RegionDecision
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import TargetHealth

NOTHING = RouteMemory()


@dataclass(frozen=True, slots=True)
class Scene:
    """What all routes of one pass are decided from."""

    standings: Standings
    healths: Mapping[str, TargetHealth]
    advice: Mapping[str, int]
    """Target -> the part that health advises to leave it; only where that is not all."""
    memory: Memory
    """Of the last decision."""
    policy: Policy
    now: datetime
    everything_frozen: bool
    """Automatic removals are suspended for all targets."""
    frozen: frozenset[str]
    """And for these."""
    only_silence: bool = False
    """That of all targets for no other cause than that most vantages are silent."""


@dataclass(frozen=True, slots=True, eq=False)
class RoutePart:
    """Which part of its weight each target of one route has."""

    placing: Placing
    regions: Mapping[str, tuple[Parts, tuple[str, ...]]]
    """Client region -> the parts that are not full, and who is moved last."""
    absent: Mapping[str, tuple[str, ...]]
    """Permitted target -> the client regions that do not use it. Only such as do so."""
    resorts: Mapping[str, Resort]
    """Client region -> the last resort it is on."""
    ramping: Mapping[str, int]
    """Targets on the ramp -> the part they have of their capacity, too."""
    memory: RouteMemory


@dataclass(frozen=True, slots=True, eq=False)
class RoutePlan:
    """What is decided for one route."""

    regions: Mapping[str, RegionDecision]
    absent: Mapping[str, tuple[str, ...]]
    """As in `RoutePart`."""
    resorts: Mapping[str, Resort]
    memory: RouteMemory
    figures: tuple[Reason, ...] = ()
    """What capacity has to say about it."""


def part_route(placing: Placing, scene: Scene) -> RoutePart:
    """The parts in the route of `placing`, given where its targets stand now and what was remembered."""
    before = scene.memory.routes.get(placing.route.id, NOTHING)
    frozen = _frozen(placing, scene)
    concerned = [
        target for target in placing.permitted if target in scene.standings.targets and _used(placing, target)
    ]
    soft = _softly(placing, concerned, before, frozen, scene)
    held = _held(concerned, before.held, scene.standings.targets, scene.memory.targets, frozen)
    parts = {
        target: max(
            part_of(scene.standings.targets[target], soft.memory.kept.get(target)), held.get(target, 0)
        )
        for target in concerned
    }
    for target, part in soft.memory.cautious.items():
        parts[target] = min(parts.get(target, FULL), part)
    regions, resorts, held_in = {}, {}, {}
    absent: dict[str, list[str]] = {}
    for region in placing.tiers:
        held_here = _held(
            [target for target in scene.standings.regional.get(region, {}) if target in placing.members],
            before.held_in.get(region, {}),
            scene.standings.regional.get(region, {}),
            scene.memory.regional.get(region, {}),
            frozen - _surely_out(placing, region, scene),
        )
        there, last = _regional(placing, region, parts, held_here, scene)
        usable = [target for target in placing.permitted if _used(placing, target)]
        if usable and not any(there.get(target, FULL) for target in usable):
            resort = last_resort(_candidates(usable, region, scene))
            resorts[region] = resort
            there = {target: FULL if target in resort.targets else 0 for target in usable}
        for target, part in there.items():
            if part == 0:
                absent.setdefault(target, []).append(region)
        if held_here:
            held_in[region] = held_here
        limited = tuple(sorted((target, part) for target, part in there.items() if part < FULL))
        regions[region] = (limited, last)
    suspended = soft.stuck or bool(held or held_in) or any(resort.frozen for resort in resorts.values())
    return RoutePart(
        placing=placing,
        regions=regions,
        absent={target: tuple(names) for target, names in absent.items()},
        resorts=resorts,
        ramping={
            target: parts[target]
            for target in concerned
            if scene.standings.targets[target].phase == "BACK" and parts[target] < FULL
        },
        memory=soft.memory.model_copy(update={"held": held, "held_in": held_in, "frozen": suspended}),
    )


def untouched(placing: Placing) -> RoutePart:
    """The parts where nothing is the matter with any target: everybody's full. The same object always."""
    return _untouched(ByIdentity(placing))


def doubtful(placing: Placing, part: RoutePart, scene: Scene) -> frozenset[str]:
    """Targets that are kept out, or short, on no hard evidence: those that a panic uses after all."""
    found = {target for target in part.memory.cautious if target not in scene.standings.targets}
    for target in placing.permitted:
        standing = scene.standings.targets.get(target)
        health = scene.healths.get(target)
        hard = health is not None and health.verdict is Verdict.DOWN and health.hard
        if standing is not None and standing.phase == "OUT" and not standing.hard and not hard:
            found.add(target)
    return frozenset(target for target in found if _used(placing, target))


def readmitting(part: RoutePart, targets: frozenset[str], scene: Scene) -> RoutePart:
    """`part` with full parts for `targets`, but where their region's live traffic fails."""
    regions: dict[str, tuple[Parts, tuple[str, ...]]] = {}
    for region, (limited, last) in part.regions.items():
        here = scene.standings.regional.get(region, {})
        back = targets - {target for target in targets & here.keys() if here[target].hard}
        regions[region] = (tuple(each for each in limited if each[0] not in back), last)
    out = {
        region: {target for target, each in limited if not each} for region, (limited, _) in regions.items()
    }
    absent = {
        target: tuple(region for region in names if target in out[region])
        for target, names in part.absent.items()
    }
    return replace(part, regions=regions, absent={target: names for target, names in absent.items() if names})


def part_of(standing: Standing | None, kept: int | None) -> int:
    """The part of a target with this global standing, of which soft evidence left `kept`."""
    if standing is None:
        return FULL
    if standing.phase == "OUT":
        return 0 if standing.hard else kept or 0
    return max(1, standing.permille, kept or 0)


@lru_cache(maxsize=4096)
def _untouched(placing: ByIdentity[Placing]) -> RoutePart:
    nothing: tuple[Parts, tuple[str, ...]] = ((), ())
    return RoutePart(
        placing=placing.value,
        regions=dict.fromkeys(placing.value.tiers, nothing),
        absent={},
        resorts={},
        ramping={},
        memory=NOTHING,
    )


def _used(placing: Placing, target: str) -> bool:
    """Whether a rollout lets it take part at all."""
    return placing.staged.get(target, FULL) > 0


def _frozen(placing: Placing, scene: Scene) -> frozenset[str]:
    """Whose automatic removal from this route is suspended."""
    if placing.frozen or scene.everything_frozen:
        return placing.members
    return scene.frozen


# ------------------------------------------------------------ soft evidence and caution


@dataclass(frozen=True, slots=True)
class _Soft:
    memory: RouteMemory
    stuck: bool
    """There is soft evidence, and nobody better to move to."""


def _softly(
    placing: Placing, concerned: list[str], before: RouteMemory, frozen: frozenset[str], scene: Scene
) -> _Soft:
    """What soft evidence has left to each target, after the move that may be due."""
    standings, policy = scene.standings.targets, scene.policy
    leaving = [target for target in _leaving(concerned, scene) if target not in frozen]
    kept = _kept(concerned, before, scene)
    cautious = _cautious(placing, before, scene)
    stuck = bool(leaving) and not _better_off(placing, leaving, concerned, scene)
    goals = {} if stuck else {target: 0 for target in leaving if kept[target]}
    moved_at = before.soft_moved_at
    due = policy.automatic and may_move(before, policy, scene.now)
    for target in placing.permitted:
        advised = scene.advice.get(target, FULL)
        if target not in cautious or target in frozen:
            continue
        if advised > cautious[target] and due:
            cautious[target], moved_at = advised, scene.now
        elif advised < cautious[target]:
            goals[target] = advised
    if goals and due:

        def shares_under(given: Mapping[str, int]) -> Held:
            parts = {
                target: part_of(standings[target], {**kept, **given}.get(target)) for target in concerned
            }
            parts |= {t: min(parts.get(t, FULL), given.get(t, part)) for t, part in cautious.items()}
            limited = tuple(sorted((target, part) for target, part in parts.items() if part < FULL))
            return {region: shares_alone(placing, region, limited) for region in placing.tiers}

        has = {target: kept[target] if target in kept else cautious[target] for target in goals}
        after = move(has, goals, shares_under, policy)
        kept |= {target: part for target, part in after.items() if target in kept}
        cautious |= {target: part for target, part in after.items() if target in cautious}
        moved_at = scene.now
    memory = before.model_copy(
        update={
            "soft_moved_at": moved_at,
            "kept": {target: permille for target, permille in kept.items() if permille},
            "cautious": {target: permille for target, permille in cautious.items() if permille < FULL},
        }
    )
    return _Soft(memory, stuck)


def _leaving(concerned: list[str], scene: Scene) -> list[str]:
    """Out on soft evidence, and still seen DOWN."""
    return [
        target
        for target in concerned
        if (standing := scene.standings.targets[target]).phase == "OUT"
        and not standing.hard
        and (health := scene.healths.get(target)) is not None
        and health.verdict is Verdict.DOWN
    ]


def _kept(concerned: list[str], before: RouteMemory, scene: Scene) -> dict[str, int]:
    """What soft evidence has left to each target before this step; a new leaver has what it had."""
    kept: dict[str, int] = {}
    for target in concerned:
        standing = scene.standings.targets[target]
        if standing.phase == "OUT" and not standing.hard:
            had = part_of(scene.memory.targets.get(target), before.kept.get(target))
            kept[target] = min(had, before.cautious.get(target, FULL))
        elif standing.phase == "BACK" and before.kept.get(target, 0) > standing.permille:
            kept[target] = before.kept[target]
    return kept


def _cautious(placing: Placing, before: RouteMemory, scene: Scene) -> dict[str, int]:
    """The parts of those under caution before this step; full where it is new."""
    found: dict[str, int] = {}
    for target in {**before.cautious, **scene.advice}:
        standing = scene.standings.targets.get(target)
        if target in placing.members and (standing is None or standing.phase == "BACK"):
            found[target] = before.cautious.get(target, FULL)
    return found


def _better_off(placing: Placing, leaving: list[str], concerned: list[str], scene: Scene) -> bool:
    """Whether somebody in the route is not out."""
    if len(concerned) < sum(_used(placing, target) for target in placing.permitted):
        return True
    return any(
        scene.standings.targets[target].phase == "BACK" for target in concerned if target not in leaving
    )


# ------------------------------------------------------------ freezes


def _surely_out(placing: Placing, region: str, scene: Scene) -> frozenset[str]:
    """Whom a freeze for silence does not hold for the clients of `region`."""
    here = scene.standings.regional.get(region, {})
    if not here or placing.frozen or not scene.only_silence:
        return frozenset()
    out = {
        target
        for standings in (here, scene.standings.targets)
        for target, standing in standings.items()
        if standing.phase == "OUT"
    }
    if not any(_used(placing, target) and target not in out for target in placing.permitted):
        return frozenset()
    return frozenset(
        target
        for target, standing in here.items()
        if standing.phase == "OUT"
        and standing.hard
        and target not in scene.frozen
        and _fails_in(region, scene.healths.get(target))
    )


def _fails_in(region: str, health: TargetHealth | None) -> bool:
    """Whether live traffic of `region` to it fails now."""
    return health is not None and any(
        summary.failing and summary.region == region for summary in health.passive
    )


def _held(
    concerned: Iterable[str],
    before: Mapping[str, int],
    now_at: Mapping[str, Standing],
    was_at: Mapping[str, Standing],
    frozen: frozenset[str],
) -> dict[str, int]:
    """Those kept by a freeze, with the part they had. One that comes back keeps it until the ramp is there."""
    held: dict[str, int] = {}
    for target in concerned:
        standing, was = now_at[target], was_at.get(target)
        had = before.get(target, 0)
        if standing.phase == "BACK":
            if had > standing.permille:
                held[target] = had
        elif target in frozen:
            if not had and (was is None or was.phase == "BACK"):
                had = part_of(was, None)
            if had:
                held[target] = had
    return held


# ------------------------------------------------------------ client regions


def _regional(
    placing: Placing, region: str, parts: Mapping[str, int], held_here: Mapping[str, int], scene: Scene
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The parts of the concerned targets for the clients of `region`, and who is moved last there."""
    there = dict(parts)
    last = {
        target for target in scene.standings.spared if target in placing.members and _used(placing, target)
    }
    for target, standing in scene.standings.regional.get(region, {}).items():
        if target not in placing.members or not _used(placing, target):
            continue
        if standing.phase == "OUT" and not standing.hard:
            last.add(target)
            continue
        there[target] = min(there.get(target, FULL), max(part_of(standing, None), held_here.get(target, 0)))
    return there, tuple(sorted(last))


def _candidates(usable: Iterable[str], region: str, scene: Scene) -> dict[str, Candidate]:
    candidates: dict[str, Candidate] = {}
    held_here = scene.standings.regional.get(region, {})
    for target in usable:
        health = scene.healths.get(target)
        verdict = health.verdict if health else Verdict.UNKNOWN
        fails_here = _fails_in(region, health)
        out = [scene.standings.targets.get(target), held_here.get(target)]
        keeping = [standing for standing in out if standing is not None and standing.phase == "OUT"]
        candidates[target] = Candidate(
            Verdict.DOWN if fails_here and verdict in UP else verdict,
            # Who is not out has lost all its weight to advice alone: as if softly out from now on.
            max(keeping, key=lambda standing: standing.since, default=Standing(phase="OUT", since=scene.now)),
        )
    return candidates
