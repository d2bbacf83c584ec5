"""What of letting in can be written in a file: the defaults, and errors that name the field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_router.core.limits import Limits
from shared.config_file import ConfigError, load
from shared.vocabulary.client_key import Priority
from shared.vocabulary.entrance import EdgeLimits


def file(
    node: dict[str, Any], key: dict[str, Any], route: dict[str, Any], role: str = "edge"
) -> dict[str, Any]:
    return {
        "node": {
            "role": role,
            "id": "n",
            "region": "here",
            "state_dir": "state",
            "listen": "127.0.0.1:0",
            "control_planes": ["http://127.0.0.1:9"],
            "buses": {"here": "127.0.0.1:9092"},
            **node,
        },
        "fleet": {
            "regions": [{"id": "here"}],
            "targets": [
                {
                    "id": "alpha",
                    "provider": "p",
                    "model": "m",
                    "region": "here",
                    "url": "http://127.0.0.1:1/v1",
                }
            ],
            "routes": [
                {"id": "chat", "match": {"models": ["chat"]}, "tiers": [{"targets": ["alpha"]}], **route}
            ],
            "client_keys": [{"id": "dev", "sha256": "0" * 64, **key}],
        },
    }


def loaded(path: Path, **parts: Any) -> Any:
    path.write_text(yaml.safe_dump(file(**{"node": {}, "key": {}, "route": {}, **parts})))
    return load(path)


def test_the_defaults_are_those_the_edge_has_without_a_file() -> None:
    """A limit means the same, written or not."""
    written = EdgeLimits().model_dump()
    assert Limits(**written) == Limits()


def test_everything_can_be_written(tmp_path: Path) -> None:
    """Keys, routes, limits, both sides of TLS."""
    tls = {"cert_file": "a", "key_file": "b", "client_ca_file": "c"}
    read = loaded(
        tmp_path / "leeward.yaml",
        node={"limits": {"head_s": 2.5}, "listen_tls": tls, "target_tls": {"ca_file": "d"}},
        key={
            "requests_per_minute": 60,
            "tokens_per_minute": 10_000,
            "concurrency": 4,
            "priority": "low",
        },
        route={"overload": {"tolerance": 3}},
    )
    key = read.fleet.client_keys[0]
    assert (key.requests_per_minute, key.tokens_per_minute, key.concurrency) == (60, 10_000, 4)
    assert key.priority is Priority.LOW
    assert read.fleet.routes[0].overload.tolerance == 3
    assert (read.node.limits.head_s, read.node.listen_tls.client_ca_file) == (2.5, "c")
    assert read.node.target_tls.ca_file == "d"


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"key": {"requests_per_minute": 0}}, "fleet.client_keys[0].requests_per_minute"),
        ({"key": {"tokens_per_minute": -1}}, "fleet.client_keys[0].tokens_per_minute"),
        ({"key": {"concurrency": "many"}}, "fleet.client_keys[0].concurrency"),
        ({"key": {"priority": "urgent"}}, "fleet.client_keys[0].priority"),
        ({"route": {"overload": {"tolerance": 1}}}, "fleet.routes[0].overload.tolerance"),
        ({"route": {"overload": {"min_concurrency": 100}}}, "initial_concurrency"),
        ({"route": {"overload": {"max": 100}}}, "fleet.routes[0].overload.max"),
        ({"node": {"limits": {"head_bytes": 100}}}, "node.limits.head_bytes"),
        ({"node": {"limits": {"body_s": 0}}}, "node.limits.body_s"),
        ({"node": {"limits": {"bodies": 1}}}, "node.limits.bodies"),
        ({"node": {"listen_tls": {"cert_file": "a"}}}, "node.listen_tls.key_file"),
        ({"node": {"target_tls": {"verify": False}}}, "node.target_tls"),
        (
            {
                "node": {
                    "listen_tls": {"cert_file": "a", "key_file": "b"},
                    "advertise_url": "http://edge.test",
                }
            },
            "node.advertise_url: is http, and listen_tls makes the listener https",
        ),
        ({"node": {"limits": {"head_s": 1}}, "role": "prober"}, "node.limits: is for edges"),
        ({"node": {"target_tls": {"ca_file": "a"}}, "role": "prober"}, "node.target_tls: is for edges"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, parts: dict[str, Any], named: str) -> None:
    """By its place in the file."""
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path / "leeward.yaml", **parts)
    assert named in str(error.value)
