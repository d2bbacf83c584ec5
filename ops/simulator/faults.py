"""The menu of faults, and the panel that holds those in force.

A PUT replaces the whole state, so that what is in force is always what was last asked for. With
`for_s` it undoes itself, so that whoever set it may die. Beside the state that has no name several
owners may hold their own: each PUT replaces that owner's, and a request suffers all that pick it.
"""

import random
import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Ms = Annotated[float, Meta(ge=0, le=3_600_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Tokens = Annotated[int, Meta(ge=0, le=1_000_000)]
HeaderText = Annotated[str, Meta(pattern=r"^[^\r\n]*$", max_length=4096)]


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Answer with this status. `body` is the dialect's own error envelope when absent."""

    code: Annotated[int, Meta(ge=200, le=599)]
    headers: dict[HeaderText, HeaderText] = {}
    body: str | None = None


class Throttle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Answer 429. `retry_after` goes out as it is given: seconds, a date, or nonsense."""

    retry_after: int | float | HeaderText | None = 1
    code: Literal["rate_limit_exceeded", "insufficient_quota"] = "rate_limit_exceeded"


class Drip(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Let the answer out a few bytes at a time."""

    bytes: Annotated[int, Meta(ge=1, le=65_536)] = 1
    every_ms: Annotated[float, Meta(gt=0, le=60_000)] = 50.0


class Flap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Listen for `up_s`, refuse for `down_s`, and so on; the down phase comes first."""

    up_s: Seconds
    down_s: Seconds


class Capacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Beyond `inflight` requests at once every wait is multiplied by `slow_factor` times the overload
    (with 1.0 throughput stays level, as by fair sharing); beyond `reject_above` the answer is 429."""

    inflight: Annotated[int, Meta(ge=1, le=1_000_000)]
    slow_factor: Annotated[float, Meta(ge=1, le=1000)] = 1.0
    reject_above: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Only(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which requests the faults are for; all when everything is absent."""

    paths: tuple[str, ...] = ()
    """Prefixes: `/v1/chat`."""
    stream: bool | None = None
    agents: tuple[str, ...] = ()
    """Shell patterns of User-Agent; `leeward-prober/eu-west` is what that region's probers send."""


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that can be wrong with a target. `refuse` and `flap` concern the listener, and so
    everybody; all else falls on the requests that `only` and `share` pick."""

    latency_ms: Ms = 0.0
    """Before anything of the answer."""
    ttft_ms: Ms | None = None
    """From the headers to the first token, instead of the target's own."""
    tokens_per_s: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    status: Status | None = None
    throttle: Throttle | None = None
    refuse: bool = False
    """Close the listener and reset every connection."""
    reset: Literal["accept", "request"] | None = None
    hang: bool = False
    """Take the request and never answer."""
    cut_after_tokens: Tokens | None = None
    cut_as: Literal["close", "reset", "end"] = "close"
    """`end` finishes the HTTP message properly, and the answer not."""
    stall_after_tokens: Tokens | None = None
    malformed_chunk_after_tokens: Tokens | None = None
    """One event whose JSON is broken; the stream then goes on."""
    bad_chunked: bool = False
    """An impossible chunk size in the middle of the body."""
    garbage_200: Literal["html", "truncated", "empty", "other"] | None = None
    """200 with a page, half a JSON text, nothing, or the JSON of something else."""
    drip: Drip | None = None
    flap: Flap | None = None
    capacity: Capacity | None = None
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Of the requests (of the connections, for `reset: accept`)."""
    seed: int = 0
    """Of the draws that `share` makes."""
    only: Only = Only()
    for_s: Seconds | None = None
    """After which all of it is undone."""


NO_FAULTS = Faults()


class BadFaults(ValueError):
    """The state asked for is not valid; `field` says where, as `status.code`."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field = field


def decode_owned(raw: bytes) -> Faults:
    """The same for an owner's, which need a time to live. Raises BadFaults."""
    faults = decode(raw)
    if faults.for_s is None or faults.for_s > MAX_OWNED_S:
        raise BadFaults("for_s", f"an owner's faults need for_s, at most {MAX_OWNED_S:.0f}")
    return faults


def decode(raw: bytes) -> Faults:
    """The faults in a JSON body. Raises BadFaults."""
    try:
        return msgspec.json.decode(raw, type=Faults)
    except msgspec.ValidationError as error:
        # msgspec says where only in its message: "... - at `$.status.code`".
        what, _, where = str(error).partition(" - at ")
        path = where.strip("`").removeprefix("$").lstrip(".")
        unknown = re.search(r"unknown field `([^`]*)`", what)
        raise BadFaults(".".join(part for part in (path, unknown and unknown[1]) if part), what) from None
    except msgspec.DecodeError as error:
        raise BadFaults("", str(error)) from None


MAX_OWNERS = 64
MAX_OWNED_S = 300.0
_NOT_OVERLAID = frozenset({"share", "seed", "only", "for_s"})


class Owned:
    """One owner's faults, and the draws of their `share`."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.changes: dict[str, Any] = {
            name: value
            for name, value in msgspec.structs.asdict(faults).items()
            if name not in _NOT_OVERLAID and value != getattr(NO_FAULTS, name)
        }
        self._rng = random.Random(faults.seed)

    def renew(self, faults: Faults) -> bool:
        """Take `faults` when only their time differs, so that the draws go on; whether it does."""
        same = msgspec.structs.replace(faults, for_s=self.faults.for_s) == self.faults
        if same:
            self.faults = faults
        return same

    def picks(self, path: str, *, stream: bool, agent: str) -> bool:
        """Whether they are for this request. Draws once when they may be."""
        only = self.faults.only
        if only.paths and not path.startswith(only.paths):
            return False
        if only.stream is not None and only.stream != stream:
            return False
        if only.agents and not any(fnmatchcase(agent, pattern) for pattern in only.agents):
            return False
        return self.drawn()

    def drawn(self) -> bool:
        """One draw of `share`."""
        return self.faults.share >= 1.0 or self._rng.random() < self.faults.share


class Panel:
    """The faults in force, by owner; "" is the owner of the state without a name. Time is the caller's
    business."""

    def __init__(self) -> None:
        self.owned: dict[str, Owned] = {}

    def put(self, faults: Faults, owner: str = "") -> None:
        """Replace this owner's state; one with a name renews it by saying the same again, and the draws
        go on. Raises BadFaults when there are too many owners."""
        known = self.owned.get(owner)
        if faults == NO_FAULTS:
            self.owned.pop(owner, None)
        elif known is None and len(self.owned) >= MAX_OWNERS:
            raise BadFaults("", f"{MAX_OWNERS} owners have put faults already")
        elif known is None or not (owner and known.renew(faults)):
            self.owned[owner] = Owned(faults)

    def held(self, owner: str = "") -> Faults:
        """This owner's state."""
        return self.owned[owner].faults if owner in self.owned else NO_FAULTS

    @property
    def refuses(self) -> bool:
        """Whether the listener is to be closed."""
        return any(owned.faults.refuse for owned in self.owned.values())

    @property
    def flap(self) -> Flap | None:
        """What the listener is to do by turns: the first owner's that has one."""
        return next((owned.faults.flap for owned in self.owned.values() if owned.faults.flap), None)

    def for_request(self, path: str, *, stream: bool, agent: str = "") -> Faults:
        """What this request suffers: all that pick it, laid over each other in the order of their
        owners. Draws once for each."""
        found = NO_FAULTS
        for owned in self.owned.values():
            if owned.picks(path, stream=stream, agent=agent):
                found = msgspec.structs.replace(found, **owned.changes)
        return found

    def resets_connection(self) -> bool:
        """Whether the connection just accepted is to be reset."""
        return any(owned.faults.reset == "accept" and owned.drawn() for owned in self.owned.values())
