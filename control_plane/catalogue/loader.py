"""Reads the built-in drills. They are part of the package, so a file that is wrong is a fault of the
release: it is raised, never left out."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml

from shared.vocabulary.drill import DrillSpec

SUFFIX = ".yaml"


@cache
def builtin() -> Mapping[str, DrillSpec]:
    """By name, which is the file's own, in its order. Raises ValueError with the file's name."""
    found: dict[str, DrillSpec] = {}
    for entry in sorted(files(__package__).iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(SUFFIX):
            continue
        try:
            spec = DrillSpec.model_validate(yaml.safe_load(entry.read_text(encoding="utf-8")))
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"built-in drill {entry.name}: {error}") from error
        if f"{spec.drill}{SUFFIX}" != entry.name:
            raise ValueError(
                f"built-in drill {entry.name} calls itself {spec.drill!r}: name the file after it"
            )
        found[spec.drill] = spec
    return found
