"""The keeper's trace collector: OTLP over HTTP in, JSON out. What the local stack has instead of a backend.

POST /v1/traces (protobuf, gzip or not) · GET /traces?kind=&limit= · GET /traces/{id}
"""

from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from ops.keeper.ring import KINDS, Ambiguous, KeptTrace, Ring
from shared.adapters.otlp import MAX_EXPORT_BYTES, NotOtlp, as_json, spans_of, unpacked
from shared.admin import problem

MAX_LISTED: Final = 500
CHUNK_BYTES: Final = 64 * 1024


def install(app: web.Application, ring: Ring | None = None) -> Ring:
    """Add the routes; returns the ring they fill."""
    kept = ring or Ring()

    async def take(request: web.Request) -> web.Response:
        kind = request.content_type
        if kind not in ("application/x-protobuf", "application/octet-stream"):
            return problem(415, f"spans are taken as application/x-protobuf, not as {kind}")
        try:
            kept.add(spans_of(unpacked(await _body(request))))
        except NotOtlp as error:
            return problem(400, str(error))
        return web.Response(content_type="application/x-protobuf", body=b"")

    async def listing(request: web.Request) -> web.Response:
        kind, limit = request.query.get("kind"), request.query.get("limit", "50")
        if kind is not None and kind not in KINDS:
            return problem(400, f"kind is one of {', '.join(KINDS)}")
        if not limit.isdigit() or not 1 <= int(limit) <= MAX_LISTED:
            return problem(400, f"limit is a number from 1 to {MAX_LISTED}")
        found = kept.latest(kind=kind, limit=int(limit))
        return web.json_response(
            {"spans": kept.spans, "received": kept.received, "traces": [_brief(trace) for trace in found]}
        )

    async def show(request: web.Request) -> web.Response:
        asked = request.match_info["id"]
        try:
            trace = kept.find(asked)
        except Ambiguous as error:
            return problem(409, str(error))
        if trace is None:
            return problem(404, f"no trace {asked[:64]!r} is kept here")
        return web.json_response(
            {
                **_brief(trace),
                "spans_left_out": trace.left_out,
                "all": [as_json(span) for span in sorted(trace.spans, key=lambda span: span.start_ns)],
                "joined": [_brief(other) for other in kept.joined(trace)],
            }
        )

    app.router.add_post("/v1/traces", take)
    app.router.add_get("/traces", listing)
    app.router.add_get("/traces/{id}", show)
    return kept


async def _body(request: web.Request) -> bytes:
    """Read here, for the application's own limit is that of its other, small bodies. Raises NotOtlp."""
    pieces, size = [], 0
    async for piece in request.content.iter_chunked(CHUNK_BYTES):
        size += len(piece)
        if size > MAX_EXPORT_BYTES:
            raise NotOtlp(f"an export of more than {MAX_EXPORT_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _brief(trace: KeptTrace) -> dict[str, Any]:
    root = trace.root
    return {
        "trace_id": trace.trace_id,
        "kind": trace.kind,
        "root": root.name,
        "service": root.origin.service,
        "node": root.origin.node,
        "started_at": datetime.fromtimestamp(trace.start_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
        "duration_ms": round((trace.end_ns - trace.start_ns) / 1e6, 3),
        "spans": len(trace.spans),
        "failed": trace.failed,
        "decision": trace.marks.get("leeward.decision"),
        "request_id": trace.marks.get("leeward.request_id") if trace.kind == "request" else None,
    }
