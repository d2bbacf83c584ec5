from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from prober.core.batches import batches
from shared.vocabulary.health import MAX_EVENT_BYTES, HealthEvent, ProbeState
from shared.vocabulary.terms import Outcome, Role

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def state(n: int, detail: str = "") -> ProbeState:
    return ProbeState(
        target=f"t{n}",
        monitor="m",
        state="UP",
        consecutive_good=1,
        consecutive_bad=0,
        outcome=Outcome.OK,
        detail=detail,
        latency_ms=1.0,
        latency_ms_p50=1.0,
        latency_ms_p99=1.0,
        probed_at=NOW,
        changed_at=NOW,
        interval_s=1.0,
    )


def encode(states: Sequence[ProbeState]) -> bytes:
    return (
        HealthEvent(
            kind="probe",
            source="s",
            role=Role.PROBER,
            vantage="v",
            boot=1,
            seq=1,
            observed_at=NOW,
            probes=tuple(states),
        )
        .model_dump_json()
        .encode()
    )


@given(st.lists(st.integers(0, 256), max_size=40), st.integers(1, 12), st.integers(900, 5000))
def test_every_state_is_told_once_in_order_within_both_limits(
    lengths: list[int], most: int, max_bytes: int
) -> None:
    """Cutting loses nothing, repeats nothing, and obeys entries and bytes."""
    states = [state(n, "x" * length) for n, length in enumerate(lengths)]
    cut = list(batches(states, encode, max_entries=most, max_bytes=max_bytes))
    assert [each for batch, _ in cut for each in batch] == states
    assert all(len(batch) <= most and len(raw) <= max_bytes for batch, raw in cut)
    assert all(encode(batch) == raw for batch, raw in cut)


def test_nothing_known_is_one_empty_batch() -> None:
    """A prober without states still beats."""
    assert [batch for batch, _ in batches([], encode)] == [[]]


def test_the_longest_states_that_the_models_allow_fit() -> None:
    """Two thousand targets with details of four-byte characters are cut below what brokers take."""
    states = [state(n, "\U0001f4a9" * 256) for n in range(2000)]
    cut = list(batches(states, encode))
    assert len(cut) > 1
    assert all(len(raw) <= MAX_EVENT_BYTES for _, raw in cut)
