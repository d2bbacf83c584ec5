"""The API's own description, tried out: every operation with generated input, good and bad."""

import schemathesis
from hypothesis import HealthCheck, Phase, settings

from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from tests.support.still_replica import LISTEN, StillReplica

HOST, _, PORT = LISTEN.rpartition(":")
app = build(StillReplica(), hosts=own_hosts(HOST, int(PORT), None))
schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": LISTEN}).exclude(
    path="/v1/stream"
)


@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_operations_keep_their_word(case: schemathesis.Case) -> None:
    """Whatever is sent, the status, media type and body are those that the description promises."""
    case.call_and_validate(headers={"host": LISTEN})


def test_every_operation_of_the_contract_is_described() -> None:
    """The description is complete: the contract's paths, each with a summary and a schema."""
    described = app.openapi()["paths"]
    promised = {
        ("get", path)
        for path in (
            "/livez",
            "/readyz",
            "/metrics",
            "/v1/health",
            "/v1/health/regions/{region}",
            "/v1/health/targets/{target}",
            "/v1/decisions",
            "/v1/decisions/current",
            "/v1/decisions/{version}",
            "/v1/edges",
            "/v1/leader",
            "/v1/config",
            "/v1/stream",
        )
    } | {("post", "/v1/acks")}
    found = {(method, path) for path, operations in described.items() for method in operations}
    assert promised <= found
    for path, operations in described.items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
