"""The installed Python within a limit: the same files on every machine, changed packages alone again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from collected_folder import COLLECTOR, collect_local, files_in, rows_in
from project import STDLIB, run_script, succeed
from sources.installed_python import fair_cap


def test_the_installed_python_fits_the_limit_with_the_library_and_every_package(tmp_path: Path) -> None:
    collect_local(tmp_path, "--max-mb", "5")
    files = files_in(tmp_path / "repos")
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
    collect_local(tmp_path, "--max-mb", "5")
    recorded = {
        row[0]: row[1:] for row in rows_in(tmp_path / "repos", "full_name, source, clone_url, license, state")
    }
    version = ".".join(map(str, sys.version_info[:3]))
    library = ("installed", f"pkg:generic/python@{version}", "PSF-2.0", "fetched")
    assert recorded["installed/python"] == library
    assert recorded["installed/requests"][2] == "Apache-2.0"
    assert recorded["installed/pytest"][2] == "MIT"


@pytest.mark.parametrize("columns", [40, 80])
def test_the_table_of_packages_fits_the_terminal(tmp_path: Path, columns: int) -> None:
    arguments = ("--local", "--max-mb", "1")
    report = succeed(run_script(COLLECTOR, *arguments, cwd=tmp_path, env={"COLUMNS": str(columns)})).stdout
    lines = report.split("  written to")[0].splitlines()
    assert len(lines) > 10 and max(map(len, lines)) <= columns
    assert ("cut from" in report) == (columns == 80)


def test_the_same_limit_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        collect_local(tmp_path / name, "--max-mb", "2")
    assert files_in(tmp_path / "one" / "repos") == files_in(tmp_path / "two" / "repos")


def test_a_second_run_has_nothing_to_do_and_refresh_takes_all_again(tmp_path: Path) -> None:
    collect_local(tmp_path, "--max-mb", "2")
    before = rows_in(tmp_path / "repos", "*")
    assert collect_local(tmp_path, "--max-mb", "2").stdout.startswith("up to date: ")
    assert rows_in(tmp_path / "repos", "*") == before
    assert "up to date" not in collect_local(tmp_path, "--max-mb", "2", "--refresh").stdout


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
    assert "installed/my-pack" in {row[0] for row in rows_in(tmp_path / "repos", "full_name")}, first.stdout
    (site / "my_pack/a.py").write_text("x = 2222\n", encoding="utf-8")
    for path in (site / "other-1.0.dist-info").iterdir():
        path.unlink()
    (site / "other-1.0.dist-info").rmdir()
    again = succeed(run_script(COLLECTOR, *arguments, env=env)).stdout
    assert "installed/my-pack " in again
    assert "together" in again and " 1 " in again
    assert "removed, no longer installed: installed/other" in again
    files = files_in(tmp_path / "repos")
    assert files["installed/my-pack/my_pack/a.py"] == b"x = 2222\n"
    assert not any(name.startswith("installed/other/") for name in files)
    assert not any("outside" in name or "absolute" in name for name in files)


@pytest.mark.parametrize("record", [b"\xff\xfe.py,,\n", b"a\0.py,,\n", b'"' + b"a" * 200_000 + b'.py",,\n'])
def test_a_package_with_a_broken_record_is_named_and_the_others_are_taken(
    tmp_path: Path, record: bytes
) -> None:
    site = tmp_path / "site"
    install(site, "good", "1.0", {"good.py": "y = 1\n"})
    install(site, "bad", "1.0", {"bad.py": "x = 1\n"})
    (site / "bad-1.0.dist-info/RECORD").write_bytes(record)
    arguments = ("--local", "--max-mb", "0", "--repos", tmp_path / "repos")
    result = run_script(COLLECTOR, *arguments, env={"PYTHONPATH": str(site)})
    assert result.returncode == 3 and "Traceback" not in result.stderr
    assert f"could not be taken: bad: broken metadata in {site}" in result.stderr
    assert files_in(tmp_path / "repos")["installed/good/good.py"] == b"y = 1\n"


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
