"""Where the three rules cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretokenizers import PRETOKENIZERS, build_pretokenizer
from tokenizers import pre_tokenizers
from tokenizers.decoders import ByteLevel


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
