"""`fleet:`, the replicated half of `leeward.yaml`: regions, targets, monitors, routes, policy, keys.

The file seeds it where etcd has none; afterwards etcd wins. Cross-references are checked by
`problems`, which names the path of every fault it finds, so that one run shows them all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from shared.vocabulary.alerts import AlertPolicy
from shared.vocabulary.base import ConfigModel, Id, Permille, PositiveSeconds
from shared.vocabulary.client_key import ClientKey as ClientKey
from shared.vocabulary.degradation import Footing, step_down_problems
from shared.vocabulary.drill_policy import DrillPolicy, drill_problems
from shared.vocabulary.monitor import Monitor as Monitor
from shared.vocabulary.monitor import Path as Path
from shared.vocabulary.monitor import Text as Text
from shared.vocabulary.monitor import monitor_problems
from shared.vocabulary.route import MAX_TARGETS as MAX_TARGETS
from shared.vocabulary.route import Route as Route
from shared.vocabulary.route import RouteMatch as RouteMatch
from shared.vocabulary.route import RouteTier as RouteTier
from shared.vocabulary.route import RouteTimeouts as RouteTimeouts
from shared.vocabulary.route import Score as Score
from shared.vocabulary.terms import Dialect

MAX_ROUTES = 10_000
MAX_REGIONS = 200

Item = TypeVar("Item")


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not carry credentials, a query or a fragment")
    try:
        parts.port  # noqa: B018  (raises ValueError when out of range)
    except ValueError as error:
        raise ValueError(f"has no usable port: {error}") from None
    return text.rstrip("/")


BaseUrl = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_http_url)]
"""The API base, version prefix included: `https://api.example.com/v1`. No trailing slash."""


class Region(ConfigModel):
    """Where probers, edges and targets stand."""

    id: Id
    distance_ms: Mapping[Id, Annotated[float, Field(ge=0, le=60_000)]] = Field(default_factory=dict)
    """Round trip to other regions. Where neither side says, order in the list decides, after all
    that are known."""
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = None
    """Where the dashboard's map shows it, degrees; it knows the clouds' own region names by itself."""


class Cost(ConfigModel):
    """List price in US dollars for a million tokens."""

    input_usd_per_mtok: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    output_usd_per_mtok: Annotated[float, Field(ge=0, le=1e6)] = 0.0


class Target(ConfigModel):
    """One model endpoint that can be probed and routed to."""

    id: Id
    provider: Id
    model: Text
    """The model's name upstream; the edge writes it into the request."""
    region: Id
    url: BaseUrl
    dialect: Dialect = Dialect.OPENAI
    credential: Id | None = None
    """Name of an entry of `node.credentials`; the secret itself never enters the fleet."""
    capacity_inflight: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Requests it can carry at once. Edges never have more at one target than this."""
    cost: Cost = Cost()
    context_length: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    capabilities: tuple[Literal["stream", "tools", "prefill", "reasoning", "vision", "embeddings"], ...] = (
        "stream",
    )


class HealthPolicy(ConfigModel):
    """When a target that works is DEGRADED all the same, and what is advised then.

    A figure (probe latency p50, live latency p50, live time to first byte p50, live error rate) is out of
    the usual in a window when it stands above its baseline by `deviations`, and by the floor, and by the
    ratio: whichever is most.
    """

    baseline: bool = True
    """Judge figures against each target's own past. Off: DEGRADED comes from votes and quality alone."""
    window_s: PositiveSeconds = 10.0
    """One figure per target is taken in each."""
    deviations: Annotated[float, Field(gt=0, le=100)] = 5.0
    """Standard deviations, estimated from the median absolute deviation."""
    floor_ms: Annotated[float, Field(ge=0, le=3_600_000)] = 100.0
    """Latencies that rise by less are nothing."""
    floor_error_permille: Permille = 50
    """Error rates that rise by less are nothing."""
    ratio: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Latencies that rise to less than this many times the usual are nothing."""
    windows_in: Annotated[int, Field(ge=1, le=1000)] = 3
    """Consecutive windows out of the usual that make DEGRADED."""
    windows_out: Annotated[int, Field(ge=1, le=1000)] = 6
    """Consecutive windows back below half of the way that end it."""
    degraded_permille: Permille = 500
    """Of its weight that a DEGRADED target is advised to keep."""
    early_warning: bool = False
    """Warn, and advise less weight, when a figure is on its way out of the usual."""
    warning_permille: Permille = 800
    """Of its weight that a target under warning is advised to keep."""
    quality_degraded_permille: Permille = 900
    """Below this share of right answers a target is DEGRADED; 0: never."""
    quality_drain_permille: Permille = 500
    """Below this it is DOWN, on soft evidence, when two vantages or two regions' traffic agree; 0: never."""
    quality_min_results: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Answers that a score needs to be acted upon."""


class Policy(ConfigModel):
    """How evidence becomes verdicts and verdicts become weights (DESIGN: Health, Deciding)."""

    automatic: bool = True
    """The master switch. Off: health moves nothing, neither out nor in; operators and the configuration do."""
    source_timeout_s: PositiveSeconds = 5.0
    """A source that is silent for longer is not fresh: its word counts for nothing."""
    passive_window_s: PositiveSeconds = 10.0
    passive_min_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    passive_down_permille: Permille = 900
    hold_down_s: PositiveSeconds = 2.0
    """Least time out after DOWN; doubles with each flap in the last `hold_down_cap_s`."""
    hold_down_cap_s: PositiveSeconds = 600.0
    ramp_permille: Annotated[tuple[Permille, ...], Field(min_length=1, max_length=10)] = (100, 300, 1000)
    ramp_s: PositiveSeconds = 60.0
    soft_move_permille: Annotated[int, Field(ge=1, le=1000)] = 200
    """Most of a route's weight that soft evidence may move within `soft_interval_s`."""
    soft_interval_s: PositiveSeconds = 30.0
    ramp_error_permille: Permille = 50
    """A returning target of whose live attempts more than this break off goes a step back."""
    capacity_headroom_permille: Annotated[int, Field(ge=100, le=1000)] = 900
    """Of a target's capacity that plans fill before they spill: what is reported is a mean, and traffic
    is not. The rest is used before anything is shed."""
    demand_rise_permille: Annotated[int, Field(ge=10, le=1000)] = 100
    """A plan limited by capacity is made anew when demand exceeds the one planned for by more than this;
    with the headroom it keeps what is really there within the capacity."""
    demand_fall_permille: Annotated[int, Field(ge=50, le=900)] = 300
    """And when it falls short by more than this, `demand_settle_s` after the last change at the earliest."""
    demand_settle_s: PositiveSeconds = 30.0
    panic_permille: Annotated[int, Field(ge=0, le=1000)] = 500
    """Panic when what is usable can carry less than this of the demand; 0: never."""
    health: HealthPolicy = HealthPolicy()


