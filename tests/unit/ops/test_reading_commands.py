"""Reading for the person on call: what shapes the traffic, `top`, and `--watch`."""

import io
import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from ops import render
from ops.cli.app import build
from ops.cli.failures import reported
from ops.cli.output import Format
from ops.cli.reading import known_urls, timeline
from ops.cli.top import Keys
from ops.cli.watching import shown, spelled_out
from ops.client import ControlPlanes
from ops.errors import Bad, OpsError, Unreachable, Usage
from ops.glance import Glancer, plain
from ops.leading import NO_ETCD
from ops.local.stack import DEFAULT_STATE_DIR
from ops.render import WIDTH
from ops.render_top import Room, top
from ops.shaping import Shaping, left, said, shaping, what
from ops.status import of_url
from shared.vocabulary.view import HealthView, PassiveSummary, RouteTraffic
from tests.unit.ops import top_worlds as worlds

DRILL = {"id": "drill-9", "drill": "region-outage", "region": "eu-west", "state": "RUNNING", "phase": "fault", "author": "ann"}  # fmt: skip
ROLLOUT = {
    "rollout": {"id": "ro-2", "state": "RUNNING", "spec": {"targets": ["alpha-2"], "route": "chat"}},
    "permille": 200,
}


def planes(answers: Mapping[str, Any], asked: list[str] | None = None) -> ControlPlanes:
    """A replica that knows `answers`, by path."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        if asked is not None:
            asked.append(request.url.path)
        if request.url.path not in answers:
            return httpx2.Response(404, json={"title": "Not Found"})
        return httpx2.Response(200, json=answers[request.url.path])

    return ControlPlanes(httpx2.AsyncClient(transport=httpx2.MockTransport(handler)), ["http://one"])


def test_nothing_is_said_while_health_alone_decides() -> None:
    """No override, no rollout that runs, no drill."""
    ended = {**ROLLOUT, "rollout": {**ROLLOUT["rollout"], "state": "PROMOTED"}}  # type: ignore[dict-item]
    assert not list(said(Shaping(rollouts=[ended])))


def test_orders_are_one_line() -> None:
    """What takes away comes first, with who, which and how long; of many, how many more."""
    orders = [
        worlds.override(4, kind="weights", route="chat", weights={"a": 750, "b": 250}),
        worlds.override(3, kind="pin", route="chat", region="ap-south", clients="us-east"),
        worlds.override(2, kind="freeze", route="chat"),
        worlds.override(1, kind="drain", region="eu-west"),
    ]
    assert list(said(Shaping(overrides=orders))) == [
        (
            "operators shape the traffic: drain eu-west on all routes (drain-1 by ann, 29m50s left); "
            "freeze on chat (freeze-2 by ann, 29m50s left); "
            "pin chat to ap-south for clients in us-east (pin-3 by ann, 29m50s left); and 1 more, see leeward overrides"
        )
    ]
    assert what(orders[0]["spec"]) == "weights chat a=750 b=250"


def test_rollouts_and_drills_are_told_too() -> None:
    """And that nobody could be asked is not the same as that there is nothing."""
    assert list(said(Shaping(rollouts=[ROLLOUT], drill=DRILL))) == [
        "rollout ro-2 gives alpha-2 20 % of its tier on chat",
        "drill drill-9, region-outage in eu-west, is under way (fault), by ann: what fails may be meant",
    ]
    waiting = {**DRILL, "state": "DUE", "region": None}
    assert "drill-9, region-outage, waits for its runner" in next(iter(said(Shaping(drill=waiting))))
    assert "not known" in next(iter(said(Shaping(overrides=None))))


async def test_a_replica_that_knows_no_drills_hides_nothing() -> None:
    """Each question for itself: an older replica answers two of three."""
    overrides = [worlds.override(1, region="eu-west")]
    found = await shaping(
        planes({"/v1/overrides": {"overrides": overrides}, "/v1/rollouts": {"rollouts": []}})
    )
    assert (found.overrides, list(found.rollouts or ()), found.drill) == (overrides, [], None)
    nothing = await shaping(planes({}))
    assert nothing.overrides is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "-"), (59.6, "1m00s"), (894, "14m54s"), (7199, "1h59m"), (273_600, "3d04h")]
)
def test_time_left(seconds: float, text: str) -> None:
    """Two units, the greater first."""
    assert left(seconds) == text


def test_watch_may_stand_without_its_seconds() -> None:
    """`--watch` is every two seconds; what follows it is eaten only where no argument can be meant."""
    assert spelled_out(["--watch"], eats=True) == ["--watch=2"]
    assert spelled_out(["--watch", "5", "-o", "json"], eats=True) == ["--watch", "5", "-o", "json"]
    assert spelled_out(["--watch", "-o", "json"], eats=True) == ["--watch=2", "-o", "json"]
    assert spelled_out(["--watch=0.5"], eats=True) == ["--watch=0.5"]
    assert spelled_out(["--watch", "1.7"], eats=False) == ["--watch=2", "1.7"]
    assert spelled_out(["--", "--watch"], eats=False) == ["--", "--watch"]


@pytest.mark.parametrize(
    "arguments", [["status", "--watch", "0"], ["health", "--watch=soon"], ["explain", "--watch"]]
)
def test_watching_wrongly_is_two(arguments: list[str]) -> None:
    """Too often, no number, nothing to explain."""
    assert CliRunner().invoke(build(), arguments).exit_code == 2


def test_watching_prints_each_answer_until_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no terminal watches: one after another; the first failure ends it, as it would a script."""
    answers = iter([{"n": 1}, {"n": 2}])

    async def question() -> Any:
        try:
            return next(answers)
        except StopIteration:
            raise Unreachable("gone") from None

    with pytest.raises(Unreachable, match="gone"):
        shown(question, lambda answer: Text(str(answer)), output=Format.JSON, every_s=0.001)
    decoder, out = json.JSONDecoder(), capsys.readouterr().out
    first, end = decoder.raw_decode(out)
    assert [first, decoder.raw_decode(out[end:].lstrip())[0]] == [{"n": 1}, {"n": 2}]


