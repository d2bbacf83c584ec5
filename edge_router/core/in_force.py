"""What an edge serves by at one moment, and what that forbids whoever would succeed it.

A configuration, and once there is a head, the head and every document it names. Replaced as a whole at
each switch, never changed; before the first configuration all of it is empty.

Rules
* No route goes back: a head which names an older document than the one in force, or another content of
  the same version, is no successor, even when its own version is greater.
* A complete head is what it says it is: each document it names decides for that route, at that version,
  and removes nothing.
* Within a generation a configuration's version keeps the content that was put in force.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edge_router.core.holdings import Documents, HeldConfig, HeldDocument, HeldHead
from edge_router.core.table import Unsafe
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.decision import Decision


@dataclass(frozen=True, slots=True)
class InForce:
    """One state; `InForce()` is the one to start from."""

    config: HeldConfig | None = None
    """None while there is nothing to serve by."""
    documents: Mapping[str, HeldDocument] = field(default_factory=dict)
    """Every live route's, by route; empty before the first head."""
    head: HeldHead | None = None
    """None while the configuration's own order is served."""

    @property
    def version(self) -> Version:
        """Of the head, else 0.0."""
        return NO_VERSION if self.head is None else self.head.version

    def is_head(self, sha: str) -> bool:
        """Whether the head has this hash."""
        return self.head is not None and self.head.sha == sha

    def is_config(self, sha: str) -> bool:
        """Whether the configuration has this hash."""
        return self.config is not None and self.config.sha == sha

    def has(self, document: HeldDocument) -> bool:
        """Whether its route is served by `document`."""
        current = self.documents.get(document.decision.route)
        return current is not None and current.sha == document.sha

    def floor_of(self, route: str) -> Version:
        """Least version of `route` that a head which may still be followed can name."""
        current = self.documents.get(route)
        return self.version if current is None else current.decision.version

    def config_for(self, held: HeldHead) -> HeldConfig | None:
        """The configuration in force, if it is bound to be the one `held` names: a raised generation may
        have begun to count again."""
        if (
            self.config is not None
            and self.head is not None
            and self.head.head.generation == held.head.generation
            and self.config.config.config_version == held.head.config_version
        ):
            return self.config
        return None

    def taken_back_by(self, held: HeldHead) -> str | None:
        """A route for which `held` names an older document than the one in force, or another content of it."""
        for route, document in self.documents.items():
            seq, sha = held.head.routes.get(route, (0, ""))
            named = Version(held.head.generation, seq)
            current = document.decision.version
            if seq and (named < current or (named == current and sha != document.sha)):
                return route
        return None

    def successors(self, held: HeldHead, among: Documents) -> dict[str, HeldDocument]:
        """The documents of a complete head, by route. Raises Unsafe when one is not what the head says it
        is, or when a route has moved on while the head waited."""
        if (moved := self.taken_back_by(held)) is not None:
            raise Unsafe(f"route {moved} would go back")
        documents: dict[str, HeldDocument] = {}
        for route, (seq, sha) in held.head.routes.items():
            document = among.get(sha)
            if document is None:
                raise Unsafe(f"route {route}: its document is no longer held")
            decision = document.decision
            if decision.route != route or decision.version != (held.head.generation, seq):
                raise Unsafe(f"route {route} is given the document of {decision.route} {decision.version}")
            if decision.removed:
                raise Unsafe(f"route {route} is given a document that removes it")
            documents[route] = document
        return documents

    def changed_by(self, successors: Mapping[str, HeldDocument]) -> tuple[Decision, ...]:
        """The decisions among `successors` that are not in force yet, newest first."""
        changed = [document.decision for document in successors.values() if not self.has(document)]
        return tuple(sorted(changed, key=lambda decision: decision.version, reverse=True))

    def retired_by(self, successors: Mapping[str, HeldDocument]) -> Iterator[str]:
        """The hashes of the head and of the documents that leave when `successors` come."""
        if self.head is None:
            return
        yield self.head.sha
        for route, document in self.documents.items():
            if route not in successors or successors[route].sha != document.sha:
                yield document.sha
