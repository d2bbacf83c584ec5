"""Monitors: how targets are asked whether they are well, what they must answer, and at which pace.

docs/MONITORS.md explains every kind with an example. What can be checked without the rest of the
fleet is checked here; `config.problems` adds the path of the monitor.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from shared.vocabulary.base import ConfigModel, Id, PositiveSeconds

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Path = Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", max_length=1024)]
Kind = Literal["http", "tcp", "chat", "embedding"]

MAX_HEADERS: Final = 32
MAX_HEADER_VALUE: Final = 4096
MAX_PROBE_BODY: Final = 65_536

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
"""A token (RFC 9110, section 5.6.2)."""
_VALUE: Final = re.compile(r"[!-~]([ \t!-~]*[!-~])?|")
"""RFC 9110, section 5.5, without its obsolete bytes: no line break can begin another field."""

_OURS: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("host", "content-length", "expect", "accept-encoding"),
    }
)
"""Hop by hop (RFC 9110, section 7.6.1), the framing, and what the prober's reading rests on."""
_SECRET: Final = frozenset(
    {
        *("authorization", "proxy-authorization", "cookie"),
        *("x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key"),
    }
)
"""Where keys are put. The fleet is replicated and shown; a key in it would be everywhere."""


def _headers(fields: Mapping[str, str]) -> Mapping[str, str]:
    lowered: dict[str, str] = {}
    for name, value in fields.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:64]!r} is not a header name")
        if len(value) > MAX_HEADER_VALUE or not _VALUE.fullmatch(value):
            raise ValueError(
                f"value of {name!r} must be at most {MAX_HEADER_VALUE} visible ASCII characters on one line"
            )
        if name.lower() in _SECRET:
            raise ValueError(f"{name!r} carries a secret: give the target a `credential` instead")
        if name.lower() in _OURS:
            raise ValueError(f"{name!r} is set by the prober; leave it out")
        if name.lower() in lowered:
            raise ValueError(f"{name!r} is given twice")
        lowered[name.lower()] = value
    return lowered


