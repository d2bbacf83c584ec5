"""Small worlds for the tests of the core: a fleet, probers that speak, and a leader that decides."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from control_plane.core.conclude import conclude
from control_plane.core.decide import Proposal, decide
from control_plane.core.fold import EventFold
from control_plane.core.inspect import refusals
from control_plane.core.memory import Memory
from control_plane.core.orders import NO_ORDERS, Orders
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Decision, Head, Term
from shared.vocabulary.health import HealthEvent, PassiveWindow, ProbeState, RouteLoad
from shared.vocabulary.terms import Outcome, Role
from shared.vocabulary.view import HealthView, RouteTraffic

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
REGIONS = ("us-east", "eu-west", "ap-south")
TERM = Term(holder="cp-us-east", epoch=7)


def fleet_config(
    *,
    regions: Iterable[str] = REGIONS,
    targets: Mapping[str, str] | None = None,
    tiers: Iterable[Iterable[str]] | None = None,
    version: int = 1,
    residency: tuple[str, ...] | None = None,
    policy: Mapping[str, object] | None = None,
    monitors: Iterable[Mapping[str, object]] | None = None,
    more_routes: Iterable[Mapping[str, object]] = (),
    capacity: Mapping[str, int] | None = None,
) -> FleetConfig:
    """The route `chat` over `tiers`; by default the alphas of all regions, then the betas."""
    regions = tuple(regions)
    if targets is None:
        targets = {f"{kind}-{region}": region for kind in ("alpha", "beta") for region in regions}
    if tiers is None:
        tiers = [[name for name in targets if name.startswith(kind)] for kind in ("alpha", "beta")]
    route = {
        "id": "chat",
        "match": {"models": ["leeward-chat"]},
        "tiers": [{"targets": list(tier)} for tier in tiers],
        "residency": residency,
    }
    return FleetConfig(
        config_version=version,
        fleet=Fleet.model_validate(
            {
                "regions": [{"id": region} for region in regions],
                "targets": [
                    {
                        "id": name,
                        "provider": name.split("-")[0],
                        "model": "m",
                        "region": region,
                        "url": "http://127.0.0.1:1/v1",
                        "capacity_inflight": (capacity or {}).get(name, 256),
                    }
                    for name, region in targets.items()
                ],
                "monitors": list(monitors or [{"id": "http", "kind": "http"}]),
                "routes": [route, *more_routes],
                "policy": dict(policy or {}),
            }
        ),
    )


def probe_state(
    target: str,
    state: str = "UP",
    *,
    outcome: Outcome | None = None,
    hard: bool = False,
    monitor: str = "http",
    at: datetime = START,
    detail: str = "",
    interval_s: float = 1.0,
) -> ProbeState:
    """One monitor's word; a DOWN is REFUSED when hard, FAILED when not."""
    if outcome is None:
        outcome = Outcome.OK if state != "DOWN" else Outcome.REFUSED if hard else Outcome.FAILED
    return ProbeState(
        target=target,
        monitor=monitor,
        state=state,
        consecutive_good=3,
        consecutive_bad=0,
        outcome=outcome,
        hard=hard,
        detail=detail or ("" if outcome.good else outcome.value.lower()),
        latency_ms=10,
        latency_ms_p50=10,
        latency_ms_p99=20,
        probed_at=at,
        changed_at=at,
        interval_s=interval_s,
    )


def probe_event(
    vantage: str,
    states: Iterable[ProbeState],
    *,
    seq: int,
    boot: int = 1,
    source: str | None = None,
    at: datetime = START,
) -> HealthEvent:
    """What the prober of `vantage` says."""
    return HealthEvent(
        kind="probe",
        source=source or f"prober-{vantage}",
        role=Role.PROBER,
        vantage=vantage,
        boot=boot,
        seq=seq,
        observed_at=at,
        probes=tuple(states),
    )


def passive_event(
    vantage: str,
    windows: Mapping[str, Mapping[Outcome, int]],
    *,
    seq: int,
    inflight: int = 0,
    cooling: Mapping[str, float] | None = None,
    at: datetime = START,
) -> HealthEvent:
    """What the edge of `vantage` says about live traffic, and for how many seconds it spares whom."""
    spared = cooling or {}
    return HealthEvent(
        kind="passive",
        source=f"edge-{vantage}",
        role=Role.EDGE,
        vantage=vantage,
        boot=1,
        seq=seq,
        observed_at=at,
        passive=tuple(
            PassiveWindow(
                target=target,
                window_s=10,
                counts=dict(windows.get(target, {})),
                inflight=inflight,
                cooling_s=spared.get(target, 0.0),
            )
            for target in dict.fromkeys((*windows, *spared))
        ),
    )


def load_event(
    vantage: str, loads: Mapping[str, tuple[float, int]], *, seq: int, at: datetime = START
) -> HealthEvent:
    """What the edge of `vantage` carries: route -> requests under way, and ended in its window of 10 s."""
    return HealthEvent(
        kind="passive",
        source=f"edge-{vantage}",
        role=Role.EDGE,
        vantage=vantage,
        boot=1,
        seq=seq,
        observed_at=at,
        routes=tuple(
            RouteLoad(route=route, inflight=inflight, requests=requests, window_s=10)
            for route, (inflight, requests) in loads.items()
        ),
    )


