"""What Gemini's generateContent answers, whole and as a stream.

Sources: Gemini API reference, "GenerateContentResponse", "Candidate" (FinishReason), "UsageMetadata"; guides "Function
calling" and "Thinking".

    stop         STOP is said of a turn that ends in calls too. A reason that is no ordinary end (OTHER, a malformed
                 call) is no answer: the others have no word for it, and `stop` would be a lie
    calls        come whole, and have an id only in newer versions of the API: without one, the answer's id, the
                 call's place and content make one, the same however the stream is cut
    usage        `candidatesTokenCount` is without thinking; the neutral form and the others count it in
    thinking     written for a client that has asked for it (`includeThoughts`), without a signature
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from edge_router.core.dialects.failures import Envelope, failure_of, write_event
from edge_router.core.dialects.neutral import (
    Answer,
    Arguments,
    Begun,
    Call,
    Calls,
    Counted,
    Delta,
    Failure,
    Garbled,
    Part,
    Request,
    Said,
    Stop,
    Stopped,
    Text,
    Thinking,
    Thought,
    Usage,
    as_json,
    object_text,
    raw,
)

READ_STOPS: Final[Mapping[str, Stop]] = {
    "STOP": Stop.END,
    "MAX_TOKENS": Stop.LENGTH,
    "SAFETY": Stop.FILTERED,
    "RECITATION": Stop.FILTERED,
    "LANGUAGE": Stop.FILTERED,
    "BLOCKLIST": Stop.FILTERED,
    "PROHIBITED_CONTENT": Stop.FILTERED,
    "SPII": Stop.FILTERED,
    "IMAGE_SAFETY": Stop.FILTERED,
    "MODEL_ARMOR": Stop.FILTERED,
}
_UNFINISHED: Final = (None, "FINISH_REASON_UNSPECIFIED")
WRITE_STOPS: Final[Mapping[Stop, str]] = {
    Stop.END: "STOP",
    Stop.SEQUENCE: "STOP",
    Stop.LENGTH: "MAX_TOKENS",
    Stop.CALLS: "STOP",
    Stop.FILTERED: "SAFETY",
}


class _Call(msgspec.Struct):
    name: str = ""
    id: str | None = None
    args: dict[str, Any] | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_call: _Call | None = None
    inline_data: Any = None
    executable_code: Any = None
    code_execution_result: Any = None


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    index: int = 0
    content: _Content | None = None
    finish_reason: str | None = None


class _Blocked(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class _Document(msgspec.Struct, rename="camel"):
    """A response or a piece of one."""

    response_id: str | None = None
    model_version: str | None = None
    candidates: list[_Candidate] = []
    prompt_feedback: _Blocked | None = None
    usage_metadata: _Usage | None = None
    error: Any = None


_DOCUMENT: Final = msgspec.json.Decoder(_Document)


def read_usage(told: _Usage | None) -> Usage:
    """Tokens; what is not said is 0."""
    if told is None:
        return Usage()
    thought = told.thoughts_token_count or 0
    return Usage(
        read=(told.prompt_token_count or 0) + (told.tool_use_prompt_token_count or 0),
        written=(told.candidates_token_count or 0) + thought,
        cache_read=told.cached_content_token_count or 0,
        thought=thought,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """The `usageMetadata` object."""
    candidates = max(0, usage.written - usage.thought)
    said = {
        "promptTokenCount": usage.read,
        "candidatesTokenCount": candidates,
        "totalTokenCount": usage.read + candidates + usage.thought,
    }
    if usage.thought:
        said["thoughtsTokenCount"] = usage.thought
    if usage.cache_read:
        said["cachedContentTokenCount"] = usage.cache_read
    return said


def read(content: bytes) -> Answer:
    """Raises Garbled, or msgspec.DecodeError."""
    steps = list(Reader().read("", content))
    parts: list[Part] = []
    begun, stop, usage = Begun("", ""), Stop.END, Usage()
    for step in steps:
        match step:
            case Begun():
                begun = step
            case Said(text):
                parts.append(Text(text=text))
            case Thought(text):
                parts.append(Thinking(text=text))
            case Calls(_, name_id, name):
                parts.append(Call(id=name_id, name=name, arguments="{}"))
            case Arguments(_, text):
                parts[-1] = msgspec.structs.replace(parts[-1], arguments=text)
            case Stopped():
                stop = step.stop
            case Counted():
                usage = step.usage
            case Failure():
                raise Garbled(step.message)
    return Answer(id=begun.id, model=begun.model, parts=tuple(parts), stop=stop, usage=usage)


def write(answer: Answer, request: Request, created: int) -> bytes:
    """The response."""
    parts: list[dict[str, Any]] = []
    for part in answer.parts:
        match part:
            case Text(text=text):
                parts.append({"text": text})
            case Thinking(text=text):
                if request.show_thinking:
                    parts.append({"text": text, "thought": True})
            case Call():
                parts.append(_call(part.id, part.name, part.arguments))
            case _:
                raise Garbled("an image in an answer has no translation")
    candidate = {"content": {"role": "model", "parts": parts or [{"text": ""}]}, "index": 0}
    return msgspec.json.encode(
        {
            "candidates": [{**candidate, "finishReason": WRITE_STOPS[answer.stop]}],
            "usageMetadata": write_usage(answer.usage),
            "modelVersion": answer.model,
            "responseId": answer.id,
        }
    )


def _call(name_id: str, name: str, arguments: str) -> dict[str, Any]:
    try:
        args = raw(object_text(arguments, f"what the model would call {name} with"))
    except ValueError as error:
        raise Garbled(str(error)) from None
    return {"functionCall": {"id": name_id, "name": name, "args": args}}


class Reader:
    """A stream of responses, each of which holds what is new."""

    def __init__(self) -> None:
        self._begun = False
        self._id = ""
        self._calls = 0

    def read(self, _name: str, data: bytes) -> Iterator[Delta]:
        """What one event says. Raises Garbled."""
        told = _DOCUMENT.decode(data)
        if told.error is not None:
            yield failure_of(told.error) or Failure("", "the target ended its answer with an error")
            return
        if not self._begun:
            self._begun = True
            self._id = told.response_id or ""
            yield Begun(self._id, told.model_version or "")
        for candidate in told.candidates:
            if candidate.index:
                raise Garbled("a second candidate where one was asked for")
            for part in candidate.content.parts if candidate.content is not None else ():
                yield from self._part(part)
            if candidate.finish_reason not in _UNFINISHED:
                yield Stopped(self._stop(candidate.finish_reason))
        if told.prompt_feedback is not None and told.prompt_feedback.block_reason is not None:
            yield Stopped(Stop.FILTERED)
        if told.usage_metadata is not None:
            yield Counted(read_usage(told.usage_metadata))

    def _part(self, part: _Part) -> Iterator[Delta]:
        call = part.function_call
        if call is not None:
            if not call.name:
                raise Garbled("a call without a name")
            text = as_json(call.args or {})
            key, self._calls = self._calls, self._calls + 1
            made = f"{self._id}/{key}/{call.name}/{text}".encode()
            yield Calls(key, call.id or f"call_{hashlib.sha256(made).hexdigest()[:24]}", call.name)
            yield Arguments(key, text)
        elif part.text:
            yield Thought(part.text) if part.thought else Said(part.text)
        elif part.inline_data or part.executable_code or part.code_execution_result:
            raise Garbled("a part that is neither text nor a call has no translation")

    def _stop(self, reason: str | None) -> Stop:
        stop = READ_STOPS.get(reason or "")
        if stop is None:
            raise Garbled(f"the finish reason {str(reason)[:64]!r} has no translation")
        return Stop.CALLS if self._calls and stop is Stop.END else stop


class Writer:
    """A stream of responses."""

    def __init__(self, request: Request, created: int) -> None:
        self._thinking = bool(request.show_thinking)
        self._begun = Begun("", "")
        self._usage = Usage()
        self._stop = Stop.END
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        """By key, while arguments come: this dialect's are whole."""

    def write(self, delta: Delta) -> bytes:
        """The events that say it. Raises Garbled."""
        match delta:
            case Begun():
                self._begun = delta
            case Said(text):
                return self._flushed() + self._parts({"text": text})
            case Thought(text) if self._thinking:
                return self._flushed() + self._parts({"text": text, "thought": True})
            case Calls(key, name_id, name):
                self._calls[key] = (name_id, name, [])
            case Arguments(key, text):
                call = self._calls.get(key)
                if call is None:
                    raise Garbled("arguments of a call that is over")
                call[2].append(text)
            case Stopped(stop):
                self._stop = stop
                return self._flushed()
            case Counted(usage):
                self._usage = usage
            case Failure():
                return write_event(Envelope.GEMINI, delta)
        return b""

    def end(self) -> bytes:
        """What stands after the last step."""
        return self._event({"text": ""}, finished=True)

    def _flushed(self) -> bytes:
        calls, self._calls = self._calls, {}
        parts = [_call(name_id, name, "".join(texts)) for name_id, name, texts in calls.values()]
        return self._parts(*parts) if parts else b""

    def _parts(self, *parts: dict[str, Any]) -> bytes:
        return self._event(*parts)

    def _event(self, *parts: dict[str, Any], finished: bool = False) -> bytes:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
        if finished:
            candidate["finishReason"] = WRITE_STOPS[self._stop]
        said: dict[str, Any] = {"candidates": [candidate]}
        if finished:
            said["usageMetadata"] = write_usage(self._usage)
        said |= {"modelVersion": self._begun.model, "responseId": self._begun.id}
        return b"data: %b\n\n" % msgspec.json.encode(said)
