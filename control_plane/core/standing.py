"""Leaving and coming back: one target's trajectory, as a step function.

                 DOWN            UP                              UNKNOWN
    (in)         OUT, flap?      -                               -
    OUT          harder?         after hold-down: BACK           unknown for the cap: BACK
    BACK         OUT, flap?      on the ramp, then forgotten     as UP

Hold-down is `hold_down_s` x 2^flaps, at most `hold_down_cap_s`, counted from going out. A flap is
going out again within `hold_down_cap_s` of having come back; whoever stays in for that long, and has
all its weight, starts afresh. A target that is DOWN on the ramp is OUT again, with a flap.

The ramp gives `ramp_permille[k]` of the natural weight. A step lasts `ramp_s`/(n-1) at least, so that
the last is reached after `ramp_s` at the earliest; what comes next depends on how it does:

    well      the next step
    so-so     it waits where it is, but no longer than `hold_down_cap_s` a step: what is always a little
              slow must not stay out for ever
    badly     one step back, when the edges' windows lie after the last step, and not below the first; once
              `hold_down_cap_s` have passed since it came back, it waits instead, as so-so, or it would go
              to and fro for ever
    failing   attempts of live traffic, and none got a good answer: no step up while that is so, however
              long. Nobody's trying is no failure

Whoever returns from a drain is put on the ramp, too (`returning`).

At full weight the ramp is over: who does badly then goes as everybody who is in, by soft evidence, by
caution, or DOWN.

UNKNOWN climbs, for live traffic judges. One step at a time, whatever the clock says: who waited long,
or had no leader for a while, does not jump.

UNKNOWN never moves anything: who is in stays in, who is out stays out. Only when nobody has known
anything for `hold_down_cap_s` is an OUT target tried again by the ramp, where live traffic judges it;
otherwise a target whose last prober was taken away would be out for ever.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

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
    doing: Literal["well", "so-so", "badly"] = "well"
    """How it does on the ramp."""
    served: bool | None = None
    """Whether live traffic got a good answer from it lately; None when nobody tried."""


def step(standing: Standing | None, sight: Sight, policy: Policy, now: datetime) -> Standing | None:
    """The standing after `sight` at `now`; the same object when nothing changed."""
    if standing is not None and max(standing.since, standing.stepped_at or standing.since) > now:
        at = standing.stepped_at and min(standing.stepped_at, now)
        standing = standing.model_copy(update={"since": min(standing.since, now), "stepped_at": at})
    if sight.verdict is Verdict.DOWN:
        return _down(standing, sight.hard, policy, now)
    if standing is None:
        return None
    if standing.phase == "OUT":
        return _out(standing, sight, policy, now)
    return _back(standing, sight, policy, now)


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
    return Standing(
        phase="BACK",
        since=now,
        flaps=standing.flaps,
        permille=policy.ramp_permille[0],
        stepped_at=now,
        failing=sight.served is False,
    )


def _back(standing: Standing, sight: Sight, policy: Policy, now: datetime) -> Standing | None:
    watched = _elapsed_s(standing, now) < max(policy.hold_down_cap_s, policy.ramp_s)
    if standing.permille >= FULL:
        return standing if watched else None
    standing = _noted(standing, sight)
    stood_s = (now - min(standing.stepped_at or standing.since, now)).total_seconds()
    lower = [permille for permille in policy.ramp_permille if permille < standing.permille]
    if sight.doing == "badly" and lower and (watched or standing.failing):
        return _stepped(standing, lower[-1], now) if stood_s >= policy.passive_window_s else standing
    least_s = _step_s(policy) if sight.doing == "well" else policy.hold_down_cap_s
    if standing.failing or stood_s < least_s:
        return standing
    return _stepped(standing, min(p for p in policy.ramp_permille if p > standing.permille), now)


def _noted(standing: Standing, sight: Sight) -> Standing:
    """With what live traffic says now. Nobody's trying it is no failure: a route without traffic would
    hold its targets down for ever."""
    failing = sight.served is False
    return standing if failing == standing.failing else standing.model_copy(update={"failing": failing})


def _stepped(standing: Standing, permille: int, now: datetime) -> Standing:
    return standing.model_copy(update={"permille": permille, "stepped_at": now})


def _step_s(policy: Policy) -> float:
    return policy.ramp_s / max(1, len(policy.ramp_permille) - 1)


def _elapsed_s(standing: Standing, now: datetime) -> float:
    return (now - standing.since).total_seconds()
