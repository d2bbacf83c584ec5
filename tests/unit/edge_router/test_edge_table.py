"""What a table may be built from, and what it then holds."""

from datetime import UTC, datetime
from typing import Any

import pytest

from edge_router.core.table import Origin, RouteTable, Unsafe, build_table
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import DecidedTier, Decision, Exclusion, RegionDecision, Term, WeightedTarget

HEAD = Version(1, 7)


def config(**route: Any) -> FleetConfig:
    """alpha and beta in three regions; `chat` prefers alpha."""
    regions = ("us-east", "eu-west", "ap-south")
    fleet = Fleet.model_validate(
        {
            "regions": [
                {"id": "us-east", "distance_ms": {"eu-west": 80, "ap-south": 200}},
                {"id": "eu-west", "distance_ms": {"ap-south": 120}},
                {"id": "ap-south"},
            ],
            "targets": [
                {
                    "id": f"{name}-{region}",
                    "provider": name,
                    "model": f"{name}-1",
                    "region": region,
                    "url": f"https://{name}.{region}.example/v1",
                }
                for name in ("alpha", "beta")
                for region in regions
            ],
            "routes": [
                {
                    "id": "chat",
                    "match": {"models": ["chat", "chat-latest"]},
                    "tiers": [
                        {"targets": [f"{name}-{region}" for region in regions]} for name in ("alpha", "beta")
                    ],
                    **route,
                },
                {"id": "embed", "match": {"models": ["embed"]}, "tiers": [{"targets": ["alpha-us-east"]}]},
            ],
            "client_keys": [
                {"id": "all", "sha256": "a" * 64},
                {"id": "one", "sha256": "b" * 64, "routes": ["emb*"]},
                {"id": "two", "sha256": "c" * 64, "routes": ["emb*"]},
            ],
        }
    )
    return FleetConfig(config_version=3, fleet=fleet)


def tier(share: int, **weights: int) -> DecidedTier:
    """Unchecked, as a faulty writer would send it."""
    targets = tuple(
        WeightedTarget.model_construct(id=name.replace("_", "-"), weight_permille=weight)
        for name, weight in weights.items()
    )
    return DecidedTier.model_construct(share_permille=share, targets=targets)


def decision(
    *tiers: DecidedTier, shed: int = 0, excluded: tuple[Exclusion, ...] = (), **more: Any
) -> dict[str, Decision]:
    region = RegionDecision.model_construct(tiers=tiers, shed_permille=shed)
    values = {
        "route": "chat",
        "generation": 1,
        "seq": 7,
        "config_version": 3,
        "regions": {"eu-west": region},
        "excluded": excluded,
        "decided_at": datetime(2030, 1, 1, tzinfo=UTC),
        "term": Term(holder="c", epoch=1),
        **more,
    }
    base = Decision.model_construct(**values)
    return {"chat": base}


def build(
    documents: dict[str, Decision] | None = None,
    *,
    region: str = "eu-west",
    head: Version = HEAD,
    **route: Any,
) -> RouteTable:
    return build_table(config(**route), documents or {}, head if documents else NO_VERSION, region=region)


def names(table: RouteTable, route: str = "chat") -> list[tuple[int, list[str], list[str]]]:
    return [
        (tier.share, [c.target.id for c in tier.weighted], [c.target.id for c in tier.standby])
        for tier in table.routes[route].tiers
    ]


def test_without_a_decision_the_configurations_own_order_holds() -> None:
    """Own region first, then by distance; the first tier takes everything."""
    assert names(build()) == [
        (1000, ["alpha-eu-west"], ["alpha-us-east", "alpha-ap-south"]),
        (0, ["beta-eu-west"], ["beta-us-east", "beta-ap-south"]),
    ]
    assert build().routes["chat"].version == NO_VERSION


def test_a_route_without_a_target_here_goes_to_the_nearest() -> None:
    """`embed` has one target, in another region."""
    assert names(build(region="ap-south"), "embed") == [(1000, ["alpha-us-east"], [])]


