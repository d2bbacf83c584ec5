"""What a replica knows of former leaders."""

import asyncio
import random
from datetime import UTC, datetime

from control_plane.loops.blobs import Blobs
from control_plane.loops.mirror import Mirror
from control_plane.metrics import Metrics
from shared import keys
from shared.adapters.memory_store import MemoryStore
from shared.ports import Put
from shared.supervise import Supervisor
from shared.vocabulary.decision import Beat
from tests.simulation.virtual_time import NodeClock
from tests.unit.prober.prober_world import in_virtual_time


def beat(epoch: int) -> Beat:
    return Beat(
        generation=1,
        epoch=epoch,
        beat=1,
        head_seq=0,
        head_sha="0" * 64,
        config_version=1,
        routes={},
        holder=f"cp-{epoch}",
        sent_at=datetime(2030, 1, 1, 0, epoch, tzinfo=UTC),
    )


def test_the_beat_before_a_term_is_known_only_once_the_term_has_one() -> None:
    """Until then another leader may have come between, whose Beats are still to be heard of."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        store = MemoryStore(rng=rng)
        client = store.client("cp")
        mirror = Mirror(
            client,
            Blobs(client),
            clock=clock,
            rng=rng,
            etcd_beat_s=5.0,
            metrics=Metrics(),
            on_change=lambda: None,
        )
        async with Supervisor() as supervisor:
            supervisor.start("mirror", mirror.run)
            for epoch in (1, 2):
                store.commit([], [Put(keys.BEAT, beat(epoch).canonical())])
                await asyncio.sleep(0.5)
            assert mirror.beat_before(2) == beat(1)
            assert mirror.beat_before(3) is None
            store.commit([], [Put(keys.BEAT, beat(3).canonical())])
            await asyncio.sleep(0.5)
            assert mirror.beat_before(3) == beat(2)

    in_virtual_time(story)
