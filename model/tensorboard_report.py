"""--report-to tensorboard: the rows of the training log as TensorBoard reads them."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

FOLDER = "tensorboard"
FIGURES = ("loss", "bits_per_byte", "held_out", "learning_rate", "tokens_per_second", "mfu")


class ReportError(ValueError):
    """A report that cannot be written."""


def check_tensorboard() -> None:
    """Raise ReportError where the optional package is missing."""
    if find_spec("tensorboard") is None:
        raise ReportError("--report-to tensorboard needs a package: run: pip install tensorboard")


class TensorBoardReport:
    """Event files in GPyT/tensorboard, written from the log: a resumed run begins them anew, without gaps."""

    def __init__(self) -> None:
        self.writer: SummaryWriter | None = None

    def open(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        """Begin with the rows that there are already."""
        from torch.utils.tensorboard.writer import SummaryWriter

        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        self.writer = SummaryWriter(str(folder / FOLDER))
        for row in rows:
            self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        if self.writer is None:
            return
        for name in FIGURES:
            if isinstance(row.get(name), int | float):
                self.writer.add_scalar(name, row[name], row["step"])
        if "sample" in row:
            self.writer.add_text("sample", f"    {row['sample']}".replace("\n", "\n    "), row["step"])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
