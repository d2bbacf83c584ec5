"""Trend: one figure of one target from window to window, measured against its baseline.

    beyond    at or above the limit          `windows_in` in a row: out of the usual
    between   above half of the way to it    ends either row
    back      below                          `windows_out` in a row: usual again

The limit is the usual value and the greatest of: the rule's deviations, its floor, its ratio. The floors
make nothing of 1 ms that becomes 3 ms, however steady it was. Where this hour and all hours have norms,
the higher limit counts: the daily peak is usual for its hour, and a lasting change is usual at last.

A figure is comparable only while the same observers speak: when the nearest vantage falls silent the
median of the others rises, and nothing has become slower. So figures of another panel are passed over,
and after `PATIENCE` of them the baseline begins anew. Without figures for as long as it takes to come
back, nothing is held against a target any more.

Warning, where the rule asks for it: `LATELY` windows above half of the way, or the least-squares line
through the last `LINE` windows meets the limit within as many more, on a rise worth the name.
"""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from control_plane.core.baseline import UNLEARNT, Baseline, Norm, learn, usual

PATIENCE: Final = 30
LATELY: Final = 3
LINE: Final = 6
WARN_IN: Final = 2
"""Foretold in so many windows in a row, it is said."""
RISE: Final = 0.25
"""Of the way to the limit, that a line must have risen by, and stand above, to foretell anything."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a figure is out of the usual."""

    deviations: float
    floor: float
    """In the figure's own unit."""
    ratio: float
    windows_in: int
    windows_out: int
    warn: bool = False


class Line(NamedTuple):
    """What a value is measured against."""

    usual: float
    deviation: float
    """At least what floor and ratio make of it, so that the limit is always `deviations` of these away."""
    limit: float

    def above(self, value: float) -> float:
        """By how many deviations `value` stands above the usual."""
        return (value - self.usual) / self.deviation

    def on_the_way(self, part: float) -> float:
        """The value that has gone `part` of the way to the limit."""
        return self.usual + part * (self.limit - self.usual)


class Case(NamedTuple):
    """The figure that made the difference, for the words."""

    value: float
    line: Line


@dataclass(frozen=True, slots=True, eq=False)
class Trend:
    """Where the figure stands after the last window."""

    panel: int = 0
    """Who observed it, as a number to compare."""
    baseline: Baseline = UNLEARNT
    recent: tuple[float, ...] = ()
    beyond: int = 0
    """Windows in a row."""
    back: int = 0
    foretold: int = 0
    absent: int = 0
    """Windows in a row without a comparable figure."""
    out: bool = False
    warned: bool = False
    case: Case | None = None
    """Of the present `out` or `warned`, as it began."""


def step(trend: Trend, value: float | None, *, panel: int, hour: int, rule: Rule) -> Trend:
    """The trend after a window in which `panel` observed `value`, or nothing."""
    if value is None or (trend.panel and panel != trend.panel):
        if value is not None and trend.absent >= PATIENCE:
            return step(Trend(), value, panel=panel, hour=hour, rule=rule)
        return _without_figure(trend, rule)
    norms = usual(trend.baseline, hour)
    if not norms:
        return Trend(panel=panel, baseline=learn(trend.baseline, value, hour))
    line = line_of(norms, rule)
    beyond = trend.beyond + 1 if value >= line.limit else 0
    back = trend.back + 1 if value < line.on_the_way(0.5) else 0
    out = beyond >= rule.windows_in or (trend.out and back < rule.windows_out)
    recent = (*trend.recent, value)[-LINE:]
    foretold = trend.foretold + 1 if rule.warn and _foretells(recent, line) else 0
    warned = rule.warn and not out and (foretold >= WARN_IN or (trend.warned and back < rule.windows_out))
    case = None
    if out or warned:
        case = trend.case if (out, warned) == (trend.out, trend.warned) else Case(value, line)
    return Trend(
        panel=panel,
        baseline=learn(trend.baseline, min(value, line.limit), hour),
        recent=recent,
        beyond=beyond,
        back=back,
        foretold=foretold,
        out=out,
        warned=warned,
        case=case,
    )


def line_of(norms: tuple[Norm, ...], rule: Rule) -> Line:
    """What a value is measured against, given at least one norm: the one with the higher limit."""
    lines = []
    for norm in norms:
        least = max(rule.floor, (rule.ratio - 1.0) * norm.median, 1e-9) / rule.deviations
        deviation = max(norm.deviation, least)
        lines.append(Line(norm.median, deviation, norm.median + rule.deviations * deviation))
    return max(lines, key=lambda line: line.limit)


def _without_figure(trend: Trend, rule: Rule) -> Trend:
    if trend.absent > PATIENCE:
        return trend
    absent = trend.absent + 1
    if absent < rule.windows_out:
        return replace(trend, absent=absent)
    return Trend(panel=trend.panel, baseline=trend.baseline, absent=absent)


def _foretells(recent: tuple[float, ...], line: Line) -> bool:
    if len(recent) >= LATELY and min(recent[-LATELY:]) >= line.on_the_way(0.5):
        return True
    if len(recent) < LINE or recent[-1] < line.on_the_way(RISE):
        return False
    slope = _slope(recent)
    rise = RISE * (line.limit - line.usual)
    return slope * (LINE - 1) >= rise and recent[-1] + slope * LINE >= line.limit


def _slope(values: tuple[float, ...]) -> float:
    """Least squares, per window."""
    middle = (len(values) - 1) / 2
    spread = sum((place - middle) ** 2 for place in range(len(values)))
    return sum((place - middle) * value for place, value in enumerate(values)) / spread
