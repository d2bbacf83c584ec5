"""Plots: what is drawn stands where its numbers say."""

import re
from xml.etree import ElementTree

import pytest

from ops.drill.pictures import MAX_CLIENTS, pictures
from ops.drill.plots import HEIGHT, WIDTH, Limit, Mark, Plot, Series, areas, lines, ticks
from ops.drill.record import Second
from tests.unit.ops.drill_records import REGIONS, largest, record, report, second


def plot(*series: Series, **more: object) -> Plot:
    values: dict[str, object] = {"title": "T", "unit": "u", "at_s": [-1.0, 0.0, 1.0, 2.0], "step_s": 1.0}
    return Plot(**(values | {"series": series} | more))  # type: ignore[arg-type]


def shapes(markup: str, kind: str) -> list[str]:
    return re.findall(rf"<path class={kind}[^>]* d='([^']*)'", markup)


def test_a_line_is_level_over_each_moment_and_broken_by_gaps() -> None:
    """Four moments, the third unknown: a step, a gap, and the last alone."""
    found = shapes(lines(plot(Series("s", [0.0, 50.0, None, 100.0]), ceiling=100.0)), "line")
    quarter = WIDTH / 4
    assert found[0] == f"M0.0 {HEIGHT}H{quarter}V{HEIGHT / 2}H{2 * quarter}M{3 * quarter} 0.0H{WIDTH}"


def test_areas_stand_upon_each_other() -> None:
    """The second begins where the first ends; a missing value is nothing."""
    first, second_ = shapes(
        areas(plot(Series("a", [1, 1, 1, 1]), Series("b", [1, None, 1, 1]), ceiling=2.0)), "area"
    )
    middle = f"{HEIGHT / 2}"
    assert first.startswith(f"M0.0 {middle}H250.0")
    assert first.endswith(f"V{HEIGHT}H0.0Z")
    assert second_.startswith(f"M0.0 0.0H250.0L250.0 {middle}H500.0")


def test_the_fault_the_limits_and_the_marks_are_where_they_belong() -> None:
    """The span is shaded and framed, a limit is a line with its words, letters that are near share a place."""
    text = lines(
        plot(
            Series("s", [1, 1, 1, 1]),
            fault=(0.0, 2.0),
            limits=[Limit(5.0, "guard <5>")],
            marks=[Mark(0.01, "x"), Mark(0.02, "y"), Mark(2.5, "z"), Mark(99.0, "beyond")],
            ceiling=10.0,
        )
    )
    assert "<rect class=band x=250.0 width=500.0" in text
    assert "<path class=limit d='M0 150.0H1000'/>" in text
    assert "guard &lt;5&gt;" in text
    assert "M252.5 0V300M255.0 0V300M875.0 0V300" in text
    assert ">a–b</text>" in text
    assert ">c</text>" in text
    assert ">d</text>" not in text


def test_each_moment_tells_its_values() -> None:
    """Four titles; of many series the greatest are named and the rest summed."""
    text = areas(plot(*(Series(f"r{n}", [n, 0, 0, 0]) for n in range(6))))
    titles = re.findall("<title>([^<]*)</title>", text)
    assert len(titles) == 4
    assert titles[0] == "-1 s: r5 5, r4 4, r3 3, others 3"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 100.0, [0, 20, 40, 60, 80, 100]),
        (90.0, 100.0, [90, 92, 94, 96, 98, 100]),
        (-4.0, 22.0, [0, 10, 20]),
        (0.0, 0.7, [0, 0.2, 0.4, 0.6]),
        (3.0, 3.0, [3.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    """Between the ends, some five of them."""
    assert ticks(low, high) == pytest.approx(expected)


def test_a_dip_of_one_per_cent_is_seen() -> None:
    """The success axis begins at a round value below the worst second, and holds the guard rail."""
    found = pictures(report(), record())
    assert found is not None
    assert (found.success.floor, found.success.ceiling) == (80.0, 100.0)
    assert min(v for v in found.success.series[0].values if v is not None) == 90.0
    assert [limit.value for limit in found.success.limits] == [99.0]
    assert found.success.fault == (0.0, 10.0)


def test_traffic_is_per_client_region_and_colours_mean_one_region() -> None:
    """In the fleet's order; clients of the struck region are served by others meanwhile."""
    found = pictures(report(), record())
    assert found is not None
    assert [each.title.split()[2].rstrip(",") for each in found.traffic] == list(REGIONS)
    assert {tuple(series.name for series in each.series) for each in found.traffic} == {REGIONS}
    struck = {series.name: series.values for series in found.traffic[1].series}
    place = found.success.at_s.index(5)
    assert [struck[region][place] for region in REGIONS] == [6, 0, 4]


def test_a_long_drill_is_drawn_coarser() -> None:
    """Counts become means per second, of p99 the worst is kept, and seconds without requests are gaps."""
    seconds = [second(at) for at in range(1000) if at not in (500, 501)]
    seconds[3] = seconds[3].model_copy(update={"latency_ms_p99": 9_999.0})
    found = pictures(report(), record(seconds=tuple(seconds)))
    assert found is not None
    assert len(found.success.at_s) <= 150
    by = found.success.step_s
    assert found.success.at_s[1] - found.success.at_s[0] == by > 1
    assert found.latency.series[1].values[0] == 9_999.0
    assert max(v for v in found.requests.series[0].values if v is not None) <= 30.0
    assert found.success.note.startswith(f"{by:g} s together")


def test_many_client_regions_are_few_plots() -> None:
    """Those with most requests; serving regions beyond the colours are one area, so sums stay right."""
    found = pictures(*largest())
    assert found is not None
    assert len(found.traffic) == MAX_CLIENTS
    assert found.clients_left_out == 40 - MAX_CLIENTS
    for each in found.traffic:
        assert len(each.series) == 8
        assert each.series[-1].name == "other regions"


def test_nothing_measured_is_no_picture() -> None:
    """And a drill whose fault never ended shades it to the drill's own end."""
    assert pictures(report(), record(seconds=())) is None
    found = pictures(report("ABORTED"), record(held_s=None))
    assert found is not None
    assert found.success.fault == (0.0, 22.0)
    assert [mark.name for mark in found.marks] == ["detected", "decided", "applied by all edges concerned"]


def test_a_second_without_answers_has_no_rate() -> None:
    """No requests is not a success."""
    found = pictures(report(), record(seconds=(second(0), Second(at_s=1.0), second(2))))
    assert found is not None
    assert found.success.series[0].values[1] is None


def test_plots_are_well_formed() -> None:
    """Once attributes are quoted, an XML parser reads each of them."""
    found = pictures(report(), record())
    assert found is not None
    for text in (lines(found.latency), areas(found.traffic[0])):
        quoted = re.sub(r"(\s[\w-]+)=([^'\"\s>]+)(?=[\s/>])", r"\1='\2'", text)
        ElementTree.fromstring(re.sub(r"<li>(.*?)(?=<li>|</ul>)", r"<li>\1</li>", quoted))
