"""A text as a whole answer of each dialect. What a whole answer says as a stream is `streams`.

Members are those that the API references show for an answer that ended by itself: OpenAI "The chat completion object"
and "The response object", Anthropic "Create a Message", Gemini "GenerateContentResponse". Usage is zero: no model
read or wrote anything. Completions have none: what their text is put into may be a program.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from edge_router.core.endpoints import Kind
from edge_router.core.ladder.call import GEMINI


class Own(NamedTuple):
    """What an answer of the edge's own says of itself. `created` is Unix time, whole seconds."""

    text: str
    model: str
    request_id: str
    created: int


Answer = dict[str, Any]


def whole(kind: str, own: Own) -> Answer | None:
    """The answer of an endpoint of `kind`; None where a text is no answer."""
    shape = _SHAPES.get(kind)
    return None if shape is None else shape(own)


def _chat(own: Own) -> Answer:
    message: Answer = {"role": "assistant", "content": own.text, "refusal": None, "annotations": []}
    return {
        "id": f"chatcmpl-{own.request_id}",
        "object": "chat.completion",
        "created": own.created,
        "model": own.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def _response(own: Own) -> Answer:
    part = {"type": "output_text", "text": own.text, "annotations": [], "logprobs": []}
    item = {
        "type": "message",
        "id": f"msg_{own.request_id}",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    return {
        "id": f"resp_{own.request_id}",
        "object": "response",
        "created_at": own.created,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": own.model,
        "output": [item],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "none",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
    }


def _message(own: Own) -> Answer:
    return {
        "id": f"msg_{own.request_id}",
        "type": "message",
        "role": "assistant",
        "model": own.model,
        "content": [{"type": "text", "text": own.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _gemini(own: Own) -> Answer:
    return {
        "candidates": [
            {
                "content": {"parts": [{"text": own.text}], "role": "model"},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0},
        "modelVersion": own.model,
        "responseId": own.request_id,
    }


_SHAPES: Final[Mapping[str, Callable[[Own], Answer]]] = {
    Kind.CHAT: _chat,
    Kind.RESPONSES: _response,
    Kind.MESSAGES: _message,
    GEMINI: _gemini,
}
