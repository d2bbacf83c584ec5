"""The way of a decision into this edge, as spans: received by either path, then applied.

One span for each path and decision, whichever came first and whether or not it was still news, so that a trace shows
both paths at work; the apply span hangs below the one whose arrival completed the head. Old decisions, as every
start reads them again, leave no trace.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from shared.clock import Clock
from shared.telemetry import Contexts, NoTelemetry, Telemetry, is_recorded, trace_id_of
from shared.topics import DECISIONS

Path = Literal["bus", "http", "file", "clock"]

NEWS_S: Final = 60.0
"""How old a decision may be to be traced on arrival."""


class Trail:
    """Mutable; one per edge."""

    def __init__(self, *, edge: str, region: str, clock: Clock, telemetry: Telemetry) -> None:
        self._about: Mapping[str, str] = {"leeward.edge": edge, "cloud.region": region}
        self._clock = clock
        self._telemetry = telemetry
        self._on = not isinstance(telemetry, NoTelemetry)
        self._received = Contexts()

    def received(self, document: bytes, path: Path, context: str | None) -> None:
        """A document came by `path`; `context` is what the message that carried it said of its own span."""
        if not self._on:
            return
        try:
            stamp = _STAMP.decode(document)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # the follower will refuse it, and says why
        trace_id = trace_id_of(stamp.traceparent)
        if trace_id is None or not is_recorded(stamp.traceparent) or self._is_old(stamp.decided_at):
            return
        if self._received.get((trace_id, stamp.seq, path)) is not None:
            return
        over_kafka = path == "bus"
        span = self._telemetry.begin(
            f"receive {DECISIONS if over_kafka else '/v1/stream'}",
            kind="consumer",
            parent=context if context is not None and trace_id_of(context) == trace_id else stamp.traceparent,
            attributes={
                **self._about,
                "leeward.path": path,
                "leeward.decision": f"{stamp.generation}.{stamp.seq}",
                **(_KAFKA if over_kafka else {}),
            },
        )
        span.end()
        self._received.put((trace_id, stamp.seq, path), span.traceparent)

    def behind(self, decided_in: str | None, seq: int, path: Path) -> str | None:
        """The context that applying a decision continues: its arrival by `path`, else the decision itself."""
        return self._received.get((trace_id_of(decided_in), seq, path)) or decided_in

    def _is_old(self, decided_at: datetime | None) -> bool:
        if decided_at is None or decided_at.tzinfo is None:
            return True
        return abs(self._clock.now() - decided_at) > timedelta(seconds=NEWS_S)


class _Stamp(msgspec.Struct):
    generation: int = 0
    seq: int = 0
    traceparent: str | None = None
    decided_at: datetime | None = None


_STAMP: Final = msgspec.json.Decoder(_Stamp)
_KAFKA: Final = {
    "messaging.system": "kafka",
    "messaging.operation.name": "poll",
    "messaging.operation.type": "receive",
    "messaging.destination.name": DECISIONS,
}
