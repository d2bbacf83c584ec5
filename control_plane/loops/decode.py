"""Bytes from a bus as messages, or `Poison` with a reason that fits a metric label. Pure."""

from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from control_plane.loops.seen import MAX_GENERATION, check_ack
from control_plane.ports import Implausible
from shared.vocabulary.base import Message
from shared.vocabulary.decision import Ack, Beat
from shared.vocabulary.health import MAX_EVENT_BYTES, HealthEvent

MAX_AHEAD_S = 60.0
"""A message from further in the future is refused; less is a clock that needs setting."""
Kind = TypeVar("Kind", bound=Message)


class Poison(ValueError):
    """A message nobody should read again. `reason` is one of a closed list, `detail` is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def health_event(raw: bytes | None, *, now: datetime) -> HealthEvent:
    """Raises Poison."""
    event = _message(HealthEvent, raw)
    _refuse_future(event.observed_at, now)
    return event


def ack(raw: bytes | None, *, now: datetime) -> Ack:
    """Raises Poison."""
    message = _message(Ack, raw)
    _refuse_future(message.applied_at, now)
    try:
        check_ack(message)
    except Implausible as error:
        raise Poison("implausible", str(error)) from None
    return message


def beat(raw: bytes | None, *, now: datetime) -> Beat:
    """Raises Poison."""
    message = _message(Beat, raw)
    _refuse_future(message.sent_at, now)
    if message.generation > MAX_GENERATION:
        raise Poison("implausible", f"generation above {MAX_GENERATION}")
    return message


def _message(kind: type[Kind], raw: bytes | None) -> Kind:
    if not raw:
        raise Poison("empty", "no value")
    if len(raw) > MAX_EVENT_BYTES:
        raise Poison("oversized", f"{len(raw)} bytes, more than {MAX_EVENT_BYTES}")
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Poison(_reason(first["type"], first["loc"]), f"{first['loc']}: {first['msg']}") from None


def _reason(kind: str, location: tuple[int | str, ...]) -> str:
    if kind == "json_invalid":
        return "garbage"
    if location and location[0] in ("schema_version", "kind"):
        return str(location[0])
    return "invalid"


def _refuse_future(at: datetime, now: datetime) -> None:
    ahead_s = (at - now).total_seconds()
    if ahead_s > MAX_AHEAD_S:
        raise Poison("future", f"{ahead_s:.0f} s ahead")
