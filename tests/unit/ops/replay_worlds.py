"""Recordings for tests, written by hand: probers of three regions that speak once a second, edges, commits."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from ops.replay.recording import Commit, Header, Recording, commit_line, event_line, write
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import DecidedTier, Decision, Exclusion, RegionDecision, Term, WeightedTarget
from shared.vocabulary.health import HealthEvent
from shared.vocabulary.terms import Outcome
from tests.unit.control_plane.brain_worlds import (
    REGIONS,
    START,
    fleet_config,
    passive_event,
    probe_event,
    probe_state,
)

TERM = Term(holder="cp-us-east", epoch=7)
Down = Callable[[str, str, float], bool]
"""Whether a vantage sees a target DOWN, so many seconds after START."""


def at(seconds: float) -> datetime:
    """So many seconds after START."""
    return START + timedelta(seconds=seconds)


def rounds(lasts_s: int, down: Down, *, config: FleetConfig, hard: bool = True) -> list[bytes]:
    """Every second a word of each region's prober about all targets."""
    return [
        event_line(at(second), region, _round(region, second, down, config, hard=hard).canonical())
        for second in range(lasts_s)
        for region in REGIONS
    ]


def traffic(
    second: float, region: str, windows: Mapping[str, Mapping[Outcome, int]], *, seq: int
) -> tuple[float, bytes]:
    """What the edge of `region` says at `second`, for `recording`."""
    event = passive_event(region, windows, seq=seq, at=at(second))
    return second, event_line(at(second), region, event.canonical())


def document(out: Iterable[str] = (), *, seq: int = 1, by: str = "auto") -> Decision:
    """Route `chat` as decided by hand: each client region uses its own alpha, with the others and the
    betas standing by; who is `out` is excluded for all, and the first alpha left takes its place."""
    out = tuple(out)
    regions = {}
    for region in REGIONS:
        alphas = [f"alpha-{each}" for each in (region, *REGIONS) if f"alpha-{each}" not in out]
        betas = [f"beta-{each}" for each in (region, *REGIONS) if f"beta-{each}" not in out]
        regions[region] = RegionDecision(
            tiers=(
                DecidedTier(share_permille=1000, targets=_first_takes_all(alphas)),
                DecidedTier(share_permille=0, targets=_first_takes_all(betas)),
            )
        )
    return Decision(
        route="chat",
        generation=1,
        seq=seq,
        config_version=1,
        regions=regions,
        excluded=tuple(Exclusion(target=target, by=by, reason="by hand") for target in out),
        decided_at=START,
        term=TERM,
    )


def commit(second: float, decision: Decision) -> tuple[float, bytes]:
    """A commit of `decision` at `second`, for `recording`."""
    return second, commit_line(at(second), Commit(version=str(decision.version), documents=(decision,)))


def recording(
    path: Path,
    *,
    lasts_s: int,
    down: Down,
    commits: Iterable[tuple[float, bytes]] = (),
    config: FleetConfig | None = None,
    began_s: float = 10.0,
    hard: bool = True,
) -> Recording:
    """A recording of `lasts_s` from START, with a lead-in until `began_s`, all in order at its start.

    `commits` are lines with their times, edges' words included.
    """
    config = config or fleet_config()
    timed = [
        (float(number // len(REGIONS)), line)
        for number, line in enumerate(rounds(lasts_s, down, config=config, hard=hard))
    ]
    header = Header(
        heard_from=START,
        began_at=at(began_s),
        ended_at=at(lasts_s),
        config=config,
        documents=(document(),),
    )
    ordered = sorted([*timed, *commits], key=lambda each: each[0])
    write(path, header, (line for _, line in ordered))
    return Recording.open(path)


def _round(region: str, second: int, down: Down, config: FleetConfig, *, hard: bool) -> HealthEvent:
    states = [
        probe_state(
            target.id,
            "DOWN" if down(region, target.id, second) else "UP",
            hard=hard and down(region, target.id, second),
            at=at(second),
        )
        for target in config.fleet.targets
    ]
    return probe_event(region, states, seq=second + 1, at=at(second))


def _first_takes_all(targets: Iterable[str]) -> tuple[WeightedTarget, ...]:
    return tuple(
        WeightedTarget(id=target, weight_permille=0 if place else 1000)
        for place, target in enumerate(dict.fromkeys(targets))
    )
