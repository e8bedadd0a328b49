"""The Python of this machine becomes repositories like any other: copied, never linked, never run."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import license_names
import pytest
from conftest import PROJECT, STDLIB, run_script, succeed
from git_stand_in import git
from installed_python import fair_cap
from local_archives import MAX_RATIO

COLLECTOR = "data_collector/data_collector.py"
MIT_TEXT = "MIT License\n\nPermission is hereby granted, free of charge ... " + (
    "The above copyright notice and this permission notice shall be included"
)


def collected(repos: Path) -> dict[str, bytes]:
    """Every file below repos/ by its path, the record excepted."""
    files = [path for path in sorted(repos.rglob("*")) if path.is_file() and path.parent != repos]
    assert not any(path.is_symlink() for path in files)
    return {path.relative_to(repos).as_posix(): path.read_bytes() for path in files}


def rows(repos: Path, columns: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(repos / "collection.db")
    try:
        return database.execute(f"SELECT {columns} FROM repositories ORDER BY full_name").fetchall()  # noqa: S608
    finally:
        database.close()


def collect(cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return succeed(run_script(COLLECTOR, "--local", *arguments, cwd=cwd))


def test_the_installed_python_fits_the_limit_with_the_library_and_every_package(tmp_path: Path) -> None:
    collect(tmp_path, "--max-mb", "5")
    files = collected(tmp_path / "repos")
    assert 4_500_000 < sum(map(len, files.values())) <= 5_000_000
    owners = {name.split("/")[0] for name in files}
    packages = {name.split("/")[1] for name in files}
    assert owners == {"installed"}
    assert {"python", "torch", "requests", "pytest"} <= packages
    assert all(name.lower().endswith(".py") for name in files)
    for name, content in files.items():
        if name.startswith("installed/python/"):
            assert content == (STDLIB / name.removeprefix("installed/python/")).read_bytes()


def test_the_record_says_where_each_package_is_from_and_its_licence(tmp_path: Path) -> None:
    collect(tmp_path, "--max-mb", "5")
    recorded = {
        row[0]: row[1:] for row in rows(tmp_path / "repos", "full_name, source, clone_url, license, state")
    }
    version = ".".join(map(str, sys.version_info[:3]))
    library = ("installed", f"pkg:generic/python@{version}", "PSF-2.0", "fetched")
    assert recorded["installed/python"] == library
    assert recorded["installed/requests"][2] == "Apache-2.0"
    assert recorded["installed/pytest"][2] == "MIT"


def test_the_same_limit_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        collect(tmp_path / name, "--max-mb", "2")
    assert collected(tmp_path / "one" / "repos") == collected(tmp_path / "two" / "repos")


def test_a_second_run_has_nothing_to_do_and_refresh_takes_all_again(tmp_path: Path) -> None:
    collect(tmp_path, "--max-mb", "2")
    before = rows(tmp_path / "repos", "*")
    assert collect(tmp_path, "--max-mb", "2").stdout.startswith("up to date: ")
    assert rows(tmp_path / "repos", "*") == before
    assert "up to date" not in collect(tmp_path, "--max-mb", "2", "--refresh").stdout


def install(site: Path, name: str, version: str, files: dict[str, str], metadata: str = "") -> None:
    """A package as pip would have left it in a folder of the path."""
    info = f"{name}-{version}.dist-info"
    all_files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
    }
    for path, content in all_files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content, encoding="utf-8")
    record = "".join(f"{path},,\n" for path in (*all_files, "../outside.py", "/etc/absolute.py"))
    (site / info / "RECORD").write_text(record, encoding="utf-8")


def test_a_changed_package_alone_is_taken_again_and_an_uninstalled_one_goes(tmp_path: Path) -> None:
    site, env = tmp_path / "site", {"PYTHONPATH": str(tmp_path / "site")}
    install(site, "My_Pack", "1.0", {"my_pack/a.py": "x = 1\n"}, "License: MIT License\n")
    install(site, "other", "1.0", {"other.py": "y = 1\n", "other_data.txt": "no"})
    arguments = ("--local", "--max-mb", "0", "--repos", tmp_path / "repos")
    first = succeed(run_script(COLLECTOR, *arguments, env=env))
    assert "installed/my-pack" in {row[0] for row in rows(tmp_path / "repos", "full_name")}, first.stdout
    (site / "my_pack/a.py").write_text("x = 2222\n", encoding="utf-8")
    for path in (site / "other-1.0.dist-info").iterdir():
        path.unlink()
    (site / "other-1.0.dist-info").rmdir()
    again = succeed(run_script(COLLECTOR, *arguments, env=env)).stdout
    assert "installed/my-pack " in again
    assert "together" in again and " 1 " in again
    assert "removed, no longer installed: installed/other" in again
    files = collected(tmp_path / "repos")
    assert files["installed/my-pack/my_pack/a.py"] == b"x = 2222\n"
    assert not any(name.startswith("installed/other/") for name in files)
    assert not any("outside" in name or "absolute" in name for name in files)


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
    collect(tmp_path, home / "code")
    assert collected(tmp_path / "repos") == {
        "local/code/a.py": b"a = 1\n",
        "local/code/deep/b.PY": b"b = 1\n",
    }
    assert rows(
        tmp_path / "repos", "full_name, clone_url, license, commit_sha, python_files, python_bytes"
    ) == [("local/code", (home / "code").as_uri(), "MIT", "", 2, 12)]


def test_a_folder_of_git_repositories_gives_each_of_them_with_its_tracked_files(
    home: Path, tmp_path: Path
) -> None:
    collect(tmp_path, home / "git")
    assert collected(tmp_path / "repos") == {
        "local/one/tracked.py": b"t = 1\n",
        "local/two/tracked.py": b"t = 2\n",
        "local/git/loose.py": b"l = 1\n",
    }
    commits = {
        name: git(home / "git" / name, "rev-parse", "HEAD").decode().strip() for name in ("one", "two")
    }
    assert rows(tmp_path / "repos", "full_name, commit_sha, license") == [
        ("local/git", "", ""),
        ("local/one", commits["one"], ""),
        ("local/two", commits["two"], "GPL-3.0"),
    ]


def test_no_commit_is_recorded_for_files_that_it_does_not_hold(home: Path, tmp_path: Path) -> None:
    (home / "git/one/tracked.py").write_text("changed = 1\n", encoding="utf-8")
    collect(tmp_path, home / "git/one")
    assert collected(tmp_path / "repos") == {"local/one/tracked.py": b"changed = 1\n"}
    assert rows(tmp_path / "repos", "commit_sha") == [("",)]


def test_a_git_repository_cannot_run_anything_when_it_is_read(home: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {canary}\n", encoding="utf-8")
    script.chmod(0o755)
    for setting in ("core.fsmonitor", "filter.x.clean", "diff.external", "core.pager", "core.sshCommand"):
        git(home / "git/one", "config", setting, str(script))
    collect(tmp_path, home / "git/one")
    assert not canary.exists()


def test_the_folder_that_is_collected_into_is_left_out(home: Path) -> None:
    collect(home / "code", home / "code")
    assert collect(home / "code", home / "code").stdout.startswith("up to date: ")
    assert set(collected(home / "code/repos")) == {"local/code/a.py", "local/code/deep/b.PY"}


def test_two_sources_of_one_name_stay_apart(home: Path, tmp_path: Path) -> None:
    (tmp_path / "CODE").mkdir()
    (tmp_path / "CODE/a.py").write_text("other = 1\n", encoding="utf-8")
    collect(tmp_path, home / "code", tmp_path / "CODE")
    assert [row[0] for row in rows(tmp_path / "repos", "full_name")] == ["local/CODE~2", "local/code"]
    assert collected(tmp_path / "repos")["local/CODE~2/a.py"] == b"other = 1\n"


def test_the_users_own_files_are_copied_not_linked(home: Path, tmp_path: Path) -> None:
    collect(tmp_path, home / "code")
    copy = tmp_path / "repos/local/code/a.py"
    assert copy.stat().st_ino != (home / "code/a.py").stat().st_ino
    copy.write_text("", encoding="utf-8")
    assert (home / "code/a.py").read_text("utf-8") == "a = 1\n"


def test_archives_give_their_python_files_and_nothing_leaves_the_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("one-1.0/a.py", "a = 1\n")
        archive.writestr("one-1.0/LICENSE", MIT_TEXT)
        archive.writestr("one-1.0/b.txt", "no")
        archive.writestr("../up.py", "evil\n")
        archive.writestr("/abs.py", "evil\n")
        link = zipfile.ZipInfo("link.py")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with tarfile.open(tmp_path / "two.tar.gz", "w:gz") as tar:
        for name, kind in {
            "./two/a.py": tarfile.REGTYPE,
            "../up.py": tarfile.REGTYPE,
            "link.py": tarfile.SYMTYPE,
            "hard.py": tarfile.LNKTYPE,
            "pipe.py": tarfile.FIFOTYPE,
            "disk.py": tarfile.BLKTYPE,
        }.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 6 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"t = 1\n"))
    result = collect(tmp_path, tmp_path / "one.zip", tmp_path / "two.tar.gz")
    assert collected(tmp_path / "repos") == {
        "local/one/one-1.0/a.py": b"a = 1\n",
        "local/two/two/a.py": b"t = 1\n",
    }
    assert rows(tmp_path / "repos", "full_name, license") == [("local/one", "MIT"), ("local/two", "")]
    assert "local/one: ../up.py" in result.stdout
    assert not list(tmp_path.rglob("up.py"))


def test_a_source_distribution_says_its_licence_in_its_metadata(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "three-1.0.tar.gz", "w:gz") as tar:
        for name, content in {
            "three-1.0/PKG-INFO": b"Metadata-Version: 2.4\nName: three\nLicense-Expression: Apache-2.0\n",
            "three-1.0/LICENSE": MIT_TEXT.encode(),
            "three-1.0/a.py": b"a = 3\n",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    collect(tmp_path, tmp_path / "three-1.0.tar.gz")
    assert rows(tmp_path / "repos", "full_name, license") == [("local/three-1.0", "Apache-2.0")]


def test_a_folder_says_its_licence_in_its_metadata(home: Path, tmp_path: Path) -> None:
    text = '[project]\nname = "code"\nlicense = "BSD-3-Clause"\n'
    (home / "code/pyproject.toml").write_text(text, encoding="utf-8")
    collect(tmp_path, home / "code")
    assert rows(tmp_path / "repos", "license") == [("BSD-3-Clause",)]


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ('[project]\nlicense = "MIT OR Apache-2.0"', "MIT OR Apache-2.0"),
        ('[project]\nlicense = {text = "Apache License 2.0"}', "Apache-2.0"),
        ('[project]\nlicense = {file = "LICENSE"}', ""),
        ('[project]\nclassifiers = ["License :: OSI Approved :: MIT License"]', "MIT"),
        ("[tool.ruff]\nline-length = 3", ""),
        ('project = "no table"', ""),
        ("[project\n", ""),
    ],
)
def test_a_project_says_its_licence_in_several_ways(text: str, identifier: str) -> None:
    assert license_names.from_pyproject(text) == identifier


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_is_left_out_with_a_line(tmp_path: Path, suffix: str) -> None:
    bomb = tmp_path / f"bomb{suffix}"
    content = b"#" * (MAX_RATIO * 100_000)
    if suffix == ".zip":
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.py", content)
    else:
        with tarfile.open(bomb, "w:gz") as tar:
            member = tarfile.TarInfo("a.py")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    result = run_script(COLLECTOR, "--local", bomb, cwd=tmp_path)
    assert result.returncode == 1
    assert str(bomb) in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "repos").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", os.urandom(1000)])
@pytest.mark.parametrize("suffix", [".zip", ".whl", ".tar.gz", ".tar.xz"])
def test_a_broken_archive_gets_one_line_and_touches_nothing(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    (tmp_path / f"broken{suffix}").write_bytes(content)
    result = run_script(COLLECTOR, "--local", tmp_path / f"broken{suffix}", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "repos").exists()


@pytest.mark.parametrize("make", [lambda _: None, Path.mkdir, Path.touch])
def test_a_path_without_python_gets_one_line_and_touches_nothing(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "there")
    result = run_script(COLLECTOR, "--local", tmp_path / "there", cwd=tmp_path)
    assert result.returncode == 1
    assert str(tmp_path / "there") in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "repos").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_taken(home: Path, tmp_path: Path) -> None:
    (home / "code/a.py").chmod(0)
    result = run_script(COLLECTOR, "--local", home / "code", cwd=tmp_path)
    assert result.returncode == 3
    assert f"{home}/code/a.py" in result.stderr
    assert set(collected(tmp_path / "repos")) == {"local/code/deep/b.PY"}


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


@pytest.mark.parametrize(
    ("sizes", "budget", "cap"),
    [
        ([1, 2, 10, 20], 15, 6),
        ([5, 5], 100, 5),
        ([5, 5], 10, 5),
        ([9, 9, 9], 10, 3),
        ([], 10, 0),
        ([7], 3, 3),
    ],
)
def test_the_largest_packages_are_cut_to_one_fair_size(sizes: list[int], budget: int, cap: int) -> None:
    assert fair_cap(sizes, budget) == cap
    assert sum(min(size, cap) for size in sizes) <= budget


@pytest.mark.parametrize(
    ("words", "identifier"),
    [
        ("Apache License 2.0", "Apache-2.0"),
        ("mit", "MIT"),
        ("BSD-3-Clause", "BSD-3-Clause"),
        ("BSD License", ""),
        ("whatever you like", ""),
    ],
)
def test_a_licence_is_told_by_the_words_that_packages_use(words: str, identifier: str) -> None:
    assert license_names.from_name(words) == identifier


def test_the_licence_of_this_interpreter_is_told_from_its_text() -> None:
    text = (STDLIB / "LICENSE.txt").read_text("utf-8") if (STDLIB / "LICENSE.txt").is_file() else ""
    if not text:
        pytest.skip("this interpreter came without its licence")
    assert license_names.from_text(text) == "PSF-2.0"
