"""A replica that stands still: fixed, rich answers for everything the API may ask."""

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime

from control_plane.core.backup import Manifest, chained, decode, encode
from control_plane.core.config_check import Judgement
from control_plane.core.config_diff import changes
from control_plane.core.onward import Course
from control_plane.loops.live import Live, Picture
from control_plane.loops.seen import check_ack
from control_plane.ports import (
    ConfigHead,
    ConfigOrder,
    ConfigOutcome,
    EdgeRecord,
    EtcdView,
    Grounds,
    InForce,
    InUse,
    LeaderRecord,
    LeaderView,
    LogEntry,
    NotKept,
    Objected,
    Restored,
    RestoreOrder,
    Stale,
    TooManyReaders,
    Transition,
)
from shared import keys
from shared.clock import SystemClock
from shared.ports import Unavailable
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import Version, canonical_json, sha256_hex
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Ack, Decision, EvidenceRef, Head, Reason, Term
from shared.vocabulary.node import Node
from shared.vocabulary.terms import EdgeMode, Outcome, Role, Verdict
from shared.vocabulary.view import BusHealth, HealthView, RegionHealth, SourceHealth, TargetHealth, Vote
from tests.support import still_overrides
from tests.support.still_drills import StillDrills
from tests.support.still_overrides import StillOverrides
from tests.support.still_rollouts import StillRollouts

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LISTEN = "127.0.0.1:7100"
FLEET = Fleet.model_validate(
    {
        "regions": [{"id": "east"}, {"id": "west"}],
        "targets": [
            {
                "id": f"alpha-{region}",
                "provider": "alpha",
                "model": "m",
                "region": region,
                "url": "http://a/v1",
            }
            for region in ("east", "west")
        ],
        "routes": [
            {"id": "chat", "match": {"models": ["m"]}, "tiers": [{"targets": ["alpha-east", "alpha-west"]}]}
        ],
    }
)
EVIDENCE = EvidenceRef(
    vantage="west",
    source="prober-west",
    boot=4,
    seq=91,
    target="alpha-east",
    monitor="http",
    outcome=Outcome.REFUSED,
    detail="connect ECONNREFUSED",
    observed_at=NOW,
)
NODE = Node.model_validate(
    {
        "role": "control-plane",
        "id": "control-plane-east",
        "region": "east",
        "state_dir": "/nowhere",
        "listen": LISTEN,
        "buses": {"east": "127.0.0.1:9092"},
        "etcd": {"endpoints": ["127.0.0.1:2379"]},
    }
)
TERM = Term(holder="control-plane-east", epoch=12)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def decision(seq: int, *, generation: int = 1, removed: bool = False) -> Decision:
    """The document of route `chat` as commit `seq` wrote it."""
    half = {"share_permille": 1000, "targets": [{"id": "alpha-west", "weight_permille": 1000}]}
    return Decision.model_validate(
        {
            "route": "chat",
            "generation": generation,
            "seq": seq,
            "config_version": 1,
            "removed": removed,
            "regions": {} if removed else {region: {"tiers": [half]} for region in ("east", "west")},
            "excluded": [{"target": "alpha-east", "by": "auto", "reason": "REFUSED from 2 of 2"}],
            "reasons": [{"code": "TARGET_DOWN", "target": "alpha-east", "values": {"down": 2, "hard": True}}],
            "evidence": [EVIDENCE.model_dump()],
            "decided_at": NOW,
            "term": TERM.model_dump(),
            "traceparent": TRACE,
        }
    )


def in_force(seq: int, *, generation: int = 1, config_version: int = 1) -> InForce:
    """A head over `decision(seq)`, with its configuration."""
    raw = decision(seq, generation=generation).canonical()
    head = Head(
        generation=generation,
        seq=seq,
        config_version=config_version,
        routes={"chat": (seq, sha256_hex(raw))},
    )
    config = FleetConfig(config_version=config_version, fleet=FLEET)
    config_raw = canonical_json(config.model_dump(mode="json"))
    return InForce(
        head=head,
        head_raw=head.canonical(),
        head_sha=sha256_hex(head.canonical()),
        documents={"chat": raw},
        config=config,
        config_raw=config_raw,
        config_sha=sha256_hex(config_raw),
    )


