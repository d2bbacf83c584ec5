"""The recording's file: what is written is read, and what cannot be read is named by its line."""

import gzip
from pathlib import Path

import pytest

from ops.errors import Usage
from ops.replay.recording import Recording
from tests.unit.ops.replay_worlds import at, commit, document, recording


@pytest.mark.parametrize("name", ["calm.jsonl", "calm.jsonl.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    """Packed or not: the header, and every line in order of time."""
    made = recording(
        tmp_path / name, lasts_s=3, down=lambda *_: False, commits=[commit(1.5, document(seq=2))]
    )
    lines = list(made.lines())
    assert made.header.ended_at == at(3)
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert sum(line.event is not None for line in lines) == 9
    assert [line.decision.version for line in lines if line.decision] == ["1.2"]


def test_a_name_says_nothing_about_packing(tmp_path: Path) -> None:
    """A packed file without `.gz` is read all the same."""
    made = recording(tmp_path / "calm.jsonl.gz", lasts_s=2, down=lambda *_: False)
    other = made.path.rename(tmp_path / "calm")
    assert len(list(Recording.open(other).lines())) == 6


def test_a_line_from_the_past_arrives_with_the_one_before(tmp_path: Path) -> None:
    """Disorder among producers' clocks does not turn time back."""
    made = recording(tmp_path / "f", lasts_s=3, down=lambda *_: False)
    header, *lines = made.path.read_bytes().splitlines()
    made.path.write_bytes(b"\n".join([header, lines[6], lines[0], b""]))
    assert [line.at for line in made.lines()] == [at(2), at(2)]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b"no json", "Invalid JSON"),
        (b'{"at":"2026-11-01T12:00:00Z"}', "needs an `event`"),
        (b'{"at":"yesterday","region":"us-east","event":{}}', "at: "),
        (b'{"at":"2026-11-01T12:00:00Z","region":"us-east","event":{"kind":"probe"}}', "event.source: "),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, wrong: str) -> None:
    """File, line number and what is wrong, as a mistake of usage."""
    made = recording(tmp_path / "f", lasts_s=1, down=lambda *_: False)
    with made.path.open("ab") as file:
        file.write(b"\n" + line + b"\n")
    with pytest.raises(Usage, match=r"f:6: ") as raised:
        list(made.lines())
    assert wrong in str(raised.value)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """It says which one was met and which can be read."""
    path = tmp_path / "new.jsonl"
    path.write_bytes(b'{"leeward_recording": 2, "shape": "another"}\n')
    with pytest.raises(Usage, match=r"schema 2, this one reads 1"):
        Recording.open(path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b'{"at": 1}\n'])
def test_another_file_is_no_recording(tmp_path: Path, content: bytes) -> None:
    """Rather than a complaint about some field."""
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(Usage, match="is no recording"):
        Recording.open(path)


def test_a_missing_file_is_usage(tmp_path: Path) -> None:
    """The name, and why."""
    with pytest.raises(Usage, match="nowhere: cannot be read: No such file"):
        Recording.open(tmp_path / "nowhere")


def test_a_file_cut_off_says_so(tmp_path: Path) -> None:
    """A packed file whose end is missing is not taken for a short one."""
    made = recording(tmp_path / "f.gz", lasts_s=60, down=lambda *_: False)
    made.path.write_bytes(made.path.read_bytes()[:-200])
    with pytest.raises(Usage, match="cut off or damaged"):
        list(made.lines())


def test_unknown_fields_are_ignored(tmp_path: Path) -> None:
    """A newer writer of the same schema may say more."""
    made = recording(tmp_path / "f", lasts_s=1, down=lambda *_: False)
    text = made.path.read_text().replace('"region":', '"mood":"calm","region":')
    made.path.write_text(text)
    assert len(list(Recording.open(made.path).lines())) == 3


def test_writing_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    """Whatever goes wrong on the way, there is the whole file or none, and no scratch."""
    made = recording(tmp_path / "whole.gz", lasts_s=1, down=lambda *_: False)
    assert gzip.decompress(made.path.read_bytes()).count(b"\n") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["whole.gz"]
