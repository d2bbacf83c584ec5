"""The contract's documents: their JSON Schemas are current, and the examples of the design are valid."""

import json
from pathlib import Path

import jsonschema_rs
import pytest

from ops import schemas
from ops.local.fleet import local_fleet
from shared.vocabulary.alerts import Notice
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.config import Fleet
from shared.vocabulary.decision import Ack, Beat, Decision, Head
from shared.vocabulary.drill import Drill, DrillSchedule, DrillSpec
from shared.vocabulary.health import HealthEvent
from shared.vocabulary.node import NodeFile
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout
from shared.vocabulary.status import DrillReport, StackStatus

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
SHA = "ab" * 32
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
NOW = "2026-11-01T12:00:00Z"

CONFIG = {
    "node": {
        "role": "control-plane",
        "id": "control-plane-us-east",
        "region": "us-east",
        "state_dir": "/var/lib/leeward",
        "listen": "0.0.0.0:7100",
        "buses": {
            "us-east": "kafka-1:9092,kafka-2:9092",
            "eu-west": ["kafka-3:9092"],
            "ap-south": {
                "bootstrap": ["kafka-4:9093"],
                "tls": {},
                "sasl": {"username": "leeward", "password": "env:KAFKA"},
            },
        },
        "etcd": {"endpoints": ["etcd-1:2379"]},
        "credentials": {"acme": {"secret": "file:/run/secrets/acme", "origins": ["https://api.example.com"]}},
    },
    "fleet": local_fleet().model_dump(mode="json"),
}
DECISION = {
    "schema_version": 1,
    "route": "chat",
    "generation": 1,
    "seq": 7,
    "config_version": 3,
    "removed": False,
    "regions": {
        "eu-west": {
            "tiers": [
                {"share_permille": 1000, "targets": [{"id": "alpha-eu-west", "weight_permille": 1000}]}
            ],
            "shed_permille": 0,
        }
    },
    "excluded": [
        {"target": "beta-us-east", "by": "auto", "reason": "2 of 3 vantages DOWN", "expires_at": None}
    ],
    "reasons": [{"code": "TARGET_DOWN", "target": "beta-us-east", "values": {"votes": 2}}],
    "evidence": [
        {
            "vantage": "us-east",
            "source": "prober-us-east",
            "boot": 4,
            "seq": 91,
            "target": "beta-us-east",
            "outcome": "REFUSED",
            "observed_at": NOW,
        }
    ],
    "forced_by": None,
    "decided_at": NOW,
    "term": {"holder": "control-plane-us-east", "epoch": 12},
    "traceparent": TRACE,
}
BEAT = {
    "schema_version": 1,
    "generation": 1,
    "epoch": 12,
    "beat": 40,
    "head_seq": 7,
    "head_sha": SHA,
    "config_version": 3,
    "routes": {"chat": [7, SHA], "embed": [5, SHA]},
    "holder": "control-plane-us-east",
    "sent_at": NOW,
}
ACK = {
    "schema_version": 1,
    "edge": "edge-us-east",
    "region": "us-east",
    "boot": 2,
    "ack": 9,
    "mode": "FRESH",
    "generation": 1,
    "seq": 7,
    "head_sha": SHA,
    "config_version": 3,
    "beat_age_s": 0.4,
    "applied_at": NOW,
}
HEALTH_EVENT = {
    "schema_version": 1,
    "kind": "probe",
    "source": "prober-us-east",
    "role": "prober",
    "vantage": "us-east",
    "boot": 4,
    "seq": 91,
    "observed_at": NOW,
    "probes": [
        {
            "target": "beta-us-east",
            "monitor": "http",
            "state": "DOWN",
            "consecutive_good": 0,
            "consecutive_bad": 2,
            "outcome": "REFUSED",
            "hard": True,
            "detail": "connect ECONNREFUSED",
            "latency_ms": 0.3,
            "latency_ms_p50": 2.0,
            "latency_ms_p99": 9.0,
            "probed_at": NOW,
            "changed_at": NOW,
            "interval_s": 1.0,
            "traceparent": TRACE,
        }
    ],
    "passive": [],
    "traceparent": TRACE,
}
STATUS = {
    "leader": {"id": "control-plane-us-east", "region": "us-east", "epoch": 12},
    "control_planes": [
        {
            "id": "control-plane-us-east",
            "region": "us-east",
            "url": "http://127.0.0.1:7100",
            "role": "leader",
            "pid": 1,
        }
    ],
    "edges": [
        {
            "id": "edge-us-east",
            "region": "us-east",
            "url": "http://127.0.0.1:7200",
            "admin_url": "http://127.0.0.1:7250",
            "mode": "FRESH",
            "decision": "1.7",
            "beat_age_s": 0.4,
            "pid": 2,
        }
    ],
    "probers": [{"id": "prober-us-east", "region": "us-east", "last_event_age_s": 0.2, "pid": 3}],
    "buses": [{"region": "us-east", "bootstrap": "127.0.0.1:7400", "reachable": True, "pid": 5}],
    "etcd": [{"region": "us-east", "url": "http://127.0.0.1:7500", "reachable": True, "pid": 6}],
    "regions": [{"id": "us-east", "verdict": "HEALTHY", "targets_healthy": 2, "targets": 2}],
    "targets": [
        {
            "id": "alpha-us-east",
            "region": "us-east",
            "verdict": "HEALTHY",
            "url": "http://127.0.0.1:7600/v1",
            "admin_url": "http://127.0.0.1:7700",
            "pid": 4,
        }
    ],
}
DRILL_REPORT = {
    "drill": "region-outage",
    "outcome": "PASSED",
    "detect_ms": 800.0,
    "decide_ms": 1000.0,
    "apply_ms": 1050.0,
    "recovered_ms": None,
    "requests": 1000,
    "failed": 0,
    "degraded": 0,
    "success_rate": 1.0,
    "guard_rails": [{"name": "success_rate", "limit": 0.999, "worst": 1.0, "ok": True}],
    "timeline": [{"at_ms": 0.0, "event": "killed", "values": {"region": "eu-west"}}],
    "trace_id": "1" * 32,
    "report_html": None,
    "failures": [],
}
OVERRIDE = {
    "schema_version": 1,
    "id": "drain-17",
    "n": 17,
    "spec": {"kind": "drain", "region": "eu-west"},
    "reason": "new racks",
    "author": "ann",
    "created_at": NOW,
    "expires_at": "2026-11-01T12:30:00Z",
    "forced": False,
    "ended": {"at": "2026-11-01T12:10:00Z", "by": "bob", "reason": "racks are in"},
}
ROLLOUT = {
    "schema_version": 1,
    "id": "rollout-18",
    "spec": {
        "route": "chat",
        "targets": ["beta-us-east"],
        "steps": [{"permille": 100, "bake_s": 300.0}, {"permille": 1000, "bake_s": 300.0}],
    },
    "state": "RUNNING",
    "step": 0,
    "step_since": NOW,
    "created_at": NOW,
    "author": "ann",
    "reason": "a newer model",
}
NOTICE = {
    "schema_version": 1,
    "id": "REGION_DOWN/eu-west/1764806400000/firing",
    "alarm": "REGION_DOWN/eu-west/1764806400000",
    "state": "firing",
    "event": "REGION_DOWN",
    "subject": "eu-west",
    "severity": "page",
    "text": "eu-west is DOWN: none of its 2 targets answers",
    "values": {"targets": 2},
    "since": "2026-12-04T00:00:00Z",
    "until": None,
    "decision": "1.7",
    "links": {
        "dashboard": "http://127.0.0.1:7100/",
        "decision": None,
        "runbook": "docs/ALERTS.md#region-down",
    },
    "term": {"holder": "control-plane-us-east", "epoch": 12},
}

