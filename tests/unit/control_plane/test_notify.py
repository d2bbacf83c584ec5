"""Telling webhooks: in order, again when it failed, not for ever, and never in the way; and the leader that looks on."""

import asyncio
import hmac
import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from control_plane.loops.notify import QUEUE, Notifier, headers_of
from control_plane.metrics import Metrics
from control_plane.ports import ConfigOrder
from control_plane.ports_alerts import Undeliverable
from shared import keys
from shared.adapters.memory import MemoryClient
from shared.ports import Compare, Delete, Put, Refused, TxnResult
from shared.secrets import SecretError
from shared.supervise import Supervisor
from shared.vocabulary.alerts import AlarmBook, Links, Notice, Webhook
from shared.vocabulary.config import Fleet
from shared.vocabulary.decision import Term
from tests.simulation.virtual_time import NodeClock, VirtualTimeLoop
from tests.support.replicas import World, fleet, play

HOOK = Webhook.model_validate({"id": "ops", "url": "http://ops.example/hook"})


class Receivers:
    """Implements `Outgoing`: takes what it is sent, unless `failing` says otherwise."""

    def __init__(self, failing: Mapping[str, list[Undeliverable | float]] | None = None) -> None:
        self.failing = {url: list(problems) for url, problems in (failing or {}).items()}
        self.taken: list[tuple[str, str]] = []
        self.attempts = 0
        self.bodies: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> None:
        self.attempts += 1
        problems = self.failing.get(url)
        if problems:
            problem = problems.pop(0)
            if isinstance(problem, Undeliverable):
                raise problem
            await asyncio.sleep(problem)
        self.taken.append((url, headers["x-leeward-id"]))
        self.bodies.append(json.loads(body))
        self.headers.append(dict(headers))

    async def close(self) -> None: ...

    def ids(self) -> list[str]:
        return [notice_id for _, notice_id in self.taken]


def notice(name: str, at: datetime) -> Notice:
    return Notice(
        id=f"{name}/firing",
        alarm=name,
        state="firing",
        event="REGION_DOWN",
        subject="east",
        severity="page",
        text="t",
        since=at,
        links=Links(runbook="docs/ALERTS.md"),
        term=Term(holder="cp", epoch=1),
    )


def told(
    receivers: Receivers,
    story,
    *,
    secrets: Mapping[str, str] | None = None,
) -> tuple[list[str], Metrics]:
    """Run `story(notifier, clock)` on virtual time; the ids that were done with, and the metrics."""
    loop = VirtualTimeLoop()
    done: list[str] = []
    metrics = Metrics()

    def secret(ref: str) -> str:
        if ref not in (secrets or {}):
            raise SecretError(ref, "is not set in this process's environment")
        return (secrets or {})[ref]

    async def run() -> None:
        clock = NodeClock(loop)
        notifier = Notifier(
            receivers,
            clock=clock,
            rng=random.Random(1),
            metrics=metrics,
            on_done=done.append,
            resolve_secret=secret,
        )
        async with Supervisor() as supervisor:
            supervisor.start("notify", notifier.run)
            await story(notifier, clock)
            assert not supervisor.failures

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return done, metrics


def count(metrics: Metrics, webhook: str, result: str) -> float | None:
    return metrics.registry.get_sample_value(
        "leeward_control_plane_notices_total", {"webhook": webhook, "result": result}
    )


def test_a_receiver_that_fails_twice_gets_it_in_order_and_once():
    receivers = Receivers({str(HOOK.url): [Undeliverable("status 503"), Undeliverable("ClientOSError")]})

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        notifier.put([notice(name, clock.now()) for name in "abc"], [HOOK])
        await asyncio.sleep(30)

    done, metrics = told(receivers, story)
    assert receivers.ids() == done == ["a/firing", "b/firing", "c/firing"]
    assert receivers.attempts == 5
    assert (count(metrics, "ops", "told"), count(metrics, "ops", "failed")) == (3, 2)


