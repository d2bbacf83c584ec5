"""What the edge reads of a request's body, and how the target's model name gets into it.

Everything but the value of the top-level `model` reaches the target byte for byte. Two readers may
take different ones of two equal keys, so duplicate top-level keys are refused: otherwise a client
could show the edge one model and the target another.

    cost     One scan (msgspec: 0.3 us for a small body, 0.3 ms for a MiB) checks the JSON and gives the top-level
             members. SDKs write JSON without white space, and then arithmetic does the rest: when the members'
             lengths add up to the body's, there is no room for a second pair of an equal key, nor for an escape
             in one, and the sum on the way is the place of `model`. Any other body costs a second scan that
             keeps equal keys apart, and a search.
"""

import re
from typing import Any, Final

import msgspec

from edge_router.core.decoding import is_utf8


class Unreadable(ValueError):
    """The body is not what its endpoint asks for: a client's fault, in words for the client."""


class Asked(msgspec.Struct, frozen=True):
    """What a model call asks for. `start:end` is where the model's name stands in the body, quotes included."""

    model: bytes
    """The name as JSON text, quotes included."""
    start: int
    end: int
    stream: bool
    choices: int
    """`n`: how many answers one stream carries."""
    bound: bool
    """Bound to state that one provider keeps (an earlier response, a background job): must not move."""


def read_call(body: bytes) -> Asked:
    """The call that `body` is. Raises Unreadable."""
    # In line: a call would be a tenth of what all this costs.
    if not body.isascii() and not is_utf8(body):
        raise Unreadable(_NOT_UTF8)
    try:
        members = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(error) from None
    raw = members.get("model")
    if raw is None:
        raise Unreadable("the body has no model")
    # Of each: two quotes, a colon, and a comma or the closing brace.
    whole = sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members) + 1
    if whole == len(body):
        start = 9  # behind `{"model":`
        for name, value in members.items():
            if name == "model":
                break
            start += len(name) + len(value) + 4
    else:
        start = _search(body)
    model = bytes(raw)
    if model[:1] != b'"':
        raise Unreadable("model is not a string")
    return Asked(
        model if b"\\" not in model else _plain(model),
        start,
        start + len(model),
        "stream" in members and members["stream"] == _TRUE,
        _count(members["n"]) if "n" in members else 1,
        not _STATEFUL.isdisjoint(members) and any(_meant(members.get(name)) for name in _STATEFUL),
    )


def members_of(body: bytes) -> dict[str, msgspec.Raw]:
    """The top-level members of a body that need not name a model. Raises Unreadable, also when a key is there twice."""
    if not is_utf8(body):
        raise Unreadable(_NOT_UTF8)
    try:
        members = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(error) from None
    lengths = sum(len(name) + len(value) + 4 for name, value in members.items())
    if lengths + 1 != len(body) and len(_pairs(body)) != len(members):
        raise Unreadable("the body has a top-level key twice")
    return members


def _unreadable(error: Exception) -> Unreadable:
    if isinstance(error, RecursionError):
        return Unreadable("the body is nested too deeply")
    return Unreadable(f"the body is not a JSON object: {error}")


def _pairs(body: bytes) -> "dict[_Key, msgspec.Raw]":
    """Of a body that was read once. The stack may have grown since."""
    try:
        return _PAIRS.decode(body)
    except RecursionError as error:
        raise _unreadable(error) from None


class _Key:
    """A key of its own identity, so that equal names stay two entries."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def _hook(_kind: type, name: Any) -> _Key:
    return _Key(name)


_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PAIRS: Final = msgspec.json.Decoder(dict[_Key, msgspec.Raw], dec_hook=_hook)
_TRUE: Final = msgspec.Raw(b"true")
_NULL: Final = msgspec.Raw(b"null")
_FALSE: Final = msgspec.Raw(b"false")
_STATEFUL: Final = frozenset({"previous_response_id", "conversation", "background"})
_NOT_UTF8: Final = "the body is not UTF-8"
_MODEL_KEY: Final = b'"model"'
_COLON: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_MEMBER: Final = re.compile(rb'[ \t\r\n]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_BETWEEN: Final = re.compile(rb"[ \t\r\n]*,")


def _search(body: bytes) -> int:
    """Where the value of the top-level `model` begins, in a body written with white space or escapes.
    Raises Unreadable when a key is there twice."""
    pairs = _pairs(body)
    if len({key.name for key in pairs}) != len(pairs):
        raise Unreadable("the body has a top-level key twice")
    at = body.find(_MODEL_KEY)
    if body.find(_MODEL_KEY, at + 1) < 0 <= at and b"\\u" not in body:
        # The text stands there once, and no escape can hide another: this is the key.
        colon = _COLON.match(body, at + len(_MODEL_KEY))
        if colon is not None:
            return colon.end()
    place = body.index(b"{") + 1
    for name, raw in pairs.items():
        key = _MEMBER.match(body, place)
        assert key is not None, "decoded, so it has the form of an object"
        if name.name == "model":
            return key.end()
        comma = _BETWEEN.match(body, key.end() + len(raw))
        assert comma is not None, "a member follows: model has not come yet"
        place = comma.end()
    raise AssertionError("model is one of the members")


def _plain(model: bytes) -> bytes:
    """The name as the configuration's names are written: without needless escapes. Raises Unreadable."""
    try:
        return msgspec.json.encode(msgspec.json.decode(model))
    except msgspec.DecodeError as error:
        raise Unreadable(f"model is not a string: {error}") from None


def _count(raw: msgspec.Raw) -> int:
    digits = bytes(raw)
    return min(int(digits), 1024) if digits.isdigit() and len(digits) < 10 else 1


def _meant(raw: msgspec.Raw | None) -> bool:
    return raw is not None and raw not in (_NULL, _FALSE)
