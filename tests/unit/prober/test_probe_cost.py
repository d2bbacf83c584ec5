import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.core.cost import HOUR_S, SLOT_S, Slot, actual_usd, carried_s, permitted, spend, worst_case_usd
from prober.core.counters import Finding, Track, step
from prober.core.jobs import Job
from prober.core.pace import paced_s, wanted_s
from prober.core.schedule import Schedule
from shared.vocabulary.config import Cost, Monitor, Target
from shared.vocabulary.terms import Outcome
from tests.unit.prober.test_pace import NOW

WORST = (26 * 1.0 + 100 * 10.0) / 1e6
"""10 tokens of prompt, 16 of wrapping, 100 of answer at list prices."""


def job(kind: str = "chat", ceiling: float | None = 0.001, max_tokens: int = 100, **fields: object) -> Job:
    return Job(
        Target(
            id="t",
            provider="p",
            model="m",
            region="r",
            url="http://h",
            cost=Cost(input_usd_per_mtok=1.0, output_usd_per_mtok=10.0),
            capabilities=("reasoning",) if fields.pop("reasoning", False) else (),
        ),
        Monitor(
            id="m",
            kind=kind,  # type: ignore[arg-type]
            prompt="x" * 30,
            max_tokens=max_tokens,
            cost_ceiling_usd_per_hour=ceiling,
            **fields,  # type: ignore[arg-type]
        ),
    )


def test_the_worst_case_is_the_prompt_and_every_token_allowed() -> None:
    """A reasoning target may answer with all that it is given to think with."""
    assert worst_case_usd(job()) == pytest.approx(WORST)
    assert worst_case_usd(job(reasoning=True)) == pytest.approx((26 * 1.0 + 1024 * 10.0) / 1e6)
    assert worst_case_usd(job("embedding")) == pytest.approx(26 / 1e6)
    assert worst_case_usd(job("http")) == worst_case_usd(job("tcp")) == 0.0


def test_probes_stop_before_the_ceiling_until_the_first_is_an_hour_old() -> None:
    """No hour costs more than its ceiling, even when every probe costs its worst."""
    spending, sent, now = (), 0, 3000.0
    each = job(ceiling=0.01)
    while permitted(spending, each, now=now):
        spending = spend(spending, actual_usd(each, None), now=now)
        sent, now = sent + 1, now + 60.0
    assert sent == int(0.01 / worst_case_usd(each))
    assert not permitted(spending, each, now=3000.0 + HOUR_S)
    assert permitted(spending, each, now=3000.0 + HOUR_S + SLOT_S)


def test_what_is_remembered_is_bounded() -> None:
    """An hour is a dozen slots, however many probes it has."""
    spending: tuple[Slot, ...] = ()
    for second in range(0, 20_000, 7):
        spending = spend(spending, 0.001, now=float(second))
    assert len(spending) <= HOUR_S / SLOT_S + 1


def test_the_targets_own_count_is_what_is_paid() -> None:
    """A short answer costs what it was, so cheap probes are not held back; an answer that never came may
    have been billed, and one that was never asked for was not."""
    finding = Finding(Outcome.OK, 1.0, tokens_in=12, tokens_out=1)
    assert actual_usd(job(), finding) == pytest.approx((12 * 1.0 + 1 * 10.0) / 1e6)
    assert actual_usd(job(), Finding(Outcome.TIMED_OUT, 1.0)) == worst_case_usd(job())
    assert actual_usd(job(), Finding(Outcome.FAILED, 1.0, hard=True)) == worst_case_usd(job())
    assert actual_usd(job(), Finding(Outcome.TIMED_OUT, 1.0, hard=True)) == 0.0
    assert actual_usd(job(), Finding(Outcome.REFUSED, 1.0)) == 0.0


def test_no_ceiling_no_limit() -> None:
    """Without a ceiling nothing is held back, nor is what costs nothing."""
    rich = (Slot(0, 1e9, 10),)
    assert permitted(rich, job(ceiling=None), now=1.0)
    assert carried_s(rich, job(ceiling=None), now=1.0) == 0.0
    assert carried_s((), job("http"), now=1.0) == 0.0


def test_a_ceiling_below_one_probe_carries_none() -> None:
    """It is never sent, and the pace says so."""
    assert carried_s((), job(ceiling=WORST / 2), now=1.0) == math.inf
    assert not permitted((), job(ceiling=WORST / 2), now=1.0)


class Sent:
    """One job's probes over hours, sent as the prober sends them: by its own schedule, pace and purse."""

    def __init__(self, each: Job, answer: Callable[[], tuple[Finding, float]], *, seed: int) -> None:
        self.paid: list[tuple[float, float]] = []
        self.at: list[float] = []
        self.held_back = 0
        draw = random.Random(seed).random
        plan, track, spending = Schedule(start=draw(), draw=draw), Track(), ()
        begin = now = 50_000.0
        plan.replace([each], now=now)
        while (due := plan.next_at()) is not None and due < begin + 3.5 * HOUR_S and len(self.at) < 3000:
            now = max(now, due)
            if not plan.take(now, most=1):
                continue
            if permitted(spending, each, now=now):
                self.at.append(now)
                finding, took_s = answer()
                now += took_s
                usd = actual_usd(each, finding)
                if usd > 0:
                    self.paid.append((now, usd))
                    spending = spend(spending, usd, now=now)
                track = step(track, finding, each.monitor, now=NOW, traceparent=None)
            else:
                self.held_back += 1
            carried = carried_s(spending, each, now=now)
            plan.pace(each.key, paced_s(wanted_s(track, each.monitor), carried, each.monitor), now=now)

    def most_in_an_hour(self) -> float:
        """The dearest 60 minutes."""
        return max(
            (sum(usd for at, usd in self.paid if begun <= at < begun + HOUR_S) for begun, _ in self.paid),
            default=0.0,
        )