def log_entry(seq: int) -> LogEntry:
    """Of the commit that wrote `decision(seq)`."""
    raw = decision(seq).canonical()
    return LogEntry(
        generation=1,
        seq=seq,
        config_version=1,
        head_sha="0" * 64,
        at=NOW,
        term=TERM,
        changed=(("chat", sha256_hex(raw)),),
        changed_count=1,
        reasons=(Reason(code="TARGET_DOWN", target="alpha-east"),),
        traceparent=TRACE,
    )


def ack(number: int = 1, *, edge: str = "edge-east", boot: int = 3, seq: int = 7, **more: object) -> Ack:
    """An edge's word on version `1.seq`."""
    fields = {
        "edge": edge,
        "region": "east",
        "boot": boot,
        "ack": number,
        "mode": EdgeMode.FRESH,
        "generation": 1,
        "seq": seq,
        "config_version": 1,
        "beat_age_s": 0.5,
        "applied_at": NOW,
    }
    return Ack.model_validate({**fields, **more})


class StillConfigs:
    """Implements `control_plane.ports.ConfigCentre`: two versions with one content, and a third on demand
    that it forgets at once."""

    def __init__(self, owner: "StillReplica") -> None:
        self._owner = owner
        self.judgement = Judgement()
        self.orders: list[ConfigOrder] = []

    def head(self, n: int) -> ConfigHead:
        sha = in_force(7, config_version=n).config_sha
        return ConfigHead(config_version=n, sha=sha, author="ada", at=NOW, reason=f"number {n}")

    async def versions(self) -> Sequence[ConfigHead]:
        self._reach()
        return [self.head(2), self.head(1)]

    async def version(self, n: int) -> tuple[ConfigHead, bytes]:
        self._reach()
        if n not in (1, 2):
            raise NotKept(str(n))
        return self.head(n), in_force(7, config_version=n).config_raw

    async def apply(self, fleet: Fleet, order: ConfigOrder) -> ConfigOutcome:
        self._reach()
        self.orders.append(order)
        if order.based_on not in (None, self.head(2).etag):
            raise Stale("version 2 by ada is in force")
        if self.judgement.objections and not order.forced and not order.dry_run:
            raise Objected(self.judgement)
        found = changes(FLEET, fleet)
        applied = bool(found) and not order.dry_run
        return ConfigOutcome(
            3 if found else 2, 2, "0" * 64, found, self.judgement, applied, 9 if applied else None
        )

    async def roll_back(self, to: int, order: ConfigOrder) -> ConfigOutcome:
        await self.version(to)
        return await self.apply(FLEET, order)

    def _reach(self) -> None:
        if not self._owner.etcd_answers:
            raise Unavailable("no member answers")


class StillArchive:
    """Implements `control_plane.ports.Archive`: a backup of one record, and a restore that proves what
    it is given and writes it nowhere."""

    def __init__(self, owner: "StillReplica") -> None:
        self._owner = owner
        self.orders: list[RestoreOrder] = []
        self.in_use = False

    async def backup(self, since: Version | None) -> AsyncGenerator[bytes, None]:
        if not self._owner.etcd_answers:
            raise Unavailable("no member answers")
        if since is not None and since != Version(1, 7):
            raise NotKept(f"commit {since}")
        manifest = Manifest(
            at=NOW, replica="cp", version="1.7", head_sha="0" * 64, generation=1, config_version=1
        )

        async def lines() -> AsyncGenerator[bytes, None]:
            for line in encode(manifest, [(keys.GENERATION, b"1")]):
                yield line

        return lines()

    async def restore(self, raw: bytes, order: RestoreOrder) -> Restored:
        records = chained(decode(raw, name="the backup"))
        if self.in_use and not order.forced:
            raise InUse("operators have made 3 changes here")
        self.orders.append(order)
        return Restored(2, 4, "1.7", len(records), 0, 0, 9)


