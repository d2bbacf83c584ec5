"""What probing costs, and when it has cost enough: a ceiling per target and monitor for any hour.

    promise   In no 60 minutes more is paid than the ceiling and, where a target counts more tokens than it
              was allowed to answer with, the excess of one probe.

Payments are kept in slots of SLOT_S and forgotten an hour after their slot's end, so the hour remembered
is up to a slot too long and never too short. A restart forgets them: each life may spend one ceiling anew,
at the pace that spreads it over an hour.
"""

import math
from dataclasses import dataclass
from typing import Final

from prober.core.counters import Finding
from prober.core.jobs import Job
from shared.vocabulary.terms import Outcome

HOUR_S: Final = 3600.0
SLOT_S: Final = 300.0
CHARACTERS_PER_TOKEN: Final = 3.0
"""A cautious guess for English and JSON (tokenisers reach about four): a ceiling must err downwards."""
OVERHEAD_TOKENS: Final = 16
"""What dialects wrap around one short message: roles, separators, a default system prompt."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What was paid in the `number`-th SLOT_S of monotonic time."""

    number: int
    usd: float
    probes: int

    @property
    def forgotten_at(self) -> float:
        """Monotonic time from which it no longer counts."""
        return (self.number + 1) * SLOT_S + HOUR_S


Spending = tuple[Slot, ...]
"""What one job has cost lately, oldest first; at most as many as the remembered hour has slots."""


def worst_case_usd(job: Job) -> float:
    """What one probe may cost: the whole prompt, and every token it may be answered with.

    Only `chat` and `embedding` cost; list prices come from the target.
    """
    if job.monitor.kind not in ("chat", "embedding"):
        return 0.0
    tokens_in = len(job.monitor.prompt) / CHARACTERS_PER_TOKEN + OVERHEAD_TOKENS
    tokens_out = job.max_tokens if job.monitor.kind == "chat" else 0
    return _usd(job, tokens_in, tokens_out)


def actual_usd(job: Job, finding: Finding | None) -> float:
    """What a probe did cost, by the target's own count; the worst case where it gave none, since an
    answer that never came may have been billed. What was never connected was never asked."""
    if finding is not None and _never_asked(finding):
        return 0.0
    if finding is None or finding.tokens_in is None:
        return worst_case_usd(job)
    return _usd(job, finding.tokens_in, finding.tokens_out or 0)


def permitted(spending: Spending, job: Job, *, now: float) -> bool:
    """Whether one more probe, should it cost its worst, stays below the monitor's ceiling."""
    ceiling = job.monitor.cost_ceiling_usd_per_hour
    return ceiling is None or _paid(spending, now) + worst_case_usd(job) <= ceiling


def spend(spending: Spending, usd: float, *, now: float) -> Spending:
    """`spending` after one probe that cost `usd`; what is an hour old is dropped."""
    kept = tuple(slot for slot in spending if slot.forgotten_at > now)
    number = math.floor(now / SLOT_S)
    if kept and kept[-1].number == number:
        last = kept[-1]
        return (*kept[:-1], Slot(number, last.usd + usd, last.probes + 1))
    return (*kept, Slot(number, usd, 1))


def carried_s(spending: Spending, job: Job, *, now: float) -> float:
    """The shortest even wait, in seconds, that the ceiling carries from now on. 0.0 without a ceiling or a
    price; infinite when one probe is too dear.

    Probes are reckoned at what they lately cost, and the last of an hour at its worst, as `permitted`
    does. Until the `k`-th payment is forgotten, at `t`, there is money for `n` of them: a wait of
    `(t - now) / (n + 1)` brings the next one after that. The longest of these waits is even enough for all.
    """
    ceiling, worst = job.monitor.cost_ceiling_usd_per_hour, worst_case_usd(job)
    if ceiling is None or worst == 0.0:
        return 0.0
    if worst > ceiling:
        return math.inf
    kept = [slot for slot in spending if slot.forgotten_at > now]
    each = _usual_usd(kept) or worst
    left = ceiling - worst - sum(slot.usd for slot in kept)
    longest = (HOUR_S + SLOT_S) / _affordable(ceiling - worst, each)
    for slot in kept:
        longest = max(longest, (slot.forgotten_at - now) / (_affordable(left, each) + 1))
        left += slot.usd
    return longest


def _affordable(usd: float, each: float) -> int:
    """Probes that may be sent while `usd` is left beside the worst case of one."""
    return math.floor(usd / each) + 1 if usd >= 0 else 0


def _usual_usd(spending: list[Slot]) -> float:
    probes = sum(slot.probes for slot in spending)
    return sum(slot.usd for slot in spending) / probes if probes else 0.0


def _paid(spending: Spending, now: float) -> float:
    return sum(slot.usd for slot in spending if slot.forgotten_at > now)


def _never_asked(finding: Finding) -> bool:
    """No connection: refused, or hard evidence that connecting took too long."""
    return finding.outcome is Outcome.REFUSED or (finding.outcome is Outcome.TIMED_OUT and finding.hard)


def _usd(job: Job, tokens_in: float, tokens_out: float) -> float:
    cost = job.target.cost
    return (tokens_in * cost.input_usd_per_mtok + tokens_out * cost.output_usd_per_mtok) / 1e6