findings = st.tuples(
    st.sampled_from(
        [
            Finding(Outcome.OK, 1.0, tokens_in=12, tokens_out=2),
            Finding(Outcome.OK, 1.0, tokens_in=26, tokens_out=100),
            Finding(Outcome.SLOW, 1.0),
            Finding(Outcome.THROTTLED, 1.0),
            Finding(Outcome.FAILED, 1.0),
            Finding(Outcome.GARBLED, 1.0, tokens_in=12, tokens_out=2),
            Finding(Outcome.REFUSED, 1.0, hard=True),
        ]
    ),
    st.floats(0.01, 19.0),
)


@settings(max_examples=60, deadline=None)
@given(
    story=st.lists(findings, min_size=1, max_size=40),
    probes=st.floats(1.0, 200.0),
    hurried_s=st.floats(1.0, 60.0),
    leisurely_s=st.floats(60.0, 900.0),
    seed=st.integers(0, 1000),
)
def test_no_pace_ever_passes_the_ceiling(
    story: list[tuple[Finding, float]], probes: float, hurried_s: float, leisurely_s: float, seed: int
) -> None:
    """For any sequence of outcomes, and any bounds of the pace, the dearest hour stays below the ceiling."""
    ceiling = probes * WORST
    each = job(
        ceiling=ceiling,
        interval_s=60.0,
        timeout_s=20.0,
        min_interval_s=hurried_s,
        max_interval_s=leisurely_s,
    )
    told = iter(story * 3000)
    assert Sent(each, lambda: next(told), seed=seed).most_in_an_hour() <= ceiling * (1 + 1e-9)


def test_a_target_that_counts_more_than_allowed_costs_one_probe_too_much() -> None:
    """The excess of a single answer is all that can be lost: the next probe waits for it."""
    each = job(ceiling=10 * WORST, interval_s=60.0, timeout_s=20.0)
    greedy = Finding(Outcome.OK, 1.0, tokens_in=26, tokens_out=350)
    sent = Sent(each, lambda: (greedy, 1.0), seed=1)
    assert 10 * WORST < sent.most_in_an_hour() <= 10 * WORST + actual_usd(each, greedy)


@pytest.mark.parametrize("probes", [3, 10, 40])
def test_a_ceiling_below_the_configured_pace_spreads_the_probes(probes: int) -> None:
    """They are not all sent at the beginning of the hour: no wait is much longer than two even ones, of
    which the second may have to wait for a slot to be forgotten."""
    each = job(ceiling=(probes + 0.5) * WORST, interval_s=60.0, timeout_s=20.0, min_interval_s=5.0)
    dear = Finding(Outcome.OK, 1.0, tokens_in=26, tokens_out=100)
    sent = Sent(each, lambda: (dear, 1.0), seed=3)
    gaps = [later - earlier for earlier, later in zip(sent.at, sent.at[1:], strict=False)]
    assert max(gaps) <= 2.2 * (HOUR_S + SLOT_S) / probes
    assert sent.most_in_an_hour() >= 0.75 * probes * WORST
    assert sent.held_back <= 0.2 * len(sent.at)


def test_doubt_spends_the_surplus_and_leaves_the_configured_pace() -> None:
    """A target that fails is hurried after with what the ceiling carries beyond every minute, and after
    that is still probed every minute or so."""
    each = job(ceiling=90 * WORST, interval_s=60.0, timeout_s=20.0, min_interval_s=2.0)
    states = iter([True] * 5 + [True, False] * 5000)
    dear = Finding(Outcome.OK, 1.0, tokens_in=26, tokens_out=100)
    sent = Sent(each, lambda: (dear if next(states) else Finding(Outcome.FAILED, 1.0), 0.1), seed=3)
    gaps = [later - earlier for earlier, later in zip(sent.at, sent.at[1:], strict=False)]
    assert sum(gap < 4.0 for gap in gaps[:40]) >= 15
    assert max(gaps) <= 2 * 60.0
    assert sent.most_in_an_hour() <= 90 * WORST


def test_a_spent_ceiling_carries_nothing_until_a_payment_is_forgotten() -> None:
    """The wait is as long as it has to be, not half of it."""
    each = job(ceiling=3 * WORST)
    spent = (Slot(10, WORST, 1), Slot(11, 2 * WORST, 2))
    assert carried_s(spent, each, now=3400.0) == pytest.approx(11 * SLOT_S + HOUR_S - 3400.0)
    assert carried_s(spent[1:], each, now=3400.0) == pytest.approx((12 * SLOT_S + HOUR_S - 3400.0) / 2)
