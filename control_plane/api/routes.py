"""The operations of the API: one short function each, over `Answers`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse

from control_plane.api.answers import (
    Alive,
    CurrentDecisions,
    DecisionReport,
    Edges,
    Leader,
    LeaderReport,
    RegionReport,
    TargetReport,
    Timeline,
    VersionText,
    edge_report,
    summary,
)
from control_plane.api.bodies import json_body, json_only, strictly
from control_plane.api.events import EventStream
from control_plane.api.problems import ApiError, describe
from control_plane.api.sentences import brief, sentence
from control_plane.ports import Answers, Implausible, NotKept, Readiness, TooManyReaders
from shared.ports import PortError
from shared.vocabulary.base import Id, Version
from shared.vocabulary.decision import Ack, Decision, EvidenceRef
from shared.vocabulary.view import HealthView

MAX_TIMELINE = 1_000


def process(answers: Answers) -> APIRouter:
    """How the process itself is."""
    router = APIRouter(tags=["process"])

    @router.get("/livez", summary="Whether the process turns")
    async def livez() -> Alive:
        """Always 200: liveness depends on nothing outside."""
        return Alive()

    @router.get("/readyz", summary="Whether it should be asked", responses={503: {"model": Readiness}})
    async def readyz(response: Response) -> Readiness:
        """200 once etcd has been read completely; a later loss of etcd keeps it ready, with what it knows."""
        reasons = tuple(answers.unready())
        response.status_code = 503 if reasons else 200
        return Readiness(ready=not reasons, reasons=reasons)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """The Prometheus text format, version 0.0.4."""
        return PlainTextResponse(answers.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def health(answers: Answers) -> APIRouter:
    """What is concluded."""
    router = APIRouter(prefix="/v1/health", tags=["health"])

    def view() -> HealthView:
        found = answers.view()
        if found is None:
            raise ApiError(503, "no configuration is known yet", headers={"retry-after": "1"})
        return found

    @router.get("", summary="The whole health view", responses=describe(503))
    async def whole() -> HealthView:
        """Every target, region and source with the evidence, as this replica concludes it now."""
        return view()

    @router.get("/regions/{region}", summary="One region", responses=describe(404, 503))
    async def region(region: Annotated[Id, Path(examples=["us-east"])]) -> RegionReport:
        """The region, the targets that stand in it, and the sources that observe from it."""
        whole = view()
        for candidate in whole.regions:
            if candidate.id == region:
                return RegionReport(
                    **candidate.model_dump(),
                    target_health=tuple(target for target in whole.targets if target.region == region),
                    observers=tuple(source for source in whole.sources if source.vantage == region),
                )
        raise ApiError(404, f"no region {region!r} in the configuration")

    @router.get("/targets/{target}", summary="One target", responses=describe(404, 503))
    async def target(target: Annotated[Id, Path(examples=["alpha-us-east"])]) -> TargetReport:
        """The verdict of each vantage, the evidence, and the last changes."""
        for candidate in view().targets:
            if candidate.id == target:
                return TargetReport(**dict(candidate), history=tuple(answers.history(target)))
        raise ApiError(404, f"no target {target!r} in the configuration")

    return router


def decisions(answers: Answers) -> APIRouter:
    """What was decided, and why."""
    router = APIRouter(prefix="/v1/decisions", tags=["decisions"])

    @router.get("", summary="The last commits")
    async def timeline(limit: Annotated[int, Query(ge=1, le=MAX_TIMELINE)] = 50) -> Timeline:
        """Newest first; etcd keeps a thousand."""
        head = answers.in_force().version
        return Timeline(decisions=tuple(summary(entry, head) for entry in answers.log()[:limit]))

    @router.get("/current", summary="What is in force")
    async def current() -> CurrentDecisions:
        """The head and every document it names."""
        force = answers.in_force()
        return CurrentDecisions(
            version=str(force.version),
            head=force.head,
            head_sha=force.head_sha or None,
            documents=tuple(Decision.model_validate_json(raw) for raw in force.documents.values()),
        )

    @router.get("/{version}", summary="Why", responses=describe(404, 503))
    async def why(version: Annotated[VersionText, Path()]) -> DecisionReport:
        """The documents of one commit, its reasons in sentences, and the evidence behind them. Takes
        `x-leeward-decision` as well as the version of a head."""
        wanted = Version.parse(version)
        try:
            entry, texts = await answers.documents_of(wanted)
        except NotKept:
            raise ApiError(404, f"no decision {wanted} is kept") from None
        except PortError:
            raise ApiError(
                503, "etcd does not answer, and this is not in memory", headers={"retry-after": "1"}
            ) from None
        documents = tuple(Decision.model_validate_json(text) for text in texts)
        reasons = [reason for document in documents for reason in document.reasons]
        return DecisionReport(
            version=str(wanted),
            commit=summary(entry, answers.in_force().version) if entry is not None else None,
            said=tuple(dict.fromkeys(map(sentence, reasons))),
            brief=tuple(dict.fromkeys(map(brief, reasons))),
            evidence=_distinct(documents),
            documents=documents,
        )

    return router


def fleet(answers: Answers) -> APIRouter:
    """Who is there: the edges, and the replica that leads them."""
    router = APIRouter(prefix="/v1", tags=["fleet"])

    @router.get("/edges", summary="Every edge heard of within the hour")
    async def edges() -> Edges:
        """By their acks: mode, what they serve, how far behind."""
        head = answers.in_force().version
        return Edges(head=str(head), edges=tuple(edge_report(record, head) for record in answers.edges()))

    @router.post(
        "/acks",
        status_code=204,
        summary="An edge says what it serves",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(Ack),
        responses=describe(409),
    )
    async def acks(request: Request) -> Response:
        """The HTTP path of what edges also say on their bus. The newest word counts, whichever way."""
        try:
            answers.acknowledge(await strictly(Ack, request))
        except Implausible as error:
            raise ApiError(409, str(error)) from None
        return Response(status_code=204)

    @router.get("/leader", summary="Who leads")
    async def leader() -> LeaderReport:
        """As this replica knows it; null while nobody does."""
        known = answers.leader()
        record = known.leader
        config = answers.in_force().config
        return LeaderReport(
            leader=None
            if record is None
            else Leader(id=record.id, region=record.region, epoch=record.epoch, url=record.url),
            replica=answers.node.id,
            replica_region=answers.node.region,
            role="leader" if known.leading else "follower",
            beat_age_s=known.beat_age_s,
            config_version=config.config_version if config is not None else 0,
        )

    return router


def feed(answers: Answers) -> APIRouter:
    """What they work by, as it happens."""
    router = APIRouter(prefix="/v1", tags=["fleet"])

    @router.get(
        "/stream",
        summary="Configuration, decisions, heads and Beats as they happen",
        status_code=200,
        response_class=EventStream,
        responses={
            200: {"description": "Server-sent events", "content": {"text/event-stream": {}}},
            **describe(503),
        },
    )
    async def stream() -> EventStream:
        """`hello`, then everything in force as `config`, `decision`, `head` and `beat` events, then
        each change in the same form. A comment every 5 s; 15 s of silence are a dead connection. The
        snapshot is whole each time, so `Last-Event-ID` needs no memory here."""
        try:
            return EventStream(answers.follow())
        except TooManyReaders:
            raise ApiError(
                503, "this replica has readers enough or is leaving", headers={"retry-after": "1"}
            ) from None

    return router


def _distinct(documents: tuple[Decision, ...]) -> tuple[EvidenceRef, ...]:
    """Routes share targets, so they share evidence."""
    seen: dict[tuple[str, str, str | None, int, int], EvidenceRef] = {}
    for document in documents:
        for evidence in document.evidence:
            key = (evidence.source, evidence.target, evidence.monitor, evidence.boot, evidence.seq)
            seen.setdefault(key, evidence)
    return tuple(seen.values())
