"""Server-sent events as a response: written as they come, closed when the reader stops reading."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

SEND_S = 15.0
"""A reader that takes nothing for so long is gone or too slow; it may come back for a snapshot."""


class EventStream(StreamingResponse):
    """`text/event-stream` of already encoded events. Every write has a deadline, and the generator is
    closed however the response ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._events):
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for chunk in self._events:
                await self._write(send, chunk, more=True)
            await self._write(send, b"", more=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except TimeoutError:
            # Too slow: end without the last chunk, so that the reader sees a cut and not an end.
            return
        finally:
            # Who left before the first write has not let go of it yet.
            await self._events.aclose()

    async def _write(self, send: Any, body: bytes, *, more: bool) -> None:
        async with asyncio.timeout(SEND_S):
            await send({"type": "http.response.body", "body": body, "more_body": more})
