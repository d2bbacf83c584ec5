"""What probing costs, and when it has cost enough: a ceiling per target, monitor and hour."""

from dataclasses import dataclass

from prober.core.counters import Finding
from prober.core.jobs import Job

HOUR_S = 3600.0
CHARACTERS_PER_TOKEN = 3.0
"""A cautious guess for English and JSON (tokenisers reach about four): a ceiling must err downwards."""
OVERHEAD_TOKENS = 16
"""What dialects wrap around one short message: roles, separators, a default system prompt."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What one job has cost in the hour that began at `since`, monotonic seconds."""

    since: float
    usd: float = 0.0


def worst_case_usd(job: Job) -> float:
    """What one probe may cost: the whole prompt, and every token it may be answered with.

    Only `chat` and `embedding` cost; list prices come from the target.
    """
    if job.monitor.kind not in ("chat", "embedding"):
        return 0.0
    tokens_in = len(job.monitor.prompt) / CHARACTERS_PER_TOKEN + OVERHEAD_TOKENS
    tokens_out = job.monitor.max_tokens if job.monitor.kind == "chat" else 0
    return _usd(job, tokens_in, tokens_out)


def actual_usd(job: Job, finding: Finding | None) -> float:
    """What a probe did cost, by the target's own count; the worst case where it gave none, since an
    answer that never came may have been billed."""
    if finding is None or finding.tokens_in is None:
        return worst_case_usd(job)
    return _usd(job, finding.tokens_in, finding.tokens_out or 0)


def permitted(spending: Spending | None, job: Job, *, now: float) -> bool:
    """Whether one more probe stays below the monitor's ceiling for this hour."""
    ceiling = job.monitor.cost_ceiling_usd_per_hour
    if ceiling is None:
        return True
    spent = 0.0 if spending is None or now - spending.since >= HOUR_S else spending.usd
    return spent + worst_case_usd(job) <= ceiling


def spend(spending: Spending | None, usd: float, *, now: float) -> Spending:
    """The account after paying `usd`. An hour begins with the first payment after the last one ended."""
    if spending is None or now - spending.since >= HOUR_S:
        return Spending(now, usd)
    return Spending(spending.since, spending.usd + usd)


def _usd(job: Job, tokens_in: float, tokens_out: float) -> float:
    cost = job.target.cost
    return (tokens_in * cost.input_usd_per_mtok + tokens_out * cost.output_usd_per_mtok) / 1e6