def test_asking_once_gives_the_answers_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people, and the exit code of what it shows."""

    async def question() -> int:
        return 7

    assert (
        shown(question, lambda n: Text(f"got {n}"), code=lambda n: n, output=Format.TABLE, every_s=None) == 7
    )
    assert capsys.readouterr().out == "got 7\n"


@pytest.mark.parametrize("url", ["foo", "ftp://h:1", "http://", "http://h:99999", "http://h:0", "//h"])
def test_an_address_that_is_none_is_wrong_usage(url: str) -> None:
    """Nobody is asked, and the message shows how it is written."""
    with pytest.raises(Usage, match="write http://HOST:PORT"):
        known_urls(DEFAULT_STATE_DIR, url)
    assert known_urls(DEFAULT_STATE_DIR, "http://h:7100/") == ["http://h:7100"]


@pytest.mark.parametrize(
    ("failure", "code", "said_"),
    [
        (FileNotFoundError(2, "No such file or directory", "/nosuch/x"), 2, "/nosuch/x: no such file or directory"),
        (NotADirectoryError(20, "Not a directory", "/x/y"), 2, "/x/y: not a directory"),
        (OSError(28, "No space left on device", "/x"), 1, "/x: no space left on device"),
        (OSError("odd"), 1, "odd"),
        (Bad("worse"), 1, "worse"),
    ],
)  # fmt: skip
def test_what_the_system_refused_is_said_in_words(
    failure: Exception, code: int, said_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No numbers of the system's; a path that leads nowhere is wrong usage, a full disk is not."""

    def command() -> int:
        raise failure

    assert reported(command) == code
    assert capsys.readouterr().err == f"leeward: {said_}\n"


def fleet() -> dict[str, Any]:
    """What a replica answers to all that `top` asks."""
    view: HealthView = worlds.view(3)
    seen = [
        PassiveSummary(region=r, attempts=5, counts={}, inflight=4, failing=False) for r in worlds.REGIONS[:2]
    ]
    busy = view.targets[0].model_copy(update={"passive": tuple(seen)})
    loads = (
        RouteTraffic(
            route="chat", region=worlds.REGIONS[0], inflight=1, requests=100, failed=2, window_s=10.0
        ),
        RouteTraffic(
            route="embed", region=worlds.REGIONS[0], inflight=1, requests=100, failed=0, window_s=5.0
        ),
    )
    view = view.model_copy(update={"targets": (busy, *view.targets[1:]), "loads": loads})
    edge = {
        "region": worlds.REGIONS[0], "mode": "FRESH", "silent": False, "decision": "123.4567890", "behind": 0,
        "beat_age_s": 0.4, "applied_at": "2030-01-01T12:00:00.031000Z",
    }  # fmt: skip
    other = edge | {"region": worlds.REGIONS[1], "silent": True, "decision": "1.1"}
    return {
        "/v1/health": view.model_dump(mode="json"),
        "/v1/leader": {"leader": None, "beat_age_s": None},
        "/v1/edges": {
            "head": "123.4567890",
            "edges": [edge | {"id": "a"}, other | {"id": "b"}, other | {"id": "c", "silent": False}],
        },
        "/v1/decisions": {"decisions": [worlds.commit(0)]},
        "/v1/overrides": {"overrides": [worlds.override(1, region="eu-west")]},
        "/v1/rollouts": {"rollouts": [ROLLOUT]},
        "/v1/drills": {"active": "drill-9", "drills": [DRILL]},
        "/v1/config": {
            "fleet": {
                "targets": [{"id": busy.id, "capacity_inflight": 128}, {"id": "x", "capacity_inflight": None}]
            }
        },
    }


