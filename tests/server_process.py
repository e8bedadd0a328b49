"""model/serve.py as a process on a free port, started and ended as a user would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import httpx2

from project import PROJECT

READY = "Ctrl-C ends it.\n"


class ServerProcess:
    """`with ServerProcess(folder) as server:` a server that answers, and is ended by Ctrl-C afterwards."""

    def __init__(self, folder: Path, *options: str | Path, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, str(PROJECT / "model/serve.py"), "--model", str(folder), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **(env or {})},
        )
        self.errors = ""
        self.shown = ""
        assert self.process.stdout
        for line in self.process.stdout:
            self.shown += line
            if line == READY:
                break
        else:
            raise AssertionError(f"it ended: {self.process.communicate()[1]}")
        found = re.search(r"http://\S+:(\d+)", self.shown)
        assert found, self.shown
        self.port = int(found[1])
        self.address = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self.interrupt()

    def client(self, **headers: str) -> httpx2.Client:
        return httpx2.Client(base_url=self.address, headers=headers, timeout=60)

    def interrupt(self) -> int:
        """Press Ctrl-C and wait -> the exit code; what it wrote on standard error is then in `errors`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=30)
        self.errors = self.errors or errors
        return self.process.returncode

    def memory(self) -> int:
        """What the process takes of the memory, in bytes."""
        import psutil

        return int(psutil.Process(self.process.pid).memory_info().rss)
