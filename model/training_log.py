"""training_log.jsonl: what a run did, one JSON object a line, and its picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whole_files import write_whole

if TYPE_CHECKING:
    from tensorboard_report import TensorBoardReport


class TrainingLog:
    """The rows of a run: kept in memory until its folder exists, then appended one by one."""

    def __init__(
        self, rows: list[dict[str, Any]] | None = None, report: TensorBoardReport | None = None
    ) -> None:
        self.rows = rows or []
        self.report = report
        self.path: Path | None = None

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.report is not None:
            self.report.add(row)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(row) + "\n")

    def settle(self, path: Path) -> None:
        """Write all rows so far and append from now on."""
        if self.path is None:
            write_whole(path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
            self.path = path
            if self.report is not None:
                self.report.open(path.parent, self.rows)

    def close(self) -> None:
        if self.report is not None:
            self.report.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line torn by a kill is left out."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
