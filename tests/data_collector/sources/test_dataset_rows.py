"""Rows of datasets: their columns, what counts as a Python file, reading on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sources import dataset_rows
from sources.dataset_rows import (
    DatasetError,
    Reading,
    RowStore,
    SourceRow,
    choose_columns,
    find_dataset,
    parse_columns,
    parse_row,
)

CODEPARROT = "repo_name path copies size content license hash line_mean".split()
THE_STACK = (
    "hexsha size ext lang max_stars_repo_path max_stars_repo_name max_stars_repo_head_hexsha"
    " max_stars_repo_licenses content"
).split()
CODE_SEARCH_NET = "repository_name func_path_in_repository func_name whole_func_string language".split()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (CODEPARROT, {"content": "content", "repo": "repo_name", "path": "path", "license": "license"}),
        (
            THE_STACK,
            {
                "content": "content",
                "repo": "max_stars_repo_name",
                "path": "max_stars_repo_path",
                "license": "max_stars_repo_licenses",
                "commit": "max_stars_repo_head_hexsha",
                "language": "lang",
            },
        ),
        (
            CODE_SEARCH_NET,
            {
                "content": "whole_func_string",
                "repo": "repository_name",
                "path": "func_path_in_repository",
                "language": "language",
            },
        ),
        (["text"], {"content": "text"}),
    ],
)
def test_columns_are_found_by_the_names_that_known_datasets_give_them(
    names: list[str], expected: dict[str, str]
) -> None:
    assert choose_columns(names, {}, "x") == expected


def test_columns_can_be_chosen() -> None:
    given = parse_columns("content=body, repo=project")
    assert choose_columns(["body", "project", "path"], given, "x") == {
        "content": "body",
        "repo": "project",
        "path": "path",
    }
    with pytest.raises(DatasetError, match="no column body: x: it has code"):
        choose_columns(["code"], given, "x")
    with pytest.raises(DatasetError, match=r"no column with code: x: it has a, b; .*--columns content=NAME"):
        choose_columns(["a", "b"], {}, "x")
    for wrong in ("code=content", "content", "content="):
        with pytest.raises(DatasetError, match="no column can be chosen"):
            parse_columns(wrong)


COLUMNS = {each: each for each in ("content", "repo", "path", "license", "commit", "language")}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"content": "x", "repo": "a/b", "path": "p/q.PY", "license": "mit", "commit": "c0"},
            SourceRow("a/b", "p/q.PY", b"x", "MIT", "c0"),
        ),
        ({"content": b"\xff", "repo": "https://github.com/a/b.git"}, SourceRow("a/b", "", b"\xff", "", "")),
        ({"content": "x", "repo": "b"}, SourceRow("dataset/ann_set_b", "", b"x", "", "")),
        ({"content": "x", "repo": "a/\x1b"}, SourceRow("dataset/ann_set", "", b"x", "", "")),
        (
            {"content": "x", "license": ["mit", "isc"]},
            SourceRow("dataset/ann_set", "", b"x", "ISC AND MIT", ""),
        ),
        ({"content": "x", "license": ["mit", "what"]}, SourceRow("dataset/ann_set", "", b"x", "", "")),
        ({"content": "x", "language": "Python"}, SourceRow("dataset/ann_set", "", b"x", "", "")),
        ({"content": "x", "language": "Go"}, "not Python"),
        ({"content": "x", "path": "a.js"}, "not Python"),
        ({"content": None}, "without text"),
        ({"content": {"a": 1}}, "without text"),
        ({}, "without text"),
        ({"content": "x" * 20_000_001}, "too large"),
    ],
)
def test_a_row_is_a_python_file_or_has_a_reason(row: dict[str, Any], expected: SourceRow | str) -> None:
    found = parse_row(row, COLUMNS, "ann/set", 1234)
    if isinstance(found, SourceRow) and not row.get("path"):
        assert found.path == "000001/000001234.py"
        found = SourceRow(found.repo, "", found.content, found.license, found.commit)
    assert found == expected


@pytest.mark.parametrize(
    "given", ["missing.parquet", "./missing", "a/b/c", "a b", "/nowhere/x.jsonl", "x.txt/"]
)
def test_what_is_neither_a_file_nor_a_name_is_one_line(given: str) -> None:
    with pytest.raises(DatasetError, match="there is no such file"):
        find_dataset(given, "train", "", "")


def test_a_folder_without_a_dataset_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DatasetError, match="no dataset there"):
        find_dataset(str(tmp_path), "train", "", "")


def test_a_name_that_is_no_path_is_one_of_the_hub() -> None:
    dataset = find_dataset("codeparrot/codeparrot-clean", "train", "", "")
    assert (dataset.files, dataset.url) == ((), "https://huggingface.co/datasets/codeparrot/codeparrot-clean")


def write_rows(path: Path, count: int) -> None:
    lines = [{"repo_name": f"a/r{n % 3}", "path": f"p{n}.py", "code": f"x = {n}\n"} for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def taken(store: RowStore, path: Path) -> dict[str, bytes]:
    dataset = find_dataset(str(path), "train", "", "")
    return {
        f"{source.full_name}/{name!s}": b"".join(pieces)
        for source in store.sources(dataset)
        for name, pieces in source.contents()
    }


def test_reading_goes_on_where_a_killed_run_has_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were read and not saved are read again, and counted once."""
    monkeypatch.setattr(dataset_rows, "COMMIT_SECONDS", -1.0)
    data = tmp_path / "data.jsonl"
    write_rows(data, 50)
    dataset = find_dataset(str(data), "train", "", "")
    for stop_at in (7, 20, 33):
        store = RowStore(tmp_path, "key")
        monkeypatch.setattr(store, "_save", _end_after(store, stop_at))
        with pytest.raises(KeyboardInterrupt):
            store.read(dataset, 0, lambda _: None)
        store.close(is_done=False)
    store = RowStore(tmp_path, "key")
    assert store.progress.rows == 33
    store.read(dataset, 0, lambda _: None)
    assert (store.progress.rows, store.progress.kept, store.progress.left_out) == (50, 50, {})
    assert taken(store, data) == {f"a/r{n % 3}/p{n}.py": f"x = {n}\n".encode() for n in range(50)}
    store.close(is_done=True)
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def _end_after(store: RowStore, rows: int) -> Callable[[], None]:
    """The store's own saving, which ends the run at the first row beyond."""
    save = store._save

    def save_or_end() -> None:
        if store.progress.rows > rows:
            raise KeyboardInterrupt
        save()

    return save_or_end


