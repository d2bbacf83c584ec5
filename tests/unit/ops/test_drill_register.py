"""The control plane's record of drills as the command line and runners ask it, over the API itself."""

from collections.abc import AsyncIterator, Iterator
from io import StringIO
from typing import Any

import httpx2
import pytest
from rich.console import Console
from typer.testing import CliRunner

from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from control_plane.core.cron import next_after
from ops.cli import app
from ops.cli.drill_schedule import _history, _scheduled, ordered
from ops.cli.trace import of_drill
from ops.client import ControlPlanes, DrillRegister, Refused
from ops.errors import Bad, Usage
from shared.vocabulary.drill import DrillEnd, DrillRequest, Progress, RunnerWord
from shared.vocabulary.drill_list import DrillBrief, DrillList, ScheduleOrder, ScheduleReport
from tests.support.still_drills import NOW, PAGE, REPORT, SPEC, drill, running
from tests.support.still_replica import LISTEN, StillReplica

ASKED = DrillRequest(name="region-outage", region="east", author="ann", reason="before the launch")


@pytest.fixture
def replica() -> StillReplica:
    return StillReplica()


@pytest.fixture
async def register(replica: StillReplica) -> AsyncIterator[DrillRegister]:
    transport = httpx2.ASGITransport(app=build(replica, hosts=own_hosts("127.0.0.1", 7100, None)))
    async with httpx2.AsyncClient(transport=transport) as client:
        yield DrillRegister(ControlPlanes(client, [f"http://{LISTEN}"]))


async def test_every_call_of_a_runner_is_understood(register: DrillRegister) -> None:
    """From the request to the report."""
    assert (await register.request(ASKED)).id == "drill-24"
    assert (await register.claim("drill-23", "cli-1")).runner == "cli-1"
    told = await register.progress("drill-23", RunnerWord(runner="cli-1", progress=Progress(requests=7)))
    assert (told.progress.requests, told.stop) == (7, None)
    end = DrillEnd(runner="cli-1", progress=Progress(), report=REPORT, html="<p>")
    assert (await register.finish("drill-23", end)).state == "PASSED"


async def test_every_call_of_an_operator_is_understood(
    register: DrillRegister, replica: StillReplica
) -> None:
    """Looking, aborting, scheduling."""
    known = await register.all()
    assert [each.id for each in known.drills] == ["drill-23", "drill-9"]
    assert (await register.one("drill-9")).report == REPORT
    assert await register.page("drill-9") == PAGE.decode()
    assert await register.catalogue() == (SPEC,)
    assert await register.due() == []
    replica.drills.running = drill(23)
    assert [each.id for each in await register.due()] == ["drill-23"]
    stopped = await register.abort("drill-23", author="bob", reason="an outage")
    assert stopped.stop is not None
    made = await register.schedule(ScheduleOrder(id="nightly", cron="0 3 * * *", request=ASKED))
    assert (made.id, made.request) == ("nightly", ASKED)
    await register.unschedule("weekly", author="bob", reason="enough")


async def test_a_no_is_told_in_the_replicas_words(register: DrillRegister) -> None:
    """With its status, by which a runner knows that it must end."""
    with pytest.raises(Refused, match=r"drill 'drill-23' \(region-outage, of ann") as busy:
        await register.request(ASKED.model_copy(update={"region": "west"}))
    assert busy.value.status == 409
    with pytest.raises(Refused) as gone:
        await register.progress("drill-99", RunnerWord(runner="cli-1", progress=Progress()))
    assert gone.value.status == 404


# ---------------------------------------------------------------- the command line


def printed(table: Any) -> str:
    """In a terminal of a hundred columns."""
    into = StringIO()
    Console(file=into, width=100, color_system=None).print(table)
    return into.getvalue()


def lines(text: str) -> Iterator[str]:
    return (line.rstrip() for line in text.splitlines())


def test_the_history_says_what_came_of_each_and_what_stands_in_the_way() -> None:
    """In a hundred columns."""
    passed = running(9, state="PASSED", ended_at=NOW, report=REPORT)
    lost = running(8, state="ABORTED", note="its runner is gone")
    shown = [DrillBrief.of(each) for each in (running(23), passed, lost)]
    known = DrillList(
        enabled=False, blocked="drills are switched off", active="drill-23", drills=tuple(shown), schedules=()
    )
    text = printed(_history(known, shown))
    assert all(len(line) <= 100 for line in lines(text))
    for word in ("drill-23", "RUNNING", "preparing", "PASSED", "950 ms", "100.00%", "its runner is gone"):
        assert all(part in text for part in word.split()), (word, text)
    assert "none may begin now: drills are switched off" in text
    assert "no drill is on record" in printed(_history(known, []))


def test_the_history_says_why_it_failed() -> None:
    """The first failure of the report, where no note says more."""
    report = REPORT.model_copy(update={"outcome": "FAILED", "failures": ("nobody leads", "and more")})
    assert DrillBrief.of(running(9, state="FAILED", report=report)).note == "nobody leads"
    assert DrillBrief.of(running(9, state="PASSED", report=REPORT)).note == ""


def test_a_drill_names_its_trace() -> None:
    """That of the decision which left what it struck; without one it says so."""
    traced = REPORT.model_copy(update={"trace_id": "ab" * 16})
    assert of_drill(running(9, state="PASSED", report=traced)) == "ab" * 16
    with pytest.raises(Bad, match="drill-23 is RUNNING and has no report"):
        of_drill(running(23))
    untraced = REPORT.model_copy(update={"trace_id": None})
    with pytest.raises(Bad, match="no decision left what drill-9 struck"):
        of_drill(running(9, state="FAILED", report=untraced))


def test_a_schedule_is_shown_with_its_next_time() -> None:
    """Or that there is none."""
    order = ScheduleOrder(id="weekly", cron="0 3 * * 1", request=ASKED)
    made = {"id": "weekly", "cron": order.cron, "request": ASKED, "created_at": NOW, "last_word": "drill-9"}
    report = ScheduleReport.model_validate({"schedule": made, "next_at": next_after(order.cron, NOW)})
    text = printed(_scheduled([report]))
    for word in ("weekly", "0 3 * * 1", "region-outage", "east", "2030-01-07 03:00", "drill-9"):
        assert word in text
    assert "no drill is scheduled" in printed(_scheduled([]))


def test_what_is_typed_wrongly_is_named_by_its_option() -> None:
    """Before anybody is asked."""
    asked = {"name": "region-outage", "region": "Mars", "author": "ann", "reason": ""}
    with pytest.raises(Usage) as wrong:
        ordered({"id": "My Weekly", "cron": "0 3 * * 1", "request": asked})
    assert [line.partition(":")[0] for line in str(wrong.value).splitlines()] == [
        "NAME",
        "--region",
        "--reason",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cron", "0 3 * *", "--drill", "region-outage"], "--cron: '0 3 * *' has 4 fields"),
        (["--cron", "0 3 31 2 *", "--drill", "region-outage"], "--cron"),
        (["--cron", "0 3 * * 1", "--drill", "flood"], "no drill 'flood'"),
    ],
)
def test_a_schedule_that_makes_no_sense_asks_nobody(arguments: list[str], said: str) -> None:
    """Usage, with what to write."""
    command = [
        "drill",
        "schedule",
        "add",
        "weekly",
        *arguments,
        "--reason",
        "x",
        "--url",
        "http://127.0.0.1:1",
    ]
    result = CliRunner().invoke(app.build(), command)
    assert isinstance(result.exception, Usage)
    assert said in str(result.exception)
