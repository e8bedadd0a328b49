"""The cleaner: only Python files are left, and nothing outside the folder can be deleted."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from data_cleaner import OPEN_FOLDER, Cleaning, safe_root
from preprocess_cli import UserError
from project import PROJECT, STDLIB, run_script, succeed

SCRIPT = "preprocess/data_cleaner.py"


@pytest.fixture
def repos(tmp_path: Path) -> Path:
    """A collected folder with a bit of everything."""
    folder = tmp_path / "repos"
    repository = folder / "psf" / "requests"
    for path, content in {
        "src/api.py": "x = 1\n",
        "src/UPPER.PY": "x = 2\n",
        "README.md": "# Read me\n",
        "Makefile": "all:\n",
        "docs/deep/er/logo.png": "png",
        ".git/config": "[core]\n",
        ".git/refs/heads/fix.py": "0" * 40,
        ".git/hooks/pre-commit.sample": "#!/bin/sh\n",
        "src/module.pyc": "cache",
        "src/script.py.txt": "text",
    }.items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(content, encoding="utf-8")
    (folder / "collection.db").write_bytes(b"the record")
    (folder / "collection.db-wal").write_bytes(b"more of it")
    (folder / ".partial" / "1-1").mkdir(parents=True)
    (folder / ".partial" / "1-1" / "half.py").write_text("x =", encoding="utf-8")
    return folder


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


KEPT = ["collection.db", "collection.db-wal", "psf/requests/src/UPPER.PY", "psf/requests/src/api.py"]


def test_only_python_files_and_the_record_are_left(repos: Path) -> None:
    result = succeed(run_script(SCRIPT, "--repos", repos))
    assert left_in(repos) == KEPT
    assert sorted(path.name for path in repos.rglob("*") if path.is_dir()) == ["psf", "requests", "src"]
    assert "left in" in result.stdout and "2 Python files" in result.stdout
    assert ".md" in result.stdout and "empty folders" in result.stdout
    assert f"preprocess/data_preprocess.py --repos {repos}\n" in result.stdout


def test_a_second_run_finds_nothing_to_delete(repos: Path) -> None:
    succeed(run_script(SCRIPT, "--repos", repos))
    again = succeed(run_script(SCRIPT, "--repos", repos))
    assert again.stdout.startswith(f"up to date: {repos} (nothing to delete, 2 Python files)\nnext: ")


def test_a_dry_run_lists_and_deletes_nothing(repos: Path) -> None:
    before = sorted(repos.rglob("*"))
    result = succeed(run_script(SCRIPT, "--repos", repos, "--dry-run"))
    assert sorted(repos.rglob("*")) == before
    listed = result.stdout.split("would delete")[0].splitlines()
    assert "psf/requests/README.md" in listed
    assert "psf/requests/.git/refs/heads/fix.py" in listed
    assert "psf/requests/docs/" in listed
    assert not any(line.endswith("api.py") for line in listed)


def test_a_dry_run_says_what_would_be_freed_and_counts_hard_links_as_nothing(
    repos: Path, tmp_path: Path
) -> None:
    (repos / "psf" / "large.bin").write_bytes(bytes(3_000_000))
    (tmp_path / "elsewhere.bin").write_bytes(bytes(5_000_000))
    os.link(tmp_path / "elsewhere.bin", repos / "psf" / "linked.bin")
    result = succeed(run_script(SCRIPT, "--repos", repos, "--dry-run"))
    [line] = [line.split() for line in result.stdout.splitlines() if line.startswith("  .bin ")]
    assert line == [".bin", "2", "3.0"]


def test_a_list_that_is_not_read_to_its_end_is_no_failure(repos: Path) -> None:
    for number in range(1000):
        (repos / "psf" / f"{number}.md").touch()
    command = (
        f"{sys.executable} {PROJECT / SCRIPT} --repos {repos} --dry-run | head -n 1; exit ${{PIPESTATUS[0]}}"
    )
    for unbuffered in ("", "1"):
        env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=env)
        assert (ended.returncode, ended.stdout.count("\n"), ended.stderr) == (0, 1, "")


def test_what_links_point_to_stays(repos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.tex").write_text("years of work", encoding="utf-8")
    (repos / "psf" / "folder").symlink_to(outside)
    (repos / "psf" / "file.py").symlink_to(outside / "thesis.tex")
    (repos / "psf" / "above").symlink_to("../..")
    (repos / "psf" / "dangling").symlink_to("nowhere")
    (repos / "collection.db-link").symlink_to(outside / "thesis.tex")
    succeed(run_script(SCRIPT, "--repos", repos))
    assert left_in(repos) == KEPT
    assert (outside / "thesis.tex").read_text(encoding="utf-8") == "years of work"


def test_a_folder_swapped_for_a_link_meanwhile_is_not_followed(repos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.tex").write_text("years of work", encoding="utf-8")
    root = os.open(repos, OPEN_FOLDER)
    entry = next(entry for entry in os.scandir(root) if entry.name == "psf")
    assert entry.is_dir(follow_symlinks=False)
    shutil.rmtree(repos / "psf")
    (repos / "psf").symlink_to(outside)
    cleaning = Cleaning()
    cleaning.visit(root, entry, "", os.fstat(root).st_dev, 1, with_python=False)
    os.close(root)
    assert (outside / "thesis.tex").exists()
    assert [path for path, _ in cleaning.failures] == ["psf"]


def test_a_hard_link_elsewhere_keeps_its_content(repos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "notes.txt"
    outside.write_text("mine", encoding="utf-8")
    os.link(outside, repos / "psf" / "notes.txt")
    succeed(run_script(SCRIPT, "--repos", repos))
    assert outside.read_text(encoding="utf-8") == "mine"


def test_pipes_and_sockets_go_without_being_opened(repos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(repos / "psf" / "pipe.py")
    monkeypatch.chdir(repos)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    assert "special files" in succeed(run_script(SCRIPT, "--repos", repos)).stdout
    assert left_in(repos) == KEPT


def test_strange_names_are_deleted_and_printed_with_care(repos: Path) -> None:
    folder = os.fsencode(repos / "psf")
    for name in (b"\xff\xfe.txt", b"new\nline.txt", b"\x1b[31mred.txt", b"-rf", b"  "):
        with open(os.path.join(folder, name), "w", encoding="utf-8"):  # noqa: PTH118, PTH123
            pass
    result = succeed(run_script(SCRIPT, "--repos", repos, "--dry-run"))
    assert "psf/\\xff\\xfe.txt" in result.stdout.splitlines()
    assert "psf/new\\nline.txt" in result.stdout.splitlines()
    assert "\x1b" not in result.stdout
    succeed(run_script(SCRIPT, "--repos", repos))
    assert left_in(repos) == KEPT


def test_a_folder_called_like_a_python_file_is_a_folder(repos: Path) -> None:
    (repos / "psf" / "folder.py").mkdir()
    (repos / "psf" / "folder.py" / "notes.txt").write_text("", encoding="utf-8")
    succeed(run_script(SCRIPT, "--repos", repos))
    assert not (repos / "psf" / "folder.py").exists()


def test_a_folder_without_the_record_is_refused_unless_yes(repos: Path) -> None:
    (repos / "collection.db").unlink()
    before = left_in(repos)
    result = run_script(SCRIPT, "--repos", repos)
    assert result.returncode == 1
    assert f"data_cleaner.py --repos {repos} --yes" in result.stderr
    assert left_in(repos) == before
    succeed(run_script(SCRIPT, "--repos", repos, "--yes"))
    assert left_in(repos) == ["collection.db-wal", *KEPT[2:]]


@pytest.mark.parametrize("yes", [False, True])
def test_home_root_and_their_parents_are_refused_always(tmp_path: Path, yes: bool) -> None:
    home = tmp_path / "home" / "ann"
    home.mkdir(parents=True)
    (home / "letter.txt").write_text("dear", encoding="utf-8")
    (home / "collection.db").write_bytes(b"")
    (tmp_path / "link").symlink_to(home)
    for folder in (home, home.parent, tmp_path, Path("/"), tmp_path / "link", home / "x" / ".."):
        (home / "x").mkdir(exist_ok=True)
        result = run_script(
            SCRIPT, "--repos", folder, "--dry-run", *["--yes"] * yes, env={"HOME": str(home)}, cwd=tmp_path
        )
        assert result.returncode == 1, folder
        assert "never cleaned" in result.stderr
        assert "Traceback" not in result.stderr


def test_the_home_of_the_account_counts_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = Path("~").expanduser().resolve()
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(UserError, match="never cleaned"):
        safe_root(home, yes=True)


def test_the_project_itself_is_refused() -> None:
    with pytest.raises(UserError, match="never cleaned"):
        safe_root(PROJECT, yes=True)


def test_a_missing_folder_says_how_it_is_made(tmp_path: Path) -> None:
    result = run_script(SCRIPT, cwd=tmp_path)
    assert result.returncode == 1
    assert f"{tmp_path / 'repos'}: run: python data_collector/data_collector.py --local" in result.stderr


def test_a_collector_at_work_is_not_disturbed(repos: Path) -> None:
    before = left_in(repos)
    with (repos / "collection.db-lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run_script(SCRIPT, "--repos", repos)
    assert result.returncode == 1
    assert "a collector is writing to it" in result.stderr
    assert left_in(repos) == sorted([*before, "collection.db-lock"])


def test_a_read_only_folder_is_cleaned_too(repos: Path) -> None:
    (repos / "psf" / "requests" / "docs").chmod(0o500)
    (repos / "psf" / "requests" / "README.md").chmod(0o400)
    succeed(run_script(SCRIPT, "--repos", repos))
    assert left_in(repos) == KEPT


def test_another_file_system_is_left_alone(repos: Path) -> None:
    root = os.open(repos, OPEN_FOLDER)
    entry = next(entry for entry in os.scandir(root) if entry.name == "psf")
    cleaning = Cleaning()
    assert cleaning.visit(root, entry, "", os.fstat(root).st_dev + 1, 1, with_python=False)
    os.close(root)
    assert cleaning.failures == [("psf", "another file system is mounted here")]
    assert (repos / "psf" / "requests" / "README.md").exists()


def test_a_tree_too_deep_to_clean_is_named_and_the_rest_is_cleaned(repos: Path) -> None:
    folder = repos
    descriptor = os.open(folder, OPEN_FOLDER)
    for _ in range(300):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", OPEN_FOLDER, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    result = run_script(SCRIPT, "--repos", repos)
    assert result.returncode == 3
    assert "levels deep" in result.stderr
    assert not (repos / "psf" / "requests" / "README.md").exists()


def test_a_copy_of_the_standard_library_keeps_its_python_files_alone(tmp_path: Path) -> None:
    shutil.copytree(STDLIB / "json", tmp_path / "json")
    shutil.copytree(STDLIB / "wsgiref", tmp_path / "wsgiref")
    names = sorted(path.name for path in tmp_path.rglob("*.py"))
    succeed(run_script(SCRIPT, "--repos", tmp_path, "--yes"))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == names
