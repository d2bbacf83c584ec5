"""The last question before a request is served: has its key any left, and its route room?

Asked only of keys with limits and routes with `overload`; whoever has neither passes by. What is let in gets a
permit, which is closed when the request has ended, however it ended.

A route that is full may have a lighter one, or answers for when nobody can answer: then its request is let in all the
same, to get those and none of its own targets. It counts against its key as any other, and takes its place, if any, on
the lighter route.
"""

from collections import Counter

from edge_router.core.answers import CLIENT_GONE, Refusal
from edge_router.core.body import Asked
from edge_router.core.endpoints import Endpoint, Kind
from edge_router.core.estimate import estimated_tokens
from edge_router.core.keys import KeyScope
from edge_router.core.overload import RETRY_S, AdaptiveLimit, Signal
from edge_router.core.quota import Exceeded, KeyState, Quotas, retry_lines, settle
from edge_router.core.reception import Turned
from edge_router.core.table import RouteEntry, RouteTable
from edge_router.core.tokens import NONE, Tokens
from shared.vocabulary.client_key import Priority


class Permit:
    """One request that was let in. `lines` are the header lines that tell its key what is left.

    `turned`: its route has no room, and this is what it is answered unless another has; `lighter` says whether the
    lighter route does.
    """

    __slots__ = ("_asked", "_gate", "_signal", "_state", "_ticket", "lighter", "lines", "turned")

    def __init__(
        self,
        state: KeyState | None,
        asked: int,
        lines: bytes,
        gate: AdaptiveLimit | None,
        ticket: int,
        signal: Signal,
        turned: Turned | None = None,
        lighter: bool = False,
    ) -> None:
        self.turned = turned
        self.lighter = lighter
        self.lines = lines
        self._state = state
        self._asked = asked
        self._gate = gate
        self._ticket = ticket
        self._signal = signal

    def first(self, target: str, took_s: float) -> None:
        """The first of a streamed answer has come, `took_s` after the attempt at `target` began that brought it."""
        if self._gate is not None and self._signal is Signal.TTFT:
            self._gate.seen(self._ticket, Signal.TTFT, target, took_s)

    def close(
        self, status: int, code: str, tokens: Tokens, target: str, took_s: float, *, broken: bool
    ) -> None:
        """The request has ended: with `status`, `code` when the edge itself answered, `took_s` after its last
        attempt began, which was at `target`.

        Tokens are those that the answer told; without any, what was taken on account stays taken, unless the
        answer was an error, which costs nothing.
        """
        gate, self._gate = self._gate, None
        if gate is not None:
            good = not code and not broken and 200 <= status < 400
            if self._signal is Signal.WHOLE and target and good:
                gate.seen(self._ticket, Signal.WHOLE, target, took_s)
            gave_up = status == CLIENT_GONE or code == Refusal.TIMEOUT.code
            gate.leave(self._ticket, self._signal, target, took_s if gave_up and target else None)
        state, self._state = self._state, None
        if state is not None:
            used = self._asked
            if tokens is not NONE:
                used = tokens.read + tokens.written
            elif code or (status >= 400 and status != CLIENT_GONE):
                used = 0
            settle(state, self._asked, used)


class Entrance:
    """Of one edge, or of one of its `divide_by` workers, which share what is stated per edge."""

    def __init__(self, *, divide_by: int = 1) -> None:
        self._divide_by = divide_by
        self._quotas = Quotas(divide_by=divide_by)
        self._gates: dict[str, AdaptiveLimit] = {}
        self.shed: Counter[tuple[str, str]] = Counter()
        """Requests turned away because of overload, by route and priority."""

    @property
    def gates(self) -> dict[str, AdaptiveLimit]:
        """The routes that have been asked for and whose requests under way are limited."""
        return self._gates

    def let_in(
        self,
        scope: KeyScope,
        route: RouteEntry,
        endpoint: Endpoint,
        asked: Asked | None,
        body: bytes,
        now: float,
    ) -> Permit:
        """A permit for one request. Raises Turned: over a limit of its key, or no room on its route."""
        signal = Signal.TTFT if asked is not None and asked.stream else Signal.WHOLE
        gate, ticket = None, 0
        turned, lighter = None, False
        if route.overload is not None:
            gate = self._gate(route, now)
            try:
                ticket = self._enter(gate, route, scope.priority, signal, endpoint, now)
            except Turned as full:
                if route.lighter is None and (route.ladder is None or not route.ladder.answers):
                    raise
                turned = full
                gate, ticket, lighter = self._below(route.lighter, scope.priority, signal, now)
        state, taken, lines = None, 0, b""
        if scope.limits is not None:
            try:
                state, taken, lines = self._quotas.enter(
                    scope,
                    lambda: (
                        0
                        if asked is None
                        else estimated_tokens(body, writes=endpoint.kind is not Kind.EMBEDDINGS)
                    ),
                    now,
                )
            except Exceeded as exceeded:
                if gate is not None:
                    gate.leave(ticket, signal, "", None)
                raise _over(exceeded, endpoint) from None
        return Permit(state, taken, lines, gate, ticket, signal, turned, lighter)

    def keep(self, table: RouteTable) -> None:
        """Forget keys and routes that are gone or no longer limited; the others keep what is known of them."""
        if len(self._quotas):
            self._quotas.keep({scope.tenant for scope in table.keys.values() if scope.limits is not None})
        for name in tuple(self._gates):
            route = table.routes.get(name)
            if route is None or route.overload is None:
                del self._gates[name]
        for key in [key for key in self.shed if key[0] not in table.routes]:
            del self.shed[key]

    def _below(
        self, lighter: RouteEntry | None, priority: Priority, signal: Signal, now: float
    ) -> tuple[AdaptiveLimit | None, int, bool]:
        """A place on the lighter route, where it has one: its gate and the ticket, and whether there is room."""
        if lighter is None or lighter.overload is None:
            return None, 0, lighter is not None
        gate = self._gate(lighter, now)
        ticket = gate.enter(priority, signal, now)
        return (None, 0, False) if ticket is None else (gate, ticket, True)

    def _gate(self, route: RouteEntry, now: float) -> AdaptiveLimit:
        assert route.overload is not None
        name = route.gate or route.id
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = AdaptiveLimit(route.overload, now, divide_by=self._divide_by)
        elif gate.bounds is not route.overload:
            gate.rebind(route.overload)
        return gate

    def _enter(
        self,
        gate: AdaptiveLimit,
        route: RouteEntry,
        priority: Priority,
        signal: Signal,
        endpoint: Endpoint,
        now: float,
    ) -> int:
        ticket = gate.enter(priority, signal, now)
        if ticket is None:
            self.shed[route.id, priority.value] += 1
            raise Turned(
                Refusal.OVERLOADED_ROUTE,
                f"route {route.id} has as many requests under way as its targets can carry at the moment",
                endpoint.dialect,
                retry_lines(RETRY_S[priority]),
            )
        return ticket


def _over(exceeded: Exceeded, endpoint: Endpoint) -> Turned:
    what = {
        "requests": "requests a minute",
        "tokens": "tokens a minute",
        "concurrency": "requests at once",
    }[exceeded.unit]
    return Turned(
        Refusal.TOKENS_LIMITED if exceeded.unit == "tokens" else Refusal.RATE_LIMITED,
        f"this key may have {exceeded.limit} {what}: try again in {exceeded.wait_s:.3g} s",
        endpoint.dialect,
        retry_lines(exceeded.wait_s) + exceeded.lines,
    )
