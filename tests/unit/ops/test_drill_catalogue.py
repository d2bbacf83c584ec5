"""Which drill is meant, and in which form."""

from pathlib import Path

import pytest
from drill_worlds import spec

from control_plane.catalogue.loader import builtin
from ops.drill.catalogue import SHORT_HOLD_S, find, shaped, text_of
from ops.drill.scope import places, resolve, where_it_strikes
from ops.errors import Usage
from ops.local.fleet import local_fleet
from shared.config_file import ConfigError

NINE = {
    "region-outage",
    "gray-region",
    "provider-outage",
    "brownout-429",
    "stream-cut",
    "control-plane-loss",
    "bus-loss",
    "prober-split",
    "recovery-stampede",
}


def test_all_nine_are_there_and_fit_the_local_fleet() -> None:
    """Each with a region or without, on a fleet like the local stack's."""
    from drill_worlds import Edge, Part, Terrain

    fleet = local_fleet()
    regions = [region.id for region in fleet.regions]
    kinds = ("etcd", "bus", "edge", "control-plane", "prober")
    ground = Terrain(
        fleet=fleet,
        edges=tuple(Edge(f"edge-{region}", region, "http://e", "http://a") for region in regions),
        parts=(
            *(Part(f"{kind}-{region}", kind, region) for kind in kinds for region in regions),
            *(Part(each.id, "targets", each.region) for each in fleet.targets),
        ),
        panels={each.id: "http://p" for each in fleet.targets},
        keeper="http://k",
    )
    assert set(builtin()) == NINE
    for name, each in builtin().items():
        filled = where_it_strikes(each, ground)
        assert resolve(filled, ground).asked, name
        assert places(filled, ground, drill="drill-1"), name


def test_a_file_is_read_with_its_lines(tmp_path: Path) -> None:
    """A built-in's text is a good file; a fault in one is told with line and field."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(text_of("region-outage"))
    assert find(str(mine)) == builtin()["region-outage"]
    mine.write_text(
        "drill: mine\nwhat: it\nhypothesis: holds\nfaults:\n  - {fault: kill, by: panel}\nholds: 3\n"
    )
    with pytest.raises(ConfigError) as told:
        find(str(mine))
    assert f"{mine}:5: faults[0]: panel cannot do kill: by stack it can be done" in told.value.problems
    assert any(line.startswith(f"{mine}:6: holds: is not a known key") for line in told.value.problems)


def test_an_unknown_name_says_what_there_is() -> None:
    """And how a file is named."""
    with pytest.raises(Usage, match=r"region-outage.*mine.yaml"):
        find("region-outrage")
    with pytest.raises(Usage, match="no drill"):
        text_of("nothing")


def test_the_short_form_only_waits_less() -> None:
    """What is expected stays; a longer hold that was asked for wins."""
    long = spec(hold_s=60.0)
    short = shaped(long, short=True)
    assert short.hold_s == SHORT_HOLD_S
    assert (short.expect, short.guard, short.faults) == (long.expect, long.guard, long.faults)
    assert shaped(long, short=True, hold_s=7.0).hold_s == 7.0
    assert shaped(long, region="ap", rate_per_s=5.0).load.rate_per_s == 5.0
    assert shaped(long, region="ap").region == "ap"
