"""The figures of one course: what its decisions did with the traffic, held against what was true.

Traffic is weighed by decisions alone: every route and every client region counts the same, its
requests flowing evenly. So `traffic_on_down_s` is the time that the whole fleet's requests would have
gone to targets that were down: half of one region's share of three, for 60 s, is 10 s.

    removal       a target that takes part in a route for some client region, stand-bys included, and
                  is then excluded automatically; however many routes and regions, once per commit
    false alarm   a removal without an outage of that target, for those clients, within `tolerance_s`
    flap          a removal within 10 min of the same target's last return
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from control_plane.core.weights import shares
from ops.replay.truth import Interval, Key, Outages, overlap_s
from shared.vocabulary.decision import Decision

FLAP_S = 600.0
MILLION = 1_000_000
EARLY_S = 2.0
"""A removal this much before its outage shows is the first word on it, and counts as at once."""

Clients = tuple[str, str]
"""Route and client region."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What holds for some clients from `since` on."""

    since: datetime
    shares: Mapping[str, int]
    """Target -> millionths of the requests."""
    absent: frozenset[str]
    """Excluded automatically."""
    present: frozenset[str]
    shed: int
    """Millionths turned away."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A target taken out by one commit."""

    at: datetime
    target: str
    regions: frozenset[str]
    """Whose clients lost it."""
    flap: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """See the module. Times in seconds."""

    commits: int
    refused: int
    removals: int
    returns: int
    false_alarms: int
    flaps: int
    outages_in_use: int
    """Outages of targets that carried traffic when they began."""
    outages_unanswered: int
    """Those of them in which the target was never relieved of all its traffic."""
    removed_after_mean_s: float | None
    removed_after_max_s: float | None
    traffic_on_down_s: float
    shed_s: float
    """Of the whole fleet's requests, turned away."""
    out_while_good_s: float
    """Targets excluded automatically while they were not down, summed over targets."""


