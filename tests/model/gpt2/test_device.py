"""What is known of a machine before torch is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpt2.device import has_gpu
from project import PROJECT


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["nvidia0", "nvidiactl"], True),
        (["nvidia1"], True),
        (["nvidia12"], True),
        (["nvidiactl"], True),
        (["null", "nvidia-uvm", "nvidia-modeset", "nvidia-caps"], False),
        ([], False),
    ],
)
def test_a_gpu_is_known_by_its_device_files(files: list[str], expected: bool, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert has_gpu(tmp_path) is expected


def test_asking_for_a_gpu_and_for_other_processes_loads_no_torch() -> None:
    code = (
        "import sys, gpt2.device, gpt2.distributed\nprint(*{'torch', 'numpy', 'psutil'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    env = {"PYTHONPATH": str(PROJECT / "model")}
    output = subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=60).stdout
    assert output.strip() == ""
