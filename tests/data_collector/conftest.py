"""A fixture that the tests of the collector's command line share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The empty folder in which a test runs the collector."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"