DRILL_SPEC = {
    "schema_version": 1,
    "drill": "region-outage",
    "what": "Everything in one region dies at once.",
    "hypothesis": "Clients elsewhere notice nothing.",
    "region": "eu-west",
    "faults": [
        {"fault": "kill", "by": "stack"},
        {"fault": "latency", "by": "panel", "ms": 800, "share_permille": 300, "targets": ["alpha-*"]},
    ],
    "guard": {"min_success_permille": 950, "min_regions": 2},
    "expect": {"apply_ms": 5000, "recover_ms": 60000},
    "hold_s": 10,
}
DRILL = {
    "schema_version": 1,
    "id": "drill-23",
    "n": 23,
    "spec": DRILL_SPEC,
    "author": "ann",
    "reason": "before the launch",
    "state": "RUNNING",
    "requested_at": NOW,
    "runner": "agent-1",
    "started_at": NOW,
    "progress": {
        "phase": "fault",
        "injections": [
            {"n": 0, "by": "stack", "fault": "kill", "where": "eu-west", "state": "DONE", "at": NOW}
        ],
        "timeline": [{"at_ms": 0.0, "event": "injected", "values": {}}],
        "requests": 70,
    },
}
DRILL_SCHEDULE = {
    "schema_version": 1,
    "id": "weekly",
    "cron": "0 3 * * 1",
    "request": {"name": "region-outage", "region": "eu-west", "author": "ann", "reason": "each week"},
    "created_at": NOW,
}
AUDIT_ENTRY = {
    "schema_version": 1,
    "n": 17,
    "at": NOW,
    "author": "ann",
    "action": "override.create",
    "subject": "drain-17",
    "reason": "new racks",
    "values": {"kind": "drain", "region": "eu-west", "expires_at": "2026-11-01T12:30:00Z"},
    "replica": "control-plane-us-east",
}
EXAMPLES = {
    "override": (Override, OVERRIDE),
    "rollout": (Rollout, ROLLOUT),
    "audit-entry": (AuditEntry, AUDIT_ENTRY),
    "config": (NodeFile, CONFIG),
    "decision": (Decision, DECISION),
    "beat": (Beat, BEAT),
    "ack": (Ack, ACK),
    "health-event": (HealthEvent, HEALTH_EVENT),
    "status": (StackStatus, STATUS),
    "drill-spec": (DrillSpec, DRILL_SPEC),
    "drill": (Drill, DRILL),
    "drill-schedule": (DrillSchedule, DRILL_SCHEDULE),
    "notice": (Notice, NOTICE),
    "drill-report": (DrillReport, DRILL_REPORT),
}


