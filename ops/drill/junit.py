"""A drill's report as JUnit XML, for what shows test results: one suite, one case for each expectation and
for each guard rail, in the shape that the schemas of Ant's and Jenkins' readers have in common.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from ops.drill.words import amount, in_words, named
from shared.vocabulary.status import DrillReport

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) cannot hold, not even escaped."""


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    group: str
    seconds: float
    failure: str
    """Empty when it is as it should be."""


def document(report: DrillReport) -> str:
    """The XML. That a drill was ended early is an error of the suite's first case, everything else a failure."""
    cases = list(_cases(report))
    errors = int(report.outcome == "ABORTED")
    about = {
        "id": "0",
        "package": "leeward.drill",
        "name": _clean(f"drill {report.drill}"),
        "hostname": "localhost",
        "tests": str(len(cases)),
        "failures": str(sum(bool(case.failure) for case in cases) - errors),
        "errors": str(errors),
        "time": f"{_duration_s(report):.3f}",
    }
    if report.started_at:
        about["timestamp"] = _clean(report.started_at[:19])
    suite = ElementTree.Element("testsuite", about)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report):
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for case in cases:
        element = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "name": _clean(case.name),
                "classname": _clean(f"drill.{report.drill}.{case.group}"),
                "time": f"{case.seconds:.3f}",
            },
        )
        if case.failure:
            kind = "error" if case.name == _RAN and errors else "failure"
            told = ElementTree.SubElement(
                element, kind, {"message": _clean(case.failure.splitlines()[0]), "type": report.outcome}
            )
            told.text = _clean(case.failure)
    ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(_course(report)))
    ElementTree.SubElement(suite, "system-err")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


_RAN = "the drill ran to its end"


def _cases(report: DrillReport) -> Iterator[_Case]:
    """The drill itself first: what went wrong and belongs to no expectation stands there."""
    rest = "\n".join(report.failures)
    all_good = all(each.ok for each in report.expectations) and all(rail.ok for rail in report.guard_rails)
    own = rest if report.outcome == "ABORTED" or (report.outcome == "FAILED" and all_good) else ""
    if not own and (report.outcome == "ABORTED" or (report.outcome == "FAILED" and all_good)):
        own = f"it {report.outcome}, and nothing tells why"
    yield _Case(_RAN, "course", _duration_s(report), own)
    for each in report.expectations:
        measured = "never" if each.measured is None else amount(each.name, each.measured)
        words = f"{named(each.name)}: expected {amount(each.name, each.expected)}, measured {measured}"
        seconds = (
            each.measured / 1000 if isinstance(each.measured, float) and each.name.endswith("_ms") else 0.0
        )
        yield _Case(named(each.name), "expectations", seconds, "" if each.ok else words)
    for rail in report.guard_rails:
        words = f"{named(rail.name)}: the limit is {amount(rail.name, rail.limit)}, the worst was {amount(rail.name, rail.worst)}"
        yield _Case(named(rail.name), "guard rails", 0.0, "" if rail.ok else words)


def _course(report: DrillReport) -> Iterator[str]:
    for event in report.timeline:
        yield f"{event.at_ms:+.0f} ms {event.event} {in_words(event.values)}".rstrip()


def _properties(report: DrillReport) -> Iterator[tuple[str, str]]:
    yield "outcome", report.outcome
    for name in ("id", "region", "hypothesis", "trace_id", "report_html"):
        if value := getattr(report, name):
            yield name, str(value)
    for name in ("requests", "failed", "degraded", "success_rate", "streams", "lost_streams"):
        yield name, str(getattr(report, name))


def _duration_s(report: DrillReport) -> float:
    if not report.timeline:
        return 0.0
    times = [event.at_ms for event in report.timeline]
    return max(0.0, max(times) - min(times)) / 1000


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
