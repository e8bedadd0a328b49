"""Whatever a stranger calls a file, it lies inside its folder, under a name that every file system takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from collecting_progress import in_lines, printable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_tree import MAX_NAME_BYTES, MAX_PATH_BYTES, UNPRINTABLE, PythonTree, safe_name, safe_path

PARTS = st.sampled_from([b"", b".", b"..", b".git", b"GIT~1", b"a", b"A", b"con", b"\xff", b"x" * 300])
RAW_PATHS = st.one_of(
    st.binary(min_size=1, max_size=60).filter(lambda raw: b"\0" not in raw),
    st.lists(PARTS | st.binary(max_size=8).filter(lambda raw: b"\0" not in raw), max_size=40).map(b"/".join),
).map(lambda raw: raw + b".py")


@given(RAW_PATHS)
def test_a_safe_path_stays_inside_and_fits_every_file_system(raw: bytes) -> None:
    path = safe_path(raw)
    if path is None:
        return
    assert not path.startswith("/") and len(path.encode("utf-8")) <= MAX_PATH_BYTES
    for component in path.split("/"):
        assert component not in ("", ".", "..") and component.lower() != ".git"
        assert len(component.encode("utf-8")) <= MAX_NAME_BYTES
        assert not UNPRINTABLE.search(component)
    assert path.lower().endswith(".py")


@given(st.lists(RAW_PATHS, max_size=12, unique=True))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_file_is_written_once_or_named(
    tmp_path_factory: pytest.TempPathFactory, raws: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    tree = PythonTree(folder / "files")
    tree.root.mkdir()
    for raw in raws:
        tree.write(raw, [raw, b"\n"])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(tree.root) for path in files)
    assert tree.files == len(files) == len(raws) - len(tree.skipped)
    assert tree.bytes == sum(path.stat().st_size for path in files)


@given(st.text(max_size=200))
def test_a_safe_name_is_one_component_that_no_device_has(raw: str) -> None:
    name = safe_name(raw)
    assert 1 <= len(name) <= 101 and Path(name).name == name and name[0] not in ".-"
    assert name.split(".")[0].lower() not in ("con", "nul", "aux")


@given(st.text(), st.integers(1, 100))
def test_what_a_terminal_is_shown_fits_it_and_obeys_nothing(text: str, width: int) -> None:
    lines = in_lines(printable(text), width)
    assert all(len(line) <= width and "\x1b" not in line and "\n" not in line for line in lines)
    assert in_lines("found 2 · fetched 1 · 0.1/s", 20) == ["found 2 · fetched 1", "0.1/s"]
