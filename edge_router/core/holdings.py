"""What an edge holds of documents and configurations before and while a head puts them in force.

Rules
* Everything is known by the SHA-256 of its bytes as received; a reader never re-serialises.
* What a head needs (the one in force, or one waiting to be complete) is never evicted. Of the rest,
  the last few heard per route stay, because a document usually arrives before the head that names
  it. Eviction goes by when something was last heard, never by its version: a stray document with an
  enormous version must not push out those that are about to be needed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pydantic import ValidationError

from shared.vocabulary.base import Version, sha256_hex
from shared.vocabulary.config import MAX_ROUTES, FleetConfig, problems
from shared.vocabulary.decision import Beat, Decision, Head

MAX_CONFIG_BYTES = 8 * 2**20
MAX_DOCUMENT_BYTES = 4 * 2**20
MAX_HEAD_BYTES = 4 * 2**20
"""10,000 routes at some 150 bytes each, twice over."""
MAX_HELD_BYTES = 256 * 2**20
"""Of documents; what a head needs is kept beyond it."""
SPARES_PER_ROUTE = 4
CONFIGS_HELD = 4


class Unreadable(ValueError):
    """Bytes that are not what they should be: `reason` is `empty`, `too_large` or `malformed`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class HeldConfig:
    """A configuration and the bytes it came in."""

    config: FleetConfig
    raw: bytes
    sha: str


@dataclass(frozen=True, slots=True)
class HeldDocument:
    """One route's decision and the bytes it came in."""

    decision: Decision
    raw: bytes
    sha: str


@dataclass(frozen=True, slots=True)
class HeldHead:
    """A head and the bytes whose hash is its identity."""

    head: Head
    raw: bytes
    sha: str

    @property
    def version(self) -> Version:
        """`(generation, seq)`."""
        return self.head.version


def read_config(raw: bytes) -> HeldConfig:
    """Raises Unreadable; a fleet whose parts do not fit together is malformed too. The last two are remembered: who
    has read one ahead need not wait for it again."""
    _check_size(raw, MAX_CONFIG_BYTES)
    return _read_config(raw)


@lru_cache(maxsize=2)
def _read_config(raw: bytes) -> HeldConfig:
    try:
        config = FleetConfig.from_wire(raw)
    except ValidationError as error:
        raise Unreadable("malformed", _first(error)) from None
    for path, problem in problems(config.fleet, in_force=True):
        raise Unreadable("malformed", f"{'.'.join(map(str, path))}: {problem}")
    return HeldConfig(config, raw, sha256_hex(raw))


def read_document(raw: bytes) -> HeldDocument:
    """Raises Unreadable."""
    _check_size(raw, MAX_DOCUMENT_BYTES)
    try:
        decision = Decision.model_validate_json(raw)
    except ValidationError as error:
        raise Unreadable("malformed", _first(error)) from None
    if not decision.removed and not decision.regions:
        raise Unreadable("empty", f"route {decision.route} {decision.version} decides for no region")
    return HeldDocument(decision, raw, sha256_hex(raw))


def read_head(raw: bytes) -> HeldHead:
    """Raises Unreadable. A head without routes is `empty`: no fleet is without one."""
    _check_size(raw, MAX_HEAD_BYTES)
    try:
        head = Head.model_validate_json(raw)
    except ValidationError as error:
        raise Unreadable("malformed", _first(error)) from None
    check_head(head)
    return HeldHead(head, raw, sha256_hex(raw))


def read_beat(raw: bytes) -> Beat:
    """Raises Unreadable."""
    _check_size(raw, MAX_HEAD_BYTES)
    try:
        beat = Beat.model_validate_json(raw)
    except ValidationError as error:
        raise Unreadable("malformed", _first(error)) from None
    return beat


def check_head(head: Head) -> None:
    """Raises Unreadable when a head contradicts itself."""
    if not head.routes:
        raise Unreadable("empty", f"head {head.version} names no route")
    if len(head.routes) > MAX_ROUTES:
        raise Unreadable("too_large", f"head {head.version} names {len(head.routes)} routes")
    for route, (seq, _) in head.routes.items():
        if not 0 < seq <= head.seq:
            raise Unreadable("malformed", f"head {head.version} names document {seq} of route {route}")


