"""`node:`, the half of `leeward.yaml` that belongs to one process and always comes from its file."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from shared.vocabulary.base import ConfigModel, Id, PositiveSeconds, Sha256
from shared.vocabulary.base import SecretRef as SecretRef
from shared.vocabulary.config import BaseUrl, Fleet
from shared.vocabulary.entrance import EdgeLimits, ListenTls, TargetTls
from shared.vocabulary.terms import ApiRole, Role

HostPort = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s/]+):[0-9]{1,5}$")]
"""`host:port`; an IPv6 host in brackets."""


MAX_WORKERS = 64
"""Of one edge."""


class Tls(ConfigModel):
    """Client side of TLS to a dependency."""

    ca_file: str | None = None
    """System roots when absent."""
    cert_file: str | None = None
    key_file: str | None = None


class Sasl(ConfigModel):
    """SASL towards Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str
    password: SecretRef


def _or_short(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema what `BusAddress._short_form` takes."""
    full = dict(schema)
    servers = full["properties"]["bootstrap"]
    schema.clear()
    schema["anyOf"] = [full, servers, {"type": "string"}]


class BusAddress(ConfigModel):
    """One Kafka cluster. Written in full, or just as its bootstrap servers: `host:9092,host2:9092`."""

    model_config = ConfigDict(json_schema_extra=_or_short)

    bootstrap: Annotated[tuple[HostPort, ...], Field(min_length=1)]
    tls: Tls | None = None
    sasl: Sasl | None = None
    fetch_max_wait_ms: Annotated[int, Field(ge=1, le=5000)] = 500
    """Longest a broker may hold a fetch. Apache Kafka answers as soon as a record is there; the
    embedded broker answers only when the wait is over, so the local stack sets it low."""
    replication_factor: Annotated[int, Field(ge=-1, le=16)] = -1
    """For topics that Leeward creates; -1 leaves it to the broker's default."""
    idempotent: bool = True
    """Whether to ask for idempotent production; where the broker has none, it is done without."""
    create_topics: bool = True
    """Whether to create missing topics; off where the process has no right to."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"bootstrap": tuple(part.strip() for part in value.split(","))}
        if isinstance(value, (list, tuple)):
            return {"bootstrap": tuple(value)}
        return value


class EtcdAddress(ConfigModel):
    """The coordination store."""

    endpoints: Annotated[tuple[HostPort, ...], Field(min_length=1, max_length=16)]
    tls: Tls | None = None
    username: str | None = None
    password: SecretRef | None = None
    prefix: Annotated[str, StringConstraints(pattern=r"^/[a-z0-9/_-]*/$")] = "/leeward/"
    request_timeout_s: PositiveSeconds = 2.0


class Credential(ConfigModel):
    """A provider's secret and the only origins it may ever be sent to."""

    secret: SecretRef
    origins: Annotated[tuple[BaseUrl, ...], Field(min_length=1)]
    """scheme://host[:port]"""
    header: Literal["authorization", "x-api-key", "x-goog-api-key", "api-key"] = "authorization"
    """`authorization` sends `Bearer SECRET`; the others the bare secret."""


ANONYMOUS = "anonymous"
"""The name of whoever may ask without a token."""


class ApiToken(ConfigModel):
    """A token that people, scripts or edges present; only its hash is kept."""

    id: Id
    """Whose it is; goes on record with what it changes."""
    role: ApiRole
    sha256: Sha256


class ServerTls(ConfigModel):
    """Server side of TLS."""

    cert_file: str
    """PEM, with the chain."""
    key_file: str


class Api(ConfigModel):
    """Control plane: who may ask its API what."""

    tokens: Annotated[tuple[ApiToken, ...], Field(max_length=1_000)] = ()
    """None: whoever reaches `listen` may do everything, so it must be on loopback."""
    anonymous_loopback: bool = False
    """With tokens: whether this machine itself may do everything without one."""
    metrics_open: bool = False
    """With tokens: whether `/metrics` needs none."""
    tls: ServerTls | None = None

    @model_validator(mode="after")
    def _distinct(self) -> "Api":
        ids = [token.id for token in self.tokens]
        if ANONYMOUS in ids:
            raise ValueError(f"a token cannot be called {ANONYMOUS!r}: those without one are")
        for what, values in (("id", ids), ("sha256", [token.sha256 for token in self.tokens])):
            if len(set(values)) < len(values):
                raise ValueError(f"two tokens have the same {what}")
        return self


class Timings(ConfigModel):
    """The paces of one process; the defaults are the product's promises, change them for tests."""

    lease_ttl_s: Annotated[int, Field(ge=2, le=60)] = 5
    """Control plane: etcd grants whole seconds. Renewed every third of it."""
    reconcile_s: PositiveSeconds = 0.25
    beat_s: PositiveSeconds = 2.0
    """Control plane: between two Beats on the buses."""
    etcd_beat_s: PositiveSeconds = 5.0
    round_s: PositiveSeconds = 1.0
    """Prober and edge: everything is told again once in this time; changes at once."""
    passive_s: PositiveSeconds = 0.25
    """Edge: between two passive windows, while there is traffic."""
    fresh_s: PositiveSeconds = 30.0
    """Edge: without a new Beat for longer it is STALE,"""
    static_s: PositiveSeconds = 300.0
    """and for longer than this STATIC."""
    worker_silent_s: PositiveSeconds = 5.0
    """Edge with `workers`: one that says nothing for longer, or does not take a table, is ended and started anew."""
    drain_s: PositiveSeconds = 10.0
    """On SIGTERM: time given to requests and writes under way."""

    @model_validator(mode="after")
    def _sensible(self) -> "Timings":
        if self.static_s <= self.fresh_s:
            raise ValueError("static_s must be longer than fresh_s")
        if self.beat_s * 3 > self.fresh_s or self.etcd_beat_s * 3 > self.fresh_s:
            raise ValueError("fresh_s must be at least three times beat_s and etcd_beat_s")
        if self.reconcile_s * 2 > self.lease_ttl_s:
            raise ValueError("reconcile_s must be at most half of lease_ttl_s")
        return self


class Node(ConfigModel):
    """One process: what it is, where it stands, whom it talks to."""

    role: Role
    id: Id
    region: Id
    state_dir: str
    """Where it keeps its boot number and, an edge, its last-known-good files."""
    listen: HostPort | None = None
    """Edge: the data plane. Control plane: the API. A prober has none."""
    admin_listen: HostPort | None = None
    """Edge and prober: `/livez /readyz /metrics /status`, on an address of its own."""
    advertise_url: BaseUrl | None = None
    """How others reach `listen`; `http://` + listen when absent, `https://` where it speaks TLS."""
    admin_advertise_url: BaseUrl | None = None
    buses: Mapping[Id, BusAddress] = Field(default_factory=dict)
    """Region -> bus. Several regions may name the same cluster. A control plane needs all, an edge
    and a prober only their own region's."""
    etcd: EtcdAddress | None = None
    """Control plane only."""
    control_planes: tuple[BaseUrl, ...] = ()
    """Edge: where to follow the HTTP stream, own region's first."""
    control_plane_token: SecretRef | None = None
    """Edge: presented to each of `control_planes`, and to nobody else."""
    control_plane_tls: Tls | None = None
    """Edge: for those of `control_planes` that are https; the system's roots when absent."""
    api: Api = Api()
    credentials: Mapping[Id, Credential] = Field(default_factory=dict)
    fault_filter: bool = False
    """Edge: whether drills may have it break attempts at targets, by `/faults` of its admin listener.
    Whoever reaches that listener can then fail this edge's traffic, for minutes."""
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = 1
    """Edge: processes that serve, all on `listen`. One is the edge itself; more are started by it."""
    limits: EdgeLimits = EdgeLimits()
    """Edge: what clients may take of it."""
    listen_tls: ListenTls | None = None
    """Edge: `listen` speaks TLS."""
    target_tls: TargetTls | None = None
    """Edge: for targets that are https."""
    timings: Timings = Timings()

    @model_validator(mode="after")
    def _complete(self) -> "Node":
        for region, bus in self.buses.items():
            if not bus.bootstrap:
                raise ValueError(f"buses.{region} names no server")
        if self.role is Role.CONTROL_PLANE:
            if self.etcd is None:
                raise ValueError("a control plane needs etcd")
            if not self.buses:
                raise ValueError("a control plane needs the buses of all regions")
            if self.api.tls is not None and (self.advertise_url or "https:").startswith("http:"):
                raise ValueError("advertise_url is http, and api.tls makes the listener https")
        elif self.region not in self.buses and not (self.role is Role.EDGE and self.control_planes):
            raise ValueError(
                f"buses has no entry for this node's region {self.region!r}"
                + (
                    ", and control_planes is empty: an edge needs one of the two"
                    if self.role is Role.EDGE
                    else ""
                )
            )
        if self.role is not Role.CONTROL_PLANE and self.api != Api():
            raise ValueError("api is for control planes")
        if self.fault_filter and (self.role is not Role.EDGE or self.admin_listen is None):
            raise ValueError("fault_filter is for an edge with admin_listen, where it is steered")
        if self.workers > 1 and self.role is not Role.EDGE:
            raise ValueError("workers is for an edge")
        if self.role in (Role.EDGE, Role.CONTROL_PLANE) and self.listen is None:
            raise ValueError(f"role {self.role.value} needs listen")
        return self

    @model_validator(mode="after")
    def _entrance(self) -> "Node":
        listen = self.listen
        if listen is not None and listen == self.admin_listen and not listen.endswith(":0"):
            raise ValueError("admin_listen is the same address as listen: give it a port of its own")
        if self.role is not Role.EDGE:
            for field in ("limits", "listen_tls", "target_tls"):
                if getattr(self, field) != type(self).model_fields[field].default:
                    raise ValueError(f"{field} is for edges")
        elif self.listen_tls is not None and (self.advertise_url or "https:").startswith("http:"):
            raise ValueError("advertise_url is http, and listen_tls makes the listener https")
        return self


class NodeFile(ConfigModel):
    """A whole `leeward.yaml`. `fleet` seeds etcd where it has none, and is what an edge serves by
    when it knows nothing else; a process can start without it and wait for the fleet to arrive."""

    node: Node
    fleet: Fleet | None = None
