"""The ASGI application of a replica."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from control_plane.api import audit, backup, config, overrides, plan, rollouts, routes
from control_plane.api.guard import Guard
from control_plane.api.problems import Problem, describe, install
from control_plane.ports import Answers
from shared.vocabulary.decision import Ack
from shared.vocabulary.override import OverrideRequest

BODIES: tuple[type[BaseModel], ...] = (
    Ack,
    plan.PlanQuestion,
    config.ConfigPut,
    config.Rollback,
    rollouts.RolloutOrder,
    rollouts.Word,
    OverrideRequest,
    overrides.Lift,
)
"""What operations take, for the description (see `bodies`)."""


def build(answers: Answers, *, hosts: frozenset[str]) -> FastAPI:
    """Everything but the socket. `hosts` is for `Guard`; empty takes any Host."""
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
            backup.backup,
        ),
    ):
        app.include_router(router(answers))
    page = files("control_plane.api").joinpath("index.html").read_text()
    policy = f"default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src '{_hash(page)}'"

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy, "cache-control": "no-store"})

    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(Guard, hosts=hosts)
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
        for operations in schema["paths"].values():
            for method, operation in operations.items():
                guarded = (421,) if method == "get" else (403, 413, 415, 421)
                takes = bool(operation.get("parameters")) or "requestBody" in operation
                for status, answer in describe(*guarded, *((422,) if takes else ())).items():
                    operation["responses"][str(status)] = answer
        app.openapi_schema = schema
    return app.openapi_schema


def _hash(page: str) -> str:
    """The content security policy's name for the page's one script."""
    found = re.search(r"<script>(.*)</script>", page, re.DOTALL)
    assert found is not None
    return "sha256-" + base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
