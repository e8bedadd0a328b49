"""What is known of a machine before torch is loaded."""

from __future__ import annotations

import platform
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library has no mallopt")
def test_memory_that_a_step_frees_is_not_asked_of_the_system_again() -> None:
    code = (
        "import resource, sys, numpy\n"
        "from gpt2.device import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': keep_freed_memory()\n"
        "for _ in range(3): numpy.ones(1 << 21)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): numpy.ones(1 << 21)\n"  # 16 MB: 4,096 pages, or fewer large ones
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )

    def new_pages(mode: str) -> int:
        command = [sys.executable, "-c", code, mode]
        env = {"PYTHONPATH": str(PROJECT / "model"), "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1048576"}
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=60)
        return int(done.stdout)

    assert new_pages("keep") < 20 <= new_pages("give back")
