"""Hindsight: what a view needs of the moments before it, and how a moment adds to it.

One frozen value, handed from view to view by whoever looks (`conclude.look`); replaced as a whole, shared
where nothing changed. It is not kept beyond this process: a replica that starts again warms anew, and its
baselines judge nothing before their first block is full (five minutes by default). So that successive leaders do not
flap, nothing here moves fast or far: verdicts have hysteresis of many windows, and what is advised is a
part of the weight.

Economy: each target's figures are read once per window, at its own moment (its place in the configuration
modulo `PHASES`), and its quality when its words have changed; the sums over the fleet once a second.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar

from control_plane.core import freezes, tally
from control_plane.core.conclusion import Conclusion, Drawn
from control_plane.core.fold import EventFold, Source
from control_plane.core.freezes import Held
from control_plane.core.quality import Answers, Kind, Score, Standing, scores, together
from control_plane.core.roster import Roster
from control_plane.core.vitals import NOTHING, UNTOUCHED, Finding, Vitals, advance, figures_of, finding_of
from control_plane.core.votes import count
from shared.vocabulary.config import Fleet, FleetConfig, Target
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import HealthSummary, QualityScore, RouteTraffic

PHASES: Final = 64
TALLY_S: Final = 1.0
MAX_AILING: Final = 500
"""Targets whose scores are shown."""

Value = TypeVar("Value")

Model = tuple[str, str]
"""Provider and upstream model."""


@dataclass(frozen=True, slots=True, eq=False)
class Hindsight:
    """Everything remembered of a fleet. Targets that nothing is to be said of are not named."""

    vitals: Mapping[str, Vitals] = field(default_factory=dict)
    findings: Mapping[str, Finding] = field(default_factory=dict)
    scores: Mapping[str, tuple[Score, ...]] = field(default_factory=dict)
    models: Mapping[Model, Mapping[Kind, Standing]] = field(default_factory=dict)
    """Standings that a model's targets without enough answers of their own share."""
    held: tuple[Held, ...] = ()
    tick: int | None = None
    """The phase up to which figures have been read."""
    tallied_at: float = float("-inf")
    quality: tuple[QualityScore, ...] = ()
    summary: HealthSummary | None = None


UNAWARE: Final = Hindsight()


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What there is to learn from."""

    fold: EventFold
    config: FleetConfig
    roster: Roster
    fresh: Mapping[str, Source]
    """Whoever was heard lately, replicas too."""
    drawn: Drawn
    now: datetime
    monotonic: float

    def conclusion(self, target: str) -> Conclusion | None:
        """As it stands; None where nothing is said of the target."""
        words = self.fold.targets.get(target)
        return words.conclusion if words is not None else None


def learn(before: Hindsight, moment: Moment) -> tuple[Hindsight, Sequence[str]]:
    """The hindsight after `moment`, but for its sums, and the targets of which another thing is found."""
    tick = int(moment.monotonic * PHASES / moment.config.fleet.policy.health.window_s)
    vitals = dict(before.vitals)
    judged = dict(before.scores)
    touched = set(moment.drawn.renewed)
    for target in _due(moment.config.fleet, before.tick, tick):
        vitals[target.id] = _after_window(vitals.get(target.id, UNTOUCHED), target, moment)
        touched.add(target.id)
    findings = dict(before.findings)
    changed = []
    for name in touched:
        target = moment.config.fleet.targets_by_id[name]
        now, found = _judged(vitals.get(name, UNTOUCHED), target, moment, before.models)
        _keep(judged, name, found, ())
        _keep(vitals, name, now, UNTOUCHED)
        finding = finding_of(now, found, moment.config.fleet.policy.health)
        if finding != findings.get(name, NOTHING):
            changed.append(name)
            _keep(findings, name, finding, NOTHING)
    after = replace(
        before,
        vitals=vitals,
        findings=findings,
        scores=judged,
        held=_held(before.held, moment),
        tick=tick,
    )
    return after, changed


def tallied(
    hindsight: Hindsight,
    moment: Moment,
    *,
    silent: Sequence[str],
    loads: Sequence[RouteTraffic],
    failovers: int,
) -> Hindsight:
    """With the sums over the fleet as of `moment`, where the last are older than `TALLY_S`."""
    if moment.monotonic - hindsight.tallied_at < TALLY_S:
        return hindsight
    targets = moment.config.fleet.targets_by_id
    models, quality = _models(hindsight, moment)
    return replace(
        hindsight,
        vitals={target: each for target, each in hindsight.vitals.items() if target in targets},
        findings={target: each for target, each in hindsight.findings.items() if target in targets},
        scores={target: each for target, each in hindsight.scores.items() if target in targets},
        models=models,
        quality=quality,
        tallied_at=moment.monotonic,
        summary=tally.summary(
            (
                words.conclusion.passive
                for words in moment.fold.targets.values()
                if words.conclusion is not None
            ),
            loads,
            failovers_last_hour=failovers,
            silent=silent,
        ),
    )


def _due(fleet: Fleet, last: int | None, tick: int) -> Iterator[Target]:
    """Those whose moment has come since `last`, each once; nobody's at the first look."""
    if last is None:
        return
    for phase in range(max(last + 1, tick - PHASES + 1), tick + 1):
        yield from fleet.targets[phase % PHASES :: PHASES]


