"""Kafka and etcd in memory: deterministic doubles that pass the contract suites of the real ones.

For the simulation: time is the loop's own and pauses are `asyncio.sleep`, so a virtual clock drives
them; every draw comes from the `random.Random` that the caller seeded; faults are attributes to set.
"""

from shared.adapters.memory_bus import MemoryBroker, MemoryBus, MessageFaults
from shared.adapters.memory_link import Link
from shared.adapters.memory_store import MemoryClient, MemoryStore

__all__ = ["Link", "MemoryBroker", "MemoryBus", "MemoryClient", "MemoryStore", "MessageFaults"]
