"""The invariants, written apart from the code they judge: they read only what crossed a boundary.

What crossed: every commit that the store took, every message on every bus, every table that an edge was given, and
every probe's finding. A broken invariant raises `Broken` with the moment, at the moment.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared import keys, topics
from shared.adapters.memory import MemoryStore
from shared.ports import Compare, Delete, Put, TxnResult
from shared.vocabulary.base import NO_VERSION, Version, sha256_hex
from tests.simulation.faulty import Truth


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Ledger:
    """Everything ever committed, over all lives of the store."""

    truth: Truth
    heads: dict[str, Version] = field(default_factory=dict)
    """sha -> version."""
    documents: dict[str, Version] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    last: Version = NO_VERSION
    last_epoch: int = 0
    commits: int = 0
    targets: set[str] = field(default_factory=set)
    """All that a head ever used or excluded."""

    def store_restarted(self, head: bytes | None) -> None:
        """The store went back in time: versions and epochs go on from the head it now holds."""
        stated = json.loads(head) if head is not None else {"generation": 0, "seq": 0}
        self.last, self.last_epoch = Version(stated["generation"], stated["seq"]), 0

    def ordered(self, raw: bytes, others: list[bytes]) -> None:
        """An override was written beside these."""
        order = json.loads(raw)
        if order["forced"] or order["ended"] is not None or not self.targets:
            return
        at = datetime.fromisoformat(order["created_at"])
        drains = [order, *(other for other in map(json.loads, others) if _holds(other, at))]
        if all(any(_drains(drain, target) for drain in drains) for target in self.targets):
            raise Broken(
                f"{order['id']} drains the last target, unforced, beside {[d['id'] for d in drains[1:]]}"
            )

    def committed(self, raw: bytes, leader_epoch: int, overrides: list[bytes]) -> None:
        """A head was written while the leader key's `create_revision` was `leader_epoch`, and with these
        overrides on record."""
        head = json.loads(raw)
        version = Version(head["generation"], head["seq"])
        if version <= self.last:
            raise Broken(f"head {version} was committed after {self.last}")
        if leader_epoch == 0:
            raise Broken(f"head {version} was committed while nobody led")
        if leader_epoch < self.last_epoch:
            raise Broken(f"terms interleave: epoch {leader_epoch} wrote {version} after {self.last_epoch}")
        self.last, self.last_epoch = version, leader_epoch
        self.commits += 1
        self.heads[sha256_hex(raw)] = version
        for route, (seq, sha) in head["routes"].items():
            document = json.loads(self.blobs.get(sha, b"null"))
            if document is None:
                raise Broken(f"head {version} names a document of {route} that is not in the store")
            self.documents[sha] = Version(document["generation"], document["seq"])
            if seq == version.seq:
                if document["term"]["epoch"] != leader_epoch:
                    raise Broken(
                        f"{route} {version} says epoch {document['term']['epoch']}, not {leader_epoch}"
                    )
                self._judge(document, version)
        self._judge_orders(head, [json.loads(override) for override in overrides])

    def blob(self, key: str, value: bytes) -> None:
        """An immutable document was written under its hash."""
        sha = key.removeprefix(keys.BLOBS)
        if sha256_hex(value) == sha:
            self.blobs[sha] = value

    def _judge_orders(self, head: dict[str, Any], overrides: list[dict[str, Any]]) -> None:
        """No target that is drained is used, not as a stand-by either; and none is drained by nobody."""
        for route, (seq, sha) in head["routes"].items():
            document = json.loads(self.blobs[sha])
            used = {
                target["id"]
                for region in document["regions"].values()
                for tier in region["tiers"]
                for target in tier["targets"]
            }
            barred = {each["target"] for each in document["excluded"] if each["by"] == "operator"}
            self.targets |= used | {each["target"] for each in document["excluded"]}
            if seq != head["seq"]:
                continue
            at = datetime.fromisoformat(document["decided_at"])
            in_force = [override for override in overrides if _holds(override, at)]
            drained = {target for target in self.targets if any(_drains(each, target) for each in in_force)}
            if used & drained:
                raise Broken(f"{route} {head['generation']}.{seq} uses {sorted(used & drained)}, drained")
            if barred - drained:
                raise Broken(
                    f"{route} {head['generation']}.{seq} drains {sorted(barred - drained)}, unordered"
                )

    def _judge(self, document: dict[str, Any], version: Version) -> None:
        for name, region in document["regions"].items():
            shares = sum(tier["share_permille"] for tier in region["tiers"]) + region["shed_permille"]
            if shares != 1000:
                raise Broken(f"{document['route']} {version}: shares of {name} sum to {shares}")
            barred = {each["target"] for each in document["excluded"] if each["by"] == "operator"}
            if not any(tier["targets"] for tier in region["tiers"]) and self.targets - barred:
                raise Broken(f"{document['route']} {version} leaves {name} no target")
        for exclusion in document["excluded"]:
            accusers = self.truth.accusers.get(exclusion["target"], set())
            if exclusion["by"] == "auto" and exclusion.get("region") is None and len(accusers) < 2:
                raise Broken(
                    f"{document['route']} {version} excludes {exclusion['target']} everywhere, though only "
                    f"{sorted(accusers)} ever found it bad: one vantage, or silence, became DOWN"
                )


def _holds(override: dict[str, Any], at: datetime) -> bool:
    return override["ended"] is None and at < datetime.fromisoformat(override["expires_at"])


def _drains(override: dict[str, Any], target: str) -> bool:
    """Targets are named after their regions here."""
    spec = override["spec"]
    return spec["kind"] == "drain" and (spec["target"] == target or target.endswith(f"-{spec['region']}"))


class JudgedStore(MemoryStore):
    """The store, with the ledger beside it."""

    ledger: Ledger
    broken: tuple[str, ...] = ()
    """What the ledger found. Raised here it would reach the loop that commits, whose supervisor would log
    it and start the loop again."""

    def commit(self, compares: list[Compare], then: list[Put | Delete]) -> TxnResult:  # type: ignore[override]
        leader = self.read(keys.LEADER, exact=True)
        epoch = leader[0].create_revision if leader else 0
        overrides = [item.value for item in self.read(keys.OVERRIDES)]
        result = super().commit(compares, then)
        if result.succeeded:
            try:
                self._judge(then, epoch, overrides)
            except Broken as error:
                self.broken += (str(error),)
        return result

    def _judge(self, then: list[Put | Delete], epoch: int, overrides: list[bytes]) -> None:
        puts = [operation for operation in then if isinstance(operation, Put)]
        for put in puts:
            if put.key.startswith(keys.BLOBS):
                self.ledger.blob(put.key, put.value)
        for put in puts:
            if put.key == keys.DECISIONS_HEAD:
                self.ledger.committed(put.value, epoch, overrides)
            elif put.key.startswith(keys.OVERRIDES):
                self.ledger.ordered(put.value, overrides)


@dataclass(slots=True)
class EdgeHistory:
    """What one edge was given to serve by, over all its lives."""

    edge: str
    ledger: Ledger
    applied: list[Version] = field(default_factory=list)
    contents: dict[Version, str] = field(default_factory=dict)
    durable: Version = NO_VERSION
    """Greatest version its disk holds."""
    fresh_life: bool = True

    def restarted(self, durable: Version) -> None:
        """It died; this is the greatest version its disk holds."""
        self.durable, self.fresh_life = durable, True

    def serves(self, version: Version, content: str) -> None:
        """It swapped to `version`."""
        floor = self.durable if self.fresh_life else self.applied[-1]
        if version < floor:
            raise Broken(f"{self.edge} went from {floor} to {version}")
        if version != NO_VERSION:
            known = self.contents.setdefault(version, content)
            if known != content:
                raise Broken(f"{self.edge} served two contents as {version}")
            if version not in self.ledger.heads.values():
                raise Broken(f"{self.edge} serves {version}, which was never committed")
        self.applied.append(version)
        self.fresh_life = False


def check_published(ledger: Ledger, topic: str, value: bytes, *, where: str) -> None:
    """Nothing that was not committed is published. Raises Broken."""
    if topic == topics.DECISIONS:
        sha = sha256_hex(value)
        document = json.loads(value)
        if not document["removed"] and sha not in ledger.documents:
            raise Broken(
                f"{document['route']} {document['generation']}.{document['seq']} on {where} was not committed"
            )
    elif topic == topics.BEATS:
        beat = json.loads(value)
        if beat["head_sha"] not in ledger.heads:
            raise Broken(
                f"a Beat on {where} states head {beat['generation']}.{beat['head_seq']}, not committed"
            )
