"""Where the steps of gpu_check.py run: a folder, an interpreter, a log, and a clock that ends what hangs."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from journey import PROJECT


class StepError(Exception):
    """A step that failed, with the reason in a line."""


class LeftOutError(Exception):
    """A step that cannot run here, with the reason in a line."""


@dataclass(frozen=True)
class Scale:
    """What differs between a GPU and the trial of the script on a CPU."""

    device: str
    patience: float  # times the limit of each step: a CPU may be busy, and a rented GPU costs
    megabytes: str  # of Python to collect
    vocabulary: str
    speed: tuple[str, ...]  # options of train_gpu.py
    minutes: str  # of training, with everything left to the dial
    training: tuple[str, ...]  # options of train.py for runs of equal steps
    learnt: float  # bits per byte below which such a run has learnt something
    apart: float  # how far apart two such runs may be, as a share; 0: the same bytes
    writing: tuple[str, ...]  # options of code_generator.py
    evaluation: tuple[str, ...]  # options of evaluate.py


@dataclass
class Place:
    """A folder, an interpreter, the log of all commands, and how long the present step may take."""

    folder: Path
    scale: Scale
    python: str
    corpus: Path | None = None
    about: dict[str, Any] = field(default_factory=dict)  # of the machine, once it is known
    limit: float = 0.0  # seconds of the present step
    deadline: float = 0.0  # its end by the monotonic clock

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def begin(self, name: str, limit: float) -> int:
        """Start the clock of a step. Returns where its part of the log begins."""
        self.limit, self.deadline = limit, time.monotonic() + limit
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n### {name}\n")
        return self.log.stat().st_size

    def log_since(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode("utf-8", "replace")

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start `python command` in the folder, its output at the end of the log."""
        words = [self.python, *map(str, command)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *command: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        """Run `python command` to its end and return what it printed.

        Raises: StepError for an exit code that is none of codes, and when the time of the step is over.
        """
        start = self.log.stat().st_size
        process = self.start(*command)
        try:
            code = process.wait(max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise StepError(f"not done within {self.limit:.0f} s") from None
        finally:
            end_family(process)
        output = self.log_since(start)
        if code not in codes:
            raise StepError(f"exit code {code}: {reason(output)}")
        return output

    def script(self, script: str, *options: str | Path) -> str:
        """Run a script of the project: done (0), or finished with gaps that it names (3)."""
        return self.run(PROJECT / script, *options, codes=(0, 3))


def reason(output: str) -> str:
    """The line that says what went wrong: the last error, or else the last line."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [
        line for line in lines if re.match(r"(\[rank\d+\]: *)?(error: |[\w.]*(Error|Exception)\b)", line)
    ]
    return (errors or lines or ["it printed nothing"])[-1]


def end_family(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that still runs with its descendants: those of torchrun are in sessions of their own."""
    if process.poll() is not None:
        return
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def found(pattern: str, output: str) -> re.Match[str]:
    """The last place that matches. Raises: StepError if there is none."""
    matches = list(re.finditer(pattern, output, re.MULTILINE))
    if not matches:
        raise StepError(f"the output has nothing like {pattern}")
    return matches[-1]
