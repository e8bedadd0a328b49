"""Folders and git repositories of this machine become repositories: copied, never linked, never run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collected_folder import COLLECTOR, MIT_TEXT, collect_local, files_in, rows_in
from collecting.local_run import LocalOptions, run_local
from collector_cli import GAPS
from git_stand_in import git
from project import PROJECT, run_script, succeed


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder as people have them: code, an environment, caches, links, two git repositories."""
    root = tmp_path / "home"
    for name, content in {
        "code/a.py": "a = 1\n",
        "code/deep/b.PY": "b = 1\n",
        "code/notes.txt": "no",
        "code/LICENSE": MIT_TEXT,
        "code/.hidden/h.py": "no",
        "code/__pycache__/c.py": "no",
        "code/env/pyvenv.cfg": "",
        "code/env/lib/v.py": "no",
        "git/one/tracked.py": "t = 1\n",
        "git/one/untracked.py": "u = 1\n",
        "git/two/tracked.py": "t = 2\n",
        "git/loose.py": "l = 1\n",
        "git/two/COPYING": "GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8", newline="\n")
    (root / "code/linked.py").symlink_to("/etc/passwd")
    (root / "code/linked").symlink_to("/etc")
    for name in ("one", "two"):
        git(root / "git" / name, "init", "--quiet")
        git(root / "git" / name, "add", "tracked.py")
        git(root / "git" / name, "commit", "--quiet", "-m", "all")
    return root


def test_a_folder_gives_what_it_holds_except_environments_caches_links_and_hidden_folders(
    home: Path, tmp_path: Path
) -> None:
    collect_local(tmp_path, home / "code")
    assert files_in(tmp_path / "repos") == {
        "local/code/a.py": b"a = 1\n",
        "local/code/deep/b.PY": b"b = 1\n",
    }
    assert rows_in(
        tmp_path / "repos", "full_name, clone_url, license, commit_sha, python_files, python_bytes"
    ) == [("local/code", (home / "code").as_uri(), "MIT", "", 2, 12)]


def test_a_folder_of_git_repositories_gives_each_of_them_with_its_tracked_files(
    home: Path, tmp_path: Path
) -> None:
    collect_local(tmp_path, home / "git")
    assert files_in(tmp_path / "repos") == {
        "local/one/tracked.py": b"t = 1\n",
        "local/two/tracked.py": b"t = 2\n",
        "local/git/loose.py": b"l = 1\n",
    }
    commits = {
        name: git(home / "git" / name, "rev-parse", "HEAD").decode().strip() for name in ("one", "two")
    }
    assert rows_in(tmp_path / "repos", "full_name, commit_sha, license") == [
        ("local/git", "", ""),
        ("local/one", commits["one"], ""),
        ("local/two", commits["two"], "GPL-3.0"),
    ]


def test_no_commit_is_recorded_for_files_that_it_does_not_hold(home: Path, tmp_path: Path) -> None:
    (home / "git/one/tracked.py").write_text("changed = 1\n", encoding="utf-8")
    collect_local(tmp_path, home / "git/one")
    assert files_in(tmp_path / "repos") == {"local/one/tracked.py": b"changed = 1\n"}
    assert rows_in(tmp_path / "repos", "commit_sha") == [("",)]


