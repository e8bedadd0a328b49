"""What torchrun has told this process about the others; known before torch is loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def is_one_of_several() -> bool:
    """Whether torchrun, or a like launcher, has started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process may speak and write."""
    return int(os.environ.get("RANK", "0")) == 0


def processes_here() -> int:
    """How many processes of this run share the machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def silence_all_but_the_first() -> None:
    """Let one process speak for all; what breaks in another one alone still reaches sys.__stderr__."""
    if not is_first():
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
