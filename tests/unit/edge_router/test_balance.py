"""Long JSON is known to be whole by its brackets, wherever it is cut into pieces."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.balance import Balance

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab"\\[]{}é\n'), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('k"\\{', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
_WHOLE = st.lists(_JSON, max_size=4) | st.dictionaries(st.text(max_size=3), _JSON, max_size=4)


def _fed(text: bytes, cuts: list[int]) -> Balance:
    balance = Balance()
    at = 0
    for cut in [*sorted(min(cut, len(text)) for cut in cuts), len(text)]:
        balance.feed(text[at:cut])
        at = cut
    return balance


@given(_WHOLE, st.lists(st.integers(0, 80), max_size=12), st.booleans())
def test_what_is_whole_is_whole_and_no_part_of_it_is(value: object, cuts: list[int], plain: bool) -> None:
    """Every proper beginning of a JSON text is known not to be one."""
    text = json.dumps(value, ensure_ascii=plain).encode()
    assert _fed(text, cuts).whole
    assert _fed(b" \n" + text + b"\r\n", cuts).whole
    for end in range(len(text)):
        assert not _fed(text[:end], cuts).whole


@given(_WHOLE, st.lists(st.integers(0, 80), max_size=12))
def test_it_does_not_matter_where_the_text_is_cut(value: object, cuts: list[int]) -> None:
    """Byte by byte is as good as at once."""
    text = json.dumps(value).encode()
    assert _fed(text, list(range(len(text)))).whole
    assert _fed(text, cuts).whole


def test_what_is_no_object_or_array_is_wrong() -> None:
    """A page, a bracket too many, something behind the end."""
    for pieces in ([b"<html>"], [b"[]", b"]"], [b"{}", b"{"], [b"7"], [b"[1]", b"  x"]):
        balance = Balance()
        for piece in pieces:
            balance.feed(piece)
        assert balance.wrong
        assert not balance.whole


@given(
    _WHOLE,
    st.sampled_from(["{}", "[]", '"x"', "7", ",", ',{"a":1}', "[[]]", '"', "}"]),
    st.lists(st.integers(0, 80)),
)
def test_nothing_but_white_space_may_follow(value: object, more: str, cuts: list[int]) -> None:
    """In the same piece or in another: two texts in a row are none."""
    text = json.dumps(value)
    assert not _fed((text + more).encode(), cuts).whole
    assert not _fed((text + " \n" + more + "\n").encode(), cuts).whole
    assert not _fed((text + more + text).encode(), cuts).whole


@pytest.mark.parametrize(
    "head",
    [b'{"error":{"message":"x"', b'\n{ "error" : "no', b'{"type":"error","error":{"type":"overloaded_error"'],
)
def test_an_error_at_the_head_is_no_answer(head: bytes) -> None:
    """As the dialects write it; an empty error, and one inside of an answer, are nothing."""
    balance = Balance()
    balance.feed(head)
    assert balance.wrong
    for fine in (b'{"error":null,"choices":[]}', b'{"error":"","x":1}', b'{"choices":[{"error":{}}]}'):
        assert _fed(fine, []).whole
