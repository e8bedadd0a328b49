"""What is known of a machine before torch is loaded."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gpt2.device import Machine, fastest_dtype, has_bfloat16, has_gpu, multiplies_bfloat16_faster
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


@pytest.mark.parametrize("bfloat16_takes", [0.5, 2.0])
def test_the_precision_is_the_one_whose_products_are_faster(
    bfloat16_takes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def product(left: torch.Tensor, right: torch.Tensor) -> None:
        clock[0] += bfloat16_takes if left.dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    monkeypatch.setattr(torch, "mm", product)
    threads = torch.get_num_threads()
    assert multiplies_bfloat16_faster() is (bfloat16_takes < 1)
    assert torch.get_num_threads() == threads


def test_a_processor_without_the_instructions_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    monkeypatch.delattr(torch, "mm")
    assert fastest_dtype(torch.device("cpu")) == torch.float32


def test_a_torch_without_onednn_has_no_bfloat16_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.delattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", raising=False)
    assert not has_bfloat16()
    assert fastest_dtype(torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_a_card_is_known_by_its_whole_name(
    name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert Machine(torch.device("cuda"), torch.bfloat16, 1).peak_flops == peak


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