class Fleet(ConfigModel):
    """Everything that all processes must agree on."""

    regions: Annotated[tuple[Region, ...], Field(min_length=1, max_length=MAX_REGIONS)]
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=MAX_TARGETS)]
    monitors: Annotated[tuple[Monitor, ...], Field(max_length=1000)] = ()
    routes: Annotated[tuple[Route, ...], Field(min_length=1, max_length=MAX_ROUTES)]
    policy: Policy = Policy()
    drills: DrillPolicy = DrillPolicy()
    alerts: AlertPolicy = AlertPolicy()
    client_keys: Annotated[tuple[ClientKey, ...], Field(max_length=100_000)] = ()

    @cached_property
    def targets_by_id(self) -> Mapping[str, Target]:
        """Every target under its id."""
        return {target.id: target for target in self.targets}

    @cached_property
    def routes_by_id(self) -> Mapping[str, Route]:
        """Every route under its id."""
        return {route.id: route for route in self.routes}

    def monitors_of(self, target: Target, vantage: str) -> tuple[Monitor, ...]:
        """The monitors that probers in `vantage` run against `target`."""
        return tuple(
            monitor
            for monitor in self.monitors
            if (monitor.check_regions is None or vantage in monitor.check_regions)
            and any(fnmatchcase(target.id, pattern) for pattern in monitor.targets)
        )

    def check_regions_of(self, target: Target) -> frozenset[str]:
        """The regions configured to watch `target`: the electorate of its quorum."""
        return frozenset(region.id for region in self.regions if self.monitors_of(target, region.id))

    def by_distance(self, origin: str) -> tuple[str, ...]:
        """All regions, nearest to `origin` first: itself, then known distances, then list order."""
        known = {region.id: region.distance_ms for region in self.regions}

        def distance(index: int, region: str) -> tuple[int, float, int]:
            if region == origin:
                return (0, 0.0, index)
            ms = known[origin].get(region, known[region].get(origin))
            return (2, 0.0, index) if ms is None else (1, ms, index)

        ids = [region.id for region in self.regions]
        return tuple(sorted(ids, key=lambda region: distance(ids.index(region), region)))


