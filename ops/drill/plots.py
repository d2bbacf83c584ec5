"""Plots as inline SVG: lines, and areas stacked upon each other, over a time axis. Numbers in, markup out.

What is drawn stretches with the page, what is written does not: the shapes stand in an inner `svg`
without a fixed proportion, the words in another over it, placed in percent. Nothing is told by colour
alone: lines differ in their dashes, areas in their hatching. Colours are named in STYLE, for light and
dark; the eight are those of Okabe and Ito (2008), told apart with any colour vision.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 1000.0, 300.0
"""Units of the inner drawing; the page decides how large they are."""
COLOURS = 8
TOLD = 4
"""Values that the title of one moment tells."""
_TICKS = (1.0, 2.0, 2.5, 5.0, 10.0)
_DASHES = ("", "9 4", "2 3", "12 3 2 3", "5 2", "1 2", "14 4", "6 2 2 2")
_HATCHING = (
    "",
    "M0 0L8 8",
    "M0 8L8 0",
    "M0 4H8",
    "M4 0V8",
    "M0 0L8 8M0 8L8 0",
    "M0 4H8M4 0V8",
    "M2 2h2v2h-2z",
)

STYLE = """
:root{--ink:#1b1f24;--soft:#57606a;--rule:#d8dee4;--paper:#fff;--band:#d55e0022;--limit:#b42318;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#a8578a;--c4:#2a8fc4;--c5:#b87700;--c6:#6b6b00;--c7:#3b3b3b}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--rule:#30363d;--paper:#0d1117;--band:#ff8c4233;
--limit:#ff8b7e;--c0:#56b4e9;--c1:#ff8c42;--c2:#2fc79b;--c3:#e29bc6;--c4:#9ad0f5;--c5:#f0b429;--c6:#e6dc4a;--c7:#c9d1d9}}
.plot{margin:1rem 0 1.6rem}.plot figcaption{font-weight:600}.plot p{margin:.2rem 0;color:var(--soft);font-size:.85rem}
svg.frame{display:block;width:100%;height:262px;overflow:visible}
svg.frame>svg{x:52px;y:20px;width:calc(100% - 60px);height:200px;overflow:visible}
svg.frame text{fill:var(--soft);font:12px system-ui,sans-serif;paint-order:stroke;stroke:var(--paper);stroke-width:3px}
.shape *{vector-effect:non-scaling-stroke}.shape path.grid,.shape path.axis{fill:none}.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}
.band{fill:var(--band)}.bar{fill:var(--c1)}.edge{fill:none;stroke:var(--c1);stroke-width:1.5;stroke-dasharray:4 3}.mark{stroke:var(--soft);stroke-dasharray:1 3}
.limit{stroke:var(--limit);stroke-width:1.5;stroke-dasharray:7 5}svg.frame text.limit{fill:var(--limit);stroke:var(--paper);stroke-width:3px;stroke-dasharray:none}
.line{fill:none;stroke-width:2}.area{stroke:var(--paper);stroke-width:.7}.hit{fill:transparent}.hit:hover{fill:var(--ink);fill-opacity:.13}
.key{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;list-style:none;margin:.2rem 0 0;padding:0;font-size:.85rem}
.key svg{width:28px;height:12px;vertical-align:-1px;margin-right:.4rem}
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One line or area: a value for each of the plot's moments; None where there is none to show."""

    name: str
    values: Sequence[float | None]
    ink: int | None = None
    """Which of the eight colours, with its dashes or hatching; by its place among the others when absent."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A line that must not be crossed."""

    value: float
    name: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, at a moment of the time axis."""

    at_s: float
    name: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn. Times in seconds, as the axis shows them; `step_s` after `at_s[i]` is the next."""

    title: str
    unit: str
    at_s: Sequence[float]
    step_s: float
    series: Sequence[Series]
    fault: tuple[float, float] | None = None
    """From when until when; shaded."""
    limits: Sequence[Limit] = ()
    marks: Sequence[Mark] = ()
    note: str = ""
    floor: float = 0.0
    ceiling: float | None = None
    """Of the value axis; by the values when absent."""


def lines(plot: Plot) -> str:
    """`plot` as lines, broken where a value is missing. Escaped; one `figure`."""
    scale = _Scale.of(plot, top=_highest(plot))
    shapes = "".join(_line(scale, plot, series, place) for place, series in enumerate(plot.series))
    return _figure(
        plot, scale, shapes, [_line_key(series, place) for place, series in enumerate(plot.series)]
    )


def areas(plot: Plot) -> str:
    """`plot` as areas, each upon the one before; a missing value is 0. Escaped; one `figure`."""
    totals = [sum(series.values[n] or 0.0 for series in plot.series) for n in range(len(plot.at_s))]
    scale = _Scale.of(plot, top=max(totals, default=0.0))
    base, shapes = [0.0] * len(plot.at_s), []
    for place, series in enumerate(plot.series):
        over = [below + (value or 0.0) for below, value in zip(base, series.values, strict=True)]
        shapes.append(_area(scale, plot, base, over, _ink(series.ink, place)))
        base = over
    return _figure(
        plot, scale, "".join(shapes), [_area_key(series, place) for place, series in enumerate(plot.series)]
    )


