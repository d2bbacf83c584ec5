"""Notices to webhooks, each in its own order and at its own pace.

bounded     a queue of `QUEUE` per webhook, of which the oldest give way; one attempt per webhook at a time, of at
            most `POST_S`, and `MAX_WEBHOOKS` in all; retries with backoff and jitter until `GIVE_UP_S` after it was
            put here. Nobody waits for it, no webhook for another
at least    what a leader had not told when it ended is told by the next one, under the same id: a receiver that
once        was reached and could not say so hears it twice
visible     counted by webhook and result; the first failure in a row and the giving up are logged. Neither URL nor
            secret ever is
"""

import asyncio
import hmac
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from control_plane.loops.pulse import Pulse
from control_plane.metrics import Metrics
from control_plane.ports_alerts import Outgoing, Undeliverable
from shared.backoff import Backoff
from shared.clock import Clock
from shared.log import get_logger
from shared.metrics import installed_version
from shared.secrets import SecretError, resolve
from shared.vocabulary.alerts import MAX_WEBHOOKS, Notice, Webhook

log = get_logger(__name__)

QUEUE = 200
POST_S = 5.0
GIVE_UP_S = 900.0
FLOOR_S = 0.5
CAP_S = 60.0
IDLE_S = 60.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A notice, and when, monotonic, it was put in its lane."""

    notice: Notice
    put_at: float


@dataclass(slots=True)
class _Lane:
    """One webhook's."""

    webhook: Webhook
    backoff: Backoff
    waiting: deque[_Waiting] = field(default_factory=deque)
    due_at: float = 0.0
    """Monotonic: when its first may be tried."""
    failing: bool = False


