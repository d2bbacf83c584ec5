"""The simulated model's answers: deterministic, checkable, and able to be continued."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator.answers import (
    MAX_TOKENS,
    after_prefill,
    answer,
    embedding,
    expected_answer,
    is_whole,
)

PROMPTS = st.text(max_size=200).filter(lambda text: "Reply with the single word" not in text)


@given(PROMPTS, st.none() | st.integers(1, 200))
def test_an_answer_is_whole_and_within_its_limit(prompt, max_tokens):
    """Every answer carries its own proof, cut by max_tokens or not."""
    told = answer(prompt, max_tokens)
    assert is_whole(told.text)
    assert 1 <= len(told.tokens) <= (max_tokens or MAX_TOKENS)
    assert told.text == expected_answer(prompt, max_tokens)
    assert told.text == " ".join(told.text.split())


@given(PROMPTS, st.data())
def test_a_lost_token_is_noticed_wherever_it_was(prompt, data):
    """Completeness is what the checksum is for."""
    tokens = answer(prompt).tokens
    lost = data.draw(st.integers(0, len(tokens) - 1))
    assert not is_whole("".join(tokens[:lost] + tokens[lost + 1 :]).strip())


@given(PROMPTS, st.data())
def test_a_truncated_answer_is_never_taken_for_a_whole_one(prompt, data):
    """Cut at any character."""
    text = expected_answer(prompt)
    assert not is_whole(text[: data.draw(st.integers(0, len(text) - 1))])


@given(PROMPTS, st.data())
def test_a_prefill_is_continued_without_loss_or_repetition(prompt, data):
    """What the request holds already and what the answer adds make the whole."""
    whole = answer(prompt)
    cut = data.draw(st.integers(0, len(whole.text) - 1))
    prefill = whole.text[:cut]
    assert prefill + after_prefill(whole, prefill).text == whole.text


def test_a_prefill_of_something_else_is_answered_anew():
    """A beginning the model would not have made is not continued."""
    whole = answer("x")
    assert after_prefill(whole, "Something else") == whole


@pytest.mark.parametrize("tokens", [1, 2, 500, 5000])
def test_a_prompt_may_ask_for_a_length(tokens):
    """Long streams are had by asking for them."""
    told = answer(f"Write {tokens} words about rain")
    assert len(told.tokens) == tokens
    assert told.complete


def test_an_absurd_length_is_clamped():
    """A prompt cannot make the simulator work for ever."""
    assert len(answer("Write 999999 words").tokens) == MAX_TOKENS


def test_a_limit_below_the_length_is_said():
    """`complete` is what becomes the finish reason."""
    assert answer("Write 10 words", 10).complete
    assert not answer("Write 10 words", 9).complete


def test_the_probe_prompt_is_answered_in_one_word():
    """A monitor's prompt costs one token and has a known answer."""
    assert answer("Reply with the single word: ready").tokens == ("ready",)
    assert answer("Reply with the single word: steady", 1).text == "steady"


def test_prompts_differ_in_their_answers():
    """Mixed-up answers would be noticed."""
    assert len({expected_answer(f"prompt {i}") for i in range(500)}) == 500


@given(st.text(max_size=50), st.integers(2, 300))
def test_embeddings_are_unit_vectors_that_follow_from_the_text(text, dimensions):
    """Equal texts, equal vectors; the length is 1 as the real ones' is."""
    vector = embedding(text, dimensions)
    assert vector == embedding(text, dimensions)
    assert len(vector) == dimensions
    assert math.isclose(sum(number * number for number in vector), 1.0, rel_tol=1e-9)
    assert vector != embedding(text + "x", dimensions)