def test_a_git_repository_cannot_run_anything_when_it_is_read(home: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {canary}\n", encoding="utf-8")
    script.chmod(0o755)
    for setting in ("core.fsmonitor", "filter.x.clean", "diff.external", "core.pager", "core.sshCommand"):
        git(home / "git/one", "config", setting, str(script))
    collect_local(tmp_path, home / "git/one")
    assert not canary.exists()


def test_the_folder_that_is_collected_into_is_left_out(home: Path) -> None:
    collect_local(home / "code", home / "code")
    assert collect_local(home / "code", home / "code").stdout.startswith("up to date: ")
    assert set(files_in(home / "code/repos")) == {"local/code/a.py", "local/code/deep/b.PY"}


def test_a_name_that_is_made_safe_is_recorded_and_forgotten_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a:b.py").write_text("a = 1\n", encoding="utf-8")
    collect_local(tmp_path, tmp_path / "src")
    assert set(files_in(tmp_path / "repos")) == {"local/src/a%3Ab.py"}
    identifier = f"local/{tmp_path}/src"
    assert rows_in(tmp_path / "repos", "*", "paths") == [(identifier, "a%3Ab.py", "a:b.py")]
    (tmp_path / "src/a:b.py").rename(tmp_path / "src/ab.py")
    collect_local(tmp_path, tmp_path / "src")
    assert rows_in(tmp_path / "repos", "*", "paths") == []


def test_two_sources_of_one_name_stay_apart(home: Path, tmp_path: Path) -> None:
    (tmp_path / "CODE").mkdir()
    (tmp_path / "CODE/a.py").write_text("other = 1\n", encoding="utf-8")
    collect_local(tmp_path, home / "code", tmp_path / "CODE")
    assert [row[0] for row in rows_in(tmp_path / "repos", "full_name")] == ["local/CODE~2", "local/code"]
    assert files_in(tmp_path / "repos")["local/CODE~2/a.py"] == b"other = 1\n"


def test_the_users_own_files_are_copied_not_linked(home: Path, tmp_path: Path) -> None:
    collect_local(tmp_path, home / "code")
    copy = tmp_path / "repos/local/code/a.py"
    assert copy.stat().st_ino != (home / "code/a.py").stat().st_ino
    copy.write_text("", encoding="utf-8")
    assert (home / "code/a.py").read_text("utf-8") == "a = 1\n"


def test_a_folder_says_its_licence_in_its_metadata(home: Path, tmp_path: Path) -> None:
    text = '[project]\nname = "code"\nlicense = "BSD-3-Clause"\n'
    (home / "code/pyproject.toml").write_text(text, encoding="utf-8")
    collect_local(tmp_path, home / "code")
    assert rows_in(tmp_path / "repos", "license") == [("BSD-3-Clause",)]


@pytest.mark.parametrize("make", [lambda _: None, Path.mkdir, Path.touch])
def test_a_path_without_python_gets_one_line_and_touches_nothing(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "there")
    result = run_script(COLLECTOR, "--local", tmp_path / "there", cwd=tmp_path)
    assert result.returncode == 1
    assert str(tmp_path / "there") in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "repos").exists()


