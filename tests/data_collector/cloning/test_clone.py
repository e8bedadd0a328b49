"""One repository becomes its Python files, whatever is in it: real clones from a real git server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloning import clone as clone_module
from cloning.clone import Clone, check_clone_url
from cloning.failures import CloneError
from fetched_repository import LARGE, SMALL, fetch, written
from git_stand_in import Tree, git, make_repository
from github_stand_in import Fault, GitHubStandIn

MIT = (
    b"MIT License\n\nPermission is hereby granted, free of charge, ..."
    b" The above copyright notice and this permission notice"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubStandIn]:
    with GitHubStandIn(tmp_path / "git") as github:
        yield github


@pytest.mark.parametrize("size_kb", [SMALL, LARGE])
def test_only_python_files_arrive_and_the_licence_is_read(
    server: GitHubStandIn, tmp_path: Path, size_kb: int
) -> None:
    tree: Tree = {
        "a.py": b"x = 1\r\n",
        "pkg/B.PY": b"",
        "pkg/deep/c.py": b"\xff\x00",
        "run.py": ("100755", b"#!/usr/bin/env python\n"),
        "LICENSE": MIT,
        "asset.bin": b"\0" * 1000,
        "notes.pyc": b"no",
    }
    commit = make_repository(tmp_path / "git/ann/x.git", tree)
    clone = fetch(server, "ann/x", tmp_path / "out", size_kb)
    assert clone == Clone(commit, "MIT", 4, 31, ())
    assert written(tmp_path / "out") == {
        "a.py": b"x = 1\r\n",
        "pkg/B.PY": b"",
        "pkg/deep/c.py": b"\xff\x00",
        "run.py": b"#!/usr/bin/env python\n",
    }
    assert not (tmp_path / "out" / "git").exists()


def test_nothing_in_a_hostile_repository_comes_into_play(server: GitHubStandIn, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    script = f"#!/bin/sh\ntouch {canary}\n".encode()
    tree: Tree = {
        ".gitattributes": b"*.py filter=evil text eol=crlf ident working-tree-encoding=UTF-16 diff=evil\n",
        ".gitmodules": b'[submodule "s"]\n\tpath = s\n\turl = file:///etc\n'
        b'[submodule "t"]\n\tpath = t\n\turl = ssh://-oProxyCommand=touch/x\n\tupdate = !touch\n',
        ".lfsconfig": b"[lfs]\n\turl = http://127.0.0.1:1/\n",
        ".git/hooks/post-checkout": ("100755", script),
        ".git/x.py": b"evil\n",
        "hooks/post-checkout": ("100755", script),
        "s": ("160000", b"0" * 39 + b"1"),
        "t": ("160000", b"0" * 39 + b"2"),
        "link.py": ("120000", b"/etc/passwd"),
        "linked": ("120000", b"/tmp"),
        "x.py/inner.py": b"inner\n",
        "lfs.py": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "ident.py": b"# $Id$\n",
        "../escape.py": b"evil\n",
        "a/../../escape.py": b"evil\n",
        "-rf.py": b"dash\n",
        "new\nline.py": b"newline\n",
        "esc\x1b[31m.py": b"escape\n",
        "caf\udce9.py": b"latin\n",
        "Case.py": b"upper\n",
        "case.py": b"lower\n",
        "aux.py": b"device\n",
        "l" * 300 + ".py": b"long\n",
        "deep/" * 300 + "x.py": b"too deep\n",
    }
    make_repository(tmp_path / "git/eve/x.git", tree)
    clone = fetch(server, "eve/x", tmp_path / "out")
    files = written(tmp_path / "out")
    long, deep = (next(name for name in files if name.startswith(start)) for start in ("lll", "deep"))
    assert len(long) <= 255 and len(deep) <= 700
    assert {name: content for name, content in files.items() if name not in (long, deep)} == {
        "x.py/inner.py": b"inner\n",
        "lfs.py": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "ident.py": b"# $Id$\n",
        "-rf.py": b"dash\n",
        "new%0Aline.py": b"newline\n",
        "esc%1B[31m.py": b"escape\n",
        "caf%E9.py": b"latin\n",
        "Case.py": b"upper\n",
        "case~2.py": b"lower\n",
        "aux.py": b"device\n",
    }
    assert set(clone.skipped) == {".git/x.py", "../escape.py", "a/../../escape.py"}
    assert not canary.exists()
    assert not list(tmp_path.rglob("escape.py"))


def test_a_repository_that_is_larger_than_said_is_fetched_in_part(
    server: GitHubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone_module, "WHOLE_CLONE_BYTES", 100_000)
    make_repository(tmp_path / "git/ann/x.git", {"a.py": b"x = 1\n", "asset.bin": os.urandom(2_000_000)})
    posts: list[str] = []

    def before(path: str) -> Fault | None:
        if not path.endswith("git-upload-pack"):
            return None
        posts.append(path)
        return Fault(damage="late half") if len(posts) == 2 else None  # the first one asks for the refs

    server.before_git, server.slow_seconds = before, 5.0
    clone = fetch(server, "ann/x", tmp_path / "out", size_kb=0)
    assert (clone.files, written(tmp_path / "out")) == (1, {"a.py": b"x = 1\n"})
    assert len(posts) == 5  # refs, whole pack; refs, trees; the one file


@pytest.mark.parametrize("size_kb", [SMALL, LARGE])
def test_a_server_that_cannot_send_a_part_sends_all(
    server: GitHubStandIn, tmp_path: Path, size_kb: int
) -> None:
    make_repository(tmp_path / "git/ann/x.git", {"a.py": b"x = 1\n", "asset.bin": b"\0"})
    (tmp_path / "git/ann/x.git/config").write_text("[core]\n\tbare = true\n", encoding="utf-8")
    assert fetch(server, "ann/x", tmp_path / "out", size_kb).files == 1


def test_a_repository_without_a_commit_is_empty(server: GitHubStandIn, tmp_path: Path) -> None:
    (tmp_path / "git/ann").mkdir(parents=True)
    git(tmp_path / "git/ann", "init", "--quiet", "--bare", "x.git")
    assert fetch(server, "ann/x", tmp_path / "out").files == 0


@pytest.mark.parametrize("size_kb", [SMALL, LARGE])
def test_a_default_branch_that_is_missing_gives_way_to_another(
    server: GitHubStandIn, tmp_path: Path, size_kb: int
) -> None:
    path = tmp_path / "git/ann/x.git"
    commit = make_repository(path, {"x.py": b"x = 1\n"}, branch="develop")
    make_repository(path, {"x.py": b"x = 2\n"}, parent=commit, branch="later")
    clone = fetch(server, "ann/x", tmp_path / "out", size_kb)
    assert (clone.commit, written(tmp_path / "out")) == (commit, {"x.py": b"x = 1\n"})


def test_a_renamed_repository_is_followed(server: GitHubStandIn, tmp_path: Path) -> None:
    make_repository(tmp_path / "git/ann/new.git", {"x.py": b"x = 1\n"})

    def before(path: str) -> Fault | None:
        target = f"{server.url}/ann/new.git/info/refs?service=git-upload-pack"
        return Fault(301, {"Location": target}) if path.startswith("/ann/old.git/info") else None

    server.before_git = before
    assert fetch(server, "ann/old", tmp_path / "out").files == 1


@pytest.mark.parametrize("size_kb", [SMALL, LARGE])
def test_a_transfer_that_breaks_off_is_tried_again(
    server: GitHubStandIn, tmp_path: Path, size_kb: int
) -> None:
    make_repository(tmp_path / "git/ann/x.git", {f"{n}.py": os.urandom(5000) for n in range(20)})
    breaks = [Fault(), Fault(damage="truncated"), Fault(), Fault(), Fault(damage="truncated")]

    def before(path: str) -> Fault | None:
        fault = breaks.pop(0) if breaks and path.endswith("git-upload-pack") else Fault()
        return fault if fault.damage else None

    server.before_git = before
    clone = fetch(server, "ann/x", tmp_path / "out", size_kb)
    assert clone.files == 20
    assert breaks == [] or size_kb == SMALL


def test_every_step_may_break_without_leaving_half_a_repository(
    server: GitHubStandIn, tmp_path: Path
) -> None:
    make_repository(tmp_path / "git/ann/x.git", {f"{n}.py": os.urandom(5000) for n in range(20)})
    fetch(server, "ann/x", tmp_path / "whole")
    requests = len(server.git_requests)
    for broken in range(requests):
        countdown = [broken]

        def before(_: str, countdown: list[int] = countdown) -> Fault | None:
            countdown[0] -= 1
            return Fault(damage="truncated") if countdown[0] == -1 else None

        server.before_git = before
        assert fetch(server, "ann/x", tmp_path / f"out{broken}").files == 20


@pytest.mark.parametrize(
    ("status", "state"),
    [(404, "gone"), (401, "gone"), (403, "gone"), (451, "gone"), (502, "failed"), (429, "failed")],
)
def test_a_refusal_is_for_good_or_passing(
    server: GitHubStandIn, tmp_path: Path, status: int, state: str
) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="GitHub"'} if status == 401 else {}
    server.before_git = lambda _: Fault(status, challenge)
    with pytest.raises(CloneError) as error:
        fetch(server, "ann/x", tmp_path / "out")
    assert error.value.state == state
    assert len(server.git_requests) == (1 if state == "gone" else clone_module.TRIES)


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/a/b.git",
        "ssh://git@github.com/a/b.git",
        "git@github.com:a/b.git",
        "file:///etc",
        "/etc",
        "ext::sh -c touch% /tmp/x",
        "--upload-pack=touch /tmp/x",
        "https://token@github.com/a/b.git",
        "https://github.com/a/\nb.git",
        "https:///a/b.git",
        "",
    ],
)
def test_only_https_without_a_password_is_cloned(url: str) -> None:
    with pytest.raises(CloneError):
        check_clone_url(url)


@pytest.mark.parametrize(
    "url", ["https://github.com/a/b.git", "http://127.0.0.1:80/a/b.git", "http://[::1]/a"]
)
def test_https_and_this_machine_are_cloned(url: str) -> None:
    check_clone_url(url)
