"""Requests that are not passed on as they came, because a route opted in: with the beginning of an answer that the
target is to go on with, or asking for usage that the client did not ask for.

continuation    the client's conversation with what it already has of the answer as its last message, the
                assistant's. Anthropic "Prefill Claude's response": it must not end with white space. For chat as vLLM
                and SGLang take it: `continue_final_message`, and no `add_generation_prompt`. Completions go on
                from their prompt by nature. The Responses API has nothing of the kind.
usage           OpenAI "Chat Completions: stream_options": spliced in; merged where the client has options
"""

from typing import Any, Final

import msgspec

from edge_router.core.body import Asked
from edge_router.core.decoding import UNREADABLE
from edge_router.core.endpoints import Kind

USAGE_KINDS: Final = frozenset({Kind.CHAT, Kind.COMPLETIONS})
_ASK: Final = b'"stream_options":{"include_usage":true},'
_MODEL_FIRST: Final = b'{"model":'
_CONSTRAINED: Final = frozenset(
    {"response_format", "output_format", "output_config", "structured_outputs", "thinking", "functions"}
    | {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "regex", "ebnf", "json_schema"}
    | {"echo", "suffix"}
)
"""A grammar would begin anew in the middle of the answer, and Anthropic refuses a prefill that is to be thought about."""
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_NOTHING: Final = (b"null", b"false", b'{"type":"text"}', b'{"type":"disabled"}')


def continued(kind: Kind, body: bytes, asked: Asked, text: str) -> tuple[bytes, Asked] | None:
    """The call that goes on after `text`; None where the call or the dialect does not allow it, or where it cannot be read here. `text` is not
    empty and does not end with white space."""
    try:
        members = _MEMBERS.decode(body)
        if any(name in members and bytes(members[name]) not in _NOTHING for name in _CONSTRAINED):
            return None
        if kind is Kind.COMPLETIONS:
            prompt = msgspec.json.decode(members["prompt"], type=str)
            members["prompt"] = msgspec.Raw(msgspec.json.encode(prompt + text))
        elif kind in (Kind.CHAT, Kind.MESSAGES):
            members["messages"] = _prefilled(_RAWS.decode(members["messages"]), text)
        else:
            return None
    except (KeyError, *UNREADABLE):
        return None
    if kind is Kind.CHAT:
        members["continue_final_message"] = msgspec.Raw(b"true")
        members["add_generation_prompt"] = msgspec.Raw(b"false")
    return _joined(members, asked)


def asking_usage(kind: Kind, body: bytes, asked: Asked) -> tuple[bytes, Asked] | None:
    """The call with its usage asked for; None where the client did so itself, or the dialect always tells it, or
    where it cannot be read here."""
    if kind not in USAGE_KINDS:
        return None
    try:
        members = _MEMBERS.decode(body)
        said: Any = msgspec.json.decode(members.get("stream_options", b"null"))
    except UNREADABLE:
        return None
    options = members.get("stream_options")
    if options is None:
        at = body.index(b"{") + 1
        moved = len(_ASK)
        return (
            b"".join((body[:at], _ASK, body[at:])),
            msgspec.structs.replace(asked, start=asked.start + moved, end=asked.end + moved),
        )
    if said is not None and not isinstance(said, dict):
        return None  # the target's to refuse
    if said and said.get("include_usage"):
        return None
    members["stream_options"] = msgspec.Raw(msgspec.json.encode({**(said or {}), "include_usage": True}))
    return _joined(members, asked)


def _prefilled(messages: list[msgspec.Raw], text: str) -> msgspec.Raw:
    """The conversation with `text` as the end of the assistant's last message. Raises DecodeError."""
    last = msgspec.json.decode(messages[-1], type=dict[str, Any]) if messages else {}
    if last.get("role") == "assistant":
        # The client's own prefill: the answer went on from there.
        content = last.get("content")
        if isinstance(content, str):
            last["content"] = content + text
        elif isinstance(content, list):
            last["content"] = [*content, {"type": "text", "text": text}]
        else:
            last["content"] = text
        kept = messages[:-1]
    else:
        last = {"role": "assistant", "content": text}
        kept = messages
    return msgspec.Raw(b"[%b]" % b",".join((*kept, msgspec.json.encode(last))))


def _joined(members: dict[str, msgspec.Raw], asked: Asked) -> tuple[bytes, Asked]:
    """The members as a body, the model's name in front."""
    model = bytes(members.pop("model"))
    rest = [b",%b:%b" % (msgspec.json.encode(name), raw) for name, raw in members.items()]
    start = len(_MODEL_FIRST)
    body = b"".join((_MODEL_FIRST, model, *rest, b"}"))
    return body, msgspec.structs.replace(asked, start=start, end=start + len(model))
