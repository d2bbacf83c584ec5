"""The store keeps its bounds whatever is put into it, and never gives one tenant what is another's."""

from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.ladder.store import ANSWER_BYTES, ENTRY_BYTES, SWEEP_S, AnswerStore, Key


def key(n: int, tenant: str = "t", route: str = "r") -> Key:
    return Key(tenant, route, b"%032d" % n)


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 3000)), max_size=60),
    most_bytes=st.integers(600, 8000),
    most_entries=st.integers(1, 6),
)
def test_its_bounds_hold_after_every_step(
    steps: list[tuple[bool, int, int]], most_bytes: int, most_entries: int
) -> None:
    """Bytes, entries, and a sum that is right."""
    store = AnswerStore(most_bytes=most_bytes, most_entries=most_entries)
    held: dict[Key, bytes] = {}
    for writes, n, size in steps:
        if writes:
            body = b"%d" % n * size
            if store.keep(key(n), body, 0.0):
                held[key(n)] = body
        else:
            found = store.find(key(n))
            assert found is None or found.body == held[key(n)]
        present = [held[k] for k in held if store.find(k) is not None]
        assert len(store) == len(present) <= most_entries
        assert store.bytes == sum(len(body) + ENTRY_BYTES for body in present) <= most_bytes


def test_the_one_used_longest_ago_goes_first() -> None:
    """Being found counts as use."""
    store = AnswerStore(most_entries=2)
    store.keep(key(1), b"1", 0.0)
    store.keep(key(2), b"2", 0.0)
    store.find(key(1))
    store.keep(key(3), b"3", 0.0)
    assert store.find(key(2)) is None
    assert store.find(key(1)) is not None
    assert store.evicted == 1


def test_an_answer_that_is_too_large_is_not_kept_and_drives_nobody_out() -> None:
    """Nor does it replace an older one of its own call."""
    store = AnswerStore()
    assert store.keep(key(1), b"x", 0.0)
    assert not store.keep(key(1), b"x" * (ANSWER_BYTES + 1), 1.0)
    found = store.find(key(1))
    assert found is not None
    assert found.body == b"x"
    assert len(store) == 1


def test_tenants_and_routes_have_nothing_in_common() -> None:
    """The same call of another key, or at another route, is another place."""
    store = AnswerStore()
    store.keep(key(1), b"mine", 0.0)
    assert store.find(key(1, tenant="u")) is None
    assert store.find(key(1, route="s")) is None


def test_what_is_past_its_limit_is_forgotten() -> None:
    """So is everything of a route that stores no longer; and a sweep too soon does nothing."""
    store = AnswerStore()
    store.keep(key(1), b"old", 0.0)
    store.keep(key(2), b"new", 60.0)
    store.keep(key(3, route="gone"), b"x", 60.0)
    store.sweep({"r": 100.0}, 101.0)
    assert [store.find(key(n)) is None for n in (1, 2)] == [True, False]
    assert len(store) == 1
    store.sweep({}, 101.0 + SWEEP_S / 2)
    assert len(store) == 1
    store.sweep({}, 101.0 + SWEEP_S)
    assert len(store) == store.bytes == 0
