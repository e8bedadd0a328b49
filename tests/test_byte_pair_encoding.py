"""Byte-level BPE: what it learns and that it loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from byte_pair_encoding import LONGEST_TOKEN, SPECIAL_TOKENS, TokenizerError, check_text, train_bpe
from conftest import STDLIB
from hypothesis import given
from hypothesis import strategies as st
from pretokenizers import PRETOKENIZERS
from token_view import tokens_of
from tokenizers import Tokenizer


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
        raise TokenizerError("line 2 is damaged")

    with pytest.raises(TokenizerError, match="line 2 is damaged"):
        train_bpe(documents(), 300, "gpt2")


def test_half_a_surrogate_pair_is_refused_by_its_place() -> None:
    assert check_text("🐍", "a test") == "🐍"
    with pytest.raises(TokenizerError, match=r"U\+DC8D.* at character 2: a test: "):
        check_text("ab\udc8d", "a test")


@pytest.mark.full
@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_every_file_of_the_standard_library_comes_back(name: str, trained: dict[str, Tokenizer]) -> None:
    for file in sorted(STDLIB.rglob("*.py")):
        text = file.read_bytes().decode(errors="replace")
        ids = trained[name].encode(text).ids
        assert trained[name].decode(ids, skip_special_tokens=False) == text, file
        assert min(ids, default=9) >= len(SPECIAL_TOKENS), file
