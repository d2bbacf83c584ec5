"""`POST /v1/plan`: what would be decided with another configuration, other orders, or somebody DOWN.

Reads what the leader would read, decides as the leader would, and writes nothing. One question at a
time, in short sittings, so that a leader that is asked goes on leading.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field

from control_plane.api.answers import SILENT_S, VersionText
from control_plane.api.bodies import json_body, json_only, json_value, validated
from control_plane.api.problems import ApiError, describe
from control_plane.api.sentences import sentence
from control_plane.core.config_check import judge
from control_plane.core.consent import faults, stranded
from control_plane.core.foresee import Outlook, Traffic, assuming, traffic, warnings
from control_plane.core.orders import orders_of
from control_plane.ports import Answers, Grounds
from shared.config_file import fleet_faults
from shared.ports import PortError
from shared.vocabulary.base import NO_VERSION, ConfigModel, Id, Message, Permille
from shared.vocabulary.config import Fleet, FleetConfig, Target, problems
from shared.vocabulary.decision import Decision, Exclusion
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.view import HealthView

MAX_BODY_BYTES = 8 * 1024 * 1024
WAIT_S = 10.0
"""For a question that is being answered."""
MAX_CLIENTS = 5_000
"""Routes and client regions that an answer lists."""
MAX_SAID = 200


class PlanQuestion(ConfigModel):
    """What to assume. All of it absent: what is decided as things are."""

    fleet: Fleet | None = None
    """Instead of the configuration in force."""
    overrides: Annotated[tuple[OverrideSpec, ...], Field(max_length=100)] = ()
    """Besides those in force."""
    without_overrides: Annotated[tuple[Id, ...], Field(max_length=1_000)] = ()
    """Ids of those in force that are to be ended."""
    assume_down: Annotated[tuple[Id, ...], Field(max_length=1_000)] = ()
    """Targets, or regions with all targets that stand there, taken for DOWN on hard evidence."""


class PlannedShare(Message):
    """One target's part of a route's requests in one client region."""

    target: Id
    now_permille: Permille
    at_once_permille: Permille
    in_the_end_permille: Permille


class PlannedClients(Message):
    """What changes for the clients of one region on one route."""

    route: Id
    region: Id
    targets: tuple[PlannedShare, ...]
    """Whoever has a part now, at once or in the end."""


class PlannedExclusion(Exclusion):
    """Whom a route would not use in the end."""

    route: Id


class PlanWarning(Message):
    """What is bad about the plan although it may be committed."""

    route: Id
    region: Id
    what: str
    grave: bool
    """Requests would fail."""


class PlanReport(Message):
    """`POST /v1/plan`. Shares are permille of a route's requests in a client region."""

    version: VersionText
    """The head it starts from."""
    config_version: int
    """In force."""
    changes: tuple[PlannedClients, ...]
    """Routes and client regions whose shares change, at once or in the end; at most 5,000."""
    excluded: tuple[PlannedExclusion, ...]
    said: tuple[str, ...]
    """The reasons of what would be committed at once, in sentences; at most 200."""
    refusals: tuple[str, ...]
    """Why it would not be committed."""
    warnings: tuple[PlanWarning, ...]
    """Of the end; at most 200."""
    safe: bool
    """No refusal, and no grave warning."""
    settled: bool
    """Whether an end was reached within the bound on looking ahead."""
    after_s: float
    """Until the last change on the way there, roughly."""


def plan(answers: Answers) -> APIRouter:
    """What would be decided."""
    router = APIRouter(prefix="/v1", tags=["decisions"])
    one_at_a_time = asyncio.Lock()

    @router.post(
        "/plan",
        summary="What would be decided, without deciding it",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(PlanQuestion),
        responses=describe(409, 503),
    )
    async def ask(request: Request) -> PlanReport:
        """A dry run on this replica's own view: what the leader would commit at once, and what would
        hold in the end if nothing else happened. Verdicts are those under the configuration in force."""
        question = await _question(request)
        try:
            async with asyncio.timeout(WAIT_S):
                await one_at_a_time.acquire()
        except TimeoutError:
            raise ApiError(503, "other plans are being made", headers={"retry-after": "5"}) from None
        try:
            return await _answer(answers, question)
        except PortError:
            raise ApiError(503, "etcd does not answer", headers={"retry-after": "1"}) from None
        finally:
            one_at_a_time.release()

    return router