def _status(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
        return value
    if isinstance(value, str) and re.fullmatch(r"[2-5]xx", value):
        return value
    raise ValueError("must be a status such as 200, or a class such as 2xx")


Headers = Annotated[Mapping[str, str], Field(max_length=MAX_HEADERS), AfterValidator(_headers)]
"""Names are lower case here, however they were written (RFC 9110, section 5.1)."""
Status = Annotated[
    Annotated[int, Field(ge=100, le=599)] | Annotated[str, StringConstraints(pattern=r"^[2-5]xx$")],
    BeforeValidator(_status),
]


class Monitor(ConfigModel):
    """How targets are probed, and when a prober calls them down or up."""

    id: Id
    kind: Kind
    targets: tuple[Text, ...] = ("*",)
    """Target ids or shell patterns (`alpha-*`)."""
    interval_s: PositiveSeconds = 1.0
    """60 where the kind is `chat` or `embedding` and nothing is said: those probes cost money,"""
    timeout_s: PositiveSeconds = 0.9
    """and take their time: 20."""
    min_interval_s: PositiveSeconds | None = None
    """The pace while a target is in doubt; `interval_s` when absent, for `consecutive_down` times the
    pace is how long a hiccup may last, and that is the operator's to shorten."""
    max_interval_s: PositiveSeconds | None = None
    """The pace that a target which has long been well is slowed down to; `interval_s` when absent."""
    consecutive_down: Annotated[int, Field(ge=1, le=100)] = 2
    consecutive_up: Annotated[int, Field(ge=1, le=100)] = 3
    check_regions: tuple[Id, ...] | None = None
    """Regions whose probers run it; all when absent."""
    slow_ms: Annotated[float, Field(gt=0, le=3_600_000)] | None = None
    """Later than this and the outcome is SLOW instead of OK."""
    cost_ceiling_usd_per_hour: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """For one prober and one target, in any 60 minutes; the pace gives way to it."""

    headers: Headers = Field(default_factory=dict)
    """Sent with every probe but `tcp`. No secrets: those are the target's `credential`."""
    method: Literal["GET", "HEAD", "POST"] = "GET"
    path: Path = "/models"
    """For `http`, below the target's `url`."""
    body: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROBE_BODY)] | None = None
    """For `http` by POST; JSON unless a `content-type` says otherwise."""
    expect_status: Annotated[tuple[Status, ...], Field(min_length=1, max_length=100)] = (200,)
    """Codes, or classes of them: `2xx`."""
    expect_body: Text | None = None
    """Text that the body must contain, to the letter."""

    prompt: Text = "Reply with the single word: ready"
    """For `chat`; for `embedding`, the input."""
    expect_answer: Text | None = None
    """Words that the answer must contain, whatever their case and punctuation; any answer that is not
    empty will do when absent."""
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] = 16
    reasoning_max_tokens: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Instead of `max_tokens` where the target has the capability `reasoning`: its thoughts count too."""
    expect_dimensions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Of an `embedding`; any but none when absent."""

    @model_validator(mode="before")
    @classmethod
    def _paced_by_kind(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("kind") in ("chat", "embedding"):
            return {"interval_s": 60.0, "timeout_s": min(20.0, _number(value.get("interval_s"))), **value}
        return value

    def expects(self, status: int) -> bool:
        """Whether an answer with `status` is one that was asked for."""
        return status in self.expect_status or f"{status // 100}xx" in self.expect_status


_ONLY_FOR: Final[Mapping[str, tuple[Kind, ...]]] = {
    "headers": ("http", "chat", "embedding"),
    "method": ("http",),
    "path": ("http",),
    "body": ("http",),
    "expect_status": ("http",),
    "expect_body": ("http",),
    "prompt": ("chat", "embedding"),
    "expect_answer": ("chat",),
    "max_tokens": ("chat",),
    "reasoning_max_tokens": ("chat",),
    "expect_dimensions": ("embedding",),
}


def monitor_problems(monitor: Monitor) -> Iterator[tuple[str, str]]:
    """What does not fit together within `monitor`: the field, and what is wrong with it."""
    if monitor.timeout_s > monitor.interval_s:
        yield (
            "timeout_s",
            f"{monitor.timeout_s:g} s is longer than interval_s {monitor.interval_s:g} s: probes would overlap",
        )
    if monitor.min_interval_s is not None and monitor.min_interval_s > monitor.interval_s:
        yield "min_interval_s", f"must not be longer than interval_s {monitor.interval_s:g} s"
    if monitor.max_interval_s is not None and monitor.max_interval_s < monitor.interval_s:
        yield "max_interval_s", f"must not be shorter than interval_s {monitor.interval_s:g} s"
    for field, kinds in _ONLY_FOR.items():
        # By value and not by what was written: a fleet that was shown in full can be applied again.
        unset = Monitor.model_fields[field].get_default(call_default_factory=True)
        if monitor.kind not in kinds and getattr(monitor, field) != unset:
            yield field, f"means nothing to a monitor of kind {monitor.kind}; leave it out"
    yield from _content_problems(monitor)


def _content_problems(monitor: Monitor) -> Iterator[tuple[str, str]]:
    if monitor.kind == "http" and monitor.body is not None and monitor.method != "POST":
        yield "body", f"is not sent by {monitor.method}; use method: POST"
    if monitor.kind == "http" and monitor.expect_body is not None and monitor.method == "HEAD":
        yield "expect_body", "an answer to HEAD has no body; use method: GET"
    if monitor.expect_answer is not None and not any(map(str.isalnum, monitor.expect_answer)):
        yield "expect_answer", "has neither letters nor digits, and nothing else is compared"


def _number(value: Any) -> float:
    """`value` where it can bound a default; whether it is valid is said elsewhere."""
    return float(value) if isinstance(value, (int, float)) and value > 0 else 60.0
