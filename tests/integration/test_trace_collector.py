"""The keeper's collector and `leeward trace`: what the SDK sends is drawn, and what nobody should send is refused."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from typer.testing import CliRunner

from ops.cli.app import build
from ops.keeper import traces
from ops.keeper.ring import Ring
from ops.local.processes import Kind, ProcessRecord
from ops.local.stack import Stack, StackFile
from shared.adapters.otel import telemetry_from_env
from shared.admin import MAX_BODY_BYTES, no_browsers
from tests.support.otlp import OtlpReceiver


@asynccontextmanager
async def keeper() -> AsyncIterator[str]:
    """The collector as the keeper hosts it; yields its URL."""
    app = web.Application(middlewares=[no_browsers], client_max_size=MAX_BODY_BYTES)
    traces.install(app, Ring())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


async def export(url: str, monkeypatch: pytest.MonkeyPatch, *, spans: int = 0) -> tuple[str, str]:
    """A decision's trace and a probe's that it is linked to, sent by the SDK; their ids."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip" if spans else "none")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    telemetry = telemetry_from_env(service="leeward-control-plane", node="control-plane-1", region="us-east")
    with telemetry.span("probe", kind="client", attributes={"leeward.target": "beta"}) as probe:
        probe.fail("connect ECONNREFUSED")
    with telemetry.span("probe", kind="client") as first:
        pass
    with telemetry.span("decide", parent=first.traceparent, links=[probe.traceparent]) as decide:
        decide.set(leeward__decision="1.2")
        with telemetry.span("commit", parent=decide.traceparent):
            pass
    for _ in range(spans):
        with telemetry.span("apply", parent=decide.traceparent) as apply:
            apply.set(filling="x" * 1000)
    await telemetry.close()
    return decide.traceparent[3:35], probe.traceparent[3:35]


async def get(url: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.json(content_type=None)


async def post(url: str, body: bytes, **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/traces", data=body, headers=headers) as answer,
    ):
        return answer.status


async def test_what_the_sdk_sends_can_be_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole: parents, links either way, errors, attributes; in the list under its kind."""
    async with keeper() as url:
        decision, probe = await export(url, monkeypatch)
        status, told = await get(f"{url}/traces?kind=decision")
        assert (status, [trace["trace_id"] for trace in told["traces"]]) == (200, [decision])
        assert (
            told["traces"][0].items() >= {"decision": "1.2", "root": "probe", "spans": 3, "failed": 0}.items()
        )
        _, whole = await get(f"{url}/traces/{decision[:8]}")
        spans = {span["name"]: span for span in whole["all"]}
        assert spans["commit"]["parent_id"] == spans["decide"]["span_id"]
        assert spans["decide"]["attributes"]["leeward.decision"] == "1.2"
        assert spans["decide"]["node"] == "control-plane-1"
        assert [joined["trace_id"] for joined in whole["joined"]] == [probe]
        _, failed = await get(f"{url}/traces/{probe}")
        assert failed["all"][0]["status"] == "connect ECONNREFUSED"
        assert [joined["trace_id"] for joined in failed["joined"]] == [decision]


async def test_large_exports_in_gzip_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far beyond what the keeper's other requests may weigh."""
    async with keeper() as url:
        decision, _ = await export(url, monkeypatch, spans=600)
        _, whole = await get(f"{url}/traces/{decision}")
    assert whole["spans"] == 603


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"not protobuf at all", "application/x-protobuf", 400),
        (b"\x1f\x8bdamaged", "application/x-protobuf", 400),
        (gzip.compress(bytes(17 * 2**20)), "application/x-protobuf", 400),
        (b"{}", "application/json", 415),
        (b"", "application/x-protobuf", 200),
    ],
)
async def test_what_is_no_export_is_refused(body: bytes, kind: str, status: int) -> None:
    """With a status that the exporter does not try again."""
    async with keeper() as url:
        assert await post(url, body, **{"content-type": kind}) == status
        assert (await get(f"{url}/traces"))[1]["traces"] == []
        assert (await get(f"{url}/traces/abcdef00"))[0] == 404
        assert (await get(f"{url}/traces?kind=nonsense"))[0] == 400
        assert (await get(f"{url}/traces?limit=0"))[0] == 400


