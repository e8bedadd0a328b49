"""Tokens as bytes: nothing is lost, nothing special gets in or out."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from pretrained.vocabulary import Vocabulary, byte_of_character
from project import STDLIB
from tiny_model import SPECIAL_TOKENS, VOCABULARY, tokenizer_json


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(Tokenizer.from_str(tokenizer_json()), frozenset({0}), VOCABULARY)


def joined(vocabulary: Vocabulary, ids: list[int]) -> str:
    return b"".join(vocabulary.token_bytes[token_id] for token_id in ids).decode()


def test_the_byte_alphabet_is_that_of_the_tokenizers_library() -> None:
    assert set(byte_of_character()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_of_character().values()) == list(range(256))


@pytest.mark.parametrize("name", ["this.py", "json/decoder.py", "html/entities.py"])
def test_the_bytes_of_the_tokens_are_the_text(vocabulary: Vocabulary, name: str) -> None:
    text = (STDLIB / name).read_text(encoding="utf-8") + "“ümläut” 🐍\r\n\x00"
    assert joined(vocabulary, vocabulary.encode(text)) == text


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_text_never_becomes_a_special_id(vocabulary: Vocabulary, special: str) -> None:
    ids = vocabulary.encode(f"x = '{special}'")
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert joined(vocabulary, ids) == f"x = '{special}'"


def test_special_tokens_but_the_end_and_control_characters_are_never_written(vocabulary: Vocabulary) -> None:
    never = set(vocabulary.never_written)
    assert {1, 2, 3, 4} <= never
    assert 0 not in never
    assert set(vocabulary.encode("\x1b\x00\r\x7f")) <= never
    assert not never & set(vocabulary.encode("if x:\n\treturn '\f'"))


def test_ids_that_the_model_is_padded_with_are_never_written() -> None:
    padded = Vocabulary(Tokenizer.from_str(tokenizer_json()), frozenset({0}), VOCABULARY + 3)
    assert {VOCABULARY, VOCABULARY + 1, VOCABULARY + 2} <= set(padded.never_written)


def test_tokens_that_continue_some_bytes_agree_with_them(vocabulary: Vocabulary) -> None:
    continuing = {vocabulary.token_bytes[token_id] for token_id in vocabulary.continuing(b" sel")}
    assert b" self" in continuing
    assert b" " in continuing
    assert all(spelling.startswith(b" sel") or b" sel".startswith(spelling) for spelling in continuing)
