"""Kills the git processes that a killed collector leaves behind.

A kill cannot be caught, so a second process watches. The collector writes to its standard input which process
groups are alive; when that input ends, the collector has ended, and the groups that are left are killed.

A file of its own, and of the standard library alone: it runs as a program.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


class OrphanReaper:
    """The collector's side: one reaper for all of its clones, started with the first of them."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """Have a process group killed if this process ends before `forget`."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """A process group has ended."""
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        with self._mutex:
            if self._process is None:
                # In its own session: Ctrl-C must not end it before the collector.
                command = [sys.executable, "-I", "-S", __file__]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
            assert self._process.stdin is not None, "the reaper reads from a pipe"
            with suppress(BrokenPipeError):  # the reaper was killed: it is only a second safeguard
                self._process.stdin.write(line.encode("ascii"))
                self._process.stdin.flush()

    def close(self) -> None:
        """All clones have ended."""
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