async def test_a_glance_puts_together_what_replicas_know() -> None:
    """Requests per second by region, what is under way of each capacity, how late an edge applied; the
    configuration is read again only when it has changed."""
    asked: list[str] = []
    answers = fleet()
    glancer = Glancer(planes(answers, asked))
    found = await glancer.look()
    busy = worlds.TARGETS[0]
    assert (found.inflight[busy], found.capacity) == (8, {busy: 128})
    traffic = found.traffic[worlds.REGIONS[0]]
    assert (traffic.requests_per_s, traffic.failed_permille) == (30.0, 10)
    first, second, third = found.edges
    assert (first.mode, first.lag_ms, first.requests_per_s) == ("FRESH", 31, 30.0)
    assert (second.mode, second.lag_ms, second.requests_per_s) == ("silent", None, None)
    assert third.mode == "FRESH"
    await glancer.look()
    assert asked.count("/v1/config") == 1
    answers["/v1/health"]["config_version"] += 1
    await glancer.look()
    assert asked.count("/v1/config") == 2
    told = plain(found)
    assert json.loads(json.dumps(told)) == told
    assert (told["drill"]["id"], told["overrides"][0]["id"], told["targets"][0]["inflight"]) == (
        "drill-9",
        "drain-1",
        8,
    )


async def test_top_does_not_take_a_name_on_record_for_a_leader() -> None:
    """A Beat too old, or the leader itself that denies it; and an edge that is silent for 3 s is not FRESH."""
    answers = fleet()
    led = {"id": "cp-a", "region": "east", "epoch": 4, "url": None}
    said = {"leader": led, "replica": "cp-b", "role": "follower", "beat_age_s": 4.0}
    answers["/v1/leader"] = said
    answers["/v1/edges"]["edges"][0]["last_ack_age_s"] = 3.1
    found = await Glancer(planes(answers)).look()
    assert (found.leader, found.etcd_answers) == (led, True)
    assert found.edges[0].mode == "no answer"
    answers["/v1/leader"] = said | {"beat_age_s": 15.1}
    lost = await Glancer(planes(answers)).look()
    shown_ = printed(top(lost, Room()))
    assert "nobody leads (last: cp-a)" in shown_
    assert NO_ETCD in shown_
    assert (plain(lost)["leader"], plain(lost)["etcd_answers"]) == (None, False)
    answers["/v1/leader"] = said | {"replica": "cp-a"}
    assert (await Glancer(planes(answers)).look()).leader is None


async def test_status_of_one_replica_takes_its_role_from_its_own_word() -> None:
    """A leader that lost its term says so, though its name is still on record."""
    led = {"id": worlds.name("cp", 0), "region": "east", "epoch": 4}
    answers = fleet()
    answers["/v1/edges"]["edges"] = []
    answers["/v1/leader"] = {"leader": led, "replica": led["id"], "role": "follower", "beat_age_s": 16.0}

    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=answers[request.url.path])

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handler)) as client:
        now = await of_url(client, "http://one")
        assert (now.leader, now.etcd_answers, now.control_planes[0].role) == (None, False, "follower")
        answers["/v1/leader"] |= {"role": "leader", "beat_age_s": 1.0}
        now = await of_url(client, "http://one")
        assert (now.leader, now.etcd_answers, now.control_planes[0].role) == (now.last_leader, True, "leader")


def printed(what_: Any) -> str:
    output = io.StringIO()
    Console(file=output, width=WIDTH).print(what_)
    return " ".join(output.getvalue().split())


def test_health_says_that_etcd_does_not_answer() -> None:
    """Before anything else, however healthy all targets are."""
    assert NO_ETCD in printed(render.health(worlds.view(3), etcd_answers=False))
    assert NO_ETCD not in printed(render.health(worlds.view(3)))


def test_tables_tell_why_in_brief() -> None:
    """Without the figures; an older replica's whole sentences where it says nothing else."""
    whole = {
        **worlds.commit(0),
        "routes": [["chat", "0" * 64]],
        "routes_changed": 1,
        "term": {"holder": "cp-a", "epoch": 4},
        "said": ["Target a left: flaps 0."],
    }
    told = printed(timeline([whole | {"brief": ["Target a left: refused."]}]))
    assert "left: refused." in told
    assert "flaps" not in told
    assert "left: flaps 0." in printed(timeline([whole]))


async def test_a_glance_without_anybody_is_unreachable() -> None:
    """Exit code 3, for there is nothing to show."""

    def nobody(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(nobody)) as client:
        with pytest.raises(OpsError) as error:
            await Glancer(ControlPlanes(client, ["http://one"])).look()
    assert error.value.exit_code == 3


async def test_keys_of_top() -> None:
    """q ends it, space holds and lets go, anything else is ignored; a key ends the present pause."""
    keys = Keys()
    keys.take(b"x ")
    assert (keys.held, keys.done.is_set()) == (True, False)
    keys.take(b" ")
    assert not keys.held
    await keys.pause(0.001)
    keys.take(b"q")
    assert keys.done.is_set()
