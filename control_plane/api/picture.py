"""What the dashboard shows, as `loops.live` tells it: sections of items, each a small JSON value.

Ages are rounded down to steps, so that a picture of a fleet where nothing happens does not change.
Everything is bounded; where something is left out, `about.shown` says how much there is.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from control_plane.api.answers import edge_report, summary
from control_plane.api.sentences import brief
from control_plane.core.foresee import traffic
from control_plane.ports import Answers, InForce, LogEntry
from shared.vocabulary.decision import Decision
from shared.vocabulary.drill import Drill
from shared.vocabulary.drill_list import DrillBrief
from shared.vocabulary.override import Override
from shared.vocabulary.terms import Outcome, Role, Verdict
from shared.vocabulary.view import HealthView, TargetHealth, Vote

MAX_TARGETS = 1_000
"""Beyond, those that are HEALTHY are left out first."""
MAX_ROUTES = 200
MAX_EDGES = 500
MAX_SOURCES = 500
MAX_DECISIONS = 50
MAX_ORDERS = 200
MAX_DRILLS = 20
MAX_SAID = 20
AGE_STEP_S = 5
ALL = "*"
"""Instead of a route: the mean of all, each by its requests."""

Items = dict[str, Any]


class Painter:
    """`take` makes one picture of what a replica knows. Keeps the documents it has read."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._read: tuple[str, Mapping[str, Decision]] = ("", {})

    def take(self) -> dict[str, Items]:
        """Section -> item -> value."""
        force, view = self._answers.in_force(), self._answers.view()
        documents = self._documents(force)
        now, overrides = self._answers.overrides.on_record()
        return {
            "about": {"all": self._about(force, view)},
            "health": {} if view is None else {"all": _health(view)},
            "regions": _regions(force, view),
            "targets": {} if view is None else _targets(force, view),
            "routes": _routes(documents, view),
            "measured": {} if view is None else _measured(view),
            "decisions": self._decisions(force),
            "edges": self._edges(force),
            "sources": {} if view is None else _sources(view),
            "buses": {} if view is None else {bus.region: bus.model_dump() for bus in view.buses},
            "overrides": _overrides(each for each in overrides if each.holds(now)),
            "rollouts": {
                rollout.id: {
                    **rollout.model_dump(mode="json", exclude={"old_before", "schema_version"}),
                    "permille": rollout.permille,
                    "found": found,
                }
                for rollout, found in self._answers.rollouts.all()[:MAX_ORDERS]
            },
            "drills": {each.id: _drill(each) for each in self._answers.drills.known().drills[:MAX_DRILLS]},
        }

    def _about(self, force: InForce, view: HealthView | None) -> Items:
        known, etcd = self._answers.leader(), self._answers.etcd()
        fleet = force.config.fleet if force.config is not None else None
        return {
            "replica": self._answers.node.id,
            "region": self._answers.node.region,
            "role": "leader" if known.leading else "follower",
            "leader": None if known.leader is None else known.leader.model_dump(),
            "beat_age_s": _step(known.beat_age_s),
            "version": str(force.version),
            "config_version": force.config.config_version if force.config is not None else 0,
            "unready": list(self._answers.unready()),
            "etcd": {"followed": etcd.followed, "age_s": _step(etcd.age_s)},
            "shown": {
                "targets": 0 if view is None else len(view.targets),
                "routes": 0 if fleet is None else len(fleet.routes),
                "edges": len(self._answers.edges()),
            },
        }

    def _documents(self, force: InForce) -> Mapping[str, Decision]:
        if self._read[0] != force.head_sha:
            names = sorted(force.documents)[:MAX_ROUTES]
            read = {name: Decision.model_validate_json(force.documents[name]) for name in names}
            self._read = (force.head_sha, read)
        return self._read[1]

    def _decisions(self, force: InForce) -> Items:
        return {
            str(entry.version): _decision(entry, force) for entry in list(self._answers.log())[:MAX_DECISIONS]
        }

    def _edges(self, force: InForce) -> Items:
        head = force.version
        committed = {entry.version: entry.at for entry in self._answers.log()}
        found: Items = {}
        for record in list(self._answers.edges())[:MAX_EDGES]:
            report = edge_report(record, head)
            decided_at = committed.get(record.ack.version)
            lag = None if decided_at is None else (report.applied_at - decided_at).total_seconds() * 1000
            found[report.id] = {
                **report.model_dump(mode="json", exclude={"beat_age_s", "last_ack_age_s", "id"}),
                "beat_age_s": _step(report.beat_age_s),
                "heard_age_s": _step(report.last_ack_age_s),
                "lag_ms": None if lag is None else round(lag),
            }
        return found


