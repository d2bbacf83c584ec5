"""Where the tests of the fault table put what they measured: one line for each row and variant, in the summary,
and as JSON in the file that `ROWS_JSON` names."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Row:
    """One measured row of the fault table. `figure` and `limit` are text with units, `values` the bare numbers."""

    number: int
    what: str
    figure: str
    limit: str
    values: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"row {self.number}: {self.what} {self.figure} (limit {self.limit})"


@dataclass
class Rows:
    """All rows of a session."""

    rows: list[Row] = field(default_factory=list)

    def __call__(self, number: int, what: str, figure: str, *, limit: str, **values: float) -> None:
        """Note one; to be called before the limit is asserted, so that a failure shows its figure."""
        self.rows.append(Row(number, what, figure, limit, values))

    def report(self, reporter: pytest.TerminalReporter) -> None:
        """Into the summary and the file."""
        ordered = sorted(self.rows, key=lambda row: row.number)
        if ordered:
            reporter.section("fault rows")
            for row in ordered:
                reporter.write_line(str(row))
        if path := os.environ.get("ROWS_JSON"):
            Path(path).write_text(json.dumps([asdict(row) for row in ordered], indent=1) + "\n")
