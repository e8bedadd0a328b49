"""The state of an unfinished run in one safetensors file: whole or absent, never a pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from ranks import divided_like, whole
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from whole_files import partial

KEPT = 2  # the newest and, should a disk lose it, the one before


class CheckpointError(ValueError):
    """Weights or a checkpoint that cannot be read or written."""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file that is whole or absent. Raises CheckpointError where it cannot be written."""
    beside = partial(path)
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, beside, metadata
        )
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())  # safetensors makes files that only their owner reads
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)  # a full disk gets its room back, and keeps what was there
        raise CheckpointError(
            f"this file cannot be written ({error}): {path.absolute()}:"
            " make room, then run the same command: it goes on from the last checkpoint"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def run_tensors(model: nn.Module, optimizers: tuple[torch.optim.Optimizer, ...]) -> dict[str, Tensor]:
    """Weights and the optimisers' moments by name, whole: every rank has to ask where they are divided."""
    tensors: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        tensors[f"model/{name}"] = whole(weight.detach())
        for optimizer in optimizers:
            for key, moment in optimizer.state.get(weight, {}).items():
                tensors[f"{key}/{name}"] = whole(moment)
    return tensors


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], record: dict[str, Any]) -> Path:
    """Write folder/step-<step>.safetensors and remove all but the newest two."""
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:09d}.safetensors"
    write_tensors(path, tensors, {"record": json.dumps(record)})
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a checkpoint. Raises CheckpointError where the file is torn."""
    try:
        with safe_open(path, framework="pt") as file:
            record: dict[str, Any] = json.loads(file.metadata()["record"])
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"this checkpoint cannot be read ({error}): {path.absolute()}") from error


def newest_checkpoint(
    folder: Path, identity: dict[str, Any]
) -> tuple[Path, dict[str, Tensor], dict[str, Any], list[str]]:
    """The newest whole checkpoint of this run: path, tensors, record, and what is wrong with newer ones.

    Raises CheckpointError, which names them all, if there is none.
    """
    problems: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            tensors, record = load_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if record["identity"] == identity:
            return path, tensors, record, problems
        problems.append(f"this checkpoint belongs to other data, tokenizer or options: {path.absolute()}")
    reason = "; ".join(problems) or f"there is no checkpoint: {folder.absolute()}"
    raise CheckpointError(f"{reason}: to begin anew add --restart")


@torch.no_grad()
def restore(
    model: nn.Module, optimizers: tuple[torch.optim.Optimizer, ...], tensors: dict[str, Tensor]
) -> None:
    """Put the tensors of a checkpoint back where run_tensors found them."""
    owner = {weight: optimizer for optimizer in optimizers for weight in optimizer.param_groups[0]["params"]}
    for name, weight in model.named_parameters():
        weight.copy_(divided_like(tensors[f"model/{name}"], weight))
        state = owner[weight].state
        state.pop(weight, None)
        moments = {
            key.removesuffix(f"/{name}"): divided_like(moment, weight)
            if moment.dim()
            else moment.to(weight.device)
            for key, moment in tensors.items()
            if key.endswith(f"/{name}") and not key.startswith("model/")
        }
        if moments:
            state[weight] = moments
