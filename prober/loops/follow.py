"""Learns the fleet: the node file's first, then whatever newer one is on the region's own bus; applied without a restart."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from pydantic import ValidationError

from prober.core.cost import permitted, worst_case_usd
from prober.core.jobs import Job, jobs_of
from prober.metrics import Metrics
from shared import topics
from shared.backoff import Backoff
from shared.log import get_logger
from shared.ports import Bus, PortError, Record
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.config import Fleet, FleetConfig

log = get_logger(__name__)

MAX_CONFIG_BYTES: Final = 16 << 20
"""Larger than any fleet that the limits of its own models allow to be useful; refused before parsing."""


class _Peek(msgspec.Struct):
    """The version of a config message: all that is decoded of those that are not the newest."""

    config_version: int


class Follow:
    """The following loop. `apply` is given the jobs of every fleet that comes into force."""

    def __init__(
        self,
        *,
        vantage: str,
        bus: Bus,
        metrics: Metrics,
        apply: Callable[[tuple[Job, ...]], None],
        backoff: Backoff,
    ) -> None:
        self._vantage = vantage
        self._bus = bus
        self._metrics = metrics
        self._apply = apply
        self._backoff = backoff
        self._sha = ""
        self.config_version = 0
        """Of the fleet in force; 0 is the node file's own, or none yet."""
        self.known = False
        """Whether there is a fleet."""

    def seed(self, fleet: Fleet) -> None:
        """Begin with the node file's fleet."""
        self._take(fleet, 0)

    async def run(self) -> None:
        """For ever: take every newer fleet that the bus has or gets."""
        while True:
            try:
                async for batch in self._bus.consume([topics.CONFIG], start="beginning"):
                    self._backoff.reset()
                    self._read(batch.records)
            except PortError as error:
                log.warning("config topic not readable, will try again", error=str(error))
            await asyncio.sleep(self._backoff.next())

    def _read(self, records: Sequence[Record]) -> None:
        """Take the newest of `records` that is whole, and newer than what is in force."""
        newest_first = sorted(self._versions(records), key=lambda versioned: versioned[0], reverse=True)
        for version, value in newest_first:
            if version < self.config_version:
                return
            if version == self.config_version:
                self._compare(version, value)
                continue
            try:
                config = FleetConfig.from_wire(value)
            except ValidationError as error:
                self._refuse(f"version {version}: {error.error_count()} faults")
                continue
            self._sha = sha256_hex(value)
            self._take(config.fleet, version)

    def _versions(self, records: Sequence[Record]) -> list[tuple[int, bytes]]:
        versions: list[tuple[int, bytes]] = []
        for record in records:
            if record.value is None:  # a tombstone: no configuration is not a configuration
                continue
            if len(record.value) > MAX_CONFIG_BYTES:
                self._refuse(f"{len(record.value)} bytes")
                continue
            try:
                versions.append((msgspec.json.decode(record.value, type=_Peek).config_version, record.value))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._refuse("no config message")
        return versions

    def _compare(self, version: int, value: bytes) -> None:
        if self._sha and sha256_hex(value) != self._sha:
            self._refuse(f"version {version} a second time, with another content")

    def _take(self, fleet: Fleet, version: int) -> None:
        jobs, impossible = jobs_of(fleet, self._vantage)
        for job in impossible:
            log.warning(
                "monitor cannot be put to this target",
                monitor=job.monitor.id,
                target=job.target.id,
                dialect=job.target.dialect.value,
            )
        for job in jobs:
            if not permitted((), job, now=0.0):
                log.warning(
                    "one probe may cost more than its ceiling, none will be sent",
                    monitor=job.monitor.id,
                    target=job.target.id,
                    worst_case_usd=worst_case_usd(job),
                )
        self.config_version, self.known = version, True
        self._metrics.config_version.set(version)
        self._apply(jobs)
        log.info("fleet in force", config_version=version, jobs=len(jobs))

    def _refuse(self, reason: str) -> None:
        self._metrics.config_refused.inc()
        log.error("config message refused", reason=reason)
