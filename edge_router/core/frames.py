"""What the parent of an edge and its workers say to each other, and how it is framed on the line between them.

A frame is its length (four bytes, big-endian) and one message in MessagePack. The line is a socket pair that
nobody else can reach; still, a frame longer than `MAX_FRAME_BYTES` or one that cannot be read ends the worker,
for whatever follows it would be misread. No secret is ever in a message: a worker resolves the references of the
node file itself.
"""

from typing import Final

import msgspec

from edge_router.core.merge import LoadPart, TargetPart
from edge_router.core.series import Family

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""A fleet of 10,000 targets and 1,000 routes is some 3 MB."""
HEAD_BYTES: Final = 4


class BadFrame(ValueError):
    """What came is no frame of ours."""


# ---------------------------------------------------------------- from the parent


class Start(msgspec.Struct, tag=True):
    """The first word: who the worker is, and where it is to listen."""

    node: bytes
    """The node file's `node`, as JSON: references to secrets, never secrets."""
    index: int
    of: int
    host: str
    port: int
    mode: str


class Hand(msgspec.Struct, tag=True):
    """What to serve by: what differs from the hand before, everything in the first. Answered by `Serves`."""

    number: int
    head: tuple[int, int]
    """Generation and seq; 0.0 for the configuration's own order."""
    config: bytes | None
    """A FleetConfig without the tuples of its fleet; None for the one before."""
    lists: dict[str, list[bytes]]
    """Those tuples by the fleet's field, in pieces that are short to read, each a JSON array."""
    documents: dict[str, bytes]
    """Decisions by route: new ones and changed ones."""
    gone: list[str]
    """Routes that have none any more."""
    applied_in: str | None = None
    """The span by which the decision came into force."""


class Listen(msgspec.Struct, tag=True):
    """Listen from now on: what was handed is the newest. Answered by `Listening` or `CannotListen`."""


class Word(msgspec.Struct, tag=True):
    """The parent lives; told several times in a second's time, and at once when the mode changes."""

    mode: str


class FaultOrder(msgspec.Struct, array_like=True):
    """One fault of a drill, in force until `until` (monotonic)."""

    name: str
    order: bytes
    """FilterOrder, as JSON."""
    until: float


class Faults(msgspec.Struct, tag=True):
    """All faults in force; those that are not here are over."""

    orders: list[FaultOrder]


class Spare(msgspec.Struct, tag=True):
    """Targets that said they are at their limit, to another worker."""

    until: dict[str, tuple[float, float]]
    """Until when they are spared, and until when their account counts as having no quota left; monotonic."""


class Measure(msgspec.Struct, tag=True):
    """Asks for `Figures` now."""

    number: int


class Drain(msgspec.Struct, tag=True):
    """Accept no more, let requests finish within `timeout_s`, say `Figures` once more, and end."""

    timeout_s: float


FromParent = Start | Hand | Listen | Word | Faults | Spare | Measure | Drain

# ---------------------------------------------------------------- from a worker


class Serves(msgspec.Struct, tag=True):
    """Hand `number` is what new requests are served by."""

    number: int
    took_s: float
    """From the hand's arrival."""


class Listening(msgspec.Struct, tag=True):
    """Connections are accepted."""


class CannotListen(msgspec.Struct, tag=True):
    """The address could not be bound; the worker ends."""

    errno: int
    text: str


class Missing(msgspec.Struct, tag=True):
    """Credentials that could not be resolved, by name, with the reason; empty when all could."""

    problems: dict[str, str]


class Report(msgspec.Struct, tag=True):
    """What a worker sees, as absolute state: of a report that is lost nothing is missed."""

    targets: list[TargetPart]
    loads: list[LoadPart]
    turned: bool
    """It has just ejected a target."""
    connections: int
    active: int
    upstream_connections: int
    cpu_s: float
    rss_bytes: int
    lag_s: float
    struck: dict[str, int]
    """Attempts that each fault of a drill has struck."""


class Figures(msgspec.Struct, tag=True):
    """Its metrics; `number` is that of the `Measure` it answers, 0 when nobody asked."""

    number: int
    families: list[Family]


FromWorker = Serves | Listening | CannotListen | Missing | Report | Figures

# ---------------------------------------------------------------- framing

_encoder: Final = msgspec.msgpack.Encoder()
from_parent: Final[msgspec.msgpack.Decoder[FromParent]] = msgspec.msgpack.Decoder(FromParent)
from_worker: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)


def framed(message: FromParent | FromWorker) -> bytes:
    """`message` as one frame. Raises BadFrame when it is too long."""
    content = _encoder.encode(message)
    if len(content) > MAX_FRAME_BYTES:
        raise BadFrame(f"{type(message).__name__} of {len(content)} bytes")
    return len(content).to_bytes(HEAD_BYTES, "big") + content


class Frames:
    """Takes frames out of what is read, in pieces of any size. Mutable; one per line."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The contents of the frames that are complete now. Raises BadFrame."""
        buffer = self._buffer
        buffer += data
        contents = []
        at = 0
        while len(buffer) - at >= HEAD_BYTES:
            length = int.from_bytes(buffer[at : at + HEAD_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise BadFrame(f"a frame of {length} bytes")
            end = at + HEAD_BYTES + length
            if len(buffer) < end:
                break
            contents.append(bytes(buffer[at + HEAD_BYTES : end]))
            at = end
        del buffer[:at]
        return contents
