"""What may stand on record."""

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.vocabulary.override import Author, Words


@pytest.mark.parametrize(
    "text", ["red \x1b[31mALERT", "two\nlines", "evil \u202e txt", "nul \x00", "\ud800", ""]
)
def test_words_on_record_are_one_printable_line(text: str) -> None:
    """They are printed on terminals and pages: no escapes, no second line, nothing that turns text around."""
    for kind in (Words, Author):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(text)


@pytest.mark.parametrize("text", ["new racks", "für Zoë: 東京 ✓", "a" * 128])
def test_other_languages_are_welcome(text: str) -> None:
    """Whatever can be printed."""
    assert TypeAdapter(Author).validate_python(text) == text
