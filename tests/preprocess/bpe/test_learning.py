"""Byte-level BPE: what it samples, where it cuts words, what it learns, and that it loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.decoders import ByteLevel

from bpe.learning import (
    LONGEST_TOKEN,
    PRETOKENIZERS,
    SPECIAL_TOKENS,
    TrainingSample,
    build_pretokenizer,
    train_bpe,
)
from bpe.token_view import tokens_of
from corpus.data_file import Document
from document_lines import document_line
from preprocess_cli import UserError
from project import STDLIB

# The sample


def write_data(path: Path, files: int) -> int:
    """A data.txt of so many files of two pieces of 500 bytes, one in ten held out; its size."""
    lines = []
    for number in range(files):
        split = "held_out" if number % 10 == 0 else "train"
        for piece in range(2):
            text = f"x = {number:06d}_{piece}\n".ljust(500, "#")
            lines.append(
                document_line(
                    Document(text, f"owner/{number // 20}", f"{number}.py", "", "", piece, 2, split)
                )
            )
    path.write_bytes(b"".join(lines))
    return path.stat().st_size


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "data.txt"
    write_data(path, 2000)
    return path


def taken(data: Path, max_bytes: int) -> tuple[TrainingSample, list[str]]:
    sample = TrainingSample.of(data.stat().st_size, max_bytes)
    return sample, list(sample.train_documents(data))


def test_a_corpus_within_the_limit_is_taken_whole(data: Path) -> None:
    sample, texts = taken(data, 10_000_000)
    assert len(texts) == sample.documents == 3600
    assert sample.left_out == 0


def test_no_limit_takes_everything(data: Path) -> None:
    assert len(taken(data, 0)[1]) == 3600


@pytest.mark.parametrize("limit", [10_000, 100_000, 400_000])
def test_a_sample_is_nearly_as_large_as_the_limit_and_never_larger(data: Path, limit: int) -> None:
    sample, texts = taken(data, limit)
    assert sum(len(text.encode()) for text in texts) == sample.text_bytes <= limit
    assert sample.documents + sample.left_out == 3600
    if limit >= 100_000:
        assert sample.text_bytes > 0.6 * limit


def test_both_pieces_of_a_file_are_taken_or_left(data: Path) -> None:
    _, texts = taken(data, 400_000)
    files = [text.split("_")[0] for text in texts]
    assert all(files.count(file) == 2 for file in set(files))


def test_a_sample_comes_from_all_over_the_corpus_and_is_the_same_each_time(data: Path) -> None:
    sample, texts = taken(data, 400_000)
    assert len(sample.repositories) > 90
    assert texts == taken(data, 400_000)[1]


def test_held_out_documents_are_counted_and_kept_apart(data: Path) -> None:
    sample, texts = taken(data, 100_000)
    assert len(sample.held_out) == 400
    assert sample.held_out_bytes == sample.sampled_bytes == 400 * 500
    assert set(sample.held_out) & set(texts) == set()


# The pre-tokenizers


def words(name: str, text: str) -> list[str]:
    """The pieces of text, spelled as in the text again."""
    decoder = ByteLevel()
    return [decoder.decode([word]) for word, _ in build_pretokenizer(name).pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("gpt2", ["def", " f", "():", "\n       ", " return", " x", "+", "1234", "\n"]),
        ("cl100k", ["def", " f", "():\n", "       ", " return", " x", "+", "123", "4", "\n"]),
        ("python", ["def", " f", "():\n        ", "return", " x", "+", "123", "4", "\n"]),
    ],
)
def test_each_rule_cuts_a_function_its_own_way(name: str, pieces: list[str]) -> None:
    assert words(name, "def f():\n        return x+1234\n") == pieces


def test_gpt2_is_the_rule_that_llama_cpp_and_transformers_know() -> None:
    text = "I'll   see\n\n  what's 2024's x_1 = [日本語]\r\n"
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    assert build_pretokenizer("gpt2").pre_tokenize_str(text) == gpt2.pre_tokenize_str(text)


@pytest.mark.parametrize("name", PRETOKENIZERS)
@given(text=st.text())
def test_no_character_is_lost(name: str, text: str) -> None:
    spelled = "".join(word for word, _ in build_pretokenizer(name).pre_tokenize_str(text))
    assert ByteLevel().decode([spelled]) == text


# The merges


def train_texts(data_txt: Path) -> list[str]:
    return [json.loads(line)["text"] for line in data_txt.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def trained(data_txt: Path) -> dict[str, Tokenizer]:
    return {name: train_bpe(train_texts(data_txt), 1024, name) for name in PRETOKENIZERS}


@pytest.mark.parametrize("name", PRETOKENIZERS)
@given(text=st.text(alphabet=st.characters(codec="utf-8")))
def test_any_text_comes_back_and_holds_no_special_id(
    name: str, text: str, trained: dict[str, Tokenizer]
) -> None:
    ids = trained[name].encode(text).ids
    assert trained[name].decode(ids, skip_special_tokens=False) == text
    assert all(i >= len(SPECIAL_TOKENS) for i in ids)


@pytest.mark.parametrize("name", PRETOKENIZERS)
@given(parts=st.lists(st.sampled_from([*SPECIAL_TOKENS, " ", "x", "\r\n", "<|", "|>", "endoftext", "\0"])))
def test_the_names_of_special_tokens_are_text(
    name: str, parts: list[str], trained: dict[str, Tokenizer]
) -> None:
    text = "".join(parts)
    ids = trained[name].encode(text).ids
    assert trained[name].decode(ids, skip_special_tokens=False) == text
    assert all(i >= len(SPECIAL_TOKENS) for i in ids)


@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_no_token_is_longer_than_the_limit(name: str, trained: dict[str, Tokenizer]) -> None:
    spellings = [spelling for spelling, i in trained[name].get_vocab().items() if i >= len(SPECIAL_TOKENS)]
    assert max(len(token.content) for token in tokens_of(range(len(spellings)), spellings)) <= LONGEST_TOKEN
    assert train_bpe(["-" * 4000] * 2, 1024, name).get_vocab_size() <= 261 + LONGEST_TOKEN


def test_pairs_that_occur_once_are_not_learnt() -> None:
    assert train_bpe(["abcdefgh"], 1024, "gpt2").get_vocab_size() == 261
    assert train_bpe(["ab cd", "ab ef"], 1024, "gpt2").get_vocab_size() == 262


def test_the_error_of_the_documents_comes_through() -> None:
    def documents() -> Iterator[str]:
        yield "import os"
        raise UserError("line 2 is damaged")

    with pytest.raises(UserError, match="line 2 is damaged"):
        train_bpe(documents(), 300, "gpt2")


@pytest.mark.full
@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_every_file_of_the_standard_library_comes_back(name: str, trained: dict[str, Tokenizer]) -> None:
    for file in sorted(STDLIB.rglob("*.py")):
        text = file.read_bytes().decode(errors="replace")
        ids = trained[name].encode(text).ids
        assert trained[name].decode(ids, skip_special_tokens=False) == text, file
        assert min(ids, default=9) >= len(SPECIAL_TOKENS), file
