import asyncio
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from prober.core.board import Board
from prober.core.counters import Finding
from prober.core.jobs import Job
from prober.core.schedule import Schedule
from prober.loops import observe as observe_module
from prober.loops.observe import MAX_INFLIGHT, Observe
from prober.metrics import Metrics
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry
from shared.vocabulary.config import Cost
from shared.vocabulary.terms import Outcome
from tests.simulation.virtual_time import NodeClock
from tests.unit.prober.prober_world import FAILED, OK, ToldProbe, in_virtual_time, monitor, target


def observer(
    clock: NodeClock,
    rng: random.Random,
    supervisor: Supervisor,
    probe: ToldProbe,
    on_news: Callable[[], None] = lambda: None,
) -> tuple[Observe, Board, CollectorRegistry]:
    board, registry = Board(), CollectorRegistry()
    made = Observe(
        board=board,
        schedule=Schedule(start=rng.random(), draw=rng.random),
        probe=probe,
        clock=clock,
        telemetry=NoTelemetry(rng),
        supervisor=supervisor,
        metrics=Metrics(registry),
        draw=rng.random,
        on_news=on_news,
    )
    return made, board, registry


def test_targets_are_probed_at_their_pace_and_become_known() -> None:
    """After three intervals every target has been probed three or four times and is UP."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        probe = ToldProbe()
        async with Supervisor() as supervisor:
            observe, board, _ = observer(clock, rng, supervisor, probe)
            observe.replace(tuple(Job(target(f"t{n}"), monitor()) for n in range(50)))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(3.6)
        assert all(3 <= probe.probed.count(f"t{n}") <= 4 for n in range(50))
        assert {state.state for state in board.states()} == {"UP"}

    in_virtual_time(story)


def test_one_job_is_never_probed_twice_at_once() -> None:
    """A probe that takes longer than its interval is followed by the next at once, not joined by it."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        probe = ToldProbe(takes_s=1.0)
        async with Supervisor() as supervisor:
            observe, board, _ = observer(clock, rng, supervisor, probe)
            observe.replace((Job(target(), monitor(interval_s=1.0, timeout_s=1.0)),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(20.5)
        assert probe.most == 1
        assert len(probe.probed) >= 17
        assert len(board) == 1

    in_virtual_time(story)


def test_probes_at_once_are_bounded_and_none_is_forgotten() -> None:
    """A thousand hanging targets never take more than their share of descriptors, and all get their turn."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        probe = ToldProbe(takes_s=0.9)
        async with Supervisor() as supervisor:
            observe, _, _ = observer(clock, rng, supervisor, probe)
            observe.replace(tuple(Job(target(f"t{n}"), monitor()) for n in range(1000)))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(8.0)
        assert probe.most == MAX_INFLIGHT
        assert len(set(probe.probed)) == 1000

    in_virtual_time(story)


def test_a_removed_target_is_left_alone_and_a_new_one_is_seen_at_once() -> None:
    """A new fleet takes effect without a restart, and its going leaves no labels behind."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        probe = ToldProbe()
        async with Supervisor() as supervisor:
            observe, board, registry = observer(clock, rng, supervisor, probe)
            observe.replace((Job(target("old"), monitor()),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(2.5)
            observe.replace((Job(target("new"), monitor()),))
            probe.probed.clear()
            await asyncio.sleep(1.5)
        assert set(probe.probed) == {"new"}
        assert [state.target for state in board.states()] == ["new"]
        samples = [sample for metric in registry.collect() for sample in metric.samples]
        assert not any(sample.labels.get("target") == "old" for sample in samples)

    in_virtual_time(story)


def test_the_news_and_nothing_else_is_announced() -> None:
    """The publisher is woken by changes, not by every probe."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        announced: list[float] = []
        down = False
        probe = ToldProbe(answer=lambda job: FAILED if down else OK)
        async with Supervisor() as supervisor:
            observe, _, _ = observer(
                clock, rng, supervisor, probe, lambda: announced.append(clock.monotonic())
            )
            observe.replace((Job(target(), monitor()),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(5.5)
            assert len(announced) == 2  # first seen, then UP
            down = True
            await asyncio.sleep(5.5)
        assert len(announced) == 4  # first failure, then DOWN

    in_virtual_time(story)


def test_a_fault_of_our_own_counts_for_nothing() -> None:
    """A prober without a credential or descriptors says nothing about its targets."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        probe = ToldProbe(answer=lambda job: None)
        async with Supervisor() as supervisor:
            observe, board, registry = observer(clock, rng, supervisor, probe)
            observe.replace((Job(target(), monitor()),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(5.0)
        assert len(probe.probed) >= 4
        assert board.states() == ()
        assert registry.get_sample_value(
            "leeward_prober_probes_without_finding_total", {"monitor": "http"}
        ) == len(probe.probed)

    in_virtual_time(story)


def test_a_process_that_stood_still_does_not_blame_its_targets() -> None:
    """Deadlines that passed while this process was stopped are no evidence."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        late = Finding(Outcome.TIMED_OUT, 30_000.0, hard=True)
        stood_still = False
        probe = ToldProbe(answer=lambda job: late if stood_still else OK)
        async with Supervisor() as supervisor:
            observe, board, _ = observer(clock, rng, supervisor, probe)
            observe.replace((Job(target(), monitor()),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(4.5)
            stood_still = True
            await asyncio.sleep(4.5)
        (state,) = board.states()
        assert (state.state, state.outcome) == ("UP", Outcome.OK)

    in_virtual_time(story)


def test_a_cost_ceiling_spreads_the_probes_it_allows_over_the_hour() -> None:
    """Money is spent up to the ceiling and not beyond, without blind halves of hours; readers are told the
    pace, so that what is known stays fresh for as long."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        probe = ToldProbe()
        paid = target(cost=Cost(output_usd_per_mtok=1000.0))
        chat = monitor("chat", kind="chat", interval_s=60.0, max_tokens=10, cost_ceiling_usd_per_hour=0.1)
        async with Supervisor() as supervisor:
            observe, board, registry = observer(clock, rng, supervisor, probe)
            observe.replace((Job(paid, chat),))
            supervisor.start("observe", observe.run)
            seen = []
            for _ in range(10):
                await asyncio.sleep(900.0)
                seen.append(len(probe.probed))
        per_quarter = [later - earlier for earlier, later in pairwise(seen)]
        assert all(1 <= probes <= 4 for probes in per_quarter)
        assert all(sum(per_quarter[n : n + 4]) <= 10 for n in range(6))
        cost = registry.get_sample_value(
            "leeward_prober_probe_cost_usd_total", {"target": "t", "monitor": "chat"}
        )
        assert cost == pytest.approx(seen[-1] * 0.01)
        (state,) = board.states()
        assert 300.0 < state.interval_s < 900.0
        assert (
            registry.get_sample_value(
                "leeward_prober_probe_interval_seconds", {"target": "t", "monitor": "chat"}
            )
            == state.interval_s
        )

    in_virtual_time(story)


def test_the_pace_follows_the_doubt_and_the_calm() -> None:
    """A failing target is asked again at once and often for a while, a dead one as usual, and one that has
    long been well seldom; no probe overlaps another, and what is told of the pace is what is done."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        down = False
        probe = ToldProbe(answer=lambda job: FAILED if down else OK)
        paced = monitor(interval_s=10.0, timeout_s=1.0, min_interval_s=0.5, max_interval_s=40.0)
        times: list[float] = []

        async def count(job: Job) -> Finding | None:
            times.append(clock.monotonic())
            return await ToldProbe.probe(probe, job)

        def gaps() -> list[float]:
            return [later - earlier for earlier, later in pairwise(times)]

        async with Supervisor() as supervisor:
            observe, board, _ = observer(clock, rng, supervisor, probe)
            probe.probe = count  # type: ignore[method-assign]
            observe.replace((Job(target(), paced),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(60.0)
            assert max(gaps()[:2]) < 0.6  # a verdict is awaited
            assert min(gaps()[3:]) > 5.0
            await asyncio.sleep(1800.0)
            assert gaps()[-1] > 35.0  # calm
            down, before = True, len(times)
            await asyncio.sleep(60.0)
            (state,) = board.states()
            assert state.state == "DOWN"
            in_doubt = gaps()[before:]
            assert sum(gap < 0.6 for gap in in_doubt) >= 10
            assert max(in_doubt) < 16.0
            await asyncio.sleep(120.0)
            assert min(gaps()[-3:]) > 5.0  # dead, as usual
            down, before = False, len(times)
            await asyncio.sleep(20.0)
            (state,) = board.states()
            assert state.state == "UP"
            assert max(gaps()[before : before + 2]) < 0.6
        assert probe.most == 1

    in_virtual_time(story)


def test_a_hurry_never_outruns_the_probe_before() -> None:
    """At a pace faster than a hanging target times out, one probe follows the other and none joins it."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        late = Finding(Outcome.TIMED_OUT, 900.0)
        probe = ToldProbe(answer=lambda job: late, takes_s=0.9)
        async with Supervisor() as supervisor:
            observe, _, _ = observer(clock, rng, supervisor, probe)
            observe.replace((Job(target(), monitor(min_interval_s=0.1)),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(10.0)
        assert probe.most == 1
        assert 9 <= len(probe.probed) <= 12

    in_virtual_time(story)


def test_a_changed_monitor_changes_the_pace_at_once() -> None:
    """Bounds that are taken away no longer hold, and what was never probed is not put off."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        probe = ToldProbe()
        async with Supervisor() as supervisor:
            observe, board, _ = observer(clock, rng, supervisor, probe)
            observe.replace((Job(target(), monitor(max_interval_s=3000.0)),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(20_000.0)
            (state,) = board.states()
            assert state.interval_s > 1000.0
            probe.probed.clear()
            paid = target("new", cost=Cost(output_usd_per_mtok=1000.0))
            observe.replace(
                (
                    Job(target(), monitor()),
                    Job(paid, monitor("c", kind="chat", cost_ceiling_usd_per_hour=0.1)),
                )
            )
            (state,) = board.states()
            assert state.interval_s == 1.0
            await asyncio.sleep(5.5)
        assert probe.probed.count("t") >= 4
        assert probe.probed.count("new") == 1

    in_virtual_time(story)


def test_an_adapter_that_breaks_its_word_costs_one_probe(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is counted by the supervisor; the job goes on at its next point."""

    def broken(job: Job) -> None:
        raise RuntimeError("adapter bug")

    async def story(clock: NodeClock, rng: random.Random) -> None:
        probe = ToldProbe(answer=broken)
        async with Supervisor() as supervisor:
            observe, _, _ = observer(clock, rng, supervisor, probe)
            observe.replace((Job(target(), monitor()),))
            supervisor.start("observe", observe.run)
            await asyncio.sleep(4.9)
        assert len(probe.probed) >= 4
        assert probe.running == 0

    in_virtual_time(story)


def test_the_limit_leaves_descriptors_for_the_rest() -> None:
    """Half of the usual soft limit of 1024."""
    assert observe_module.MAX_INFLIGHT <= 512
