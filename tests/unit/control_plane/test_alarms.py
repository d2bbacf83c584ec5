"""Alarms: what is amiss, and what of it is news."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.core.alarms import (
    HOLDS_S,
    SEVERITY,
    EdgeWord,
    Moment,
    Patience,
    Teller,
    advance,
    complaints,
    told,
)
from control_plane.core.sheds import shed_of
from shared.vocabulary.alerts import EVENTS, AlarmBook, AlertPolicy, Notice
from shared.vocabulary.base import Version
from shared.vocabulary.decision import Term
from shared.vocabulary.drill import Drill
from shared.vocabulary.terms import EdgeMode, Role, Verdict
from shared.vocabulary.view import (
    BusHealth,
    Freeze,
    HealthSummary,
    HealthView,
    PassiveSummary,
    RegionHealth,
    RouteSummary,
    SourceHealth,
    TargetHealth,
)

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
POLICY = AlertPolicy(settle_s=15.0)
TELLER = Teller(Term(holder="cp-east", epoch=4), Version(1, 7), "http://cp:7100")
DOWN, UP = Verdict.DOWN, Verdict.HEALTHY


def view(verdicts: dict[str, Verdict], **more: Any) -> HealthView:
    """Targets `provider-region` with these verdicts."""
    targets = tuple(
        TargetHealth(
            id=name,
            provider=name.split("-")[0],
            region=name.split("-")[1],
            verdict=verdict,
            reason="2 of 3 vantages DOWN" if verdict is DOWN else "",
        )
        for name, verdict in verdicts.items()
    )
    regions = []
    for region in sorted({target.region for target in targets}):
        here = [target.verdict for target in targets if target.region == region]
        verdict = DOWN if set(here) == {DOWN} else UP if set(here) == {UP} else Verdict.DEGRADED
        regions.append(
            RegionHealth(
                id=region,
                verdict=verdict,
                targets_healthy=here.count(UP),
                targets=len(here),
                sources_fresh=1,
                sources=1,
            )
        )
    return HealthView(
        as_of=NOW,
        replica="cp-east",
        status="healthy",
        config_version=1,
        regions=tuple(regions),
        targets=targets,
        sources=more.pop("sources", ()),
        **more,
    )


WELL = view({"a-east": UP, "b-east": UP, "a-west": UP, "b-west": UP})
EAST_DOWN = view({"a-east": DOWN, "b-east": DOWN, "a-west": UP, "b-west": UP})


class Leader:
    """One leader's look on, second by second."""

    def __init__(
        self, book: AlarmBook | None = None, policy: AlertPolicy = POLICY, at_s: float = 0.0
    ) -> None:
        self.book, self.policy, self.at_s = book or AlarmBook(), policy, at_s
        self.patience = Patience()

    def look(self, moment: Moment, *, for_s: int = 1) -> list[Notice]:
        """The news of `for_s` looks at the same moment, a second apart."""
        news: list[Notice] = []
        for _ in range(for_s):
            self.book, more = advance(
                self.book,
                complaints(moment, self.policy),
                self.patience,
                self.policy,
                teller=TELLER,
                now=NOW + timedelta(seconds=self.at_s),
                monotonic=self.at_s,
            )
            news += more
            self.at_s += 1.0
        return news


def events(moment: Moment, policy: AlertPolicy = POLICY) -> set[tuple[str, str]]:
    return set(complaints(moment, policy))


def test_a_region_that_is_down_is_told_at_once_and_once_and_then_that_it_is_over():
    leader = Leader()
    assert leader.look(Moment(WELL), for_s=3) == []
    (notice,) = leader.look(Moment(EAST_DOWN), for_s=60)
    assert (notice.event, notice.subject, notice.state, notice.severity) == (
        "REGION_DOWN",
        "east",
        "firing",
        "page",
    )
    assert notice.text == "all 2 targets of region east are DOWN: 2 of 3 vantages DOWN"
    assert notice.links.decision == "http://cp:7100/v1/decisions/1.7"
    assert notice.links.dashboard == "http://cp:7100/"
    assert notice.values == {"targets": ["a-east", "b-east"]}
    assert leader.look(Moment(WELL), for_s=15) == []
    (over,) = leader.look(Moment(WELL), for_s=1)
    assert (over.state, over.alarm, over.until) == ("resolved", notice.alarm, NOW + timedelta(seconds=78))
    assert over.id != notice.id
    assert leader.book.standing == ()


def test_what_comes_and_goes_is_one_alarm():
    """It is resolved only when it has been untrue for `settle_s`."""
    leader = Leader()
    assert len(leader.look(Moment(EAST_DOWN))) == 1
    for _ in range(10):
        assert leader.look(Moment(WELL), for_s=10) == []
        assert leader.look(Moment(EAST_DOWN), for_s=3) == []


