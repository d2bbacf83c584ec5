"""What a route may do when no target answers: the rungs of its ladder, all opt-in, in the order they are tried.

    step_down   a lighter route's targets, when all of its own are full or its share is shed
    stored      an answer to the same request, given before
    rules       an answer written for what the last message speaks of
    static      one answer to everything, and where people are

docs/DEGRADING.md tells what a client sees of each, and which requests are never degraded.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, Self

import jsonschema_rs
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from shared.vocabulary.base import ConfigModel, Id, PositiveSeconds

MAX_RULES: Final = 64
MAX_KEYWORDS: Final = 32
MAX_PATTERNS: Final = 8
MAX_PATTERN_CHARS: Final = 256
MAX_ANSWER_CHARS: Final = 8192
PATTERN_BYTES: Final = 256 * 1024
"""Of a compiled pattern: repetitions within repetitions grow beyond all reason."""
PLACEHOLDERS: Final[Mapping[str, str]] = {
    "route": "the route's id",
    "model": "the model's name as the client wrote it",
    "request_id": "what x-leeward-request-id says",
}
"""What may stand in braces in an answer's text."""
_WORD: Final = re.compile(r"\w+")
PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


def pattern_validator(pattern: str) -> jsonschema_rs.Draft202012Validator:
    """What tells whether a text holds `pattern`. Its engine is Rust's `regex`: linear in the text whatever the
    pattern, which is why look-around and back-references are not in it. Raises ValueError."""
    return jsonschema_rs.Draft202012Validator(
        {"pattern": pattern},
        pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES),
    )


def _pattern(text: str) -> str:
    try:
        pattern_validator(text)
    except ValueError:
        raise ValueError(
            "is no regular expression, too large a one, or uses look-around or back-references, which are not available"
        ) from None
    return text


def words(text: str) -> str:
    """The words of `text` in one case, each with a space before and behind."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _keyword(text: str) -> str:
    if not words(text).strip():
        raise ValueError("has no word in it")
    return text


def _answer(text: str) -> str:
    for name in PLACEHOLDER.findall(text):
        if name not in PLACEHOLDERS:
            raise ValueError(f"has the unknown placeholder {{{name}}}; known are {', '.join(PLACEHOLDERS)}")
    return text


Keyword = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_keyword)]
Pattern = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_PATTERN_CHARS), AfterValidator(_pattern)
]
Answer = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ANSWER_CHARS), AfterValidator(_answer)]
ContactUrl = Annotated[str, StringConstraints(pattern=r"^(https?://|mailto:|tel:)[!-~]+$", max_length=1024)]
"""Printable ASCII alone: it goes into a header."""


class StoredAnswers(ConfigModel):
    """Answers are kept in the edge's memory, each for its client key, and given again to the same request."""

    ttl_s: PositiveSeconds = 300.0
    """For so long an answer is fresh."""
    stale_s: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)] = 3600.0
    """For so long after that it may still be given when no target answers."""
    serve: Literal["on_failure", "when_fresh"] = "on_failure"
    """`on_failure`: only when no target answers. `when_fresh`: a fresh answer is given without asking a target."""


class DegradedRule(ConfigModel):
    """An answer for requests whose last message holds one of the keywords or matches one of the patterns."""

    keywords: Annotated[tuple[Keyword, ...], Field(max_length=MAX_KEYWORDS)] = ()
    """Whole words in any case, white space and punctuation being all one: `refund` is not in `refunds`."""
    patterns: Annotated[tuple[Pattern, ...], Field(max_length=MAX_PATTERNS)] = ()
    """Regular expressions in the syntax of JSON Schema; `(?i)` at the beginning for any case."""
    answer: Answer

    @model_validator(mode="after")
    def _matches_something(self) -> Self:
        if not (self.keywords or self.patterns):
            raise ValueError(
                "matches nothing: give keywords or patterns; an answer to everything is `static`"
            )
        return self


class HandOff(ConfigModel):
    """Where people take over."""

    text: Answer
    """Added to the static answer."""
    url: ContactUrl | None = None
    """https, http, mailto or tel; in the answer, and in `x-leeward-hand-off`."""


class StaticAnswer(ConfigModel):
    """One answer to everything."""

    text: Answer
    hand_off: HandOff | None = None


class Degradation(ConfigModel):
    """The rungs of a route's ladder."""

    step_down: Id | None = None
    """A lighter route, whose targets are asked when this one's are all full or its share is shed."""
    stored: StoredAnswers | None = None
    rules: Annotated[tuple[DegradedRule, ...], Field(max_length=MAX_RULES)] = ()
    """The first that matches answers."""
    static: StaticAnswer | None = None

    @property
    def answers(self) -> bool:
        """Whether any rung is an answer that the edge itself gives."""
        return self.stored is not None or bool(self.rules) or self.static is not None

    @model_validator(mode="after")
    def _has_a_rung(self) -> Self:
        if self.step_down is None and not self.answers:
            raise ValueError("has no rung: give step_down, stored, rules or static, or leave degradation out")
        return self


class Footing(ConfigModel):
    """What of a route decides whether another may step down to it."""

    models: bool
    """It takes model calls."""
    regions: frozenset[str]
    """Where its permitted targets stand."""
    residency: frozenset[str] | None
    step_down: Id | None


def step_down_problems(route: str, footings: Mapping[str, Footing]) -> Iterator[str]:
    """What is wrong with the `step_down` of `route`; every route of the fleet is in `footings`."""
    own = footings[route]
    name = own.step_down
    if name is None:
        return
    lighter = footings.get(name)
    if lighter is None:
        yield f"no route {name!r}"
    elif name == route:
        yield "is this route itself"
    elif _comes_back(route, footings):
        yield f"comes back to this route by way of {name!r}: routes must not step down to each other"
    elif not lighter.models:
        yield f"route {name!r} takes no model calls"
    elif own.residency is not None and lighter.regions - own.residency:
        outside = ", ".join(sorted(lighter.regions - own.residency))
        yield f"route {name!r} has targets in {outside}, where this route's residency does not allow any"


def _comes_back(route: str, footings: Mapping[str, Footing]) -> bool:
    seen: set[str] = set()
    at = footings[route].step_down
    while at is not None and at in footings and at not in seen:
        if at == route:
            return True
        seen.add(at)
        at = footings[at].step_down
    return False
