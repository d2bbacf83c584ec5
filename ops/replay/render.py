"""A replay's report for a terminal of 100 columns."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from ops.render import rows
from ops.replay.run import ReplayedCourse, ReplayReport

COLUMNS = 4
"""Courses beside each other; more go below."""
MAX_LISTED = 20

_FIGURES: Sequence[tuple[str, Callable[[ReplayedCourse], str]]] = (
    ("traffic on targets that were down", lambda each: seconds(each.traffic_on_down_s)),
    ("  avoided, against what happened", lambda each: seconds(each.avoided_s)),
    ("removals (failovers)", lambda each: str(each.removals)),
    ("  false alarms", lambda each: str(each.false_alarms)),
    ("  flaps", lambda each: str(each.flaps)),
    ("returns", lambda each: str(each.returns)),
    ("relieved after, mean", lambda each: seconds(each.removed_after_mean_s)),
    ("relieved after, longest", lambda each: seconds(each.removed_after_max_s)),
    ("outages never answered", lambda each: f"{each.outages_unanswered} of {each.outages_in_use}"),
    ("out of service while good", lambda each: seconds(each.out_while_good_s)),
    ("requests turned away", lambda each: seconds(each.shed_s)),
    ("decisions", lambda each: str(each.commits)),
    ("refused by the safety checks", lambda each: str(each.refused)),
    ("served otherwise than happened", lambda each: seconds(each.differs_s)),
)


def report(found: ReplayReport) -> Group:
    """The figures side by side, then outages, false alarms and notes."""
    lasted_s = (found.ended_at - found.began_at).total_seconds()
    parts: list[Any] = [
        Text(
            f"{found.recording}: {seconds(lasted_s)} from {found.began_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"{found.events} events, {len(found.outages)} outages, configuration {found.config_version}",
            style="bold",
        )
    ]
    for course in found.courses:
        parts += [Text(f"{course.name}: {difference}") for difference in course.differences]
    first, others = found.courses[:1], found.courses[1:]
    for start in range(0, len(others), COLUMNS - 1):
        shown = (*first, *others[start : start + COLUMNS - 1])
        parts.append(
            rows(
                ("", *(each.name[:24] for each in shown)),
                [(label, *(figure(each) for each in shown)) for label, figure in _FIGURES],
            )
        )
    parts += _outages(found)
    parts += _false_alarms(found)
    parts += [Text(f"note: {note}", style="yellow") for note in found.notes]
    return Group(*parts)


def seconds(value: float | None) -> str:
    """`0.4 s`, `12.3 min`; `-` for nothing."""
    if value is None:
        return "-"
    return f"{value / 60:.1f} min" if abs(value) >= 120 else f"{value:.1f} s"


def _outages(found: ReplayReport) -> list[Any]:
    if not found.outages:
        return []
    names = [course.name for course in found.courses][:COLUMNS]
    listed = [
        (
            each.target,
            each.clients or "all",
            f"{each.began_at:%H:%M:%S}",
            seconds(each.lasted_s),
            *(
                ("never" if each.removed_after_s[name] is None else seconds(each.removed_after_s[name]))
                if name in each.removed_after_s
                else "not in use"
                for name in names
            ),
        )
        for each in found.outages[:MAX_LISTED]
    ]
    table = rows(("outage", "clients", "began", "lasted", *(name[:12] for name in names)), listed)
    more = len(found.outages) - MAX_LISTED
    return [Text("\nrelieved of its traffic after"), table, *([Text(f"and {more} more")] if more > 0 else [])]


def _false_alarms(found: ReplayReport) -> list[Any]:
    told = [
        (course.name, removal.target, f"{removal.at:%H:%M:%S}", ", ".join(removal.clients))
        for course in found.courses
        for removal in course.removed
        if removal.false_alarm
    ][:MAX_LISTED]
    return (
        [Text(""), rows(("false alarm of", "target", "at", "lost by the clients of"), told)] if told else []
    )