class Notifier:
    """`run` is its loop. `resolve_secret` reads what a reference stands for; it may raise SecretError."""

    def __init__(
        self,
        outgoing: Outgoing,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        on_done: Callable[[str], None],
        resolve_secret: Callable[[str], str] = resolve,
    ) -> None:
        self._outgoing = outgoing
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._on_done = on_done
        self._resolve = resolve_secret
        self._lanes: dict[str, _Lane] = {}
        self._busy: set[str] = set()
        """Webhooks that are asked at this moment."""
        self._pulse = Pulse()

    @property
    def waiting(self) -> int:
        """Notices times webhooks that have not been told."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def put(self, notices: Sequence[Notice], webhooks: Sequence[Webhook]) -> None:
        """Tell `notices` to those of `webhooks` that want them. What waits already goes by `webhooks` too: those
        that are not named any more, and what they no longer want, are forgotten, and one that has changed is tried
        at once. A notice that waits already is not put twice."""
        self._change({webhook.id: webhook for webhook in webhooks})
        now = self._clock.monotonic()
        for notice in notices:
            wanted = [webhook for webhook in webhooks if webhook.wants(notice.event)]
            for webhook in wanted:
                lane = self._lanes.setdefault(webhook.id, _Lane(webhook, self._backoff()))
                if notice.id not in {one.notice.id for one in lane.waiting}:
                    lane.waiting.append(_Waiting(notice, now))
                if len(lane.waiting) > QUEUE:
                    self._drop(webhook.id, lane.waiting.popleft().notice, "dropped")
            if not wanted:
                self._on_done(notice.id)
        self._pulse.fire()

    def forget(self) -> None:
        """Another leads: what waits is told by them."""
        self._lanes.clear()

    async def run(self) -> None:
        """Deliver, for ever: one task for each webhook that is asked."""
        self._busy.clear()
        async with asyncio.TaskGroup() as attempts:
            while True:
                seen = self._pulse.count
                now = self._clock.monotonic()
                idle = [lane for name, lane in self._lanes.items() if lane.waiting and name not in self._busy]
                # A webhook that was taken out may still be asked: its turn counts until it has ended.
                for lane in [lane for lane in idle if lane.due_at <= now][: MAX_WEBHOOKS - len(self._busy)]:
                    self._busy.add(lane.webhook.id)
                    attempts.create_task(self._turn(lane))
                next_at = min((lane.due_at for lane in idle if lane.due_at > now), default=now + IDLE_S)
                await self._pulse.wait(seen, next_at - now)

    async def _turn(self, lane: _Lane) -> None:
        name = lane.webhook.id
        try:
            if lane.waiting:
                await self._attempt(lane.webhook, lane, lane.waiting[0])
        finally:
            self._busy.discard(name)
            self._pulse.fire()

    async def _attempt(self, webhook: Webhook, lane: _Lane, one: _Waiting) -> None:
        notice = one.notice
        try:
            url = webhook.url if webhook.url is not None else self._resolve(webhook.url_from or "")
            secret = self._resolve(webhook.secret) if webhook.secret is not None else None
            body = notice.canonical()
            headers = headers_of(notice, body, secret=secret, at_s=int(self._clock.now().timestamp()))
            async with asyncio.timeout(POST_S + 1.0):
                await self._outgoing.post(url, body, headers, timeout_s=POST_S)
        except (Undeliverable, SecretError, TimeoutError) as error:
            self._failed(webhook, lane, one, error)
            return
        self._took(lane, notice)
        lane.backoff.reset()
        lane.due_at, lane.failing = 0.0, False
        self._metrics.notices.labels(webhook.id, "told").inc()
        began = notice.until or notice.since
        self._metrics.notice_seconds.observe(max(0.0, (self._clock.now() - began).total_seconds()))
        log.info("notice told", webhook=webhook.id, id=notice.id)

    def _failed(self, webhook: Webhook, lane: _Lane, one: _Waiting, error: Exception) -> None:
        name, notice = webhook.id, one.notice
        self._metrics.notices.labels(name, "failed").inc()
        if self._lanes.get(name) is not lane or lane.webhook != webhook:
            return  # the one that failed is no more; the one in its place has not been asked
        final = isinstance(error, Undeliverable) and error.final
        waited_s = self._clock.monotonic() - one.put_at
        problem = str(error) or type(error).__name__
        if final or waited_s > GIVE_UP_S:
            log.error("notice given up", webhook=name, id=notice.id, problem=problem)
            self._took(lane, notice)
            self._metrics.notices.labels(name, "given_up").inc()
            return
        if not lane.failing:
            log.warning("notice not told yet, will try again", webhook=name, id=notice.id, problem=problem)
        lane.failing = True
        lane.due_at = self._clock.monotonic() + lane.backoff.next()

    def _change(self, webhooks: Mapping[str, Webhook]) -> None:
        """Have every lane go by `webhooks`."""
        forgotten: list[_Waiting] = []
        for name, lane in list(self._lanes.items()):
            webhook = webhooks.get(name)
            if webhook is None:
                forgotten += self._lanes.pop(name).waiting
            elif webhook != lane.webhook:
                forgotten += [one for one in lane.waiting if not webhook.wants(one.notice.event)]
                lane.waiting = deque(one for one in lane.waiting if webhook.wants(one.notice.event))
                lane.webhook, lane.due_at, lane.failing = webhook, 0.0, False
                lane.backoff.reset()
        for one in forgotten:
            self._settled(one.notice.id)

    def _backoff(self) -> Backoff:
        return Backoff(base_s=1.0, cap_s=CAP_S, floor_s=FLOOR_S, rng=self._rng)

    def _took(self, lane: _Lane, notice: Notice) -> None:
        """`notice` is done with; while it was under way the queue may have been emptied, or forgotten with its term:
        then it is another's to say what has been told."""
        if lane.waiting and lane.waiting[0].notice.id == notice.id:
            lane.waiting.popleft()
        if self._lanes.get(lane.webhook.id) is lane:
            self._settled(notice.id)

    def _drop(self, name: str, notice: Notice, result: str) -> None:
        log.error("notice given up", webhook=name, id=notice.id, problem="too many wait")
        self._metrics.notices.labels(name, result).inc()
        self._settled(notice.id)

    def _settled(self, notice_id: str) -> None:
        """Told where no webhook waits for it any more."""
        if not any(one.notice.id == notice_id for lane in self._lanes.values() for one in lane.waiting):
            self._on_done(notice_id)


def headers_of(notice: Notice, body: bytes, *, secret: str | None, at_s: int) -> dict[str, str]:
    """Of one attempt at `at_s`, Unix time. The signature is HMAC-SHA256 over `<timestamp>.<body>`."""
    headers = {
        "content-type": "application/json",
        "user-agent": f"leeward/{installed_version()}",
        "x-leeward-id": notice.id,
        "x-leeward-event": notice.event,
        "x-leeward-timestamp": str(at_s),
    }
    if secret is not None:
        signed = hmac.new(secret.encode(), b"%d." % at_s + body, sha256).hexdigest()
        headers["x-leeward-signature"] = f"sha256={signed}"
    return headers