def patterns() -> str:
    """The hatchings that areas refer to; once a page, before the first plot."""
    content = "".join(
        f"<pattern id=h{place} width=8 height=8 patternUnits=userSpaceOnUse>"
        f"<rect width=8 height=8 style='fill:var(--c{place})'/>"
        + (f"<path d='{path}' style='fill:none;stroke:var(--paper);stroke-width:1.3'/>" if path else "")
        + "</pattern>"
        for place, path in enumerate(_HATCHING)
    )
    return f"<svg width=0 height=0 style=position:absolute aria-hidden=true><defs>{content}</defs></svg>"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, some `about` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in _TICKS if power * times >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class _Scale:
    """From seconds and values to units of the inner drawing."""

    begin: float
    end: float
    low: float
    high: float

    @classmethod
    def of(cls, plot: Plot, *, top: float) -> "_Scale":
        begin = plot.at_s[0] if plot.at_s else 0.0
        end = plot.at_s[-1] + plot.step_s if plot.at_s else plot.step_s
        wanted = max([top, *(limit.value for limit in plot.limits)])
        high = plot.ceiling if plot.ceiling is not None else (wanted * 1.08 or 1.0)
        return cls(begin, max(end, begin + 1e-6), plot.floor, max(high, plot.floor + 1e-6))

    def part(self, seconds: float) -> float:
        """How far along the axis, 0 to 1."""
        return min(1.0, max(0.0, (seconds - self.begin) / (self.end - self.begin)))

    def x(self, seconds: float) -> float:
        return round(self.part(seconds) * WIDTH, 1)

    def y(self, value: float) -> float:
        held = min(self.high, max(self.low, value))
        return round(HEIGHT * (1 - (held - self.low) / (self.high - self.low)), 1)


def _highest(plot: Plot) -> float:
    return max((value for series in plot.series for value in series.values if value is not None), default=0.0)


def _figure(plot: Plot, scale: _Scale, shapes: str, keys: Sequence[str]) -> str:
    words, lanes = _marks(plot, scale)
    below, above = _fault(plot, scale)
    limits = "".join(f"<path class=limit d='M0 {scale.y(limit.value)}H{WIDTH:g}'/>" for limit in plot.limits)
    summary = ", ".join(_range(series, plot.unit) for series in plot.series)
    legend = "".join(f"<li>{key}{escape(series.name)}" for key, series in zip(keys, plot.series, strict=True))
    return (
        f"<figure class=plot><figcaption>{escape(plot.title)}, {escape(plot.unit)}</figcaption>"
        f"{f'<p>{escape(plot.note)}</p>' if plot.note else ''}"
        f"<svg class=frame role=img aria-label='{escape(plot.title)}: {escape(summary)}'>"
        f"<svg class=shape x='8%' y=20 width='90%' height=200 viewBox='0 0 {WIDTH:g} {HEIGHT:g}' preserveAspectRatio=none>"
        f"{below}{_grid(plot, scale)}{shapes}{above}{limits}{lanes}{_hits(plot, scale)}</svg>"
        f"<svg x='8%' y=20 width='90%' height=200 pointer-events=none>{_labels(plot, scale)}{words}</svg></svg>"
        f"<ul class=key>{legend}</ul></figure>"
    )


def _fault(plot: Plot, scale: _Scale) -> tuple[str, str]:
    """Its span: shaded below the shapes; above them its edges, and a bar, as areas may cover all the rest."""
    if plot.fault is None:
        return "", ""
    left, right = scale.x(plot.fault[0]), scale.x(plot.fault[1])
    wide = max(1.0, right - left)
    return (
        f"<rect class=band x={left} width={wide:.1f} height={HEIGHT:g} />",
        (
            f"<rect class=bar x={left} y=-9 width={wide:.1f} height=9 />"
            f"<path class=edge d='M{left} 0V{HEIGHT:g}M{right} 0V{HEIGHT:g}'/>"
        ),
    )


def _grid(plot: Plot, scale: _Scale) -> str:
    across = "".join(f"M0 {scale.y(value)}H{WIDTH:g}" for value in ticks(scale.low, scale.high))
    return f"<path class=grid d='{across}'/><path class=axis d='M0 0V{HEIGHT:g}H{WIDTH:g}'/>"


def _labels(plot: Plot, scale: _Scale) -> str:
    found = [
        f"<text x=-6 y='{100 * scale.y(value) / HEIGHT:.1f}%' dy=4 text-anchor=end>{figure(value)}</text>"
        for value in ticks(scale.low, scale.high)
    ]
    found += [
        f"<text x='{100 * scale.part(at):.1f}%' y='100%' dy=17 text-anchor=middle>{figure(at)}"
        f"{' s' if not number else ''}</text>"
        for number, at in enumerate(ticks(scale.begin, scale.end))
    ]
    if plot.fault is not None:
        found.append(f"<text x='{100 * scale.part(plot.fault[0]):.1f}%' y=-9>fault</text>")
    for limit in plot.limits:
        at = scale.y(limit.value)
        found.append(
            f"<text class=limit x='100%' y='{100 * at / HEIGHT:.1f}%' dy={-5 if at > 20 else 14} "
            f"text-anchor=end>{escape(limit.name)}</text>"
        )
    return "".join(found)