@dataclass(slots=True)
class Account:
    """One course as it goes; `take` its commits in order of time. What is before `began_at` is how it
    begins, and counts for nothing."""

    began_at: datetime
    commits: int = 0
    refused: int = 0
    returns: int = 0
    removals: list[Removal] = field(default_factory=list)
    stretches: dict[Clients, list[Stretch]] = field(default_factory=dict)
    _returned: dict[str, datetime] = field(default_factory=dict)

    def take(self, at: datetime, documents: Mapping[str, Decision]) -> None:
        """A commit at `at`, with the documents it wrote."""
        counts = at >= self.began_at
        self.commits += counts
        left: dict[str, set[str]] = {}
        came: set[str] = set()
        for route, document in documents.items():
            regions = set(document.regions) | {known[1] for known in self.stretches if known[0] == route}
            for region in regions:
                after = _stretch(at, document, region)
                held = self.stretches.setdefault((route, region), [])
                if held:
                    for target in held[-1].present & after.absent:
                        left.setdefault(target, set()).add(region)
                    came |= held[-1].absent & after.present
                _put(held, after)
        for target in sorted(left):
            back = self._returned.get(target)
            flap = back is not None and (at - back).total_seconds() < FLAP_S
            if counts:
                self.removals.append(Removal(at, target, frozenset(left[target]), flap))
        for target in came:
            self._returned[target] = at
            self.returns += counts

    def refuse(self, at: datetime) -> None:
        """A proposal that `inspect` turned away."""
        self.refused += at >= self.began_at

    def figures(self, ended_at: datetime, outages: Outages, *, tolerance_s: float) -> Figures:
        """The account, closed."""
        after = [
            self.removed_after_s(key, outage) for key, outage in outages.listed() if outage[1] > self.began_at
        ]
        answered = [seconds for used, seconds in after if used and seconds is not None]
        on_down, shed, out_while_good = self._times(ended_at, outages)
        return Figures(
            commits=self.commits,
            refused=self.refused,
            removals=len(self.removals),
            returns=self.returns,
            false_alarms=sum(not self.founded(each, outages, tolerance_s) for each in self.removals),
            flaps=sum(each.flap for each in self.removals),
            outages_in_use=sum(used for used, _ in after),
            outages_unanswered=sum(used and seconds is None for used, seconds in after),
            removed_after_mean_s=round(sum(answered) / len(answered), 3) if answered else None,
            removed_after_max_s=round(max(answered), 3) if answered else None,
            traffic_on_down_s=round(on_down, 3),
            shed_s=round(shed, 3),
            out_while_good_s=round(out_while_good, 3),
        )

    def removed_after_s(self, key: Key, outage: Interval) -> tuple[bool, float | None]:
        """Whether the target carried traffic as the outage began, and how long until it carried none."""
        target, region = key
        concerned = [held for clients, held in self.stretches.items() if region in (None, clients[1])]
        began, ended = outage
        if not any(
            _share(held, began - timedelta(seconds=EARLY_S), target) for held in concerned
        ) and not any(_share(held, began, target) for held in concerned):
            return False, None
        moments = {began, *(each.since for held in concerned for each in held if began < each.since < ended)}
        for moment in sorted(moments):
            if not any(_share(held, moment, target) for held in concerned):
                return True, (moment - began).total_seconds()
        return True, None

    def differs_s(self, other: "Account", ended_at: datetime) -> float:
        """How long clients are served otherwise than on the course `other`, mean over all clients."""
        total = 0.0
        everybody = self.stretches.keys() | other.stretches.keys()
        for clients in everybody:
            mine, theirs = self.stretches.get(clients, []), other.stretches.get(clients, [])
            moments = sorted(
                {self.began_at, ended_at}
                | {each.since for each in (*mine, *theirs) if self.began_at < each.since < ended_at}
            )
            for since, until in pairwise(moments):
                if _shares(mine, since) != _shares(theirs, since):
                    total += (until - since).total_seconds()
        return round(total / max(1, len(everybody)), 3)

    @staticmethod
    def founded(removal: Removal, outages: Outages, tolerance_s: float) -> bool:
        """Whether its target was down for any of its clients within `tolerance_s` of it."""
        around = timedelta(seconds=tolerance_s)
        near = (removal.at - around, removal.at + around)
        return any(
            overlap_s(near, outage) > 0
            for region in removal.regions
            for outage in outages.of(removal.target, region)
        )

    def _times(self, ended_at: datetime, outages: Outages) -> tuple[float, float, float]:
        """Seconds on targets that were down, shed, and out while good; means over all clients."""
        on_down = shed = out_while_good = 0.0
        down: dict[tuple[str, str], list[Interval]] = {}
        for (_, region), held in self.stretches.items():
            ends = [each.since for each in held[1:]] + [ended_at]
            for stretch, until in zip(held, ends, strict=True):
                span = (max(stretch.since, self.began_at), min(until, ended_at))
                lasts_s = overlap_s(span, span)
                if not lasts_s:
                    continue
                shed += lasts_s * stretch.shed / MILLION
                for target in stretch.shares.keys() | stretch.absent:
                    if (target, region) not in down:
                        down[target, region] = outages.of(target, region)
                    down_s = sum(overlap_s(span, outage) for outage in down[target, region])
                    on_down += down_s * stretch.shares.get(target, 0) / MILLION
                    if target in stretch.absent:
                        out_while_good += lasts_s - down_s
        clients = max(1, len(self.stretches))
        return on_down / clients, shed / clients, out_while_good / clients


def _stretch(at: datetime, document: Decision, region: str) -> Stretch:
    decided = document.regions.get(region)
    if decided is None or document.removed:
        return Stretch(at, {}, frozenset(), frozenset(), 0)
    return Stretch(
        since=at,
        shares=shares(decided),
        absent=frozenset(
            each.target for each in document.excluded if each.by == "auto" and each.region in (None, region)
        ),
        present=frozenset(target.id for tier in decided.tiers for target in tier.targets),
        shed=decided.shed_permille * 1000,
    )


def _put(held: list[Stretch], after: Stretch) -> None:
    """Append it where it says something new; of two at one moment the later holds."""
    if held and held[-1].since == after.since:
        held.pop()
    if held and (held[-1].shares, held[-1].absent, held[-1].present, held[-1].shed) == (
        after.shares,
        after.absent,
        after.present,
        after.shed,
    ):
        return
    held.append(after)


def _shares(held: Sequence[Stretch], moment: datetime) -> Mapping[str, int]:
    place = bisect_right(held, moment, key=lambda each: each.since) - 1
    return held[place].shares if place >= 0 else {}


def _share(held: Sequence[Stretch], moment: datetime, target: str) -> int:
    return _shares(held, moment).get(target, 0)
