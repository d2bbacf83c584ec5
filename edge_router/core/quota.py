"""How much each client key has left of its requests and tokens per minute, and how many it has under way.

algorithm   A token bucket (ITU-T I.371, Annex A describes its twin, the GCRA): it holds a minute's worth at most
            and fills at the limit's pace. So over any time of t seconds a key gets at most limit x (t / 60) and one
            bucket more: after a quiet minute, twice its limit in the next; in the long run never more.
tokens      What a request will take is known only when it is answered. It is let in on an estimate, and the
            difference to what the answer tells is taken or given back then: a bucket can be in debt, at most
            `MAX_DEBT` times its size, and lets nobody in until that is paid off. A request estimated at more than
            the whole bucket needs a full one: otherwise it could never come in.
memory      One small record for each limited key that has been used, as long as the table has that key.
workers     Limits are stated per edge. With `divide_by` workers behind one address each holds that part of them.
"""

from collections.abc import Callable, Collection
from math import ceil
from typing import Final

from edge_router.core.keys import KeyLimits, KeyScope

MAX_DEBT: Final = 10.0
_MINUTE_S: Final = 60.0
_BUSY_RETRY_S: Final = 1.0
"""When a key has too many requests under way: one of them may end at any time."""
_CLOSE_ENOUGH: Final = 1e-6
"""Of one request or token: what sums of floats are off by."""


class Exceeded(Exception):
    """A key is over one of its limits. `unit` is what of: requests, tokens, or concurrency."""

    def __init__(self, unit: str, limit: int, wait_s: float, lines: bytes) -> None:
        super().__init__(f"{unit}: {limit}")
        self.unit = unit
        self.limit = limit
        self.wait_s = wait_s
        self.lines = lines


class Bucket:
    """See the module. Mutable; times are monotonic seconds."""

    __slots__ = ("_at", "capacity", "level", "limit", "rate")

    def __init__(self, limit: int, divide_by: int, now: float) -> None:
        self.limit = limit
        self.capacity = max(1.0, limit / divide_by)
        self.rate = limit / divide_by / _MINUTE_S
        self.level = self.capacity
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        """0 when `amount` can be taken, else in how many seconds it could be."""
        if now > self._at:
            self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
            self._at = now
        short = min(amount, self.capacity) - self.level
        return 0.0 if short <= _CLOSE_ENOUGH else short / self.rate

    def take(self, amount: float) -> None:
        """Take it, up to the deepest debt; give it back where it is negative."""
        self.level = max(-MAX_DEBT * self.capacity, min(self.capacity, self.level - amount))

    def resize(self, limit: int, divide_by: int, now: float) -> None:
        """The limit has changed: what has been taken stays taken."""
        self.wait_s(0.0, now)
        taken = self.capacity - self.level
        self.limit = limit
        self.capacity = max(1.0, limit / divide_by)
        self.rate = limit / divide_by / _MINUTE_S
        self.level = self.capacity
        self.take(taken)


class KeyState:
    """What one key has left at the moment."""

    __slots__ = ("limits", "requests", "tokens", "under_way")

    def __init__(self) -> None:
        self.limits: KeyLimits | None = None
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.under_way = 0


class Quotas:
    """Of all keys that have limits. `divide_by` is the number of workers that share this edge's clients."""

    def __init__(self, *, divide_by: int = 1) -> None:
        if divide_by < 1:
            raise ValueError("divide_by is at least 1")
        self._divide_by = divide_by
        self._states: dict[str, KeyState] = {}

    def __len__(self) -> int:
        return len(self._states)

    def enter(self, scope: KeyScope, estimate: Callable[[], int], now: float) -> tuple[KeyState, int, bytes]:
        """Let one request of a limited key in: its state, the tokens taken on account, and the header lines that
        tell what is left. `estimate` is asked only for keys with a limit on tokens. Raises Exceeded, having
        taken nothing."""
        state = self._state(scope, now)
        limits = state.limits
        assert limits is not None
        most = limits.concurrency
        if most is not None and state.under_way >= max(1, most // self._divide_by):
            raise Exceeded("concurrency", most, _BUSY_RETRY_S, self._lines(state))
        asked = estimate() if state.tokens is not None else 0
        waits = (
            (bucket.wait_s(amount, now), unit, bucket.limit)
            for bucket, amount, unit in (
                (state.requests, 1, "requests"),
                (state.tokens, asked, "tokens"),
            )
            if bucket is not None
        )
        wait_s, unit, limit = max(waits, default=(0.0, "", 0))
        if wait_s > 0.0:
            raise Exceeded(unit, limit, wait_s, self._lines(state))
        if state.requests is not None:
            state.requests.take(1)
        if state.tokens is not None:
            asked = min(asked, ceil(state.tokens.capacity))
            state.tokens.take(asked)
        state.under_way += 1
        return state, asked, self._lines(state)

    def keep(self, tenants: Collection[str]) -> None:
        """Forget keys that are gone. A request of theirs that is under way keeps its own hold of the state."""
        for tenant in [tenant for tenant in self._states if tenant not in tenants]:
            del self._states[tenant]

    def _state(self, scope: KeyScope, now: float) -> KeyState:
        state = self._states.get(scope.tenant)
        if state is None:
            state = self._states[scope.tenant] = KeyState()
        if state.limits is not scope.limits:
            limits = scope.limits
            assert limits is not None, "only keys with limits come here"
            state.requests = self._bucket(state.requests, limits.requests_per_minute, now)
            state.tokens = self._bucket(state.tokens, limits.tokens_per_minute, now)
            state.limits = limits
        return state

    def _bucket(self, bucket: Bucket | None, limit: int | None, now: float) -> Bucket | None:
        if limit is None:
            return None
        if bucket is None:
            return Bucket(limit, self._divide_by, now)
        if bucket.limit != limit:
            bucket.resize(limit, self._divide_by, now)
        return bucket

    def _lines(self, state: KeyState) -> bytes:
        """The fields of OpenAI's "Rate limits", section "Rate limits in headers"."""
        return b"".join(
            b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n"
            % (
                unit,
                bucket.limit,
                unit,
                min(bucket.limit, max(0, int((bucket.level + _CLOSE_ENOUGH) * self._divide_by))),
                unit,
                span((bucket.capacity - bucket.level) / bucket.rate),
            )
            for unit, bucket in ((b"requests", state.requests), (b"tokens", state.tokens))
            if bucket is not None
        )


def settle(state: KeyState, asked: int, used: int) -> None:
    """A request has ended that had `asked` tokens on account and took `used`."""
    state.under_way -= 1
    if state.tokens is not None and used != asked:
        state.tokens.take(used - asked)


def retry_lines(wait_s: float) -> bytes:
    """RFC 9110, section 10.2.3, in whole seconds; and `retry-after-ms`, which OpenAI's SDKs prefer."""
    return b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (max(1, ceil(wait_s)), max(1, ceil(wait_s * 1000)))


def span(seconds: float) -> bytes:
    """A time as OpenAI writes it: `20ms`, `7.5s`, `6m0s`."""
    ms = max(0, ceil(seconds * 1000 - _CLOSE_ENOUGH))
    if ms < 1000:
        return b"%dms" % ms
    minutes, ms = divmod(ms, 60_000)
    rest = f"{ms / 1000:g}s".encode()
    return b"%dm%b" % (minutes, rest) if minutes else rest
