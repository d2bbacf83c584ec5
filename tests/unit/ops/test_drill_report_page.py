"""The page of a drill: whole, harmless, small, and true to the figures."""

import re
from html.parser import HTMLParser

import pytest

from ops.drill.html import MAX_BYTES, page
from ops.drill.words import amount, in_words, named
from shared.vocabulary.status import Expected
from tests.unit.ops.drill_records import AT, HARM, TRACE, largest, record, report


class Reader(HTMLParser):
    """What a browser would make of it: tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_it_says_what_happened() -> None:
    """Outcome, hypothesis with each expectation, guard rails, decisions with their reasons, what was done
    and undone, requests that failed, and the command that draws the trace."""
    words = Reader(page(report(), record(), at=AT)).words
    for said in (
        "Drill region-outage in eu-west ✗ FAILED",
        "drill-23 · 2030-01-01 11:59:55 UTC · by ann · “before the holidays” · run by ann@laptop",
        "success rate: expected at least 99.5 %, measured 99.33 %",
        "Clients of the other regions notice nothing",
        "✓ as expected detected after at most 5 000 ms 412 ms",
        "✗ not so success rate at least 99.5 % 99.33 %",
        "✗ not so recovered, from the end of the fault, after at most 60 000 ms never",
        "✓ kept success rate at least 99 % 99.33 %",
        "✗ crossed latency (p99) at most 400 ms 512 ms",
        "a detected at 0.41 s, b decided at 0.46 s, c applied by all edges concerned at 0.50 s, d recovered at 16.01 s",
        "during the fault 0.0 to 10.0 s 120 4 0 96.667 % 0 of 40",
        "+412 ms 12:00:00 detected replica control-plane-us-east",
        "leeward explain 1.5 +0.46 s Target alpha-eu-west left the traffic: seen 3 of 3 vantages DOWN, hard yes.",
        "kill eu-west: alpha-eu-west, edge-eu-west by stack +0.00 s +10.00 s undone",
        "alpha-us-east us-east 64 % 102 %",
        'us-east alpha-eu-west 203 ms status 503: {"error": "no target"}',
        f"leeward trace {TRACE}",
        "hypothesis: Clients of the other regions",
    ):
        assert said in words, said


def test_a_drill_that_measured_nothing_has_a_page() -> None:
    """Ended before it began: no plots, no decisions, and it says so."""
    aborted = report("ABORTED", expectations=(), guard_rails=(), trace_id=None, failures=("interrupted",))
    ended = record(
        injected_at=None,
        held_s=None,
        seconds=(),
        figures=(),
        decisions=(),
        injections=(),
        loads=(),
        failed=(),
    )
    words = Reader(page(aborted, ended, at=AT)).words
    assert "■ ABORTED" in words
    assert "Why it ended early interrupted" in words
    assert "Nothing was injected." in words
    assert "there is no trace" in words
    assert "Drill region-outage" in page(aborted, at=AT)


def test_nothing_is_loaded_from_elsewhere() -> None:
    """One file: no script, no image, no style or font from outside; no address at all unless asked for."""
    text = page(report(), record(), at=AT)
    loading = {"script", "img", "link", "iframe", "object", "embed", "video", "audio", "base", "use", "image"}
    assert not loading & {tag for tag, _ in Reader(text).tags}
    assert "//" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#h{n}" for n in range(8)}


def test_links_are_where_they_were_asked_for() -> None:
    """A trace's and a decision's, with what is in them quoted; a template without its place is refused."""
    text = page(
        report(trace_id="a'><b"),
        record(),
        at=AT,
        trace_url="https://traces.example/t/{id}?x=1&y",
        explain_url="http://h:7100/v1/decisions/{version}",
    )
    links = [attributes["href"] for tag, attributes in Reader(text).tags if tag == "a"]
    assert links == [
        "http://h:7100/v1/decisions/1.5",
        "http://h:7100/v1/decisions/1.6",
        "https://traces.example/t/a%27%3E%3Cb?x=1&y",
    ]
    for wrong in ("https://traces.example/t", "javascript:alert({id})", "{id}"):
        with pytest.raises(ValueError, match="template"):
            page(report(), at=AT, trace_url=wrong)


def test_the_largest_drill_is_small_and_harmless() -> None:
    """Every list full, every text long and hostile: below the limit, no tag and no attribute of theirs."""
    text = page(*largest(), at=AT)
    assert len(text.encode()) < MAX_BYTES
    read = Reader(text)
    assert HARM in read.words
    assert not {"script", "img"} & {tag for tag, _ in read.tags}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert "more; the JSON report has them" in read.words
    assert "34 client regions with fewer requests are left out" in read.words


def test_no_colour_is_needed() -> None:
    """Verdicts have a sign and a word; lines differ in dashes, areas in hatching."""
    text = page(report(), record(), at=AT)
    assert text.count("class=good>✓ ") == 3
    assert text.count("class=bad>✗ ") == 3
    patterns = re.findall(r"<pattern id=h\d.*?</pattern>", text)
    assert len(patterns) == 8
    assert len({re.sub(r"id=h\d|--c\d", "", each) for each in patterns}) == 8
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_figures_read_the_same_everywhere() -> None:
    """Names and units follow from the name; a new figure is still readable."""
    assert (named("detect_ms"), amount("detect_ms", 1234.4)) == ("detected after", "1 234 ms")
    assert amount("success_rate", 0.99333333) == "99.333 %"
    assert amount("load_permille", 1300) == "130 %"
    assert amount("held_s", 2.5) == "2.5 s"
    assert amount("lost_streams", 0) == "0"
    assert (named("new_figure"), amount("new_figure", "yes"), amount("x", None)) == (
        "new figure",
        "yes",
        "never",
    )
    assert (
        in_words({"a_b": True, "c": {"d": None}, "e": [], "f": ["x", 1]})
        == "a b yes, c d none, e none, f x 1"
    )
    told = Expected(name="moves", expected="no", measured="yes: 1.7", ok=False)
    assert "no yes: 1.7" in Reader(page(report(expectations=(told,)), at=AT)).words
