"""The format of data.txt: what is written comes back, and what cannot be read is named with its remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.data_file import (
    Document,
    atomic_write,
    document_lines,
    iter_documents,
    parse_document,
    piece_line,
)
from document_lines import document_line
from preprocess_cli import UserError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def document(text: str = "x = 1\n", piece: int = 0, pieces: int = 1, path: str = "a.py") -> Document:
    return Document(text, "owner/name", path, "0" * 40, "MIT", piece, pieces, "train")


def written(path: Path, *documents: Document) -> Path:
    path.write_bytes(b"".join(map(document_line, documents)))
    return path


@given(TEXT, TEXT, TEXT)
def test_a_line_gives_its_document_back_whatever_the_text(text: str, repo: str, path: str) -> None:
    pieces = ["first\n", text, "last\n"]
    lines = list(
        document_lines([piece_line(piece) for piece in pieces], repo, path, "c0ffee", "MIT", "held_out")
    )
    assert b"".join(lines).count(b"\n") == len(lines)
    assert [parse_document(line) for line in lines] == [
        Document(piece, repo, path, "c0ffee", "MIT", number, 3, "held_out")
        for number, piece in enumerate(pieces)
    ]


def test_the_keys_and_their_order_are_the_contract() -> None:
    keys = ["text", "repo", "path", "commit", "license", "piece", "pieces", "split"]
    [line] = document_lines([piece_line("x = 1\n")], "o/n", "a.py", "", "", "train")
    assert list(json.loads(line)) == keys


def test_special_tokens_in_source_stay_text() -> None:
    [line] = document_lines([piece_line("'<|endoftext|>'")], "o/n", "a.py", "", "", "train")
    assert parse_document(line).text == "'<|endoftext|>'"


def test_documents_are_read_in_order(tmp_path: Path) -> None:
    documents = [document(path=f"{number}.py") for number in range(5)]
    assert list(iter_documents(written(tmp_path / "data.txt", *documents))) == documents


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "x', "not JSON"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b'["text"]\n', "not a JSON object"),
        (
            b"{}\n",
            'no "text", "repo", "path", "commit", "license", "piece", "pieces", "split"; each line has text,',
        ),
        (
            b'{"text": "x = 1"}\n',
            'no "repo", "path", "commit", "license", "piece", "pieces", "split"; each line has',
        ),
        (
            document_line(document())[:-2] + b', "stars": 1}',
            "'stars' is one key too many; each line has text",
        ),
        (
            document_line(document()).replace(b'"piece": 0', b'"piece": "0"'),
            '"piece" is not a number',
        ),
        (
            document_line(document()).replace(b'"piece": 0', b'"piece": true'),
            '"piece" is not a number',
        ),
        (document_line(document()).replace(b'"piece": 0', b'"piece": 1'), "piece 1 of 1 cannot be"),
        (
            document_line(document()).replace(b'0, "pieces": 1', b'1, "pieces": 2'),
            "does not follow the piece",
        ),
        (document_line(document()).replace(b'"train"', b'"test"'), '"split" is neither'),
        (document_line(document()).replace(b"x = 1", b"\\ud800"), "half a surrogate pair"),
    ],
)
def test_a_corrupt_line_is_named_by_its_number_with_the_remedy(
    tmp_path: Path, line: bytes, said: str
) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(document_line(document()) * 2 + line)
    documents = iter_documents(path)
    assert [next(documents), next(documents)] == [document(), document()]
    with pytest.raises(UserError) as caught:
        next(documents)
    assert said in str(caught.value)
    assert str(caught.value).startswith("line 3 is not a document (")
    assert f"{path}: make it again: python preprocess/data_preprocess.py" in str(caught.value)


def test_a_missing_file_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make it first: python preprocess/data_preprocess"):
        list(iter_documents(tmp_path / "data.txt"))


def test_an_empty_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is empty"):
        list(iter_documents(written(tmp_path / "data.txt")))
    with pytest.raises(UserError, match="no shards"):
        list(iter_documents(tmp_path))


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as output:
        output.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_frees_its_space_again(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space"), atomic_write(tmp_path / "result", sync=False) as output:
        output.write(b"half")
        raise OSError("no space")
    assert list(tmp_path.iterdir()) == []
