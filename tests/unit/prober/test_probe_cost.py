import pytest

from prober.core.cost import HOUR_S, Spending, actual_usd, permitted, spend, worst_case_usd
from prober.core.counters import Finding
from prober.core.jobs import Job
from shared.vocabulary.config import Cost, Monitor, Target
from shared.vocabulary.terms import Outcome


def job(kind: str = "chat", ceiling: float | None = 0.001, max_tokens: int = 100) -> Job:
    return Job(
        Target(
            id="t",
            provider="p",
            model="m",
            region="r",
            url="http://h",
            cost=Cost(input_usd_per_mtok=1.0, output_usd_per_mtok=10.0),
        ),
        Monitor(id="m", kind=kind, prompt="x" * 30, max_tokens=max_tokens, cost_ceiling_usd_per_hour=ceiling),  # type: ignore[arg-type]
    )


def test_the_worst_case_is_the_prompt_and_every_token_allowed() -> None:
    """10 tokens of prompt, 16 of wrapping, 100 of answer at list prices."""
    assert worst_case_usd(job()) == pytest.approx((26 * 1.0 + 100 * 10.0) / 1e6)
    assert worst_case_usd(job("embedding")) == pytest.approx(26 / 1e6)
    assert worst_case_usd(job("http")) == worst_case_usd(job("tcp")) == 0.0


def test_probes_stop_before_the_ceiling_and_go_on_in_the_next_hour() -> None:
    """No hour costs more than its ceiling, even when every probe costs its worst."""
    spending, sent, now = None, 0, 1000.0
    each = job(ceiling=0.01)
    while permitted(spending, each, now=now):
        spending = spend(spending, actual_usd(each, None), now=now)
        sent, now = sent + 1, now + 60.0
    assert sent == int(0.01 / worst_case_usd(each))
    assert spending is not None
    assert spending.usd <= 0.01
    assert not permitted(spending, each, now=1000.0 + HOUR_S - 1)
    assert permitted(spending, each, now=1000.0 + HOUR_S)
    assert spend(spending, 0.001, now=1000.0 + HOUR_S) == Spending(1000.0 + HOUR_S, 0.001)


def test_the_targets_own_count_is_what_is_paid() -> None:
    """A short answer costs what it was, so cheap probes are not paused early."""
    finding = Finding(Outcome.OK, 1.0, tokens_in=12, tokens_out=1)
    assert actual_usd(job(), finding) == pytest.approx((12 * 1.0 + 1 * 10.0) / 1e6)
    assert actual_usd(job(), Finding(Outcome.TIMED_OUT, 1.0)) == worst_case_usd(job())


def test_no_ceiling_no_limit() -> None:
    """Without a ceiling nothing is held back."""
    assert permitted(Spending(0.0, 1e9), job(ceiling=None), now=1.0)