class FleetConfig(ConfigModel):
    """A fleet with the version under which etcd holds it; what travels on `leeward.config.v1`.

    Version 0 is the file's own, before etcd has any.
    """

    schema_version: Literal[1] = 1
    config_version: Annotated[int, Field(ge=0)]
    fleet: Fleet

    @classmethod
    def from_wire(cls, raw: bytes) -> Self:
        """As a message: unknown fields, a newer writer's, are ignored at every depth. Raises
        pydantic.ValidationError."""
        return cls.model_validate_json(raw, extra="ignore")


Problem = tuple[tuple[str | int, ...], str]
"""Path of the faulty value from the top of the fleet, and what is wrong with it."""


def problems(fleet: Fleet, *, in_force: bool = False) -> list[Problem]:
    """Every cross-reference, uniqueness and timing fault of `fleet`, in the order of the file. `in_force`: without
    those that harm nobody and were no faults once, for whoever reads what was accepted before."""
    return [*_problems(fleet), *(() if in_force else _key_problems(fleet))]


def _problems(fleet: Fleet) -> Iterator[Problem]:
    regions = {region.id for region in fleet.regions}
    targets = {target.id for target in fleet.targets}
    yield from _duplicates("regions", fleet.regions, lambda region: region.id)
    yield from _duplicates("targets", fleet.targets, lambda target: target.id)
    yield from _duplicates("monitors", fleet.monitors, lambda monitor: monitor.id)
    yield from _duplicates("routes", fleet.routes, lambda route: route.id)
    yield from _duplicates("client_keys", fleet.client_keys, lambda key: key.id)
    for i, region in enumerate(fleet.regions):
        for other in region.distance_ms:
            if other not in regions:
                yield ("regions", i, "distance_ms", other), f"no region {other!r}"
    for i, target in enumerate(fleet.targets):
        if target.region not in regions:
            yield ("targets", i, "region"), f"no region {target.region!r}"
    yield from _monitor_problems(fleet, regions, targets)
    yield from _route_problems(fleet, regions, targets)
    yield from _duplicates("alerts.webhooks", fleet.alerts.webhooks, lambda webhook: webhook.id)
    policy = fleet.policy
    if policy.hold_down_cap_s < policy.hold_down_s:
        yield ("policy", "hold_down_cap_s"), "must be at least hold_down_s"
    if list(policy.ramp_permille) != sorted(set(policy.ramp_permille)) or policy.ramp_permille[-1] != 1000:
        yield ("policy", "ramp_permille"), "must rise strictly and end at 1000"
    if policy.health.quality_drain_permille > policy.health.quality_degraded_permille:
        yield ("policy", "health", "quality_drain_permille"), "must not be above quality_degraded_permille"
    for at, what in drill_problems(fleet.drills, regions):
        yield ("drills", *at), what


def _key_problems(fleet: Fleet) -> Iterator[Problem]:
    routes = [route.id for route in fleet.routes]
    reached: dict[str, bool] = {"*": True}
    for i, key in enumerate(fleet.client_keys):
        for j, pattern in enumerate(key.routes):
            # Keys are many, and what they may ask for is of few kinds.
            if pattern not in reached:
                reached[pattern] = any(fnmatchcase(route, pattern) for route in routes)
            if not reached[pattern]:
                yield ("client_keys", i, "routes", j), f"no route matches {pattern!r}"


def _monitor_problems(fleet: Fleet, regions: set[str], targets: set[str]) -> Iterator[Problem]:
    for i, monitor in enumerate(fleet.monitors):
        at = ("monitors", i)
        for field, what in monitor_problems(monitor):
            yield (*at, field), what
        for j, pattern in enumerate(monitor.targets):
            if not any(fnmatchcase(target, pattern) for target in targets):
                yield (*at, "targets", j), f"no target matches {pattern!r}"
        for j, region in enumerate(monitor.check_regions or ()):
            if region not in regions:
                yield (*at, "check_regions", j), f"no region {region!r}"
        if monitor.check_regions == ():
            yield (*at, "check_regions"), "names no region: leave it out to check from all"


