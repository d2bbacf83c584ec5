"""What a client makes of an answer: read with the official SDKs' own types, apart from the code under test."""

import json
from typing import Any

from anthropic.types import Message as AnthropicMessage
from anthropic.types import RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from edge_router.core.endpoints import Kind

_STOPS = {
    "stop": "end",
    "tool_calls": "calls",
    "content_filter": "filtered",
    "end_turn": "end",
    "stop_sequence": "sequence",
    "max_tokens": "length",
    "tool_use": "calls",
    "refusal": "filtered",
    "STOP": "end",
    "MAX_TOKENS": "length",
    "SAFETY": "filtered",
    "max_output_tokens": "length",
}


def _stop(reason: str, *, calls: bool) -> str:
    stop = _STOPS.get(reason, reason)
    return "calls" if stop == "end" and calls else stop


def seen(kind: Kind, body: bytes) -> dict[str, Any]:
    """A whole answer as the SDK of the client's dialect reads it. Raises where it is not its shape."""
    if kind is Kind.CHAT:
        return _of_chat(ChatCompletion.model_validate_json(body, strict=True))
    if kind is Kind.RESPONSES:
        return _of_response(Response.model_validate_json(body))
    if kind is Kind.MESSAGES:
        return _of_message(AnthropicMessage.model_validate_json(body, strict=True))
    return _of_gemini([GenerateContentResponse.model_validate_json(body)])


def _of_chat(answer: ChatCompletion) -> dict[str, Any]:
    message, usage = answer.choices[0].message, answer.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    calls = [
        (call.id, call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or []
        if call.type == "function"
    ]
    return {
        "id": answer.id,
        "model": answer.model,
        "text": message.content or "",
        "calls": calls,
        "stop": _stop(answer.choices[0].finish_reason, calls=bool(calls)),
        "read": usage.prompt_tokens,
        "written": usage.completion_tokens,
        "cached": usage.prompt_tokens_details.cached_tokens,
        "thought": usage.completion_tokens_details.reasoning_tokens,
    }


def _of_response(answer: Response) -> dict[str, Any]:
    usage = answer.usage
    assert usage is not None
    calls = [
        (item.call_id, item.name, json.loads(item.arguments))
        for item in answer.output
        if item.type == "function_call"
    ]
    assert (answer.status == "incomplete") == (answer.incomplete_details is not None)
    reason = answer.incomplete_details.reason if answer.incomplete_details is not None else "stop"
    return {
        "id": answer.id,
        "model": answer.model,
        "text": answer.output_text,
        "calls": calls,
        "stop": _stop(str(reason), calls=bool(calls)),
        "read": usage.input_tokens,
        "written": usage.output_tokens,
        "cached": usage.input_tokens_details.cached_tokens,
        "thought": usage.output_tokens_details.reasoning_tokens,
    }


def _of_message(answer: AnthropicMessage) -> dict[str, Any]:
    usage = answer.usage
    read = (
        usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    )
    details = usage.output_tokens_details
    return {
        "id": answer.id,
        "model": answer.model,
        "text": "".join(part.text for part in answer.content if part.type == "text"),
        "calls": [(part.id, part.name, part.input) for part in answer.content if part.type == "tool_use"],
        "stop": _STOPS[answer.stop_reason or ""],
        "read": read,
        "written": usage.output_tokens,
        "cached": usage.cache_read_input_tokens,
        "thought": details.thinking_tokens if details is not None else 0,
    }


def _of_gemini(answers: list[GenerateContentResponse]) -> dict[str, Any]:
    parts, reason, usage = [], None, None
    for answer in answers:
        for candidate in answer.candidates or []:
            assert candidate.content is not None
            parts += candidate.content.parts or []
            reason = candidate.finish_reason or reason
        usage = answer.usage_metadata or usage
    assert reason is not None
    assert usage is not None
    calls = [
        (part.function_call.id, part.function_call.name, part.function_call.args)
        for part in parts
        if part.function_call is not None
    ]
    thought = usage.thoughts_token_count or 0
    assert (
        usage.total_token_count
        == (usage.prompt_token_count or 0) + (usage.candidates_token_count or 0) + thought
    )
    return {
        "id": answers[-1].response_id,
        "model": answers[-1].model_version,
        "text": "".join(part.text for part in parts if part.text and not part.thought),
        "calls": calls,
        "stop": _stop(reason.value, calls=bool(calls)),
        "read": usage.prompt_token_count,
        "written": (usage.candidates_token_count or 0) + thought,
        "cached": usage.cached_content_token_count or 0,
        "thought": thought,
    }


def documents(stream: bytes) -> list[Any]:
    """The data of a stream's events; every event has an end."""
    assert not stream or stream.endswith(b"\n\n")
    told = []
    for event in stream.decode().split("\n\n")[:-1]:
        data = [line.removeprefix("data: ") for line in event.split("\n") if line.startswith("data: ")]
        told.append(data[0] if data[0] == "[DONE]" else json.loads(data[0]))
    return told


def seen_stream(kind: Kind, stream: bytes) -> dict[str, Any]:
    """A streamed answer as a client puts it together, each event by the SDK's type. Raises where an event is not of
    its shape, out of order, or missing."""
    events = documents(stream)
    if kind is Kind.CHAT:
        return _of_chunks(events)
    if kind is Kind.RESPONSES:
        return _of_response_events(events)
    if kind is Kind.MESSAGES:
        return _of_message_events(events)
    return _of_gemini([GenerateContentResponse.model_validate(event) for event in events])


def _of_chunks(events: list[Any]) -> dict[str, Any]:
    assert events[-1] == "[DONE]"
    chunks = [ChatCompletionChunk.model_validate(event) for event in events[:-1]]
    assert chunks[0].choices[0].delta.role == "assistant"
    text, calls, stop = "", [], None
    for one in chunks:
        for choice in one.choices:
            assert stop is None, "after the finish reason"
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                if call.index == len(calls):
                    calls.append([call.id, call.function.name, ""])
                calls[call.index][2] += call.function.arguments or ""
            stop = choice.finish_reason
    usage = chunks[-1].usage
    assert usage is not None
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": name, "type": "function", "function": {"name": function, "arguments": text}}
            for name, function, text in calls
        ]
    return _of_chat(
        ChatCompletion.model_validate(
            {
                **events[0],
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": stop}],
                "usage": usage.model_dump(),
            }
        )
    )


