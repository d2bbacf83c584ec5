"""A drill's report as one HTML file that needs nothing else."""

from collections.abc import Mapping
from datetime import datetime
from html import escape

from shared.vocabulary.status import DrillReport

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee4;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.outcome{display:inline-block;padding:.1rem .6rem;border-radius:.3rem;color:#fff}
.PASSED{background:#1a7f37}.FAILED{background:#b42318}.ABORTED{background:#9a6700}
code{font-size:.9em;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}}
"""


def page(report: DrillReport, *, at: datetime) -> str:
    """The whole document."""
    figures = "".join(
        f"<tr><th scope=row>{name}<td class=n>{value}"
        for name, value in (
            ("detected after", _ms(report.detect_ms)),
            ("decided after", _ms(report.decide_ms)),
            ("applied by all surviving edges after", _ms(report.apply_ms)),
            ("recovered, from the end of the fault, after", _ms(report.recovered_ms)),
            ("requests", f"{report.requests}"),
            ("failed", f"{report.failed}"),
            ("degraded", f"{report.degraded}"),
            ("success rate", f"{report.success_rate:.4%}"),
        )
    )
    rails = "".join(
        f"<tr><td>{escape(rail.name)}<td class=n>{rail.limit:g}<td class=n>{rail.worst:g}<td>{'kept' if rail.ok else 'crossed'}"
        for rail in report.guard_rails
    )
    moments = "".join(
        f"<tr><td class=n>{event.at_ms:.0f} ms<td>{escape(event.event)}<td>{escape(in_words(event.values))}"
        for event in report.timeline
    )
    failures = "".join(f"<li>{escape(failure)}" for failure in report.failures)
    trace = f"<p>Trace of the decision: <code>{escape(report.trace_id)}</code>" if report.trace_id else ""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Drill {escape(report.drill)}: {report.outcome}</title><style>{_STYLE}</style>"
        f"<h1>Drill {escape(report.drill)} <span class='outcome {report.outcome}'>{report.outcome}</span></h1>"
        f"<p>{at:%Y-%m-%d %H:%M:%S} UTC{trace}"
        f"{f'<h2>Why</h2><ul>{failures}</ul>' if failures else ''}"
        f"<h2>Figures</h2><table>{figures}</table>"
        f"<h2>Guard rails</h2><table><tr><th>line<th>limit<th>worst<th>{rails}</table>"
        f"<h2>Timeline, from the injection</h2><table>{moments}</table></html>\n"
    )


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} ms"


def in_words(values: Mapping[str, object]) -> str:
    """An event's values: `region eu-west, leader died yes`."""
    return ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in values.items())


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {each}" for key, each in value.items())
    return "none" if value is None else str(value)