async def _question(request: Request) -> PlanQuestion:
    """The body, to the letter; its fleet as a file is taken. Raises RequestValidationError, or ApiError 413."""
    value = await json_value(request, limit=MAX_BODY_BYTES)
    if not isinstance(value, dict) or value.get("fleet") is None:
        return validated(PlanQuestion, value)
    question = validated(PlanQuestion, {**value, "fleet": None})
    fleet, faults = fleet_faults(value["fleet"])
    if fleet is None or faults:
        parted = (fault.partition(": ") for fault in faults)
        raise RequestValidationError(
            [{"type": "fleet", "loc": ("body", "fleet", where), "msg": what} for where, _, what in parted]
        )
    return question.model_copy(update={"fleet": fleet})


async def _answer(answers: Answers, question: PlanQuestion) -> PlanReport:
    grounds = await answers.grounds()
    view = answers.view()
    if view is None or grounds.config is None:
        raise ApiError(503, "no configuration is known yet", headers={"retry-after": "1"})
    config = _config(grounds.config, question)
    view = assuming(view, _assumed(config.fleet, question.assume_down))
    overrides = _kept(grounds, question)
    objections = _objections(answers, grounds, config, view) if config is not grounds.config else []
    for number, spec in enumerate(question.overrides, start=1):
        order = _order(number, spec, view.as_of)
        objections += _denials(order, config, view, overrides, grounds)
        overrides.append(order)
    orders = orders_of(overrides, grounds.rollouts, view.as_of)
    outlook = Outlook(grounds.course, config, view, orders=orders, now=view.as_of)
    for _ in outlook.passes():
        await asyncio.sleep(0)
    return report(outlook, grounds.config, view, objections)


def report(
    outlook: Outlook, in_force: FleetConfig, view: HealthView, objections: Sequence[str] = ()
) -> PlanReport:
    """The answer that a finished `outlook` gives; `objections` are against asking for it at all."""
    first = outlook.at_once
    assert first is not None, "ask after its first pass"
    # What is refused as a whole is shown as it was proposed: that is what has to be understood.
    proposed = {**first.course.documents, **(first.changed if first.kept is None else {})}
    at_once = {route: document for route, document in proposed.items() if not document.removed}
    ended = at_once if first.kept is None else outlook.course.documents
    refused = tuple(dict.fromkeys([*objections, *outlook.refusals]))
    warned = tuple(
        PlanWarning(route=each.route, region=each.region, what=each.what, grave=each.grave)
        for each, _ in zip(warnings(ended, view), range(MAX_SAID), strict=False)
    )
    said = dict.fromkeys(sentence(reason) for each in first.changed.values() for reason in each.reasons)
    changes = _changes(traffic(outlook.before.documents), traffic(at_once), traffic(ended))
    return PlanReport(
        version=str(outlook.before.head.version if outlook.before.head else NO_VERSION),
        config_version=in_force.config_version,
        changes=tuple(each for each, _ in zip(changes, range(MAX_CLIENTS), strict=False)),
        excluded=tuple(_excluded(ended)),
        said=tuple(said)[:MAX_SAID],
        refusals=refused,
        warnings=warned,
        safe=not refused and not any(each.grave for each in warned),
        settled=outlook.settled,
        after_s=outlook.after_s,
    )


