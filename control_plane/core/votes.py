"""From probe words to votes, from votes to a verdict.

The theory. The same count is taken twice: the probers of one region are counted into one vote of that
region, the votes of the regions into the verdict. With `fresh` voters, of whom `down` say DOWN:

    DOWN      down >= quorum, and down is more than half of fresh
    HEALTHY   more than half of fresh say HEALTHY
    DEGRADED  more than half say HEALTHY or DEGRADED
    UNKNOWN   everything else: nobody speaks, a tie, or too few say DOWN

A tie is UNKNOWN and not DEGRADED on purpose: UNKNOWN changes nothing downstream (who is in stays in,
who is out stays out), so losing a voter can neither remove a target nor bring a dead one back.

A voter says DOWN when any of its fresh monitors is DOWN: monitors look at different things, and one
of them failing is a failing target. THROTTLED and SLOW never lead to DOWN; most of the monitors
ending in them is DEGRADED.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from control_plane.core.fold import ProbeWord, Source
from control_plane.core.roster import Watch
from shared.vocabulary.decision import EvidenceRef
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import Vote

STRAINED = (Outcome.SLOW, Outcome.THROTTLED)


@dataclass(frozen=True, slots=True)
class Count:
    """A verdict with the count behind it."""

    verdict: Verdict
    hard: bool
    """The same quorum is reached by voters with hard evidence alone."""
    down: int
    fresh: int


def count(voices: Sequence[tuple[Verdict, bool]], *, quorum: int) -> Count:
    """The verdict of `voices`, each a verdict and whether it is hard. Needs `quorum` >= 1."""
    fresh = down = hard_down = healthy = 0
    for verdict, hard in voices:
        fresh += verdict is not Verdict.UNKNOWN
        healthy += verdict is Verdict.HEALTHY
        if verdict is Verdict.DOWN:
            down += 1
            hard_down += hard
    if _carries(down, fresh, quorum):
        return Count(Verdict.DOWN, _carries(hard_down, fresh, quorum), down, fresh)
    if healthy * 2 > fresh:
        verdict = Verdict.HEALTHY
    elif (fresh - down) * 2 > fresh:
        verdict = Verdict.DEGRADED
    else:
        verdict = Verdict.UNKNOWN
    return Count(verdict, False, down, fresh)


def _carries(down: int, fresh: int, quorum: int) -> bool:
    return down >= quorum and down * 2 > fresh


def fresh_words(
    words: Iterable[ProbeWord],
    watch: Watch,
    fresh: Mapping[str, Source],
    *,
    timeout_s: float,
    monotonic: float,
) -> list[ProbeWord]:
    """Those of `words` that count: configured for their vantage, from a fresh source, not stale."""
    nothing: frozenset[str] = frozenset()
    return [
        word
        for word in words
        if word.source.id in fresh
        and word.state.monitor in watch.monitors.get(word.source.vantage, nothing)
        and monotonic <= word.stale_at(timeout_s)
    ]


def votes_of(words: Sequence[ProbeWord]) -> tuple[Vote, ...]:
    """One vote per vantage that has fresh `words`, in the order of their names."""
    by_vantage: dict[str, dict[str, list[ProbeWord]]] = {}
    for word in words:
        by_vantage.setdefault(word.source.vantage, {}).setdefault(word.source.id, []).append(word)
    return tuple(_vote(vantage, by_vantage[vantage]) for vantage in sorted(by_vantage))


def _vote(vantage: str, probers: Mapping[str, list[ProbeWord]]) -> Vote:
    if len(probers) == 1:
        (speaking,) = probers.values()
        verdict, hard = _voice(speaking)
    else:
        counted = count([_voice(words) for words in probers.values()], quorum=1)
        verdict, hard = counted.verdict, counted.hard
        speaking = [word for source in sorted(probers) for word in probers[source]]
    if verdict is Verdict.DOWN:
        speaking = [word for word in speaking if word.state.state == "DOWN"]
    if len(speaking) > 1:
        speaking = sorted(speaking, key=lambda word: word.state.monitor)
    return Vote(vantage=vantage, verdict=verdict, hard=hard, evidence=tuple(map(_evidence, speaking)))


def _voice(words: Sequence[ProbeWord]) -> tuple[Verdict, bool]:
    down = up = strained = 0
    hard = False
    for state in (word.state for word in words):
        if state.state == "DOWN":
            down += 1
            hard = hard or state.hard
        elif state.state == "UP":
            up += 1
            strained += state.outcome in STRAINED
    if down:
        return Verdict.DOWN, hard
    if not up:
        return Verdict.UNKNOWN, False
    return (Verdict.DEGRADED if strained * 2 > up else Verdict.HEALTHY), False


def _evidence(word: ProbeWord) -> EvidenceRef:
    state = word.state
    return EvidenceRef(
        vantage=word.source.vantage,
        source=word.source.id,
        boot=word.source.boot,
        seq=word.seq,
        target=state.target,
        monitor=state.monitor,
        outcome=state.outcome,
        detail=state.detail,
        observed_at=state.probed_at,
        traceparent=state.traceparent,
    )
