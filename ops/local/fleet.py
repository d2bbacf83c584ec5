"""The built-in configuration of the local stack: what `leeward up` runs when it is given no `--config`.

Two simulated providers in every region, so that there is always a nearer target, a farther one and
another provider to fall back to; and paces at which a person at a terminal sees things happen.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations

from ops.simulator.identity import PROVIDERS
from shared.vocabulary.config import (
    ClientKey,
    Fleet,
    Monitor,
    Policy,
    Region,
    Route,
    RouteMatch,
    RouteTier,
    RouteTimeouts,
    Target,
)

REGIONS = ("us-east", "eu-west", "ap-south")
MAX_REGIONS = 10
"""The local port plan has room for ten."""

CLIENT_KEY = "dev"

_BASE_PORTS: Mapping[str, int] = {"alpha": 600, "beta": 650}
_DISTANCE_MS: Mapping[frozenset[str], float] = {
    frozenset({"us-east", "eu-west"}): 80.0,
    frozenset({"us-east", "ap-south"}): 190.0,
    frozenset({"eu-west", "ap-south"}): 120.0,
}
_TIMEOUTS = RouteTimeouts(first_byte_s=10.0)
"""The simulator answers within a second unless it is told to be silent, which should show."""
_UNKNOWN_PAIR_MS = 100.0
"""For regions this module has not heard of; grows with their distance in the list."""


def target_id(provider: str, region: str) -> str:
    """`alpha-us-east`."""
    return f"{provider}-{region}"


def target_port(provider: str, index: int, *, port_base: int) -> int:
    """Where the `index`-th region's target of `provider` listens in the local stack."""
    return port_base + _BASE_PORTS[provider] + index


def target_admin_port(provider: str, index: int, *, port_base: int) -> int:
    """Where that target's fault panel listens: a hundred above it."""
    return target_port(provider, index, port_base=port_base) + 100


def local_fleet(
    regions: Sequence[str] = REGIONS, *, port_base: int = 7000, urls: Mapping[str, str] | None = None
) -> Fleet:
    """The fleet of a local stack with these regions.

    `urls` (target id -> base URL, `/v1` included) places targets elsewhere than the port plan does.
    Raises ValueError for none, more than ten, or repeated regions.
    """
    if not 1 <= len(regions) <= MAX_REGIONS or len(set(regions)) != len(regions):
        raise ValueError(
            f"a local stack has 1 to {MAX_REGIONS} different regions, not {', '.join(regions)!r}"
        )
    tiers = tuple(
        RouteTier(targets=tuple(target_id(provider, region) for region in regions)) for provider in PROVIDERS
    )
    return Fleet(
        regions=_regions(regions),
        targets=tuple(
            Target(
                id=target_id(provider, region),
                provider=provider,
                model=model,
                region=region,
                url=(urls or {}).get(target_id(provider, region))
                or f"http://127.0.0.1:{target_port(provider, index, port_base=port_base)}/v1",
                capabilities=("stream", "tools", "embeddings"),
            )
            for provider, model in PROVIDERS.items()
            for index, region in enumerate(regions)
        ),
        monitors=(
            Monitor(id="http", kind="http"),
            # Every second, where production says every minute: the simulator's tokens cost nothing.
            Monitor(id="chat", kind="chat", interval_s=1.0, timeout_s=0.9, expect_answer="ready"),
        ),
        routes=(
            Route(id="chat", match=RouteMatch(models=("chat",)), tiers=tiers, timeouts=_TIMEOUTS),
            Route(id="embed", match=RouteMatch(models=("embed",)), tiers=tiers, timeouts=_TIMEOUTS),
        ),
        policy=Policy(ramp_s=6.0),
        client_keys=(ClientKey(id=CLIENT_KEY, sha256=hashlib.sha256(CLIENT_KEY.encode()).hexdigest()),),
    )


def _regions(regions: Sequence[str]) -> tuple[Region, ...]:
    distances: dict[str, dict[str, float]] = {region: {} for region in regions}
    for (i, one), (j, other) in combinations(enumerate(regions), 2):
        ms = _DISTANCE_MS.get(frozenset({one, other}), _UNKNOWN_PAIR_MS + 20.0 * (j - i))
        distances[one][other] = distances[other][one] = ms
    return tuple(Region(id=region, distance_ms=distances[region]) for region in regions)
