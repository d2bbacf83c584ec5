"""A whole answer as a stream of its dialect: the events that a client reads the same answer from.

Only where nothing is lost: an answer with anything but text in it (a tool call, a refusal, reasoning, citations) has no
stream here. Events and their order: OpenAI "Chat Completions: streaming", "Responses: streaming events",
Anthropic "Streaming Messages", Gemini "streamGenerateContent" (one event holds the whole).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from edge_router.core.endpoints import Kind
from edge_router.core.ladder.call import GEMINI

Answer = Mapping[str, Any]


class _Lossy(Exception):
    """There is something in the answer that these events cannot say."""


def stream(kind: str, answer: Answer, *, usage: bool) -> bytes | None:
    """The events of `answer`, the dialect's end included; `usage`: OpenAI's extra event with it was asked for.
    None where they would not say all of it."""
    events = _STREAMS.get(kind)
    if events is None:
        return None
    try:
        return b"".join(events(answer, usage))
    except (_Lossy, KeyError, IndexError, TypeError, AttributeError):
        return None  # not the shape that the dialect promises


def _only(members: Mapping[str, Any], *known: str) -> None:
    """Raises _Lossy when there is more in `members`: anything that is neither empty nor null."""
    for name, value in members.items():
        if name not in known and value not in (None, [], {}, ""):
            raise _Lossy


def _bare(event: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(event)


def _named(event: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))


_DONE: Final = b"data: [DONE]\n\n"


def _chunked(
    answer: Answer, usage: bool, *, kind: str, deltas: Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]
) -> Iterator[bytes]:
    head = {name: value for name, value in answer.items() if name not in ("choices", "usage")} | {
        "object": kind
    }
    more = {"usage": None} if usage else {}
    for choice in answer["choices"]:
        for delta in deltas(choice):
            yield _bare({**head, "choices": [{"index": choice["index"], **delta}], **more})
    if usage:
        told = answer.get("usage")
        if told is None:
            raise _Lossy
        yield _bare({**head, "choices": [], "usage": told})
    yield _DONE


def _chat(answer: Answer, usage: bool) -> Iterator[bytes]:
    def deltas(choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        _only(choice, "index", "message", "finish_reason")
        message = choice["message"]
        _only(message, "role", "content")
        plain: dict[str, Any] = {"logprobs": None, "finish_reason": None}
        yield {"delta": {"role": "assistant", "content": ""}, **plain}
        if message["content"]:
            yield {"delta": {"content": message["content"]}, **plain}
        yield {"delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}

    return _chunked(answer, usage, kind="chat.completion.chunk", deltas=deltas)


def _completions(answer: Answer, usage: bool) -> Iterator[bytes]:
    def deltas(choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        _only(choice, "index", "text", "finish_reason")
        if choice["text"]:
            yield {"text": choice["text"], "logprobs": None, "finish_reason": None}
        yield {"text": "", "logprobs": None, "finish_reason": choice["finish_reason"]}

    return _chunked(answer, usage, kind="text_completion", deltas=deltas)


def _messages(answer: Answer, _usage: bool) -> Iterator[bytes]:
    usage = answer["usage"]
    begun = {
        **answer,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 0},
    }
    yield _named({"type": "message_start", "message": begun})
    for index, block in enumerate(answer["content"]):
        _only(block, "type", "text")
        if block["type"] != "text":
            raise _Lossy
        empty = {"type": "text", "text": ""}
        yield _named({"type": "content_block_start", "index": index, "content_block": empty})
        delta = {"type": "text_delta", "text": block["text"]}
        yield _named({"type": "content_block_delta", "index": index, "delta": delta})
        yield _named({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": answer["stop_reason"], "stop_sequence": answer.get("stop_sequence")}
    yield _named(
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": usage["output_tokens"]}}
    )
    yield _named({"type": "message_stop"})


def _responses(answer: Answer, _usage: bool) -> Iterator[bytes]:
    if answer["status"] != "completed":
        raise _Lossy
    number = iter(range(1_000_000))

    def event(kind: str, **members: Any) -> bytes:
        return _named({"type": kind, "sequence_number": next(number), **members})

    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for place, item in enumerate(answer["output"]):
        if item["type"] != "message":
            raise _Lossy
        _only(item, "type", "id", "status", "role", "content", "phase")
        started = {**item, "status": "in_progress", "content": []}
        yield event("response.output_item.added", output_index=place, item=started)
        for index, part in enumerate(item["content"]):
            if part["type"] != "output_text":
                raise _Lossy
            _only(part, "type", "text")
            at = {"item_id": item["id"], "output_index": place, "content_index": index}
            empty = {**part, "text": ""}
            yield event("response.content_part.added", **at, part=empty)
            yield event("response.output_text.delta", **at, delta=part["text"], logprobs=[])
            yield event("response.output_text.done", **at, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **at, part=part)
        yield event("response.output_item.done", output_index=place, item=item)
    yield event("response.completed", response=answer)


def _gemini(answer: Answer, _usage: bool) -> Iterator[bytes]:
    yield _bare(answer)


_STREAMS: Final[Mapping[str, Callable[[Answer, bool], Iterator[bytes]]]] = {
    Kind.CHAT: _chat,
    Kind.COMPLETIONS: _completions,
    Kind.RESPONSES: _responses,
    Kind.MESSAGES: _messages,
    GEMINI: _gemini,
}
