"""The OpenAI dialect's `POST /v1/responses`, streamed and not, for text."""

from collections.abc import Iterator
from itertools import count

import msgspec

from ops.simulator import answers
from ops.simulator.identity import Identity
from ops.simulator.reply import (
    BadRequest,
    Event,
    Json,
    Reply,
    Turn,
    digest,
    event,
    token_limit,
    turn_of,
)


def responses(request: Json, _identity: Identity, created: int) -> Reply:
    """One response: a message with one piece of text."""
    turn = _turn(request)
    told = turn.answer(token_limit(request, "max_output_tokens"))
    number = digest("response", turn.prompt)
    frame = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": created,
        "error": None,
        "instructions": request.get("instructions"),
        "metadata": {},
        "model": request["model"],
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "text": {"format": {"type": "text"}},
        "truncation": "disabled",
    }
    done = {
        **frame,
        "status": "completed" if told.complete else "incomplete",
        "incomplete_details": None if told.complete else {"reason": "max_output_tokens"},
        "output": [_message(number, "completed" if told.complete else "incomplete", [_text(told.text)])],
        "usage": {
            "input_tokens": turn.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": len(told.tokens),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": turn.prompt_tokens + len(told.tokens),
        },
    }
    if not request.get("stream"):
        return Reply(body=msgspec.json.encode(done), tokens=len(told.tokens))
    begun = {**frame, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    return Reply(events=_events(begun, done, told, number), tokens=len(told.tokens))


def _events(begun: Json, done: Json, told: answers.Answer, number: str) -> Iterator[Event]:
    sequence = count()

    def say(kind: str, *, token: bool = False, **fields: object) -> Event:
        data = {"type": kind, "sequence_number": next(sequence), **fields}
        return event(data, name=kind, token=token)

    part: Json = {"output_index": 0, "item_id": f"msg_{number}", "content_index": 0}
    finished = done["output"][0]
    yield say("response.created", response=begun)
    yield say("response.in_progress", response=begun)
    yield say("response.output_item.added", output_index=0, item=_message(number, "in_progress", []))
    yield say("response.content_part.added", **part, part=_text(""))
    for token in told.tokens:
        yield say("response.output_text.delta", token=True, **part, delta=token, logprobs=[])
    yield say("response.output_text.done", **part, text=told.text, logprobs=[])
    yield say("response.content_part.done", **part, part=_text(told.text))
    yield say("response.output_item.done", output_index=0, item=finished)
    yield say("response.completed" if told.complete else "response.incomplete", response=done)


def _turn(request: Json) -> Turn:
    given = request.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise BadRequest("input must be text or a list of messages", param="input")
    return turn_of(given, system=str(request.get("instructions") or ""))


def _message(number: str, status: str, content: list[Json]) -> Json:
    return {
        "type": "message",
        "id": f"msg_{number}",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
