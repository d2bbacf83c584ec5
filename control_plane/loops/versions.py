"""The configuration's versions: applied by operators on any replica, kept, and brought back.

Applying is one operator's write (`operations`): it holds only onto the configuration and the audit
number it was judged against. Everybody else follows as always: the leader compares `config/head`, so
its next decision names the new version, and edges and probers change when they hear it.

A version is never given twice, and never lowered: edges would take an older one for a late message.
So bringing back an old content makes a new version, and a version that somebody passed in a history
that etcd has lost counts as given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from control_plane.core.config_check import Judgement, judge
from control_plane.core.config_diff import Change, changes
from control_plane.loops.blobs import Blobs, Missing
from control_plane.loops.operations import Operations, Stand, Write
from control_plane.loops.reading import read
from control_plane.loops.seen import Seen
from control_plane.ports import (
    NO_CONFIG,
    ConfigHead,
    ConfigOrder,
    ConfigOutcome,
    EdgeRecord,
    NotKept,
    Objected,
    Stale,
    TooLarge,
)
from shared import keys
from shared.clock import Clock
from shared.ports import Compare, Coordination, Unavailable
from shared.vocabulary.base import canonical_json, sha256_hex
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.view import HealthView

VERSIONS_KEPT = 100
"""With their contents; the collector removes older ones."""
MAX_CONFIG_BYTES = 1_000_000
"""As canonical JSON. A bus takes messages up to 1 MiB, headers included, and probers have no other source."""
EDGE_SILENT_S = 10.0
"""An edge says something every second."""
MAX_AUDITED_CHANGES = 50


class Versions:
    """Implements `control_plane.ports.ConfigCentre`.

    `view` and `edges` are what this replica knows of health and edges; `seen` of versions in use."""

    def __init__(
        self,
        store: Coordination,
        blobs: Blobs,
        operations: Operations,
        *,
        seen: Seen,
        view: Callable[[], HealthView | None],
        edges: Callable[[], Sequence[EdgeRecord]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._operations = operations
        self._seen = seen
        self._view = view
        self._edges = edges
        self._clock = clock

    async def versions(self) -> Sequence[ConfigHead]:
        """As `ConfigCentre.versions`."""
        current, _ = await self._store.get(keys.CONFIG_HEAD)
        kept = {head.config_version: head for head in await kept_versions(self._store)}
        head = read(ConfigHead, current.value if current else None, what=keys.CONFIG_HEAD)
        if head is not None:
            kept[head.config_version] = head
        known = [kept[n] for n in sorted(kept, reverse=True)]
        return [one for one in known if head is not None and one.config_version <= head.config_version]

    async def version(self, n: int) -> tuple[ConfigHead, bytes]:
        """As `ConfigCentre.version`."""
        for head in await self.versions():
            if head.config_version == n:
                try:
                    return head, await self._blobs.read(head.sha)
                except Missing:
                    break
        raise NotKept(f"configuration {n} is not kept")

    async def apply(self, fleet: Fleet, order: ConfigOrder) -> ConfigOutcome:
        """As `ConfigCentre.apply`."""
        return await self._put(fleet, order, action="config.apply", said={})

    async def roll_back(self, to: int, order: ConfigOrder) -> ConfigOutcome:
        """As `ConfigCentre.roll_back`."""
        _, raw = await self.version(to)
        config = read(FleetConfig, raw, what=f"configuration {to}")
        if config is None:
            raise NotKept(f"configuration {to} cannot be read by this release")
        return await self._put(config.fleet, order, action="config.rollback", said={"content_of": to})

    async def _put(
        self, fleet: Fleet, order: ConfigOrder, *, action: str, said: Mapping[str, object]
    ) -> ConfigOutcome:
        outcome: ConfigOutcome | None = None

        def prepare(stand: Stand) -> Write:
            nonlocal outcome
            outcome, raw = self._judged(fleet, order, stand)
            if order.dry_run or not outcome.changes:
                raise _NothingToWrite
            return self._write(outcome, raw, order, stand, action=action, said=said)

        try:
            entry = await self._operations.write(author=order.author, reason=order.reason, prepare=prepare)
        except Missing as gone:
            raise Unavailable(f"the configuration in force is missing in etcd: {gone}") from None
        except _NothingToWrite:
            assert outcome is not None
            return outcome
        assert outcome is not None
        # What was written is what the audit says, should the answer to a first attempt have been lost.
        return replace(outcome, config_version=entry.values["to"], applied=True, audit=entry.n)

    def _judged(self, fleet: Fleet, order: ConfigOrder, stand: Stand) -> tuple[ConfigOutcome, bytes]:
        """What would come of it on `stand`, and the new version's bytes. Raises Stale, Objected, TooLarge."""
        head = stand.config_head
        standing = head.etag if head is not None else NO_CONFIG
        if order.based_on not in (None, standing):
            raise Stale(
                f"version {head.config_version} by {head.author} is in force: look at it, and apply onto that"
                if head is not None
                else "no configuration is in force"
            )
        old = stand.config.fleet if stand.config is not None else None
        was = head.config_version if head is not None else 0
        found = changes(old, fleet)
        if not found and head is not None:
            return ConfigOutcome(was, was, head.sha, (), Judgement(), applied=False), b""
        judgement = judge(
            old,
            fleet,
            view=self._view(),
            edges=self._edges_by_region(),
            overrides=stand.overrides,
            rollouts=stand.rollouts,
        )
        if judgement.objections and not order.forced and not order.dry_run:
            raise Objected(judgement)
        version = max(was, self._seen.config_version) + 1
        raw = canonical_json(FleetConfig(config_version=version, fleet=fleet).model_dump(mode="json"))
        if len(raw) > MAX_CONFIG_BYTES:
            raise TooLarge(
                f"the fleet is {len(raw)} bytes as JSON, and the buses carry {MAX_CONFIG_BYTES} at most"
            )
        return ConfigOutcome(version, was, sha256_hex(raw), found, judgement, applied=False), raw

    def _write(
        self,
        outcome: ConfigOutcome,
        raw: bytes,
        order: ConfigOrder,
        stand: Stand,
        *,
        action: str,
        said: Mapping[str, object],
    ) -> Write:
        head = ConfigHead(
            config_version=outcome.config_version,
            sha=outcome.sha,
            author=order.author,
            at=self._clock.now(),
            reason=order.reason,
        ).canonical()
        values = {"from": outcome.was, "to": outcome.config_version, **said, **_in_small(outcome.changes)}
        if order.forced and outcome.judgement.objections:
            values["overruled"] = [finding.what for finding in outcome.judgement.objections]
        return Write(
            action=action,
            subject=f"config {outcome.config_version}",
            values=values,
            puts={keys.CONFIG_HEAD: head, keys.config_version(outcome.config_version): head},
            blobs={outcome.sha: raw},
            compares=(Compare(keys.CONFIG_HEAD, "mod", stand.revisions[keys.CONFIG_HEAD]),),
        )

    def _edges_by_region(self) -> dict[str, list[str]]:
        """Those that spoke lately."""
        found: dict[str, list[str]] = {}
        for record in self._edges():
            if record.age_s <= EDGE_SILENT_S:
                found.setdefault(record.ack.region, []).append(record.ack.edge)
        return found


async def kept_versions(store: Coordination) -> list[ConfigHead]:
    """The records of all kept versions, oldest first. Raises PortError."""
    found = await store.list(keys.CONFIG_VERSIONS)
    heads = (read(ConfigHead, item.value, what=item.key) for item in found.items)
    return [head for head in heads if head is not None]


class _NothingToWrite(Exception):
    """The question is answered without a write."""


def _in_small(found: Sequence[Change]) -> dict[str, object]:
    """The changes for the audit, bounded: what, and not from what to what."""
    named = [
        " ".join(part for part in (change.what, change.kind, change.id, change.field) if part)
        for change in found
    ]
    return {"changes": named[:MAX_AUDITED_CHANGES], "changes_count": len(named)}