def test_a_dead_receiver_delays_no_other_and_is_given_up_in_time():
    dead = Webhook.model_validate({"id": "dead", "url": "http://dead.example/"})
    receivers = Receivers({str(dead.url): [Undeliverable("no answer")] * 10_000})
    took: list[float] = []

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        began = clock.monotonic()
        notifier.put([notice("a", clock.now())], [dead, HOOK])
        while not receivers.taken:
            await asyncio.sleep(0.05)
        took.append(clock.monotonic() - began)
        await asyncio.sleep(1100)
        assert notifier.waiting == 0

    done, metrics = told(receivers, story)
    assert took[0] < 1
    assert receivers.ids() == ["a/firing"]
    assert done == ["a/firing"]
    assert count(metrics, "dead", "given_up") == 1
    assert 15 <= (count(metrics, "dead", "failed") or 0) <= 200, "with backoff, not in a storm"


def test_a_receiver_that_never_will_is_not_asked_again():
    receivers = Receivers({str(HOOK.url): [Undeliverable("status 404", final=True)]})

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        notifier.put([notice("a", clock.now()), notice("b", clock.now())], [HOOK])
        await asyncio.sleep(5)

    done, metrics = told(receivers, story)
    assert receivers.ids() == ["b/firing"]
    assert done == ["a/firing", "b/firing"]
    assert count(metrics, "ops", "given_up") == 1


def test_a_receiver_that_hangs_is_left_after_seconds():
    receivers = Receivers({str(HOOK.url): [3600.0]})

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        notifier.put([notice("a", clock.now())], [HOOK])
        await asyncio.sleep(20)

    done, _ = told(receivers, story)
    assert receivers.attempts == 2
    assert done == ["a/firing"]


def test_what_began_long_ago_is_tried_for_as_long_as_anything_else():
    """A fault that began hours before it was told, or was told by another leader."""
    receivers = Receivers({str(HOOK.url): [Undeliverable("status 503")] * 3})

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        notifier.put([notice("a", clock.now() - timedelta(hours=2))], [HOOK])
        await asyncio.sleep(60)

    _, metrics = told(receivers, story)
    assert receivers.ids() == ["a/firing"]
    assert count(metrics, "ops", "given_up") is None


def test_a_receiver_that_hangs_holds_up_no_other():
    slow = Webhook.model_validate({"id": "slow", "url": "http://slow.example/"})
    receivers = Receivers({str(slow.url): [3600.0] * 1000})

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        for n in range(10):
            notifier.put([notice(str(n), clock.now())], [slow, HOOK])
            await asyncio.sleep(0.1)
            assert receivers.ids() == [f"{k}/firing" for k in range(n + 1)]

    told(receivers, story)


def test_a_corrected_webhook_gets_what_waits_and_its_old_self_has_no_say():
    """The old address says no for good after the new one was named."""
    moved = HOOK.model_copy(update={"url": "http://new.example/hook"})

    class Late(Receivers):
        async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> None:
            if url == HOOK.url:
                await asyncio.sleep(1)
                raise Undeliverable("status 404", final=True)
            await super().post(url, body, headers, timeout_s=timeout_s)

    receivers = Late()

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        notifier.put([notice("a", clock.now())], [HOOK])
        await asyncio.sleep(0.5)
        notifier.put((), [moved])
        await asyncio.sleep(0.6)
        assert receivers.taken == [("http://new.example/hook", "a/firing")]

    done, metrics = told(receivers, story)
    assert done == ["a/firing"]
    assert count(metrics, "ops", "given_up") is None


def test_a_corrected_webhook_is_tried_at_once_and_not_of_what_it_wants_no_more():
    receivers = Receivers({str(HOOK.url): [Undeliverable("status 503")] * 1000})
    moved = HOOK.model_copy(update={"url": "http://new.example/hook", "events": ("EDGE_*",)})

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        edge = notice("b", clock.now()).model_copy(update={"event": "EDGE_STALE"})
        notifier.put([notice("a", clock.now()), edge], [HOOK])
        await asyncio.sleep(300)
        notifier.put((), [moved])
        await asyncio.sleep(0.1)
        assert receivers.ids() == ["b/firing"]

    done, _ = told(receivers, story)
    assert done == ["a/firing", "b/firing"]


