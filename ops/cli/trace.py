"""`leeward trace`: what a decision or a request went through, drawn from the spans that the stack's keeper holds."""

import asyncio
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import httpx2
import typer

from ops.cli.output import STATE_DIR, Format, FormatOption, StateDirOption, emit
from ops.cli.reading import ask, trace_of
from ops.client import ControlPlanes, DrillRegister, Refused, open_client
from ops.errors import Bad, OpsError, Unreachable
from ops.local.processes import Kind, ProcessRecord
from ops.local.stack import Stack
from shared.telemetry import ENDPOINT_VARIABLES
from shared.vocabulary.base import Version
from shared.vocabulary.drill import Drill

MAX_JOINED: Final = 12
"""Traces drawn below the one that was asked for."""
_VERSION: Final = re.compile(r"\d+\.\d+")
_DRILL: Final = re.compile(r"drill-\d+")


class TraceKind(StrEnum):
    """What a trace is about."""

    DECISION = "decision"
    DRILL = "drill"
    REQUEST = "request"
    PROBE = "probe"
    OTHER = "other"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("trace")(trace)


def trace(
    asked: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="A trace id or its beginning, a decision (GEN.SEQ), a drill (drill-23), or an "
            "x-leeward-request-id. "
            "Without one, the latest traces.",
        ),
    ] = None,
    state_dir: StateDirOption = STATE_DIR,
    kind: Annotated[
        TraceKind | None, typer.Option("--kind", help="List only traces of this kind.", case_sensitive=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="List at most so many, newest first.")] = 20,
    alone: Annotated[bool, typer.Option("--alone", help="Without the traces that links join to it.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Draw one trace of the local stack, or list the latest. Exit code 1 when there is none, 3 without a keeper."""
    keeper = keeper_url(state_dir)
    if asked is None:
        query = f"?limit={limit}" + (f"&kind={kind.value}" if kind is not None else "")
        answer = asyncio.run(_get(keeper, f"/traces{query}"))
        if not answer["traces"] and output is Format.TABLE:
            print("no traces yet: decisions, failed requests and one ordinary request in a hundred leave one")
            return
        emit(answer, output, lambda: _draw_list(answer))
        return
    wanted = asked
    if _VERSION.fullmatch(asked):
        wanted = _of_decision(asked, state_dir)
    elif _DRILL.fullmatch(asked):
        wanted = of_drill(ask(state_dir, None, lambda planes: DrillRegister(planes).one(asked)))
    whole, joined = asyncio.run(_whole(keeper, wanted, asked, alone=alone))
    emit({**whole, "joined_traces": joined}, output, lambda: _draw(whole, joined))


def keeper_url(state_dir: Path) -> str:
    """Where the stack's keeper answers. Raises Bad where its processes send their spans elsewhere, or the stack
    was started without one."""
    stack = Stack.find(state_dir).file
    keeper = next((record for record in stack.processes if record.kind is Kind.KEEPER), None)
    if keeper is None or keeper.url is None:
        raise Bad("this stack has no keeper to collect traces: `leeward down`, then `leeward up` again")
    elsewhere = next(filter(None, (_elsewhere(record, keeper.url) for record in stack.processes)), None)
    if elsewhere is not None:
        raise Bad(
            f"this stack sends its traces to {elsewhere}: look there, "
            "or start it without OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    return keeper.url


def _elsewhere(record: ProcessRecord, keeper: str) -> str | None:
    if record.kind is not Kind.EDGE:
        return None
    endpoints = (record.env.get(name) for name in ENDPOINT_VARIABLES)
    return next((endpoint for endpoint in endpoints if endpoint and endpoint != keeper), None)


def _of_decision(version: str, state_dir: Path) -> str:
    """The trace id that a decision's documents name."""

    async def question(planes: ControlPlanes) -> Any:
        return await planes.get(f"/v1/decisions/{Version.parse(version)}")

    try:
        answer = ask(state_dir, None, question)
    except Refused as refused:
        raise Bad(f"decision {version}: {refused}") from None
    found = trace_of(answer)
    if found is None:
        raise Bad(f"decision {version} names no trace")
    return found


def of_drill(drill: Drill) -> str:
    """The trace of the decision that left what the drill struck. Raises Bad."""
    if drill.report is None:
        raise Bad(f"drill {drill.id} is {drill.state} and has no report: its trace is known when it is over")
    if drill.report.trace_id is None:
        raise Bad(
            f"no decision left what {drill.id} struck, so it names no trace: `leeward trace --kind drill`"
        )
    return drill.report.trace_id


async def _whole(
    keeper: str, wanted: str, asked: str, *, alone: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    whole = await _get(keeper, f"/traces/{quote(wanted, safe='')}", asked=asked)
    joined = []
    for other in whole["joined"][: 0 if alone else MAX_JOINED]:
        try:
            joined.append(await _get(keeper, f"/traces/{other['trace_id']}"))
        except OpsError:
            continue  # it gave way meanwhile
    return whole, joined


async def _get(keeper: str, path: str, *, asked: str = "") -> Any:
    async with open_client() as client:
        try:
            answer = await client.get(keeper + path)
        except httpx2.HTTPError as error:
            raise Unreachable(
                f"the keeper does not answer at {keeper} ({type(error).__name__}): `leeward start keeper`"
            ) from None
    if answer.status_code == 404 and asked:
        raise Bad(
            f"no trace of {asked} is kept: it may be too old, its spans may need a second to arrive, or it was an "
            "ordinary request that was not sampled (send `traceparent: 00-<32 hex>-<16 hex>-01` to have one traced)"
        )
    return ControlPlanes.judged(answer)


def _draw(whole: dict[str, Any], joined: list[dict[str, Any]]) -> Any:
    from ops import waterfall

    return waterfall.drawn(whole, joined)


def _draw_list(answer: dict[str, Any]) -> Any:
    from ops import waterfall

    return waterfall.listing(answer)
