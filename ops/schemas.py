"""`python -m ops.schemas DIR [--check]`: the JSON Schemas of the contract, generated from the models.

One file per document, JSON Schema 2020-12, sorted, so that a change of a model is a change one can
read. With `--check` nothing is written, and the exit code says whether the files are current.
"""

import argparse
import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from shared.vocabulary.alerts import Notice
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import SCHEMA_VERSION
from shared.vocabulary.decision import Ack, Beat, Decision
from shared.vocabulary.drill import Drill, DrillSchedule, DrillSpec
from shared.vocabulary.health import HealthEvent
from shared.vocabulary.node import NodeFile
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout
from shared.vocabulary.status import DrillReport, StackStatus

READ: JsonSchemaMode = "validation"
PRINTED: JsonSchemaMode = "serialization"
"""Of what is read, defaults may be left out; what Leeward prints has every field."""

DOCUMENTS: Mapping[str, tuple[type[BaseModel], JsonSchemaMode, str]] = {
    "config": (NodeFile, READ, "leeward.yaml"),
    "health-event": (HealthEvent, READ, "HealthEvent, on leeward.health.v1"),
    "decision": (Decision, READ, "Decision, on leeward.decisions.v1"),
    "beat": (Beat, READ, "Beat, on leeward.beats.v1"),
    "ack": (Ack, READ, "Ack, on leeward.acks.v1"),
    "status": (StackStatus, PRINTED, "leeward status -o json"),
    "override": (Override, READ, "Override, the value of overrides/<id>"),
    "rollout": (Rollout, READ, "Rollout, the value of rollouts/<id>"),
    "audit-entry": (AuditEntry, READ, "AuditEntry, the value of audit/<n>"),
    "drill-spec": (DrillSpec, READ, "a drill's YAML file"),
    "drill": (Drill, READ, "Drill, the value of drills/<id>"),
    "drill-schedule": (DrillSchedule, READ, "DrillSchedule, the value of drills/schedules/<id>"),
    "notice": (Notice, PRINTED, "Notice, what a webhook is sent"),
    "drill-report": (DrillReport, PRINTED, "leeward drill run -o json"),
}
"""File name -> model, mode and title."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one of DOCUMENTS, as it is written by others and read by Leeward."""
    model, mode, title = DOCUMENTS[name]
    generated = model.model_json_schema(mode=mode)
    models = {each.__name__: each for each in _models_in(model)}
    _describe(generated, model)
    for part, described in generated.get("$defs", {}).items():
        _describe(described, models.get(part))
    return {
        **generated,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:leeward:schema:{name}:{SCHEMA_VERSION}",
        "title": title,
    }


def rendered(name: str) -> str:
    """The content of its file."""
    return json.dumps(schema(name), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def path_of(directory: Path, name: str) -> Path:
    """Where it is kept."""
    return directory / f"{name}.schema.json"


def outdated(directory: Path) -> list[str]:
    """What is missing, different, or no longer generated, as file names."""
    current = {path_of(directory, name): rendered(name) for name in DOCUMENTS}
    stale = [
        path.name
        for path, text in current.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    orphans = [path.name for path in directory.glob("*.schema.json") if path not in current]
    return sorted(stale + orphans)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; returns 0, or 1 when `--check` finds a file that is not current."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.schemas", description="Write the contract's JSON Schemas."
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; say which files are not current")
    chosen = parser.parse_args(arguments)
    if chosen.check:
        stale = outdated(chosen.directory)
        for name in stale:
            print(f"not current: {name} (run `make schemas`)", file=sys.stderr)
        return 1 if stale else 0
    chosen.directory.mkdir(parents=True, exist_ok=True)
    for name in outdated(chosen.directory):
        path = chosen.directory / name
        if name.removesuffix(".schema.json") in DOCUMENTS:
            path.write_text(rendered(name.removesuffix(".schema.json")), encoding="utf-8")
            print(f"wrote {path}")
        else:
            path.unlink()
            print(f"removed {path}")
    return 0


# ---------------------------------------------------------------- descriptions, from the models' own docstrings


def _models_in(model: type[BaseModel]) -> set[type[BaseModel]]:
    """`model` and every model it is made of."""
    found = {model}
    waiting: list[Any] = [model]
    while waiting:
        kind = waiting.pop()
        parts = get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.add(kind)
            parts = tuple(field.annotation for field in kind.model_fields.values())
        waiting += parts
    return found


def _describe(schema: dict[str, Any], model: type[BaseModel] | None) -> None:
    """Put the text below each field of `model` into its property.

    pydantic can do so itself, at the price of reading the source of every model at every import.
    """
    if model is None:
        return
    forms = [schema, *schema.get("anyOf", ())]
    properties = next(form["properties"] for form in forms if "properties" in form)
    for field, text in _field_docs(model).items():
        properties[field]["description"] = text


def _field_docs(model: type[BaseModel]) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, after in pairwise(body.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docs[field.target.id] = " ".join(after.value.value.split())
    return docs


if __name__ == "__main__":
    sys.exit(main())
