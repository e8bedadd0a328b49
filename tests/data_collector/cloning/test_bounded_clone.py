"""No repository, hostile or just large, takes more time, disk or memory than the bounds allow."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloning import bounded_clone
from cloning import clone as clone_module
from cloning.bounded_clone import BareRepository
from cloning.clone import Cloner
from cloning.failures import CloneError, CloneStopped
from cloning.orphan_reaper import OrphanReaper
from fetched_repository import LARGE, SMALL, command_lines, fetch, written
from git_stand_in import make_bomb, make_repository
from github_stand_in import Fault, GitHubStandIn


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubStandIn]:
    with GitHubStandIn(tmp_path / "git") as github:
        yield github


def test_a_large_repository_sends_its_python_files_alone(server: GitHubStandIn, tmp_path: Path) -> None:
    make_repository(tmp_path / "git/ann/x.git", {"a.py": b"x = 1\n", "asset.bin": os.urandom(3_000_000)})
    received = BareRepository(
        _made(tmp_path / "bare"), f"{server.url}/ann/x.git", threading.Event(), OrphanReaper()
    )
    received.clone(is_partial=True)
    assert sum(path.stat().st_size for path in received.folder.rglob("*.pack")) < 10_000


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("size_kb", [SMALL, LARGE])
def test_a_repository_that_unfolds_to_billions_of_files_is_left(
    server: GitHubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_kb: int
) -> None:
    monkeypatch.setattr(clone_module, "PYTHON_FILES", 5000)
    make_bomb(tmp_path / "git/eve/x.git", levels=10, width=10)
    with pytest.raises(CloneError, match="too large: more than 5,000 Python files") as error:
        fetch(server, "eve/x", tmp_path / "out", size_kb)
    assert error.value.state == "gone"


def test_a_tree_of_more_entries_than_the_bound_is_left(
    server: GitHubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_clone, "TREE_ENTRIES", 100)
    make_repository(tmp_path / "git/eve/x.git", {f"{n}.json": b"{}" for n in range(101)})
    with pytest.raises(CloneError, match="too large: more than 100 files"):
        fetch(server, "eve/x", tmp_path / "out")


def test_a_file_larger_than_what_is_held_in_memory_arrives_whole(
    server: GitHubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_clone, "CHUNK", 1000)
    content = os.urandom(5000)
    make_repository(tmp_path / "git/ann/x.git", {"a.py": content, "b.py": b"b = 1\n", "c.py": content[1:]})
    fetch(server, "ann/x", tmp_path / "out")
    assert written(tmp_path / "out") == {"a.py": content, "b.py": b"b = 1\n", "c.py": content[1:]}


@pytest.mark.parametrize("damage", ["stall", "late half"])
def test_a_stalled_server_is_left_when_time_is_up(
    server: GitHubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    make_repository(tmp_path / "git/ann/x.git", {"a.py": os.urandom(500_000)})
    server.slow_seconds = 60
    monkeypatch.setattr(bounded_clone, "CLONE_SECONDS", 0.5)
    monkeypatch.setattr(clone_module, "TRIES", 1)
    server.before_git = lambda path: Fault(damage=damage) if path.endswith("git-upload-pack") else None
    started = time.monotonic()
    with pytest.raises(CloneError, match="not finished"):
        fetch(server, "ann/x", tmp_path / "out")
    assert time.monotonic() - started < 10
    assert str(tmp_path) not in command_lines()


def test_a_run_that_stops_ends_its_clones(server: GitHubStandIn, tmp_path: Path) -> None:
    server.before_git = lambda _: Fault(damage="stall")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    (tmp_path / "out").mkdir()
    with pytest.raises(CloneStopped), closing(Cloner(stop)) as cloner:
        cloner.fetch(f"{server.url}/ann/x.git", tmp_path / "out", size_kb=SMALL, license="")
    assert str(tmp_path) not in command_lines()


def test_a_clone_larger_than_the_bound_is_left(
    server: GitHubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_repository(tmp_path / "git/ann/x.git", {"a.py": b"x" * 3000})
    monkeypatch.setattr(bounded_clone, "CLONE_BYTES", 1000)
    with pytest.raises(CloneError, match=r"(more|larger) than") as error:
        fetch(server, "ann/x", tmp_path / "out")
    assert error.value.state == "gone"
