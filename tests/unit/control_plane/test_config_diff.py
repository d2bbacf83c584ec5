"""What changes between two fleets."""

from typing import Any

from control_plane.core.config_diff import _LISTS, _PARTS, Change, changes
from shared.vocabulary.config import Fleet
from tests.support.replicas import fleet


def edited(**fields: Any) -> Fleet:
    """The fleet of the tests, with other values at the top."""
    return Fleet.model_validate({**fleet().model_dump(mode="json"), **fields})


def said(found: tuple[Change, ...]) -> list[tuple[Any, ...]]:
    return [(change.what, change.kind, change.id, change.field, change.old, change.new) for change in found]


def test_equal_fleets_do_not_differ() -> None:
    """And only they: every change of a value is told."""
    assert changes(fleet(), fleet()) == ()
    raw = fleet().model_dump(mode="json")
    for kind in ("regions", "targets", "monitors", "routes"):
        assert changes(fleet(), edited(**{kind: list(reversed(raw[kind]))})) or len(raw[kind]) == 1
    assert changes(fleet(), edited(policy={"automatic": False}))
    assert said(changes(fleet(), edited(drills={"enabled": False}))) == [
        ("changed", "drills", "", "enabled", True, False)
    ]


def test_no_field_of_a_fleet_is_forgotten() -> None:
    """What is not compared could never be applied: it would be called the same."""
    assert {*_LISTS, *_PARTS} == set(Fleet.model_fields)


def test_fields_are_told_by_their_path() -> None:
    """Old and new value of exactly what changed, however deep."""
    routes = fleet().model_dump(mode="json")["routes"]
    routes[0]["timeouts"]["total_s"] = 30.0
    routes[0]["tiers"][1]["targets"] = ["beta-east"]
    monitors = [{"id": "http", "kind": "http", "interval_s": 2.0}]
    assert said(changes(fleet(), edited(routes=routes, monitors=monitors))) == [
        ("changed", "monitor", "http", "interval_s", 1.0, 2.0),
        (
            "changed",
            "route",
            "chat",
            "tiers[1].targets",
            ["beta-east", "beta-west", "beta-south"],
            ["beta-east"],
        ),
        ("changed", "route", "chat", "timeouts.total_s", 600.0, 30.0),
    ]


def test_items_come_and_go() -> None:
    """With what is stated of them, defaults left out; a changed order is told too."""
    raw = fleet().model_dump(mode="json")["targets"]
    gone, *rest = raw
    new = {"id": "gamma", "provider": "g", "model": "m", "region": "east", "url": "http://g/v1"}
    found = changes(
        fleet(), Fleet.model_construct(**{**dict(fleet()), "targets": edited(targets=[*rest, new]).targets})
    )
    assert [(change.what, change.id) for change in found] == [("removed", gone["id"]), ("added", "gamma")]
    assert found[1].new == new
    order = changes(fleet(), edited(regions=list(reversed(fleet().model_dump(mode="json")["regions"]))))
    assert [(change.field, change.new) for change in order] == [("order", ["south", "west", "east"])]


def test_without_an_old_one_everything_is_added() -> None:
    """A first configuration, in the order of the file."""
    found = changes(None, fleet())
    assert [change.kind for change in found if change.what == "added"] == (
        ["region"] * 3 + ["target"] * 6 + ["monitor", "route"]
    )
