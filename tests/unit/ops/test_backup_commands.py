"""`leeward backup`, `verify` and `restore`: what is refused before a control plane is asked."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from control_plane.core.backup import Manifest, encode
from ops.backups import write
from ops.cli.app import build
from ops.errors import Bad, OpsError, Usage
from shared import keys


def leeward(*arguments: object) -> Result:
    return CliRunner().invoke(build(), [str(argument) for argument in arguments])


def refusal(*arguments: object) -> OpsError:
    """What the command fails with; `ops.cli.failures` prints it."""
    error = leeward(*arguments).exception
    assert isinstance(error, OpsError), error
    return error


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A whole, full backup."""
    manifest = Manifest(
        at=datetime(2030, 1, 1, tzinfo=UTC),
        replica="cp-east",
        version="1.7",
        head_sha="0" * 64,
        generation=1,
        config_version=3,
    )
    write(tmp_path / "full", b"".join(encode(manifest, [(keys.GENERATION, b"1")])))
    return tmp_path / "full"


def test_a_whole_backup_is_described(file: Path) -> None:
    """What it holds, by whom and when; readable by its owner alone."""
    done = leeward("backup", "verify", file)
    assert done.exit_code == 0
    assert (
        "full, up to 1.7, configuration 3, 1 records, taken 2030-01-01 00:00:00 UTC by cp-east" in done.stdout
    )
    assert "good: 1 records can be restored" in done.stdout
    assert file.stat().st_mode & 0o077 == 0


def test_a_damaged_one_is_neither_good_nor_sent(file: Path) -> None:
    """Cut or changed: exit code 1 and where, from `verify` and `restore` alike."""
    raw = file.read_bytes()
    for wrong, why in ((raw[:-3], "cut short"), (raw.replace(b'"1"', b'"2"'), "changed"), (b"", "empty")):
        file.write_bytes(wrong)
        for command in (("backup", "verify"), ("restore", "--url", "http://127.0.0.1:9")):
            error = refusal(*command, file)
            assert isinstance(error, Bad)
            assert why in str(error)
            assert str(file) in str(error)


def test_wrong_usage_is_said_before_anybody_is_asked(file: Path, tmp_path: Path) -> None:
    """No file named, one that exists, a version that is none, a file that is not there."""
    for arguments, why in (
        (("backup",), "--to FILE"),
        (("backup", "--to", file), "nothing is written over"),
        (("backup", "--to", tmp_path / "new", "--since", "yesterday"), "not a version"),
        (("restore", tmp_path / "nothing"), "No such file"),
    ):
        error = refusal(*arguments)
        assert isinstance(error, Usage)
        assert why in str(error)


def test_a_place_that_is_not_there_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    """Wrong usage, by the option and without the system's numbers; no scratch file's name."""
    error = refusal("backup", "--to", tmp_path / "nowhere" / "full", "--url", "http://127.0.0.1:9")
    assert isinstance(error, Usage)
    assert str(error) == f"--to {tmp_path}/nowhere/full: there is no folder {tmp_path}/nowhere"
