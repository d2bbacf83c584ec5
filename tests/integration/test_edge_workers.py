"""An edge with two workers, as real processes: one edge to everybody outside, and nothing left of it afterwards."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.vocabulary.base import canonical_json
from shared.vocabulary.config import ClientKey, Fleet, FleetConfig
from shared.vocabulary.decision import Ack
from tests.support.data_path import (
    CALL,
    DONE,
    END,
    STREAM,
    STREAM_HEAD,
    Answer,
    Client,
    Conversation,
    Target,
    World,
    answer,
    chunk,
    delta,
    fleet_of,
    request,
    until,
)
from tests.support.edge_process import EdgeProcess, edge_process, kill, runs
from tests.support.edge_worlds import ToyControlPlane, fleet
from tests.support.processes import HOST
from tests.support.processes import until as eventually
from tests.support.toy_replica import ToyReplica

pytestmark = pytest.mark.timeout(90)


@asynccontextmanager
async def before(target: Target, *arguments: str, **how: object) -> AsyncIterator[EdgeProcess]:
    """An edge with two workers, which serve, in front of `target`."""
    await target.start()
    fleet = fleet_of({"a": target.port}, World())
    try:
        async with edge_process(fleet, *arguments, workers=2, **how) as edge:  # type: ignore[arg-type]
            await edge.until_serving(2)
            yield edge
    finally:
        await target.stop()


async def by_both(edge: EdgeProcess, *, each: int = 3) -> list[Answer]:
    """Answers to requests on connections of their own, until each worker has given some. A worker begins its
    request ids with a random word of its own."""
    answers: list[Answer] = []
    for _ in range(200):
        answers.append(await edge.ask(CALL))
        given = [answer.fields["x-leeward-request-id"].split("-")[0] for answer in answers]
        if len(set(given)) == 2 and min(given.count(word) for word in set(given)) >= each:
            return answers
    raise AssertionError("one worker answers everything")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


async def test_two_workers_are_one_edge() -> None:
    """Metrics, passive windows and `/status` tell of both workers together; SIGTERM ends them all, ports free."""
    lost = {"secret": "env:LEEWARD_TEST_NO_SUCH_SECRET", "origins": ["https://api.example"]}
    async with before(Target(), credentials={"lost": lost}) as edge:
        assert [alarm["code"] for alarm in (await edge.status())["alarms"]] == ["CREDENTIAL_MISSING"]
        answers = await by_both(edge)
        assert {one.status for one in answers} == {200}
        sent = len(answers)
        assert await edge.metric("leeward_edge_requests_total", route="chat", status="2xx") == sent
        assert await edge.metric("leeward_edge_request_seconds_count", route="chat") == sent
        assert await edge.metric("leeward_edge_attempts_total", target="a", outcome="OK") == sent
        assert await edge.metric("leeward_edge_mode") == 1.0
        assert await edge.metric("leeward_edge_admission", target="a") == 1.0
        assert await edge.metric("leeward_edge_worker_up") == 2

        async def told() -> bool:
            windows = (await edge.status())["targets"]
            return [(one["target"], one["counts"], one["judged"]) for one in windows] == [
                ("a", {"OK": sent}, sent)
            ]

        await eventually(told, within_s=5.0, what="the windows do not add up")
        pids = edge.seen_pids | {edge.child.pid}
        assert len(pids) == 3
        kill(edge.child.pid, signal.SIGTERM)
        await edge.until_gone(pids)
        assert is_free(edge.port)


async def test_a_drills_fault_strikes_in_every_worker() -> None:
    """What is put at the admin listener fails attempts everywhere, is counted once, and ends everywhere."""
    async with before(Target(), fault_filter=True) as edge:
        order = {"fault": "errors", "status": 503, "targets": ["a"], "for_s": 60}
        async with edge.session.put(f"{edge.admin}/faults/f1", json=order) as response:
            assert response.status == 201
        answers = await by_both(edge, each=2)
        assert {one.status for one in answers} == {503}
        struck = sum(int(one.fields["x-leeward-attempts"]) for one in answers)

        async def counted() -> bool:
            return [fault["struck"] for fault in (await edge.status())["fault_filter"]] == [struck]

        await eventually(counted, within_s=5.0, what="attempts struck are not counted")
        assert await edge.metric("leeward_edge_fault_filter_faults") == 1.0
        async with edge.session.delete(f"{edge.admin}/faults/f1") as response:
            assert response.status == 200

        async def over() -> bool:
            return {one.status for one in await by_both(edge, each=2)} == {200}

        await eventually(over, within_s=10.0, what="the fault is still in force somewhere")


async def test_a_target_that_throttles_one_worker_is_spared_by_both() -> None:
    """One 429, and nobody asks it again before its time, whichever worker a request comes to."""
    busy, other = Target(answer(status="429 Too Many Requests", fields="retry-after: 60\r\n")), Target()
    await busy.start()
    await other.start()
    whole = fleet_of({"busy": busy.port, "other": other.port}, World())
    async with edge_process(whole, workers=2) as edge:
        await edge.until_serving(2)
        assert (await edge.ask(CALL)).fields["x-leeward-target"] == "other"
        assert len(busy.seen) == 1

        async def told() -> bool:
            return [worker["cooling"] for worker in await edge.workers()] == [1, 1]

        await eventually(told, within_s=5.0, what="the cooling is not told")
        assert {one.fields["x-leeward-target"] for one in await by_both(edge)} == {"other"}
        assert len(busy.seen) == 1
    await busy.stop()
    await other.stop()


def with_a_key(cp: ToyControlPlane, target: int) -> None:
    """Its next configuration: targets at that port, and the client key that tests use."""
    cp.config_version += 1
    key = ClientKey.model_validate(fleet_of({"a": target}, World()).client_keys[0].model_dump())
    whole = fleet(port=target).model_copy(update={"client_keys": (key,)})
    config = FleetConfig(config_version=cp.config_version, fleet=whole)
    cp.configs.append(canonical_json(config.model_dump(mode="json")))


async def test_what_is_acknowledged_is_served_by_all_and_a_wedged_parent_is_outlived() -> None:
    """Every answer after an ack has its version or a later one, on kept connections and on new ones. While the
    parent is stopped, its workers serve on and grow old: STALE, then STATIC; nobody is ended for its silence."""
    target, cp = Target(), ToyControlPlane()
    await target.start()
    with_a_key(cp, target.port)
    cp.commit()
    timings = {"fresh_s": 1.2, "static_s": 2.4, "beat_s": 0.1, "etcd_beat_s": 0.1, "round_s": 0.2}
    async with ToyReplica(cp).running() as replica:
        seed = Fleet.model_validate_json(json.dumps(json.loads(cp.configs[-1])["fleet"]))
        here = {"control_planes": [replica.url], "workers": 2, "timings": timings}
        async with edge_process(seed, **here) as edge:  # type: ignore[arg-type]
            await edge.until_serving(2)
            clients = [await client for client in [_connected(edge) for _ in range(6)]]

            async def fresh() -> bool:
                await replica.beat()
                return {(await client.ask()).fields["x-leeward-mode"] for client in clients} == {"FRESH"}

            for _ in range(12):
                cp.commit("chat", first="alpha-us-east" if cp.seq % 2 else "beta-eu-west")
                await replica.tell_newest()
                await until(lambda: any(_is_of(ack, cp) for ack in replica.acks))
                answers = [await client.ask() for client in clients]
                answers += [await edge.ask(CALL) for _ in range(4)]
                assert {one.fields["x-leeward-decision"] for one in answers} == {str(cp.version)}
            await eventually(fresh, within_s=10.0, what="never FRESH")
            await no_ack_before_the_slowest(edge, cp, replica)
            await eventually(fresh, within_s=10.0, what="never FRESH")
            kill(edge.child.pid, signal.SIGSTOP)
            try:
                for mode in ("STALE", "STATIC"):

                    async def aged(mode: str = mode) -> bool:
                        answers = [await client.ask() for client in clients]
                        assert {one.status for one in answers} == {200}
                        return {one.fields["x-leeward-mode"] for one in answers} == {mode}

                    await eventually(aged, within_s=10.0, what=f"never {mode}")
            finally:
                kill(edge.child.pid, signal.SIGCONT)
            await eventually(fresh, within_s=10.0, what="never FRESH again")
            assert [worker["restarts"] for worker in await edge.workers()] == [0, 0]
            for client in clients:
                client.writer.transport.abort()
    await target.stop()


async def no_ack_before_the_slowest(edge: EdgeProcess, cp: ToyControlPlane, replica: ToyReplica) -> None:
    """While one worker lags behind, what the other serves already is not acknowledged."""
    slowest = (await edge.workers())[0]["pid"]
    kill(slowest, signal.SIGSTOP)
    try:
        cp.commit("chat")
        await replica.tell_newest()

        async def other_serves() -> bool:
            return str(cp.version) in {worker["decision"] for worker in await edge.workers()}

        await eventually(other_serves, within_s=3.0, what="the other worker does not serve it")
        status = await edge.status()
        assert status["decision"] != str(cp.version)
        assert {worker["decision"] for worker in status["workers"]} == {status["decision"], str(cp.version)}
        assert not any(_is_of(ack, cp) for ack in replica.acks)
    finally:
        kill(slowest, signal.SIGCONT)
    await until(lambda: any(_is_of(ack, cp) for ack in replica.acks))
    assert slowest in {worker["pid"] for worker in await edge.workers()}


async def _connected(edge: EdgeProcess) -> Client:
    return Client(*await asyncio.open_connection(HOST, edge.port, limit=2**20))


def _is_of(ack: Ack, cp: ToyControlPlane) -> bool:
    return (ack.generation, ack.seq) == cp.version


async def slow(conversation: Conversation) -> None:
    """An answer that takes a while."""
    await asyncio.sleep(0.05)
    await conversation.send(answer())


async def test_a_worker_that_dies_costs_what_was_under_way_in_it_and_comes_back() -> None:
    """kill -9 under load: as many requests fail as it had under way; nobody else's do, and no counter falls. One
    that is stopped is found out, ended and started again too."""
    async with before(Target(slow), timings={"worker_silent_s": 1.0}) as edge:
        done = failed = 0
        stop = asyncio.Event()

        async def load() -> None:
            nonlocal done, failed
            while not stop.is_set():
                answered = 0
                try:
                    async with edge.client() as client:
                        while not stop.is_set():
                            one = await client.ask()
                            answered += one.status == 200 and one.clean
                            done += one.status == 200 and one.clean
                except (ConnectionError, asyncio.IncompleteReadError):
                    # A connection made while the kernel still takes the dead one apart was never anybody's.
                    failed += answered > 0

        loads = [asyncio.create_task(load()) for _ in range(16)]
        try:
            await until(lambda: done >= 100)
            counted = await edge.metric("leeward_edge_requests_total")

            async def all_told() -> bool:
                return sum(worker["connections"] for worker in await edge.workers()) == len(loads)

            await eventually(all_told, within_s=5.0, what="connections are not all told")
            victim = max(await edge.workers(), key=lambda worker: worker["connections"])
            assert victim["connections"] > 0
            kill(victim["pid"])
            await edge.until_gone({victim["pid"]})
            await until(lambda: failed == victim["connections"])
            at_death = done
            await until(lambda: done >= at_death + 100)
            assert failed == victim["connections"]
            assert await edge.metric("leeward_edge_requests_total") >= counted
            await edge.until_serving(2)
            assert await edge.metric("leeward_edge_worker_restarts_total") == 1
        finally:
            stop.set()
            await asyncio.gather(*loads)
        hung = (await edge.workers())[0]["pid"]
        kill(hung, signal.SIGSTOP)
        await edge.until_gone({hung})
        await edge.until_serving(2)
        assert {one.status for one in await by_both(edge)} == {200}


async def talk(conversation: Conversation) -> None:
    """A stream that takes half a second."""
    await conversation.send(STREAM_HEAD)
    for number in range(10):
        await conversation.send(chunk(delta(f"w{number}")), pause_s=0.05)
    await conversation.send(chunk(delta(finish="stop")), chunk(DONE), END)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_streams_under_way_are_finished_whatever_ends_the_parent(end: signal.Signals) -> None:
    """On SIGTERM, and when the parent is killed: no more is accepted, streams are finished, and then nothing of the
    edge is left. A worker that was stopped is woken by its parent's death."""
    async with before(Target(talk)) as edge:
        clients = [await _connected(edge) for _ in range(8)]
        for client in clients:
            client.write(request(STREAM))
        for client in clients:
            await client.reader.readuntil(b"w1")
        if end is signal.SIGKILL:
            kill((await edge.workers())[0]["pid"], signal.SIGSTOP)
        kill(edge.child.pid, end)
        for client in clients:
            rest = await asyncio.wait_for(client.reader.read(), 15.0)
            assert rest.endswith(DONE + b"\r\n0\r\n\r\n"), rest[-200:]
        await edge.until_gone(edge.seen_pids | ({edge.child.pid} if end is signal.SIGTERM else set()))
        assert not any(runs(pid) for pid in edge.seen_pids)
        assert is_free(edge.port)


async def test_an_address_in_use_is_said_and_nothing_is_left() -> None:
    """Workers share their address with each other, and with nobody else."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((HOST, 0))
        taken.listen()
        listen = f"{HOST}:{taken.getsockname()[1]}"
        async with edge_process(fleet_of({"a": 9}, World()), "--workers", "2", listen=listen) as edge:
            await until(lambda: not edge.child.alive, timeout_s=30.0)
            assert "cannot start" in edge.child.last_lines()
            assert "in use" in edge.child.last_lines()
