"""The one frozen table that every request is served by, built from a fleet and the decisions about it.

invariants   A table names only targets that the fleet has; each region's shares and weights hold their
             sums; a route has a target as long as it is permitted one. Whatever breaks one of these is
             `Unsafe`, the table in force stays, and the reason is told. Rules about *rates* (how fast
             weight may move) are the control plane's: the checks here are absolute.
residency    Targets outside a route's residency appear nowhere in it, not even as a last resort.
without a    the configuration's own order: nearest region first, tiers in order.
decision
cost         What a request needs is computed here once: header lines, model names as JSON text, sums
             of weights. Building is pure and may run in a thread; taking a table is one assignment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from edge_router.core.keys import KeyScope, scopes_of
from edge_router.core.known import Known, KnownEntries
from edge_router.core.ladder.plan import Ladder, cache_line, ladder_of, lighter
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.config import FleetConfig, Route, Target
from shared.vocabulary.decision import Decision, RegionDecision
from shared.vocabulary.overload import Overload
from shared.vocabulary.terms import Dialect, Strategy, StreamRecovery


class Unsafe(ValueError):
    """A configuration or decision that must not be served by, and why."""


class Origin(NamedTuple):
    """Where a connection goes, and what a credential is bound to."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ResolvedCredential:
    """A provider's secret, ready to send: to these origins and no others."""

    header: bytes
    value: bytes = field(repr=False)
    origins: frozenset[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """One target, as sending to it needs it."""

    id: str
    region: str
    origin: Origin
    host: bytes
    """For the Host field."""
    base_path: bytes
    """Of its `url`, without a trailing slash."""
    model_json: bytes
    dialect: Dialect
    credential: str | None
    capacity_inflight: int
    reasoning: bool
    provider: str = ""
    price: float = 0.0
    """US dollars for a million tokens, three of input to one of output."""
    context_length: int = 0
    """Tokens; 0 when the fleet does not say."""
    capabilities: frozenset[str] = frozenset()
    spliced: Dialect | None = field(init=False)
    """Whose calls it takes as they came, but for the value of `model`: those of its own dialect. None for Gemini's,
    which have the model in the path."""
    model_path: bytes = field(init=False)
    """The model's name as a segment of a path."""

    def __post_init__(self) -> None:
        spliced = None if self.dialect is Dialect.GEMINI else self.dialect
        object.__setattr__(self, "spliced", spliced)
        model = msgspec.json.decode(self.model_json)
        object.__setattr__(self, "model_path", quote(model, safe="").encode())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target's place in a route. `stamp` are the response headers that name it."""

    target: TargetEntry
    weight: int
    stamp: bytes
    tier: int


@dataclass(frozen=True, slots=True)
class TierEntry:
    """One tier for this edge's region: those with weight, and the stand-bys in their order."""

    number: int
    share: int
    weighted: tuple[Candidate, ...]
    cumulative: tuple[float, ...]
    """Of the weights, up to 1.0."""
    standby: tuple[Candidate, ...]


class Timeouts(NamedTuple):
    """A route's, in seconds; plain, because every request reads them."""

    connect_s: float
    ttft_s: float
    ttft_reasoning_s: float
    first_byte_s: float
    idle_s: float
    idle_reasoning_s: float
    total_s: float


class ScoreWeights(NamedTuple):
    """Coefficients of the strategy `score`."""

    latency: float = 0.5
    success: float = 0.3
    load: float = 0.2


EVEN_HANDED: Final = ScoreWeights()


class StreamRules(NamedTuple):
    """What a route asks of its streams beyond ending broken ones in-band."""

    recovery: StreamRecovery
    usage: bool


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One route for this edge's region."""

    id: str
    version: Version
    dialect: Dialect
    """Of its first target. HTTP: a plain route; any other: a model route, which takes clients of every dialect."""
    strategy: Strategy
    timeouts: Timeouts
    tiers: tuple[TierEntry, ...]
    """Without the empty ones."""
    only: TierEntry | None
    """The tier that takes everything, where shares name just one: the common case."""
    shares: tuple[float, ...]
    """Cumulative, by place in `tiers`; what is left to 1.0 is shed."""
    last_resort: tuple[Candidate, ...]
    """Excluded automatically and by nobody's word: asked only when nothing else is left."""
    score: ScoreWeights = EVEN_HANDED
    ladder: Ladder | None = None
    """What it has opted into for when no target answers; None for most."""
    lighter: "RouteEntry | None" = None
    """The route to step down to."""
    gate: str = ""
    """The route whose limit on requests under way is this one's; empty: its own."""
    streams: StreamRules | None = None
    """None where nothing is asked: those streams take the short way."""
    overload: Overload | None = None
    """None where its requests under way are not limited."""
    max_ejected: float = 0.5
    """Share of its targets that may be ejected for their share of failures."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything a request needs."""

    head: Version
    config_version: int
    region: str
    routes: Mapping[str, RouteEntry]
    models: Mapping[bytes, RouteEntry]
    """By the model's name as JSON text, quotes included."""
    paths: Mapping[bytes, RouteEntry]
    """By path prefix, whole segments, without a trailing slash."""
    keys: Mapping[str, KeyScope]
    """By SHA-256 of the key, hex."""
    targets: Mapping[str, TargetEntry]


def build_table(
    config: FleetConfig,
    documents: Mapping[str, Decision],
    head: Version,
    *,
    region: str,
    known: Known | None = None,
) -> RouteTable:
    """The table of the edges in `region` under `head`, whose documents are given by route.

    Without any document, and `head` NO_VERSION, the configuration's own order. A route without a
    document (new in this configuration) is served in that order too; a removed one is not served.
    What `known` remembers of earlier tables of this region is not built again. Raises Unsafe.
    """
    fleet = config.fleet
    if region not in {known.id for known in fleet.regions}:
        raise Unsafe(f"this edge's region {region!r} is not in the fleet")
    for route_id, document in documents.items():
        _check_document(route_id, document, head, known=route_id in fleet.routes_by_id)
    held = (known or Known()).of(config, lambda config: _entries(config, region))
    routes: dict[str, RouteEntry] = {}
    models: dict[bytes, RouteEntry] = {}
    paths: dict[bytes, RouteEntry] = {}
    for route in fleet.routes:
        decided = documents.get(route.id)
        if decided is not None and decided.removed:
            continue
        routes[route.id] = held.route(route, decided, lambda *parts: entry_of(*parts, region=region))
    plain = dict(routes)
    for route in (route for route in fleet.routes if route.id in plain):
        entry = plain[route.id]
        below = plain.get(route.degradation.step_down or "") if route.degradation is not None else None
        if below is not None:
            entry = routes[route.id] = replace(entry, lighter=lighter(below, entry))
        models.update((msgspec.json.encode(model), entry) for model in route.match.models)
        paths.update((path.rstrip("/").encode(), entry) for path in route.match.paths)
    return RouteTable(
        head=head,
        config_version=config.config_version,
        region=region,
        routes=routes,
        models=models,
        paths=paths,
        keys=scopes_of(fleet.client_keys, [route for route in fleet.routes if route.id in routes]),
        targets=held.targets,
    )


def entry_of(held: KnownEntries, route: Route, document: Decision | None, *, region: str) -> RouteEntry:
    """One route's entry. Raises Unsafe."""
    return _RouteBuilder(route, held.targets, held.nearness, region).build(document)


def _entries(config: FleetConfig, region: str) -> KnownEntries:
    fleet = config.fleet
    return KnownEntries(
        config,
        {target.id: _target_entry(target) for target in fleet.targets},
        {name: place for place, name in enumerate(fleet.by_distance(region))},
    )


def _stream_rules(route: Route) -> StreamRules | None:
    if route.stream_recovery is StreamRecovery.TERMINATE and not route.stream_usage:
        return None
    return StreamRules(route.stream_recovery, route.stream_usage)


def _timeouts(route: Route) -> Timeouts:
    given = route.timeouts.model_dump()
    return Timeouts(**{**given, "first_byte_s": given["first_byte_s"] or given["total_s"]})


def _check_document(route: str, document: Decision, head: Version, *, known: bool) -> None:
    if document.route != route:
        raise Unsafe(f"the document for route {route!r} is about {document.route!r}")
    if document.version > head:
        raise Unsafe(f"route {route!r} is at {document.version}, ahead of the head {head}")
    if document.version == NO_VERSION:
        raise Unsafe(f"route {route!r} has a document without a version")
    if not known and not document.removed:
        raise Unsafe(f"the fleet has no route {route!r}")


def _target_entry(target: Target) -> TargetEntry:
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return TargetEntry(
        id=target.id,
        region=target.region,
        origin=Origin(parts.scheme, host, port),
        host=parts.netloc.encode(),
        base_path=parts.path.rstrip("/").encode(),
        model_json=msgspec.json.encode(target.model),
        dialect=target.dialect,
        credential=target.credential,
        capacity_inflight=target.capacity_inflight,
        reasoning="reasoning" in target.capabilities,
        provider=target.provider,
        price=(3.0 * target.cost.input_usd_per_mtok + target.cost.output_usd_per_mtok) / 4.0,
        context_length=target.context_length or 0,
        capabilities=frozenset(target.capabilities),
    )


class _RouteBuilder:
    """One route's entry. Places: (tier number, candidates' ids and weights)."""

    def __init__(
        self, route: Route, entries: Mapping[str, TargetEntry], nearness: Mapping[str, int], region: str
    ) -> None:
        self._route = route
        self._entries = entries
        self._nearness = nearness
        self._region = region
        self._version = NO_VERSION
        self._permitted = self._residents()

    def build(self, document: Decision | None) -> RouteEntry:
        barred: set[str] = set()
        automatic: set[str] = set()
        if document is None:
            tiers, shed = self._own_order(), 0
        else:
            self._version = document.version
            for exclusion in document.excluded:
                if exclusion.region in (None, self._region):
                    (automatic if exclusion.by == "auto" else barred).add(exclusion.target)
            tiers, shed = self._decided(document, barred)
        used = {c.target.id for tier in tiers for c in (*tier.weighted, *tier.standby)}
        last_resort = [
            self._candidate(target, 0, number)
            for number, target in self._permitted
            if target.id in automatic - barred - used
        ]
        shared_by = sum(tier.share for tier in tiers) + shed
        if shared_by != 1000:
            raise Unsafe(f"route {self._route.id!r}: shares sum to {shared_by}, not 1000")
        return RouteEntry(
            id=self._route.id,
            version=self._version,
            dialect=self._permitted[0][1].dialect,
            strategy=self._route.strategy,
            timeouts=_timeouts(self._route),
            tiers=tuple(tiers),
            only=next((tier for tier in tiers if tier.share == 1000), None),
            shares=tuple(total / 1000 for total in accumulate(tier.share for tier in tiers)),
            last_resort=tuple(last_resort),
            score=ScoreWeights(**self._route.score.model_dump()),
            ladder=ladder_of(self._route),
            streams=_stream_rules(self._route),
            overload=self._route.overload,
            max_ejected=self._route.max_ejected_permille / 1000,
        )

    def _residents(self) -> list[tuple[int, TargetEntry]]:
        """Targets that residency allows, with their tier's number, nearest first within a tier."""
        residency = self._route.residency
        permitted = []
        for number, tier in enumerate(self._route.tiers, start=1):
            try:
                targets = [self._entries[name] for name in tier.targets]
            except KeyError as error:
                raise Unsafe(f"route {self._route.id!r} names the unknown target {error}") from None
            targets.sort(key=lambda target: self._nearness[target.region])
            permitted += [(number, t) for t in targets if residency is None or t.region in residency]
        if not permitted:
            raise Unsafe(f"route {self._route.id!r}: its residency leaves it no target")
        return permitted

    def _own_order(self) -> list[TierEntry]:
        by_tier: dict[int, list[TargetEntry]] = {}
        candidates = {name for tier in self._route.tiers for name in tier.candidates}
        for number, target in self._permitted:
            if target.id not in candidates:
                by_tier.setdefault(number, []).append(target)
        tiers: list[TierEntry] = []
        for number, targets in by_tier.items():
            nearest = [target for target in targets if target.region == targets[0].region]
            each, rest = divmod(1000, len(nearest))
            weights = {target.id: each + (place < rest) for place, target in enumerate(nearest)}
            placed = [(target, weights.get(target.id, 0)) for target in targets]
            tiers.append(self._tier(number, 0 if tiers else 1000, placed))
        return tiers

    def _decided(self, document: Decision, barred: set[str]) -> tuple[list[TierEntry], int]:
        name = self._route.id
        decision = document.regions.get(self._region)
        if decision is None:
            raise Unsafe(f"route {name!r} at {document.version} says nothing for region {self._region!r}")
        permitted = {target.id: number for number, target in self._permitted}
        tiers = []
        for number, tier in enumerate(decision.tiers, start=1):
            placed = []
            for part in tier.targets:
                if part.id not in self._entries:
                    raise Unsafe(f"route {name!r} at {document.version} names unknown target {part.id!r}")
                if part.id not in permitted:
                    raise Unsafe(
                        f"route {name!r} at {document.version}: {part.id!r} is no permitted target of it"
                    )
                if part.id in barred:
                    raise Unsafe(f"route {name!r} at {document.version} uses and excludes {part.id!r}")
                placed.append((self._entries[part.id], part.weight_permille))
            _check_tier(name, number, tier.share_permille, [weight for _, weight in placed])
            if placed:
                tiers.append(self._tier(number, tier.share_permille, placed))
        _check_region(name, decision)
        if not tiers and permitted.keys() - barred:
            raise Unsafe(f"route {name!r} at {document.version} is empty although it is permitted targets")
        return tiers, decision.shed_permille

    def _tier(self, number: int, share: int, placed: Sequence[tuple[TargetEntry, int]]) -> TierEntry:
        weighted = tuple(self._candidate(target, weight, number) for target, weight in placed if weight)
        total = sum(candidate.weight for candidate in weighted)
        return TierEntry(
            number=number,
            share=share,
            weighted=weighted,
            cumulative=tuple(sum_ / total for sum_ in accumulate(c.weight for c in weighted)),
            standby=tuple(self._candidate(target, 0, number) for target, weight in placed if not weight),
        )

    def _candidate(self, target: TargetEntry, weight: int, tier: int) -> Candidate:
        stamp = (
            f"x-leeward-region: {target.region}\r\nx-leeward-target: {target.id}\r\n"
            f"x-leeward-tier: {tier}\r\nx-leeward-decision: {self._version}\r\n"
        )
        return Candidate(target, weight, stamp.encode() + cache_line(self._route), tier)


def _check_tier(route: str, number: int, share: int, weights: list[int]) -> None:
    if not weights and share:
        raise Unsafe(f"route {route!r}: tier {number} has a share and no target")
    if weights and (sum(weights) != 1000 or min(weights) < 0):
        raise Unsafe(f"route {route!r}: weights of tier {number} are no split of 1000")


def _check_region(route: str, decision: RegionDecision) -> None:
    shares = [decision.shed_permille, *(tier.share_permille for tier in decision.tiers)]
    if sum(shares) != 1000 or min(shares) < 0:
        raise Unsafe(f"route {route!r}: shares are no split of 1000")
