"""The leader's eye on what people should know: it looks once a second, and says what is news.

Never in the way of deciding: a loop of its own, which reads what others have concluded. What stands is kept in etcd
under `alarms`, fenced, and written only when something begins, ends or has been told: a successor reads it and
repeats nothing. Ids alone would not do, for a successor that has just begun dates what it sees by its own start, and
its receivers would hear of every standing alarm again; so ids are what is left for the one case that the book cannot
cover, a notice that was delivered by a leader who could not say so any more.

Where nobody is to be told, nothing is written; what stands is still counted and logged. When etcd takes no writes
(its own alarm is one of these), people are told all the same.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from control_plane.core.alarms import (
    EdgeWord,
    Moment,
    Patience,
    Teller,
    advance,
    complaints,
    told,
)
from control_plane.core.sheds import shed_of
from control_plane.loops.lead import Lead, advertised_url
from control_plane.loops.ledger import fence
from control_plane.loops.mirror import Mirror
from control_plane.loops.notify import Notifier
from control_plane.loops.reading import read
from control_plane.metrics import Metrics
from control_plane.ports import EdgeRecord, Tenure
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Compare, Coordination, PortError, Put
from shared.vocabulary.alerts import EVENTS, AlarmBook, AlertPolicy, Notice
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.node import Node
from shared.vocabulary.view import HealthView

log = get_logger(__name__)

LOOK_S = 1.0
FIRST_S = 5.0
"""For so long a new leader says that nobody led before, from when it knows and is warm."""
WARM_S = 10.0
"""Longest that a new leader waits until it has heard everybody: a bus that is down is one of the things to tell."""
SAVE_EVERY_S = 5.0
"""Between two attempts to write the book while etcd does not take it."""


class Alarms:
    """`run` is its loop. `view`, `edges`, `config` and `etcd_alarms` are read at each look; `warm` says whether
    this replica has heard everybody."""

    def __init__(
        self,
        store: Coordination,
        *,
        lead: Lead,
        mirror: Mirror,
        node: Node,
        view: Callable[[], HealthView | None],
        edges: Callable[[], Sequence[EdgeRecord]],
        config: Callable[[], FleetConfig | None],
        etcd_alarms: Callable[[], Sequence[str]],
        warm: Callable[[], bool],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._lead = lead
        self._mirror = mirror
        self._base_url = advertised_url(node)
        self._view = view
        self._edges = edges
        self._config = config
        self._etcd_alarms = etcd_alarms
        self._warm = warm
        self._clock = clock
        self._metrics = metrics
        self.notifier: Notifier | None = None
        """None where there is no way out: then nothing is told, nor written."""
        self._done: set[str] = set()
        self._told_by: AlertPolicy | None = None
        """The policy that the notifier was given last in this term."""
        self._shed: tuple[str, Mapping[tuple[str, str], int]] = ("", {})
        self._save_at = 0.0

    def done(self, notice_id: str) -> None:
        """Nobody waits for this notice any more."""
        self._done.add(notice_id)

    async def run(self) -> None:
        """Look on in every term this replica holds."""
        while True:
            term = self._lead.term
            if term is not None:
                self._told_by = None
                await self._in_term(term)
                self._count(AlarmBook())
                if self.notifier is not None:
                    self.notifier.forget()
            await asyncio.sleep(LOOK_S)

    def shed(self) -> Mapping[tuple[str, str], int]:
        """Permille that the decisions in force turn away, by route and region."""
        force = self._mirror.in_force
        if force.head_sha != self._shed[0]:
            self._shed = (force.head_sha, shed_of(force.documents))
        return self._shed[1]

    async def _in_term(self, term: Tenure) -> None:
        began, began_at = self._clock.monotonic(), self._clock.now()
        patience, saved, revision = Patience(), AlarmBook(), 0
        while self._lead.holds(term):
            try:
                saved, revision = await self._load()
                break
            except PortError:
                await asyncio.sleep(LOOK_S)
        book, warm, first_at = saved, False, float("inf")
        self._done.clear()
        while self._lead.holds(term):
            policy = self._policy()
            if policy is None:
                await asyncio.sleep(LOOK_S)
                continue
            self._tell(book.untold if self._told_by is None else (), policy)
            now = self._clock.monotonic()
            warm = warm or self._warm() or now - began >= WARM_S
            news: tuple[Notice, ...] = ()
            if warm:
                leaderless = self._leaderless(term, began_at)
                first_at = first_at if leaderless is None else min(first_at, now)
                leaderless = leaderless if now - first_at < FIRST_S else None
                book, news = self._look(book, patience, policy, term, leaderless)
            if self.notifier is None:
                self._done = {notice.id for notice in book.untold}
            book, self._done = told(book, frozenset(self._done)), set()
            if self.notifier is not None and policy.webhooks and book != saved:
                saved, revision = await self._save(term, book, saved, revision, hasty=bool(news))
                if not self._lead.holds(term):
                    return
            self._tell(news, policy)
            self._count(book)
            await asyncio.sleep(LOOK_S)

    def _tell(self, notices: Sequence[Notice], policy: AlertPolicy) -> None:
        """Hand on what is to be told, and to whom when that has changed: it concerns what waits already."""
        if self.notifier is not None and (notices or self._told_by != policy):
            self.notifier.put(notices, policy.webhooks)
        self._told_by = policy

    def _look(
        self,
        book: AlarmBook,
        patience: Patience,
        policy: AlertPolicy,
        term: Tenure,
        leaderless: tuple[datetime, float] | None,
    ) -> tuple[AlarmBook, tuple[Notice, ...]]:
        moment = Moment(
            view=self._view(),
            edges=[
                EdgeWord(
                    record.ack.edge, record.ack.region, record.ack.mode, record.ack.version, record.age_s
                )
                for record in self._edges()
            ],
            etcd_alarms=self._etcd_alarms(),
            shed=self.shed(),
            watching=_watching(self._config()),
            drills=self._mirror.drills.drills,
            leaderless=leaderless,
        )
        book, news = advance(
            book,
            complaints(moment, policy),
            patience,
            policy,
            teller=Teller(term, self._mirror.in_force.version, policy.dashboard_url or self._base_url),
            now=self._clock.now(),
            monotonic=self._clock.monotonic(),
        )
        for notice in news:
            say = log.warning if notice.state == "firing" else log.info
            say(f"alarm {notice.state}", alarm=notice.alarm, what=notice.text, decision=notice.decision)
        return book, news

    def _leaderless(self, term: Tenure, began_at: datetime) -> tuple[datetime, float] | None:
        former = self._mirror.beat_before(term.epoch)
        return None if former is None else (former.sent_at, (began_at - former.sent_at).total_seconds())

    def _policy(self) -> AlertPolicy | None:
        """None while it is not known who is to be told: what waited for nobody would count as told."""
        config = self._config() if self._mirror.listed else None
        return config.fleet.alerts if config is not None else None

    def _count(self, book: AlarmBook) -> None:
        for event in EVENTS:
            self._metrics.alarms.labels(event).set(sum(alarm.event == event for alarm in book.standing))

    async def _load(self) -> tuple[AlarmBook, int]:
        """The book and its revision; an unreadable one is begun anew. Raises PortError."""
        record, _ = await self._store.get(keys.ALARMS)
        book = read(AlarmBook, record.value if record is not None else None, what=keys.ALARMS)
        return book or AlarmBook(), record.mod_revision if record is not None else 0

    async def _save(
        self, term: Tenure, book: AlarmBook, saved: AlarmBook, revision: int, *, hasty: bool
    ) -> tuple[AlarmBook, int]:
        """Write it, if etcd takes it; what is saved now, and its revision."""
        now = self._clock.monotonic()
        if now < self._save_at and not hasty:
            return saved, revision
        compares = [*fence(term), Compare(keys.ALARMS, "mod", revision)]
        try:
            result = await self._store.commit(compares, [Put(keys.ALARMS, book.canonical())])
            if result.succeeded:
                return book, result.revision
            # Another leads, which the lease will tell soon; or the reply to the last write was lost.
            record, _ = await self._store.get(keys.LEADER)
            if record is None or record.lease != term.lease:
                self._metrics.fenced.inc()
                self._lead.give_up(term, "another leads")
                return saved, revision
            return await self._load()
        except PortError as error:
            log.warning("the book of alarms is not written", error=repr(error))
            self._save_at = now + SAVE_EVERY_S
            return saved, revision


def _watching(config: FleetConfig | None) -> frozenset[str]:
    if config is None or not config.fleet.monitors:
        return frozenset()
    everywhere = tuple(region.id for region in config.fleet.regions)
    return frozenset(
        region
        for monitor in config.fleet.monitors
        for region in (everywhere if monitor.check_regions is None else monitor.check_regions)
    )
