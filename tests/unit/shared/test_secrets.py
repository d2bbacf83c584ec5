from pathlib import Path

import pytest

from shared.secrets import MAX_SECRET_BYTES, SecretError, resolve


def test_an_environment_reference_gives_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`env:NAME` is the value of NAME, untouched."""
    monkeypatch.setenv("LEEWARD_TEST_SECRET", " sk-123 ")
    assert resolve("env:LEEWARD_TEST_SECRET") == " sk-123 "


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_reference_gives_its_text_without_the_last_line_end(tmp_path: Path, ending: str) -> None:
    """What `echo` or an editor adds is not part of the secret."""
    (tmp_path / "key").write_bytes(f"sk-123{ending}".encode())
    assert resolve(f"file:{tmp_path / 'key'}") == "sk-123"


def test_only_one_line_end_is_taken_away(tmp_path: Path) -> None:
    """A secret that itself ends in a line break is refused rather than guessed at."""
    (tmp_path / "key").write_bytes(b"sk-123\n\n")
    with pytest.raises(SecretError, match="line break"):
        resolve(f"file:{tmp_path / 'key'}")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"sk-\x00hidden", "NUL"),
        (b"hidden\r\nx-evil: 1", "line break"),
        (b"\xff\xfehidden", "not UTF-8"),
        (b"h" * (MAX_SECRET_BYTES + 1), "larger than"),
        (b"", "empty"),
        (b"\n", "empty"),
    ],
)
def test_an_unusable_file_is_refused_without_repeating_it(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    """The error names the reference and the fault, and holds nothing of the value."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(SecretError, match=problem) as caught:
        resolve(f"file:{path}")
    assert str(path) in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_absent_secret_names_its_reference(tmp_path: Path) -> None:
    """Operators learn which reference to repair."""
    with pytest.raises(SecretError, match="env:LEEWARD_NO_SUCH_VARIABLE"):
        resolve("env:LEEWARD_NO_SUCH_VARIABLE")
    with pytest.raises(SecretError, match="No such file"):
        resolve(f"file:{tmp_path / 'absent'}")


@pytest.mark.parametrize("pasted", ["sk-live-123", "https:sk-live-123", "", "env:", "file:"])
def test_a_secret_pasted_in_place_of_a_reference_is_not_repeated(pasted: str) -> None:
    """An operator's mistake does not put the secret into the log."""
    with pytest.raises(SecretError, match="neither") as caught:
        resolve(pasted)
    assert "sk-live-123" not in str(caught.value)
