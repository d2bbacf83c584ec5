"""What this edge holds of one target at the moment: its connections, its standing, and what came of its attempts.

A lane outlives tables: the next decision finds the target as this edge knows it.
"""

from collections.abc import Callable, Mapping
from typing import Final

from edge_router.adapters.spared import Accounts, Spared
from edge_router.adapters.upstream import Pool
from edge_router.core.admission import (
    CLEAN,
    Admission,
    Event,
    State,
    admits,
    after_outcome,
    after_window,
    step,
)
from edge_router.core.choose import READY, PeakEwma, Readiness
from edge_router.core.cooling import Cooling
from edge_router.core.merge import TargetPart, merged
from edge_router.core.share import WHOLE, Share
from edge_router.core.table import ResolvedCredential, TargetEntry
from edge_router.core.window import BROKEN, SLOT_S, SLOTS, Lately, Window
from shared.log import get_logger
from shared.vocabulary.health import QUALITY_RESULTS, PassiveWindow
from shared.vocabulary.terms import Outcome

log = get_logger(__name__)

WINDOW_S: Final = SLOT_S * (SLOTS - 1)


class Lane:
    """Mutable; one per target. Times are monotonic seconds."""

    __slots__ = (
        "_accounts",
        "_clean",
        "_prefixes",
        "_share",
        "_turned",
        "admission",
        "answers",
        "authenticated",
        "broken_run",
        "capacity",
        "credential_line",
        "entry",
        "ewma",
        "inflight",
        "lately",
        "pool",
        "possibly_billed",
        "spared",
        "success",
        "totals",
        "ttft_floor_s",
        "window",
    )

    def __init__(
        self,
        entry: TargetEntry,
        pool: Pool,
        credentials: Mapping[str, ResolvedCredential],
        *,
        turned: Callable[[], None] = lambda: None,
        share: Share = WHOLE,
        accounts: Accounts | None = None,
    ) -> None:
        """`turned` is called when it is ejected or begins to cool; `accounts` are those of the edge."""
        self._turned = turned
        self._share = share
        self._accounts = Accounts() if accounts is None else accounts
        self.spared = Spared()
        self.inflight = 0
        self.admission: Admission = CLEAN
        self.ewma = PeakEwma()
        self.window = Window()
        self.lately = Lately(share.part(QUALITY_RESULTS))
        self.answers = 0
        """Attempts that came to OK; the others stand in `totals`."""
        self.totals: dict[Outcome, int] = {}
        self.broken_run = 0
        """Attempts that broke off since it last did its work."""
        self.possibly_billed = 0
        self.success = 1.0
        """Share of attempts in the window that brought a complete answer, as of the last `refresh`."""
        self.ttft_floor_s = 0.0
        """Twice its own p99: no first byte is called late before that."""
        self._clean = True
        """Nothing is the matter: admitted, no demerits, not cooling."""
        self.bind(entry, pool, credentials)

    def bind(self, entry: TargetEntry, pool: Pool, credentials: Mapping[str, ResolvedCredential]) -> None:
        """Take the target as the table now has it."""
        self.entry = entry
        self.pool = pool
        self.leave()
        self.spared = self._accounts.of(entry)
        self.spared.lanes.add(self)
        self._clean = self._clean and not self.spared.until
        self.capacity = self._share.part(entry.capacity_inflight, entry.id)
        self._prefixes: dict[bytes, bytes] = {}
        self.credential_line = b""
        credential = credentials.get(entry.credential) if entry.credential else None
        if credential is not None and entry.origin in credential.origins:
            self.credential_line = b"%b: %b\r\n" % (credential.header, credential.value)
        elif entry.credential:
            log.warning("target goes without its credential", target=entry.id, bound=credential is not None)
        self.authenticated = bool(self.credential_line)

    def leave(self) -> None:
        """It is gone, or another account's: its limit concerns it no more."""
        self.spared.lanes.discard(self)

    def prefix(self, method: bytes, path: bytes) -> bytes:
        """The beginning of a request: request line, host, credential, via."""
        key = method + path
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = b"%b %b%b HTTP/1.1\r\nhost: %b\r\nvia: 1.1 leeward\r\n%b" % (
                method,
                self.entry.base_path,
                path,
                self.entry.host,
                self.credential_line,
            )
            if len(key) <= _MAX_PREFIX_KEY:
                if len(self._prefixes) >= _MAX_PREFIXES:
                    self._prefixes.clear()  # clients choose paths: what is usual is soon back
                self._prefixes[key] = prefix
        return prefix

    # ------------------------------------------------------------ standing

    def readiness(self, now: float) -> Readiness:
        """Whether a request can be sent now."""
        if self.inflight >= self.capacity:
            return Readiness.FULL
        if self._clean:
            return READY
        if now < self.spared.until:
            return Readiness.COOLING
        return Readiness.READY if admits(self.admission, now) else Readiness.DOUBTFUL

    def due(self, now: float) -> float:
        """When it is expected back."""
        until = self.admission.until if self.admission.state is State.EJECTED else now
        return max(until, self.spared.until)

    @property
    def cool_until(self) -> float:
        """Until when it is spared."""
        return self.spared.until

    @property
    def partial(self) -> bool:
        """Ejected for its share of failures: it answers some."""
        return self.admission.by_share

    @property
    def latency_ms(self) -> float:
        """Expected, to the first byte; 0 when nothing is known."""
        return self.ewma.value

    @property
    def cost(self) -> float:
        """Expected wait, for the strategy `latency`."""
        return self.ewma.value * (self.inflight + 1)

    def cool(self, cooling: Cooling, now: float) -> None:
        """Spare it for a while, and all of its account: it said that it is at its limit."""
        spared = self.spared
        if now >= spared.until or (cooling.exhausted and now >= spared.exhausted_until):
            # Once for each storm, not for each of its answers.
            log.info(
                "cooling",
                target=self.entry.id,
                seconds=round(cooling.seconds, 3),
                exhausted=cooling.exhausted,
            )
            self._turned()
        spared.until = max(spared.until, now + cooling.seconds)
        if cooling.exhausted:
            spared.exhausted_until = max(spared.exhausted_until, now + cooling.seconds)
        for lane in spared.lanes:
            lane._clean = False

    def spare(self, until: float, exhausted_until: float) -> None:
        """The same, as another of this edge's workers was told."""
        spared = self.spared
        spared.until = max(spared.until, until)
        spared.exhausted_until = max(spared.exhausted_until, exhausted_until)
        for lane in spared.lanes:
            lane._clean = False

    # ------------------------------------------------------------ attempts

    def begin(self, now: float) -> bool:
        """A request is about to be sent; returns whether it is a trial."""
        self.inflight += 1
        if self._clean or self.admission.state is State.ADMITTING or not admits(self.admission, now):
            return False
        self._stand(step(self.admission, Event.TRIAL, now), now)
        return True

    def won(self, now: float, latency_s: float, ttft_s: float) -> None:
        """An attempt brought a complete answer."""
        self.inflight -= 1
        self.answers += 1
        if ttft_s == latency_s:
            self.window.add_answer(latency_s * 1000.0, now)
        else:
            self.window.add_stream(latency_s * 1000.0, ttft_s * 1000.0, now)
        self.ewma.add(ttft_s * 1000.0, now)
        if not self._clean:
            self.broken_run = 0
            self._stand(after_outcome(self.admission, Outcome.OK, now), now)

    def ended(self, outcome: Outcome | None, now: float, *, trial: bool) -> None:
        """An attempt ended otherwise. None: it says nothing about the target."""
        self.inflight -= 1
        if outcome is not None:
            self.totals[outcome] = self.totals.get(outcome, 0) + 1
            self.window.add(outcome, now)
            if outcome in BROKEN:
                self.broken_run += 1
            elif outcome is Outcome.GARBLED:
                self.lately.wrong(self._judged())
            self._stand(after_outcome(self.admission, outcome, now), now)
        elif trial:
            self._stand(step(self.admission, Event.DROPPED, now), now)

    def answered_client_fault(self, now: float) -> None:
        """An attempt brought an answer that blames the client: the target did its work."""
        self.inflight -= 1
        if not self._clean:
            self.broken_run = 0
            self._stand(step(self.admission, Event.GOOD, now), now)

    def refresh(self, now: float) -> None:
        """What is derived from the window, now and then."""
        reading = self.window.read(now, min(WINDOW_S, now - self.admission.since))
        self.ttft_floor_s = 2.0 * reading.ttft_ms_p99 / 1000.0
        attempts = sum(reading.counts.values())
        self.success = reading.counts.get(Outcome.OK, 0) / attempts if attempts else 1.0
        if len(reading.counts) > 1:
            self._stand(after_window(self.admission, reading.counts, now), now)

    def passive(self, now: float, window_s: float) -> PassiveWindow | None:
        """What was seen of it in the last `window_s`; None when there is nothing to tell."""
        part = self.part(now, window_s)
        return None if part is None else merged((part,), now)

    def part(self, now: float, window_s: float) -> TargetPart | None:
        """The same as counts, to be merged with what the edge's other workers saw."""
        bins = self.window.bins(now, window_s)
        if not bins.counts:
            self.lately.restart(self._judged())
            if not self.inflight and self.admission.state is State.ADMITTING and self.cool_until <= now:
                return None
        judged, garbled = self.lately.read(self._judged())
        return TargetPart(
            target=self.entry.id,
            window_s=window_s,
            bins=bins,
            inflight=self.inflight,
            admission=self.admission.state.value,
            broken_run=self.broken_run,
            cool_until=self.spared.until,
            exhausted_until=self.spared.exhausted_until,
            judged=judged,
            garbled=garbled,
        )

    def _judged(self) -> int:
        """Answers so far, right and wrong."""
        return self.answers + self.totals.get(Outcome.GARBLED, 0)

    def _stand(self, admission: Admission, now: float) -> None:
        if admission.state is not self.admission.state:
            log.info(
                "admission",
                target=self.entry.id,
                state=admission.state.value,
                was=self.admission.state.value,
                bench_s=round(max(0.0, admission.until - now), 3),
            )
            if admission.state is State.EJECTED:
                self._turned()
        self.admission = admission
        self._clean = admission is CLEAN and now >= self.spared.until


_MAX_PREFIXES: Final = 64
_MAX_PREFIX_KEY: Final = 256
