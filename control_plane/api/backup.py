"""Backup and restore over HTTP, so that neither needs access to etcd."""

from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from control_plane.api.answers import VersionText
from control_plane.api.events import EventStream
from control_plane.api.problems import SOON, ApiError, describe, etcd_silent, written
from control_plane.ports import Answers, NotKept, Restored, RestoreOrder
from shared.ports import PortError
from shared.vocabulary.base import Message, Version
from shared.vocabulary.override import Author, Words

MEDIA_TYPE = "application/x-ndjson"
MAX_BACKUP_BYTES = 256 * 1024 * 1024


class Lines(EventStream):
    """Lines of JSON, made as they are sent."""

    media_type = MEDIA_TYPE


class RestoreReport(Message):
    """`POST /v1/restore`."""

    generation: int
    """Above every one that was seen."""
    config_version: int
    """Under which the backup's fleet is in force: a new one."""
    version: VersionText
    """Of the backup's head."""
    records: int
    overrides: int
    rollouts: int
    audit: int
    """Number of the audit entry."""


def backup(answers: Answers) -> APIRouter:
    """Taking everything out, and putting it back."""
    router = APIRouter(prefix="/v1", tags=["backup"])

    @router.get(
        "/backup",
        summary="Everything worth keeping",
        status_code=200,
        response_class=Lines,
        responses={
            200: {"description": "Records, one a line", "content": {MEDIA_TYPE: {}}},
            **describe(404, 503),
        },
    )
    async def take(since: Annotated[VersionText | None, Query()] = None) -> Lines:
        """Configurations, decisions, orders and the audit, as lines that prove themselves; with
        `since`, only what came after that commit. Whole only with its last line."""
        try:
            lines = await answers.archive.backup(Version.parse(since) if since is not None else None)
        except NotKept as gone:
            raise ApiError(404, str(gone)) from None
        except PortError as error:
            raise ApiError(503, etcd_silent(error), headers=SOON) from None
        return Lines(lines)

    @router.post(
        "/restore",
        summary="Put a backup back",
        dependencies=[Depends(_lines_only)],
        openapi_extra={
            "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
        },
        responses=describe(409, 503),
    )
    async def restore(
        request: Request,
        author: Annotated[Author, Query()],
        reason: Annotated[Words, Query()],
        forced: Annotated[bool, Query(description="Over what operators have written here.")] = False,
    ) -> RestoreReport:
        """A full backup, and after it those since it. Nothing is written unless all of it is whole;
        then the generation rises above all that were seen, and the leader decides anew."""
        raw = await _body(request)
        order = RestoreOrder(author=author, reason=reason, forced=forced)
        return await _told(answers.archive.restore(raw, order))

    return router


async def _lines_only(request: Request) -> None:
    """A form on a hostile page cannot send this media type either."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != MEDIA_TYPE:
        raise ApiError(415, f"a backup is {MEDIA_TYPE}")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BACKUP_BYTES:
            raise ApiError(413, f"backups are at most {MAX_BACKUP_BYTES} bytes")
    return bytes(body)


async def _told(outcome: Awaitable[Restored]) -> RestoreReport:
    """What stands now. Raises ApiError."""
    done = await written(outcome, undone="nothing was restored")
    return RestoreReport(
        generation=done.generation,
        config_version=done.config_version,
        version=done.version,
        records=done.records,
        overrides=done.overrides,
        rollouts=done.rollouts,
        audit=done.audit,
    )