@pytest.fixture
def cannot_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes reading a file, or listing a folder, fail as the operating system does: root reads everything."""
    refused: set[Path] = set()

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | Path) and Path(path) in refused:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *arguments, **options)

        return call

    for name in ("read_bytes", "open"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    return refused.add


@pytest.mark.parametrize("name", ["a.py", "deep", "LICENSE"])
def test_what_cannot_be_read_is_named_by_every_run_and_the_others_are_taken(
    home: Path,
    tmp_path: Path,
    name: str,
    cannot_read: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cannot_read(home / "code" / name)
    options = LocalOptions([home / "code", home / "git"], 0, refresh=False)
    for _ in range(2):
        assert run_local(tmp_path / "repos", options, "next") == GAPS
        assert f"could not be taken: {home}/code/{name} (Permission denied)" in capsys.readouterr().err
    taken = {"local/code/a.py": b"a = 1\n", "local/code/deep/b.PY": b"b = 1\n"}
    expected = {path: content for path, content in taken.items() if name not in path}
    assert {path: text for path, text in files_in(tmp_path / "repos").items() if "/code/" in path} == expected
    assert "local/two/tracked.py" in files_in(tmp_path / "repos")


def test_a_tracked_file_that_cannot_be_read_is_named_and_the_others_are_taken(
    home: Path,
    tmp_path: Path,
    cannot_read: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cannot_read(home / "git/one/tracked.py")
    assert run_local(tmp_path / "repos", LocalOptions([home / "git"], 0, refresh=False), "next") == GAPS
    assert f"{home}/git/one/tracked.py (Permission denied)" in capsys.readouterr().err
    assert "local/two/tracked.py" in files_in(tmp_path / "repos")


def commit_all(folder: Path, *names: str) -> None:
    git(folder, "init", "--quiet")
    git(folder, "add", *names)
    git(folder, "commit", "--quiet", "-m", "all")


def write_files(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("option", ["--bare", "--mirror"])
def test_a_bare_repository_gives_the_files_of_its_default_branch(tmp_path: Path, option: str) -> None:
    files = {"a.py": "a = 1\n", "deep/b.py": "b = 1\n", "LICENSE": MIT_TEXT, "notes.txt": "no"}
    write_files(tmp_path / "a", files)
    (tmp_path / "a/link.py").symlink_to("a.py")
    commit_all(tmp_path / "a", ".")
    git(tmp_path, "clone", "--quiet", option, "a", "mirrors/a.git")
    write_files(tmp_path / "a", {"a.py": "a = 2\n"})
    (tmp_path / "mirrors/plain").mkdir()
    write_files(tmp_path / "mirrors/plain", {"c.py": "c = 1\n"})
    commit = git(tmp_path / "a", "rev-parse", "HEAD").decode().strip()
    for path in ("mirrors/a.git", "mirrors", "a/.git"):
        repos = tmp_path / f"from-{path.replace('/', '-')}"
        succeed(run_script(COLLECTOR, "--local", path, "--repos", repos, cwd=tmp_path))
        taken = {name: content for name, content in files_in(repos).items() if "/a/" in name}
        assert taken == {"local/a/a.py": b"a = 1\n", "local/a/deep/b.py": b"b = 1\n"}
        assert ("local/a", commit, "MIT") in rows_in(repos, "full_name, commit_sha, license")
    assert "local/mirrors/plain/c.py" in files_in(tmp_path / "from-mirrors")
    again = succeed(run_script(COLLECTOR, "--local", "mirrors", "--repos", "from-mirrors", cwd=tmp_path))
    assert again.stdout.startswith("up to date: ")


def test_a_bare_repository_with_a_missing_object_is_named_and_others_are_taken(tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"a.py": "a = 1\n", "b.py": "b = 1\n"})
    commit_all(tmp_path / "a", ".")
    git(tmp_path, "clone", "--quiet", "--bare", "a", "a.git")
    (tmp_path / "a/b.py").unlink()  # the disk counts, so the repository itself is whole
    blob = git(tmp_path / "a", "rev-parse", "HEAD:a.py").decode().strip()
    (tmp_path / "a.git/objects" / blob[:2] / blob[2:]).unlink()
    result = run_script(COLLECTOR, "--local", "a.git", "a", cwd=tmp_path)
    assert result.returncode == 3
    assert f"{tmp_path}/a.git" in result.stderr and "git fsck" in result.stderr
    assert files_in(tmp_path / "repos") == {"local/a/a.py": b"a = 1\n"}


def test_what_git_does_not_track_is_counted(tmp_path: Path) -> None:
    names = "gone.py new.py sub/new.py built/ignored.py .hidden/h.py env/pyvenv.cfg env/z.py".split()
    write_files(tmp_path / "src/a", {**dict.fromkeys(names, ""), "a.py": "a = 1\n", ".gitignore": "built/\n"})
    commit_all(tmp_path / "src/a", "a.py", "gone.py")
    (tmp_path / "src/a/gone.py").unlink()
    write_files(tmp_path / "module", {"m.py": "m = 1\n"})
    commit_all(tmp_path / "module", "m.py")
    add = ("submodule", "--quiet", "add", str(tmp_path / "module"), "module")
    git(tmp_path / "src/a", "-c", "protocol.file.allow=always", *add)
    for _ in range(2):  # an "up to date" says it too
        result = collect_local(tmp_path, "src")
        assert (
            f"left out: {tmp_path}/src/a: 2 untracked Python files (git add takes them in), "
            "1 submodule (name its folder after --local), "
            "1 tracked Python file that is not on the disk (git checkout)"
        ) in result.stdout
    assert files_in(tmp_path / "repos") == {"local/a/a.py": b"a = 1\n"}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("new", "no Python file is tracked: {path}: 1 untracked Python file (git add"),
        ("bare", "nothing is committed yet: {path}"),
        ("not checked out", "nothing is checked out: {path}: run git checkout"),
        ("no Python", "no Python file there: {path}"),
    ],
)
def test_a_repository_that_gives_nothing_is_named_with_its_reason(
    tmp_path: Path, state: str, reason: str
) -> None:
    write_files(tmp_path / "a", {"notes.txt" if state == "no Python" else "m.py": "x = 1\n"})
    write_files(tmp_path / "good", {"m.py": "x = 1\n"})
    if state == "bare":
        git(tmp_path, "init", "--quiet", "--bare", "a.git")
        (tmp_path / "a/m.py").unlink()
        (tmp_path / "a").rmdir()
        (tmp_path / "a.git").rename(tmp_path / "a")
    elif state == "new":
        git(tmp_path / "a", "init", "--quiet")
    else:
        commit_all(tmp_path / "a", ".")
    if state == "not checked out":
        git(tmp_path, "clone", "--quiet", "--no-checkout", "a", "b")
        (tmp_path / "a").rename(tmp_path / "elsewhere")
        (tmp_path / "b").rename(tmp_path / "a")
    expected = reason.format(path=tmp_path / "a")
    alone = run_script(COLLECTOR, "--local", "a", cwd=tmp_path)
    assert (alone.returncode, alone.stderr.count("\n")) == (1, 1) and f"error: {expected}" in alone.stderr
    beside = run_script(COLLECTOR, "--local", "a", "good", cwd=tmp_path)
    assert beside.returncode == 3 and f"could not be taken: {expected}" in beside.stderr
    assert files_in(tmp_path / "repos") == {"local/good/m.py": b"x = 1\n"}


def test_a_file_of_an_unfinished_merge_is_taken_once(tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"m.py": "x = 1\n"})
    commit_all(tmp_path / "a", ".")
    git(tmp_path / "a", "checkout", "--quiet", "-b", "other")
    for text in ("x = 2\n", "x = 3\n"):
        write_files(tmp_path / "a", {"m.py": text})
        git(tmp_path / "a", "commit", "--quiet", "-am", "change")
        git(tmp_path / "a", "checkout", "--quiet", "-")
    with pytest.raises(subprocess.CalledProcessError):
        git(tmp_path / "a", "merge", "--quiet", "-")
    collect_local(tmp_path, "a")
    assert set(files_in(tmp_path / "repos")) == {"local/a/m.py"}


def test_a_path_that_is_not_there_is_named_and_the_others_are_taken(home: Path, tmp_path: Path) -> None:
    result = run_script(COLLECTOR, "--local", "missing", home / "code/notes.txt", home / "code", cwd=tmp_path)
    assert result.returncode == 3
    assert f"does not exist: {tmp_path}/missing" in result.stderr and "notes.txt" in result.stderr
    assert "local/code/a.py" in files_in(tmp_path / "repos")


def test_no_heavy_library_is_loaded_for_local_sources(home: Path, tmp_path: Path) -> None:
    code = (
        "import runpy, sys\nsys.argv[1:2] = []\n"
        f"sys.argv = ['x', '--local', {str(home / 'code')!r}, '--repos', {str(tmp_path / 'repos')!r}]\n"
        f"try:\n    runpy.run_path({str(PROJECT / COLLECTOR)!r}, run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'github', 'git', 'requests', 'torch'} & set(sys.modules)))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "data_collector")}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
