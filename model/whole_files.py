"""Files that are the old one or the new one at every moment, never a part."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def whole_or_absent(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside its place; once it is on the disk, it is put there in one step."""
    beside = partial(path)
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)  # a full disk gets its room back, and keeps what was there
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_or_absent(path) as file:
        file.write(content)


def partial(path: Path) -> Path:
    """Where a file or folder lies until it is whole."""
    return path.with_name(f".{path.name}.partial")


def as_json(record: dict[str, Any]) -> bytes:
    """A record as people read it."""
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