def _config(in_force: FleetConfig, question: PlanQuestion) -> FleetConfig:
    """The configuration to decide by. Raises ApiError 409 for a fleet that contradicts itself."""
    if question.fleet is None or question.fleet == in_force.fleet:
        return in_force
    if faults := problems(question.fleet):
        where, what = faults[0]
        path = ".".join(str(step) for step in where)
        raise ApiError(409, f"fleet.{path}: {what}; {len(faults)} faults in all")
    return FleetConfig(config_version=in_force.config_version + 1, fleet=question.fleet)


def _assumed(fleet: Fleet, names: Sequence[str]) -> list[Target]:
    """Raises ApiError 409 for a name that means nothing."""
    regions = {region.id for region in fleet.regions}
    for name in names:
        if name not in regions and name not in fleet.targets_by_id:
            raise ApiError(
                409,
                f"{name!r} is neither a region ({', '.join(sorted(regions))}) nor a target to assume DOWN",
            )
    return [target for target in fleet.targets if target.id in names or target.region in names]


def _kept(grounds: Grounds, question: PlanQuestion) -> list[Override]:
    """The overrides on record that are to stay. Raises ApiError 409 for an id that is not there."""
    ids = {override.id for override in grounds.overrides}
    for name in question.without_overrides:
        if name not in ids:
            raise ApiError(409, f"no override {name!r} is on record")
    return [each for each in grounds.overrides if each.id not in question.without_overrides]


def _order(number: int, spec: OverrideSpec, now: datetime) -> Override:
    """`spec` as if it had just been given: newer than all on record."""
    return Override(
        id=f"planned-{number}",
        n=2**52 + number,
        spec=spec,
        reason="planned",
        author="plan",
        created_at=now,
        expires_at=now + timedelta(days=365),
    )


def _denials(
    order: Override, config: FleetConfig, view: HealthView, before: Sequence[Override], grounds: Grounds
) -> list[str]:
    """Why `order` would be turned away unless forced. Raises ApiError 409 when it makes no sense."""
    standing = orders_of(before, grounds.rollouts, view.as_of)
    if wrong := faults(order.spec, config.fleet, standing.overrides):
        raise ApiError(409, "; ".join(wrong))
    after = orders_of((*before, order), grounds.rollouts, view.as_of)
    return [
        f"nobody who answers would be left to route {lost}: the {order.spec.kind} is refused unless forced"
        for lost in stranded(order.spec, config, view, after)
    ]


def _objections(answers: Answers, grounds: Grounds, config: FleetConfig, view: HealthView) -> list[str]:
    """Why the configuration would be turned away unless forced."""
    assert grounds.config is not None
    edges: dict[str, list[str]] = {}
    for record in answers.edges():
        if record.age_s <= SILENT_S:
            edges.setdefault(record.ack.region, []).append(record.ack.edge)
    judgement = judge(
        grounds.config.fleet,
        config.fleet,
        view=view,
        edges=edges,
        overrides=grounds.overrides,
        rollouts=grounds.rollouts,
    )
    return [f"{each.where}: {each.what}; refused unless forced" for each in judgement.objections]


def _changes(now: Traffic, at_once: Traffic, ended: Traffic) -> Iterator[PlannedClients]:
    nobody: Mapping[str, int] = {}
    for clients in sorted(now.keys() | at_once.keys() | ended.keys()):
        stages = [each.get(clients, nobody) for each in (now, at_once, ended)]
        if stages[0] == stages[1] == stages[2]:
            continue
        targets = dict.fromkeys(target for stage in stages for target in stage)
        route, region = clients
        yield PlannedClients(
            route=route,
            region=region,
            targets=tuple(
                PlannedShare(
                    target=target,
                    now_permille=_permille(stages[0], target),
                    at_once_permille=_permille(stages[1], target),
                    in_the_end_permille=_permille(stages[2], target),
                )
                for target in targets
            ),
        )


def _permille(shares: Mapping[str, int], target: str) -> int:
    return round(shares.get(target, 0) / 1000)


def _excluded(documents: Mapping[str, Decision]) -> Iterator[PlannedExclusion]:
    for route, document in documents.items():
        for each in document.excluded:
            yield PlannedExclusion(route=route, **each.model_dump())
