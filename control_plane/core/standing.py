"""Leaving and coming back: one target's trajectory, as a step function.

                 DOWN            UP                              UNKNOWN
    (in)         OUT, flap?      -                               -
    OUT          harder?         after hold-down: BACK           unknown for the cap: BACK
    BACK         OUT, flap?      up the ramp, then forgotten     as UP

Hold-down is `hold_down_s` x 2^flaps, at most `hold_down_cap_s`, counted from going out. A flap is
going out again within `hold_down_cap_s` of having come back; whoever stays in for that long starts
afresh. The ramp gives `ramp_permille[k]` of the natural weight from k/(n-1) of `ramp_s` on, so that
the last step is reached after `ramp_s`; a target that fails on the ramp is OUT again, with a flap.

UNKNOWN never moves anything: who is in stays in, who is out stays out. Only when nobody has known
anything for `hold_down_cap_s` is an OUT target tried again by the ramp, where live traffic judges it;
otherwise a target whose last prober was taken away would be out for ever.
"""

from dataclasses import dataclass
from datetime import datetime

from control_plane.core.memory import Standing
from shared.vocabulary.config import Policy
from shared.vocabulary.terms import Verdict

FULL = 1000
MAX_FLAPS = 1_000


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a target at this moment."""

    verdict: Verdict
    hard: bool = False
    unknown_since: datetime | None = None
    """When the verdict became UNKNOWN; None when it is another, or nobody can say."""


def step(standing: Standing | None, sight: Sight, policy: Policy, now: datetime) -> Standing | None:
    """The standing after `sight` at `now`; the same object when nothing changed."""
    if standing is not None and standing.since > now:
        standing = standing.model_copy(update={"since": now})
    if sight.verdict is Verdict.DOWN:
        return _down(standing, sight.hard, policy, now)
    if standing is None:
        return None
    if standing.phase == "OUT":
        return _out(standing, sight, policy, now)
    return _back(standing, policy, now)


def hold_down_s(flaps: int, policy: Policy) -> float:
    """Least seconds between going out and coming back."""
    return min(policy.hold_down_cap_s, policy.hold_down_s * 2.0 ** min(flaps, 60))


def _down(standing: Standing | None, hard: bool, policy: Policy, now: datetime) -> Standing:
    if standing is not None and standing.phase == "OUT":
        return standing.model_copy(update={"hard": True}) if hard and not standing.hard else standing
    flaps = 0
    if standing is not None and _elapsed_s(standing, now) < policy.hold_down_cap_s:
        flaps = min(MAX_FLAPS, standing.flaps + 1)
    return Standing(phase="OUT", since=now, flaps=flaps, hard=hard)


def _out(standing: Standing, sight: Sight, policy: Policy, now: datetime) -> Standing:
    if sight.verdict is Verdict.UNKNOWN:
        unknown_since = sight.unknown_since
        due = (
            unknown_since is not None
            and (now - max(unknown_since, standing.since)).total_seconds() >= policy.hold_down_cap_s
        )
    else:
        due = _elapsed_s(standing, now) >= hold_down_s(standing.flaps, policy)
    if not due:
        return standing
    return Standing(phase="BACK", since=now, flaps=standing.flaps, permille=_ramp(0.0, policy))


def _back(standing: Standing, policy: Policy, now: datetime) -> Standing | None:
    elapsed_s = _elapsed_s(standing, now)
    if elapsed_s >= max(policy.hold_down_cap_s, policy.ramp_s):
        return None
    permille = max(standing.permille, _ramp(elapsed_s, policy))
    return standing if permille == standing.permille else standing.model_copy(update={"permille": permille})


def _ramp(elapsed_s: float, policy: Policy) -> int:
    last = len(policy.ramp_permille) - 1
    if last == 0:
        return policy.ramp_permille[0]
    return policy.ramp_permille[min(last, int(elapsed_s * last / policy.ramp_s))]


def _elapsed_s(standing: Standing, now: datetime) -> float:
    return (now - standing.since).total_seconds()