def test_the_queue_is_bounded_and_the_oldest_give_way():
    receivers = Receivers({str(HOOK.url): [Undeliverable("status 500")] * 100_000})

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        for n in range(QUEUE + 50):
            notifier.put([notice(str(n), clock.now())], [HOOK])
        assert notifier.waiting == QUEUE

    done, metrics = told(receivers, story)
    assert done == [f"{n}/firing" for n in range(50)]
    assert count(metrics, "ops", "dropped") == 50


def test_events_nobody_wants_are_done_with_at_once():
    receivers = Receivers()
    picky = HOOK.model_copy(update={"events": ("EDGE_*",)})

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        notifier.put([notice("a", clock.now())], [picky])
        await asyncio.sleep(1)

    done, _ = told(receivers, story)
    assert (done, receivers.taken) == (["a/firing"], [])


def test_urls_and_secrets_come_from_references_and_what_is_missing_is_tried_again():
    secret = Webhook.model_validate({"id": "s", "url_from": "env:HOOK_URL", "secret": "env:HOOK_SECRET"})
    receivers = Receivers()
    secrets = {"env:HOOK_URL": "https://secret.example/T0/abc"}

    async def story(notifier: Notifier, clock: NodeClock) -> None:
        notifier.put([notice("a", clock.now())], [secret])
        await asyncio.sleep(2)
        assert receivers.taken == []
        secrets["env:HOOK_SECRET"] = "k"
        await asyncio.sleep(60)

    told(receivers, story, secrets=secrets)
    assert receivers.taken == [("https://secret.example/T0/abc", "a/firing")]
    assert receivers.headers[0]["x-leeward-signature"].startswith("sha256=")


def test_the_signature_is_what_the_documentation_says():
    one = notice("a", datetime(2030, 1, 1, tzinfo=UTC))
    body = one.canonical()
    headers = headers_of(one, body, secret="k", at_s=1_700_000_000)
    expected = hmac.new(b"k", b"1700000000." + body, sha256).hexdigest()
    assert headers["x-leeward-signature"] == f"sha256={expected}"
    assert "x-leeward-signature" not in headers_of(one, body, secret=None, at_s=1)


# ------------------------------------------------------------ a leader that looks on


def watched() -> Fleet:
    """The usual fleet, with somebody to tell."""
    return fleet().model_copy(
        update={
            "alerts": fleet().alerts.model_copy(update={"webhooks": (HOOK,), "settle_s": 5.0}),
        }
    )


