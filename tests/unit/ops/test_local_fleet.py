"""The built-in configuration of `leeward up`."""

import hashlib

import pytest

from ops.local.fleet import CLIENT_KEY, MAX_REGIONS, local_fleet
from shared.vocabulary.config import problems

TEN = ["us-east", "eu-west", "ap-south", *(f"region-{i}" for i in range(7))]


@pytest.mark.parametrize("count", range(1, MAX_REGIONS + 1))
def test_any_number_of_regions_up_to_ten_makes_a_faultless_fleet(count):
    """`--regions` takes one to ten."""
    fleet = local_fleet(TEN[:count])
    assert problems(fleet) == []
    assert len(fleet.targets) == 2 * count
    assert len({target.url for target in fleet.targets}) == 2 * count


def test_ports_follow_the_plan():
    """Alphas from base + 600, betas from base + 650, by the region's place."""
    fleet = local_fleet(port_base=9000)
    assert [target.url for target in fleet.targets] == [
        "http://127.0.0.1:9600/v1",
        "http://127.0.0.1:9601/v1",
        "http://127.0.0.1:9602/v1",
        "http://127.0.0.1:9650/v1",
        "http://127.0.0.1:9651/v1",
        "http://127.0.0.1:9652/v1",
    ]


def test_targets_may_stand_elsewhere():
    """Tests run targets on ports of their own."""
    fleet = local_fleet(["us-east"], urls={"beta-us-east": "http://127.0.0.1:1234/v1"})
    assert [target.url for target in fleet.targets] == [
        "http://127.0.0.1:7600/v1",
        "http://127.0.0.1:1234/v1",
    ]


def test_the_routes_are_chat_and_embed_with_alphas_before_betas():
    """What the contract says of the built-in configuration."""
    fleet = local_fleet()
    assert [(route.id, route.match.models) for route in fleet.routes] == [
        ("chat", ("chat",)),
        ("embed", ("embed",)),
    ]
    for route in fleet.routes:
        assert [tier.targets for tier in route.tiers] == [
            ("alpha-us-east", "alpha-eu-west", "alpha-ap-south"),
            ("beta-us-east", "beta-eu-west", "beta-ap-south"),
        ]


def test_every_region_watches_every_target_every_second():
    """Both monitors, from everywhere."""
    fleet = local_fleet()
    for target in fleet.targets:
        assert fleet.check_regions_of(target) == {"us-east", "eu-west", "ap-south"}
        monitors = fleet.monitors_of(target, "ap-south")
        assert [(each.kind, each.interval_s, each.timeout_s) for each in monitors] == [
            ("http", 1.0, 0.9),
            ("chat", 1.0, 0.9),
        ]


def test_distances_are_those_of_the_earth():
    """The nearest region takes over first."""
    fleet = local_fleet()
    assert fleet.by_distance("us-east") == ("us-east", "eu-west", "ap-south")
    assert fleet.by_distance("ap-south") == ("ap-south", "eu-west", "us-east")


def test_the_key_dev_is_accepted_and_recovery_is_quick():
    """What the README's first request uses; a ramp one can watch."""
    fleet = local_fleet()
    assert [key.sha256 for key in fleet.client_keys] == [hashlib.sha256(CLIENT_KEY.encode()).hexdigest()]
    assert CLIENT_KEY == "dev"
    assert fleet.policy.ramp_s == 6.0


@pytest.mark.parametrize("regions", [[], ["a", "a"], [f"r{i}" for i in range(11)]])
def test_too_few_too_many_and_repeated_regions_are_refused(regions):
    """The port plan has room for ten different ones."""
    with pytest.raises(ValueError, match="1 to 10 different regions"):
        local_fleet(regions)
