"""Gemini's own `Schema` as JSON Schema, which the other dialects take.

Source: Gemini API reference, "Schema": a subset of OpenAPI 3.0's, with upper-case types, `nullable`, and counts that
may be written as strings. In the other direction none is needed: `parametersJsonSchema` and `responseJsonSchema`
take JSON Schema as it is.
"""

from collections.abc import Mapping
from typing import Any, Final

from edge_router.core.dialects.neutral import Untranslatable

TYPES: Final[Mapping[str, str]] = {
    "STRING": "string",
    "NUMBER": "number",
    "INTEGER": "integer",
    "BOOLEAN": "boolean",
    "ARRAY": "array",
    "OBJECT": "object",
    "NULL": "null",
}
_SAME: Final = frozenset(
    {"title", "description", "default", "format", "pattern", "enum", "required", "minimum", "maximum", "$ref"}
)
_COUNTS: Final = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
TOLERATED: Final[Mapping[str, str]] = {
    "propertyOrdering": "the order in which members are written, which JSON gives no meaning",
    "example": "a hint that JSON Schema keeps in `description` or `examples`",
}
MAX_DEPTH: Final = 64


def json_schema(schema: Any, where: str, depth: int = 0) -> dict[str, Any]:
    """`schema` as JSON Schema. Raises Untranslatable."""
    if not isinstance(schema, dict):
        raise Untranslatable(f"{where} is not an object")
    if depth > MAX_DEPTH:
        raise Untranslatable(f"{where} is nested deeper than {MAX_DEPTH}")
    said: dict[str, Any] = {}
    for name, value in schema.items():
        at = f"{where}.{name}"
        if name == "type":
            said["type"] = _type(value, at)
        elif name in _SAME:
            said[name] = value
        elif name in _COUNTS:
            said[name] = int(value) if isinstance(value, str) and value.isdigit() else value
        elif name == "items":
            said["items"] = json_schema(value, at, depth + 1)
        elif name == "anyOf" and isinstance(value, list):
            said["anyOf"] = [json_schema(one, at, depth + 1) for one in value]
        elif name in ("properties", "$defs") and isinstance(value, dict):
            said[name] = {key: json_schema(one, f"{at}.{key}", depth + 1) for key, one in value.items()}
        elif name == "additionalProperties":
            said[name] = value if isinstance(value, bool) else json_schema(value, at, depth + 1)
        elif name not in TOLERATED and name != "nullable":
            raise Untranslatable(f"{at} cannot be said to a target of another dialect")
    return _nullable(said) if schema.get("nullable") is True else said


def _type(value: Any, where: str) -> str:
    known = TYPES.get(value.upper()) if isinstance(value, str) else None
    if known is None:
        raise Untranslatable(f"{where} is no type that can be translated")
    return known


def _nullable(said: dict[str, Any]) -> dict[str, Any]:
    if "type" not in said:
        return {"anyOf": [said, {"type": "null"}]}
    if "enum" in said and None not in said["enum"]:
        said["enum"] = [*said["enum"], None]
    said["type"] = [said["type"], "null"]
    return said
