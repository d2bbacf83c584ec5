"""A small control plane's word, made by hand: configurations, documents, heads and Beats as bytes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.vocabulary.base import Version, canonical_json, sha256_hex
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Beat, Decision, Head

REGIONS = ("us-east", "eu-west")
ROUTES = ("chat", "embed")
AT = datetime(2030, 1, 1, tzinfo=UTC)


def fleet(
    *, port: int = 9, targets: tuple[str, ...] = ("alpha", "beta"), routes: tuple[str, ...] = ROUTES
) -> Fleet:
    """Two regions, each with the same targets; every route has a tier for each kind of target."""
    return Fleet.model_validate(
        {
            "regions": [{"id": region} for region in REGIONS],
            "targets": [
                {
                    "id": f"{name}-{region}",
                    "provider": name,
                    "model": f"{name}-1",
                    "region": region,
                    "url": f"http://127.0.0.1:{port}/v1",
                }
                for region in REGIONS
                for name in targets
            ],
            "routes": [
                {
                    "id": route,
                    "match": {"models": [route]},
                    "tiers": [{"targets": [f"{name}-{region}" for region in REGIONS]} for name in targets],
                }
                for route in routes
            ],
        }
    )


def config_bytes(version: int = 1, **of_fleet: Any) -> bytes:
    config = FleetConfig(config_version=version, fleet=fleet(**of_fleet))
    return canonical_json(config.model_dump(mode="json"))


def document(
    route: str,
    generation: int,
    seq: int,
    *,
    config_version: int = 1,
    first: str = "alpha-us-east",
    **more: Any,
) -> bytes:
    """Everything of `route` goes to one target."""
    tiers = [
        {"share_permille": 1000, "targets": [{"id": first, "weight_permille": 1000}]},
        {"share_permille": 0, "targets": [{"id": "beta-us-east", "weight_permille": 1000}]},
    ]
    fields: dict[str, Any] = {
        "route": route,
        "generation": generation,
        "seq": seq,
        "config_version": config_version,
        "regions": {region: {"tiers": tiers} for region in REGIONS},
        "decided_at": AT,
        "term": {"holder": "cp", "epoch": 1},
        "traceparent": f"00-{seq:032x}-{seq + 1:016x}-01",
    }
    return Decision.model_validate(fields | more).canonical()


def head_of(generation: int, seq: int, documents: Mapping[str, bytes], *, config_version: int = 1) -> Head:
    """The head that puts `documents` (by route) in force."""
    refs = {
        route: (Decision.model_validate_json(raw).seq, sha256_hex(raw)) for route, raw in documents.items()
    }
    return Head(generation=generation, seq=seq, config_version=config_version, routes=refs)


def beat_bytes(head: Head, *, epoch: int = 1, beat: int = 1, **more: Any) -> bytes:
    fields: dict[str, Any] = {
        "generation": head.generation,
        "epoch": epoch,
        "beat": beat,
        "head_seq": head.seq,
        "head_sha": sha256_hex(head.canonical()),
        "config_version": head.config_version,
        "routes": head.routes,
        "holder": "cp",
        "sent_at": AT,
    }
    return Beat.model_validate(fields | more).canonical()


class ToyControlPlane:
    """Commits one head after another, as a leader would; everything it ever said stays to be repeated."""

    def __init__(self) -> None:
        self.generation = 1
        self.seq = 0
        self.config_version = 0
        self.epoch = 1
        self.beats = 0
        self.configs: list[bytes] = []
        self.documents: dict[str, bytes] = {}
        self.all_documents: list[bytes] = []
        self.heads: list[Head] = []
        self.all_beats: list[bytes] = []
        self.configure()

    def configure(self, **of_fleet: Any) -> bytes:
        """A new version of the configuration; in force with the next commit."""
        self.config_version += 1
        self.configs.append(config_bytes(self.config_version, **of_fleet))
        return self.configs[-1]

    def commit(self, *routes: str, **more: Any) -> Head:
        """The next head: new documents for `routes`, all of them when none is named."""
        self.seq += 1
        for route in routes or ROUTES:
            raw = document(route, self.generation, self.seq, config_version=self.config_version, **more)
            self.documents[route] = raw
            self.all_documents.append(raw)
        self.heads.append(
            head_of(self.generation, self.seq, self.documents, config_version=self.config_version)
        )
        return self.heads[-1]

    def raise_generation(self, generation: int) -> Head:
        """As after a restore: every route rewritten under a greater generation."""
        self.generation = generation
        return self.commit()

    def beat(self) -> bytes:
        """The newest head, stated once more."""
        self.beats += 1
        self.all_beats.append(beat_bytes(self.heads[-1], epoch=self.epoch, beat=self.beats))
        return self.all_beats[-1]

    @property
    def version(self) -> Version:
        return self.heads[-1].version
