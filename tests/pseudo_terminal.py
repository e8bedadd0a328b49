"""A script in a pseudo-terminal."""

from __future__ import annotations

import functools
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

from project import PROJECT

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>78])|\x1b\][^\x07]*\x07")
ENTER, ALT_ENTER, UP, CTRL_C, CTRL_D = "\r", "\x1b\r", "\x1b[A", "\x03", "\x04"


class Terminal:
    """The generator on a terminal of 30 rows."""

    def __init__(
        self, folder: Path, state: Path, *options: str, term: str = "xterm-256color", columns: int = 100
    ) -> None:
        self.screen, inner = pty.openpty()
        subprocess.run(["stty", "cols", str(columns), "rows", "30"], stdin=inner, check=True)
        command = [sys.executable, str(PROJECT / "model/code_generator.py"), "--model", str(folder), *options]
        env = {**os.environ, "TERM": term, "XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1"}
        for name in ("COLUMNS", "LINES"):  # pytest's workers have them; they hide the terminal's own size
            env.pop(name, None)
        self.process = subprocess.Popen(
            command, env=env, pass_fds=[inner], preexec_fn=functools.partial(os.login_tty, inner)
        )
        os.close(inner)
        self.raw = ""
        self.seen = 0

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """All that was shown since the last wait up to this text, without colours and cursor movements."""
        deadline = time.monotonic() + seconds
        while text not in (new := ESCAPES.sub("", self.raw)[self.seen :]):
            assert time.monotonic() < deadline, f"{text!r} was not shown: {new!r}"
            if not self.read():
                assert text in ESCAPES.sub("", self.raw)[self.seen :], f"it ended before {text!r}: {new!r}"
        end = new.index(text) + len(text)
        self.seen += end
        return new[:end]

    def wait_for_writing(self, seconds: float = 60) -> None:
        """Until so much was shown that a completion has begun: what is typed now does not meet the prompt."""
        deadline = time.monotonic() + seconds
        while len(ESCAPES.sub("", self.raw)) < self.seen + 200:
            assert time.monotonic() < deadline, f"nothing is written: {self.raw[self.seen :]!r}"
            assert self.read(), "it ended"

    def read(self) -> bool:
        """Take what is shown within a moment; False at its end."""
        if select.select([self.screen], [], [], 0.1)[0]:
            try:
                self.raw += os.read(self.screen, 65536).decode(errors="replace")
            except OSError:  # Linux: the other end is closed
                return False
        return True

    def leave(self) -> int:
        self.type(CTRL_D)
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)
