"""Several processes that train one model: the launch environment, collective operations, FSDP.

    torchrun --standalone --nproc-per-node 2 model/train.py

starts the same program twice. Each process takes its part of every batch (DistributedDataParallel adds the
gradients up, `fully_shard` also divides the weights), and only rank 0 prints and writes. A program that was
started plainly is a group of one. torch is imported inside the functions: train.py asks `is_distributed`
before it checks its inputs.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_cli import ERROR, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# How long a process waits for the others: rank 0 may encode a corpus for an hour before the first step.
TIMEOUT = timedelta(hours=3)
MOST_OF_A_PROBLEM = 2000  # bytes


def is_distributed() -> bool:
    """Whether torchrun, or a launcher like it, has started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_world_size() -> int:
    """How many processes of this run share the machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that prints and writes for all."""
    return int(os.environ.get("RANK", "0")) == 0


def is_first_of_machine() -> bool:
    """Whether this process is the first of its run on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def silence_other_ranks() -> None:
    """Let rank 0 print for all; a traceback of another rank still reaches sys.__stderr__."""
    if not is_first():
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together, and what they exchange.

    Every rank has to make the same calls in the same order; a group of one returns at once.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> range:
        """This rank's part of `count` things in a row: share(8) -> range(4, 8) as the second of two."""
        return range(self.rank * count // self.world_size, (self.rank + 1) * count // self.world_size)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The tensor, summed in place over all ranks on the device."""
        if self.world_size > 1:
            import torch

            torch.distributed.all_reduce(tensor)
        return tensor

    def all_reduce_list(self, values: Sequence[float]) -> list[float]:
        """The sums of all ranks' numbers, in double precision and without waiting for the device."""
        if self.world_size == 1:
            return list(values)
        import torch

        numbers = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(numbers)
        summed: list[float] = numbers.tolist()
        return summed

    def all_gather(self, part: Tensor) -> Tensor:
        """All ranks' tensors of one shape, one after the other along the first dimension."""
        if self.world_size == 1:
            return part
        import torch

        gathered = part.new_empty((self.world_size * len(part), *part.shape[1:]))
        torch.distributed.all_gather_into_tensor(gathered, part.contiguous())
        return gathered

    def broadcast(self, record: Any) -> Any:
        """Rank 0's record, which is JSON."""
        if self.world_size == 1:
            return record
        import torch

        content = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
        size = torch.tensor([len(content)])
        torch.distributed.broadcast(size, 0)
        if not self.is_main:
            content = torch.empty(int(size), dtype=torch.uint8)
        torch.distributed.broadcast(content, 0)
        return json.loads(bytes(content.tolist()))

    def gather_problems(self, problem: str) -> list[str]:
        """What all ranks found wrong, "" if nothing; the other machines' with their names."""
        if self.world_size == 1:
            return [problem] if problem else []
        import torch

        text = problem if self.is_main or not problem else f"on {platform.node()}: {problem}"
        content = text.encode()[:MOST_OF_A_PROBLEM].ljust(MOST_OF_A_PROBLEM, b"\0")
        rows = self.all_gather(torch.frombuffer(bytearray(content), dtype=torch.uint8)[None])
        found = (bytes(row.tolist()).rstrip(b"\0").decode("utf-8", "replace") for row in rows)
        return [text for text in found if text]

    @contextmanager
    def alike(self) -> Iterator[None]:
        """Where all ranks find the same: an error is raised by the first alone, the others end in silence."""
        try:
            yield
        except UserError:
            if self.is_main:
                raise
            raise SystemExit(ERROR) from None

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Rank 0's tensors by name, on the CPU; the others give None."""
        if self.world_size == 1:
            return tensors or {}
        import torch

        described = {name: [list(t.shape), str(t.dtype)] for name, t in (tensors or {}).items()}
        received: dict[str, Tensor] = {}
        for name, (shape, dtype) in self.broadcast(described).items():
            kind = getattr(torch, dtype.removeprefix("torch."))
            tensor = torch.empty(shape, dtype=kind) if tensors is None else tensors[name].cpu().contiguous()
            torch.distributed.broadcast(tensor, 0)
            received[name] = tensor
        return received

    def barrier(self) -> None:
        """Wait until all ranks have come this far."""
        if self.world_size > 1:
            import torch

            torch.distributed.barrier()

    def destroy(self) -> None:
        if self.world_size > 1:
            import torch

            torch.distributed.destroy_process_group()


ALONE = Ranks()


def init_ranks(device: torch.device) -> Ranks:
    """Join the process group: gloo between CPUs; NCCL between GPUs, with gloo for numbers on the CPU."""
    if not is_distributed():
        return ALONE
    import torch

    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(backend, timeout=TIMEOUT)
    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())


def shard_model(model: nn.Module, blocks: nn.ModuleList, dtype: torch.dtype) -> None:
    """Divide the weights of a model among all ranks: FSDP2, block by block.

    Blocks are gathered in the precision that computes, to which they would cast their weights anyway, so the
    numbers stay those of one process; gradients are added up in float32.
    """
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model)
    for name in ("hidden", "logits", "losses"):
        register_fsdp_forward_method(model, name)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor with all its rows, gathered if they are divided: every rank has to ask."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this rank holds."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def rows_of_rank(tensor: Tensor, ranks: Ranks) -> Tensor:
    """Those rows of a full tensor, as `fully_shard` divides them: equal parts, the last one shorter."""
    each = -(-len(tensor) // ranks.world_size)
    return tensor[ranks.rank * each : (ranks.rank + 1) * each]


def shard_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A full tensor, divided among the ranks as the other one is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    tensor = tensor.to(model.device)
    if not isinstance(model, DTensor):
        return tensor
    return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)
