"""A small fleet, and what a drill needs of it, for the tests of drills."""

from datetime import UTC, datetime

from ops.drill.scope import Edge, Part, Terrain
from shared.vocabulary.config import Fleet, Region, Route, RouteMatch, RouteTier, Target
from shared.vocabulary.decision import (
    DecidedTier,
    Decision,
    Exclusion,
    RegionDecision,
    Term,
    WeightedTarget,
)
from shared.vocabulary.drill import Drill, DrillSpec

REGIONS = ("us", "eu", "ap")
KINDS = ("etcd", "bus", "targets", "edge", "control-plane", "prober")
AT = datetime(2030, 1, 1, tzinfo=UTC)


def target(provider: str, region: str) -> Target:
    return Target(
        id=f"{provider}-{region}", provider=provider, model="m", region=region, url="http://localhost:1/v1"
    )


def fleet() -> Fleet:
    """Two providers in three regions, one route."""
    return Fleet(
        regions=tuple(Region(id=region) for region in REGIONS),
        targets=tuple(target(provider, region) for provider in ("alpha", "beta") for region in REGIONS),
        routes=(
            Route(
                id="chat",
                match=RouteMatch(models=("chat",)),
                tiers=tuple(
                    RouteTier(targets=tuple(f"{provider}-{region}" for region in REGIONS))
                    for provider in ("alpha", "beta")
                ),
            ),
        ),
    )


def terrain() -> Terrain:
    """It as a local stack."""
    parts = [
        Part(f"{kind}-{region}", kind, region) for kind in KINDS if kind != "targets" for region in REGIONS
    ]
    parts += [Part(each.id, "targets", each.region) for each in fleet().targets]
    return Terrain(
        fleet=fleet(),
        edges=tuple(
            Edge(f"edge-{region}", region, f"http://edge-{region}", f"http://admin-{region}")
            for region in REGIONS
        ),
        parts=tuple(parts),
        panels={each.id: f"http://panel-{each.id}" for each in fleet().targets},
        keeper="http://keeper",
    )


def spec(*faults: dict[str, object], **more: object) -> DrillSpec:
    """A drill of these faults; a region's death when none is given."""
    return DrillSpec.model_validate(
        {
            "drill": "test",
            "what": "Something breaks.",
            "hypothesis": "Nobody notices.",
            "region": "eu",
            "faults": faults or [{"fault": "kill", "by": "stack"}],
            **more,
        }
    )


def record(of: DrillSpec) -> Drill:
    """A drill on record, claimed."""
    return Drill(
        id="drill-7",
        n=7,
        spec=of,
        author="ann",
        reason="test",
        state="RUNNING",
        requested_at=AT,
        runner="runner",
    )


def document(route: str, seq: int, *targets: str, excluded: tuple[str, ...] = (), **weights: int) -> Decision:
    """All clients of `us` go to the first of `targets`, the others stand by; or by `weights`."""
    given = [*weights.values()] or [1000] + [0] * (len(targets) - 1)
    tier = DecidedTier(
        share_permille=1000,
        targets=tuple(
            WeightedTarget(id=each, weight_permille=weight)
            for each, weight in zip(targets, given, strict=True)
        ),
    )
    return Decision(
        route=route,
        generation=1,
        seq=seq,
        config_version=1,
        regions={"us": RegionDecision(tiers=(tier,))},
        excluded=tuple(Exclusion(target=each, by="auto", reason="down") for each in excluded),
        decided_at=AT,
        term=Term(holder="cp", epoch=1),
    )


class ManualClock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> datetime:
        return AT

    def monotonic(self) -> float:
        return self.at
