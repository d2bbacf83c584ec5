"""What comes from a bus is a message or poison with a reason from a closed list."""

import json
from datetime import timedelta
from typing import Any

import pytest

from control_plane.loops import decode
from control_plane.loops.decode import Poison
from shared.vocabulary.health import MAX_EVENT_BYTES
from tests.support.still_replica import NOW, ack

EVENT: dict[str, Any] = {
    "schema_version": 1,
    "kind": "heartbeat",
    "source": "prober-east",
    "role": "prober",
    "vantage": "east",
    "boot": 1,
    "seq": 1,
    "observed_at": NOW.isoformat(),
}


def raw(**more: Any) -> bytes:
    return json.dumps({**EVENT, **more}).encode()


def test_a_right_event_is_read_and_unknown_fields_are_ignored() -> None:
    """A newer writer may say more."""
    assert decode.health_event(raw(mood="fine"), now=NOW).source == "prober-east"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xff\xfe", "garbage"),
        (b"[" * 200_000, "garbage"),
        (b"{}" + b" " * MAX_EVENT_BYTES, "oversized"),
        (raw(schema_version=2), "schema_version"),
        (raw(kind="gossip"), "kind"),
        (raw(seq=-1), "invalid"),
        (raw(source="../etc"), "invalid"),
        (raw(observed_at=(NOW + timedelta(seconds=61)).isoformat()), "future"),
    ],
)
def test_anything_else_is_poison(value: bytes | None, reason: str) -> None:
    """With the reason that the metric and the dead letter carry."""
    with pytest.raises(Poison) as caught:
        decode.health_event(value, now=NOW)
    assert caught.value.reason == reason


def test_a_clock_that_is_a_minute_fast_is_tolerated() -> None:
    """Skew is not poison."""
    decode.health_event(raw(observed_at=(NOW + timedelta(seconds=59)).isoformat()), now=NOW)


def test_an_ack_with_an_impossible_history_is_poison() -> None:
    """It would make a leader raise the generation for ever."""
    with pytest.raises(Poison) as caught:
        decode.ack(ack(generation=2**40).canonical(), now=NOW)
    assert caught.value.reason == "implausible"
