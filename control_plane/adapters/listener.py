"""The API's listener: uvicorn inside our own loop, under our own signal handlers."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from shared.supervise import Supervisor
from shared.vocabulary.node import HostPort, ServerTls

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


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """For the listener. Raises OSError, naming the files, where they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise OSError(
            error.errno, f"api.tls, {tls.cert_file} and {tls.key_file}: {error.strerror or error}"
        ) from error
    return context


@asynccontextmanager
async def listening(
    app: object, sock: socket.socket, supervisor: Supervisor, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve `app` on `sock` while inside, over TLS where a context is given; leaving stops accepting and lets requests finish, 2 s at most."""
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
        ssl_context_factory=None if tls is None else lambda config, default: tls,
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
