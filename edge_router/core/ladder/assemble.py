"""The whole answer that a stream said, where it can be told exactly.

Deltas of text are joined, what the first and the last events say of the answer is taken over. Anything else in an event
(tool calls, reasoning, refusals, citations, log probabilities) makes the answer None: it is not guessed at. A stream of
OpenAI's chat has its usage only when that was asked for; without it the whole has none either.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from edge_router.core.decoding import UNREADABLE
from edge_router.core.endpoints import Kind
from edge_router.core.ladder.call import GEMINI
from edge_router.core.sse import EVENT_END, LINE_END

Event = dict[str, Any]
_DECODE: Final = msgspec.json.Decoder(dict[str, Any])


class _Inexact(Exception):
    """An event says something that the parts here cannot hold."""


def assemble(kind: str, content: bytes) -> Event | None:
    """The answer that the events in `content` say, from the first to the dialect's end; None where that is not
    exactly known."""
    join = _JOINS.get(kind)
    if join is None:
        return None
    try:
        return join(events_of(content))
    except (_Inexact, KeyError, IndexError, TypeError, AttributeError, ValueError, *UNREADABLE):
        return None


def events_of(content: bytes) -> Iterator[Event]:
    """The JSON of each event in a stream's bytes. Raises what is in UNREADABLE."""
    for event in EVENT_END.split(content):
        lines = LINE_END.sub(b"\n", event).split(b"\n")
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if data and data != [b"[DONE]"]:
            yield _DECODE.decode(b"\n".join(data))


def _only(members: Mapping[str, Any], *known: str) -> None:
    for name, value in members.items():
        if name not in known and value not in (None, [], {}, ""):
            raise _Inexact


def _of_chunks(
    events: Iterator[Event],
    *,
    kind: str,
    take: Callable[[Event], tuple[str, str]],
    put: Callable[[str, str], Event],
) -> Event:
    """OpenAI's two older endpoints. `take` gives the text of a chunk's choice and its role."""
    whole: Event = {}
    texts: dict[int, list[str]] = {}
    roles: dict[int, str] = {}
    finish: dict[int, str] = {}
    usage = None
    for event in events:
        choices = event.pop("choices")
        usage = event.pop("usage", None) or usage
        event.pop("obfuscation", None)  # padding against listeners who count bytes
        whole = {**event, **whole}
        for choice in choices:
            index = choice["index"]
            text, role = take(choice)
            texts.setdefault(index, []).append(text)
            roles[index] = role or roles.get(index, "")
            finish[index] = choice.get("finish_reason") or finish.get(index, "")
    if not finish or not all(finish.values()):
        raise _Inexact
    whole["object"] = kind
    whole["choices"] = [
        {"index": index, **put("".join(texts[index]), roles[index]), "finish_reason": finish[index]}
        for index in sorted(texts)
    ]
    return whole if usage is None else whole | {"usage": usage}


def _chat(events: Iterator[Event]) -> Event:
    def take(choice: Event) -> tuple[str, str]:
        _only(choice, "index", "delta", "finish_reason", "content_filter_results")
        delta = choice["delta"]
        _only(delta, "role", "content")
        return delta.get("content") or "", delta.get("role") or ""

    def put(text: str, role: str) -> Event:
        return {"message": {"role": role or "assistant", "content": text}}

    return _of_chunks(events, kind="chat.completion", take=take, put=put)


def _completions(events: Iterator[Event]) -> Event:
    def take(choice: Event) -> tuple[str, str]:
        _only(choice, "index", "text", "finish_reason")
        return choice.get("text") or "", ""

    return _of_chunks(
        events, kind="text_completion", take=take, put=lambda text, _role: {"text": text, "logprobs": None}
    )


def _messages(events: Iterator[Event]) -> Event:
    message: Event = {}
    texts: list[list[str]] = []
    ended = False
    for event in events:
        kind = event["type"]
        if kind == "message_start":
            message = event["message"]
        elif kind == "content_block_start":
            block = event["content_block"]
            _only(block, "type", "text")
            if block["type"] != "text" or event["index"] != len(texts):
                raise _Inexact
            texts.append([block["text"]])
        elif kind == "content_block_delta":
            if event["delta"]["type"] != "text_delta":
                raise _Inexact
            texts[event["index"]].append(event["delta"]["text"])
        elif kind == "message_delta":
            message |= event["delta"]
            message["usage"] = {**message["usage"], **(event.get("usage") or {})}
        elif kind == "message_stop":
            ended = True
        elif kind not in ("ping", "content_block_stop"):
            raise _Inexact
    if not ended or not message["stop_reason"]:
        raise _Inexact
    message["content"] = [{"type": "text", "text": "".join(text)} for text in texts]
    return message


def _responses(events: Iterator[Event]) -> Event:
    """Its last event holds the whole."""
    last: Event = {}
    for event in events:
        last = event
    if last.get("type") != "response.completed":
        raise _Inexact
    response: Event = last["response"]
    return response


def _gemini(events: Iterator[Event]) -> Event:
    whole: Event = {}
    text: list[str] = []
    finish = role = ""
    for event in events:
        candidates = event.pop("candidates", [])
        whole |= event
        for candidate in candidates:
            _only(candidate, "index", "content", "finishReason", "safetyRatings", "avgLogprobs", "tokenCount")
            if candidate.get("index"):
                raise _Inexact
            content = candidate.get("content") or {}
            for part in content.get("parts", ()):
                _only(part, "text")
                text.append(part["text"])
            role = content.get("role", role)
            finish = candidate.get("finishReason", finish)
    if not finish:
        raise _Inexact
    content = {"parts": [{"text": "".join(text)}], "role": role or "model"}
    whole["candidates"] = [{"content": content, "finishReason": finish, "index": 0}]
    return whole


_JOINS: Final[Mapping[str, Callable[[Iterator[Event]], Event]]] = {
    Kind.CHAT: _chat,
    Kind.COMPLETIONS: _completions,
    Kind.RESPONSES: _responses,
    Kind.MESSAGES: _messages,
    GEMINI: _gemini,
}
