"""Who is ahead of etcd: the question that keeps versions rising across a restore."""

import pytest

from control_plane.loops.seen import MAX_GENERATION, Seen, check_ack
from control_plane.ports import Implausible
from shared.vocabulary.base import NO_VERSION, Version
from tests.support.still_replica import ack


def test_nobody_is_ahead_of_an_untouched_history() -> None:
    """Edges that serve the head, an older version, or nothing yet."""
    seen = Seen()
    assert not seen.ahead(NO_VERSION, None)
    for version in (Version(1, 0), Version(1, 7), Version(1, 9)):
        seen.ack(ack(generation=version.generation, seq=version.seq))
        assert not seen.ahead(Version(1, 9), "a" * 64)


def test_a_greater_version_is_ahead() -> None:
    """By sequence, by generation, and by what the edge once held across restarts."""
    for claim in (
        {"seq": 10},
        {"generation": 2, "seq": 1},
        {"seq": 3, "seen_generation": 1, "seen_seq": 10},
    ):
        seen = Seen()
        seen.ack(ack(**claim))
        assert seen.ahead(Version(1, 9), "a" * 64)


def test_the_same_version_with_another_content_is_ahead() -> None:
    """Two histories have met at one number."""
    seen = Seen()
    seen.ack(ack(seq=9, head_sha="b" * 64))
    assert seen.ahead(Version(1, 9), "a" * 64)
    seen.ack(ack(seq=9, head_sha="a" * 64))
    assert not seen.ahead(Version(1, 9), "a" * 64)


def test_a_history_that_cannot_be_is_refused() -> None:
    """Raising above it would never end."""
    check_ack(ack(generation=MAX_GENERATION))
    for claim in ({"generation": MAX_GENERATION + 1}, {"seen_generation": 2**53}):
        with pytest.raises(Implausible):
            check_ack(ack(**claim))


def test_configuration_versions_only_rise_and_within_reason() -> None:
    """The greatest that anybody works by; absurd ones are ignored."""
    seen = Seen()
    for version in (3, 2, 2**50):
        seen.config(version)
    assert seen.config_version == 3