def test_a_new_leader_repeats_nothing_and_resolves_what_it_did_not_begin():
    first = Leader()
    (notice,) = first.look(Moment(EAST_DOWN))
    second = Leader(AlarmBook.model_validate_json(first.book.canonical()), at_s=1000.0)
    assert second.look(Moment(EAST_DOWN), for_s=100) == []
    (over,) = second.look(Moment(WELL), for_s=16)
    assert (over.state, over.alarm) == ("resolved", notice.alarm)


def test_what_nobody_has_been_told_stays_in_the_book():
    leader = Leader()
    (notice,) = leader.look(Moment(EAST_DOWN))
    assert leader.book.untold == (notice,)
    assert told(leader.book, frozenset({"another"})) is leader.book
    assert told(leader.book, frozenset({notice.id})).untold == ()
    assert told(leader.book, frozenset({notice.id})).standing == leader.book.standing


def test_constant_input_leaves_the_very_same_book():
    """So nothing is written."""
    leader = Leader()
    leader.look(Moment(EAST_DOWN))
    book = leader.book
    leader.look(Moment(EAST_DOWN), for_s=100)
    assert leader.book is book


def test_a_provider_that_is_down_everywhere_is_one_alarm_and_not_when_its_region_says_it_all():
    assert events(Moment(view({"a-east": DOWN, "b-east": UP, "a-west": DOWN, "b-west": UP}))) == {
        ("PROVIDER_DOWN", "a")
    }
    assert events(Moment(view({"a-east": DOWN, "b-west": UP}))) == {("REGION_DOWN", "east")}


def test_unknown_is_no_alarm_of_a_region():
    """Silence is never DOWN; that nothing is heard is told as such."""
    east, west = view({"a-east": Verdict.UNKNOWN}), frozenset({"east", "west"})
    assert events(Moment(east)) == set()
    assert events(Moment(east, watching=west)) == {("PROBERS_SILENT", "east"), ("PROBERS_SILENT", "west")}
    heard = SourceHealth(
        id="p",
        role=Role.PROBER,
        vantage="west",
        fresh=True,
        last_event_age_s=0.1,
        boot=1,
        seq=1,
        config_version=1,
    )
    edge = heard.model_copy(update={"id": "e", "role": Role.EDGE, "vantage": "east"})
    spoken = east.model_copy(update={"sources": (heard, edge)})
    assert events(Moment(spoken, watching=west)) == {("PROBERS_SILENT", "east")}
    stopped = spoken.model_copy(update={"sources": (heard.model_copy(update={"fresh": False}), edge)})
    assert len(events(Moment(stopped, watching=west))) == 2


def test_edges_are_told_by_region_and_kind():
    edges = [
        EdgeWord("e1", "east", EdgeMode.FRESH, Version(1, 7), 0.2),
        EdgeWord("e2", "east", EdgeMode.STALE, Version(1, 6), 0.2),
        EdgeWord("e3", "east", EdgeMode.STATIC, Version(1, 6), 0.2),
        EdgeWord("e4", "west", EdgeMode.STALE, Version(1, 6), 31.0),
    ]
    moment = Moment(WELL, edges=edges)
    assert events(moment) == {("EDGE_STALE", "east"), ("EDGE_STATIC", "east"), ("EDGE_SILENT", "west")}
    assert complaints(moment, POLICY)["EDGE_STALE", "east"].text == "1 of 3 edges in east are STALE: e2"


def test_what_holds_but_a_moment_is_not_told():
    """A starting edge is STALE for a second or two."""
    stale = Moment(WELL, edges=[EdgeWord("e1", "east", EdgeMode.STALE, Version(0, 0), 0.1)])
    leader = Leader()
    for _ in range(5):
        assert leader.look(stale, for_s=int(HOLDS_S["EDGE_STALE"])) == []
        assert leader.look(Moment(WELL)) == []
    assert [notice.event for notice in leader.look(stale, for_s=11)] == ["EDGE_STALE"]


def test_answers_below_the_share_need_enough_requests():
    def seen(requests: int, success: int) -> Moment:
        route = RouteSummary(route="chat", requests=requests, success_permille=success, inflight=1.0)
        summary = HealthSummary(
            failovers_last_hour=0, attempts=0, success_permille=None, response_ms_mean=None, routes=(route,)
        )
        return Moment(WELL.model_copy(update={"summary": summary}))

    assert events(seen(19, 0)) == set()
    assert events(seen(20, 950)) == set()
    assert events(seen(20, 949)) == {("ANSWERS_DEGRADED", "chat")}
    assert "5.1 %" in complaints(seen(20, 949), POLICY)["ANSWERS_DEGRADED", "chat"].text


