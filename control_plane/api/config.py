"""The configuration: what is in force, what was, and how to change it.

A change names the entity tag of what it was prepared from (RFC 6585, section 3: 428 without; RFC 9110,
section 13.1.1: 412 when that is no longer in force), so that nobody overwrites what they have not seen.
"""

from collections.abc import Awaitable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from control_plane.api.bodies import json_body, json_only, json_value, strictly, validated
from control_plane.api.problems import ApiError, Fault, describe, problem, written
from control_plane.core.config_check import Finding
from control_plane.core.config_diff import Change
from control_plane.ports import Answers, ConfigHead, ConfigOrder, ConfigOutcome, NotKept
from shared.config_file import fleet_faults
from shared.ports import PortError
from shared.vocabulary.base import Message, Sha256
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.override import Author, Words

MAX_CONFIG_BODY_BYTES = 4 * 1024 * 1024
Number = Annotated[int, Field(ge=1, le=10**9)]


class ConfigVersion(Message):
    """One version of the configuration."""

    config_version: int
    sha: Sha256
    author: str
    at: AwareDatetime
    reason: str
    in_force: bool


class ConfigVersions(Message):
    """`GET /v1/config/versions`: newest first."""

    versions: tuple[ConfigVersion, ...]


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    author: Author
    reason: Words
    forced: bool = False
    """In spite of objections."""


class ConfigPut(_Order):
    """`PUT /v1/config`."""

    fleet: Fleet


class Rollback(_Order):
    """`POST /v1/config/rollback`."""

    to: Number
    """The version whose fleet comes back, under a new version."""


class ConfigChanged(Message):
    """What became of a change, or, of a dry run, what would."""

    applied: bool
    """False for a dry run, and where nothing differs."""
    config_version: int
    """In force now; of a dry run, what it would be."""
    was: int
    """0 where there was none."""
    changes: tuple[Change, ...]
    objections: tuple[Finding, ...]
    """Of a dry run: what it would be refused for. Otherwise what was overruled."""
    warnings: tuple[Finding, ...]
    audit: int | None
    """Number of the audit entry."""


DryRun = Annotated[bool, Query(description="Say what would come of it, and change nothing.")]
IfMatch = Annotated[
    str | None,
    Header(description='The ETag of the configuration it replaces; `"0-"` where there is none; `*`: any.'),
]