def _decision(entry: LogEntry, force: InForce) -> Items:
    """One commit in a few lines; the page asks for the rest when somebody wants it."""
    told = summary(entry, force.version)
    return {
        "at": entry.at.isoformat(),
        "generation": entry.generation,
        "seq": entry.seq,
        "in_force": told.in_force,
        "codes": list(dict.fromkeys(reason.code for reason in told.reasons)),
        "said": list(dict.fromkeys(brief(reason) for reason in entry.reasons))[:MAX_SAID],
        "routes": [route for route, _ in told.routes][:MAX_SAID],
        "routes_changed": told.routes_changed,
        "holder": told.term.holder,
        "trace": None if told.traceparent is None else told.traceparent.split("-")[1],
    }


def _health(view: HealthView) -> Items:
    figures = view.summary
    return {
        "status": view.status,
        "freezes": [freeze.model_dump(mode="json") for freeze in view.freezes],
        "set_aside": list(view.set_aside),
        "silent": [] if figures is None else list(figures.silent)[:MAX_SAID],
        "failovers_last_hour": None if figures is None else figures.failovers_last_hour,
        "success_permille": None if figures is None else figures.success_permille,
        "response_ms_mean": None
        if figures is None or figures.response_ms_mean is None
        else _rounded(figures.response_ms_mean),
        "attempts": 0 if figures is None else figures.attempts,
    }


def _regions(force: InForce, view: HealthView | None) -> Items:
    """By the view where there is one; with their places."""
    places = {} if force.config is None else {region.id: region for region in force.config.fleet.regions}
    found: Items = {}
    for region in () if view is None else view.regions:
        place = places.get(region.id)
        found[region.id] = {
            **region.model_dump(mode="json", exclude={"id"}),
            "latitude": None if place is None else place.latitude,
            "longitude": None if place is None else place.longitude,
        }
    return found


def _targets(force: InForce, view: HealthView) -> Items:
    models = {} if force.config is None else force.config.fleet.targets_by_id
    chosen = view.targets
    if len(chosen) > MAX_TARGETS:
        chosen = tuple(sorted(chosen, key=lambda each: each.verdict is Verdict.HEALTHY)[:MAX_TARGETS])
    return {
        target.id: _target(target, models[target.id].model if target.id in models else "")
        for target in chosen
    }


def _target(target: TargetHealth, model: str) -> Items:
    return {
        "region": target.region,
        "provider": target.provider,
        "model": model,
        "verdict": target.verdict.value,
        "hard": target.hard,
        "since": None if target.since is None else target.since.isoformat(),
        "reason": target.reason,
        "warning": target.warning,
        "caution_permille": target.caution_permille,
        "latency_ms_p50": None if target.latency_ms_p50 is None else _rounded(target.latency_ms_p50),
        "votes": {
            vote.vantage: {"verdict": vote.verdict.value, "hard": vote.hard, "seen": _seen(vote)}
            for vote in target.votes
        },
        "traffic": {
            each.region: {"attempts": _rounded(each.attempts), "failing": each.failing}
            for each in target.passive
        },
    }


def _seen(vote: Vote) -> str:
    """`REFUSED, connect ECONNREFUSED`: the worst that a vantage saw. OK is no cause of another verdict."""
    telling = [each for each in vote.evidence if each.outcome is not Outcome.OK]
    if vote.verdict is Verdict.HEALTHY:
        telling = telling or list(vote.evidence)
    if not telling:
        return ""
    return (
        f"{telling[0].outcome.value}, {telling[0].detail}" if telling[0].detail else telling[0].outcome.value
    )


