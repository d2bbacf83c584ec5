"""The model port: from request to answer, with the faults in force laid over it."""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from ops.simulator import anthropic, gemini, openai
from ops.simulator.faults import NO_FAULTS, Faults, Panel
from ops.simulator.http1 import LAST_CHUNK, Connection, Request, chunk, head
from ops.simulator.identity import Identity
from ops.simulator.openai_responses import responses
from ops.simulator.reply import BadRequest, Json, Reply
from shared.clock import Clock

MAX_SILENCE_S = 3600.0
"""How long `hang` and `stall` last when the client never gives up."""
KEPT_REQUESTS = 100

_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"})
_DIALECTS: Mapping[str, Callable[[Json, Identity, int], Reply]] = {
    "/v1/chat/completions": openai.chat,
    "/v1/completions": openai.completions,
    "/v1/embeddings": openai.embeddings,
    "/v1/responses": responses,
    "/v1/messages": anthropic.messages,
}
_HTML = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


@dataclass(slots=True)
class Stats:
    """What has happened at the model port since the start."""

    requests: int = 0
    inflight: int = 0
    aborted: int = 0
    """Requests whose client went away before the end of the answer."""
    faulted: int = 0
    """Requests that a fault fell on."""
    tokens_sent: int = 0
    by_path: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the model is when nothing is wrong. `tokens_per_s` 0: as fast as it can."""

    ttft_ms: float
    tokens_per_s: float


class Target:
    """Answers requests. One per process; the two sites and the panel are its neighbours."""

    def __init__(self, identity: Identity, pace: Pace, panel: Panel, clock: Clock) -> None:
        self.identity = identity
        self.stats = Stats()
        self.recent: deque[Json] = deque(maxlen=KEPT_REQUESTS)
        self._pace = pace
        self._panel = panel
        self._clock = clock

    def accepted(self, connection: Connection) -> None:
        """A client connected."""
        if self._panel.resets_connection():
            connection.reset()

    async def handle(self, connection: Connection, request: Request) -> None:
        """Answer one request of one client."""
        asked = _decoded(request.body)
        call = gemini.called(request.path)
        stream = call.stream if call is not None else asked is not None and asked.get("stream") is True
        agent = request.headers.get("user-agent", "")
        faults = self._panel.for_request(request.path, stream=stream, agent=agent)
        self._note(request, asked, stream=stream, faulty=faults != NO_FAULTS)
        self.stats.inflight += 1
        try:
            await Exchange(self, connection, request, faults, self._pace).run(asked)
        except (ConnectionResetError, asyncio.CancelledError):
            self.stats.aborted += not connection.closed_by_us
            raise
        finally:
            self.stats.inflight -= 1

    def created(self) -> int:
        """Seconds since 1970, for the dialects that state them."""
        return int(self._clock.now().timestamp())

    def _note(self, request: Request, asked: Json | None, *, stream: bool, faulty: bool) -> None:
        self.stats.requests += 1
        call = gemini.called(request.path)
        if call is not None and call.known:
            self.stats.by_path[f"{gemini.MODELS_PATH}:{call.method}"] += 1
        else:
            self.stats.by_path[request.path if request.path in _DIALECTS else "other"] += 1
        self.stats.faulted += faulty
        self.recent.append(
            {
                "at": self._clock.now().isoformat(),
                "method": request.method,
                "path": request.path,
                "model": call.model if call else asked.get("model") if asked else None,
                "stream": stream,
                "headers": {name: _redacted(name, value) for name, value in request.headers.items()},
                "body_bytes": len(request.body),
            }
        )


class Exchange:
    """One request and its answer."""

    def __init__(
        self, target: Target, connection: Connection, request: Request, faults: Faults, pace: Pace
    ) -> None:
        self._target = target
        self._connection = connection
        self._request = request
        self._faults = faults
        self._pace = pace
        self._headers = {
            "x-simulator-target": target.identity.id,
            "x-simulator-region": target.identity.region,
            "x-request-id": f"req_{target.stats.requests:08d}",
        }

    async def run(self, asked: Json | None) -> None:
        """Wait, fail as told, or answer."""
        faults = self._faults
        await self._wait(faults.latency_ms / 1000)
        if faults.reset:
            self._connection.reset()
        elif faults.hang:
            await self._silence()
        elif faults.throttle is not None:
            retry_after = faults.throttle.retry_after
            extra = {} if retry_after is None else {"retry-after": f"{retry_after}"}
            await self._refuse(429, "Simulated rate limit", code=faults.throttle.code, headers=extra)
        elif faults.status is not None:
            await self._status(faults)
        elif self._above(faults):
            await self._refuse(429, "Simulated capacity", code="rate_limit_exceeded")
        elif faults.garbage_200 is not None:
            await self._garbage(faults.garbage_200)
        else:
            await self._answer(asked)

    # ------------------------------------------------------------ right answers

    async def _answer(self, asked: Json | None) -> None:
        path, method = self._request.path, self._request.method
        identity, created = self._target.identity, self._target.created()
        if not gemini.CLIENT_FIELDS.isdisjoint(self._request.headers) and path.startswith("/v1/models"):
            path = path.replace("/v1", "/v1beta", 1)
        if method in ("GET", "HEAD") and path == "/v1/models":
            await self._json(200, msgspec.json.encode(openai.models(identity, created)))
        elif method == "GET" and path == f"/v1/models/{identity.model}":
            await self._json(200, msgspec.json.encode(openai.model(identity, created)))
        elif (call := gemini.called(path)) is not None or path.startswith(gemini.MODELS_PATH):
            await self._answer_gemini(path, call, asked)
        elif path not in _DIALECTS:
            await self._refuse(404, f"Unknown path {method} {path}")
        elif method != "POST":
            await self._refuse(405, f"{path} takes POST", headers={"allow": "POST"})
        elif asked is None:
            await self._refuse(400, "The body is not a JSON object")
        elif asked.get("model") != identity.model:
            await self._refuse(
                404, f"The model {asked.get('model')!r} does not exist", code="model_not_found"
            )
        else:
            await self._reply(lambda: _DIALECTS[path](asked, identity, created))

    async def _answer_gemini(self, path: str, call: gemini.Called | None, asked: Json | None) -> None:
        method, identity = self._request.method, self._target.identity
        if call is None and method == "GET" and path == gemini.MODELS_PATH:
            await self._json(200, msgspec.json.encode(gemini.models(identity)))
        elif call is None and method == "GET" and path == f"{gemini.MODELS_PATH}/{identity.model}":
            await self._json(200, msgspec.json.encode(gemini.model(identity)))
        elif call is None or not call.known or method != "POST":
            await self._refuse(404, f"Unknown path {method} {path}")
        elif call.model != identity.model:
            await self._refuse(404, f"models/{call.model} is not found for API version v1beta")
        elif asked is None:
            await self._refuse(400, "Invalid JSON payload received")
        else:
            await self._reply(lambda: gemini.answer(call, asked, identity))

    async def _reply(self, make: Callable[[], Reply]) -> None:
        try:
            reply = make()
        except BadRequest as bad:
            await self._refuse(bad.status, str(bad), param=bad.param, code=bad.code)
            return
        await (self._stream(reply) if reply.events is not None else self._whole(reply))

    async def _whole(self, reply: Reply) -> None:
        faults, body = self._faults, reply.body
        await self._wait(self._ttft_s() + reply.tokens * self._token_s())
        stop = faults.cut_after_tokens if faults.cut_after_tokens is not None else faults.stall_after_tokens
        if faults.bad_chunked:
            await self._send(
                self._head(200, {"transfer-encoding": "chunked"}) + chunk(body[: len(body) // 2])
            )
            await self._break_chunks()
        elif stop is not None and stop < max(1, reply.tokens):
            part = body[: len(body) * stop // max(1, reply.tokens)]
            declared = len(part) if faults.cut_as == "end" else len(body)
            await self._send(self._head(200, {"content-length": str(declared)}) + part)
            await self._stop_short()
        elif faults.malformed_chunk_after_tokens is not None:
            await self._json(200, body[: len(body) * 2 // 3])
        else:
            await self._json(200, body)
            self._target.stats.tokens_sent += reply.tokens

    async def _stream(self, reply: Reply) -> None:
        assert reply.events is not None
        faults, sent = self._faults, 0
        extra = {"transfer-encoding": "chunked", "cache-control": "no-cache"}
        await self._send(self._head(200, extra, content_type="text/event-stream; charset=utf-8"))
        for event in reply.events:
            raw = event.raw
            if event.token:
                await self._wait(self._token_s() if sent else self._ttft_s())
                if sent in (faults.cut_after_tokens, faults.stall_after_tokens):
                    await self._stop_short(chunked=True)
                    return
                if faults.bad_chunked and sent == 1:
                    await self._break_chunks()
                    return
                if sent == faults.malformed_chunk_after_tokens:
                    raw = raw[: len(raw) // 2] + b"\n\n"
                sent += 1
                self._target.stats.tokens_sent += 1
            await self._send(chunk(raw))
        await self._send(LAST_CHUNK)

    # ------------------------------------------------------------ wrong answers

    async def _stop_short(self, *, chunked: bool = False) -> None:
        if self._faults.cut_after_tokens is None:
            await self._silence()
        elif self._faults.cut_as == "reset":
            self._connection.reset()
        elif self._faults.cut_as == "close":
            self._connection.close()
        elif chunked:
            await self._send(LAST_CHUNK)

    async def _break_chunks(self) -> None:
        await self._send(b"zz\r\n")
        self._connection.close()

    async def _silence(self) -> None:
        await asyncio.sleep(MAX_SILENCE_S)
        self._connection.close()

    async def _garbage(self, kind: str) -> None:
        if kind == "html":
            await self._send(
                self._head(200, {"content-length": str(len(_HTML))}, content_type="text/html") + _HTML
            )
        else:
            bodies = {
                "empty": b"",
                "truncated": b'{"id":"chatcmpl-1","choices":[{"ind',
                "other": b'{"ok":true}',
            }
            await self._json(200, bodies[kind])

    async def _status(self, faults: Faults) -> None:
        assert faults.status is not None
        status = faults.status
        if status.body is None:
            await self._refuse(status.code, f"Simulated status {status.code}", headers=status.headers)
        else:
            await self._json(status.code, status.body.encode(), status.headers)

    async def _refuse(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if self._request.path.startswith("/v1/messages"):
            body = anthropic.error(status, message)
        elif self._request.path.startswith("/v1beta/") or gemini.called(self._request.path):
            body = gemini.error(status, message)
        else:
            body = openai.error(status, message, param=param, code=code)
        await self._json(status, body, headers or {})

    def _above(self, faults: Faults) -> bool:
        limit = faults.capacity.reject_above if faults.capacity else None
        return limit is not None and self._target.stats.inflight > limit

    # ------------------------------------------------------------ bytes and time

    async def _json(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        bare = self._request.method == "HEAD" or status in (204, 304)
        extra = {"content-length": str(len(body)), **(headers or {})}
        await self._send(self._head(status, extra) + (b"" if bare else body))

    def _head(
        self, status: int, extra: Mapping[str, str], *, content_type: str = "application/json"
    ) -> bytes:
        return head(status, {"content-type": content_type, **self._headers, **extra})

    async def _send(self, raw: bytes) -> None:
        drip = self._faults.drip
        if drip is None:
            await self._connection.send(raw)
            return
        for start in range(0, len(raw), drip.bytes):
            await self._connection.send(raw[start : start + drip.bytes])
            await asyncio.sleep(drip.every_ms / 1000)

    def _ttft_s(self) -> float:
        ms = self._faults.ttft_ms
        return (self._pace.ttft_ms if ms is None else ms) / 1000

    def _token_s(self) -> float:
        rate = self._faults.tokens_per_s or self._pace.tokens_per_s
        return 1.0 / rate if rate else 0.0

    async def _wait(self, seconds: float) -> None:
        capacity = self._faults.capacity
        if capacity is not None and self._target.stats.inflight > capacity.inflight:
            seconds *= capacity.slow_factor * self._target.stats.inflight / capacity.inflight
        if seconds > 0:
            await asyncio.sleep(seconds)


def _decoded(body: bytes) -> Json | None:
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return asked if isinstance(asked, dict) else None


def _redacted(name: str, value: str) -> str:
    """Secrets become the beginning of their hash, so that a test can still tell which one was sent."""
    if name not in _SECRET_HEADERS:
        return value
    scheme, space, secret = value.partition(" ")
    if not space:
        scheme, secret = "", value
    return f"{scheme}{space}sha256:{hashlib.sha256(secret.encode()).hexdigest()[:12]}"
