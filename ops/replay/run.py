"""The replay itself: all courses of a recording, side by side.

`happened` is the recorded commits. `recorded` is the recorded configuration, decided again: where it
differs from `happened` is how far a replay can be trusted here. The others are the candidates.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from threading import active_count
from typing import Any

from pydantic import AwareDatetime

from control_plane.core.onward import Step
from control_plane.core.rehearse import Rehearsal
from control_plane.loops.view import FORGET_S
from ops.errors import Bad
from ops.replay.recording import Header, Line, Recording, changes_of
from ops.replay.tally import Account
from ops.replay.truth import Outages, Witness
from shared.vocabulary.base import Message
from shared.vocabulary.config import Fleet, FleetConfig

Progress = Callable[[float], None]
"""Is told the part done, 0 to 1."""
HAPPENED = "happened"
RECORDED = "recorded"
WARM_S = 3.0
"""As a cold replica waits for its observers before it first decides."""
PROGRESS_EVERY = 500
MAX_REMOVALS = 200
"""Listed for one course."""
MAX_OUTAGES = 500
WORTH_SHARING_BYTES = 1_000_000
"""A shorter recording is replayed before other processes have started."""


class ReplayedRemoval(Message):
    """A target taken out by one commit."""

    at: AwareDatetime
    target: str
    clients: tuple[str, ...]
    """Client regions that lost it."""
    false_alarm: bool
    flap: bool


class ReplayedCourse(Message):
    """The figures of one course; see `ops.replay.tally` for what each counts."""

    name: str
    differences: tuple[str, ...] = ()
    """What its configuration has otherwise than the recorded one."""
    commits: int
    refused: int
    removals: int
    returns: int
    false_alarms: int
    flaps: int
    outages_in_use: int
    outages_unanswered: int
    removed_after_mean_s: float | None
    removed_after_max_s: float | None
    traffic_on_down_s: float
    avoided_s: float
    """`traffic_on_down_s` of what happened, less that of this course."""
    shed_s: float
    out_while_good_s: float
    differs_s: float
    """How long clients are served otherwise than happened, mean over routes and client regions."""
    removed: tuple[ReplayedRemoval, ...]
    """At most 200."""


class ReplayedOutage(Message):
    """A time in which a target was down, and when each course had relieved it of its traffic."""

    target: str
    clients: str | None
    """The client region for which it was down; null: for all."""
    began_at: AwareDatetime
    lasted_s: float
    removed_after_s: Mapping[str, float | None]
    """Course -> seconds; null: never while it lasted. Without an entry, it carried no traffic there."""


class ReplayReport(Message):
    """`leeward replay -o json`."""

    recording: str
    began_at: AwareDatetime
    ended_at: AwareDatetime
    events: int
    config_version: int
    tolerance_s: float
    outages: tuple[ReplayedOutage, ...]
    """At most 500."""
    courses: tuple[ReplayedCourse, ...]
    notes: tuple[str, ...]


def replay(
    recording: Recording,
    candidates: Mapping[str, Fleet],
    *,
    tolerance_s: float,
    progress: Progress = lambda _: None,
    workers: int = 1,
) -> ReplayReport:
    """Run `recording` through its own configuration and each of `candidates` (name -> fleet).

    Each course is a reading of its own, so memory does not grow with the recording, and up to `workers`
    processes take them on when it is long. `progress` is told the part done, 0 to 1. Raises Bad when
    nothing was heard in its time, Usage for a line that cannot be read.
    """
    header = recording.header
    fleets = {RECORDED: header.config.fleet, **candidates}
    long = recording.path.stat().st_size >= WORTH_SHARING_BYTES
    many = workers > 1 and long and active_count() == 1 and "fork" in get_all_start_methods()
    if many:
        truth, accounts = _shared_out(recording, fleets, workers, progress)
    else:
        stage = _stages(len(fleets) + 1, progress)
        truth = _happened(recording, stage(0))
        accounts = {
            name: _rehearsed(recording, fleet, name == RECORDED, stage(done))
            for done, (name, fleet) in enumerate(fleets.items(), start=1)
        }
    progress(1.0)
    return _report(recording, {HAPPENED: truth.account, **accounts}, fleets, truth, tolerance_s)


@dataclass(frozen=True, slots=True)
class _Truth:
    """What the recording itself says."""

    account: Account
    """Of what happened."""
    outages: Outages
    events: int
    notes: tuple[str, ...]


def _happened(recording: Recording, progress: Progress) -> _Truth:
    """Raises Bad when there is nothing."""
    header = recording.header
    account, witness = _beginning(header), Witness(header.config.fleet.policy)
    events, notes = 0, list(header.notes)
    for line in _lines(recording, progress):
        if line.event is not None:
            events += line.at >= header.began_at
            witness.hear(line.event, line.at)
        elif line.decision is not None:
            account.take(line.at, changes_of(line.decision))
        elif line.config is not None:
            notes.append(
                f"version {line.config.config_version} of the configuration came into force at "
                f"{line.at:%H:%M:%S}: `{RECORDED}` adopts it, candidates stay as they are"
            )
    if not events:
        raise Bad(
            f"{recording.path}: no health events between {header.began_at:%Y-%m-%d %H:%M:%S} "
            f"and {header.ended_at:%H:%M:%S} UTC"
        )
    return _Truth(account, witness.finish(header.ended_at), events, tuple(notes))


def _rehearsed(recording: Recording, fleet: Fleet, adopts: bool, progress: Progress) -> Account:
    """The course by `fleet`, under the recorded version, so that the number alone changes no document;
    when it `adopts`, by the recorded configurations after it."""
    header = recording.header
    account = _beginning(header)

    def stepped(at: datetime, step: Step) -> None:
        if step.refusals:
            account.refuse(at)
        if step.kept is not None:
            account.take(at, step.changed)

    rehearsal = Rehearsal(
        FleetConfig(config_version=header.config.config_version, fleet=fleet),
        {document.route: document for document in header.documents},
        decides_from=min(header.heard_from + timedelta(seconds=WARM_S), header.began_at),
        tick_s=header.reconcile_s,
        forget_s=FORGET_S,
        on_step=stepped,
        overrides=header.overrides,
        rollouts=header.rollouts,
    )
    for line in _lines(recording, progress):
        if line.event is not None:
            rehearsal.hear(line.event, line.at)
        elif line.config is not None and adopts:
            rehearsal.adopt(line.config, line.at)
    rehearsal.finish(header.ended_at)
    return account


def _shared_out(
    recording: Recording, fleets: Mapping[str, Fleet], workers: int, progress: Progress
) -> tuple[_Truth, Mapping[str, Account]]:
    """All readings at once, each in a process of its own: forked, which takes no time, and is safe as
    long as nobody here has threads."""
    with ProcessPoolExecutor(min(workers, len(fleets) + 1), mp_context=get_context("fork")) as pool:
        truth = pool.submit(_happened, recording, _quietly)
        accounts = {
            name: pool.submit(_rehearsed, recording, fleet, name == RECORDED, _quietly)
            for name, fleet in fleets.items()
        }
        under_way: list[Future[Any]] = [truth, *accounts.values()]
        for done, _ in enumerate(as_completed(under_way), start=1):
            progress(done / (len(fleets) + 1))
        return truth.result(), {name: account.result() for name, account in accounts.items()}


def _stages(count: int, progress: Progress) -> Callable[[int], Progress]:
    """The progress of each of `count` equal stages, as a part of the whole."""

    def stage(done: int) -> Progress:
        return lambda part: progress((done + part) / count)

    return stage


def _quietly(_: float) -> None:
    """No progress is told across processes but that a course is done."""


def _beginning(header: Header) -> Account:
    account = Account(header.began_at)
    account.take(header.heard_from, {document.route: document for document in header.documents})
    return account


def _lines(recording: Recording, progress: Progress) -> Iterator[Line]:
    """Those up to the end of its time."""
    header = recording.header
    for number, line in enumerate(recording.lines()):
        if line.at > header.ended_at:
            return
        if number % PROGRESS_EVERY == 0:
            progress(_part(header, line.at))
        yield line


def _part(header: Header, at: datetime) -> float:
    whole_s = (header.ended_at - header.heard_from).total_seconds()
    return min(1.0, max(0.0, (at - header.heard_from).total_seconds() / whole_s)) if whole_s > 0 else 1.0


def _report(
    recording: Recording,
    accounts: Mapping[str, Account],
    fleets: Mapping[str, Fleet],
    truth: _Truth,
    tolerance_s: float,
) -> ReplayReport:
    header, recorded = recording.header, recording.header.config.fleet
    close = partial(_course, header=header, accounts=accounts, outages=truth.outages, tolerance_s=tolerance_s)
    return ReplayReport(
        recording=str(recording.path),
        began_at=header.began_at,
        ended_at=header.ended_at,
        events=truth.events,
        config_version=header.config.config_version,
        tolerance_s=tolerance_s,
        outages=tuple(_outages(header, accounts, truth.outages))[:MAX_OUTAGES],
        courses=tuple(
            close(name, differences=differences(recorded, fleets[name]) if name in fleets else ())
            for name in accounts
        ),
        notes=(*truth.notes, *_notes(recorded, fleets)),
    )


def _course(
    name: str,
    *,
    differences: tuple[str, ...],
    header: Header,
    accounts: Mapping[str, Account],
    outages: Outages,
    tolerance_s: float,
) -> ReplayedCourse:
    account, happened = accounts[name], accounts[HAPPENED]
    figures = account.figures(header.ended_at, outages, tolerance_s=tolerance_s)
    lost_s = happened.figures(header.ended_at, outages, tolerance_s=tolerance_s).traffic_on_down_s
    return ReplayedCourse(
        name=name,
        differences=differences,
        **asdict(figures),
        avoided_s=round(lost_s - figures.traffic_on_down_s, 3),
        differs_s=account.differs_s(happened, header.ended_at),
        removed=tuple(
            ReplayedRemoval(
                at=each.at,
                target=each.target,
                clients=tuple(sorted(each.regions)),
                false_alarm=not account.founded(each, outages, tolerance_s),
                flap=each.flap,
            )
            for each in account.removals[:MAX_REMOVALS]
        ),
    )


def _outages(header: Header, accounts: Mapping[str, Account], outages: Outages) -> list[ReplayedOutage]:
    found = []
    for key, (began, ended) in outages.listed():
        if ended <= header.began_at:
            continue
        after = {name: account.removed_after_s(key, (began, ended)) for name, account in accounts.items()}
        found.append(
            ReplayedOutage(
                target=key[0],
                clients=key[1],
                began_at=began,
                lasted_s=round((ended - began).total_seconds(), 3),
                removed_after_s={name: seconds for name, (used, seconds) in after.items() if used},
            )
        )
    return found


def differences(recorded: Fleet, other: Fleet) -> tuple[str, ...]:
    """`policy.hold_down_s: 2 -> 30`; of the other parts of a fleet only that they differ."""
    before, after = recorded.policy.model_dump(), other.policy.model_dump()
    changed = [
        f"policy.{name}: {_shown(before[name])} -> {_shown(value)}"
        for name, value in after.items()
        if before[name] != value
    ]
    parts = ("regions", "targets", "monitors", "routes")
    return (
        *changed,
        *(f"{part} differ" for part in parts if getattr(recorded, part) != getattr(other, part)),
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _notes(recorded: Fleet, fleets: Mapping[str, Fleet]) -> list[str]:
    return [
        f"{name}: its monitors' thresholds and paces cannot be replayed, for probers count; "
        "who may vote on a target can, and is"
        for name, fleet in fleets.items()
        if fleet.monitors != recorded.monitors
    ]
