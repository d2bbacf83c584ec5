"""The last-known-good files: whole or not at all, the newest undamaged one, and never in the way."""

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from edge_router.adapters import store as store_module
from edge_router.adapters.store import GENERATIONS, DiskFiles, DiskStore
from edge_router.ports import Kept, StoreError
from shared.vocabulary.base import NO_VERSION, Version


def kept(seq: int, *, generation: int = 1, documents: int = 3, head: bytes | None = b'{"head":1}') -> Kept:
    """Bytes of all kinds, line ends among them: the file must not care."""
    return Kept(
        config=b'{"config":\n1}',
        head=head,
        documents=tuple(b'{"seq":%d,"text":"\xc3\xa9\n%d"}' % (seq, i) for i in range(documents)),
        version=Version(generation, seq) if head is not None else NO_VERSION,
        seen=Version(generation, seq) if head is not None else NO_VERSION,
    )


class FailingFiles(DiskFiles):
    """A file system that fails with `error` in the operation named `fails`, after writing `partial` bytes."""

    def __init__(self, fails: str = "", error: int = errno.ENOSPC, partial: int = 10) -> None:
        self.fails = fails
        self.error = error
        self.partial = partial

    def _check(self, operation: str) -> None:
        if self.fails == operation:
            raise OSError(self.error, "made to fail")

    def names(self, directory: Path) -> list[str]:
        self._check("names")
        return super().names(directory)

    def read(self, path: Path, limit: int) -> bytes:
        self._check("read")
        return super().read(path, limit)

    def write(self, path: Path, raw: bytes) -> None:
        if self.fails == "write":
            super().write(path, raw[: self.partial])
        self._check("write")
        super().write(path, raw)

    def rename(self, old: Path, new: Path) -> None:
        self._check("rename")
        super().rename(old, new)


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_what_is_kept_is_recalled_byte_for_byte_by_another_process(tmp_path: Path) -> None:
    """Also without a head, and without documents."""
    for one in (kept(7), kept(0, head=None, documents=0), kept(9, documents=0)):
        directory = tmp_path / str(one.version)
        await DiskStore(directory).keep(one)
        recalled = await DiskStore(directory).recall()
        assert recalled.kept == (one,)
        assert recalled.damaged == ()
        assert recalled.seen == one.seen


async def test_three_generations_stay_the_newest_first(tmp_path: Path) -> None:
    """Older ones go, and only after the newer one is in place."""
    store = DiskStore(tmp_path)
    for seq in range(1, 8):
        await store.keep(kept(seq))
        assert len(files_in(tmp_path)) == min(seq, GENERATIONS)
    recalled = await DiskStore(tmp_path).recall()
    assert [one.version.seq for one in recalled.kept] == [7, 6, 5]


async def test_nothing_kept_and_no_directory_is_nothing_recalled(tmp_path: Path) -> None:
    """A first start."""
    recalled = await DiskStore(tmp_path / "not" / "there").recall()
    assert recalled.kept == ()
    assert recalled.seen == NO_VERSION


async def test_a_change_of_any_single_byte_is_noticed_and_the_older_file_counts(tmp_path: Path) -> None:
    """FAULTS 26: corruption anywhere, first line included; the version stays known by the name."""
    store = DiskStore(tmp_path)
    await store.keep(kept(1))
    await store.keep(kept(2))
    newest = tmp_path / files_in(tmp_path)[-1]
    good = newest.read_bytes()
    for at in range(len(good)):
        newest.write_bytes(good[:at] + bytes([good[at] ^ 0x20]) + good[at + 1 :])
        recalled = await DiskStore(tmp_path).recall()
        assert [one.version.seq for one in recalled.kept] == [1], f"byte {at} of {good!r}"
        assert len(recalled.damaged) == 1
        assert recalled.seen == (1, 2)


async def test_a_file_cut_anywhere_or_grown_is_passed_over(tmp_path: Path) -> None:
    """As a crash, a copy that broke off or a concatenation leaves it."""
    store = DiskStore(tmp_path)
    await store.keep(kept(1))
    await store.keep(kept(2))
    newest = tmp_path / files_in(tmp_path)[-1]
    good = newest.read_bytes()
    for damaged in (*(good[:at] for at in range(len(good))), good + b"\n", good + good, b"\0" * len(good)):
        newest.write_bytes(damaged)
        recalled = await DiskStore(tmp_path).recall()
        assert [one.version.seq for one in recalled.kept] == [1]


