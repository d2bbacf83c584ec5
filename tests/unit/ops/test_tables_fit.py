"""Every table of the reading commands at a hundred columns, for a large fleet with long names."""

import io
from collections import Counter

import pytest
from rich.console import Console, RenderableType

from ops import render
from ops.cli.reading import _explanation, timeline
from ops.render_top import Room, screen, top
from ops.shaping import said
from tests.unit.ops import top_worlds as worlds

TABLES: dict[str, RenderableType] = {
    "status": render.status(worlds.status(), said(worlds.glance().shaping)),
    "health": render.health(worlds.view(), said(worlds.glance().shaping)),
    "decisions": timeline([worlds.commit(n) for n in range(20)]),
    "explain": _explanation({"said": worlds.commit(0)["said"], "documents": [worlds.document()]}),
    "top": top(worlds.glance(), Room()),
    "overrides": render.rows(
        ("id", "what", "state", "left", "by", "why"),
        [("drain-123456", f"drain {name} on all routes", "in force", "1h59m", "ann " * 9, name) for name in worlds.TARGETS],
    ),
}  # fmt: skip


def printed(what: RenderableType, width: int) -> str:
    output = io.StringIO()
    Console(file=output, width=width, height=10_000, no_color=True).print(what)
    return output.getvalue()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("width", [80, 100])
def test_nothing_is_cut(name: str, width: int) -> None:
    """What a very wide terminal shows stands on one of a hundred columns, too, and on a smaller one: every
    character of it, in more lines."""
    text = printed(TABLES[name], width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    whole = Counter(printed(TABLES[name], 5_000))
    for blank in " \n":
        del whole[blank]
    shown = Counter(text)
    assert {letter: shown[letter] for letter in whole} == dict(whole)


def test_short_columns_stay_whole() -> None:
    """Verdicts, modes and figures are never broken: the widest columns give, evenly."""
    assert render.fitted([10, 5, 7], 30) == [10, 5, 7]
    assert render.fitted([60, 9, 60], 89) == [40, 9, 40]
    assert render.fitted([9, 9], 4) == [2, 2]
    assert render.fitted([33, 24, 24, 24], 93, [33, 8, 8, 8]) == [33, 20, 20, 20]
    assert render.fitted([33, 24], 20, [33, 8]) == [12, 8]
    text = printed(TABLES["health"], 100)
    assert text.count("DEGRADED") >= 60


@pytest.mark.parametrize("height", [24, 40, 60])
@pytest.mark.parametrize("targets", [6, 200])
def test_top_fits_the_screen(height: int, targets: int) -> None:
    """What is left out is counted, what is wrong comes first, and every part is there."""
    console = Console(file=io.StringIO(), width=100, height=height, no_color=True, force_terminal=True)
    found = screen(worlds.glance(targets), console)
    lines = console.render_lines(found, pad=False)
    text = "\n".join("".join(segment.text for segment in line) for line in lines)
    for word in ("region", "target", "edge", "decision", "operators shape the traffic", "DOWN"):
        assert word in text
    assert "more: " in text
    assert len(lines) <= height
    assert "target-in-…" in text


def test_top_shows_all_where_there_is_room() -> None:
    """Without a screen's height nothing is left out."""
    text = printed(top(worlds.glance(), Room()), 5_000)
    assert all(target in text for target in worlds.TARGETS)
    assert "64/128" in text
    assert "31 ms" in text
    assert "(1 behind)" in text
