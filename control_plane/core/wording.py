"""Why: the reasons, exclusions and evidence of a decision, from what changed and what is in force.

Reasons are the differences between the memory that the last decision left and where things stand now,
and the states of exception still in force (FROZEN, HOLD_DOWN cut short). Evidence is quoted from the
votes and windows behind whoever changed, then behind whoever is still out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from control_plane.core.advance import Standings
from control_plane.core.memory import Memory, RouteMemory, Standing
from control_plane.core.roster import Placing
from control_plane.core.route import RoutePlan, part_of
from control_plane.core.standing import FULL, hold_down_s
from shared.vocabulary.config import Policy
from shared.vocabulary.decision import EvidenceRef, Exclusion, Reason
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import TargetHealth

MAX_REASONS = 200
MAX_EVIDENCE = 100
"""Per document: it travels to every edge."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that the words about one route are taken from."""

    placing: Placing
    plan: RoutePlan
    standings: Standings
    memory: Memory
    """Of the last decision."""
    healths: Mapping[str, TargetHealth]
    policy: Policy
    now: datetime


def reasons_of(case: Case) -> tuple[Reason, ...]:
    """What changed for this route since the last decision, and which exceptions are in force."""
    found = [
        *_global_changes(case),
        *_regional_changes(case),
        *_soft_moves(case),
        *_exceptions(case),
    ]
    return tuple(found[:MAX_REASONS])


def exclusions_of(case: Case) -> tuple[Exclusion, ...]:
    """Whom the route does not use, where, at whose word."""
    found = [Exclusion(target=each.target, by="policy", reason=each.reason) for each in case.placing.barred]
    for target in case.placing.permitted:
        regions = case.plan.absent.get(target, ())
        if not regions:
            continue
        if len(regions) == len(case.placing.tiers):
            found.append(Exclusion(target=target, by="auto", reason=_why_out(case, target, regions[0])))
            continue
        found += [
            Exclusion(target=target, by="auto", reason=_why_out(case, target, region), region=region)
            for region in regions
        ]
    return tuple(found)


def evidence_of(case: Case, reasons: tuple[Reason, ...]) -> tuple[EvidenceRef, ...]:
    """The words behind the targets that `reasons` name, then behind the others that are out."""
    named = dict.fromkeys(reason.target for reason in reasons if reason.target is not None)
    order = [*named, *(target for target in case.plan.absent if target not in named)]
    refs = [ref for target in order for ref in _against(case.healths.get(target))]
    return tuple(refs[:MAX_EVIDENCE])


def _against(health: TargetHealth | None) -> Iterator[EvidenceRef]:
    if health is None:
        return
    for vote in health.votes:
        if vote.verdict is Verdict.DOWN:
            yield from vote.evidence
    for summary in health.passive:
        yield from summary.evidence


def _global_changes(case: Case) -> Iterator[Reason]:
    for target in case.placing.permitted:
        before, after = case.memory.targets.get(target), case.standings.targets.get(target)
        if before is not after:
            yield from _change(case, target, None, before, after)


def _regional_changes(case: Case) -> Iterator[Reason]:
    for region in case.placing.tiers:
        held = case.memory.regional.get(region, {})
        holds = case.standings.regional.get(region, {})
        for target in sorted(held.keys() | holds.keys()):
            if target in case.placing.members:
                yield from _change(case, target, region, held.get(target), holds.get(target))


def _change(
    case: Case, target: str, region: str | None, before: Standing | None, after: Standing | None
) -> Iterator[Reason]:
    if after is not None and after.phase == "OUT":
        if before is None or before.phase == "BACK" or before.hard != after.hard:
            code = "REGIONAL_DOWN" if region is not None and not after.hard else "TARGET_DOWN"
            yield Reason(code=code, target=target, region=region, values=_down_values(case, target, after))
        return
    if before is None or (before.phase == "OUT" and after is None):
        return
    kept, keeps = (
        (None, None)
        if region is not None
        else (_kept_before(case).get(target), case.plan.memory.kept.get(target))
    )
    was, permille = part_of(before, kept), part_of(after, keeps)
    if before.phase == "BACK" and was == permille:
        return
    values = {"permille": permille, "from_permille": was, "flaps": before.flaps}
    if before.phase == "OUT":
        values["out_s"] = round((case.now - before.since).total_seconds())
    yield Reason(
        code="TARGET_UP" if permille == FULL else "RAMP_STEP", target=target, region=region, values=values
    )


def _kept_before(case: Case) -> Mapping[str, int]:
    return case.memory.routes.get(case.placing.route.id, RouteMemory()).kept


def _down_values(case: Case, target: str, standing: Standing) -> dict[str, object]:
    health = case.healths.get(target)
    verdicts = [vote.verdict for vote in health.votes] if health else []
    return {
        "seen": health.reason if health else "",
        "down": verdicts.count(Verdict.DOWN),
        "votes": len(verdicts) - verdicts.count(Verdict.UNKNOWN),
        "hard": standing.hard,
        "flaps": standing.flaps,
        "hold_down_s": hold_down_s(standing.flaps, case.policy),
    }


def _soft_moves(case: Case) -> Iterator[Reason]:
    had = _kept_before(case)
    for target in case.placing.permitted:
        standing = case.standings.targets.get(target)
        if standing is None or standing.phase == "BACK" or standing.hard:
            continue
        before = case.memory.targets.get(target)
        was = had.get(target, 0 if before is not None and before.phase == "OUT" else FULL)
        keeps = case.plan.memory.kept.get(target, 0)
        if keeps != was:
            values = {"soft": True, "kept_permille": keeps, "from_permille": was}
            yield Reason(code="TARGET_DOWN", target=target, values=values)


def _exceptions(case: Case) -> Iterator[Reason]:
    for region, resort in case.plan.resorts.items():
        code = "FROZEN" if resort.frozen else "HOLD_DOWN"
        yield Reason(code=code, region=region, values={"kept": sorted(resort.targets)})
    before = case.memory.routes.get(case.placing.route.id, RouteMemory())
    if case.plan.memory.frozen and not any(resort.frozen for resort in case.plan.resorts.values()):
        yield Reason(code="FROZEN", values={"why": "soft evidence, and nobody better to move to"})
    if before.frozen and not case.plan.memory.frozen:
        yield Reason(code="UNFROZEN")


def _why_out(case: Case, target: str, region: str) -> str:
    health = case.healths.get(target)
    seen = health.reason if health else "not in view"
    standing = case.standings.targets.get(target)
    if standing is None or standing.phase != "OUT":
        standing = case.standings.regional.get(region, {}).get(target)
        seen = f"live traffic of {region} fails; {seen}"
    if standing is None:
        return seen[:512]
    flaps = f", flap {standing.flaps}" if standing.flaps else ""
    held = f"held down {hold_down_s(standing.flaps, case.policy):g} s at least{flaps}"
    return f"out since {standing.since:%Y-%m-%dT%H:%M:%SZ}: {seen}; {held}"[:512]
