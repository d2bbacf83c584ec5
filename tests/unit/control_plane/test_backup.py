"""The form of a backup: it proves itself, and so does a chain of them."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.backup import Backup, Damaged, Manifest, chained, decode, encode
from shared import keys
from shared.vocabulary.base import canonical_json, sha256_hex

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def head(seq: int) -> bytes:
    return canonical_json({"generation": 1, "seq": seq, "routes": {"chat": [seq, sha256_hex(document(seq))]}})


def document(seq: int) -> bytes:
    return b'{"document":%d}' % seq


def taken(version: int, since: int | None = None, *, of: str = "") -> bytes:
    """A backup at commit `1.version`, whole or since one; `of` tells one history from another."""
    first = (since or 0) + 1
    records = {
        keys.DECISIONS_HEAD: head(version),
        keys.GENERATION: b"1",
        **{
            keys.log_entry(1, seq): canonical_json({"head_sha": sha256_hex(head(seq) + of.encode())})
            for seq in range(first, version + 1)
        },
        **{keys.blob(sha256_hex(document(seq))): document(seq) for seq in range(first, version + 1)},
        f"{keys.OVERRIDES}o{version}": b"{}",
    }
    return b"".join(encode(manifest(version, since, of), records.items()))


def manifest(version: int, since: int | None = None, of: str = "") -> Manifest:
    return Manifest(
        at=NOW,
        replica="cp",
        version=f"1.{version}",
        head_sha=sha256_hex(head(version) + of.encode()),
        generation=1,
        config_version=1,
        since=f"1.{since}" if since is not None else None,
        since_sha=sha256_hex(head(since) + of.encode()) if since is not None else None,
    )


def read(*raws: bytes) -> Mapping[str, bytes]:
    return chained([backup for raw in raws for backup in decode(raw, name="file")])


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.binary(max_size=50), max_size=8))
@settings(max_examples=50, deadline=None)
def test_what_goes_in_comes_out(records: dict[str, bytes]) -> None:
    """Any keys and bytes, text or not."""
    kept = {f"x/{key}": value for key, value in records.items()}
    (backup,) = decode(b"".join(encode(manifest(1), kept.items())), name="file")
    assert backup == Backup(manifest(1), kept)


def test_every_flipped_byte_and_every_cut_is_noticed() -> None:
    """Wherever it happens; the message names the file."""
    raw = taken(2)
    for at in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[at] ^= 0x01
        with pytest.raises(Damaged, match="file"):
            decode(bytes(changed), name="file")
        with pytest.raises(Damaged, match="file"):
            decode(raw[:at], name="file")


def test_a_line_left_out_or_put_in_is_noticed() -> None:
    """Each line may be right by itself: the last one counts and hashes them all."""
    lines = taken(2).splitlines(keepends=True)
    for changed in ([*lines[:2], *lines[3:]], [*lines[:2], lines[1], *lines[2:]], [lines[0], *lines[2:1:-1]]):
        with pytest.raises(Damaged):
            decode(b"".join(changed), name="file")


def test_a_newer_form_is_not_guessed_at() -> None:
    """The message says which release can read it."""
    lines = taken(1).splitlines(keepends=True)
    newer = canonical_json({**json.loads(lines[0]), "leeward_backup": 2}) + b"\n"
    with pytest.raises(Damaged, match="reads up to 1"):
        decode(newer + b"".join(lines[1:]), name="file")
    with pytest.raises(Damaged, match="is no backup"):
        decode(b'{"node": 1}\n', name="file")


def test_a_chain_gives_what_a_full_backup_would() -> None:
    """Histories and blobs add up; what is replaced in place is the last one's alone. Backups may
    overlap, and may stand in one file."""
    whole = dict(read(taken(5)))
    assert dict(read(taken(2), taken(4, since=2), taken(5, since=4))) == whole
    assert dict(read(taken(3) + taken(5, since=2))) == whole


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        (lambda: [taken(4, since=2)], "a full backup must come before"),
        (lambda: [taken(2), taken(5, since=4)], "one is missing"),
        (lambda: [taken(2), taken(5, since=4), taken(4, since=2)], "wrong order"),
        (lambda: [taken(4), taken(3, since=2)], "wrong order"),
        (lambda: [taken(2), taken(4, since=2, of="another etcd")], "not of one history"),
        (lambda: [taken(2), taken(4)], "goes first, or alone"),
    ],
)
def test_what_is_no_chain_is_refused(chain: Callable[[], list[bytes]], why: str) -> None:
    """In words that say what to do."""
    with pytest.raises(Damaged, match=why):
        read(*chain())


def test_a_backup_without_what_its_head_names_is_refused() -> None:
    """Nothing could be served from it."""
    raw = b"".join(encode(manifest(2), [(keys.DECISIONS_HEAD, head(2))]))
    with pytest.raises(Damaged, match="blobs that its heads name are missing"):
        read(raw)
