"""A drill as test results: the shape that readers of JUnit XML agree on."""

from xml.etree import ElementTree

import pytest

from ops.drill.junit import document
from shared.vocabulary.status import DrillReport
from tests.unit.ops.drill_records import HARM, largest, report

REQUIRED = {
    "testsuite": {"name", "tests", "failures", "errors", "time", "hostname", "timestamp", "id", "package"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "property": {"name", "value"},
    "testsuites": set(),
    "properties": set(),
    "system-out": set(),
    "system-err": set(),
}
"""Elements, and the attributes that the schema of Ant's JUnit task requires of each."""
ORDER = ["properties", "testcase", "system-out", "system-err"]


def suite(of: DrillReport) -> ElementTree.Element:
    """The suite, after its shape was checked."""
    root = ElementTree.fromstring(document(of))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert REQUIRED[element.tag] <= set(element.attrib)
    (found,) = root
    places = [ORDER.index(child.tag) for child in found]
    assert places == sorted(places)
    cases = found.findall("testcase")
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)
    for name, tag in (("failures", "failure"), ("errors", "error")):
        assert int(found.attrib[name]) == len(found.findall(f"testcase/{tag}"))
    assert int(found.attrib["tests"]) == len(cases)
    return found


def failed(found: ElementTree.Element) -> dict[str, str]:
    return {
        case.attrib["name"]: problem.attrib["message"]
        for case in found.findall("testcase")
        for problem in case
    }


def test_a_drill_that_passed() -> None:
    """A case for the drill itself, for each expectation and for each guard rail; none failed."""
    found = suite(report("PASSED"))
    assert (found.get("tests"), found.get("failures"), found.get("errors")) == ("7", "0", "0")
    assert found.get("name") == "drill region-outage"
    assert found.get("timestamp") == "2030-01-01T11:59:55"
    assert float(found.attrib["time"]) == pytest.approx(19.012, abs=0.001)
    properties = {each.get("name"): each.get("value") for each in found.iter("property")}
    assert (properties["id"], properties["outcome"], properties["requests"]) == ("drill-23", "PASSED", "900")


def test_what_failed_says_so_in_words() -> None:
    """Each expectation and guard rail fails for itself, and not the drill for them."""
    assert failed(suite(report())) == {
        "success rate": "success rate: expected 99.5 %, measured 99.33 %",
        "recovered, from the end of the fault, after": (
            "recovered, from the end of the fault, after: expected 60 000 ms, measured never"
        ),
        "latency (p99)": "latency (p99): the limit is 400 ms, the worst was 512 ms",
    }


def test_an_aborted_drill_is_an_error() -> None:
    """Whatever else it came to; and a failure that belongs to no expectation is the drill's own."""
    found = suite(report("ABORTED", expectations=(), guard_rails=(), failures=("interrupted", "and more")))
    assert failed(found) == {"the drill ran to its end": "interrupted"}
    assert (found.get("failures"), found.get("errors")) == ("0", "1")
    lone = suite(report("FAILED", expectations=(), guard_rails=(), failures=("nobody leads",)))
    assert failed(lone) == {"the drill ran to its end": "nobody leads"}
    assert failed(suite(report("ABORTED", failures=())))["the drill ran to its end"]


def test_what_xml_cannot_hold_is_replaced() -> None:
    """Control characters and half surrogates are no XML, not even escaped; markup is."""
    dirty = f"a\x00b\x1bc\ud800 {HARM}"
    found = suite(report("ABORTED", failures=(dirty,), region=dirty))
    assert failed(found)["the drill ran to its end"] == f"a\ufffdb\ufffdc\ufffd {HARM}"
    assert document(largest()[0])
