"""Rows of files, whatever their form: where a reader is, what it names as damaged, what it still reads."""

from __future__ import annotations

import gzip
import json
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from sources import row_files
from sources.row_files import Damage, open_rows

ROWS: list[dict[str, Any]] = [{"content": f"x = {number}\n", "stars": number} for number in range(25)]
FORMS = (
    "d.jsonl d.json d.jsonl.gz d.jsonl.zst d.json.gz list.json list.json.gz d.parquet stream.arrow file.arrow"
).split()


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """A file in the form that its name says, 7 rows in each row group or batch."""
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(
            table, path, row_group_size=7, use_dictionary=False, write_page_checksum=True
        )
    elif path.suffix == ".arrow":
        new = pyarrow.ipc.new_file if path.stem == "file" else pyarrow.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    else:
        is_list = path.name.startswith("list")
        text = json.dumps(rows, indent=1) if is_list else "".join(json.dumps(row) + "\n" for row in rows)
        compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
        with pyarrow.output_stream(path, compression=compression) as file:
            file.write(text.encode())
    return path


def read(path: Path, wanted: tuple[str, ...] = ("content",)) -> list[Any]:
    """Every row and damage of a file."""
    with closing(open_rows(path)) as file:
        return list(file.rows(wanted))


def contents(found: list[Any]) -> list[object]:
    return [row["content"] for row in found if not isinstance(row, Damage)]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_its_columns_and_its_rows_in_order(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    with closing(open_rows(path)) as file:
        assert file.names == ["content", "stars"]
        assert file.count == (25 if name == "d.parquet" else 0)
        rows = list(file.rows(["content", "stars"]))
    assert rows == ROWS


@pytest.mark.parametrize("name", FORMS)
def test_another_reader_goes_on_behind_any_row(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "BATCH", 3)
    path = write(tmp_path / name)
    for count in range(1, len(ROWS) + 1):
        with closing(open_rows(path)) as file:
            rows = file.rows(["content"])
            before = [next(rows) for _ in range(count)]
            place = json.loads(json.dumps(file.place()))
        with closing(open_rows(path)) as file:
            file.go_to(place)
            assert contents([*before, *file.rows(["content"])]) == [row["content"] for row in ROWS]


# What is damaged


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"noise", "no JSON: Expecting value, character 1"),
        (b'{"content": "x', "no JSON: Unterminated string starting at, character 13"),
        (b'{"content": "\xff"}', "no UTF-8 text"),
        (b"\x00\x01\x02", "no JSON: Expecting value, character 1"),
        (b"[1, 2]", "no JSON object"),
        (b"3", "no JSON object"),
        (b'"words"', "no JSON object"),
        (b"null", "no JSON object"),
        (b"[" * 100_000, "no JSON: maximum recursion depth exceeded"),
        (b'{"stars": ' + b"9" * 5_000 + b"}", "no JSON: Exceeds the limit (4300 digits)"),
    ],
)
@pytest.mark.parametrize("place", [0, 3, 25])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_broken_line_costs_itself_alone(
    tmp_path: Path, line: bytes, reason: str, place: int, suffix: str
) -> None:
    if place == 0 and line.startswith(b"["):
        pytest.skip("a file that begins with a bracket is a list")
    lines = [json.dumps(row).encode() for row in ROWS]
    lines.insert(place, line)
    content = b"\n".join(lines)
    path = tmp_path / f"d.jsonl{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    found = read(path)
    assert contents(found) == [row["content"] for row in ROWS]
    (damage,) = [each for each in found if isinstance(each, Damage)]
    assert (damage.unit, damage.number, damage.rows) == ("line", place + 1, 1)
    assert damage.reason.startswith(reason)


def test_blank_lines_and_a_byte_order_mark_are_no_damage(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b'\xef\xbb\xbf{"content": 1}\r\n\n  \n{"content": 2}\n\n')
    assert contents(read(tmp_path / "d.jsonl")) == [1, 2]


