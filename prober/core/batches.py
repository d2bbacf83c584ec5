"""What fits into one event: states cut into batches that every broker takes and every reader accepts."""

from collections.abc import Callable, Iterator, Sequence

from shared.vocabulary.health import MAX_ENTRIES, MAX_EVENT_BYTES, ProbeState


def batches(
    states: Sequence[ProbeState],
    encode: Callable[[Sequence[ProbeState]], bytes],
    *,
    max_entries: int = MAX_ENTRIES,
    max_bytes: int = MAX_EVENT_BYTES,
) -> Iterator[tuple[Sequence[ProbeState], bytes]]:
    """`states` in order, as few events as halving finds, each with its bytes as `encode` gives them.

    `encode` is called when the batch is next, so events may number themselves in it; it is called
    again for the halves of one that came out too long. No states give one batch of none. A single
    state is always below the limit: its every field is bounded.
    """
    pending = [states[i : i + max_entries] for i in range(0, len(states), max_entries)] or [states]
    while pending:
        batch = pending.pop(0)
        encoded = encode(batch)
        if len(encoded) > max_bytes and len(batch) > 1:
            half = (len(batch) + 1) // 2
            pending[:0] = [batch[:half], batch[half:]]
        else:
            yield batch, encoded