def _after_window(vitals: Vitals, target: Target, moment: Moment) -> Vitals:
    policy = moment.config.fleet.policy
    conclusion = moment.conclusion(target.id)
    if conclusion is None:
        if vitals is UNTOUCHED:
            return vitals
        conclusion = Conclusion()
    voices = [
        (vote.verdict, vote.hard) for vote in conclusion.votes if vote.vantage not in moment.drawn.aside
    ]
    quorum = max(1, moment.roster.watches[target.id].quorum)
    return advance(
        vitals,
        figures_of(conclusion.probes, conclusion.windows, policy),
        strained=count(voices, quorum=quorum).verdict is Verdict.DEGRADED,
        hour=moment.now.hour,
        policy=policy.health,
    )


def _judged(
    vitals: Vitals, target: Target, moment: Moment, models: Mapping[Model, Mapping[Kind, Standing]]
) -> tuple[Vitals, tuple[Score, ...]]:
    conclusion = moment.conclusion(target.id)
    answers = conclusion.answers if conclusion is not None else ()
    if not answers:
        return (replace(vitals, quality={}) if vitals.quality else vitals), ()
    own = _scores(answers, moment, moment.roster.watches[target.id].quorum, vitals.quality)
    standings = {score.by: score.standing for score in own}
    if standings != vitals.quality:
        vitals = replace(vitals, quality=standings)
    shared = models.get((target.provider, target.model), {})
    return vitals, tuple(
        replace(score, standing=shared[score.by])
        if score.standing == "UNDECIDED" and score.by in shared
        else score
        for score in own
    )


def _scores(
    answers: Sequence[Answers], moment: Moment, quorum: int, before: Mapping[Kind, Standing]
) -> tuple[Score, ...]:
    fleet = moment.config.fleet
    return scores(
        answers,
        fleet.policy.health,
        aside=moment.drawn.aside,
        agreeing={"probes": max(1, quorum), "traffic": min(2, len(fleet.regions))},
        before=before,
    )


def _models(
    hindsight: Hindsight, moment: Moment
) -> tuple[Mapping[Model, Mapping[Kind, Standing]], tuple[QualityScore, ...]]:
    """What models' targets share, and the scores to show."""
    answers: dict[Model, list[Answers]] = {}
    good: set[tuple[Model, Kind]] = set()
    ailing: list[QualityScore] = []
    for target in moment.config.fleet.targets:
        model = (target.provider, target.model)
        for score in hindsight.scores.get(target.id, ()):
            if score.standing == "GOOD":
                good.add((model, score.by))
            elif score.garbled:
                ailing.append(_told(model, target.id, score))
        conclusion = moment.conclusion(target.id)
        if conclusion is not None and conclusion.answers:
            answers.setdefault(model, []).extend(conclusion.answers)
    shared: dict[Model, Mapping[Kind, Standing]] = {}
    whole: list[QualityScore] = []
    for model, parts in answers.items():
        found = _scores(together(parts), moment, 2, hindsight.models.get(model, {}))
        whole += [_told(model, None, score) for score in found]
        bad = {
            score.by: score.standing
            for score in found
            if score.standing in ("DEGRADED", "DRAINED") and (model, score.by) not in good
        }
        if bad:
            shared[model] = bad
    return shared, (*whole, *ailing[:MAX_AILING])


def _told(model: Model, target: str | None, score: Score) -> QualityScore:
    return QualityScore(
        provider=model[0],
        model=model[1],
        target=target,
        by=score.by,
        score_permille=score.permille,
        judged=score.judged,
        standing=score.standing,
    )


def _held(held: tuple[Held, ...], moment: Moment) -> tuple[Held, ...]:
    policy = moment.config.fleet.policy
    silent = freezes.most_silent(
        moment.fold.sources.values(),
        [region.id for region in moment.config.fleet.regions],
        timeout_s=policy.source_timeout_s,
        monotonic=moment.monotonic,
    )
    accused = {target: moment.conclusion(target) for target in moment.drawn.accused}
    grounds = freezes.contradicted(
        {target: conclusion for target, conclusion in accused.items() if conclusion is not None},
        policy,
        monotonic=moment.monotonic,
    )
    if silent is not None:
        grounds.append(silent)
    return freezes.step(held, grounds, now=moment.now, monotonic=moment.monotonic) if held or grounds else ()


def _keep(values: dict[str, Value], target: str, value: Value, nothing: Value) -> None:
    """Under `target`, unless it is as good as nothing."""
    if value is nothing or value == nothing:
        values.pop(target, None)
    else:
        values[target] = value
