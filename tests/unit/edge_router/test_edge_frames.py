"""What parent and workers say to each other survives any way in which it is cut into pieces."""

import random

import msgspec
import pytest

from edge_router.core.frames import (
    MAX_FRAME_BYTES,
    BadFrame,
    Drain,
    FaultOrder,
    Faults,
    Figures,
    Frames,
    Hand,
    Listen,
    Report,
    Serves,
    Spare,
    Word,
    framed,
    from_parent,
    from_worker,
)
from edge_router.core.merge import LoadPart, TargetPart
from edge_router.core.series import Family
from edge_router.core.window import Bins
from shared.vocabulary.terms import Outcome

TO_WORKER = [
    Word("FRESH"),
    Hand(3, (1, 7), b"{}", {"targets": [b"[]", b"[1]"]}, {"chat": b"{}"}, ["gone"], "00-a-b-01"),
    Listen(),
    Faults([FaultOrder("f", b"{}", 12.5)]),
    Drain(2.5),
    Spare({"t": (12.5, 0.0)}),
]
TO_PARENT = [
    Serves(3, 0.001),
    Report(
        targets=[
            TargetPart(
                "t",
                10.0,
                Bins({Outcome.OK: 2}, {12: 2}, {9: 1}, 4.25, None),
                1,
                "EJECTED",
                3,
                9.5,
                0.0,
                10,
                1,
            )
        ],
        loads=[LoadPart("chat", 0.5, 3, 1, 10.0)],
        turned=True,
        connections=1,
        active=2,
        upstream_connections=3,
        cpu_s=0.5,
        rss_bytes=10,
        lag_s=0.0,
        struck={"f": 1},
    ),
    Figures(0, [Family("c", "text", "counter", {("c_total", (("route", "a"),)): 1.0})]),
]


@pytest.mark.parametrize("seed", range(20))
def test_frames_come_out_as_they_went_in_however_they_are_cut(seed: int) -> None:
    """One byte at a time, several frames at once, and everything between."""
    rng = random.Random(seed)
    sent = [rng.choice(TO_WORKER) for _ in range(30)]
    wire = b"".join(framed(message) for message in sent)
    frames, got = Frames(), []
    at = 0
    while at < len(wire):
        size = rng.choice([1, 2, 3, 5, 40, 4096])
        got += [from_parent.decode(content) for content in frames.feed(wire[at : at + size])]
        at += size
    assert got == sent


def test_every_message_of_a_worker_is_read_as_it_was_meant() -> None:
    """Bins by number, labels as pairs, outcomes as outcomes."""
    frames = Frames()
    for message in TO_PARENT:
        (content,) = frames.feed(framed(message))
        assert from_worker.decode(content) == message


def test_what_is_no_frame_is_refused() -> None:
    """An absurd length at once, before anything of it is kept; a foreign message when it is read."""
    with pytest.raises(BadFrame):
        Frames().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    (content,) = Frames().feed(framed(Serves(1, 0.0)))
    with pytest.raises(msgspec.DecodeError):
        from_parent.decode(content)
