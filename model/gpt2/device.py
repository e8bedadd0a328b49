"""The machine that a run computes on: device, precision, threads, memory, and the device's peak speed.

torch is imported inside the functions, for `has_gpu` is asked before anything is loaded.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2.distributed import local_world_size
from model_cli import UserError

if TYPE_CHECKING:
    import torch

DEVICES = Path("/dev")

# Dense bfloat16 (float16 before Ampere) matrix operations per second by a part of the device's name, the
# first that fits. Source: NVIDIA's data sheets, without sparsity. Other devices get no MFU in the log.
PEAKS = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A100X": 312e12,
    "A100": 312e12,
    "RTX 4090": 165e12,
    "V100": 125e12,
    "T4": 65e12,
}


# OpenMP's threads wait for each other by spinning. With another program on one of the cores the default spin
# makes training eight times slower (measured: 640 tokens/s, not 5,100). 3,000 rounds cost 4 % of a small
# model's tokens on an idle machine and 13 % beside another program; 1,000 cost 19 % and nothing
# (benchmarks/LOG.md).
SPIN_COUNT = "3000"


def limit_spinning() -> None:
    """Have OpenMP's threads spin for a short while only. Before torch is imported: it is read once."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


# Options of glibc's mallopt: from how many free bytes on the end of the heap goes back to the system, and how
# large a block lies outside the heap and goes back at once.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Have the C library keep for the next step what a step frees: new pages cost 4 % of a small model's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        for option in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            mallopt(option, 1 << 30)


def has_gpu(devices: Path = DEVICES) -> bool:
    """Whether this machine probably has an NVIDIA GPU, by its device files; asking torch takes seconds.

    A container may see /dev/nvidia1 alone, or only /dev/nvidiactl.
    """
    return any(re.fullmatch(r"nvidia(\d+|ctl)", path.name) for path in devices.glob("nvidia*"))


@dataclass(frozen=True)
class Machine:
    """Where and how to compute."""

    device: torch.device
    dtype: torch.dtype
    threads: int

    @property
    def name(self) -> str:
        """The device and the precision, for people: "2 CPU threads, bfloat16"."""
        import torch

        if self.device.type == "cpu":
            return f"{self.threads} CPU thread{'s' * (self.threads > 1)}, {self.precision}"
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        return f"{self.device.type}, {self.precision}"

    @property
    def precision(self) -> str:
        """The name of the data type, as --dtype takes it."""
        return str(self.dtype).removeprefix("torch.")

    def in_precision(self, precision: str) -> Machine:
        """The same machine in another precision, by its name."""
        import torch

        return replace(self, dtype=getattr(torch, precision))

    @property
    def free_memory(self) -> int:
        """Bytes that a model may take on the device; on a CPU, the share of this process."""
        import psutil
        import torch

        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(psutil.virtual_memory().available) // local_world_size()

    @property
    def peak_memory(self) -> int:
        """The most bytes of the device's memory that this process has held."""
        import torch

        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return peak_memory()

    @property
    def peak_flops(self) -> float | None:
        """Operations per second by the data sheet, None for a device that PEAKS does not list."""
        import torch

        if self.device.type != "cuda" or self.dtype == torch.float32:
            return None
        name = torch.cuda.get_device_name(self.device)
        return next((peak for part, peak in PEAKS.items() if re.search(rf"\b{part}\b", name)), None)

    @property
    def compiles(self) -> bool:
        """Whether compiling pays: on a CPU it takes a minute for 7 %, on Apple's MPS it gains nothing."""
        return self.device.type == "cuda" and find_spec("triton") is not None

    def synchronize(self) -> None:
        """Wait for the device's queued work, so that a clock measures it."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def peak_memory() -> int:
    """The most bytes of main memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kilobytes


def find_machine(device: str, dtype: str, threads: int | None) -> Machine:
    """The machine behind --device, --dtype and --threads, where "auto" takes the fastest.

    Raises:
        UserError: there is no such device, or fewer GPUs than processes.
    """
    import torch

    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    elif (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise UserError(f"this torch ({torch.__version__}) finds no {device} device: use --device cpu")
    chosen = torch.device(device)
    if device == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise UserError(
                f"there are {torch.cuda.device_count()} GPUs for {local_world_size()} processes:"
                " start as many processes as there are GPUs"
            )
        chosen = torch.device(device, number)
    if threads is None and local_world_size() > 1:
        threads = max(1, (os.cpu_count() or 1) // local_world_size())  # torchrun would give one to each
    if threads:
        torch.set_num_threads(threads)
    precision: torch.dtype = getattr(torch, dtype) if dtype != "auto" else fastest_dtype(chosen)
    return Machine(chosen, precision, torch.get_num_threads())


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it faster than float32; elsewhere float32.

    GPUs before Ampere multiply float16 instead, if they are not older than Volta.
    """
    import torch

    if device.type == "cpu":
        return torch.bfloat16 if multiplies_bfloat16_faster() else torch.float32
    if device.type != "cuda":
        return torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32


def has_bfloat16() -> bool:
    """Whether this processor has instructions for it: AVX512-BF16 or AMX."""
    import torch

    # Apple's builds of torch have no oneDNN, and not this operation either.
    with_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(with_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


# The product that tells: rows of hidden states, the width of a small model, its MLP.
PROBE = (2048, 256, 1024)
PROBES = 5


def multiplies_bfloat16_faster() -> bool:
    """Whether this processor's products are faster in bfloat16 than in float32: it tries some.

    The instructions alone do not tell. A Zen 5 with AVX512-BF16 has twice the speed, an Emerald Rapids whose
    virtual machine hides AMX has half of it (benchmarks/LOG.md).
    """
    import torch

    if not has_bfloat16():
        return False
    rows, inputs, outputs = PROBE
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    matrices = {
        dtype: (torch.ones(rows, inputs, dtype=dtype), torch.ones(inputs, outputs, dtype=dtype))
        for dtype in seconds
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # and the time of that thread: other programs on the machine do not count
    for _ in range(PROBES + 1):
        for dtype, (left, right) in matrices.items():
            started = time.thread_time()
            torch.mm(left, right)
            seconds[dtype].append(time.thread_time() - started)
    torch.set_num_threads(threads)
    fastest = {dtype: min(times[1:]) for dtype, times in seconds.items()}  # the first one chooses a kernel
    return fastest[torch.bfloat16] < fastest[torch.float32]
