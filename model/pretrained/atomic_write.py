"""Atomic writes: at every moment a file is the old one or the new one, never a part."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from model_cli import UserError

if TYPE_CHECKING:
    from torch import Tensor


def temporary_path(path: Path) -> Path:
    """Where a file or folder lies until it is complete."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside the path; once it is complete on the disk, it is renamed to the path."""
    beside = temporary_path(path)
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)  # on a full disk: free the space again; the old file is still there
        raise


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    with open_atomic(path) as file:
        file.write(content)


def as_json(record: dict[str, Any]) -> bytes:
    """A record as indented JSON."""
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file completely or not at all.

    Raises:
        UserError: it cannot be written; the old file is still there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file  # imports torch: "up to date" is said without it

    beside = temporary_path(path)
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, beside, metadata
        )
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())  # safetensors makes files that only their owner can read
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)  # on a full disk: free the space again
        raise UserError(
            f"this file cannot be written ({error}): {path.absolute()}:"
            " make room, then run the same command: it continues from the last checkpoint"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
