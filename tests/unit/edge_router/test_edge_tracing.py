"""Which requests an edge records: by share, by the client's word, the first under a decision, and failures to a bound."""

import random
from datetime import UTC, datetime

import pytest

from edge_router.adapters.tracing import FAILURES_AT_ONCE, FAILURES_PER_S, FIRST_WITHIN_S, Tracing
from edge_router.core.excerpt import Excerpt
from edge_router.core.table import RouteTable, build_table
from shared.telemetry import NoTelemetry, Sampling
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision

APPLIED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = APPLIED[:-1] + "0"


class _Still:
    at = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.at


def tracing(share: float = 0.0, *, honours_parent: bool = True) -> Tracing:
    telemetry = NoTelemetry(random.Random(1), Sampling(share, honours_parent))
    return Tracing(telemetry, edge_id="e", region="us-east", clock=_Still(), rng=random.Random(1))


def table(weights: dict[str, int], *, seq: int) -> RouteTable:
    targets = [
        {"id": name, "provider": "p", "model": "m", "region": "us-east", "url": "http://127.0.0.1:9/v1"}
        for name in ("a", "b")
    ]
    fleet = {
        "regions": [{"id": "us-east"}],
        "targets": targets,
        "routes": [{"id": "chat", "match": {"models": ["chat"]}, "tiers": [{"targets": ["a", "b"]}]}],
    }
    config = FleetConfig.model_validate({"config_version": 1, "fleet": fleet})
    if not seq:
        return build_table(config, {}, NO_VERSION, region="us-east")
    parts = [{"id": name, "weight_permille": weight} for name, weight in weights.items()]
    decision = {
        "route": "chat",
        "generation": 1,
        "seq": seq,
        "config_version": 1,
        "regions": {"us-east": {"tiers": [{"share_permille": 1000, "targets": parts}], "shed_permille": 0}},
        "decided_at": "2026-01-01T00:00:00Z",
        "term": {"holder": "cp", "epoch": 1},
    }
    return build_table(config, {"chat": Decision.model_validate(decision)}, Version(1, seq), region="us-east")


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.01, 60, 140), (1.0, 10_000, 10_000)])
def test_a_share_of_ordinary_requests_is_recorded(share: float, least: int, most: int) -> None:
    """As many as the share says, by chance."""
    some = tracing(share)
    assert least <= sum(some.wants("chat", None) for _ in range(10_000)) <= most


def test_by_default_ordinary_requests_have_a_ceiling() -> None:
    """So that a busy edge does not spend its time on telling of it; a client's own word is outside of it."""
    telemetry = NoTelemetry(random.Random(1), Sampling(0.01, per_s=20.0))
    clock = _Still()
    some = Tracing(telemetry, edge_id="e", region="us-east", clock=clock, rng=random.Random(1))
    assert sum(some.wants("chat", None) for _ in range(100_000)) == 20
    assert some.wants("chat", APPLIED)
    clock.at += 0.5
    assert sum(some.wants("chat", None) for _ in range(100_000)) == 10


def test_the_client_decides_where_it_has_said_something() -> None:
    """Unless the sampler is one that does not look at parents."""
    assert tracing(0.0).wants("chat", APPLIED)
    assert not tracing(1.0).wants("chat", UNSAMPLED)
    assert not tracing(0.0, honours_parent=False).wants("chat", APPLIED)
    assert tracing(1.0, honours_parent=False).wants("chat", UNSAMPLED)


def test_the_first_request_of_a_route_that_moved_is_recorded_once() -> None:
    """And the next one when that one failed; a route that stays where it was has no first."""
    some = tracing()
    some.swapped(table({"a": 1000, "b": 0}, seq=1), table({"a": 0, "b": 1000}, seq=2), APPLIED)
    assert some.wants("chat", UNSAMPLED)
    first = some.first_of("chat")
    assert first is not None
    assert first.applied_in == APPLIED
    assert not some.wants("chat", None)
    some.not_served("chat", first)
    assert some.wants("chat", None)
    second = some.first_of("chat")
    assert second is not None
    assert second.applied_in == APPLIED
    some.swapped(table({"a": 0, "b": 1000}, seq=2), table({"a": 0, "b": 1000}, seq=3), APPLIED)
    assert not some.wants("chat", None)