def test_freezes_buses_etcd_shares_and_the_time_without_a_leader():
    freeze = Freeze(cause="MOST_SILENT", since=NOW, detail="2 of 3 vantages silent")
    buses = (
        BusHealth(region="east", bootstrap="", reachable=True, caught_up=True),
        BusHealth(region="west", bootstrap="", reachable=False, caught_up=False),
    )
    moment = Moment(
        WELL.model_copy(update={"freezes": (freeze,), "buses": buses}),
        etcd_alarms=("NOSPACE",),
        shed={("chat", "east"): 100, ("chat", "west"): 0, ("embed", "east"): 0},
        leaderless=(NOW - timedelta(seconds=40), 40.0),
    )
    assert events(moment) == {
        ("FREEZE", "most_silent"),
        ("BUS_UNREACHABLE", "west"),
        ("ETCD_ALARM", "nospace"),
        ("CAPACITY_SHED", "chat"),
        ("NO_LEADER", "control-plane"),
    }
    assert events(replace(moment, leaderless=(NOW, 30.0))) == events(moment) - {
        ("NO_LEADER", "control-plane")
    }
    notices = {notice.event: notice for notice in Leader().look(moment)}
    assert notices["NO_LEADER"].since == NOW - timedelta(seconds=40)
    assert notices["FREEZE"].since == NOW


def drill(n: int, state: str, name: str = "region-outage") -> Drill:
    return Drill.model_validate(
        {
            "id": f"drill-{n}",
            "n": n,
            "spec": {
                "drill": name,
                "what": "w",
                "hypothesis": "h",
                "region": "east",
                "faults": [{"fault": "kill", "by": "stack"}],
            },
            "author": "me",
            "reason": "r",
            "state": state,
            "requested_at": NOW,
            "ended_at": NOW,
            "note": "no",
        }
    )


def test_a_failed_drill_stands_until_it_passes():
    assert events(Moment(WELL, drills=(drill(1, "FAILED"), drill(2, "RUNNING")))) == {
        ("DRILL_FAILED", "region-outage")
    }
    assert events(Moment(WELL, drills=(drill(1, "FAILED"), drill(2, "PASSED")))) == set()
    assert events(Moment(WELL, drills=(drill(1, "ABORTED"),))) == set()


def test_what_happens_during_a_drill_says_so():
    leader = Leader()
    (notice,) = leader.look(Moment(EAST_DOWN, drills=(drill(2, "RUNNING"),)), for_s=60)
    assert notice.text.endswith(f"({drill(2, 'RUNNING').id} is under way)")
    assert notice.values["during_drill"] == drill(2, "RUNNING").id
    assert leader.look(Moment(EAST_DOWN), for_s=30) == [], "the drill's end is no news of the region"


def test_a_flood_is_bounded_and_the_graver_come_first():
    edges = [
        EdgeWord(f"e{n}", f"r{n}", EdgeMode.STATIC if n % 2 else EdgeMode.STALE, Version(1, 1), 0.0)
        for n in range(1000)
    ]
    leader = Leader()
    news = leader.look(Moment(WELL, edges=edges), for_s=20)
    assert len(news) == 300
    assert {notice.severity for notice in news} == {"page"}
    assert len(leader.book.untold) == 200
    assert len(leader.book.canonical()) < 400_000


def test_every_event_has_a_severity_and_a_place_in_the_runbook():
    assert set(SEVERITY) == set(EVENTS)
    assert set(HOLDS_S) <= set(EVENTS)


def test_shares_are_read_from_documents_and_what_is_unreadable_is_left_out():
    documents = {
        "chat": b'{"regions":{"east":{"tiers":[],"shed_permille":120},"west":{"tiers":[]}},"route":"chat"}',
        "broken": b'{"regions":',
    }
    assert shed_of(documents) == {("chat", "east"): 120, ("chat", "west"): 0}


def test_a_used_up_quota_is_told_by_provider_until_nobody_spares_its_targets():
    """Once for all its targets, however many edges found it."""

    def poor(*names: str) -> HealthView:
        def one(target):
            summary = PassiveSummary(
                region="east", attempts=1, counts={}, inflight=0, failing=False, cooling="long",
                quota_exhausted=target.id in names,
            )  # fmt: skip
            return target.model_copy(update={"passive": (summary,)})

        return WELL.model_copy(update={"targets": tuple(one(target) for target in WELL.targets)})

    assert events(Moment(poor())) == set()
    leader = Leader()
    notices = leader.look(Moment(poor("a-east", "a-west")), for_s=30)
    assert [(n.event, n.state, n.severity) for n in notices] == [("QUOTA_EXHAUSTED", "firing", "ticket")]
    assert notices[0].values == {"targets": ["a-east", "a-west"]}
    (over,) = leader.look(Moment(poor()), for_s=16)
    assert (over.event, over.state) == ("QUOTA_EXHAUSTED", "resolved")
