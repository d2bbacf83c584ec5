"""Reasons read as sentences, whatever their code."""

import pytest

from control_plane.api.sentences import sentence
from shared.vocabulary.decision import REASON_CODES, Reason


@pytest.mark.parametrize("code", [*REASON_CODES, "SOMETHING_NEWER"])
def test_every_code_has_words(code: str) -> None:
    """Codes of a newer writer too; never a placeholder, never empty."""
    text = sentence(Reason(code=code, target="alpha-east", region="west", values={"share": 0.5, "on": True}))
    assert "{" not in text
    assert text.endswith("share 0.5, on yes.")
    assert "alpha-east" in text
    assert "west" in text


def test_a_bare_reason_is_still_a_sentence() -> None:
    """No target, no region, no figures."""
    assert sentence(Reason(code="UNFROZEN")) == "Automatic removals are possible again."