class StillReplica:
    """Implements `control_plane.ports.Answers`. Set an attribute to change an answer."""

    def __init__(self) -> None:
        self.node = NODE
        self.reasons: list[str] = []
        self.health: HealthView | None = _view()
        self.known = LeaderView(
            LeaderRecord(id="control-plane-east", region="east", url=f"http://{LISTEN}", epoch=12), True, 0.4
        )
        self.force = in_force(7)
        self.acks: list[Ack] = []
        self.events: list[bytes] = [b"event: hello\ndata: {}\n\n"]
        self.full = False
        self.etcd_answers = True
        self.configs = StillConfigs(self)
        self.archive = StillArchive(self)
        self.rollouts = StillRollouts()
        self.overrides = StillOverrides()
        self.drills = StillDrills()

    def unready(self) -> Sequence[str]:
        return self.reasons

    def view(self) -> HealthView | None:
        return self.health

    def history(self, target: str) -> Sequence[Transition]:
        return [Transition(at=NOW, verdict=Verdict.DOWN, was=Verdict.HEALTHY, reason="2 of 2")]

    def leader(self) -> LeaderView:
        return self.known

    def in_force(self) -> InForce:
        return self.force

    def log(self) -> Sequence[LogEntry]:
        return [log_entry(seq) for seq in (7, 6, 5)]

    async def documents_of(self, version: Version) -> tuple[LogEntry | None, Sequence[bytes]]:
        if not self.etcd_answers:
            raise Unavailable("no member answers")
        if version.generation != 1 or version.seq not in (5, 6, 7):
            raise NotKept(str(version))
        return log_entry(version.seq), [decision(version.seq).canonical()]

    async def grounds(self) -> Grounds:
        if not self.etcd_answers:
            raise Unavailable("no member answers")
        documents = {route: Decision.model_validate_json(raw) for route, raw in self.force.documents.items()}
        return Grounds(self.force.config, Course(self.force.head, documents), (), ())

    def audit(self) -> Sequence[AuditEntry]:
        return still_overrides.audit()

    def edges(self) -> Sequence[EdgeRecord]:
        return [EdgeRecord(ack(), 0.2, "bus"), EdgeRecord(ack(edge="edge-west", seq=5), 20.0, "http")]

    def acknowledge(self, ack: Ack) -> None:
        check_ack(ack)
        self.acks.append(ack)

    def follow(self) -> AsyncGenerator[bytes, None]:
        if self.full:
            raise TooManyReaders

        async def events() -> AsyncGenerator[bytes, None]:
            for event in self.events:
                yield event

        return events()

    def etcd(self) -> EtcdView:
        return EtcdView(self.etcd_answers, 0.2 if self.etcd_answers else 42.0)

    def live(self, take: Callable[[], Picture], *, after: str) -> AsyncGenerator[bytes, None]:
        if self.full:
            raise TooManyReaders
        return Live(clock=SystemClock(), life="still").follow(take, after=after)

    def metrics(self) -> bytes:
        return b"# TYPE leeward_control_plane_is_leader gauge\nleeward_control_plane_is_leader 1.0\n"


def _view() -> HealthView:
    vote = Vote(vantage="west", verdict=Verdict.DOWN, hard=True, evidence=(EVIDENCE,))
    return HealthView(
        as_of=NOW,
        replica="control-plane-east",
        status="unhealthy",
        config_version=1,
        regions=(
            RegionHealth(
                id="east", verdict=Verdict.DOWN, targets_healthy=0, targets=1, sources_fresh=1, sources=1
            ),
            RegionHealth(
                id="west", verdict=Verdict.HEALTHY, targets_healthy=1, targets=1, sources_fresh=1, sources=1
            ),
        ),
        targets=(
            TargetHealth(
                id="alpha-east",
                region="east",
                provider="alpha",
                verdict=Verdict.DOWN,
                hard=True,
                votes=(vote,),
            ),
            TargetHealth(id="alpha-west", region="west", provider="alpha", verdict=Verdict.HEALTHY),
        ),
        sources=(
            SourceHealth(
                id="prober-west",
                role=Role.PROBER,
                vantage="west",
                fresh=True,
                last_event_age_s=0.1,
                boot=4,
                seq=91,
                config_version=1,
            ),
        ),
        buses=(BusHealth(region="east", bootstrap="127.0.0.1:9092", reachable=True, caught_up=True),),
    )