def test_a_line_beyond_all_measure_is_skipped_and_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "MAX_LINE_BYTES", 2_000_000)
    long = json.dumps({"content": "x" * 5_000_000})
    exact = json.dumps({"content": "y" * (2_000_000 - len('{"content": ""}') - 2)})
    (tmp_path / "d.jsonl").write_text(f'{{"content": 1}}\n{long}\n{exact}\n{{"content": 2}}\n{long}')
    found = read(tmp_path / "d.jsonl")
    assert [str(each)[:1] for each in contents(found)] == ["1", "y", "2"]
    assert [each.number for each in found if isinstance(each, Damage)] == [2, 5]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_what_lies_before_the_end_of_a_file_that_is_cut_off_is_read(tmp_path: Path, suffix: str) -> None:
    chance = random.Random(3)
    rows = [{"content": chance.randbytes(500).hex()} for _ in range(4_000)]
    path = write(tmp_path / f"d.jsonl.{suffix}", rows)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    found: list[Any] = []
    with closing(open_rows(path)) as file, pytest.raises((EOFError, OSError)):
        found.extend(file.rows(["content"]))
    assert 1_500 < len(found) < 2_500 and found == rows[: len(found)]


def test_of_a_list_that_breaks_what_came_before_is_read(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('[\n{"content": 1}, {"content":\n 2}, 7, oops, {"content": 3}]')
    with closing(open_rows(tmp_path / "d.json")) as file:
        rows = file.rows(["content"])
        assert [next(rows), next(rows)] == [{"content": 1}, {"content": 2}]
        assert next(rows) == Damage("element", 3, "no JSON object", 1)
        with pytest.raises(ValueError, match="no JSON in element 4: Expecting value"):
            next(rows)


def test_a_long_list_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "CHUNK", 10)
    path = write(tmp_path / "list.json")
    assert contents(read(path)) == [row["content"] for row in ROWS]


def test_a_damaged_row_group_of_parquet_costs_its_rows_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet")
    metadata = pyarrow.parquet.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    middle = metadata.data_page_offset + metadata.total_compressed_size // 2
    content[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(content)
    found = read(path)
    assert contents(found) == [row["content"] for row in ROWS if not 7 <= row["stars"] < 14]
    (damage,) = [each for each in found if isinstance(each, Damage)]
    assert (damage.unit, damage.number, damage.rows) == ("row group", 2, 7)


def test_a_damaged_batch_of_an_arrow_file_costs_its_rows_alone(tmp_path: Path) -> None:
    """The offsets of the third batch point far outside of it."""
    path = write(tmp_path / "file.arrow")
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 7, 14, 21, 28, 35, 42, 49))
    content = path.read_bytes()
    assert content.count(offsets) == 1, "seven texts of seven characters"
    path.write_bytes(content.replace(offsets, b"\x7f" * len(offsets)))
    found = read(path)
    assert contents(found) == [row["content"] for row in ROWS if not 14 <= row["stars"] < 21]
    (damage,) = [each for each in found if isinstance(each, Damage)]
    assert (damage.unit, damage.number) == ("batch", 3)


@pytest.mark.parametrize("name", ["d.parquet", "stream.arrow", "file.arrow"])
def test_text_that_is_not_utf8_comes_as_bytes_and_costs_no_other_row(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [{"content": "aaaa"}, {"content": "caf\xe9\xe9"}, {"content": "bbbb"}])
    content = path.read_bytes()
    encoded = "caf\xe9\xe9".encode()
    path.write_bytes(content.replace(encoded, b"caf\xff\xff\xff\xff"))
    if name == "d.parquet":
        table = pyarrow.table({"content": pyarrow.array([b"aaaa", b"caf\xff", b"bbbb"])})
        text = pyarrow.table({"content": table["content"].combine_chunks().view(pyarrow.string())})
        pyarrow.parquet.write_table(text, path)
        assert contents(read(path)) == ["aaaa", b"caf\xff", "bbbb"]
    else:
        assert [each if isinstance(each, bytes) else str(each).encode() for each in contents(read(path))] == [
            b"aaaa",
            b"caf\xff\xff\xff\xff",
            b"bbbb",
        ]


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1", b"\x00\xff noise that is long enough" * 9])
def test_a_file_that_is_none_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((OSError, ValueError)):
        open_rows(tmp_path / name)
