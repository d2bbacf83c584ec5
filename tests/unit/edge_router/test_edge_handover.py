"""A worker comes to the parent's own table, from no more than what is new."""

import hashlib
from typing import Any

import pytest

from edge_router.core.frames import Frames, Hand, framed, from_parent
from edge_router.core.handover import PIECE, Handover, Holding, mode_after, plan_of
from edge_router.core.table import RouteTable, Unsafe, build_table
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.terms import EdgeMode
from tests.support.edge_worlds import document


def config(version: int = 1, *, targets: int = 2 * PIECE + 3) -> FleetConfig:
    """More targets than fit one piece, and something other than the default in every field that a table reads."""
    names = [f"t{number}" for number in range(targets)]
    fleet = {
        "regions": [{"id": "us-east", "distance_ms": {"eu-west": 80}}, {"id": "eu-west"}],
        "targets": [
            {
                "id": name,
                "provider": "p",
                "model": "m",
                "region": "us-east" if number % 2 else "eu-west",
                "url": f"https://{name}.example/v1",
                "capacity_inflight": 10 + number,
                "cost": {"input_usd_per_mtok": 1.5, "output_usd_per_mtok": 6},
            }
            for number, name in enumerate(names)
        ]
        + [
            {"id": f"{name}-{region}", "provider": name, "model": "m", "region": region, "url": "http://x/v1"}
            for name in ("alpha", "beta")
            for region in ("us-east", "eu-west")
        ],
        "routes": [
            {
                "id": "chat",
                "match": {"models": ["chat", "chät"]},
                "strategy": "score",
                "score": {"latency": 0.2},
                "tiers": [{"targets": ["alpha-us-east", *names]}, {"targets": ["beta-us-east"]}],
                "timeouts": {"connect_s": 1.5},
            },
            {
                "id": "embed",
                "match": {"models": ["embed"]},
                "residency": ["us-east"],
                "tiers": [{"targets": ["alpha-us-east", "beta-us-east"]}],
            },
        ],
        "policy": {"passive_window_s": 7},
        "client_keys": [
            {"id": f"k{number}", "sha256": hashlib.sha256(b"%d" % number).hexdigest(), "routes": ["e*"]}
            for number in range(PIECE + 1)
        ],
    }
    return FleetConfig(config_version=version, fleet=Fleet.model_validate(fleet))


def decided(seq: int, **more: Any) -> dict[str, Decision]:
    return {"chat": Decision.model_validate_json(document("chat", 1, seq, **more))}


def build(*parts: Any) -> RouteTable:
    return build_table(*parts, region="us-east")


def over_the_wire(hand: Hand) -> Hand:
    (content,) = Frames().feed(framed(hand))
    got = from_parent.decode(content)
    assert isinstance(got, Hand)
    return got


def test_the_worker_builds_the_very_table_and_later_hands_hold_only_what_is_new() -> None:
    """Configuration alone, then decisions, then one route less, then another configuration."""
    handover, holding = Handover(), Holding(build)
    first, second = config(), config(2, targets=3)
    both = decided(1) | {"embed": Decision.model_validate_json(document("embed", 1, 1))}
    changed = both | decided(2, first="beta-us-east")
    steps = [
        (first, {}, NO_VERSION, True, set(), []),
        (first, both, Version(1, 1), False, {"chat", "embed"}, []),
        (first, changed, Version(1, 2), False, {"chat"}, []),
        (first, {"chat": changed["chat"]}, Version(1, 3), False, set(), ["embed"]),
        (second, {"chat": changed["chat"]}, Version(1, 4), True, set(), []),
    ]
    for number, (of, documents, head, whole, new, gone) in enumerate(steps, start=1):
        plan = plan_of(of, documents, head, region="us-east")
        hand = over_the_wire(handover.hand(plan, None))
        assert (hand.number, hand.config is not None) == (number, whole)
        assert (set(hand.documents), hand.gone) == (new, gone)
        assert holding.take(hand) == build(of, documents, head)
    assert holding.config is not None
    assert holding.config.fleet.policy.passive_window_s == 7
    assert holding.config == second


def test_no_piece_is_long() -> None:
    """A long list is read in pieces, so that building in a thread leaves the loop its turns."""
    hand = Handover().hand(plan_of(config(), {}, NO_VERSION, region="us-east"), None)
    assert [len(pieces) for pieces in (hand.lists["targets"], hand.lists["client_keys"])] == [3, 2]


def test_a_plan_is_as_safe_as_its_table() -> None:
    """What the parent would not serve by, no worker gets."""
    with pytest.raises(Unsafe):
        plan_of(config(), {}, NO_VERSION, region="ap-south")
    with pytest.raises(ValueError, match="configuration"):
        Holding(build).take(Hand(1, (0, 0), None, {}, {}, []))


def test_a_worker_ages_by_itself_when_its_parent_is_silent() -> None:
    """FRESH for `fresh_s`, STALE until `static_s`; what the parent said is never made fresher."""
    bounds = {"fresh_s": 30.0, "static_s": 300.0}
    assert mode_after(EdgeMode.FRESH, 29.0, **bounds) is EdgeMode.FRESH
    assert mode_after(EdgeMode.FRESH, 31.0, **bounds) is EdgeMode.STALE
    assert mode_after(EdgeMode.STALE, 0.0, **bounds) is EdgeMode.STALE
    assert mode_after(EdgeMode.FRESH, 301.0, **bounds) is EdgeMode.STATIC
    assert mode_after(EdgeMode.STATIC, 31.0, **bounds) is EdgeMode.STATIC
