"""A running server with the small trained model, for all tests of a module that only ask it something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server_process import ServerProcess


@pytest.fixture(scope="module")
def server(model_folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(model_folder) as running:
        yield running
    assert running.process.returncode == 130
    assert "Traceback" not in running.errors and "error:" not in running.errors
