"""What the loops need of the outside beyond the bus: somebody who probes."""

from typing import Protocol

from prober.core.counters import Finding
from prober.core.jobs import Job


class Probe(Protocol):
    """Asks one target one question."""

    async def probe(self, job: Job) -> Finding | None:
        """Run `job` once, within its monitor's `timeout_s`; safe to cancel.

        None when nothing was learnt about the target, because the fault is on this side: no
        credential, no file descriptors. Never raises for anything the target does.
        """
        ...

    async def close(self) -> None:
        """Release every connection, within 1 s."""
        ...
