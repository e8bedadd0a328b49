"""The format of data.txt: what is written comes back, and what cannot be read is named with its remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpus import (
    CorpusError,
    Document,
    document_line,
    iter_documents,
    iter_files,
    parse_document,
    whole_or_absent,
)
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def document(text: str = "x = 1\n", piece: int = 0, pieces: int = 1, path: str = "a.py") -> Document:
    return Document(text, "owner/name", path, "0" * 40, "MIT", piece, pieces, "train")


def written(path: Path, *documents: Document) -> Path:
    path.write_bytes(b"".join(map(document_line, documents)))
    return path


@given(TEXT, TEXT, TEXT)
def test_a_line_gives_its_document_back_whatever_the_text(text: str, repo: str, path: str) -> None:
    original = Document(text, repo, path, "", "", 2, 7, "held_out")
    line = document_line(original)
    assert line.count(b"\n") == 1
    assert parse_document(line) == original


def test_the_keys_and_their_order_are_the_contract() -> None:
    keys = ["text", "repo", "path", "commit", "license", "piece", "pieces", "split"]
    assert list(json.loads(document_line(document()))) == keys


def test_special_tokens_in_source_stay_text() -> None:
    assert parse_document(document_line(document("'<|endoftext|>'"))).text == "'<|endoftext|>'"


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
        (b"{}\n", '"text" is missing or not text'),
        (
            document_line(document()).replace(b'"piece": 0', b'"piece": "0"'),
            '"piece" is missing or not a number',
        ),
        (
            document_line(document()).replace(b'"piece": 0', b'"piece": true'),
            '"piece" is missing or not a number',
        ),
        (document_line(document()).replace(b'"piece": 0', b'"piece": 1'), "piece 1 of 1 cannot be"),
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
    with pytest.raises(CorpusError) as caught:
        next(documents)
    assert said in str(caught.value)
    assert str(caught.value).startswith("line 3 is not a document (")
    assert f"{path}: make it again: python preprocess/data_preprocess.py" in str(caught.value)


def test_a_missing_file_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="make it first: python preprocess/data_preprocess"):
        list(iter_documents(tmp_path / "data.txt"))


def test_an_empty_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="it is empty"):
        list(iter_documents(written(tmp_path / "data.txt")))
    with pytest.raises(CorpusError, match="cannot be read"):
        list(iter_documents(tmp_path))


def test_pieces_are_joined_to_whole_files(tmp_path: Path) -> None:
    path = written(
        tmp_path / "data.txt",
        document("a\n", 0, 3),
        document("b\n", 1, 3),
        document("c\n", 2, 3),
        document("d\n", path="b.py"),
    )
    assert list(iter_files(path)) == [document("a\nb\nc\n"), document("d\n", path="b.py")]


@pytest.mark.parametrize("order", [(1, 2, 0), (0, 2), (1,), (0, 0, 1, 2), (0, 1)])
def test_pieces_that_do_not_follow_each_other_are_an_error(tmp_path: Path, order: tuple[int, ...]) -> None:
    path = written(tmp_path / "data.txt", *(document(str(piece), piece, 3) for piece in order))
    with pytest.raises(CorpusError, match="pieces of owner/name/a"):
        list(iter_files(path))


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), whole_or_absent(path) as output:
        output.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