def test_a_decision_is_followed_as_written() -> None:
    """Shares, weights, stand-bys, places of tiers, and the version that answers will name."""
    documents = decision(
        tier(0),
        tier(1000, beta_eu_west=700, beta_us_east=300, beta_ap_south=0),
        excluded=(exclusion("alpha-eu-west"),),
    )
    table = build(documents)
    assert names(table) == [(1000, ["beta-eu-west", "beta-us-east"], ["beta-ap-south"])]
    first = table.routes["chat"].tiers[0]
    assert (first.number, first.cumulative) == (2, (0.7, 1.0))
    assert first.weighted[0].stamp == (
        b"x-leeward-region: eu-west\r\nx-leeward-target: beta-eu-west\r\nx-leeward-tier: 2\r\nx-leeward-decision: 1.7\r\n"
    )
    assert names(table, "embed") == [(1000, ["alpha-us-east"], [])]


def exclusion(target: str, by: str = "auto", region: str | None = None) -> Exclusion:
    return Exclusion.model_validate({"target": target, "by": by, "reason": "x", "region": region})


def test_only_automatic_exclusions_are_a_last_resort() -> None:
    """What a person or a policy excluded is nowhere in the table; another region's exclusions do not count here."""
    documents = decision(
        tier(1000, alpha_ap_south=1000),
        tier(0),
        excluded=(
            exclusion("alpha-eu-west"),
            exclusion("alpha-us-east", "operator"),
            exclusion("beta-eu-west", "policy"),
            exclusion("beta-us-east"),
            exclusion("beta-us-east", "operator"),
            exclusion("beta-ap-south", region="us-east"),
        ),
    )
    resort = build(documents).routes["chat"].last_resort
    assert [candidate.target.id for candidate in resort] == ["alpha-eu-west"]


def test_residency_holds_everywhere() -> None:
    """Targets outside are not in the own order, and a decision that names one is refused."""
    assert names(build(residency=["eu-west"])) == [(1000, ["alpha-eu-west"], []), (0, ["beta-eu-west"], [])]
    with pytest.raises(Unsafe, match="permitted"):
        build(decision(tier(1000, alpha_us_east=1000)), residency=["eu-west"])
    resort = build(
        decision(tier(1000, beta_eu_west=1000), excluded=(exclusion("alpha-us-east"),)), residency=["eu-west"]
    )
    assert resort.routes["chat"].last_resort == ()


