"""Tables one after the other, each made of what the last ones have left good, and prepared as its parts arrive.

a document    is made into its route's entry when it comes, one by one, and not when the head does that puts a
              thousand of them in force at once
a large       is read and built in a thread before the loop takes it: of ten thousand targets that is 0.6 s, in
configuration which the loop waits for the interpreter a few milliseconds at a time instead of once for all
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from edge_router.core.holdings import Unreadable, read_config
from edge_router.core.known import Known
from edge_router.core.table import Unsafe, build_table, entry_of
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision

LARGE_BYTES: Final = 64 * 1024
"""Of a configuration: some 200 targets, 10 ms."""


class TableBuilder:
    """Builds the tables of one edge, in `region`."""

    def __init__(self, region: str, build: Callable[..., Any] = build_table) -> None:
        """`build` takes the arguments of `build_table`; another one, that serves nothing itself, need not remember."""
        self._region = region
        self._build = build
        self._known = Known()

    def __call__(self, config: FleetConfig, documents: Mapping[str, Decision], head: Version, /) -> Any:
        """The table. Raises Unsafe."""
        if self._build is not build_table:
            return self._build(config, documents, head, region=self._region)
        return build_table(config, documents, head, region=self._region, known=self._known)

    def expect(self, document: Decision) -> None:
        """A document that a head may soon put in force."""
        known = self._known.at(document.config_version)
        route = None if known is None else known.config.fleet.routes_by_id.get(document.route)
        if known is not None and route is not None and not document.removed:
            with suppress(Unsafe):  # said when a head wants it served
                known.route(route, document, lambda *parts: entry_of(*parts, region=self._region))

    def read_ahead(self, raw: bytes) -> None:
        """Read a configuration that is about to come, and build it in its own order. From any thread: what it leaves
        behind is put in place by one assignment. What is wrong with it is said when it comes."""
        with suppress(Unreadable, Unsafe):
            self(read_config(raw).config, {}, NO_VERSION)
