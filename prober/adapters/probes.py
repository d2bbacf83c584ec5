"""Every kind of monitor behind the one `Probe` port."""

from collections.abc import Mapping

from prober.adapters.credentials import Credentials
from prober.adapters.http_probe import HttpProbe
from prober.adapters.tcp_probe import TcpProbe
from prober.core.counters import Finding
from prober.core.jobs import Job
from prober.ports import Probe
from shared.clock import Clock
from shared.vocabulary.node import Credential


class Probes:
    """Hands each job to the adapter that speaks its kind. To be made inside a running event loop."""

    def __init__(
        self, *, credentials: Mapping[str, Credential], clock: Clock, region: str | None = None
    ) -> None:
        """`region` is the prober's own, which targets are told."""
        http = HttpProbe(credentials=Credentials(credentials, clock=clock), clock=clock, region=region)
        tcp = TcpProbe(clock=clock)
        self._by_kind: Mapping[str, Probe] = {"http": http, "chat": http, "embedding": http, "tcp": tcp}

    async def probe(self, job: Job) -> Finding | None:
        """See the port."""
        return await self._by_kind[job.monitor.kind].probe(job)

    async def close(self) -> None:
        """See the port."""
        for probe in dict.fromkeys(self._by_kind.values()):
            await probe.close()
