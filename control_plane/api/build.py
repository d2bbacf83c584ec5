"""The ASGI application of a replica."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from control_plane.api import (
    audit,
    backup,
    bodies,
    config,
    dashboard,
    drills,
    live,
    overrides,
    plan,
    rollouts,
    routes,
    whoami,
)
from control_plane.api.access import OPEN, ROLES, Access, gates
from control_plane.api.guard import Guard
from control_plane.api.problems import Problem, describe, install
from control_plane.ports import Answers
from shared.clock import Clock, SystemClock
from shared.vocabulary.decision import Ack
from shared.vocabulary.override import OverrideRequest

BODIES: tuple[type[BaseModel], ...] = (
    Ack,
    plan.PlanQuestion,
    config.ConfigPut,
    config.Rollback,
    rollouts.RolloutOrder,
    OverrideRequest,
    bodies.Word,
    bodies.ForcibleWord,
    *drills.BODIES,
)
"""What operations take, for the description (see `bodies`)."""


def build(answers: Answers, *, hosts: frozenset[str], clock: Clock | None = None) -> FastAPI:
    """Everything but the socket. `hosts` is for `Guard`; empty takes any Host. Raises `access.Unstated`."""
    app = FastAPI(
        title="Leeward control plane",
        summary="Health, decisions and their reasons, from any replica.",
        version="1",
        docs_url=None,  # its page loads scripts from elsewhere; /openapi.json is complete
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    install(app)
    for router in (
        *(routes.process, routes.health, routes.decisions, routes.fleet, routes.feed),
        *(
            config.config,
            config.versions,
            plan.plan,
            rollouts.rollouts,
            overrides.overrides,
            audit.audit,
            live.live,
            backup.backup,
        ),
        *(drills.schedules, drills.drills, drills.one_drill, drills.running),
    ):
        app.include_router(router(answers))
    app.include_router(dashboard.dashboard())
    app.include_router(whoami.whoami())
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(
        Access,
        api=answers.node.api,
        gates=gates(app.routes),
        clock=clock if clock is not None else SystemClock(),
    )
    app.add_middleware(Guard, hosts=hosts, advertised=answers.node.advertise_url)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own, with the answers that `Guard` and the problem handlers give to any operation."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        schemas = schema["components"]["schemas"]
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        models: tuple[type[BaseModel], ...] = (Problem, *BODIES)
        for model in models:
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(described.pop("$defs", {}))
            schemas[model.__name__] = described
        schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                asks = ROLES.get(f"{method.upper()} {path}") != OPEN
                guarded = ((401, 403, 429) if asks else ()) + (
                    (421,) if method == "get" else (403, 413, 415, 421)
                )
                takes = bool(operation.get("parameters")) or "requestBody" in operation
                for status, answer in describe(*guarded, *((422,) if takes else ())).items():
                    operation["responses"][str(status)] = answer
        app.openapi_schema = schema
    return app.openapi_schema
