"""`/v1/whoami`: as whom this replica takes the caller."""

from fastapi import APIRouter

from control_plane.caller import CALLER
from shared.vocabulary.base import Message
from shared.vocabulary.node import ANONYMOUS
from shared.vocabulary.terms import ApiRole


class WhoAmI(Message):
    """`GET /v1/whoami`."""

    name: str
    """The id of the token; `anonymous` where none is needed."""
    role: ApiRole


def whoami() -> APIRouter:
    """For a page that shows only what its reader may do."""
    router = APIRouter(prefix="/v1/whoami", tags=["access"])

    @router.get("", summary="As whom you are taken")
    async def asked() -> WhoAmI:
        """The name and role of the token that was presented; 401 where one is needed and none came."""
        caller = CALLER.get()
        return WhoAmI(
            name=caller.name if caller is not None else ANONYMOUS,
            role=caller.role if caller is not None else ApiRole.ADMIN,
        )

    return router
