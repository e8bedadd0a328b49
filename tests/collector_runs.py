"""Runs of the collector as a user starts them: repositories to collect, tokens, and SIGKILL at any moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from collected_folder import COLLECTOR, rows_in
from git_stand_in import Tree, make_repository
from github_stand_in import GitHubStandIn
from project import PROJECT

DAY = ("--start-date", "2024-03-01", "--end-date", "2024-03-01")
TOKEN = "github_pat_11AAAA_secretsecretsecret"
NO_TOKEN = {"GITHUB_TOKEN": ""}
WITH_TOKEN = {"GITHUB_TOKEN": TOKEN}


def add_repository(server: GitHubStandIn, name: str, created: str, tree: Tree, **more: object) -> str:
    """Make a repository that can be cloned and that the API knows; its commit."""
    server.add(name, created, **more)
    return make_repository(server.git_root / f"{name}.git", tree)


def states(work: Path) -> dict[str, str]:
    """Name -> state of every repository of the record in work/repos."""
    return {str(name): str(state) for name, state in rows_in(work / "repos", "full_name, state")}


def kill_at_random(
    work: Path,
    *arguments: str,
    env: dict[str, str],
    progress: Callable[[], object],
    kills: int,
    seconds: float,
    seed: int,
) -> int:
    """Start the collector so many times, and kill each within so many seconds after its first progress.

    progress: anything that changes once a run has begun its work. How many runs were alive to be killed.
    """
    chance, killed = random.Random(seed), 0
    for _ in range(kills):
        before = progress()
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / COLLECTOR), *arguments],
            cwd=work,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and progress() == before:
            time.sleep(0.002)
        time.sleep(chance.random() * seconds)
        killed += process.poll() is None
        process.kill()
        process.wait()
    return killed
