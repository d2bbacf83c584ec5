"""`fleet.alerts`: who is told when something is wrong; and the Notice that they get by webhook (contract)."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from shared.vocabulary.base import ConfigModel, Id, Message, Permille, PositiveSeconds, SecretRef
from shared.vocabulary.decision import Term

AlarmEvent = Literal[
    "REGION_DOWN",
    "PROVIDER_DOWN",
    "NO_LEADER",
    "FREEZE",
    "ANSWERS_DEGRADED",
    "EDGE_STALE",
    "EDGE_STATIC",
    "EDGE_SILENT",
    "PROBERS_SILENT",
    "BUS_UNREACHABLE",
    "ETCD_ALARM",
    "CAPACITY_SHED",
    "QUOTA_EXHAUSTED",
    "DRILL_FAILED",
]
EVENTS: tuple[AlarmEvent, ...] = get_args(AlarmEvent)
"""What each means, and what to do: docs/ALERTS.md."""
Severity = Literal["page", "ticket"]
MAX_WEBHOOKS = 16


def _webhook_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not carry credentials, a query or a fragment: name such a URL by url_from")
    return text


def _pattern(text: str) -> str:
    if not any(fnmatchcase(event, text) for event in EVENTS):
        raise ValueError(f"matches no event; there is {', '.join(EVENTS)}")
    return text


WebUrl = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_webhook_url)]
EventPattern = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_pattern)]


class Webhook(ConfigModel):
    """Somebody who is told: `POST` of a Notice."""

    id: Id
    url: WebUrl | None = None
    url_from: SecretRef | None = None
    """Where the URL is secret itself: resolved by the control plane that sends, never in etcd."""
    secret: SecretRef | None = None
    """Signs what is sent: `x-leeward-signature` (docs/ALERTS.md)."""
    events: Annotated[tuple[EventPattern, ...], Field(min_length=1, max_length=64)] = ("*",)
    """Shell patterns of the events it is told."""

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("give url or url_from, and not both")
        return self

    def wants(self, event: str) -> bool:
        """Whether it is told of `event`."""
        return any(fnmatchcase(event, pattern) for pattern in self.events)


class AlertPolicy(ConfigModel):
    """`fleet.alerts`: the receivers, and when something is worth telling."""

    webhooks: Annotated[tuple[Webhook, ...], Field(max_length=MAX_WEBHOOKS)] = ()
    dashboard_url: WebUrl | None = None
    """Of the control plane as people reach it, for the links; the leader's own URL when absent."""
    answers_permille: Annotated[int, Field(ge=1, le=1000)] = 50
    """ANSWERS_DEGRADED: more of a route's requests than this had no full answer of a target,"""
    answers_least: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """of at least so many in the edges' last windows."""
    shed_permille: Permille = 0
    """CAPACITY_SHED: more of a region's requests than this are turned away by decision."""
    no_leader_s: PositiveSeconds = 30.0
    """NO_LEADER: nobody led for longer. Told by the next leader, who alone can; Prometheus sees it sooner."""
    edge_silent_s: PositiveSeconds = 30.0
    """EDGE_SILENT: nothing was heard of an edge for longer."""
    settle_s: PositiveSeconds = 15.0
    """How long something must be untrue before it counts as resolved."""


class Links(Message):
    """Where to look."""

    dashboard: str | None = None
    decision: str | None = None
    """Of the decision in force when this was seen: its reasons and evidence."""
    runbook: str
    """In this project's documentation."""


class Notice(Message):
    """The body of a webhook's `POST`: an alarm began, or is over. The same `id` is the same notice: delivery is
    at least once, so receivers drop what they have."""

    schema_version: Literal[1] = 1
    id: str
    """`<alarm>/firing` or `<alarm>/resolved`."""
    alarm: str
    """`<event>/<subject>/<since, in ms>`: the same for both."""
    state: Literal["firing", "resolved"]
    event: AlarmEvent
    subject: Annotated[str, Field(max_length=128)]
    """What it is about: a region, a provider, a route, a drill."""
    severity: Severity
    text: Annotated[str, Field(max_length=1024)]
    """All of it in one line."""
    values: Mapping[str, Any] = Field(default_factory=dict)
    since: AwareDatetime
    until: AwareDatetime | None = None
    """When it ended; absent while it stands."""
    decision: str | None = None
    """The head in force when this was seen, `generation.seq`."""
    links: Links
    term: Term
    """Of the leader who tells."""


class Standing(Message):
    """An alarm that stands, as the leaders hand it on."""

    event: AlarmEvent
    subject: str
    severity: Severity
    text: str
    since: AwareDatetime

    @property
    def alarm(self) -> str:
        """Its name, unlike any other's."""
        return f"{self.event}/{self.subject}/{int(self.since.timestamp() * 1000)}"


class AlarmBook(Message):
    """The value of the etcd key `alarms`: written by the leader, only when something begins, ends or is told."""

    schema_version: Literal[1] = 1
    standing: tuple[Standing, ...] = ()
    untold: tuple[Notice, ...] = ()
    """Not known to have reached everybody."""
