"""A drill as a trace of its own: one span for it, one for each fault, linked to the decisions it led to.

Made when it is over, with the times of then: what a drill breaks may be what carries its spans.
"""

from datetime import datetime, timedelta

from ops.drill.record import DrillRecordData
from shared.adapters.otel import telemetry_from_env
from shared.telemetry import Telemetry
from shared.vocabulary.status import DrillReport

MAX_LINKS = 64


async def tell_trace(
    report: DrillReport, data: DrillRecordData, *, runner: str, keeper: str | None, now: datetime
) -> None:
    """Send the drill's spans to where this process's environment says, else to the stack's `keeper`; nowhere
    without either. Takes 4 s at most, and raises nothing when nobody takes them."""
    telemetry = telemetry_from_env(service="leeward-drill", node=runner, region="local", otherwise=keeper)
    try:
        draw(report, data, telemetry, now=now)
    finally:
        await telemetry.close()


def draw(report: DrillReport, data: DrillRecordData, telemetry: Telemetry, *, now: datetime) -> str:
    """Record the spans; returns the traceparent of the drill's own."""
    zero = data.injected_at or now
    begun_s = min([0.0, *(second.at_s for second in data.seconds[:1])])

    def at_ns(seconds: float) -> int:
        return round((zero + timedelta(seconds=seconds)).timestamp() * 1_000_000) * 1000

    whole = telemetry.begin(
        f"drill {report.drill}",
        links=[seen.traceparent for seen in data.decisions if seen.traceparent is not None][:MAX_LINKS],
        attributes={
            "leeward.drill": data.id or report.drill,
            "leeward.outcome": report.outcome,
            "leeward.requests": report.requests,
            "leeward.failed": report.failed,
            "leeward.success_rate": report.success_rate,
        },
        at_ns=at_ns(begun_s),
    )
    for event in report.timeline:
        whole.event(event.event, at_ns=at_ns(event.at_ms / 1000))
    for fault in data.injections:
        if fault.done_s is not None:
            span = telemetry.begin(
                f"fault {fault.fault} {fault.where}",
                parent=whole.traceparent,
                attributes={"leeward.injector": fault.by, "leeward.fault": fault.fault},
                at_ns=at_ns(fault.done_s),
            )
            span.end(at_ns=at_ns(fault.done_s if fault.undone_s is None else fault.undone_s))
    if report.outcome != "PASSED":
        whole.fail(report.outcome)
    whole.end(at_ns=at_ns(max(data.ended_s, 0.0)))
    return whole.traceparent
