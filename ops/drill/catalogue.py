"""Which drill is meant: a built-in by its name, or a YAML file; and the forms it can be run in."""

from importlib.resources import files
from pathlib import Path

from control_plane import catalogue
from control_plane.catalogue.loader import SUFFIX, builtin
from ops.errors import Usage
from shared.config_file import load_model
from shared.vocabulary.drill import DrillSpec

SHORT_WARM_S = 1.0
SHORT_HOLD_S = 3.0


def text_of(name: str) -> str:
    """The file of a built-in drill, to start one's own from. Raises Usage."""
    if name not in builtin():
        raise Usage(_unknown(name))
    return files(catalogue).joinpath(f"{name}{SUFFIX}").read_text(encoding="utf-8")


def find(name: str) -> DrillSpec:
    """The drill that `name` means. Raises Usage, ConfigError with file, line and field."""
    if name in builtin():
        return builtin()[name]
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return load_model(Path(name), DrillSpec)
    raise Usage(_unknown(name))


def shaped(
    spec: DrillSpec,
    *,
    region: str | None = None,
    hold_s: float | None = None,
    rate_per_s: float | None = None,
    short: bool = False,
) -> DrillSpec:
    """The drill as it was asked for: elsewhere, longer or shorter. `short` takes seconds off its
    waits and nothing off what is expected."""
    held = min(spec.hold_s, SHORT_HOLD_S) if short else spec.hold_s
    return DrillSpec.model_validate(
        {
            **spec.model_dump(),
            "region": region or spec.region,
            "warm_s": min(spec.warm_s, SHORT_WARM_S) if short else spec.warm_s,
            "hold_s": hold_s or held,
            "load": {**spec.load.model_dump(), "rate_per_s": rate_per_s or spec.load.rate_per_s},
        }
    )


def _unknown(name: str) -> str:
    return f"no drill {name!r}: there is {', '.join(builtin())}; or name a file, as in ./mine.yaml"
