"""Programs that hold all syntax of the running Python: tests/cases/syntax/what[-since which Python].txt"""

from __future__ import annotations

import sys

from project import PROJECT


def programs() -> dict[str, str]:
    found = {}
    for file in sorted((PROJECT / "tests/cases/syntax").glob("*.txt")):
        name, _, since = file.stem.partition("-")
        if not since or sys.version_info >= tuple(map(int, since.split("."))):
            found[name] = file.read_text(encoding="utf-8")
    return found


PROGRAMS = programs()
