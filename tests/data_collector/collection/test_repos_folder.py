"""Whatever a stranger calls a file, it lies inside its folder, under a name that every file system takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collection.repos_folder import (
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    UNPRINTABLE,
    PythonTree,
    path_as_text,
    safe_name,
    safe_path,
)

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
    stored = {path.relative_to(tree.root).as_posix(): path.read_bytes()[:-1] for path in files}
    known_as = {tree.renamed.get(name, name): raw for name, raw in stored.items()}
    assert len(known_as) == len(stored), "two files of one path"
    assert all(name != true for name, true in tree.renamed.items())
    texts = list(map(path_as_text, raws))
    for name, raw in known_as.items():
        assert name == path_as_text(raw) or texts.count(path_as_text(raw)) > 1


def test_a_name_that_was_changed_is_known_by_its_own(tmp_path: Path) -> None:
    tree = PythonTree(tmp_path)
    for raw in (
        b"a:b/what? is*.py",
        b"tab\t.py",
        b"caf\xe9.py",
        "blank .py",
        "a%3Ab.py",
        "A.py",
        "a.py",
        "A.py",
    ):
        tree.write(raw, [b""])
    assert tree.renamed == {
        "a%3Ab/what%3F is%2A.py": "a:b/what? is*.py",
        "tab%09.py": "tab\t.py",
        "caf%E9.py": "caf\\xe9.py",
        "a~2.py": "a.py",
    }
    assert (tmp_path / "A~3.py").exists(), "an archive may hold one name twice"


@given(st.text(max_size=200))
def test_a_safe_name_is_one_component_that_no_device_has(raw: str) -> None:
    name = safe_name(raw)
    assert 1 <= len(name) <= 101 and Path(name).name == name and name[0] not in ".-"
    assert name.split(".")[0].lower() not in ("con", "nul", "aux")
