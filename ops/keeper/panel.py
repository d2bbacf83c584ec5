"""The keeper's HTTP side for faults, as JSON on loopback.

GET /livez · GET /faults · PUT, DELETE /faults/{id}. Errors are RFC 9457 problem+json.
"""

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from ops.errors import OpsError
from ops.keeper.faults import FaultOrder, Faults, Refused
from ops.keeper.hands import Impossible
from shared.admin import invalid, problem
from shared.vocabulary.base import Id

_ID: TypeAdapter[str] = TypeAdapter(Id)


def install(app: web.Application, faults: Faults) -> None:
    """Add the routes."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response({"faults": faults.shown()})

    async def put(request: web.Request) -> web.Response:
        try:
            name = _ID.validate_python(request.match_info["id"])
            order = FaultOrder.model_validate_json(await request.read())
        except ValidationError as error:
            return invalid(error)
        try:
            held, new = await faults.put(name, order)
        except Impossible as error:
            return problem(422, str(error))
        except Refused as error:
            return problem(409, str(error))
        except OpsError as error:
            return problem(503, str(error))
        return web.json_response(faults.as_json(held), status=201 if new else 200)

    async def drop(request: web.Request) -> web.Response:
        try:
            held = await faults.drop(request.match_info["id"])
        except OpsError as error:
            return problem(503, f"not undone yet, it is tried again: {error}")
        if held is None:
            return problem(404, f"no fault {request.match_info['id']!r}: it was never put, or has ended")
        return web.json_response({**faults.as_json(held), "state": "undone"})

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="live\n")

    app.router.add_get("/livez", livez)
    app.router.add_get("/faults", show)
    app.router.add_put("/faults/{id}", put)
    app.router.add_delete("/faults/{id}", drop)
