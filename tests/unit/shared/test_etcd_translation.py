"""How etcd's answers and key ranges are put into the port's words."""

import grpc
import pytest

from shared.adapters.etcd import range_end
from shared.adapters.etcd_members import translate
from shared.ports import Refused, Unavailable


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"/leeward/", b"/leeward0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")],
)
def test_a_range_ends_after_all_keys_of_its_prefix(prefix: bytes, end: bytes) -> None:
    """The last byte counts up, carrying; where nothing is greater, the range is open (etcd's `\\0`)."""
    assert range_end(prefix) == end


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
        (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied"),
        (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found"),
    ],
)
def test_an_answer_that_will_stay_no_is_a_refusal(code: grpc.StatusCode, details: str) -> None:
    """And keeps etcd's own words."""
    meaning = translate(code, details)
    assert isinstance(meaning, Refused)
    assert details in str(meaning)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ""),
        (grpc.StatusCode.UNKNOWN, "anything"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
    ],
)
def test_everything_else_leaves_the_outcome_open(code: grpc.StatusCode, details: str) -> None:
    """A write may have happened."""
    assert isinstance(translate(code, details), Unavailable)