async def test_a_web_page_may_not_send_spans() -> None:
    """As with all that the keeper takes."""
    async with keeper() as url:
        headers = {"content-type": "application/x-protobuf", "origin": "http://evil.example"}
        assert await post(url, b"", **headers) == 403


async def test_the_command_draws_and_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By id and by its beginning, with the joined trace; as JSON for scripts."""
    async with keeper() as url:
        decision, probe = await export(url, monkeypatch)
        stack(tmp_path, url)
        drawn = await leeward(tmp_path, "trace", decision[:10])
        assert drawn.exit_code == 0, drawn.output
        assert "└ decide 1.2" in drawn.output
        assert f"joined by a link: {probe}" in drawn.output
        assert (
            f"joined by a link: {probe}" not in (await leeward(tmp_path, "trace", decision, "--alone")).output
        )
        listed = await leeward(tmp_path, "trace")
        assert decision in listed.output
        assert probe in listed.output
        assert probe not in (await leeward(tmp_path, "trace", "--kind", "decision")).output
        whole = json.loads((await leeward(tmp_path, "trace", decision, "-o", "json")).output)
        assert [span["name"] for span in whole["all"]] == ["probe", "decide", "commit"]
        assert whole["joined_traces"][0]["trace_id"] == probe
        unknown = await leeward(tmp_path, "trace", "ffffffff")
        assert (unknown.exit_code, "no trace of ffffffff is kept" in str(unknown.exception)) == (1, True)


async def test_the_command_says_why_there_is_nothing_to_draw(tmp_path: Path) -> None:
    """Nobody answers; traces go elsewhere; the stack has no keeper; there is no stack."""
    cases = [
        ({"url": "http://127.0.0.1:9"}, 3, "the keeper does not answer"),
        (
            {"url": "http://127.0.0.1:9", "endpoint": "http://jaeger:4318"},
            1,
            "sends its traces to http://jaeger",
        ),
        ({"url": None}, 1, "no keeper"),
    ]
    for number, (fields, code, words) in enumerate(cases):
        where = tmp_path / str(number)
        where.mkdir()
        stack(where, **fields)  # type: ignore[arg-type]
        said = await leeward(where, "trace")
        assert getattr(said.exception, "exit_code", None) == code
        assert words in str(said.exception)
    said = await leeward(tmp_path / "nowhere", "trace", "abcdef")
    assert getattr(said.exception, "exit_code", None) == 2


async def test_a_backend_that_is_away_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Spans are dropped, one line says so, and closing takes no longer than its bound."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    telemetry = telemetry_from_env(service="leeward-edge", node="edge-1", region="us-east")
    for _ in range(100):
        telemetry.begin("apply").end()
    async with asyncio.timeout(5.0):
        await telemetry.close()
    assert capfd.readouterr().err.count("Traceback") == 0


async def test_the_receiver_of_the_tests_is_a_backend_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same export, at the collector that the other tests believe."""
    async with OtlpReceiver() as receiver:
        decision, _ = await export(receiver.endpoint, monkeypatch)
    assert {span.name for span in receiver.spans if span.trace_id == decision} == {
        "probe",
        "decide",
        "commit",
    }


def stack(state_dir: Path, url: str | None, endpoint: str | None = None) -> None:
    """A stack on file whose keeper is at `url`."""

    def record(kind: Kind, **more: Any) -> ProcessRecord:
        return ProcessRecord(
            id=kind.value, kind=kind, region="local", argv=("x",), cwd="/", log="/x", ports={}, **more
        )

    processes = [record(Kind.EDGE, env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint or url or ""})]
    if url is not None:
        processes.append(record(Kind.KEEPER, url=url))
    file = StackFile(
        state="running",
        detached=True,
        port_base=7000,
        regions=("us-east",),
        simulated=True,
        fleet_sha="0" * 64,
        processes=tuple(processes),
    )
    Stack(state_dir).write(file)


async def leeward(state_dir: Path, *words: str) -> Any:
    """The command line, in a thread: it has an event loop of its own."""
    arguments = [*words, "--state-dir", str(state_dir)]
    return await asyncio.to_thread(CliRunner().invoke, build(), arguments)
