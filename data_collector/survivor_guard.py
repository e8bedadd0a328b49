"""Ends the gits of a collector that was killed: a kill cannot be caught, so a second process waits for it.

The collector tells this process on its standard input which process groups are alive; when that input ends,
the collector has, and what is left is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


class SurvivorGuard:
    """The collector's end: one guard for all of its clones. The guard ends with the collector."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """Have a process group killed should this process end before it is forgotten."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """A process group has ended."""
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        with self._mutex:
            if self._process is None:
                # A session of its own: Ctrl-C ends the collector, which ends its clones by itself.
                command = [sys.executable, "-I", "-S", __file__]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
            assert self._process.stdin is not None, "the guard reads from a pipe"
            with suppress(BrokenPipeError):  # somebody ended the guard: it was a second line of defence
                self._process.stdin.write(line.encode("ascii"))
                self._process.stdin.flush()

    def close(self) -> None:
        """Nothing is left to guard."""
        with self._mutex:
            if self._process is not None:
                with suppress(BrokenPipeError):
                    self._process.communicate()
                self._process = None


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line.startswith("+") else groups.discard)(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
