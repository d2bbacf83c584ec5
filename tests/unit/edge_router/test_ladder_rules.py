"""Rules: words by themselves, patterns in linear time, placeholders and nothing else."""

from time import perf_counter

import pytest
from pydantic import ValidationError

from edge_router.core.ladder.rules import fill, matching, static_text
from shared.vocabulary.degradation import DegradedRule, StaticAnswer


def rule(answer: str = "a", **how: list[str]) -> DegradedRule:
    return DegradedRule.model_validate({"answer": answer, **how})


@pytest.mark.parametrize(
    ("keyword", "text", "matches"),
    [
        ("refund", "I want a REFUND!", True),
        ("refund", "refunds are late", False),
        ("refund", "prerefund", False),
        ("opening hours", "What are your opening\n  hours?", True),
        ("opening hours", "opening the hours", False),
        ("Straße", "in der STRASSE", True),
        ("café", "the café, please", True),
        ("c++", "is C++ taught?", True),
        ("a", "a" * 4000, False),
    ],
)
def test_keywords_are_whole_words_in_any_case(keyword: str, text: str, matches: bool) -> None:
    """White space and punctuation between words are all one."""
    assert (matching([rule(keywords=[keyword])], text) is not None) is matches


def test_the_first_rule_that_matches_answers() -> None:
    """In the order written, whether by keyword or by pattern."""
    rules = [
        rule("1", keywords=["x"]),
        rule("2", patterns=[r"(?i)order\s+#?\d+"]),
        rule("3", keywords=["order"]),
    ]
    assert [getattr(matching(rules, text), "answer", None) for text in ("Order 17", "my order", "none")] == [
        "2",
        "3",
        None,
    ]


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|a)*b", r"a*a*a*a*a*b", r"(.*)*x", r"(a|aa)+$"])
def test_a_pattern_that_would_hang_others_does_not(pattern: str) -> None:
    """What takes a backtracking engine longer than the age of the universe takes this one no time."""
    began = perf_counter()
    matching([rule(patterns=[pattern])], "a" * 4096 + "!")
    assert perf_counter() - began < 0.25


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"patterns": ["("]}, "patterns"),
        ({"patterns": [r"(a)\1"]}, "patterns"),
        ({"patterns": ["(?=a)b"]}, "patterns"),
        ({"patterns": [r"\d{1000}{1000}"]}, "patterns"),
        ({"patterns": ["a" * 257]}, "patterns"),
        ({"keywords": ["?!"]}, "keywords"),
        ({"keywords": ["a"], "answer": "{secret}"}, "answer"),
        ({}, "()"),
    ],
)
def test_what_is_no_rule_is_refused_by_its_field(fields: dict[str, object], field: str) -> None:
    """A clear error when the configuration is read, never one when a request is answered."""
    with pytest.raises(ValidationError) as caught:
        DegradedRule.model_validate({"answer": "a", **fields})
    assert field in str([error["loc"] for error in caught.value.errors()])


def test_placeholders_are_filled_once() -> None:
    """A value that looks like a placeholder stays what it is, and braces that are none are left alone."""
    assert fill("{route} {model} {x} {}", {"route": "{model}", "model": "m"}) == "{model} m {x} {}"


def test_a_hand_off_follows_the_text() -> None:
    """With where people are, when that is known."""
    static = {"text": "Down.", "hand_off": {"text": "Call us:", "url": "tel:+49123"}}
    assert static_text(StaticAnswer.model_validate(static)) == "Down.\n\nCall us: tel:+49123"
    assert static_text(StaticAnswer(text="Down.")) == "Down."