def test_a_first_request_is_not_awaited_for_ever() -> None:
    """A route without traffic forgets it."""
    some = tracing()
    some.swapped(table({"a": 1000, "b": 0}, seq=1), table({"a": 0, "b": 1000}, seq=2), APPLIED)
    assert isinstance(some.clock, _Still)
    some.clock.at += FIRST_WITHIN_S
    assert not some.wants("chat", None)
    assert some.first_of("chat") is None


def test_a_first_request_that_came_too_late_is_none() -> None:
    """Asked for by a failure that is recorded from its middle."""
    some = tracing()
    some.swapped(table({"a": 1000, "b": 0}, seq=1), table({"a": 0, "b": 1000}, seq=2), APPLIED)
    assert isinstance(some.clock, _Still)
    some.clock.at += FIRST_WITHIN_S
    assert some.first_of("chat") is None


def test_first_requests_that_all_fail_keep_to_the_budget_and_to_the_time() -> None:
    """One after the other, 100 a second for ten minutes: none lengthens the wait for its successor."""
    some = tracing()
    some.swapped(table({"a": 1000, "b": 0}, seq=1), table({"a": 0, "b": 1000}, seq=2), APPLIED)
    assert isinstance(some.clock, _Still)
    recorded = 0
    for number in range(60_000):
        some.clock.at = 1000.0 + number / 100
        if some.wants("chat", None):
            recorded += 1
            if (first := some.first_of("chat")) is not None:
                some.not_served("chat", first)
    assert recorded == FIRST_WITHIN_S * 100


def test_first_requests_that_all_fail_at_once_take_from_the_budget_of_failures() -> None:
    """What they have taken is not there for others; the one that moved the route is free."""
    some = tracing()
    some.swapped(table({"a": 1000, "b": 0}, seq=1), table({"a": 0, "b": 1000}, seq=2), APPLIED)
    recorded = 0
    for _ in range(10_000):
        if some.wants("chat", None):
            recorded += 1
            first = some.first_of("chat")
            assert first is not None
            some.not_served("chat", first)
    assert recorded == 1 + FAILURES_AT_ONCE
    assert not some.affords(some.clock.monotonic())


def test_the_first_decision_of_a_start_moves_nothing() -> None:
    """Before it the edge served by the configuration's order; and an apply that nobody recorded leads nowhere."""
    some = tracing()
    some.swapped(table({}, seq=0), table({"a": 0, "b": 1000}, seq=1), APPLIED)
    some.swapped(table({"a": 0, "b": 1000}, seq=1), table({"a": 1000, "b": 0}, seq=2), UNSAMPLED)
    assert not some.wants("chat", None)


def test_failures_beyond_the_budget_are_not_recorded() -> None:
    """A burst, then so many a second."""
    some = tracing()
    now = 1000.0
    assert sum(some.affords(now) for _ in range(10_000)) == FAILURES_AT_ONCE
    assert sum(some.affords(now + 0.5) for _ in range(10_000)) == FAILURES_PER_S / 2
    assert sum(some.affords(now + 3600.0) for _ in range(10_000)) == FAILURES_AT_ONCE


def test_an_answer_tells_its_model_and_tokens_but_not_its_text() -> None:
    """From its two ends, however it is cut into pieces; what a model writes is escaped and cannot pass for it."""
    text = '\\"model\\": \\"evil\\", \\"output_tokens\\": 99' * 400
    whole = (
        f'{{"model":"m-2026","choices":[{{"message":{{"content":"{text}"}}}}],'
        f'"usage":{{"prompt_tokens":12,"completion_tokens":7}}}}'
    ).encode()
    for size in (1, 700, len(whole)):
        excerpt = Excerpt()
        for at in range(0, len(whole), size):
            excerpt.passed(whole[at : at + size])
        assert excerpt.told() == ("m-2026", 12, 7)
    assert Excerpt().told() == ("", None, None)
