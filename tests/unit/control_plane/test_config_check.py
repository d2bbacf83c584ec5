"""What speaks against a fleet taking the place of another."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.core.config_check import Judgement, judge
from shared.vocabulary.config import Fleet
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.rollout import Rollout, RolloutSpec
from shared.vocabulary.terms import Role, Verdict
from shared.vocabulary.view import HealthView, SourceHealth, TargetHealth
from tests.support.replicas import REGIONS, fleet

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def view(*, down: Sequence[str] = (), probing: Sequence[str] = REGIONS) -> HealthView:
    """Everything HEALTHY but `down`, a prober in each of `probing`."""
    return HealthView(
        as_of=NOW,
        replica="cp",
        status="healthy",
        config_version=1,
        regions=(),
        targets=tuple(
            TargetHealth(
                id=target.id,
                region=target.region,
                provider=target.provider,
                verdict=Verdict.DOWN if target.id in down else Verdict.HEALTHY,
            )
            for target in fleet().targets
        ),
        sources=tuple(
            SourceHealth(
                id=f"prober-{region}",
                role=Role.PROBER,
                vantage=region,
                fresh=True,
                last_event_age_s=0,
                boot=1,
                seq=1,
                config_version=1,
            )
            for region in probing
        ),
    )


def with_tiers(*tiers: Sequence[str], **more: Any) -> Fleet:
    """The fleet with these targets in route `chat`; `more` targets' fields by id."""
    raw = fleet().model_dump(mode="json")
    raw["routes"][0]["tiers"] = [{"targets": list(tier)} for tier in tiers]
    for target in raw["targets"]:
        target.update(more.get(target["id"].replace("-", "_"), {}))
    return Fleet.model_validate(raw)


def judged(
    new: Fleet,
    *,
    health: HealthView | None = None,
    edges: Mapping[str, Sequence[str]] | None = None,
    overrides: Sequence[Override] = (),
    rollouts: Sequence[Rollout] = (),
) -> Judgement:
    return judge(
        fleet(), new, view=health or view(), edges=edges or {}, overrides=overrides, rollouts=rollouts
    )


def test_the_same_fleet_meets_nothing() -> None:
    """Nothing speaks against what is in force."""
    assert judged(fleet(), edges={region: [f"edge-{region}"] for region in REGIONS}) == Judgement()


def test_a_route_keeps_a_target_that_is_known_to_work() -> None:
    """Taking the last HEALTHY one is refused, whether it goes or becomes another endpoint; while one
    of them stays it is not. Where nothing worked before nothing is lost."""
    down = ["alpha-east", "alpha-west", "alpha-south", "beta-west", "beta-south"]
    without = with_tiers(["alpha-east"])
    (objection,) = judged(without, health=view(down=down)).objections
    assert objection.where == "routes[0]"
    assert "beta-east" in objection.what
    assert not judged(without).objections
    assert not judged(without, health=view(down=[target.id for target in fleet().targets])).objections
    moved = with_tiers(["beta-east"], beta_east={"url": "http://elsewhere/v1"})
    assert judged(moved).objections
    assert not judged(with_tiers(["beta-east"], beta_east={"capacity_inflight": 9})).objections


def test_residency_counts_as_leaving() -> None:
    """A target that the route may no longer use is as good as gone."""
    raw = with_tiers(["alpha-east", "alpha-west"]).model_dump(mode="json")
    raw["routes"][0]["residency"] = ["west"]
    assert judged(Fleet.model_validate(raw), health=view(down=["alpha-west"])).objections


def test_a_region_with_living_edges_stays() -> None:
    """Its edges would be told nothing; a prober left behind is worth a warning."""
    small = fleet(("east", "west"))
    (objection,) = judged(small, edges={"south": ["edge-south"], "east": ["edge-east"]}).objections
    assert "edge-south" in objection.what
    left = judged(small)
    assert not left.objections
    assert any("prober-south" in warning.what for warning in left.warnings)


def test_a_rollout_under_way_keeps_its_targets() -> None:
    """It is aborted first; one that has ended does not matter."""
    spec = RolloutSpec(route="chat", targets=("beta-east",))
    running = Rollout(
        id="r1", spec=spec, step_since=NOW, created_at=NOW, author="ada", reason="try it", state="RUNNING"
    )
    new = with_tiers(["alpha-east", "alpha-west"])
    assert judged(new, rollouts=[running]).objections
    assert not judged(new, rollouts=[running.model_copy(update={"state": "ABORTED"})]).objections


def test_who_is_held_back_is_nobody_to_be_left_with() -> None:
    """The old stay while the new are rolled back, aborted, on trial, drained or candidates; promoted, the
    old may go."""
    new = with_tiers(["beta-east"])
    spec = RolloutSpec(route="chat", targets=("beta-east",))
    ended = Rollout(
        id="r1", spec=spec, step_since=NOW, created_at=NOW, author="ada", reason="try it", state="ROLLED_BACK"
    )
    (objection,) = judged(new, rollouts=[ended]).objections
    assert "beta-east may not be used" in objection.what
    for state in ("ABORTED", "RUNNING"):
        assert judged(new, rollouts=[ended.model_copy(update={"state": state})]).objections
    promoted = ended.model_copy(update={"state": "PROMOTED", "step": 3})
    assert not judged(new, rollouts=[promoted]).objections
    drain = Override(
        id="o1",
        spec=OverrideSpec(kind="drain", target="beta-east"),
        reason="r",
        author="ada",
        created_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )
    assert judged(new, overrides=[drain]).objections
    over = drain.model_copy(update={"created_at": NOW - timedelta(hours=2), "expires_at": NOW})
    assert not judged(new, overrides=[over]).objections
    raw = new.model_dump(mode="json")
    raw["routes"][0]["tiers"][0] = {"targets": ["beta-east", "beta-west"], "candidates": ["beta-east"]}
    assert judged(Fleet.model_validate(raw), health=view(down=["beta-west"])).objections


def test_what_is_merely_worth_saying_is_a_warning() -> None:
    """A route that goes, a target nobody watches, an override that names what is gone."""
    raw = fleet().model_dump(mode="json")
    raw["routes"][0]["id"] = "talk"
    raw["monitors"][0]["targets"] = ["alpha-*"]
    override = Override(
        id="o1",
        spec=OverrideSpec(kind="freeze", route="chat"),
        reason="r",
        author="ada",
        created_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )
    found = judged(Fleet.model_validate(raw), overrides=[override])
    assert not found.objections
    said = " ".join(warning.what for warning in found.warnings)
    assert "route chat goes" in said
    assert "no monitor watches beta-east" in said
    assert "freeze o1 names chat" in said


def test_the_last_client_key_stays() -> None:
    """Without any, edges would refuse every request; who never had keys lacks nothing."""
    key = {"id": "dev", "sha256": "0" * 64}
    keyed = Fleet.model_validate({**fleet().model_dump(), "client_keys": [key]})
    bare = keyed.model_copy(update={"client_keys": ()})

    def said(old: Fleet, new: Fleet) -> list[str]:
        found = judge(old, new, view=view(), edges={}, overrides=(), rollouts=())
        return [each.where for each in found.objections]

    assert said(keyed, bare) == ["client_keys"]
    assert said(bare, bare) == said(bare, keyed) == []