async def test_all_damaged_is_nothing_recalled_but_the_versions(tmp_path: Path) -> None:
    """The edge then starts from its configuration, knowing how far it had been."""
    store = DiskStore(tmp_path)
    for seq in (4, 5, 6):
        await store.keep(kept(seq))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    recalled = await DiskStore(tmp_path).recall()
    assert recalled.kept == ()
    assert recalled.seen == (1, 6)
    assert len(recalled.damaged) == 3


async def test_damaged_files_do_not_take_the_place_of_good_ones(tmp_path: Path) -> None:
    """They go with the next write, and what was good before stays."""
    store = DiskStore(tmp_path)
    for seq in (1, 2, 3):
        await store.keep(kept(seq))
    (tmp_path / files_in(tmp_path)[-1]).write_bytes(b"garbage")
    store = DiskStore(tmp_path)
    await store.recall()
    await store.keep(kept(4))
    recalled = await DiskStore(tmp_path).recall()
    assert [one.version.seq for one in recalled.kept] == [4, 2, 1]
    assert recalled.damaged == ()


@pytest.mark.parametrize("fails", ["write", "rename", "names"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
async def test_a_disk_that_fails_leaves_the_old_files_and_no_partial_one(
    tmp_path: Path, fails: str, error: int
) -> None:
    """FAULTS 26: disk full. The caller is told; what was there before is untouched; later it works again."""
    await DiskStore(tmp_path).keep(kept(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    files = FailingFiles(fails, error)
    store = DiskStore(tmp_path, files=files)
    with pytest.raises(StoreError, match="made to fail"):
        await store.keep(kept(2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    files.fails = ""
    await store.keep(kept(2))
    recalled = await DiskStore(tmp_path).recall()
    assert [one.version.seq for one in recalled.kept] == [2, 1]


async def test_a_disk_that_cannot_be_read_recalls_nothing_and_raises_nothing(tmp_path: Path) -> None:
    """The edge starts all the same, and says why it has no file."""
    await DiskStore(tmp_path).keep(kept(1))
    for fails in ("names", "read"):
        recalled = await DiskStore(tmp_path, files=FailingFiles(fails, errno.EIO)).recall()
        assert recalled.kept == ()
        assert len(recalled.damaged) == 1


async def test_a_process_killed_while_writing_leaves_no_trace_in_what_is_recalled(tmp_path: Path) -> None:
    """A temporary file is never read, and the next write removes it."""
    store = DiskStore(tmp_path)
    await store.keep(kept(1))
    (tmp_path / "lkg-000002-1.2.json.tmp").write_bytes(b"half")
    recalled = await DiskStore(tmp_path).recall()
    assert [one.version.seq for one in recalled.kept] == [1]
    assert recalled.damaged == ()
    await DiskStore(tmp_path).keep(kept(2))
    assert not [name for name in files_in(tmp_path) if name.endswith(".tmp")]


async def test_too_large_is_neither_written_nor_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on everything, memory at start included."""
    await DiskStore(tmp_path).keep(kept(1))
    await DiskStore(tmp_path).keep(kept(2, documents=2000))
    monkeypatch.setattr(store_module, "MAX_BYTES", 10_000)
    recalled = await DiskStore(tmp_path).recall()
    assert [one.version.seq for one in recalled.kept] == [1]
    with pytest.raises(StoreError, match="more than"):
        await DiskStore(tmp_path).keep(kept(3, documents=2000))


async def test_a_hanging_disk_holds_one_thread_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write fails by its deadline; others are refused at once until it ends; then all is well."""
    release = threading.Event()

    class Hanging(DiskFiles):
        def write(self, path: Path, raw: bytes) -> None:
            release.wait(10)
            super().write(path, raw)

    monkeypatch.setattr(store_module, "WRITE_S", 0.05)
    store = DiskStore(tmp_path, files=Hanging())
    with pytest.raises(StoreError, match="no answer"):
        await store.keep(kept(1))
    with pytest.raises(StoreError, match="has not ended"):
        await store.keep(kept(2))
    release.set()
    monkeypatch.setattr(store_module, "WRITE_S", 5.0)
    while True:
        try:
            await store.keep(kept(2))
            break
        except StoreError:
            await asyncio.sleep(0)
    recalled = await DiskStore(tmp_path).recall()
    assert [one.version.seq for one in recalled.kept] == [2, 1]


async def test_names_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    """Neither read nor removed."""
    strange = tmp_path / "lkg-notes.json"
    strange.write_text("mine")
    store = DiskStore(tmp_path)
    for seq in range(1, 6):
        await store.keep(kept(seq))
    assert strange.read_text() == "mine"
    recalled = await store.recall()
    assert len(recalled.kept) == GENERATIONS
