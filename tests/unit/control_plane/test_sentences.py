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


def test_a_rollout_is_told_with_what_it_was_judged_by() -> None:
    """Its share in percent, its fate in words."""
    values = {"rollout": "ro-2", "state": "RUNNING", "targets": ["a", "b"], "permille": 5, "found": "as good"}
    assert (
        sentence(Reason(code="ROLLOUT_STEP", values=values))
        == "Rollout ro-2 gives a, b 0.5 % of its tier: as good."
    )
    gone = {**values, "state": "ROLLED_BACK", "found": "slower"}
    assert (
        sentence(Reason(code="ROLLOUT_ENDED", values=gone)) == "Rollout ro-2 of a, b is rolled back: slower."
    )


def test_a_bare_reason_is_still_a_sentence() -> None:
    """No target, no region, no figures."""
    assert sentence(Reason(code="UNFROZEN")) == "Automatic removals are possible again."


def test_an_order_is_told_as_people_would() -> None:
    """Who, what, until when and why; when lifted, by whom; when over, as planned."""
    given = {"override": "drain-17", "author": "ann", "reason": "new racks", "expires_at": "12:30"}
    east = {"targets_in": "east"}
    assert (
        sentence(Reason(code="DRAINED", values={**given, **east}))
        == 'Targets in east drained by ann until 12:30, "new racks": override drain-17.'
    )
    lifted = {"kind": "drain", **given, "ended_by": "bob", "ended_reason": "done"}
    assert (
        sentence(Reason(code="UNDRAINED", target="alpha-east", values=lifted))
        == 'Target alpha-east drained no more, lifted by bob, "done": override drain-17, author ann.'
    )
    assert sentence(Reason(code="OVERRIDE_ENDED", values={"kind": "freeze", **given})) == (
        "An override ended, as planned for 12:30: kind freeze, override drain-17, author ann, reason new racks."
    )
    parts = {"weights": {"alpha-east": 750, "alpha-west": 250}}
    assert sentence(Reason(code="WEIGHTS_SET", region="west", values={**given, **parts})) == (
        'Weights set by hand for clients in west by ann until 12:30, "new racks": override drain-17, '
        "weights alpha-east=750 alpha-west=250."
    )