def _marks(plot: Plot, scale: _Scale) -> tuple[str, str]:
    """Letters under the time axis, and their lines; what is too near to the one before shares its place."""
    shown = [
        mark
        for mark in sorted(plot.marks, key=lambda each: each.at_s)
        if scale.begin <= mark.at_s <= scale.end
    ]
    groups: list[list[tuple[str, Mark]]] = []
    for number, mark in enumerate(shown):
        letter = chr(ord("a") + number % 26)
        if groups and scale.part(mark.at_s) - scale.part(groups[-1][0][1].at_s) < 0.05:
            groups[-1].append((letter, mark))
        else:
            groups.append([(letter, mark)])
    words = []
    for group in groups:
        letters = group[0][0] if len(group) == 1 else f"{group[0][0]}–{group[-1][0]}"
        words.append(
            f"<text x='{100 * scale.part(group[0][1].at_s):.1f}%' y='100%' dy=34 text-anchor=middle>{letters}</text>"
        )
    lanes = "".join(f"M{scale.x(mark.at_s)} 0V{HEIGHT:g}" for mark in shown)
    return "".join(words), f"<path class=mark d='{lanes}'/>" if lanes else ""


def mark_letters(marks: Sequence[Mark]) -> Iterator[tuple[str, Mark]]:
    """The letter under which each mark stands on a plot that shows them all, in their order."""
    for number, mark in enumerate(sorted(marks, key=lambda each: each.at_s)):
        yield chr(ord("a") + number % 26), mark


def _line(scale: _Scale, plot: Plot, series: Series, place: int) -> str:
    """Level over each moment: a value is of all of it, not of its beginning."""
    path, pen_down = [], False
    for at, value in zip(plot.at_s, series.values, strict=True):
        if value is not None:
            begin = f"V{scale.y(value)}" if pen_down else f"M{scale.x(at)} {scale.y(value)}"
            path.append(f"{begin}H{scale.x(at + plot.step_s)}")
        pen_down = value is not None
    return f"<path class=line {_stroke(series.ink, place)} d='{''.join(path)}'/>"


def _area(scale: _Scale, plot: Plot, base: Sequence[float], over: Sequence[float], ink: int) -> str:
    if not plot.at_s:
        return ""
    edges = [*plot.at_s[1:], scale.end]
    up = "".join(
        f"L{scale.x(at)} {scale.y(value)}H{scale.x(end)}"
        for at, end, value in zip(plot.at_s, edges, over, strict=True)
    )
    down = "".join(
        f"V{scale.y(value)}H{scale.x(at)}"
        for at, value in zip(reversed(plot.at_s), reversed(base), strict=True)
    )
    return f"<path class=area fill='url(#h{ink})' d='M{up[1:]}{down}Z'/>"


def _hits(plot: Plot, scale: _Scale) -> str:
    """An invisible column for each moment, whose title tells its values, at most TOLD of them."""
    found = []
    for number, at in enumerate(plot.at_s):
        known = [
            (series.name, value) for series in plot.series if (value := series.values[number]) is not None
        ]
        if len(known) > TOLD:
            known = sorted(known, key=lambda one: -one[1])
            known = [*known[: TOLD - 1], ("others", sum(value for _, value in known[TOLD - 1 :]))]
        told = ", ".join(f"{name} {figure(value)}" for name, value in known)
        text = f"{figure(at)} s: {told or 'nothing'}"
        left, right = scale.x(at), scale.x(at + plot.step_s)
        found.append(
            f"<rect class=hit x={left} width={right - left:.1f} height={HEIGHT:g}>"
            f"<title>{escape(text)}</title></rect>"
        )
    return "".join(found)


def _line_key(series: Series, place: int) -> str:
    return f"<svg aria-hidden=true><path class=line {_stroke(series.ink, place)} d='M0 6H28'/></svg>"


def _area_key(series: Series, place: int) -> str:
    return f"<svg aria-hidden=true><rect width=28 height=12 fill='url(#h{_ink(series.ink, place)})'/></svg>"


def _stroke(ink: int | None, place: int) -> str:
    chosen = _ink(ink, place)
    dash = _DASHES[chosen]
    return f"style='stroke:var(--c{chosen}){f';stroke-dasharray:{dash}' if dash else ''}'"


def _ink(ink: int | None, place: int) -> int:
    return (place if ink is None else ink) % COLOURS


def _range(series: Series, unit: str) -> str:
    known = [value for value in series.values if value is not None]
    if not known:
        return f"{series.name} nothing"
    return f"{series.name} {figure(min(known))} to {figure(max(known))} {unit}"


def figure(value: float) -> str:
    """A number as an axis shows it: `0.25`, `12.5`, `1200`."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return (
        f"{value:.1f}".removesuffix(".0")
        if abs(value) >= 10
        else f"{value:.2f}".rstrip("0").removesuffix(".")
    )
