"""What a drill needs before anybody is asked for it, and what is kept of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from drill_worlds import spec, terrain

from ops.drill.conduct import fitting
from ops.drill.ground import Ground
from ops.errors import Usage
from shared.vocabulary.drill import DrillSpec


def ground(**more: object) -> Ground:
    return replace(Ground(terrain=terrain(), planes=(), key="dev", folder=Path("unused")), **more)  # type: ignore[arg-type]  # fields by name


def test_a_region_is_filled_in() -> None:
    """The fleet's second, where nothing says another."""
    assert fitting(spec(region=None), ground()).region == "eu"


def test_a_load_needs_a_key() -> None:
    """Unless it is somebody else's traffic."""
    with pytest.raises(Usage, match="--key env:NAME"):
        fitting(spec(), ground(key=""))
    watched: DrillSpec = spec(load={"source": "traffic"})
    assert fitting(watched, ground(key="")) == watched


def test_a_load_needs_edges_that_say_where_they_are() -> None:
    """An edge without a URL is named."""
    hidden = replace(terrain(), edges=tuple(replace(edge, url="") for edge in terrain().edges))
    with pytest.raises(Usage, match="edge-us, edge-ap advertise no URL"):
        fitting(spec(), ground(terrain=hidden))