def _routes(documents: Mapping[str, Decision], view: HealthView | None) -> Items:
    """`route>client region` -> where its requests go, as decided, in permille by target region; and of
    all routes together, each by the requests it has there, or alike where nothing is measured."""
    stands = {} if view is None else {target.id: target.region for target in view.targets}
    loads = {} if view is None else {(load.route, load.region): load for load in view.loads}
    found: Items = {}
    sums: dict[str, dict[bool, list[tuple[float, Items]]]] = {}
    for (route, client), shares in traffic(documents).items():
        to: Items = {}
        for target, millionths in shares.items():
            place = stands.get(target, "?")
            to[place] = to.get(place, 0.0) + millionths / 1000
        load = loads.get((route, client))
        rate = load.requests / load.window_s if load is not None else 0.0
        shed = documents[route].regions[client].shed_permille
        item = {"to": _whole(to), "shed_permille": shed, "per_s": _rounded(rate)}
        found[f"{route}>{client}"] = item
        sums.setdefault(client, {}).setdefault(rate > 0, []).append((rate or 1.0, item))
    for client, kinds in sums.items():
        # Routes without requests say nothing about where traffic goes, unless there is no other.
        found[f"{ALL}>{client}"] = _mean(kinds.get(True) or kinds[False])
    return found


def _mean(weighed: list[tuple[float, Items]]) -> Items:
    total = sum(weight for weight, _ in weighed)
    to: Items = {}
    for weight, item in weighed:
        for place, permille in item["to"].items():
            to[place] = to.get(place, 0.0) + permille * weight / total
    shed = sum(weight * item["shed_permille"] for weight, item in weighed) / total
    return {
        "to": _whole(to),
        "shed_permille": round(shed),
        "per_s": _rounded(sum(item["per_s"] for _, item in weighed)),
    }


def _measured(view: HealthView) -> Items:
    """Client region -> where edges' attempts went, in percent by target region, over their last windows."""
    counts: dict[str, dict[str, int]] = {}
    for target in view.targets:
        for seen in target.passive:
            if seen.attempts:
                to = counts.setdefault(seen.region, {})
                to[target.region] = to.get(target.region, 0) + seen.attempts
    return {
        client: {
            "attempts": _rounded(sum(to.values())),
            "to": {place: round(1000 * n / sum(to.values()), -1) for place, n in to.items()},
        }
        for client, to in counts.items()
    }


def _sources(view: HealthView) -> Items:
    """Replicas first, for they are few."""
    ranked = sorted(view.sources, key=lambda source: source.role is not Role.CONTROL_PLANE)
    return {
        source.id: {
            "role": source.role.value,
            "region": source.vantage,
            "fresh": source.fresh,
            "heard_age_s": _step(source.last_event_age_s),
            "config_version": source.config_version,
        }
        for source in ranked[:MAX_SOURCES]
    }


def _overrides(held: Iterable[Override]) -> Items:
    newest_first = sorted(held, key=lambda each: each.n, reverse=True)[:MAX_ORDERS]
    return {
        each.id: {
            **each.spec.model_dump(mode="json", exclude_none=True),
            "reason": each.reason,
            "author": each.author,
            "created_at": each.created_at.isoformat(),
            "expires_at": each.expires_at.isoformat(),
            "forced": each.forced,
        }
        for each in newest_first
    }


def _drill(drill: Drill) -> Items:
    spec = drill.spec
    return {
        **DrillBrief.of(drill).model_dump(mode="json", exclude={"id", "n", "stop"}),
        "stopping": drill.stop is not None,
        "planned_s": spec.warm_s + spec.hold_s,
        "last": drill.progress.timeline[-1].event if drill.progress.timeline else "",
        "injected": sum(each.state == "DONE" for each in drill.progress.injections),
        "failures": [] if drill.report is None else list(drill.report.failures)[:MAX_SAID],
    }


def _whole(permille: Items) -> Items:
    return {place: round(value) for place, value in permille.items() if round(value)}


def _step(age_s: float | None) -> int | None:
    """Full steps of five seconds: below, it is fresh, and how fresh does not matter."""
    return None if age_s is None else int(age_s // AGE_STEP_S) * AGE_STEP_S


def _rounded(value: float) -> float:
    """To two significant digits: what is measured anew each second should not change each second."""
    return float(f"{value:.2g}")
