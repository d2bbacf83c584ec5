"""Judging a rollout: the new against the old, over one step, by live traffic.

    the new is DOWN                                         rolled back at once
    much worse, beyond what chance explains                 rolled back at once, from ten attempts on
    baked, enough attempts, worse than the limits allow     rolled back
    baked, enough attempts, within the limits               next step; after the last: promoted
    baked, too few attempts for `stalled_s`                 rolled back: nobody has tried it
    else                                                    wait

Worse means: a higher share of failed or of garbled attempts than the old has in the same time, or a
longer mean latency. Chance: the excess over the limit in standard errors of a difference of two
proportions (Wald, pooled by Laplace's rule so that 0 of 3 is not certainty). At the last step of 1000
the old have no traffic left: what they did before it is what the new is held against. Where they never
had any, errors are held against none and latency is not compared, and the ruling says so.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from shared.vocabulary.rollout import Baseline, Rollout
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import TargetHealth

SURE = 3.0
"""Standard errors by which the excess must pass the limit to end a step early: about 1 in 700 by chance."""
EVIDENT = 10
"""Attempts from which so great an excess is believed, though `min_attempts` be more."""
_FAILED = (Outcome.REFUSED, Outcome.FAILED, Outcome.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class Tally:
    """Attempts at some targets over some time."""

    attempts: int = 0
    failed: int = 0
    garbled: int = 0
    latency_ms: float = 0.0
    """Mean; 0 without attempts."""

    def __add__(self, other: "Tally") -> "Tally":
        attempts = self.attempts + other.attempts
        weighted = self.latency_ms * self.attempts + other.latency_ms * other.attempts
        return Tally(
            attempts,
            self.failed + other.failed,
            self.garbled + other.garbled,
            weighted / attempts if attempts else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of a rollout, and why; `why` carries the figures."""

    what: Literal["WAIT", "NEXT", "PROMOTE", "ROLL_BACK"]
    why: str


def tally_of(healths: Mapping[str, TargetHealth], targets: Iterable[str]) -> Tally:
    """The present passive windows of `targets`, summed over all regions."""
    total = Tally()
    for target in targets:
        health = healths.get(target)
        for summary in health.passive if health is not None else ():
            total += Tally(
                attempts=summary.attempts,
                failed=sum(summary.counts.get(outcome, 0) for outcome in _FAILED),
                garbled=summary.counts.get(Outcome.GARBLED, 0),
                latency_ms=summary.latency_ms_mean,
            )
    return total


def against(rollout: Rollout, old: Tally) -> Tally:
    """What the new are held against: `old`, of the step under way, with what the record has of the time
    before where that alone is too little."""
    if old.attempts >= rollout.spec.limits.min_attempts:
        return old
    return old + Tally(**dict(rollout.old_before))


def baseline(tally: Tally) -> Baseline:
    """`tally` for the record."""
    return Baseline(
        attempts=tally.attempts, failed=tally.failed, garbled=tally.garbled, latency_ms=tally.latency_ms
    )


def rule(
    rollout: Rollout, new: Tally, old: Tally, healths: Mapping[str, TargetHealth], *, baked_s: float
) -> Ruling:
    """The ruling on a RUNNING `rollout`, whose step has been watched for `baked_s`, has so far seen `new`
    and is held against `old`."""
    down = [t for t in rollout.spec.targets if (h := healths.get(t)) and h.verdict is Verdict.DOWN]
    if down:
        return Ruling("ROLL_BACK", f"{', '.join(down)} DOWN: {healths[down[0]].reason}"[:400])
    limits = rollout.spec.limits
    step = rollout.spec.steps[rollout.step]
    if worse := _worse(rollout, new, old, sure=SURE):
        return Ruling("ROLL_BACK", worse)
    if baked_s < step.bake_s:
        return Ruling("WAIT", f"{baked_s:.0f} of {step.bake_s:g} s baked")
    if new.attempts < limits.min_attempts:
        if baked_s >= step.bake_s + limits.stalled_s:
            return Ruling("ROLL_BACK", f"only {new.attempts} attempts in {baked_s:.0f} s: hardly tried")
        return Ruling("WAIT", f"{new.attempts} of {limits.min_attempts} attempts")
    if worse := _worse(rollout, new, old, sure=0.0):
        return Ruling("ROLL_BACK", worse)
    last = rollout.step == len(rollout.spec.steps) - 1
    return Ruling("PROMOTE" if last else "NEXT", _compared(new, old))


def _worse(rollout: Rollout, new: Tally, old: Tally, *, sure: float) -> str:
    """In what the new is worse than allowed by `sure` standard errors, in words; empty when in nothing."""
    limits = rollout.spec.limits
    if new.attempts < min(limits.min_attempts, EVIDENT):
        return ""
    for what, ours, theirs, limit in (
        ("failed", new.failed, old.failed, limits.error_permille_over),
        ("garbled", new.garbled, old.garbled, limits.garbled_permille_over),
    ):
        excess = _share(ours, new) - _share(theirs, old) - limit / 1000
        if excess > sure * _standard_error(ours, new.attempts, theirs, old.attempts):
            return f"{what} more than {limit} permille over the old: {_compared(new, old)}"
    # A mean without its deviation has no error to reckon with: sure is who has ten times the attempts.
    enough = limits.min_attempts * (10 if sure else 1)
    comparable = new.attempts >= enough and old.attempts and old.latency_ms
    if comparable and new.latency_ms > limits.latency_ratio * old.latency_ms:
        return f"slower than {limits.latency_ratio:g} times the old: {_compared(new, old)}"
    return ""


def _share(part: int, tally: Tally) -> float:
    return part / tally.attempts if tally.attempts else 0.0


def _standard_error(ours: int, attempts: int, theirs: int, attempts_old: int) -> float:
    def variance(part: int, whole: int) -> float:
        share = (part + 1) / (whole + 2)
        return share * (1 - share) / whole

    return math.sqrt(variance(ours, attempts) + (variance(theirs, attempts_old) if attempts_old else 0.0))


def _compared(new: Tally, old: Tally) -> str:
    def words(tally: Tally) -> str:
        return (
            f"{tally.failed} failed and {tally.garbled} garbled of {tally.attempts}, "
            f"{tally.latency_ms:.0f} ms"
        )

    if not old.attempts:
        return f"new {words(new)}; the old had no traffic: errors held against none, latency not compared"
    return f"new {words(new)}; old {words(old)}"
