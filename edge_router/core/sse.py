"""Server-sent events of model streams: framed, checked, and known for what they mean.

The bytes of an event are passed on as they came; reading only decides *whether*. A reader answers:
    substance   has anything of an answer come? Role-only deltas, `message_start` and pings have none: until
                then the request may still move, so those are held back
    finished    has the model said that it is done (a finish reason for every choice)?
    ended       has the dialect's last event come? Only then, or after `finished`, may a stream end cleanly
    error       has the target sent an error event in-band?
    fault       an event that is not what the dialect promises: GARBLED, nothing after it is passed on

Field sources: OpenAI "Chat Completions: streaming" and "Responses: streaming events", Anthropic "Streaming
Messages", Gemini "GenerateContentResponse". Cost: about 1 us per event (one find, one msgspec decode that skips all
but four fields).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from edge_router.core.decoding import UNREADABLE, is_utf8
from edge_router.core.endpoints import Kind

MAX_EVENT_BYTES: Final = 1024 * 1024


class EventReader:
    """One stream. Not reusable."""

    __slots__ = ("_choices", "_done", "_read", "_rest", "ended", "error", "fault", "finished", "substance")

    def __init__(self, kind: Kind, *, choices: int = 1) -> None:
        self.substance = False
        self.finished = False
        self.ended = False
        self.error = ""
        self.fault = ""
        self._rest = b""
        self._choices = choices
        self._done: set[int] = set()
        self._read: Callable[[EventReader, str, bytes], None] = _READERS[kind]

    def feed(self, data: bytes) -> bytes:
        """The whole events in what has come so far, ready to be passed on; a part of one is kept.

        After `fault` is set, what is returned is all that may still be passed on. What comes behind the dialect's last
        event is no part of the answer, and dropped.
        """
        if self.ended:
            return b""
        if self._rest:
            data = self._rest + data
        if b"\r" in data:
            return self._feed_any_ends(data)
        cut = data.rfind(b"\n\n") + 2
        if cut < 2:
            return self._keep(data)
        start = 0
        while start < cut:
            end = data.find(b"\n\n", start)
            if not self._event(data[start:end]):
                self._rest = b""
                return data[:start]
            start = end + 2
        self._rest = data[cut:] if cut < len(data) else b""
        return data if not self._rest else data[:cut]

    @property
    def ordinary(self) -> bool:
        """Whether the answer is under way and whole so far: one more event of the same form changes nothing."""
        return self.substance and not (self.finished or self.ended or self.error or self.fault or self._rest)

    @property
    def partial(self) -> bool:
        """Whether an event has begun and not ended."""
        return not self.ended and bool(self._rest.strip())

    def _finish(self, index: int) -> None:
        """One choice is done. Of others than were asked for it says nothing."""
        if 0 <= index < self._choices:
            self._done.add(index)
        self.finished = len(self._done) >= self._choices
        self.substance = True

    def _feed_any_ends(self, data: bytes) -> bytes:
        """The same for streams that end lines with CR LF or CR (WHATWG HTML, section 9.2.5)."""
        start = cut = 0
        # A CR at the very end may be half of a line end.
        for end in EVENT_END.finditer(data, 0, len(data) - data.endswith(b"\r")):
            if not self._event(LINE_END.sub(b"\n", data[start : end.start()])):
                self._rest = b""
                return data[:cut]
            start = cut = end.end()
        return data[:cut] + self._keep(data[cut:])

    def _keep(self, rest: bytes) -> bytes:
        self._rest = rest
        if len(rest) > MAX_EVENT_BYTES:
            self.fault = f"an event of more than {MAX_EVENT_BYTES} bytes"
            self._rest = b""
        return b""

    def _event(self, event: bytes) -> bool:
        """Read one event; False when nothing from it on may be passed."""
        if self.ended:
            return False
        if not event.isascii() and not is_utf8(event):
            self.fault = "an event that is not UTF-8"
            return False
        if event.startswith(b"data: ") and b"\n" not in event:
            name, data = "", event[6:]
        else:
            name, data = fields_of(event)
            if not data:
                return True
        if data == b"[DONE]":
            if not self.finished:
                # Passed on, it would make an answer that stopped anywhere look like a whole one.
                self.fault = "[DONE] before any finish reason"
                return False
            self.ended = True
            return True
        try:
            self._read(self, name, data)
        except UNREADABLE as error:
            self.fault = f"an event that is not the dialect's JSON: {error}"
            return False
        except _OutOfPlace as error:
            self.fault = str(error)
            return False
        return True


class _OutOfPlace(Exception):
    """A well-formed event that must not come here."""


EVENT_END: Final = re.compile(rb"\r\n\r\n|\r\n\n|\n\r\n|\n\n|\r\r")
LINE_END: Final = re.compile(rb"\r\n?")


def fields_of(event: bytes) -> tuple[str, bytes]:
    """Name and data of an event of several lines; comments and other fields are skipped."""
    name = ""
    data = []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return name, b"\n".join(data)


# ---------------------------------------------------------------- OpenAI: chat and completions


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None
    delta: msgspec.Raw = msgspec.Raw()
    text: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_DELTA: Final = msgspec.json.Decoder(dict[str, Any])


def _read_chunk(reader: EventReader, _name: str, data: bytes) -> None:
    chunk = _CHUNK.decode(data)
    if chunk.error is not None:
        reader.error = _error_code(chunk.error)
        return
    for choice in chunk.choices:
        if choice.finish_reason:
            reader._finish(choice.index)
        elif not reader.substance:
            reader.substance = bool(choice.text) or _delta_says(choice.delta)


def _delta_says(raw: msgspec.Raw) -> bool:
    """Whether a delta holds anything of an answer: any field but the role that is not empty."""
    if not bytes(raw):
        return False
    return any(value and name != "role" for name, value in _DELTA.decode(raw).items())


# ---------------------------------------------------------------- OpenAI: responses


class _Typed(msgspec.Struct):
    type: str = ""
    error: Any = None
    delta: Any = None
    code: Any = None


_TYPED: Final = msgspec.json.Decoder(_Typed)
_RESPONSE_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_RESPONSE_PREAMBLE: Final = frozenset(
    {"response.created", "response.in_progress", "response.queued", "response.output_item.added"}
    | {"response.content_part.added", "keepalive"}
)


def _read_response_event(reader: EventReader, name: str, data: bytes) -> None:
    event = _TYPED.decode(data)
    kind = event.type or name
    if kind == "error":
        reader.error = _error_code(event.error if event.error is not None else {"code": event.code})
    elif kind in _RESPONSE_ENDS:
        reader.substance = reader.finished = reader.ended = True
    elif kind not in _RESPONSE_PREAMBLE:
        reader.substance = True


# ---------------------------------------------------------------- Anthropic: messages


def _read_message_event(reader: EventReader, name: str, data: bytes) -> None:
    event = _TYPED.decode(data)
    kind = event.type or name
    if kind == "error":
        reader.error = _error_code(event.error)
    elif kind == "message_stop":
        if not reader.finished:
            raise _OutOfPlace("message_stop before any stop reason")
        reader.substance = reader.finished = reader.ended = True
    elif kind == "message_delta":
        reader.substance = True
        if isinstance(event.delta, dict) and event.delta.get("stop_reason"):
            reader.finished = True
    elif kind not in ("ping", "message_start", "content_block_start"):
        reader.substance = True


# ---------------------------------------------------------------- Gemini: generateContent


class _Parts(msgspec.Struct):
    parts: list[msgspec.Raw] = []


class _Candidate(msgspec.Struct, rename="camel"):
    index: int = 0
    finish_reason: str | None = None
    content: _Parts | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Generated(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    error: Any = None


_GENERATED: Final = msgspec.json.Decoder(_Generated)
_UNFINISHED: Final = (None, "", "FINISH_REASON_UNSPECIFIED")
_EMPTY_TEXT: Final = re.compile(rb'\s*\{\s*(?:"text"\s*:\s*""\s*)?\}\s*')


def _read_generated(reader: EventReader, _name: str, data: bytes) -> None:
    event = _GENERATED.decode(data)
    if event.error is not None:
        reader.error = _error_code(event.error)
        return
    if event.prompt_feedback is not None and event.prompt_feedback.block_reason:
        # The prompt was refused: that is the answer, and there are no candidates.
        reader.substance = reader.finished = True
    for candidate in event.candidates:
        if candidate.finish_reason not in _UNFINISHED:
            reader._finish(candidate.index)
        elif not reader.substance and candidate.content is not None:
            parts = candidate.content.parts
            reader.substance = any(_EMPTY_TEXT.fullmatch(part) is None for part in parts)


def _error_code(error: Any) -> str:
    """The type, status or code of an in-band error, `error` when it has none."""
    if isinstance(error, dict):
        for field in ("type", "status", "code"):
            if isinstance(error.get(field), str):
                return str(error[field])
    return "error"


_READERS: Final[Mapping[Kind, Callable[[EventReader, str, bytes], None]]] = {
    Kind.CHAT: _read_chunk,
    Kind.COMPLETIONS: _read_chunk,
    Kind.RESPONSES: _read_response_event,
    Kind.MESSAGES: _read_message_event,
    Kind.GEMINI: _read_generated,
}
