"""Which written answer a message gets, and its text with the placeholders filled in.

Bounded: 64 rules of 32 keywords and 8 patterns, held against the first 4,096 characters of the last message, each
in time linear in them, and only while no target answers. The worst of that takes 8 ms, a few rules some microseconds.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import jsonschema_rs

from shared.vocabulary.degradation import PLACEHOLDER, DegradedRule, StaticAnswer, pattern_validator, words


def matching(rules: Sequence[DegradedRule], text: str) -> DegradedRule | None:
    """The first rule that speaks to `text`."""
    if not rules:
        return None
    said = words(text)
    for rule in rules:
        if any(_words(keyword) in said for keyword in rule.keywords):
            return rule
        if any(compiled(pattern).is_valid(text) for pattern in rule.patterns):
            return rule
    return None


_words = lru_cache(maxsize=4096)(words)


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> jsonschema_rs.Draft202012Validator:
    """`pattern`, compiled once."""
    return pattern_validator(pattern)


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with its placeholders filled in; the values are not looked at again."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def static_text(static: StaticAnswer) -> str:
    """The answer to everything, with where people are."""
    hand_off = static.hand_off
    if hand_off is None:
        return static.text
    where = hand_off.text if hand_off.url is None else f"{hand_off.text} {hand_off.url}"
    return f"{static.text}\n\n{where}"
