"""data.txt -> whole source files, or one line that says which line of it is at fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT
from source_files import SourceFile, SourceFilesError, iter_source_files, load_documents

DOCUMENT: dict[str, Any] = {
    "text": "import os\n",
    "repo": "a/b",
    "path": "c.py",
    "commit": "",
    "license": "",
    "piece": 0,
    "pieces": 1,
    "split": "train",
}


def write(path: Path, *documents: dict[str, Any] | str) -> Path:
    """A data.txt of these documents, each completed by DOCUMENT, or of these lines as they are."""
    lines = [line if isinstance(line, str) else json.dumps(DOCUMENT | line) for line in documents]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    return path


def read(data: Path) -> list[SourceFile]:
    return list(iter_source_files(load_documents(data, data.parent / "cache"), data))


def test_the_pieces_of_a_file_are_joined(tmp_path: Path) -> None:
    data = write(
        tmp_path / "data.txt",
        {"text": "one\n"},
        {"text": "two\n", "path": "d.py", "piece": 0, "pieces": 3},
        {"text": "", "path": "d.py", "piece": 1, "pieces": 3},
        {"text": "three\n", "path": "d.py", "piece": 2, "pieces": 3},
        {"text": "four\n", "path": "e.py", "split": "held_out"},
    )
    assert read(data) == [
        SourceFile("one\n", "a/b", "c.py", "train"),
        SourceFile("two\nthree\n", "a/b", "d.py", "train"),
        SourceFile("four\n", "a/b", "e.py", "held_out"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2024-10-10\n",
        "3",
        "null",
        "true",
        "",
        " ",
        "\0",
        "a\r\nb\u2028c\x85d",
        "\ufeffx",
        '{"a": [1]}',
        '🐍\t\\"',
    ],
)
def test_every_text_arrives_as_it_is(text: str, tmp_path: Path) -> None:
    assert [file.text for file in read(write(tmp_path / "data.txt", {"text": text}))] == [text]


def test_a_line_may_be_longer_than_what_is_read_at_a_time(tmp_path: Path) -> None:
    texts = ["x = 1\n" * 4_000_000, "y = 2\n"]
    data = write(tmp_path / "data.txt", *({"text": text, "path": f"{i}.py"} for i, text in enumerate(texts)))
    assert [file.text for file in read(data)] == texts


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "a[1]*?"
    folder.mkdir()
    assert len(read(write(folder / "data{2}.txt", {}))) == 1


GOOD = json.dumps(DOCUMENT)
LACKING = {
    name: json.dumps({key: value for key, value in DOCUMENT.items() if key != name}) for name in DOCUMENT
}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["", ""], "line 1 is not JSON"),
        ([GOOD, GOOD[:40]], r"line 2 is not JSON \(Invalid control"),
        ([GOOD, "\0" * 20, GOOD], "line 2 is not JSON"),
        ([GOOD, "[1, 2]"], "line 2 is not a document"),
        ([GOOD, '"text"'], "line 2 is not a document"),
        ([GOOD, LACKING["text"]], 'line 2 has no "text"'),
        ([GOOD, GOOD, LACKING["pieces"]], 'line 3 has no "pieces"'),
        ([GOOD.replace('"import os\\n"', "null")], "line 1 is not a document"),
        ([GOOD.replace("import", "\\ud800")], "line 1 is not a document"),
        ([GOOD.replace("train", "test")], 'line 1 has neither "train" nor "held_out"'),
        ([GOOD.replace('"piece": 0', '"piece": 1')], "line 1 does not follow the piece before it"),
        ([GOOD.replace('"pieces": 1', '"pieces": 2'), GOOD], "line 2 does not follow the piece before it"),
        ([GOOD, GOOD.replace('"pieces": 1', '"pieces": 2')], "pieces are missing after line 2"),
    ],
)
def test_a_damaged_line_is_named_with_the_remedy(
    lines: list[str], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.txt", *lines)
    with pytest.raises(SourceFilesError, match=rf"{says}.*: {data}: .*python preprocess/data_preprocess.py$"):
        read(data)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04\x00\xff\xfe", b"import os\n", b"\xff" * 100])
def test_another_kind_of_file_is_named_with_the_remedy(content: bytes, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_bytes(content)
    with pytest.raises(SourceFilesError, match=rf"{data}: .*python preprocess/data_preprocess.py$"):
        read(data)


def test_nothing_is_asked_of_the_network_nor_written_at_home_nor_said(data_txt: Path, tmp_path: Path) -> None:
    program = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{event} {arguments}")
sys.addaudithook(refuse)
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from source_files import iter_source_files, load_documents
data, cache = Path(sys.argv[2]), Path(sys.argv[3])
print(sum(1 for _ in iter_source_files(load_documents(data, cache), data)))
"""
    home = tmp_path / "home"
    home.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", program, str(PROJECT / "model"), str(data_txt), str(tmp_path / "cache")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    assert int(ended.stdout) == len(data_txt.read_text(encoding="utf-8").splitlines())
    assert list(home.rglob("*")) == []