def _of_message_events(events: list[Any]) -> dict[str, Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    message: dict[str, Any] = {}
    opened: int | None = None
    partial = ""
    for event in events:
        if event["type"] == "ping":
            continue
        adapter.validate_python(event)
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert opened is None
                assert event["index"] == len(message["content"])
                opened, partial = event["index"], ""
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert event["index"] == opened
                delta = event["delta"]
                if delta["type"] == "text_delta":
                    message["content"][opened]["text"] += delta["text"]
                else:
                    assert delta["type"] == "input_json_delta"
                    partial += delta["partial_json"]
            case "content_block_stop":
                assert event["index"] == opened
                assert opened is not None
                if message["content"][opened]["type"] == "tool_use":
                    message["content"][opened]["input"] = json.loads(partial or "{}")
                opened = None
            case "message_delta":
                message["stop_reason"] = event["delta"]["stop_reason"]
                message["usage"] |= event["usage"]
    assert opened is None
    assert events[-1]["type"] == "message_stop"
    return _of_message(AnthropicMessage.model_validate(message))


def _of_response_events(events: list[Any]) -> dict[str, Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    pieces: dict[int, str] = {}
    done: dict[int, Any] = {}
    for event in events:
        adapter.validate_python(event)
        place = event.get("output_index")
        if event["type"].endswith(".delta"):
            pieces[place] = pieces.get(place, "") + event["delta"]
        elif event["type"] == "response.output_text.done":
            assert event["text"] == pieces.get(place, "")
        elif event["type"] == "response.function_call_arguments.done":
            assert json.loads(event["arguments"]) == json.loads(pieces.get(place) or "{}")
        elif event["type"] == "response.output_item.done":
            done[place] = event["item"]
    response = events[-1]["response"]
    assert response["output"] == [done[place] for place in range(len(done))]
    return _of_response(Response.model_validate(response))