def committed(name: str) -> jsonschema_rs.Draft202012Validator:
    """The schema as it stands in the repository."""
    return jsonschema_rs.Draft202012Validator(
        json.loads(schemas.path_of(SCHEMAS, name).read_text()), validate_formats=True
    )


def test_the_committed_schemas_are_what_the_models_say():
    """Nobody changes a contract without the change showing in `docs/schemas/` (`make schemas`)."""
    assert schemas.outdated(SCHEMAS) == []


def test_every_document_of_the_contract_has_an_example_here():
    """An example is what others copy: none may be missing."""
    assert set(EXAMPLES) == set(schemas.DOCUMENTS)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_are_valid_by_model_and_by_schema(name):
    """The model that reads a document and the schema that describes it agree that the example is right."""
    model, example = EXAMPLES[name]
    model.model_validate_json(json.dumps(example))
    committed(name).validate(example)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_what_models_write_is_valid_by_their_schema(name):
    """A document that has been read and written again is still one."""
    model, example = EXAMPLES[name]
    committed(name).validate(model.model_validate_json(json.dumps(example)).model_dump(mode="json"))


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"config", "drill-spec"}))
def test_messages_tolerate_fields_they_do_not_know(name):
    """A newer writer can talk to an older reader."""
    model, example = EXAMPLES[name]
    newer = {**example, "from_the_future": 1}
    assert model.model_validate_json(json.dumps(newer)) == model.model_validate_json(json.dumps(example))
    committed(name).validate(newer)


def test_a_misspelt_key_is_wrong_by_the_schema_too():
    """An editor with the schema underlines what `leeward config validate` refuses."""
    wrong = {**CONFIG, "flet": {}}
    assert not committed("config").is_valid(wrong)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("beat", "head_sha", "xyz"),
        ("ack", "mode", "ROTTEN"),
        ("decision", "term", None),
        ("decision", "seq", -1),
    ],
)
def test_wrong_values_are_refused_by_model_and_by_schema(name, field, value):
    """The two never disagree on what is wrong."""
    model, example = EXAMPLES[name]
    wrong = {**example, field: value}
    assert not committed(name).is_valid(wrong)
    with pytest.raises(ValueError):
        model.model_validate_json(json.dumps(wrong))


def test_a_beat_states_the_head_it_was_made_from():
    """The hash of a head can be recomputed from a Beat alone."""
    head = Beat.model_validate(BEAT).head
    assert head == Head(generation=1, seq=7, config_version=3, routes={"chat": (7, SHA), "embed": (5, SHA)})


def test_check_finds_missing_changed_and_left_over_files(tmp_path, capsys):
    """`--check` is the guard of CI: each way of being out of date is named."""
    assert schemas.main([str(tmp_path)]) == 0
    assert schemas.main([str(tmp_path), "--check"]) == 0
    schemas.path_of(tmp_path, "beat").unlink()
    schemas.path_of(tmp_path, "ack").write_text("{}")
    schemas.path_of(tmp_path, "gone").write_text("{}")
    capsys.readouterr()
    assert schemas.main([str(tmp_path), "--check"]) == 1
    said = capsys.readouterr().err
    assert [name in said for name in ("beat.schema", "ack.schema", "gone.schema", "config.schema")] == [
        True,
        True,
        True,
        False,
    ]
    assert schemas.main([str(tmp_path)]) == 0
    assert schemas.outdated(tmp_path) == []


def test_the_built_in_fleet_is_a_valid_fleet_document():
    """What travels on `leeward.config.v1` comes back as the same fleet."""
    fleet = local_fleet()
    assert Fleet.model_validate_json(fleet.model_dump_json()) == fleet
