"""The names of members, as Gemini takes them.

Source: "ProtoJSON Format" (protobuf.dev), "Field names as JSON keys": a reader takes camelCase and the original names.
"""

from typing import Any, Final

_OPAQUE: Final = frozenset(
    {"args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"}
    | {"labels"}
)
"""Whose members are the client's own."""


def camel(value: Any) -> Any:
    """`value` with its members named in camelCase: like any reader of proto3's JSON mapping, Gemini takes the
    original names too."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    named = {}
    for name, one in value.items():
        first, *rest = name.split("_")
        if first and rest:
            name = first + "".join(word.capitalize() for word in rest)
        named[name] = one if name in _OPAQUE else camel(one)
    return named