def test_the_rows_of_an_earlier_version_are_read_again(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write_rows(data, 20)
    dataset = find_dataset(str(data), "train", "", "")
    store = RowStore(tmp_path, "key")
    store.read(dataset, 5, lambda _: None)
    old = {"rows": 5, "kept": 5, "state": {"examples_iterable": {}}, "damaged": []}
    store._database.execute("UPDATE progress SET state = ?", (json.dumps(old),))
    store._database.execute("COMMIT")
    store.close(is_done=False)
    store = RowStore(tmp_path, "key")
    store.read(dataset, 0, lambda _: None)
    assert (store.progress.rows, store.progress.kept, store.progress.left_out) == (20, 20, {})
    store.close(is_done=True)


def test_what_is_damaged_is_counted_once_over_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_rows, "COMMIT_SECONDS", -1.0)
    data = tmp_path / "data.jsonl"
    write_rows(data, 20)
    lines = data.read_text("utf-8").splitlines(keepends=True)
    data.write_text("".join([*lines[:5], "noise\n", *lines[5:], "{\n"]), encoding="utf-8")
    dataset = find_dataset(str(data), "train", "", "")
    for limit in (4, 6, 0):
        store = RowStore(tmp_path, "key")
        store.read(dataset, limit, lambda _: None)
        store.close(is_done=False)
    reading = store.progress
    assert (reading.rows, reading.kept, reading.left_out) == (22, 20, {"damaged": 2})
    (gap,) = reading.gaps()
    assert gap.startswith(
        f"2 lines cannot be read, the first is line 6 (no JSON: Expecting value, character 1): {data}: "
    )


def test_a_limit_counts_python_files_and_a_larger_one_reads_on(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write_rows(data, 20)
    dataset = find_dataset(str(data), "train", "", "")
    store = RowStore(tmp_path, "key")
    seen: list[int] = []

    def note(reading: Reading) -> None:
        seen.append(reading.kept)

    for limit in (5, 12, 0):
        store.read(dataset, limit, note)
    assert seen[:2] == [5, 12] and store.progress.kept == 20 and store.progress.is_read
    store.close(is_done=True)


def test_a_dataset_of_the_hub_is_read_by_its_name_configuration_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is not reachable from tests: its library is asked in the way that its documentation says."""
    import datasets

    asked: list[tuple[object, ...]] = []

    def load_dataset(*names: object, **options: object) -> Any:
        asked.append((*names, options))
        return datasets.IterableDataset.from_generator(rows)

    def rows() -> Iterator[dict[str, str]]:
        yield {"content": "x = 1\n", "repo_name": "a/b", "path": "x.py"}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = find_dataset("ann/code", "validation", "python", "")
    store = RowStore(tmp_path, "key")
    store.read(dataset, 0, lambda _: None)
    assert asked == [("ann/code", "python", {"split": "validation", "streaming": True})]
    (source,) = store.sources(dataset)
    assert (source.id, source.url) == ("dataset/ann/code/a/b", "https://huggingface.co/datasets/ann/code")
    store.close(is_done=True)