class Full:
    """An etcd that takes no book."""

    def __init__(self, client: MemoryClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def commit(self, compares: Sequence[Compare], then: Sequence[Put | Delete]) -> TxnResult:
        if any(one.key == keys.ALARMS for one in then):
            raise Refused("mvcc: database space exceeded")
        return await self._client.commit(compares, then)


def strike(world: World) -> None:
    world.down |= {"alpha-west", "beta-west"}


def test_leaders_hand_the_book_on_and_nobody_hears_anything_twice():
    """Two replicas: the first tells that a region is down and dies; the second says nothing of it but that it is over."""
    receivers = Receivers()

    async def story(world: World) -> None:
        world.probe()
        first = await world.start("cp-east", seed=watched(), outgoing=receivers)
        await world.until(lambda: first.leads and world.head() is not None, within_s=20)
        second = await world.start("cp-west", seed=watched(), outgoing=receivers)
        strike(world)
        await world.until(lambda: len(receivers.taken) == 1, within_s=20)
        await world.until(lambda: b'"untold":[]' in (world.value(keys.ALARMS) or b""), within_s=10)
        await first.crash()
        await world.until(lambda: second.leads, within_s=20)
        await asyncio.sleep(60)
        assert len(receivers.taken) == 1, receivers.ids()
        world.down.clear()
        await world.until(lambda: len(receivers.taken) == 2, within_s=60)
        await asyncio.sleep(20)

    play(story)
    firing, over = receivers.bodies
    assert (firing["event"], firing["subject"], firing["state"]) == ("REGION_DOWN", "west", "firing")
    assert (over["alarm"], over["state"]) == (firing["alarm"], "resolved")
    assert len(receivers.bodies) == 2


def test_what_a_leader_could_not_tell_its_successor_tells_under_the_same_id():
    deaf, well = Receivers({str(HOOK.url): [Undeliverable("status 500")] * 10_000}), Receivers()

    async def story(world: World) -> None:
        world.probe()
        first = await world.start("cp-east", seed=watched(), outgoing=deaf)
        await world.until(lambda: first.leads and world.head() is not None, within_s=20)
        await world.start("cp-west", seed=watched(), outgoing=well)
        strike(world)
        await world.until(lambda: deaf.attempts > 2, within_s=30)
        book = AlarmBook.model_validate_json(world.value(keys.ALARMS) or b"{}")
        assert len(book.untold) == 1
        await first.crash()
        await world.until(lambda: len(well.taken) == 1, within_s=30)
        assert well.ids() == [book.untold[0].id]

    play(story)


def test_the_book_is_written_only_when_something_begins_ends_or_is_told():
    """Constant input writes nothing, with somebody to tell and an alarm that stands."""
    receivers = Receivers()

    async def story(world: World) -> None:
        world.probe()
        one = await world.start("cp-east", seed=watched(), outgoing=receivers)
        await world.until(lambda: one.leads and world.head() is not None, within_s=20)
        assert world.value(keys.ALARMS) is None
        strike(world)
        await world.until(lambda: len(receivers.taken) == 1, within_s=20)
        await asyncio.sleep(5)
        (item,) = world.store.read(keys.ALARMS, exact=True)
        assert item.version == 2, "begun, and told"
        await asyncio.sleep(300)
        (item,) = world.store.read(keys.ALARMS, exact=True)
        assert item.version == 2

    play(story)


def test_where_nobody_is_to_be_told_nothing_is_written_and_it_is_still_counted():
    async def story(world: World) -> None:
        world.probe()
        one = await world.start("cp-east", outgoing=Receivers())
        await world.until(lambda: one.leads and world.head() is not None, within_s=20)
        strike(world)
        line = b'leeward_control_plane_alarms{event="REGION_DOWN"} 1.0'
        await world.until(lambda: line in one.replica.metrics(), within_s=20)
        assert world.value(keys.ALARMS) is None

    play(story)


def test_a_time_without_a_leader_is_told_by_the_next_one_and_is_over_soon():
    receivers = Receivers()

    async def story(world: World) -> None:
        world.probe()
        first = await world.start("cp-east", seed=watched(), outgoing=receivers)
        await world.until(lambda: first.leads and world.head() is not None, within_s=20)
        await asyncio.sleep(10)
        await first.crash()
        await asyncio.sleep(120)
        second = await world.start("cp-west", seed=watched(), outgoing=receivers)
        await world.until(lambda: second.leads, within_s=20)
        await world.until(lambda: len(receivers.taken) == 2, within_s=60)

    play(story)
    assert [(body["event"], body["state"]) for body in receivers.bodies] == [
        ("NO_LEADER", "firing"),
        ("NO_LEADER", "resolved"),
    ]
    assert 115 < receivers.bodies[0]["values"]["seconds"] < 140  # type: ignore[index]


def test_a_time_without_a_leader_is_told_by_one_who_takes_long_to_hear_everybody():
    receivers = Receivers()

    async def story(world: World) -> None:
        world.probe()
        first = await world.start("cp-east", seed=watched(), outgoing=receivers)
        await world.until(lambda: first.leads and world.head() is not None, within_s=20)
        await asyncio.sleep(10)
        await first.crash()
        world.brokers["west"].up = False
        await asyncio.sleep(120)
        await world.start("cp-south", seed=watched(), outgoing=receivers)
        await world.until(
            lambda: ("NO_LEADER", "firing") in {(body["event"], body["state"]) for body in receivers.bodies},
            within_s=60,
        )

    play(story)


def test_a_quick_second_hand_over_is_no_time_without_a_leader():
    """Who has watched two leaders end does not count the reign of the second."""
    receivers = Receivers()

    async def story(world: World) -> None:
        world.probe()
        names = ("cp-east", "cp-west", "cp-south")
        for name in names:
            await world.start(name, seed=watched(), outgoing=receivers)
        for _ in names:
            await world.until(lambda: len(world.leaders()) == 1, within_s=20)
            await asyncio.sleep(90)
            (leader,) = world.leaders()
            await leader.crash()

    play(story)
    assert [body["text"] for body in receivers.bodies if body["event"] == "NO_LEADER"] == []


class Slow:
    """An etcd that takes seconds to list."""

    def __init__(self, client: MemoryClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def list(self, *args: Any, **more: Any) -> Any:
        await asyncio.sleep(5)
        return await self._client.list(*args, **more)


def test_a_leader_that_does_not_know_yet_who_is_to_be_told_loses_nothing():
    """It leads before it has read the configuration; its own file names nobody."""
    deaf, well = Receivers({str(HOOK.url): [Undeliverable("status 500")] * 10_000}), Receivers()

    async def story(world: World) -> None:
        world.probe()
        first = await world.start("cp-east", seed=watched(), outgoing=deaf)
        await world.until(lambda: first.leads and world.head() is not None, within_s=20)
        strike(world)
        await world.until(lambda: deaf.attempts > 2, within_s=30)
        (untold,) = AlarmBook.model_validate_json(world.value(keys.ALARMS) or b"{}").untold
        await first.crash()
        await asyncio.sleep(10)
        await world.start("cp-west", outgoing=well, wrap=Slow)
        await world.until(lambda: well.taken, within_s=60)
        assert well.ids()[0] == untold.id

    play(story)


def test_a_webhook_that_is_corrected_in_the_configuration_gets_what_waits():
    receivers = Receivers({str(HOOK.url): [Undeliverable("status 503")] * 10_000})
    moved = HOOK.model_copy(update={"url": "http://new.example/hook"})

    async def story(world: World) -> None:
        world.probe()
        one = await world.start("cp-east", seed=watched(), outgoing=receivers)
        await world.until(lambda: one.leads and world.head() is not None, within_s=20)
        strike(world)
        await world.until(lambda: receivers.attempts > 2, within_s=30)
        alerts = watched().alerts.model_copy(update={"webhooks": (moved,)})
        order = ConfigOrder(author="ada", reason="it has moved")
        await one.replica.configs.apply(watched().model_copy(update={"alerts": alerts}), order)
        await world.until(lambda: receivers.taken, within_s=5)

    play(story)
    assert receivers.taken[0][0] == "http://new.example/hook"


def test_a_bus_that_is_down_silences_no_alarm():
    """The leader never hears everybody again, and tells of just that."""
    receivers = Receivers()

    async def story(world: World) -> None:
        world.probe()
        one = await world.start("cp-east", seed=watched(), outgoing=receivers)
        await world.until(lambda: one.leads and world.head() is not None, within_s=20)
        await asyncio.sleep(3)
        world.brokers["west"].up = False
        told = {("BUS_UNREACHABLE", "west"), ("PROBERS_SILENT", "west")}
        await world.until(
            lambda: told <= {(body["event"], body["subject"]) for body in receivers.bodies}, within_s=60
        )
        await world.until(lambda: b'"untold":[]' in (world.value(keys.ALARMS) or b""), within_s=10)
        second = await world.start("cp-south", seed=watched(), outgoing=receivers)
        heard = len(receivers.bodies)
        await one.crash()
        await world.until(lambda: second.leads, within_s=20)
        await asyncio.sleep(60)
        assert len(receivers.bodies) == heard

    play(story)


def test_people_are_told_of_an_etcd_that_takes_no_writes():
    """The very alarm that says so cannot be written down."""
    receivers = Receivers()

    async def story(world: World) -> None:
        world.probe()
        one = await world.start("cp-east", seed=watched(), outgoing=receivers, wrap=Full)
        await world.until(lambda: one.leads and world.head() is not None, within_s=20)
        world.store.alarms = ("NOSPACE",)
        await world.until(lambda: receivers.taken, within_s=60)
        assert world.value(keys.ALARMS) is None

    play(story)
    assert receivers.bodies[0]["event"] == "ETCD_ALARM"
