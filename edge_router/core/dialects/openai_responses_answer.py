"""What OpenAI's responses answer, whole and as a stream. Only written.

Sources: OpenAI API reference, "The response object" and "Streaming events".

    thinking     is counted (`reasoning_tokens`) and not shown: an item of reasoning that OpenAI has not written is
                 refused when it comes back with the next turn
    ids          of items are the answer's with their place; a call's `call_id` is the target's own
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from edge_router.core.dialects.failures import Envelope, write_event
from edge_router.core.dialects.neutral import (
    Answer,
    Arguments,
    Begun,
    Call,
    Calls,
    Counted,
    Delta,
    Failure,
    Format,
    Garbled,
    Request,
    Said,
    Stop,
    Stopped,
    Text,
    Thinking,
    Thought,
    Usage,
)

INCOMPLETE: Final[Mapping[Stop, str]] = {
    Stop.LENGTH: "max_output_tokens",
    Stop.FILTERED: "content_filter",
}
"""`incomplete_details.reason`; of any other stop the response is `completed`."""


def write_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object."""
    return {
        "input_tokens": usage.read,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_written,
        },
        "output_tokens": usage.written,
        "output_tokens_details": {"reasoning_tokens": usage.thought},
        "total_tokens": usage.read + usage.written,
    }


def write(answer: Answer, request: Request, created: int) -> bytes:
    """`created` is Unix time, in seconds."""
    items: list[dict[str, Any]] = []
    text: list[str] = []
    for part in answer.parts:
        match part:
            case Text():
                text.append(part.text)
            case Call():
                if text:
                    items.append(_message(_item_id("msg", answer.id, len(items)), "".join(text)))
                    text.clear()
                items.append(
                    _call(
                        _item_id("fc", answer.id, len(items)), part.id, part.name, part.arguments, "completed"
                    )
                )
            case Thinking():
                pass
            case _:
                raise Garbled("an image in an answer has no translation")
    if text or not items:
        items.append(_message(_item_id("msg", answer.id, len(items)), "".join(text)))
    begun = Begun(answer.id, answer.model)
    return msgspec.json.encode(_response(begun, request, created, items, answer.stop, answer.usage))


def _item_id(kind: str, answer: str, place: int) -> str:
    return f"{kind}_{answer}_{place}"


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(item_id: str, text: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [_text(text)],
    }


def _call(item_id: str, call_id: str, name: str, arguments: str, status: str) -> dict[str, Any]:
    called = {"id": item_id, "type": "function_call", "call_id": call_id, "name": name}
    return {**called, "arguments": arguments, "status": status}


def _response(
    begun: Begun,
    request: Request,
    created: int,
    items: list[dict[str, Any]],
    stop: Stop | None,
    usage: Usage | None,
) -> dict[str, Any]:
    """The response object; `stop` None while it is in progress."""
    reason = INCOMPLETE.get(stop) if stop is not None else None
    status = "in_progress" if stop is None else "completed" if reason is None else "incomplete"
    choice = request.choice
    return {
        "id": begun.id,
        "object": "response",
        "created_at": created,
        "status": status,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "instructions": request.system[0] if request.system else None,
        "max_output_tokens": request.max_tokens,
        "model": begun.model,
        "output": items,
        "parallel_tool_calls": request.parallel is not False,
        "previous_response_id": None,
        "reasoning": {"effort": request.effort, "summary": None},
        "store": False,
        "temperature": request.temperature,
        "text": {"format": _format(request.format)},
        "tool_choice": (
            "auto"
            if choice is None
            else {"type": "function", "name": choice.name}
            if choice.mode == "tool"
            else choice.mode
        ),
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description or None,
                "parameters": tool.schema,
                "strict": tool.strict,
            }
            for tool in request.tools
        ],
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": None if usage is None else write_usage(usage),
        "metadata": {},
    }


def _format(given: Format | None) -> dict[str, Any]:
    if given is None:
        return {"type": "text"}
    if given.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "name": given.name, "schema": given.schema, "strict": given.strict}


class Writer:
    """A stream of events: items one after the other, each added, filled and done."""

    def __init__(self, request: Request, created: int) -> None:
        self._request = request
        self._created = created
        self._begun = Begun("", "")
        self._usage = Usage()
        self._stop = Stop.END
        self._sequence = 0
        self._items: list[dict[str, Any]] = []
        """Those that are done."""
        self._open: dict[str, Any] | None = None
        self._key: int | None = None
        self._pieces: list[str] = []

    def write(self, delta: Delta) -> bytes:
        """The events that say it. Raises Garbled."""
        match delta:
            case Begun():
                self._begun = delta
                response = _response(delta, self._request, self._created, [], None, None)
                return self._event("response.created", response=response) + self._event(
                    "response.in_progress", response=response
                )
            case Said(text):
                return self._message() + self._delta("response.output_text.delta", text, of_text=True)
            case Calls(key, call_id, name):
                closed = self._close()
                item_id = _item_id("fc", self._begun.id, len(self._items))
                return closed + self._add(_call(item_id, call_id, name, "", "in_progress"), key)
            case Arguments(key, text):
                if self._key != key:
                    raise Garbled("arguments of two calls by turns")
                return self._delta("response.function_call_arguments.delta", text, of_text=False)
            case Stopped(stop):
                self._stop = stop
            case Counted(usage):
                self._usage = usage
            case Failure():
                return write_event(Envelope.RESPONSES, delta, self._next())
            case Thought():
                pass
        return b""

    def end(self) -> bytes:
        """What stands after the last step."""
        opened = b"" if self._items or self._open is not None else self._message()
        closed = self._close()
        response = _response(self._begun, self._request, self._created, self._items, self._stop, self._usage)
        name = "response.incomplete" if self._stop in INCOMPLETE else "response.completed"
        return opened + closed + self._event(name, response=response)

    def _message(self) -> bytes:
        if self._open is not None and self._key is None:
            return b""
        closed = self._close()
        item = {
            "id": _item_id("msg", self._begun.id, len(self._items)),
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        return (
            closed
            + self._add(item, None)
            + self._of_item("response.content_part.added", True, part=_text(""))
        )

    def _add(self, item: dict[str, Any], key: int | None) -> bytes:
        self._open, self._key = item, key
        self._pieces = []
        return self._event("response.output_item.added", output_index=len(self._items), item=item)

    def _delta(self, name: str, text: str, *, of_text: bool) -> bytes:
        self._pieces.append(text)
        more: dict[str, Any] = {"logprobs": []} if of_text else {}
        return self._of_item(name, of_text, delta=text, **more)

    def _close(self) -> bytes:
        item = self._open
        if item is None:
            return b""
        text = "".join(self._pieces)
        if self._key is None:
            done = self._of_item("response.output_text.done", True, text=text, logprobs=[])
            done += self._of_item("response.content_part.done", True, part=_text(text))
            item = _message(item["id"], text)
        else:
            text = text or "{}"
            done = self._of_item("response.function_call_arguments.done", False, arguments=text)
            item = {**item, "arguments": text, "status": "completed"}
        done += self._event("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)
        self._open = self._key = None
        return done

    def _of_item(self, name: str, of_text: bool, **more: Any) -> bytes:
        assert self._open is not None
        if of_text:
            more["content_index"] = 0
        return self._event(name, item_id=self._open["id"], output_index=len(self._items), **more)

    def _event(self, name: str, **more: Any) -> bytes:
        told = {"type": name, "sequence_number": self._next(), **more}
        return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(told))

    def _next(self) -> int:
        number, self._sequence = self._sequence, self._sequence + 1
        return number