def _route_problems(fleet: Fleet, regions: set[str], targets: set[str]) -> Iterator[Problem]:
    taken: dict[tuple[str, str], str] = {}
    footings = {route.id: _footing(fleet, route) for route in fleet.routes}
    for i, route in enumerate(fleet.routes):
        at = ("routes", i)
        seen: set[str] = set()
        for t, tier in enumerate(route.tiers):
            for j, target in enumerate(tier.targets):
                if target not in targets:
                    yield (*at, "tiers", t, "targets", j), f"no target {target!r}"
                elif target in seen:
                    yield (*at, "tiers", t, "targets", j), f"target {target!r} stands twice in this route"
                seen.add(target)
            for j, target in enumerate(tier.candidates):
                if target not in tier.targets:
                    yield (*at, "tiers", t, "candidates", j), f"{target!r} is not among this tier's targets"
        if seen and not any(tier.established for tier in route.tiers):
            yield (*at, "tiers"), "has only candidates: nobody could serve before a rollout"
        members = [target for target in fleet.targets if target.id in seen]
        for where, what in (
            *_match_problems(route, taken, members),
            *_placing_problems(route, regions, members),
            *_degradation_problems(route, footings),
        ):
            yield (*at, *where), what


def _footing(fleet: Fleet, route: Route) -> Footing:
    named = {target for tier in route.tiers for target in tier.targets}
    members = [fleet.targets_by_id[name] for name in named if name in fleet.targets_by_id]
    residency = None if route.residency is None else frozenset(route.residency)
    regions = frozenset(target.region for target in members)
    return Footing(
        models=bool(route.match.models),
        regions=regions if residency is None else regions & residency,
        residency=residency,
        step_down=None if route.degradation is None else route.degradation.step_down,
    )


def _degradation_problems(route: Route, footings: Mapping[str, Footing]) -> Iterator[Problem]:
    if not route.match.models:
        if route.degradation is not None:
            yield ("degradation",), "is for model calls: this route has no models"
        if route.check_json:
            yield ("check_json",), "is for model calls: this route has no models"
    for what in step_down_problems(route.id, footings):
        yield ("degradation", "step_down"), what


def _match_problems(
    route: Route, taken: dict[tuple[str, str], str], members: list[Target]
) -> Iterator[Problem]:
    if not route.match.models and not route.match.paths:
        yield ("match",), "matches nothing: give models or paths"
    for field, values in (("models", route.match.models), ("paths", route.match.paths)):
        for j, value in enumerate(values):
            owner = taken.setdefault((field, value), route.id)
            if owner != route.id:
                yield ("match", field, j), f"{value!r} is already matched by route {owner!r}"
    dialects = {target.dialect for target in members}
    if route.match.paths and dialects - {Dialect.HTTP}:
        yield ("match", "paths"), "routes by path need targets of dialect http"
    if Dialect.HTTP in dialects and route.asks_of_streams:
        yield (route.asks_of_streams,), "is for model calls: plain HTTP is passed on as it is"
    if Dialect.HTTP in dialects and len(dialects) > 1:
        yield ("tiers",), f"mixes dialects {', '.join(sorted(dialects))}: http cannot be translated"


def _placing_problems(route: Route, regions: set[str], members: list[Target]) -> Iterator[Problem]:
    for j, region in enumerate(route.residency or ()):
        if region not in regions:
            yield ("residency", j), f"no region {region!r}"
    if route.residency is not None and not any(target.region in route.residency for target in members):
        yield ("residency",), "leaves this route no target"
    for field in ("connect_s", "ttft_s", "first_byte_s"):
        if (getattr(route.timeouts, field) or 0.0) > route.timeouts.total_s:
            yield ("timeouts", field), "must not be longer than total_s"


def _duplicates(field: str, items: Sequence[Item], key: Callable[[Item], str]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for i, item in enumerate(items):
        at = first.setdefault(key(item), i)
        if at != i:
            yield (field, i, "id"), f"{key(item)!r} is already the id of {field}[{at}]"