@dataclass
class World:
    """A control plane in miniature: probers report, the leader decides, the commit always succeeds.

    `down[vantage]` maps a target to whether its DOWN is hard; `traffic[vantage]` gives the windows of
    its edge, `demand[vantage]` the requests under way by route, of which each takes a second; a vantage in
    `silent` says nothing. `orders` are operators' and rollouts', `amend` has the last word on a view.
    """

    config: FleetConfig = field(default_factory=fleet_config)
    clock_s: float = 1000.0
    down: dict[str, dict[str, bool]] = field(default_factory=dict)
    traffic: dict[str, dict[str, dict[Outcome, int]]] = field(default_factory=dict)
    demand: dict[str, dict[str, float]] = field(default_factory=dict)
    cooling: dict[str, dict[str, float]] = field(default_factory=dict)
    """Vantage -> target -> seconds that its edge spares it yet."""
    silent: set[str] = field(default_factory=set)
    orders: Orders = NO_ORDERS
    amend: Callable[[HealthView], HealthView] = lambda view: view
    fold: EventFold = field(default_factory=EventFold)
    view: HealthView | None = None
    head: Head | None = None
    documents: dict[str, Decision] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    commits: list[Proposal] = field(default_factory=list)
    seq: int = 0
    generation: int = 1

    @property
    def now(self) -> datetime:
        """UTC of this world."""
        return START + timedelta(seconds=self.clock_s - 1000.0)

    @property
    def targets(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(target.id for target in self.config.fleet.targets)

    def everywhere_down(self, *targets: str, hard: bool = True) -> None:
        """All vantages see `targets` DOWN from now on."""
        for region in self.config.fleet.regions:
            self.down.setdefault(region.id, {}).update(dict.fromkeys(targets, hard))

    def everywhere_up(self, *targets: str) -> None:
        """All vantages see `targets` UP from now on."""
        for seen in self.down.values():
            for target in targets:
                seen.pop(target, None)

    def report(self) -> None:
        """One round of all who speak."""
        self.seq += 1
        for region in self.config.fleet.regions:
            if region.id in self.silent:
                continue
            down = self.down.get(region.id, {})
            states = [
                probe_state(
                    target, "DOWN" if target in down else "UP", hard=down.get(target, False), at=self.now
                )
                for target in self.targets
            ]
            self.fold.apply(
                probe_event(region.id, states, seq=self.seq, at=self.now), received_at=self.clock_s
            )
            windows, cooling = self.traffic.get(region.id), self.cooling.get(region.id)
            if windows or cooling:
                event = passive_event(region.id, windows or {}, seq=self.seq, cooling=cooling, at=self.now)
                self.fold.apply(event, received_at=self.clock_s)
            if (demand := self.demand.get(region.id)) is not None:
                loads = {route: (inflight, round(10 * inflight)) for route, inflight in demand.items()}
                self.fold.apply(
                    load_event(region.id, loads, seq=self.seq, at=self.now), received_at=self.clock_s
                )

    def look(self) -> HealthView:
        """Conclude now."""
        seen = conclude(
            self.fold,
            self.config,
            replica="cp-us-east",
            now=self.now,
            monotonic=self.clock_s,
            previous=self.view,
        )
        self.view = self.amend(seen)
        return self.view

    def propose(self) -> Proposal | None:
        """Decide on the present view, without committing."""
        assert self.view is not None
        return decide(
            self.config,
            self.view,
            self.head,
            self.documents,
            self.memory,
            orders=self.orders,
            generation=self.generation,
            term=TERM,
            now=self.now,
            traceparent=None,
        )

    def tick(self, *, after_s: float = 1.0) -> Proposal | None:
        """Time passes, everybody reports, the leader concludes, decides and commits."""
        self.clock_s += after_s
        self.report()
        self.look()
        return self.decide()

    def hear(self, inflight: Mapping[str, float], *, requests: int | None = None) -> Proposal | None:
        """A second passes in which nothing changes but what edges carry of `chat`, by region; of each request
        a second is needed, or `requests` end in 10 s. Quicker than `tick`."""
        assert self.view is not None
        self.clock_s += 1.0
        loads = [
            RouteTraffic(
                route="chat",
                region=region,
                inflight=each,
                requests=round(10 * each) if requests is None else requests,
                failed=0,
                window_s=10,
            )
            for region, each in inflight.items()
        ]
        self.view = self.view.model_copy(update={"loads": tuple(loads)})
        return self.decide()

    def decide(self) -> Proposal | None:
        """Decide on the present view; what is decided must pass `inspect`, and is committed."""
        proposal = self.propose()
        if proposal is not None:
            assert self.view is not None
            found = refusals(proposal, self.config, self.view, documents=self.documents, orders=self.orders)
            assert found == []
            self.commit(proposal)
        return proposal

    def commit(self, proposal: Proposal) -> None:
        """As if etcd had taken it; everything passes through its wire form, as it would."""
        self.commits.append(proposal)
        self.head = Head.model_validate_json(proposal.head.canonical())
        self.memory = Memory.model_validate_json(proposal.memory.canonical())
        for route, document in proposal.documents.items():
            if document.removed:
                self.documents.pop(route, None)
            else:
                self.documents[route] = Decision.model_validate_json(document.canonical())

    def weights(self, client: str, route: str = "chat") -> dict[str, int]:
        """Target -> permille of the whole route for the clients of one region; without stand-bys."""
        decided = self.documents[route].regions[client]
        return {
            target.id: tier.share_permille * target.weight_permille // 1000
            for tier in decided.tiers
            for target in tier.targets
            if tier.share_permille and target.weight_permille
        }

    def members(self, client: str, route: str = "chat") -> list[list[str]]:
        """The targets of each tier, stand-bys included, in order."""
        decided = self.documents[route].regions[client]
        return [[target.id for target in tier.targets] for tier in decided.tiers]

    def codes(self, route: str = "chat") -> list[str]:
        """Reason codes of the document in force."""
        return [reason.code for reason in self.documents[route].reasons]