UNSAFE: dict[str, tuple[dict[str, Decision], str]] = {
    "unknown target": (decision(tier(1000, gamma_eu_west=1000)), "unknown target"),
    "a target of no tier of the route": (
        decision(tier(1000, alpha_us_east=1000), route="embed") | {},
        "is about",
    ),
    "shares over 1000": (decision(tier(1000, alpha_eu_west=1000), shed=1), "shares"),
    "shares under 1000": (decision(tier(900, alpha_eu_west=1000)), "shares"),
    "weights under 1000": (decision(tier(1000, alpha_eu_west=900)), "weights"),
    "all weights zero": (decision(tier(1000, alpha_eu_west=0, alpha_us_east=0)), "weights"),
    "negative weight": (decision(tier(1000, alpha_eu_west=1500, alpha_us_east=-500)), "weights"),
    "negative share": (decision(tier(1500, alpha_eu_west=1000), tier(-500, beta_eu_west=1000)), "shares"),
    "a share without a target": (decision(tier(1000)), "no target"),
    "empty although permitted": (decision(tier(0), tier(0), shed=1000), "empty"),
    "nothing for this region": (decision(regions={}), "says nothing"),
    "ahead of the head": (decision(tier(1000, alpha_eu_west=1000), seq=8), "ahead"),
    "another generation": (decision(tier(1000, alpha_eu_west=1000), generation=2, seq=1), "ahead"),
    "without a version": (decision(tier(1000, alpha_eu_west=1000), generation=0, seq=0), "without a version"),
    "uses what it excludes": (
        decision(tier(1000, alpha_eu_west=1000), excluded=(exclusion("alpha-eu-west", "operator"),)),
        "excludes",
    ),
    "an unknown route": (
        {"nope": decision(tier(1000, alpha_eu_west=1000), route="nope")["chat"]},
        "no route",
    ),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_what_breaks_an_absolute_rule_is_refused_with_its_reason(name: str) -> None:
    """The table in force stays; these are the edge's own checks, whoever wrote the document."""
    documents, reason = UNSAFE[name]
    with pytest.raises(Unsafe, match=reason):
        build(documents)


def test_everything_excluded_by_people_is_no_fault() -> None:
    """Then the route has no target, and says so: the order is obeyed."""
    everything = tuple(
        exclusion(f"{n}-{r}", "operator")
        for n in ("alpha", "beta")
        for r in ("us-east", "eu-west", "ap-south")
    )
    route = build(decision(tier(0), tier(0), shed=1000, excluded=everything)).routes["chat"]
    assert (route.tiers, route.last_resort, route.only) == ((), (), None)


def test_a_removed_route_is_not_served() -> None:
    """Its models are unknown, to everybody."""
    table = build(decision(removed=True, regions={}))
    assert "chat" not in table.routes
    assert b'"chat"' not in table.models
    assert b'"embed"' in table.models
    assert b'"chat"' not in table.keys["a" * 64].models


def test_an_edge_in_no_region_of_the_fleet_is_refused() -> None:
    """It would not know what is near."""
    with pytest.raises(Unsafe, match="region"):
        build(region="mars")


def test_keys_know_their_routes_and_share_what_is_equal() -> None:
    """`*` is everything; patterns are resolved once per scope."""
    keys = build().keys
    assert keys["a" * 64].routes is None
    assert keys["b" * 64].routes == frozenset({"embed"})
    assert keys["b" * 64].models is keys["c" * 64].models
    assert keys["b" * 64].tenant != keys["c" * 64].tenant
    assert keys["b" * 64].models.count(b'"id"') == 1


def test_a_target_is_ready_to_be_sent_to() -> None:
    """Origin, Host, path and model as they go out."""
    target = build().targets["alpha-eu-west"]
    assert target.origin == Origin("https", "alpha.eu-west.example", 443)
    assert (target.host, target.base_path, target.model_json) == (
        b"alpha.eu-west.example",
        b"/v1",
        b'"alpha-1"',
    )


def test_ten_thousand_targets_are_built_in_seconds() -> None:
    """1,000 routes of ten targets: large tables are ordinary."""
    fleet = Fleet.model_validate(
        {
            "regions": [{"id": "here"}],
            "targets": [
                {"id": f"t{n}", "provider": "p", "model": "m", "region": "here", "url": "http://h/v1"}
                for n in range(10_000)
            ],
            "routes": [
                {
                    "id": f"r{n}",
                    "match": {"models": [f"m{n}"]},
                    "tiers": [{"targets": [f"t{n * 10 + k}" for k in range(10)]}],
                }
                for n in range(1000)
            ],
        }
    )
    table = build_table(FleetConfig(config_version=1, fleet=fleet), {}, NO_VERSION, region="here")
    assert len(table.models) == 1000
    assert len(table.targets) == 10_000


def test_a_route_that_opted_into_nothing_has_no_ladder() -> None:
    """So that its requests pay for none."""
    route = build().routes["chat"]
    assert route.ladder is None
    assert route.lighter is None
    assert b"cache-status" not in route.tiers[0].weighted[0].stamp


def test_the_lighter_route_is_as_decided_and_says_so() -> None:
    """Counted as the route that was asked, with its rungs, and no step further; the lighter route itself is unmarked."""
    table = build(degradation={"step_down": "embed", "static": {"text": "x"}})
    chat, embed = table.routes["chat"], table.routes["embed"]
    lighter = chat.lighter
    assert lighter is not None
    assert (lighter.id, lighter.ladder, lighter.lighter) == ("chat", chat.ladder, None)
    assert lighter.only in lighter.tiers
    (candidate,) = lighter.tiers[0].weighted
    assert candidate.target is embed.tiers[0].weighted[0].target
    assert candidate.stamp == embed.tiers[0].weighted[0].stamp + b"x-leeward-stepped-down: embed\r\n"
    assert table.models[b'"chat"'] is table.models[b'"chat-latest"'] is chat


@pytest.mark.parametrize(("serve", "why"), [("on_failure", b"bypass"), ("when_fresh", b"miss")])
def test_answers_of_a_route_that_stores_say_why_a_target_was_asked(serve: str, why: bytes) -> None:
    """Written once, into what names the target."""
    route = build(degradation={"stored": {"serve": serve}}).routes["chat"]
    assert b"cache-status: leeward; fwd=%b\r\n" % why in route.tiers[0].weighted[0].stamp


def test_a_lighter_route_that_is_gone_is_no_step() -> None:
    """A decision has removed it."""
    removed = decision(route="embed", removed=True)["chat"]
    assert build({"embed": removed}, degradation={"step_down": "embed"}).routes["chat"].lighter is None
