"""`/v1/audit`: who changed what, when and why."""

from typing import Annotated

from fastapi import APIRouter, Query

from control_plane.ports import Answers
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import Message

MAX_AUDIT = 1_000


class Audit(Message):
    """`GET /v1/audit`: newest first."""

    entries: tuple[AuditEntry, ...]


def audit(answers: Answers) -> APIRouter:
    """On record."""
    router = APIRouter(prefix="/v1/audit", tags=["audit"])

    @router.get("", summary="The last changes that people made")
    async def listed(
        limit: Annotated[int, Query(ge=1, le=MAX_AUDIT)] = 50,
        action: Annotated[
            str | None, Query(max_length=64, description="`override.create`, or `override.` for all such.")
        ] = None,
        author: Annotated[str | None, Query(max_length=128)] = None,
    ) -> Audit:
        """Overrides, configurations, rollouts, restores; what the leader did by itself among them has
        its replica as author. The authors' names are as given."""
        found = [
            entry
            for entry in answers.audit()
            if (action is None or entry.action.startswith(action)) and author in (None, entry.author)
        ]
        return Audit(entries=tuple(found[:limit]))

    return router
