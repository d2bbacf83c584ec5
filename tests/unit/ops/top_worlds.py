"""A fleet of forty regions and two hundred targets whose names are as long as names may be."""

from datetime import UTC, datetime
from typing import Any

from ops.glance import EdgeGlance, Glance, Traffic
from ops.shaping import Shaping
from shared.vocabulary.status import (
    BusStatus,
    ControlPlaneStatus,
    EdgeStatus,
    EtcdStatus,
    LeaderStatus,
    ProberStatus,
    RegionStatus,
    StackStatus,
    TargetStatus,
)
from shared.vocabulary.terms import EdgeMode, Role, Verdict
from shared.vocabulary.view import (
    Freeze,
    HealthSummary,
    HealthView,
    QualityScore,
    RegionHealth,
    SourceHealth,
    TargetHealth,
    Vote,
)

AT = datetime(2030, 1, 1, 12, 0, 7, tzinfo=UTC)


def name(kind: str, n: int) -> str:
    """63 characters, and the number at the end: what is cut off first tells them apart."""
    return f"{kind}-{'in-a-far-away-place-' * 4}"[: 63 - 4] + f"-{n:03d}"


REGIONS = [name("region", n) for n in range(40)]
TARGETS = [name("target", n) for n in range(200)]
VERDICTS = [Verdict.HEALTHY, Verdict.DEGRADED, Verdict.DOWN, Verdict.UNKNOWN]


def status() -> StackStatus:
    return StackStatus(
        leader=LeaderStatus(id=name("cp", 0), region=REGIONS[0], epoch=123_456_789),
        control_planes=tuple(
            ControlPlaneStatus(
                id=name("cp", n), region=region, url="http://h:1", role="unreachable" if n else "leader",
                config_version=n % 2,
            )
            for n, region in enumerate(REGIONS)
        ),
        edges=tuple(
            EdgeStatus(
                id=name("edge", n), region=region, url="http://h:1", admin_url="http://h:2",
                mode=EdgeMode.STATIC, decision="123.4567890", beat_age_s=98765.4, config_version=n,
            )
            for n, region in enumerate(REGIONS)
        ),
        probers=tuple(ProberStatus(id=name("p", n), region=r, last_event_age_s=1234.5) for n, r in enumerate(REGIONS)),
        buses=tuple(BusStatus(region=region, bootstrap="h:1", reachable=True) for region in REGIONS),
        etcd=tuple(EtcdStatus(region=region, url="http://h:3", reachable=False) for region in REGIONS),
        regions=tuple(
            RegionStatus(id=r, verdict=VERDICTS[n % 4], targets_healthy=4, targets=5) for n, r in enumerate(REGIONS)
        ),
        targets=tuple(
            TargetStatus(id=t, region=REGIONS[n % 40], verdict=VERDICTS[n % 4], url="") for n, t in enumerate(TARGETS)
        ),
    )  # fmt: skip


def view(targets: int = 200) -> HealthView:
    return HealthView(
        as_of=AT,
        replica=name("cp", 0),
        status="unhealthy",
        config_version=12,
        regions=tuple(
            RegionHealth(
                id=r, verdict=VERDICTS[n % 4], targets_healthy=4, targets=5, sources_fresh=1, sources=20
            )
            for n, r in enumerate(REGIONS)
        ),
        targets=tuple(
            TargetHealth(
                id=t,
                region=REGIONS[n % 40],
                provider="p",
                verdict=VERDICTS[n % 4],
                latency_ms_p50=12345.6,
                votes=tuple(Vote(vantage=r, verdict=VERDICTS[k % 4]) for k, r in enumerate(REGIONS[:4])),
                reason=f"3 of 4 vantages DOWN: connect refused by {t}",
            )
            for n, t in enumerate(TARGETS[:targets])
        ),
        sources=tuple(
            SourceHealth(
                id=name("source", n), role=Role.PROBER, vantage=r, fresh=False, last_event_age_s=99.0,
                silent_since=AT, boot=1, seq=2, config_version=3,
            )
            for n, r in enumerate(REGIONS)
        ),
        set_aside=(REGIONS[3],),
        freezes=(Freeze(cause="MOST_SILENT", since=AT, detail=f"20 of 40 silent: {' '.join(REGIONS[:20])}"),),
        quality=(
            QualityScore(
                provider=name("prov", 1), model="m" * 80, target=TARGETS[0], by="probes", score_permille=875,
                judged=40, standing="DEGRADED",
            ),
        ),
        summary=HealthSummary(
            failovers_last_hour=3, attempts=2_000, success_permille=995, response_ms_mean=81.4
        ),
    )  # fmt: skip


def override(n: int, **spec: Any) -> dict[str, Any]:
    """As `GET /v1/overrides` tells one."""
    whole = {"kind": "drain", "region": None, "target": None, "route": None, "clients": None, "weights": {}}
    return {
        "id": f"{spec.get('kind', 'drain')}-{n}",
        "n": n,
        "spec": whole | spec,
        "reason": "new racks",
        "author": "ann",
        "remaining_s": 1790.0,
        "state": "IN_FORCE",
        "forced": False,
    }


def commit(n: int) -> dict[str, Any]:
    """As `GET /v1/decisions` tells one, with forty routes and as many reasons."""
    routes = [[name("route", k), "0" * 64] for k in range(40)]
    return {
        "version": f"123.{4_567_890 + n}",
        "at": "2030-01-01T12:00:00Z",
        "term": {"holder": name("cp", 0), "epoch": 123_456_789},
        "routes": routes,
        "routes_changed": 40,
        "said": [f"Target {target} left the traffic: seen 3 of 4 vantages DOWN." for target in TARGETS[:40]],
    }


def document() -> dict[str, Any]:
    """As `GET /v1/decisions/{version}` tells one route's."""
    shares = [{"id": target, "weight_permille": 250} for target in TARGETS[:4]]
    seen = {
        "source": name("prober", 1),
        "boot": 4,
        "seq": 91,
        "outcome": "TIMED_OUT",
        "detail": "connect " * 9,
    }
    return {
        "route": name("route", 0),
        "decided_at": "2030-01-01T12:00:00.123456Z",
        "term": {"holder": name("cp", 0), "epoch": 123_456_789},
        "excluded": [{"target": TARGETS[9], "by": "auto", "reason": "DOWN " * 20}],
        "regions": {region: {"tiers": [{"share_permille": 1000, "targets": shares}]} for region in REGIONS},
        "evidence": [{"vantage": region, "target": TARGETS[9], **seen} for region in REGIONS],
    }


def glance(targets: int = 200) -> Glance:
    return Glance(
        view=view(targets),
        leader={"id": name("cp", 0), "region": REGIONS[0], "epoch": 123_456_789},
        beat_age_s=0.4,
        head="123.4567890",
        edges=[
            EdgeGlance(
                id=name("edge", n), region=r, mode=("FRESH", "STALE", "STATIC", "silent")[n % 4],
                decision="123.4567889", behind=n % 4, lag_ms=31.0, beat_age_s=0.4, requests_per_s=1234.5,
            )
            for n, r in enumerate(REGIONS)
        ],
        traffic={region: Traffic(1234.5, 12) for region in REGIONS},
        inflight=dict.fromkeys(TARGETS, 64),
        capacity=dict.fromkeys(TARGETS, 128),
        shaping=Shaping(overrides=[override(n, region=region) for n, region in enumerate(REGIONS)]),
        decisions=[commit(n) for n in range(50)],
    )  # fmt: skip
