"""The API's listener: uvicorn inside our own loop, under our own signal handlers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from shared.supervise import Supervisor
from shared.vocabulary.node import HostPort

BACKLOG = 1024
START_S = 5
GRACE_S = 2


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.accepting.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The process has handlers of its own, which end this server in their order."""
        yield


def bind(listen: HostPort) -> socket.socket:
    """The listening socket. Raises OSError, naming the address, when it is taken or not ours."""
    host, _, port = listen.rpartition(":")
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        return socket.create_server((bare, int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror or error}") from error


@asynccontextmanager
async def listening(app: object, sock: socket.socket, supervisor: Supervisor) -> AsyncIterator[None]:
    """Serve `app` on `sock` while inside; leaving stops accepting and lets requests finish, 2 s at most."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    task = supervisor.spawn("http", server.serve(sockets=[sock]))
    try:
        async with asyncio.timeout(START_S):
            await server.accepting.wait()
        yield
    finally:
        server.should_exit = True
        async with asyncio.timeout(GRACE_S + 3):
            await asyncio.shield(task)
