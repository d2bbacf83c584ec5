"""A replica that stands still: fixed, rich answers for everything the API may ask."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

from control_plane.loops.seen import check_ack
from control_plane.ports import (
    EdgeRecord,
    InForce,
    LeaderRecord,
    LeaderView,
    LogEntry,
    NotKept,
    TooManyReaders,
    Transition,
)
from shared.ports import Unavailable
from shared.vocabulary.base import Version, canonical_json, sha256_hex
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Ack, Decision, EvidenceRef, Head, Reason, Term
from shared.vocabulary.node import Node
from shared.vocabulary.terms import EdgeMode, Outcome, Role, Verdict
from shared.vocabulary.view import BusHealth, HealthView, RegionHealth, SourceHealth, TargetHealth, Vote

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
