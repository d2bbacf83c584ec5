"""A control-plane replica's HTTP side in this process, which says what a test lets it say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from shared.vocabulary.decision import Ack
from tests.support.edge_worlds import ToyControlPlane


class ToyReplica:
    """`cp` is what it streams; `acks` what it was told; the flags are its faults."""

    def __init__(self, cp: ToyControlPlane) -> None:
        self.cp = cp
        self.acks: list[Ack] = []
        self.streams = 0
        self.silent = False
        """Accepts and then says nothing, not even a ping."""
        self.without: set[bytes] = set()
        """Documents left out of the snapshot."""
        self.first_words = b""
        """Sent before anything else."""
        self.url = ""
        self._open: set[web.StreamResponse] = set()
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["ToyReplica"]:
        """Listen until the block ends."""
        await self.start(port)
        try:
            yield self
        finally:
            await self.stop()

    async def start(self, port: int = 0) -> None:
        self._closing.clear()
        app = web.Application()
        app.router.add_get("/v1/stream", self._stream)
        app.router.add_post("/v1/acks", self._acks)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def say(self, kind: str, data: bytes) -> None:
        """To everyone who follows."""
        for response in list(self._open):
            try:
                await response.write(b"event: %s\ndata: %s\n\n" % (kind.encode(), data))
            except ConnectionError:
                self._open.discard(response)

    async def beat(self) -> None:
        await self.say("beat", self.cp.beat())

    async def tell_newest(self) -> None:
        """The newest configuration, documents and head, then a Beat."""
        await self.say("config", self.cp.configs[-1])
        for raw in self.cp.documents.values():
            await self.say("decision", raw)
        await self.say("head", self.cp.heads[-1].canonical())
        await self.beat()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.streams += 1
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if not self.silent:
            if self.first_words:
                await response.write(self.first_words)
            self._open.add(response)
            await response.write(b'event: hello\ndata: {"replica":"toy","region":"us-east"}\n\n')
            words = [("config", self.cp.configs[-1])]
            if self.cp.heads:
                words += [("decision", raw) for raw in self.cp.documents.values() if raw not in self.without]
                words += [("head", self.cp.heads[-1].canonical())]
            for kind, data in words:
                await response.write(b"event: %s\r\ndata: %s\r\n\r\n" % (kind.encode(), data))
        try:
            await self._closing.wait()
        finally:
            self._open.discard(response)
        return response

    async def _acks(self, request: web.Request) -> web.Response:
        self.acks.append(Ack.model_validate_json(await request.read()))
        return web.Response(status=204)
