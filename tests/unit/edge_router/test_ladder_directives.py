"""Cache-Control of requests, by RFC 9111 section 5.2.1, a row per sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.ladder.directives import NONE, Directives, allows, read

INF = float("inf")


@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        (b"", NONE),
        (b"no-store", Directives(no_store=True)),
        (b"No-Cache", Directives(no_cache=True)),
        (b"only-if-cached, max-stale", Directives(only_if_cached=True, max_stale=INF)),
        (b"max-stale=5", Directives(max_stale=5)),
        (b'max-age="60"', Directives(max_age=60)),
        (b"max-age=60 , min-fresh=3", Directives(max_age=60, min_fresh=3)),
        (b"max-age=60, max-age=1", Directives(max_age=60)),
        (b"max-age=x", Directives(max_age=0)),
        (b"max-age", Directives(max_age=0)),
        (b"max-age=-1", Directives(max_age=0)),
        (b"min-fresh=x", Directives(min_fresh=INF)),
        (b"max-stale=x", Directives(max_stale=0)),
        (b"max-age=99999999999999999999", Directives(max_age=2**31)),
        (b"unheard-of=1, no-transform", NONE),
        (b'x="no-store, no-cache"', NONE),
    ],
)
def test_directives_are_read(value: bytes, read_as: Directives) -> None:
    """Any case, quoted or not; what is malformed counts at its strictest, what is unknown for nothing."""
    assert read(value) == read_as


@pytest.mark.parametrize(
    ("control", "age_s", "fresh_only", "failing"),
    [
        # value, age of the answer (fresh for 60 s, stale for 100 s more); given without failure; given in one
        (b"", 10, True, True),
        (b"", 60, True, True),
        (b"", 61, False, True),
        (b"", 160, False, True),
        (b"", 161, False, False),
        (b"no-store", 10, True, True),
        (b"no-cache", 10, False, False),
        (b"no-cache", 61, False, False),
        (b"max-age=30", 30, True, True),
        (b"max-age=30", 31, False, False),
        (b"max-age=0", 10, False, False),
        (b"max-age=90", 70, False, False),
        (b"max-stale", 150, True, True),
        (b"max-stale", 161, False, False),
        (b"max-stale=20", 80, True, True),
        (b"max-stale=20", 81, False, False),
        (b"max-age=30, max-stale=20", 50, True, True),
        (b"max-age=30, max-stale=20", 51, False, False),
        (b"min-fresh=20", 40, True, True),
        (b"min-fresh=20", 41, False, False),
        (b"min-fresh=20, max-stale", 70, False, False),
        (b"only-if-cached", 61, False, True),
    ],
)
def test_what_may_be_given(control: bytes, age_s: float, fresh_only: bool, failing: bool) -> None:
    """In good times what the request allows; when no target answers, stale answers too, unless it says otherwise."""
    asked = read(control)
    assert allows(asked, age_s=age_s, ttl_s=60, stale_s=100, failing=False) is fresh_only
    assert allows(asked, age_s=age_s, ttl_s=60, stale_s=100, failing=True) is failing


@given(
    control=st.binary(max_size=60)
    | st.from_regex(rb"(max-stale|max-age=[0-9]{1,4}|no-cache|min-fresh=9)(, max-stale)?"),
    age_s=st.floats(0, 1e4),
    failing=st.booleans(),
)
def test_no_request_goes_beyond_the_operators_limit(control: bytes, age_s: float, failing: bool) -> None:
    """Whatever it says; and failing never allows less."""
    asked = read(control)
    given_ = allows(asked, age_s=age_s, ttl_s=60, stale_s=100, failing=failing)
    assert not (given_ and age_s > 160)
    assert given_ or not (failing and allows(asked, age_s=age_s, ttl_s=60, stale_s=100, failing=False))
