"""Folders of small shards, written by data_preprocess.py itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from project import PROJECT

# The script, with shards of so many bytes of text; `slowly` gives a test the time to kill it.
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv.pop(1))
import corpus.output_writers as writers
writers.SHARD_TEXT, seconds = int(sys.argv.pop(1)), float(sys.argv.pop(1))
add = writers.ShardWriter.add
def slowly(self, *arguments):
    time.sleep(seconds)
    add(self, *arguments)
writers.ShardWriter.add = slowly
import data_preprocess
raise SystemExit(data_preprocess.main())
"""


def sharding(folder: Path, *arguments: str | Path, text: int, seconds: float = 0.0) -> subprocess.Popen[str]:
    """Start data_preprocess.py in a folder, with shards of so many bytes of text."""
    options = [str(PROJECT / "preprocess"), str(text), str(seconds), *map(str, arguments)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def in_shards(folder: Path, *arguments: str | Path, text: int) -> str:
    """Run it to its end; what it printed on both outputs."""
    process = sharding(folder, *arguments, text=text)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    return out + err
