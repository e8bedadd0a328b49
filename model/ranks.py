"""Several processes that train one model: who each of them is, what they agree on, and who may write.

    torchrun --standalone --nproc-per-node 2 model/train.py

starts the same program twice. Each takes its part of every batch (DistributedDataParallel adds the gradients
up, `fully_shard` also divides the weights), and the first alone speaks and writes. A program that was started
plainly is a group of one, for which nothing of this is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from launched import is_one_of_several
from torch import Tensor, nn

# How long a process waits for the others: the first may be encoding a corpus for an hour meanwhile.
PATIENCE = timedelta(hours=3)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> range:
        """This rank's part of `count` things in a row: share(8) -> range(4, 8) as the second of two."""
        return range(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums of everybody's numbers, in double precision and without a look at the device."""
        if self.world == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(numbers)
        summed: list[float] = numbers.tolist()
        return summed

    def add(self, tensor: Tensor) -> Tensor:
        """The tensor, summed in place over all ranks on the device."""
        if self.world > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def wait(self) -> None:
        """Go on when everybody has come this far."""
        if self.world > 1:
            torch.distributed.barrier()

    def from_first(self, record: Any) -> Any:
        """The first rank's record, which is JSON."""
        if self.world == 1:
            return record
        content = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
        size = torch.tensor([len(content)])
        torch.distributed.broadcast(size, 0)
        if not self.first:
            content = torch.empty(int(size), dtype=torch.uint8)
        torch.distributed.broadcast(content, 0)
        return json.loads(bytes(content.tolist()))

    def tensors_from_first(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """The first rank's tensors by name, on the CPU; the others give None."""
        if self.world == 1:
            return tensors or {}
        described = {name: [list(t.shape), str(t.dtype)] for name, t in (tensors or {}).items()}
        received: dict[str, Tensor] = {}
        for name, (shape, dtype) in self.from_first(described).items():
            kind = getattr(torch, dtype.removeprefix("torch."))
            tensor = torch.empty(shape, dtype=kind) if tensors is None else tensors[name].cpu().contiguous()
            torch.distributed.broadcast(tensor, 0)
            received[name] = tensor
        return received

    def gather_rows(self, part: Tensor) -> Tensor:
        """Everybody's tensor of one shape, one after the other along the first dimension."""
        if self.world == 1:
            return part
        whole = part.new_empty((self.world * len(part), *part.shape[1:]))
        torch.distributed.all_gather_into_tensor(whole, part.contiguous())
        return whole

    def leave(self) -> None:
        if self.world > 1:
            torch.distributed.destroy_process_group()


ALONE = Ranks()


def join_ranks(device: torch.device) -> Ranks:
    """Meet the other processes; gloo between CPUs, NCCL between GPUs with gloo for what is decided."""
    if not is_one_of_several():
        return ALONE
    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())


# Weights that are divided among the ranks --------------------------------------------------------


def shard(model: nn.Module, blocks: nn.ModuleList, dtype: torch.dtype) -> None:
    """Divide the weights of a model among all ranks: FSDP2, block by block.

    Blocks are gathered in the precision that computes, to which they would cast their weights anyway, so the
    numbers stay those of one process; gradients are added up in float32.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model)
    for name in ("hidden", "logits", "losses"):
        register_fsdp_forward_method(model, name)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its rows, wherever these are: every rank has to ask."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this rank holds."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def rows_of_rank(tensor: Tensor, ranks: Ranks) -> Tensor:
    """Those rows of a whole tensor, as `fully_shard` divides them: equal parts, the last one shorter."""
    each = -(-len(tensor) // ranks.world)
    return tensor[ranks.rank * each : (ranks.rank + 1) * each]


def divided_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, divided among the ranks as the other one is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    tensor = tensor.to(model.device)
    if not isinstance(model, DTensor):
        return tensor
    return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)
