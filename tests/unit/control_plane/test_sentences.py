"""Reasons read as sentences, whatever their code."""

import pytest

from control_plane.api.sentences import brief, sentence
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


def test_a_restore_is_not_told_as_a_loss() -> None:
    """Both raise the generation; one was somebody's doing."""
    values = {"from": 1, "to": 3}
    lost = sentence(Reason(code="GENERATION_RAISED", values=values))
    assert lost.startswith("The coordination store had lost history")
    restored = Reason(code="GENERATION_RAISED", values={**values, "backup": "1.4", "restored_by": "eve"})
    assert sentence(restored) == (
        "The backup of 1.4 was restored by eve, so every document was written anew: from 1, to 3."
    )


def test_a_target_that_keeps_some_traffic_has_not_left_it() -> None:
    """It gets less, or more again, with how much."""
    soft = {"soft": True, "kept_permille": 800, "from_permille": 1000}
    less = Reason(code="TARGET_DOWN", target="a", values=soft)
    assert sentence(less).startswith("Target a gets less traffic: ")
    assert brief(less) == "Target a gets less traffic: 100 to 80 % of its weight."
    seen = less.model_copy(update={"values": {**soft, "seen": "2 of 3 vantages DOWN: timeout"}})
    assert brief(seen) == "Target a gets less traffic: 2 of 3 vantages DOWN: timeout."
    more = less.model_copy(update={"values": {**soft, "from_permille": 500}})
    assert brief(more) == "Target a gets more traffic again: 50 to 80 % of its weight."
    gone = less.model_copy(update={"values": {**soft, "kept_permille": 0}})
    assert sentence(gone).startswith("Target a left the traffic: ")


def test_a_return_that_does_not_go_on_is_no_step() -> None:
    """From 80 to 80 % is said as people would."""
    stays = Reason(code="RAMP_STEP", target="a", values={"permille": 800, "from_permille": 800, "flaps": 0})
    assert brief(stays) == "Target a is returning, and stays at 80 % of its weight."
    assert sentence(stays) == "Target a is returning, and stays where it is: at 80 %, flaps 0."


def test_in_brief_a_reason_says_what_was_seen_or_done() -> None:
    """Without the figures that led to it; orders and whatever has nothing to leave out stay whole."""
    down = {"votes": 3, "down": 3, "hard": True, "seen": "3 of 3 vantages DOWN: connect refused", "flaps": 0}
    assert (
        brief(Reason(code="TARGET_DOWN", target="a", values=down))
        == "Target a left the traffic: 3 of 3 vantages DOWN: connect refused."
    )
    step = {"permille": 300, "from_permille": 100, "flaps": 0}
    assert (
        brief(Reason(code="RAMP_STEP", target="a", values=step))
        == "Target a is returning, step by step: 10 to 30 % of its weight."
    )
    assert (
        brief(Reason(code="TARGET_UP", target="a", values=step)) == "Target a is back with its full weight."
    )
    drained = Reason(
        code="DRAINED", target="a", values={"author": "ann", "reason": "r", "override": "drain-1"}
    )
    assert brief(drained) == sentence(drained)
    bare = Reason(code="SHED", region="east", values={"permille": 100})
    assert brief(bare) == sentence(bare)
