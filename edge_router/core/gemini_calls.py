"""Gemini's calls: what a body asks for whose model stands in the path, and how it reaches a Gemini target.

The body goes on byte for byte, but for the model's own name where Gemini repeats it: as a top-level `model`, and in
each of `requests` of batchEmbedContents. There it must be the target's, as it is in the path. Field names are
Google's protobuf JSON, which takes `generation_config` for `generationConfig` too.
Sources: "Gemini API: Generating content", "Embeddings", "Context caching", "Files".
"""

from typing import Final, NamedTuple

import msgspec

from edge_router.core.body import Asked, Unreadable, members_of
from edge_router.core.decoding import UNREADABLE
from edge_router.core.endpoints import Endpoint, Kind
from edge_router.core.paths import Asking
from edge_router.core.table import TargetEntry


class Wording(NamedTuple):
    """A call as its target takes it: what follows the base path, and the body."""

    suffix: bytes
    body: bytes


def read_gemini_call(asking: Asking, body: bytes) -> Asked:
    """The call that `body` is, of the model that the path names. Raises Unreadable."""
    members = members_of(body)
    if body.count(b"[") + body.count(b"{") > _ROOM:
        _leave_room(body)
    choices = 1
    for name in _CONFIGS:
        raw = members.get(name)
        if raw is not None:
            choices = max(choices, _choices(raw))
    assert asking.model is not None, "calls are told from lists by the model in their path"
    return Asked(
        asking.model,
        0,
        0,
        asking.streams,
        choices,
        any(name in members for name in _CACHES) or _FILES in body,
    )


def gemini_wording(target: TargetEntry, endpoint: Endpoint, query: bytes, body: bytes) -> Wording:
    """The call for a Gemini target. `query` is what of the client's may go on."""
    suffix = b"/models/%b%b" % (target.model_path, endpoint.suffix)
    if query:
        suffix += b"&" + query[1:] if b"?" in endpoint.suffix else query
    if b'"model"' in body or b"\\u" in body:
        members = members_of(body)
        resource = msgspec.Raw(msgspec.json.encode("models/" + msgspec.json.decode(target.model_json)))
        changed = "model" in members
        if changed:
            members["model"] = resource
        requests = members.get("requests") if endpoint.kind is Kind.GEMINI_EMBEDDINGS else None
        if requests is not None:
            try:
                each = _REQUESTS.decode(requests)
            except UNREADABLE:
                each = []  # not what it should be: the target will say so
            named = [one for one in each if "model" in one]
            for one in named:
                one["model"] = resource
            if named:
                members["requests"] = msgspec.Raw(msgspec.json.encode(each))
                changed = True
        if changed:
            body = msgspec.json.encode(members)
    return Wording(suffix, body)


def _leave_room(body: bytes) -> None:
    """What is read here is read once more for its target, with more on the stack. Raises Unreadable."""
    try:
        _VALUE.decode(b"[" * _ROOM + body + b"]" * _ROOM)
    except RecursionError:
        raise Unreadable("the body is nested too deeply") from None


_ROOM: Final = 100
"""Levels."""
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_CONFIGS: Final = ("generationConfig", "generation_config")
_CACHES: Final = frozenset({"cachedContent", "cached_content"})
_FILES: Final = b"generativelanguage.googleapis.com"
"""Where the addresses of stored files lie: one provider's state."""
_REQUESTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class _Config(msgspec.Struct):
    count: int | None = msgspec.field(name="candidateCount", default=None)
    candidate_count: int | None = None


_CONFIG: Final = msgspec.json.Decoder(_Config)


def _choices(raw: msgspec.Raw) -> int:
    try:
        config = _CONFIG.decode(raw)
    except UNREADABLE:
        raise Unreadable("generationConfig is not an object, or its candidateCount is not a number") from None
    return min(max(config.count or config.candidate_count or 1, 1), 1024)
