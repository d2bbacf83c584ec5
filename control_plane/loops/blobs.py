"""Content-addressed values in etcd: documents and configurations under their own hash.

A blob is written before the small transaction that names it, and never changes, so readers need no
transaction to get it and may keep it for ever. One larger than etcd's request limit (1.5 MiB by
default) is kept in numbered pieces under `blobs/<sha>/`; its hash proves that all are there.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from control_plane.loops.pulse import together
from shared import keys
from shared.ports import Compare, Coordination, Delete, PortError, Put
from shared.vocabulary.base import sha256_hex

PIECE_BYTES = 900 * 1024
TXN_BYTES = 900 * 1024
TXN_OPS = 100
"""etcd takes 128 operations a transaction by default."""
READS_AT_ONCE = 32


class Missing(LookupError):
    """etcd has no such blob, or it does not match its hash."""


class Fenced(PortError):
    """The leader key is no longer the one this write belongs to."""


class Blobs:
    """Reads and writes blobs, keeping the latest in memory up to `cache_bytes`."""

    def __init__(self, store: Coordination, *, cache_bytes: int = 32 * 1024 * 1024) -> None:
        self._store = store
        self._limit = cache_bytes
        self._size = 0
        self._cache: OrderedDict[str, bytes] = OrderedDict()

    def remember(self, sha: str, raw: bytes) -> None:
        """Keep what was seen on a watch or written, if it is what its hash says."""
        if sha in self._cache or len(raw) > self._limit or sha256_hex(raw) != sha:
            return
        self._cache[sha] = raw
        self._size += len(raw)
        while self._size > self._limit:
            _, dropped = self._cache.popitem(last=False)
            self._size -= len(dropped)

    async def read(self, sha: str) -> bytes:
        """Raises Missing, or PortError."""
        if (held := self._cache.get(sha)) is not None:
            self._cache.move_to_end(sha)
            return held
        record, _ = await self._store.get(keys.blob(sha))
        if record is not None:
            raw = record.value
        else:
            pieces = (await self._store.list(f"{keys.blob(sha)}/")).items
            raw = b"".join(piece.value for piece in sorted(pieces, key=lambda piece: piece.key))
        if sha256_hex(raw) != sha:
            raise Missing(sha)
        self.remember(sha, raw)
        return raw

    async def read_all(self, shas: Iterable[str]) -> Mapping[str, bytes]:
        """All of them, a bounded number at a time; those that are missing are left out."""
        wanted = sorted(set(shas))
        found: dict[str, bytes] = {}

        async def one(sha: str) -> None:
            try:
                found[sha] = await self.read(sha)
            except Missing:
                return

        for start in range(0, len(wanted), READS_AT_ONCE):
            await together(one(sha) for sha in wanted[start : start + READS_AT_ONCE])
        return found

    async def write(self, fence: Sequence[Compare], blobs: Mapping[str, bytes]) -> None:
        """Write all under the fence. Writing one that exists changes nothing, so a lost reply needs
        no reading back. Raises Fenced, or PortError."""
        puts = [put for sha, raw in blobs.items() for put in _puts(sha, raw)]
        for batch in batches(puts):
            result = await self._store.commit(fence, batch)
            if not result.succeeded:
                raise Fenced("blobs were not written")
        for sha, raw in blobs.items():
            self.remember(sha, raw)


def deletions(sha: str) -> list[Delete]:
    """What removes a blob, whole or in pieces."""
    return [Delete(keys.blob(sha)), Delete(f"{keys.blob(sha)}/", prefix=True)]


def _puts(sha: str, raw: bytes) -> list[Put]:
    if len(raw) <= PIECE_BYTES:
        return [Put(keys.blob(sha), raw)]
    pieces = range(0, len(raw), PIECE_BYTES)
    return [
        Put(f"{keys.blob(sha)}/{number:06d}", raw[start : start + PIECE_BYTES])
        for number, start in enumerate(pieces)
    ]


def batches(puts: Sequence[Put]) -> Iterator[list[Put]]:
    """In portions that etcd takes in one transaction, with room for one more operation."""
    batch: list[Put] = []
    size = 0
    for put in puts:
        if batch and (len(batch) == TXN_OPS or size + len(put.value) > TXN_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(put)
        size += len(put.value)
    if batch:
        yield batch
