"""Why: the reasons, exclusions and evidence of a decision, from what changed and what is in force.

Reasons are the orders of operators that are new or have ended, the differences between the memory that
the last decision left and where things stand now, and the states of exception still in force (FROZEN,
HOLD_DOWN cut short). Evidence is quoted from the votes and windows behind whoever changed, then behind
whoever is still out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from control_plane.core.advance import Standings
from control_plane.core.memory import Memory, RouteMemory, Standing
from control_plane.core.orders import NO_NEWS, News
from control_plane.core.roster import Placing
from control_plane.core.route import RoutePlan, part_of
from control_plane.core.standing import FULL, hold_down_s
from shared.vocabulary.config import Policy
from shared.vocabulary.decision import EvidenceRef, Exclusion, Reason
from shared.vocabulary.override import Override
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
    news: News = NO_NEWS
    """Of the orders that concern the route."""
    frozen_by: str = ""
    """What suspends automatic removals: causes of freezes, OPERATOR."""


def reasons_of(case: Case) -> tuple[Reason, ...]:
    """What changed for this route since the last decision, and which exceptions are in force."""
    found = [
        *_orders_given(case),
        *_orders_ended(case),
        *_rolled(case),
        *_global_changes(case),
        *_regional_changes(case),
        *_spared(case),
        *_soft_moves(case),
        *_cautions(case),
        *case.plan.figures,
        *_exceptions(case),
    ]
    return tuple(found[:MAX_REASONS])


def exclusions_of(case: Case) -> tuple[Exclusion, ...]:
    """Whom the route does not use, where, at whose word."""
    found = [
        Exclusion(target=each.target, by=each.by, reason=each.reason, expires_at=each.until)
        for each in case.placing.barred
    ]
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


def forced_by(placing: Placing) -> str | None:
    """The overrides on which the route rests though they were refused at first; None without any."""
    names = [each.id for each in placing.overrides if each.forced]
    return ", ".join(names)[:512] or None


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


_GIVEN: Mapping[str, str] = {
    "drain": "DRAINED",
    "pin": "PINNED",
    "weights": "WEIGHTS_SET",
    "freeze": "OPERATOR_FROZEN",
}


def _orders_given(case: Case) -> Iterator[Reason]:
    for override in case.news.given:
        yield Reason(
            code=_GIVEN[override.spec.kind],
            target=override.spec.target,
            region=override.spec.clients,
            values=_order_values(override),
        )


def _orders_ended(case: Case) -> Iterator[Reason]:
    """An order that was lifted says by whom; one that just ended, or is not on record any more, when."""
    for override in case.news.ended:
        values = {"kind": override.spec.kind, **_order_values(override)}
        if override.ended is not None:
            values |= {"ended_by": override.ended.by, "ended_reason": override.ended.reason}
        yield Reason(
            code="UNDRAINED" if override.spec.kind == "drain" else "OVERRIDE_ENDED",
            target=override.spec.target,
            region=override.spec.clients,
            values=values,
        )


def _rolled(case: Case) -> Iterator[Reason]:
    """A step, or an end; `found` is what the step before was judged by."""
    for rollout in case.news.moved:
        running = rollout.state == "RUNNING"
        values = {
            "rollout": rollout.id,
            "state": rollout.state,
            "targets": list(rollout.spec.targets),
            "permille": rollout.permille,
            "found": rollout.outcome or rollout.reason,
        }
        yield Reason(code="ROLLOUT_STEP" if running else "ROLLOUT_ENDED", values=values)
    for rollout in case.news.dropped:
        values = {"rollout": rollout.id, "state": rollout.state, "targets": list(rollout.spec.targets)}
        yield Reason(code="ROLLOUT_ENDED", values={**values, "found": "off the record"})


def _order_values(override: Override) -> dict[str, object]:
    spec = override.spec
    values: dict[str, object] = {
        "override": override.id,
        "author": override.author,
        "reason": override.reason,
        "expires_at": f"{override.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    if spec.region is not None:
        values["targets_in"] = spec.region
    if spec.weights:
        values["weights"] = dict(spec.weights)
    if override.forced:
        values["forced"] = True
    return values


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


def _spared(case: Case) -> Iterator[Reason]:
    """Who has come to its account's limit, and who is over it."""
    before, after = case.memory.spared, case.standings.spared
    for target in case.placing.permitted:
        if (target in before) == (target in after):
            continue
        health = case.healths.get(target)
        values: dict[str, object] = {"ended": True}
        if target in after:
            passive = health.passive if health is not None else ()
            values = {"seen_in": [summary.region for summary in passive if summary.cooling]}
            if any(summary.quota_exhausted for summary in passive):
                values["quota_exhausted"] = True
        yield Reason(code="TARGET_COOLING", target=target, values=values)


def _change(
    case: Case, target: str, region: str | None, before: Standing | None, after: Standing | None
) -> Iterator[Reason]:
    if after is not None and after.phase == "OUT":
        if before is None or before.phase == "BACK" or before.hard != after.hard:
            code = "REGIONAL_DOWN" if region is not None and not after.hard else "TARGET_DOWN"
            values = _down_values(case, target, after)
            keeps_some = 0 if after.hard or region is not None else case.plan.memory.kept.get(target, 0)
            if keeps_some:
                values["kept_permille"] = keeps_some
            yield Reason(code=code, target=target, region=region, values=values)
        return
    if before is None or (before.phase == "OUT" and after is None):
        return
    kept, keeps = (
        (None, None)
        if region is not None
        else (_kept_before(case).get(target), case.plan.memory.kept.get(target))
    )
    was, permille = part_of(before, kept), part_of(after, keeps)
    stepped = after is not None and before.permille != after.permille
    if before.phase == "BACK" and was == permille and not stepped:
        if after is not None and before.failing != after.failing:
            why = "its live traffic gets no good answer" if after.failing else "it may climb the ramp again"
            yield Reason(code="REVISED", target=target, region=region, values={"why": why})
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


def _cautions(case: Case) -> Iterator[Reason]:
    before = case.memory.routes.get(case.placing.route.id, RouteMemory()).cautious
    after = case.plan.memory.cautious
    for target in sorted(before.keys() | after.keys()):
        was, keeps = before.get(target, FULL), after.get(target, FULL)
        standing = case.standings.targets.get(target)
        if was == keeps or (standing is not None and standing.phase == "OUT"):
            continue
        health = case.healths.get(target)
        values = {"kept_permille": keeps, "from_permille": was, "seen": health.reason if health else ""}
        if health is not None:
            values |= {"verdict": health.verdict.value, "advised_permille": health.caution_permille}
        yield Reason(code="TARGET_DEGRADED", target=target, values=values)


def _exceptions(case: Case) -> Iterator[Reason]:
    for region, decided in case.plan.regions.items():
        if not any(tier.targets for tier in decided.tiers):
            values = {
                "shed_permille": decided.shed_permille,
                "why": "policy and operators leave it no target",
            }
            yield Reason(code="SHED", region=region, values=values)
    for region, resort in case.plan.resorts.items():
        code = "FROZEN" if resort.frozen else "HOLD_DOWN"
        yield Reason(code=code, region=region, values={"kept": sorted(resort.targets)})
    before = case.memory.routes.get(case.placing.route.id, RouteMemory())
    memory = case.plan.memory
    held = {*memory.held, *(target for targets in memory.held_in.values() for target in targets)}
    if held:
        yield Reason(code="FROZEN", values={"kept": sorted(held), "cause": case.frozen_by})
    elif memory.frozen and not any(resort.frozen for resort in case.plan.resorts.values()):
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