def config(answers: Answers) -> APIRouter:
    """Reading and changing what is in force."""
    router = APIRouter(prefix="/v1/config", tags=["configuration"])

    @router.get(
        "",
        summary="The configuration in force",
        response_model=FleetConfig,
        responses={304: {"description": "Not Modified"}, **describe(404)},
    )
    async def current(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """The replicated fleet; `ETag` names its version and content."""
        force = answers.in_force()
        if force.config is None:
            raise ApiError(404, "etcd has no configuration yet")
        etag = f'"{force.config.config_version}-{force.config_sha[:16]}"'
        if if_none_match is not None and etag in (tag.strip() for tag in if_none_match.split(",")):
            return Response(status_code=304, headers={"etag": etag})
        return Response(force.config_raw, media_type="application/json", headers={"etag": etag})

    @router.put(
        "",
        summary="Put a fleet in force",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(ConfigPut),
        response_model=ConfigChanged,
        responses=describe(409, 412, 428, 503),
    )
    async def put(request: Request, if_match: IfMatch = None, dry_run: DryRun = False) -> Any:
        """Checked as a file is, and judged by what it would do to traffic: 409 says what it would
        harm, unless `forced`. Applied without restarts, under a new version."""
        based_on = _required(if_match)
        value = await json_value(request, limit=MAX_CONFIG_BODY_BYTES)
        fleet, faults, order = _read(value)
        if fleet is None or faults:
            return _unfit(request, faults)
        return await _told(answers.configs.apply(fleet, _order(order, based_on, dry_run)))

    return router


def versions(answers: Answers) -> APIRouter:
    """What was in force, and bringing it back."""
    router = APIRouter(prefix="/v1/config", tags=["configuration"])

    @router.get("/versions", summary="The versions kept", responses=describe(503))
    async def listed() -> ConfigVersions:
        """Newest first, the last hundred; the first one is in force."""
        try:
            kept = await answers.configs.versions()
        except PortError:
            raise _no_etcd() from None
        return ConfigVersions(
            versions=tuple(_version(head, in_force=number == 0) for number, head in enumerate(kept))
        )

    @router.get(
        "/versions/{version}",
        summary="One version",
        response_model=FleetConfig,
        responses=describe(404, 503),
    )
    async def version(version: Annotated[Number, Path(examples=[3])]) -> Response:
        """The fleet as it was put in force then."""
        try:
            head, raw = await answers.configs.version(version)
        except NotKept:
            raise ApiError(404, f"no configuration {version} is kept") from None
        except PortError:
            raise _no_etcd() from None
        return Response(raw, media_type="application/json", headers={"etag": head.etag})

    @router.post(
        "/rollback",
        summary="Bring an earlier version back",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(Rollback),
        response_model=ConfigChanged,
        responses=describe(404, 409, 412, 503),
    )
    async def rollback(request: Request, if_match: IfMatch = None, dry_run: DryRun = False) -> Any:
        """Its fleet under a new version, for versions never go back. Judged as any other change."""
        asked = await strictly(Rollback, request)
        order = _order(asked, None if if_match is None else _tag(if_match), dry_run)
        return await _told(answers.configs.roll_back(asked.to, order))

    return router


def _read(value: Any) -> tuple[Fleet | None, tuple[str, ...], _Order]:
    """The fleet, its faults, and the rest of the body. Raises RequestValidationError for the rest."""
    if not isinstance(value, dict) or "fleet" not in value:
        raise RequestValidationError(
            [{"type": "missing", "loc": ("body", "fleet"), "msg": "the fleet is missing"}]
        )
    order = validated(_Order, {key: part for key, part in value.items() if key != "fleet"})
    fleet, faults = fleet_faults(value["fleet"])
    return fleet, faults, order


def _unfit(request: Request, faults: tuple[str, ...]) -> Response:
    """All of them, as a file's would be shown: `fleet.targets[3].url`, and what is wrong there."""
    parted = (fault.partition(": ") if ": " in fault else ("", "", fault) for fault in faults)
    return problem(
        422,
        f"the fleet has {len(faults)} fault{'s' if len(faults) > 1 else ''}",
        instance=request.url.path,
        faults=[Fault(where=f"fleet.{where}".rstrip("."), what=what) for where, _, what in parted],
    )


def _order(asked: _Order, based_on: str | None, dry_run: bool) -> ConfigOrder:
    return ConfigOrder(
        author=asked.author, reason=asked.reason, forced=asked.forced, based_on=based_on, dry_run=dry_run
    )


def _required(if_match: str | None) -> str | None:
    if if_match is None:
        raise ApiError(428, "send If-Match with the ETag of the configuration that this one replaces")
    return _tag(if_match)


def _tag(if_match: str) -> str | None:
    return None if if_match.strip() == "*" else if_match.strip()


async def _told(outcome: Awaitable[ConfigOutcome]) -> ConfigChanged:
    """What became of it. Raises ApiError."""
    done = await written(outcome, look="GET /v1/config/versions")
    return ConfigChanged(
        applied=done.applied,
        config_version=done.config_version,
        was=done.was,
        changes=done.changes,
        objections=done.judgement.objections,
        warnings=done.judgement.warnings,
        audit=done.audit,
    )


def _version(head: ConfigHead, *, in_force: bool) -> ConfigVersion:
    return ConfigVersion(
        config_version=head.config_version,
        sha=head.sha,
        author=head.author,
        at=head.at,
        reason=head.reason,
        in_force=in_force,
    )


def _no_etcd() -> ApiError:
    return ApiError(503, "etcd does not answer, and this is not in memory", headers={"retry-after": "1"})
