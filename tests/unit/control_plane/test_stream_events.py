"""What a reader of the stream must be told to hold what is in force."""

from dataclasses import replace

import pytest

from control_plane.loops.stream import MAX_READERS, differences, event
from control_plane.ports import InForce, TooManyReaders
from tests.support.replicas import World, play
from tests.support.still_replica import in_force


def names(frames: list[bytes]) -> list[str]:
    return [frame.split(b"\n")[0].removeprefix(b"event: ").decode() for frame in frames]


def test_an_event_is_one_line_of_data() -> None:
    """As the HTML standard frames it, with the head's version as its id."""
    assert event("head", b"{}", id="1.7") == b"event: head\nid: 1.7\ndata: {}\n\n"


def test_who_holds_nothing_is_told_everything() -> None:
    """Configuration before documents, documents before the head that names them."""
    assert names(list(differences(InForce(), in_force(7)))) == ["config", "decision", "head"]


def test_who_holds_it_all_is_told_nothing() -> None:
    """The same state is no news."""
    assert list(differences(in_force(7), in_force(7))) == []


def test_only_what_changed_is_told() -> None:
    """A new document with its head; a new configuration alone."""
    assert names(list(differences(in_force(7), in_force(8)))) == ["decision", "head"]
    other = replace(in_force(7), config_sha="c" * 64)
    assert names(list(differences(in_force(7), other))) == ["config"]


def test_an_older_head_is_told_too() -> None:
    """etcd went back: readers refuse it themselves, and the leader raises the generation."""
    assert names(list(differences(in_force(8), in_force(7)))) == ["decision", "head"]


def test_readers_are_bounded_before_they_read() -> None:
    """A burst that comes in before anybody has read; those that never begin free their places."""

    async def story(world: World) -> None:
        one = await world.start()
        streams = [one.replica.follow() for _ in range(MAX_READERS)]
        with pytest.raises(TooManyReaders):
            one.replica.follow()
        await streams[0].aclose()
        streams.append(one.replica.follow())
        with pytest.raises(TooManyReaders):
            one.replica.follow()
        streams.clear()
        one.replica.follow()

    play(story)
