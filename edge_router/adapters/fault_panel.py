"""The fault filter on the admin listener: GET /faults · PUT, DELETE /faults/{id}, as JSON.

Only where the node file says `fault_filter: true`; elsewhere these paths do not exist. It asks nobody for a
password, as all of the admin listener does not: keep that off the public network.
"""

from collections.abc import Callable

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge_router.core.fault_filter import FaultFilter, FilterOrder, TooMany
from shared.admin import invalid, problem
from shared.clock import Clock
from shared.log import get_logger
from shared.vocabulary.base import Id

log = get_logger(__name__)
_ID: TypeAdapter[str] = TypeAdapter(Id)


def routes(faults: FaultFilter, *, clock: Clock) -> Callable[[web.Application], None]:
    """What adds them to an admin listener."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response({"faults": faults.shown(clock.monotonic())})

    async def put(request: web.Request) -> web.Response:
        try:
            name = _ID.validate_python(request.match_info["id"])
            order = FilterOrder.model_validate_json(await request.read())
        except ValidationError as error:
            return invalid(error)
        try:
            new = faults.put(name, order, clock.monotonic())
        except TooMany as error:
            return problem(409, str(error))
        if new:
            log.warning("fault in force", fault=name, order=order.model_dump(mode="json", exclude_none=True))
        return web.json_response(
            {"id": name, **order.model_dump(mode="json", exclude_none=True)}, status=201 if new else 200
        )

    async def drop(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if not faults.drop(name, clock.monotonic()):
            return problem(404, f"no fault {name!r}: it was never put, or has ended")
        log.warning("fault undone", fault=name)
        return web.json_response({"id": name, "state": "undone"})

    def add(app: web.Application) -> None:
        app.router.add_get("/faults", show)
        app.router.add_put("/faults/{id}", put)
        app.router.add_delete("/faults/{id}", drop)

    return add
