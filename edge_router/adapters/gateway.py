"""The data plane as one object: listener, lanes to the targets, table in force, figures.

one loop, one thread    nothing here needs a lock; a table is taken by one assignment, requests under way
                        keep the one they began with
time                    deadlines are numbers on connections and exchanges, looked at by one sweep every
                        50 ms: a timer each would cost more than the rest of a request's bookkeeping
"""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Final

from prometheus_client import CollectorRegistry

from edge_router.adapters.certificates import ServedCertificate, towards_targets
from edge_router.adapters.exchange import Exchange
from edge_router.adapters.failovers import FailoverLog
from edge_router.adapters.figures import EdgeCollector, Figures
from edge_router.adapters.ladder import Rungs
from edge_router.adapters.lane import Lane
from edge_router.adapters.listener import ClientConnection
from edge_router.adapters.own_errors import OwnErrors
from edge_router.adapters.spared import Accounts
from edge_router.adapters.tracing import Tracing
from edge_router.adapters.upstream import Pool
from edge_router.core.attempts import BUDGET_MIN
from edge_router.core.choose import Chooser
from edge_router.core.entrance import Entrance
from edge_router.core.fault_filter import FaultFilter
from edge_router.core.limits import Limits
from edge_router.core.loads import Loads
from edge_router.core.merge import TargetPart
from edge_router.core.share import WHOLE, Share
from edge_router.core.table import Origin, ResolvedCredential, RouteTable, TargetEntry
from edge_router.core.wire import Memo, RequestHead, ResponseHead, parse_request_head, parse_response_head
from shared.clock import Clock
from shared.log import get_logger
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry, Telemetry
from shared.vocabulary.health import PassiveWindow, RouteLoad
from shared.vocabulary.terms import EdgeMode

log = get_logger(__name__)

SWEEP_S: Final = 0.05
SLOW_SWEEP: Final = 10
"""Every so many sweeps, what has deadlines of many seconds: clients, idle connections."""
BACKLOG: Final = 4096
LAST_WORDS_S: Final = 0.5
"""At the end of a drain: for what ends the broken answers to reach their clients."""