class Documents:
    """Documents by hash and by `(route, version)`, one content per version, bounded."""

    def __init__(self, *, needed: Callable[[HeldDocument], bool]) -> None:
        self._needed = needed
        self._by_sha: dict[str, HeldDocument] = {}  # least recently heard first
        self._by_route: dict[str, dict[Version, str]] = {}  # each route's in the same order
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_sha)

    def __contains__(self, sha: str) -> bool:
        return sha in self._by_sha

    def get(self, sha: str) -> HeldDocument | None:
        """The document whose bytes have this hash."""
        return self._by_sha.get(sha)

    def at(self, route: str, version: Version) -> HeldDocument | None:
        """The document of that route and version."""
        sha = self._by_route.get(route, {}).get(version)
        return None if sha is None else self._by_sha[sha]

    def touch(self, sha: str) -> None:
        """Heard again: the last to be evicted."""
        document = self._by_sha.pop(sha)
        self._by_sha[sha] = document
        versions = self._by_route[document.decision.route]
        versions[document.decision.version] = versions.pop(document.decision.version)

    def add(self, document: HeldDocument) -> None:
        """Hold it in place of another of its route and version; may evict what nobody needs, even
        `document` itself."""
        decision = document.decision
        held = self.at(decision.route, decision.version)
        if held is not None:
            self._drop(held)
        self._by_sha[document.sha] = document
        self._by_route.setdefault(decision.route, {})[decision.version] = document.sha
        self.bytes += len(document.raw)
        self._evict_spares_of(decision.route)
        if self.bytes > MAX_HELD_BYTES or len(self._by_route) > 2 * MAX_ROUTES:
            self._evict_any()

    def forget_before(self, head: Head) -> None:
        """Drop what can never be in force again once `head` is."""
        for document in list(self._by_sha.values()):
            ref = head.routes.get(document.decision.route)
            floor = Version(head.generation, head.seq + 1 if ref is None else ref[0])
            if document.decision.version < floor:
                self._drop(document)

    def _evict_spares_of(self, route: str) -> None:
        held = [self._by_sha[sha] for sha in self._by_route[route].values()]
        spares = [document for document in held if not self._needed(document)]
        for document in spares[: max(0, len(spares) - SPARES_PER_ROUTE)]:
            self._drop(document)

    def _evict_any(self) -> None:
        for document in [d for d in self._by_sha.values() if not self._needed(d)]:
            if self.bytes <= MAX_HELD_BYTES and len(self._by_route) <= 2 * MAX_ROUTES:
                return
            self._drop(document)

    def _drop(self, document: HeldDocument) -> None:
        del self._by_sha[document.sha]
        self.bytes -= len(document.raw)
        route, version = document.decision.route, document.decision.version
        del self._by_route[route][version]
        if not self._by_route[route]:
            del self._by_route[route]


class Configs:
    """Configurations by hash, the last heard last.

    A version may have two contents: a store that was emptied counts `config_version` from 1 again.
    The one heard last speaks for it.
    """

    def __init__(self, *, needed: Callable[[HeldConfig], bool]) -> None:
        self._needed = needed
        self._by_sha: dict[str, HeldConfig] = {}

    def __contains__(self, sha: str) -> bool:
        return sha in self._by_sha

    def __iter__(self) -> Iterator[HeldConfig]:
        return iter(self._by_sha.values())

    def last_heard(self, version: int) -> HeldConfig | None:
        """The content of that version that was heard last."""
        return next(
            (held for held in reversed(self._by_sha.values()) if held.config.config_version == version), None
        )

    def newest(self) -> HeldConfig | None:
        """The greatest version's content that was heard last."""
        return max(reversed(self._by_sha.values()), key=lambda held: held.config.config_version, default=None)

    def touch(self, sha: str) -> None:
        """Heard again."""
        self._by_sha[sha] = self._by_sha.pop(sha)

    def add(self, held: HeldConfig) -> None:
        """Hold it; evicts the least recently heard that nobody needs."""
        self._by_sha[held.sha] = held
        spares = [other for other in self._by_sha.values() if not self._needed(other)]
        for other in spares[: max(0, len(spares) - CONFIGS_HELD)]:
            del self._by_sha[other.sha]

    def remove(self, sha: str) -> None:
        """Hold it no longer; no error when it is not held."""
        self._by_sha.pop(sha, None)


def decisions_of(documents: Mapping[str, HeldDocument]) -> dict[str, Decision]:
    """The decisions without their bytes."""
    return {route: held.decision for route, held in documents.items()}


def _check_size(raw: bytes, limit: int) -> None:
    if not raw:
        raise Unreadable("empty", "no bytes")
    if len(raw) > limit:
        raise Unreadable("too_large", f"{len(raw)} bytes, at most {limit} are read")


def _first(error: ValidationError) -> str:
    """The first fault in one short line; never the whole input."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or '(top)'}: {fault['msg']}"[:200]
