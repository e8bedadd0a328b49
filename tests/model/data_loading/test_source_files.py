"""data.txt -> whole source files, or one line that says which line of it is at fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corpus.data_file import iter_documents
from data_loading.source_files import Part, SourceFile, iter_source_files, load_documents
from model_cli import UserError
from preprocess_cli import UserError as PreprocessError
from project import PROJECT

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
    return list(iter_source_files(load_documents(Part(data), data.parent / "cache")))


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
        (
            [GOOD, LACKING["text"]],
            'line 2 has no "text"; each line has text, repo, path, commit, license, piece,',
        ),
        (
            ['{"text": "x = 1"}'],
            'line 1 has no "repo", "path", "commit", "license", "piece", "pieces", "split"; ',
        ),
        ([GOOD, GOOD, LACKING["pieces"]], 'line 3 has no "pieces"'),
        ([GOOD.replace('"import os\\n"', "null")], "line 1 is not a document"),
        ([GOOD.replace("import", "\\ud800")], "line 1 is not a document"),
        ([GOOD.replace("train", "test")], 'line 1 has neither "train" nor "held_out"'),
        ([GOOD.replace('0, "pieces": 1', '1, "pieces": 2')], "line 1 does not follow the piece before it"),
        ([GOOD.replace('"pieces": 1', '"pieces": 2'), GOOD], "line 2 does not follow the piece before it"),
        ([GOOD, GOOD.replace('"pieces": 1', '"pieces": 2')], "pieces are missing after line 2"),
    ],
)
def test_a_damaged_line_is_named_with_the_remedy(
    lines: list[str], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.txt", *lines)
    with pytest.raises(UserError, match=rf"{says}.*: {data}: .*python preprocess/data_preprocess.py$"):
        read(data)
    assert capfd.readouterr() == ("", "")


LINE = GOOD.encode()
OTHER = LINE.replace(b"c.py", b"d.py")
MARK = b"\xef\xbb\xbf"
BOTH_READ = {
    "no newline at the end": LINE,
    "a byte order mark": MARK + LINE + b"\n" + OTHER + b"\n",
    "newlines of Windows": LINE + b"\r\n" + OTHER + b"\r\n",
    "blanks around it": b" \t" + LINE + b"  \n",
    "another order": json.dumps(dict(reversed(DOCUMENT.items()))).encode() + b"\n",
    "texts like dates": LINE.replace(b"import os\\n", b"2024-01-01").replace(b"a/b", b"2024-01-02"),
    "a surrogate pair": LINE.replace(b"import", b"\\ud83d\\ude00"),
    "an escaped NUL": LINE.replace(b"import", b"\\u0000"),
}
BOTH_REFUSE = {
    "nothing": b"",
    "a mark alone": MARK,
    "a mark in the second line": LINE + b"\n" + MARK + OTHER + b"\n",
    "two marks": MARK + MARK + LINE + b"\n",
    "newlines of old Macs": LINE + b"\r" + OTHER + b"\r",
    "an empty line": LINE + b"\n\n" + OTHER + b"\n",
    "an empty line at the end": LINE + b"\n\n",
    "two in a line": LINE + b" " + OTHER + b"\n",
    "one in many lines": json.dumps(DOCUMENT, indent=1).encode() + b"\n",
    "a comma": LINE + b",\n",
    "a list": b"[" + LINE + b"]\n",
    "a key too many": LINE[:-1] + b', "stars": 1}\n',
    "an object too many": LINE[:-1] + b', "origin": {"text": ""}}\n',
    "a key twice": LINE[:-1] + b', "text": "x"}\n',
    "a text that is a number": LINE.replace(b'"import os\\n"', b"3"),
    "a text that is true": LINE.replace(b'"import os\\n"', b"true"),
    "a name that is null": LINE.replace(b'"a/b"', b"null"),
    "a number with a point": LINE.replace(b'"piece": 0', b'"piece": 0.0'),
    "a number that is text": LINE.replace(b'"piece": 0', b'"piece": "0"'),
    "a number that is true": LINE.replace(b'"pieces": 1', b'"pieces": true'),
    "a negative number": LINE.replace(b'"piece": 0', b'"piece": -1'),
    "no pieces": LINE.replace(b'"pieces": 1', b'"pieces": 0'),
    "too many pieces": LINE.replace(b'"pieces": 1', b'"pieces": 99999999999999999999'),
    "a missing piece": LINE.replace(b'0, "pieces": 1', b'1, "pieces": 2'),
    "an unfinished file": LINE.replace(b'"pieces": 1', b'"pieces": 2'),
    "a piece of another commit": b"".join(
        LINE.replace(b'0, "pieces": 1', b'%d, "pieces": 2' % n).replace(b'commit": "', b'commit": "%d' % n)
        + b"\n"
        for n in (0, 1)
    ),
    "half a pair": LINE.replace(b"import", b"\\ud800"),
    "half a pair in bytes": LINE.replace(b"import", b"\xed\xa0\x80"),
    "latin-1": LINE.replace(b"import", b"\xe9"),
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-32": GOOD.encode("utf-32-le"),
    "a NUL": LINE.replace(b"import", b"\0"),
    "text alone": b'{"text": "x = 1"}\n',
}


@pytest.mark.parametrize("what", [*BOTH_READ, *BOTH_REFUSE])
def test_the_tokenizer_and_the_training_read_the_same_texts_and_refuse_the_same_files(
    what: str, tmp_path: Path
) -> None:
    data = tmp_path / "data.txt"
    data.write_bytes({**BOTH_READ, **BOTH_REFUSE}[what])
    if what in BOTH_REFUSE:
        with pytest.raises(UserError):
            read(data)
        with pytest.raises(PreprocessError):
            list(iter_documents(data))
    else:
        documents = [(each.text, each.repo, each.path) for each in iter_documents(data)]
        assert [(each.text, each.repo, each.path) for each in read(data)] == documents
        assert len(documents) == data.read_bytes().count(b'"text"')


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04\x00\xff\xfe", b"import os\n", b"\xff" * 100])
def test_another_kind_of_file_is_named_with_the_remedy(content: bytes, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_bytes(content)
    with pytest.raises(UserError, match=rf"{data}: .*python preprocess/data_preprocess.py$"):
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
from data_loading.source_files import Part, iter_source_files, load_documents
data, cache = Path(sys.argv[2]), Path(sys.argv[3])
print(sum(1 for _ in iter_source_files(load_documents(Part(data), cache))))
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