class Gateway:
    """Serves by `table` until drained. `mode` is set by whoever follows the control plane."""

    def __init__(
        self,
        *,
        edge_id: str,
        region: str,
        table: RouteTable,
        credentials: Mapping[str, ResolvedCredential],
        clock: Clock,
        rng: random.Random,
        telemetry: Telemetry,
        supervisor: Supervisor,
        registry: CollectorRegistry,
        limits: Limits | None = None,
        fault_filter: FaultFilter | None = None,
        certificate: ServedCertificate | None = None,
        target_tls: ssl.SSLContext | None = None,
        share: Share = WHOLE,
    ) -> None:
        """Speaks TLS to clients where there is a `certificate`. `target_tls` is for https targets; the system's
        roots without. `share` is that of this process where an edge has several."""
        self.edge_id = edge_id
        self.region = region
        self.table = table
        self.clock = clock
        self.monotonic = clock.monotonic
        self.tracing: Tracing | None = None
        if not isinstance(telemetry, NoTelemetry):
            self.tracing = Tracing(telemetry, edge_id=edge_id, region=region, clock=clock, rng=rng)
        whole = limits or Limits()
        self.limits = replace(
            whole,
            connections=share.part(whole.connections),
            reserved_bytes=share.part(whole.reserved_bytes),
        )
        self.budget_min = share.part(BUDGET_MIN)
        self._share = share
        self.fault_filter = fault_filter
        self.entrance = Entrance(divide_by=share.of)
        self.scheme = b"http" if certificate is None else b"https"
        self._certificate = certificate
        self._target_tls = target_tls
        self.figures = Figures()
        self.failovers = FailoverLog(now=clock.monotonic())
        self.rungs = Rungs()
        self.own_errors = OwnErrors()
        self._loads = Loads()
        self.clients: set[ClientConnection] = set()
        self.exchanges: set[Exchange] = set()
        self.extra_active = 0
        self.reserved_bytes = 0
        self.draining = False
        self.turned = asyncio.Event()
        self.coarse_now = clock.monotonic()
        """At the last sweep: exact enough for deadlines of seconds."""
        self.request_heads: Memo[RequestHead] = Memo(
            partial(parse_request_head, most_fields=self.limits.fields)
        )
        self.draw = rng.random
        self.chooser = Chooser(self.lane, rng.random, offset=rng.random())
        self._response_heads: Memo[ResponseHead] = Memo(parse_response_head)
        self._credentials = credentials
        self._supervisor = supervisor
        self._lanes: dict[str, Lane] = {}
        self._accounts = Accounts()
        self._pools: dict[Origin, Pool] = {}
        self._server: asyncio.Server | None = None
        self._id_prefix = f"{rng.getrandbits(48):012x}-".encode()
        self._ids = 0
        self.mode = EdgeMode.STALE
        registry.register(EdgeCollector(self))

    _closed = False

    # ------------------------------------------------------------ life

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the bound address. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientConnection(self),
            host,
            port,
            backlog=BACKLOG,
            reuse_address=True,
            reuse_port=self._share.of > 1,
            ssl=None if self._certificate is None else self._certificate.context,
            ssl_handshake_timeout=None if self._certificate is None else self.limits.head_s,
        )
        if self._certificate is not None:
            self._supervisor.start("edge-certificate", self._certificate.run)
        self._supervisor.start("edge-sweep", self._sweep)
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let requests finish for `timeout_s`, then end the rest in-band and close all."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for client in tuple(self.clients):
            client.hang_up()
        until = self.monotonic() + timeout_s
        while self.clients and self.monotonic() < until:  # noqa: ASYNC110  (once in a process's life)
            await asyncio.sleep(0.02)
        broken = tuple(self.exchanges)
        for exchange in broken:
            try:
                exchange.stop()
            except Exception as error:  # noqa: BLE001  (the others are still to be ended)
                exchange.crashed("stop", error)
        last_words = self.monotonic() + (LAST_WORDS_S if broken else 0.0)
        while self.clients and self.monotonic() < last_words:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for client in tuple(self.clients):
            try:
                client.abort()
            except Exception as error:  # noqa: BLE001
                self.own_errors.note("abort", error)
        for pool in self._pools.values():
            pool.close()
        self._closed = True
        while self.clients or self.upstream_connections:
            if self.monotonic() > last_words + 1.0:
                break
            await asyncio.sleep(0.01)

    def swap(self, table: RouteTable, *, applied_in: str | None = None) -> None:
        """Serve by `table` from the next request on."""
        if self.tracing is not None:
            self.tracing.swapped(self.table, table, applied_in)
        self.table = table
        self.chooser.keep(table.routes)
        self.figures.keep(table.routes)
        self.rungs.keep(table)
        self.entrance.keep(table)

    # ------------------------------------------------------------ what others ask

    @property
    def mode(self) -> EdgeMode:
        """How old the last word from the control plane is."""
        return self._mode

    @mode.setter
    def mode(self, mode: EdgeMode) -> None:
        self._mode = mode
        self.mode_name = mode.value.encode()
        self.first_attempt_line = (
            b"x-leeward-mode: %b\r\nx-leeward-attempts: 1\r\nx-leeward-request-id: " % self.mode_name
        )

    def passive(self, window_s: float) -> tuple[PassiveWindow, ...]:
        """What was seen of each target in the last `window_s` (at most 10), of those with anything to tell."""
        now = self.monotonic()
        windows = (lane.passive(now, window_s) for lane in self._lanes.values())
        return tuple(window for window in windows if window is not None)

    def spare(self, until: Mapping[str, tuple[float, float]]) -> None:
        """Targets that have said elsewhere that they are at their limit, and until when (see `Spare`)."""
        now = self.monotonic()
        for name, ends in until.items():
            entry = self.table.targets.get(name)
            if entry is not None and ends[0] > now:
                self.lane(entry).spare(*ends)

    def parts(self, window_s: float) -> list[TargetPart]:
        """`passive` as counts, for the parent of several workers to merge."""
        now = self.monotonic()
        found = (lane.part(now, window_s) for lane in self._lanes.values())
        return [part for part in found if part is not None]

    def loads(self, window_s: float) -> tuple[RouteLoad, ...]:
        """What it carried of each route in the last `window_s` (at most 10), of those with traffic."""
        return self._loads.read(self.monotonic(), window_s)

    def lanes(self) -> Iterable[Lane]:
        """All that have been used."""
        return tuple(self._lanes.values())

    @property
    def upstream_connections(self) -> int:
        """Open connections to targets."""
        return sum(len(pool.open) for pool in self._pools.values())

    # ------------------------------------------------------------ for requests

    def lane(self, target: TargetEntry) -> Lane:
        """The lane to `target`, opened at its first use."""
        lane = self._lanes.get(target.id)
        if lane is None:
            lane = self._lanes[target.id] = Lane(
                target,
                self._pool(target.origin),
                self._credentials,
                turned=self.turned.set,
                share=self._share,
                accounts=self._accounts,
            )
        elif lane.entry is not target:
            if lane.entry != target:
                lane.bind(target, self._pool(target.origin), self._credentials)
            lane.entry = target
        return lane

    def next_id(self) -> bytes:
        """A request's id: unique for this process, and across them by its random beginning."""
        self._ids += 1
        return b"%b%x" % (self._id_prefix, self._ids)

    def _pool(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(
                origin,
                heads=self._response_heads,
                supervisor=self._supervisor,
                now=self.coarse_now,
                tls=lambda: self._tls,
            )
        return pool

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._target_tls or towards_targets(None)

    # ------------------------------------------------------------ sweep

    async def _sweep(self) -> None:
        turn = 0
        while not self._closed:
            await asyncio.sleep(SWEEP_S)
            now = self.coarse_now = self.monotonic()
            for exchange in tuple(self.exchanges):
                if now >= exchange.deadline:
                    try:
                        exchange.timed_out(now)
                    except Exception as error:  # noqa: BLE001  (all other deadlines hang on this loop)
                        exchange.crashed("timed_out", error)
            turn += 1
            try:
                if self._loads.due(now):
                    under_way = Counter(exchange.route.id for exchange in self.exchanges)
                    self._loads.sample(under_way, self.figures.ended(), now)
                if turn % SLOW_SWEEP == 0:
                    self._slow_sweep(now)
            except Exception as error:  # noqa: BLE001
                self.own_errors.note("sweep", error)

    def _slow_sweep(self, now: float) -> None:
        for client in tuple(self.clients):
            if now >= client.deadline:
                try:
                    client.timed_out()
                except Exception as error:  # noqa: BLE001
                    self.own_errors.note("client_timed_out", error)
                    client.cut()
        if self.fault_filter is not None:
            for name in self.fault_filter.expire(now):
                log.warning("fault lapsed: nobody renewed it", fault=name)
        self.figures.turn(now)
        self.failovers.turn(now)
        self.rungs.turn(self.table.routes, now)
        for origin, pool in tuple(self._pools.items()):
            pool.sweep(now)
            if not pool.open and origin not in self._origins:
                del self._pools[origin]
        for lane in self._lanes.values():
            lane.refresh(now)
        if len(self._lanes) > len(self.table.targets):
            gone = [
                name
                for name, lane in self._lanes.items()
                if name not in self.table.targets and not lane.inflight
            ]
            for name in gone:
                self._lanes.pop(name).leave()

    @property
    def _origins(self) -> set[Origin]:
        return {lane.entry.origin for lane in self._lanes.values()}
