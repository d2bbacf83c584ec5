"""`node:`, the half of `leeward.yaml` that belongs to one process and always comes from its file."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from shared.vocabulary.base import ConfigModel, Id, PositiveSeconds
from shared.vocabulary.config import BaseUrl, Fleet
from shared.vocabulary.terms import Role

HostPort = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s/]+):[0-9]{1,5}$")]
"""`host:port`; an IPv6 host in brackets."""

SecretRef = Annotated[str, StringConstraints(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]
"""Where a secret is: `env:NAME` or `file:PATH`. Resolved where it is used, never logged."""


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
    """How others reach `listen`; `http://` + listen when absent."""
    admin_advertise_url: BaseUrl | None = None
    buses: Mapping[Id, BusAddress] = Field(default_factory=dict)
    """Region -> bus. Several regions may name the same cluster. A control plane needs all, an edge
    and a prober only their own region's."""
    etcd: EtcdAddress | None = None
    """Control plane only."""
    control_planes: tuple[BaseUrl, ...] = ()
    """Edge: where to follow the HTTP stream, own region's first."""
    credentials: Mapping[Id, Credential] = Field(default_factory=dict)
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
        elif self.region not in self.buses and not (self.role is Role.EDGE and self.control_planes):
            raise ValueError(
                f"buses has no entry for this node's region {self.region!r}"
                + (
                    ", and control_planes is empty: an edge needs one of the two"
                    if self.role is Role.EDGE
                    else ""
                )
            )
        if self.role in (Role.EDGE, Role.CONTROL_PLANE) and self.listen is None:
            raise ValueError(f"role {self.role.value} needs listen")
        return self


class NodeFile(ConfigModel):
    """A whole `leeward.yaml`. `fleet` seeds etcd where it has none, and is what an edge serves by
    when it knows nothing else; a process can start without it and wait for the fleet to arrive."""

    node: Node
    fleet: Fleet | None = None
