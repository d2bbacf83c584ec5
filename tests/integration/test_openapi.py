"""The API's own description, tried out: every operation with generated input, good and bad."""

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from tests.support.still_replica import LISTEN, StillReplica

HOST, _, PORT = LISTEN.rpartition(":")
app = build(StillReplica(), hosts=own_hosts(HOST, int(PORT), None))
schema = (
    schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": LISTEN})
    # They speak no JSON: `test_event_stream`, `test_backup_api`.
    .exclude(path=["/v1/stream", "/v1/live", "/v1/restore"])
    # Whole fleets take the generator minutes, and none of them is consistent: `test_config_api`.
    .exclude(name="PUT /v1/config")
)
BEYOND_THE_SCHEMA = {
    "POST /v1/config/rollback",
    "POST /v1/drills",
    "POST /v1/drills/schedules",
    "POST /v1/drills/{name}/claim",
    "POST /v1/drills/{name}/finish",
    "PUT /v1/drills/{name}/progress",
    "POST /v1/overrides",
    "POST /v1/plan",
    "POST /v1/rollouts",
}
"""Where good types are not enough: names must refer to each other, and tags to what is in force."""


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
    judged = case.operation.label in BEYOND_THE_SCHEMA
    excluded = [positive_data_acceptance] if judged else []
    case.call_and_validate(headers={"host": LISTEN}, excluded_checks=excluded)


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
            "/v1/config/versions",
            "/v1/config/versions/{version}",
            "/v1/stream",
            "/v1/live",
            "/v1/backup",
            "/v1/overrides",
            "/v1/overrides/{name}",
            "/v1/audit",
            "/v1/drills",
            "/v1/drills/catalogue",
            "/v1/drills/schedules",
            "/v1/drills/{name}",
            "/v1/drills/{name}/report",
        )
    }
    promised |= {
        ("post", path) for path in ("/v1/acks", "/v1/config/rollback", "/v1/restore", "/v1/overrides")
    }
    promised |= {("put", "/v1/config"), ("delete", "/v1/overrides/{name}")}
    promised |= {("post", f"/v1/drills{path}") for path in ("", "/schedules", "/{name}/claim")}
    promised |= {("post", f"/v1/drills/{{name}}/{verb}") for verb in ("finish", "abort")}
    promised |= {("put", "/v1/drills/{name}/progress"), ("delete", "/v1/drills/schedules/{name}")}
    found = {(method, path) for path, operations in described.items() for method in operations}
    assert promised <= found
    for path, operations in described.items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
