"""`/v1/live`: what the dashboard shows, as it changes. `/v1/stream` is the edges' own."""

from typing import Annotated

from fastapi import APIRouter, Header

from control_plane.api.events import EventStream
from control_plane.api.picture import Painter
from control_plane.api.problems import ApiError, describe
from control_plane.ports import Answers, TooManyReaders


def live(answers: Answers) -> APIRouter:
    """For people."""
    router = APIRouter(prefix="/v1", tags=["process"])
    painter = Painter(answers)

    @router.get(
        "/live",
        summary="All that the dashboard shows, as it changes",
        status_code=200,
        response_class=EventStream,
        responses={
            200: {"description": "Server-sent events", "content": {"text/event-stream": {}}},
            **describe(503),
        },
    )
    async def follow(last_event_id: Annotated[str, Header(max_length=128)] = "") -> EventStream:
        """A `snapshot`, then `change` events at most once a second, and `clock` at least every five: 15 s
        of silence are a dead connection. With `Last-Event-ID` of this replica's only what was missed is
        told. Made for the page; what it holds may change with it."""
        try:
            return EventStream(answers.live(painter.take, after=last_event_id))
        except TooManyReaders:
            raise ApiError(
                503,
                "this replica has watchers enough or is leaving: ask another",
                headers={"retry-after": "2"},
            ) from None

    return router
