"""Files that are the old one or the new one at every moment, never a part."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, make sure that it is on the disk, and put it there in one step."""
    beside = partial(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)  # a full disk gets its room back, and keeps what was there
        raise


def partial(path: Path) -> Path:
    """Where a file or folder lies until it is whole."""
    return path.with_name(f".{path.name}.partial")


def as_json(record: dict[str, Any]) -> bytes:
    """A record as people read it."""
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
