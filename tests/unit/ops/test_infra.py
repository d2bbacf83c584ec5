"""What `infra/` promises: rules that parse and fire when they should, dashboards that any Grafana imports, and no name in
either that the code does not have."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.core.alarms import SEVERITY
from ops.metric_table import families
from shared.vocabulary.alerts import EVENTS
from tests.support.promql import balanced, named

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "infra" / "prometheus"
DASHBOARDS = sorted((ROOT / "infra" / "grafana").glob("*.json"))
RULES = yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))
ALL = [rule for group in RULES["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDED = {rule["record"] for rule in ALL if "record" in rule}
RUNBOOK = (ROOT / "docs" / "ALERTS.md").read_text(encoding="utf-8")

SERIES = {name: family for family in families() for name in family.series}
SCRAPED = {"instance", "job", "role", "region", "exported_region", "exported_role", "le"}
"""Labels that Prometheus itself adds, or that histograms have."""


def promtool() -> str | None:
    """On PATH, or where it was put beside the other things that tests build."""
    beside = ROOT / ".cache" / "prometheus" / "promtool"
    return shutil.which("promtool") or (str(beside) if os.access(beside, os.X_OK) else None)


def run(*arguments: str) -> str:
    tool = promtool()
    if tool is None:
        pytest.skip(
            "promtool is not at hand: rules were checked by name only. Install Debian's package `prometheus`, "
            "or put promtool into .cache/prometheus/"
        )
    done = subprocess.run([tool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_and_the_configuration_are_prometheus():
    assert f"{len(ALL)} rules found" in run("check", "rules", "rules.yml")
    assert "SUCCESS" in run("check", "config", "prometheus.yml")


def test_the_rules_fire_when_they_should_and_only_then():
    assert "SUCCESS" in run("test", "rules", "rules_test.yml")


def test_every_alert_has_a_case_that_fires_and_all_are_silent_over_a_fleet_that_is_well():
    text = (PROMETHEUS / "rules_test.yml").read_text(encoding="utf-8")
    for alert in ALERTS:
        assert f'alertname="{alert}", alertstate="firing"' in text.replace("\\", ""), alert
    well = next(test for test in yaml.safe_load(text)["tests"] if "leaves everybody in peace" in test["name"])
    assert well["promql_expr_test"] == [{"expr": "count(ALERTS)", "eval_time": "110m", "exp_samples": []}]


@pytest.mark.parametrize("alert", ALERTS.values(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_and_leads_to_its_page(alert: dict[str, Any]):
    assert alert["labels"]["severity"] in ("page", "ticket")
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    assert notes["runbook"] == f"docs/ALERTS.md#{alert['alert'].lower()}"
    assert f"\n### {alert['alert']}\n" in RUNBOOK


def test_every_event_of_a_webhook_leads_to_its_page():
    assert set(SEVERITY) == set(EVENTS)
    for event in EVENTS:
        assert f"\n### {event}\n" in RUNBOOK


def test_the_runbook_has_no_page_for_what_there_is_not():
    headed = set(re.findall(r"^### (\S+)$", RUNBOOK, re.MULTILINE))
    assert headed == set(ALERTS) | set(EVENTS)
    for link in re.findall(r"\]\(#([a-z_]+)\)", RUNBOOK):
        assert re.search(rf"^##+ {link.replace('-', ' ')}$", RUNBOOK, re.MULTILINE | re.IGNORECASE), link


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression, with its place."""
    for rule in ALL:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for path in DASHBOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.name}: ${variable['name']}", variable["definition"]
        for annotation in board["annotations"]["list"]:
            yield f"{path.name}: {annotation['name']}", annotation["expr"]


def test_expressions_name_nothing_that_the_code_does_not_have():
    """Neither metrics nor labels they are selected by."""
    wrong = []
    seen = set()
    for place, expr in expressions():
        assert balanced(expr), f"{place}: {expr}"
        for metric, labels in named(expr):
            seen.add(metric)
            family = SERIES.get(metric)
            if family is None:
                wrong.append(f"{place}: no metric {metric}")
            elif unknown := labels - set(family.labels) - SCRAPED:
                wrong.append(f"{place}: {metric} has no label {', '.join(sorted(unknown))}")
        for record in re.findall(r"\bleeward:[a-z0-9_:]+", expr):
            if record not in RECORDED:
                wrong.append(f"{place}: no recording rule {record}")
    assert not wrong
    assert len(seen) > 50


def test_a_wrong_name_would_be_found():
    assert list(named('rate(leeward_edge_taskz_total{route="a", who=~"b"}[5m])')) == [
        ("leeward_edge_taskz_total", frozenset({"route", "who"}))
    ]
    assert not balanced("sum(rate(x[5m])")
    assert balanced('sum(rate(x{a="("}[5m]))')


def test_series_in_the_rules_tests_are_the_codes_own():
    """A test of a metric that nobody has would prove nothing."""
    for test in yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text(encoding="utf-8"))["tests"]:
        for series in test["input_series"]:
            for metric, labels in named(series["series"]):
                assert metric in SERIES, series
                assert labels <= set(SERIES[metric].labels) | SCRAPED, series


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_can_be_imported_anywhere(path: Path):
    """It asks for its data source by a variable, panels have ids and places of their own, and none overlap."""
    board = json.loads(path.read_text(encoding="utf-8"))
    assert board["uid"] == f"leeward-{path.stem}"
    assert board["schemaVersion"] >= 36
    assert {"title", "tags", "time", "refresh", "timezone"} <= board.keys()
    assert "id" not in board, "an id belongs to one Grafana"
    (source,) = (one for one in board["templating"]["list"] if one["type"] == "datasource")
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("timeseries", "stat")
        assert panel["title"]
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            used = set(re.findall(r"\$([A-Za-z]\w*)", target["expr"]))
            assert used <= {variable["name"] for variable in board["templating"]["list"]}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_expression_of_a_dashboard_parses(path: Path, tmp_path: Path):
    """By promtool, as rules with the dashboard's variables filled in."""
    rules = []
    for place, expr in expressions():
        if place.startswith(path.name) and not expr.startswith("label_values"):
            filled = re.sub(r"\$[A-Za-z]\w*", ".*", expr.replace("$__rate_interval", "5m"))
            rules.append({"record": f"check:{len(rules)}", "expr": filled})
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("check", "rules", str(file))


def test_the_scrape_configuration_names_every_process_of_a_local_stack():
    """By the ports that `leeward up` gives them."""
    from ops.local.fleet import REGIONS
    from ops.local.ports import Ports

    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    named_there = {
        (entry["labels"]["role"], entry["labels"]["region"]): entry["targets"]
        for entry in jobs[0]["static_configs"]
    }
    expected = {}
    for index, region in enumerate(REGIONS):
        ports = Ports(base=7000, index=index)
        expected["control-plane", region] = [f"127.0.0.1:{ports.control_plane}"]
        expected["edge", region] = [f"127.0.0.1:{ports.edge_admin}"]
        expected["prober", region] = [f"127.0.0.1:{ports.prober_admin}"]
    assert named_there == expected
