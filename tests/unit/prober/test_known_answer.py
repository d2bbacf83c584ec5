import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.core.known_answer import says, spoken


@pytest.mark.parametrize(
    ("text", "expected", "same"),
    [
        ("ready", "ready", True),
        ("  **Ready!**\n", "ready", True),
        ("I am READY.", "ready", True),
        ("I am already here", "ready", False),
        ("readying", "ready", False),
        ("It is 4.", "4", True),
        ("It is 42.", "4", False),
        ("The capital is New\n  York.", "new york", True),
        ("New-York", "New York", True),
        ("Newark, York", "New York", False),
        ("STRASSE", "straße", True),
        ("ｒｅａｄｙ", "ready", True),
        ("cafe\u0301", "caf\u00e9", True),
        ("答えは四です。", "四", True),
        ("答えは五です。", "四", False),
        ("", "ready", False),
        ("already, but ready", "ready", True),
    ],
)
def test_words_count_and_their_dress_does_not(text: str, expected: str, same: bool) -> None:
    """Case, punctuation, width and white space differ between models; words do not."""
    assert says(text, expected) is same


@given(
    before=st.text(string.punctuation + " \n", max_size=5),
    after=st.text(string.punctuation + " \n", max_size=5),
    word=st.text(string.ascii_letters + string.digits, min_size=1, max_size=10),
)
def test_decoration_never_hides_nor_makes_an_answer(before: str, after: str, word: str) -> None:
    """Whatever punctuation surrounds it, a word is itself and not the beginning of another."""
    assert says(before + word.upper() + after, word)
    assert not says(before + word + "x" + after, word)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" ready ", "ready"),
        ("<think>is it ready?</think> no", "no"),
        ("<think>is it", None),
        ("<think></think>", ""),
        ("so <think> is a tag", "so <think> is a tag"),
    ],
)
def test_thoughts_are_not_the_answer(text: str, said: str | None) -> None:
    """What is said aloud while thinking is not compared; a thought without an end is no answer at all."""
    assert spoken(text) == said
