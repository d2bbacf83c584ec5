"""From pydantic's errors to sentences an operator can act on: which field, what is wrong, what to do.

Values are quoted only where they cannot be secrets.
"""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from shared.vocabulary.base import Id, Sha256
from shared.vocabulary.config import Path as HttpPath
from shared.vocabulary.node import EtcdAddress, HostPort, SecretRef
from shared.yaml_tree import Fault, Lines, Where


def explain(error: ValidationError, tree: Lines, kind: type[BaseModel]) -> Iterator[Fault]:
    """One fault per error of validating as `kind` the value whose lines `tree` knows."""
    details = error.errors(include_url=False)
    deeper = {detail["loc"][:depth] for detail in details for depth in range(len(detail["loc"]))}
    for detail in details:
        # pydantic counts only the items that are right: a list of one faulty item is not "too short" as well.
        if detail["type"] == "too_short" and detail["loc"] in deeper:
            continue
        where = tuple(step for step in detail["loc"] if step != "[key]")
        where, what = _sentence(detail, where, tree, kind)
        yield Fault(tree.line(where), where, what)


def _sentence(detail: ErrorDetails, where: Where, tree: Lines, kind: type[BaseModel]) -> tuple[Where, str]:
    context: dict[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return where, f"is not a known key; {_suggestion(str(where[-1]), _keys(kind, where[:-1]))}"
        case "value_error" | "assertion_error":
            return _own_words(str(context["error"]), where, kind)
        case "string_pattern_mismatch":
            return where, _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
        case "literal_error" | "enum":
            return where, f"{_quoted(detail['input'])} is not one of {context['expected']}"
        case "string_type":
            return where, f"must be text{_unquoted(tree.text(where))}"
        case bound if bound in _BOUNDS:
            words, limit = _BOUNDS[bound]
            return where, f"{_quoted(detail['input'])} {words} {context[limit]:g}"
        case type_ if type_ in _KINDS:
            return where, f"must be {_KINDS[type_]}, not {_kind_of(detail['input'])}"
        case plain if plain in _PLAIN:
            return where, _PLAIN[plain].format(**context)
    return where, detail["msg"][:1].lower() + detail["msg"][1:]


_PLAIN: Mapping[str, str] = {
    "missing": "is missing; add it",
    "too_short": "has {actual_length} entries; give at least {min_length}",
    "too_long": "has more than {max_length} entries",
    "string_too_short": "must not be empty",
    "string_too_long": "is longer than {max_length} characters",
}

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("is too small: it must be more than", "gt"),
    "greater_than_equal": ("is too small: it must be at least", "ge"),
    "less_than": ("is too large: it must be less than", "lt"),
    "less_than_equal": ("is too large: it must be at most", "le"),
}

_KINDS: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping (`key: value`)",
    "mapping_type": "a mapping (`key: value`)",
    "model_type": "a mapping (`key: value`)",
    "model_attributes_type": "a mapping (`key: value`)",
    "tuple_type": "a list (`- item`)",
    "list_type": "a list (`- item`)",
}


def _pattern_of(annotated: Any) -> str:
    constraints = next(part for part in get_args(annotated) if isinstance(part, StringConstraints))
    return str(constraints.pattern)


_PATTERNS: Mapping[str, str] = {
    _pattern_of(Id): "is not a name: use 1 to 63 of a-z 0-9 . _ - and begin and end with a letter or digit",
    _pattern_of(HostPort): "is not an address; write host:port, as in 10.0.0.5:9092",
    # The value is not repeated: it may well be the secret itself.
    _pattern_of(
        SecretRef
    ): "is not a reference to a secret; write env:NAME or file:PATH, never the secret itself",
    _pattern_of(Sha256): "is not a SHA-256; write its 64 lower-case hex digits",
    _pattern_of(HttpPath): "is not a path; begin it with / and leave white space out",
    str(EtcdAddress.model_fields["prefix"].metadata[0].pattern): "is not a prefix; write it as /leeward/",
}


def _own_words(message: str, where: Where, kind: type[BaseModel]) -> tuple[Where, str]:
    """A validator of ours spoke. Where its sentence begins with a field's name, that field is meant."""
    first, _, rest = message.partition(" ")
    if rest and first in _keys(kind, where):
        return (*where, first), rest
    return where, message


def _suggestion(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known here: {', '.join(known)}" if known else "remove it"


def _unquoted(written: str | None) -> str:
    """A hint for YAML's favourite surprise: `no`, `1.0` and dates are not text until quoted."""
    if written is None:
        return ", on one line"
    return f'; YAML reads {written} as something else, so write "{written}"' if written else "; it is empty"


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind_of(value: Any) -> str:
    checks: tuple[tuple[Callable[[Any], bool], str], ...] = (
        (lambda v: v is None, "empty"),
        (lambda v: isinstance(v, dict), "a mapping"),
        (lambda v: isinstance(v, list), "a list"),
    )
    return next((name for check, name in checks if check(value)), _quoted(value))


# ---------------------------------------------------------------- what a path of the file is made of


def _keys(kind: Any, where: Where) -> list[str]:
    """The keys that the model at `where`, below `kind`, knows; none where there is no model."""
    for step in where:
        kind = _below(kind, step)
    kind = _bare(kind)
    return list(kind.model_fields) if _is_model(kind) else []


def _below(kind: Any, step: str | int) -> Any:
    kind = _bare(kind)
    if _is_model(kind):
        field = kind.model_fields.get(step)
        return field.annotation if field else None
    arguments = [argument for argument in get_args(kind) if argument is not Ellipsis]
    return arguments[-1] if arguments else None


def _bare(kind: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while True:
        origin = get_origin(kind)
        if origin is Annotated:
            kind = get_args(kind)[0]
        elif origin in (Union, UnionType):
            kind = next((argument for argument in get_args(kind) if argument is not type(None)), None)
        else:
            return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
