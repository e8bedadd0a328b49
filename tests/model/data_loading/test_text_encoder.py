"""The fast encoder gives the ids of the tokenizer, whatever the text."""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from data_loading.encoding import Encode, TextEncoder, as_splintr, as_tiktoken
from model_cli import UserError
from project import STDLIB, run_script, succeed

PRETOKENIZERS = ("gpt2", "cl100k", "python")
BORDERS = [
    *("<|endoftext|>", "<|pad|>", " ", "  ", "\t", "\n", "\r\n", "\x0b", "\x85", "\u2028", "\0", "'S", "'ll"),
    *("x", "12345", "é", "e\u0301", "ſ", "ǅ", "٣", "²", "日本", "🐍", "_", "-" * 9, "#", "\ufeff"),
]


@pytest.fixture(scope="module")
def encoders(data_txt: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextEncoder]:
    """One encoder per pre-tokenizer, trained by the project's own command."""
    encoders = {}
    for name in PRETOKENIZERS:
        folder = tmp_path_factory.mktemp(name) / "tokenizer"
        options = ("--tokenizer", folder, "--vocab-size", "2000", "--pretokenizer", name)
        succeed(run_script("preprocess/tokenizer.py", "-t", "--data", data_txt, *options))
        encoders[name] = TextEncoder(folder)
    return encoders


def assert_equal(encoder: TextEncoder, text: str) -> None:
    ids = encoder.encode(text)
    assert encoder.fast is not None
    assert ids.tolist() == encoder.tokenizer.encode(text).ids, text[:200]
    assert not np.isin(ids, range(5)).any(), "text has become a special token"


@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_both_encoders_agree_on_real_files(name: str, encoders: dict[str, TextEncoder]) -> None:
    for file in sorted(STDLIB.glob("*.py"))[::5]:
        assert_equal(encoders[name], file.read_text(encoding="utf-8"))


@pytest.mark.full
@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_both_encoders_agree_on_every_installed_file(name: str, encoders: dict[str, TextEncoder]) -> None:
    # The standard library and, wherever they lie, the installed packages.
    installed = {
        file for folder in (STDLIB, sysconfig.get_path("purelib")) for file in Path(folder).rglob("*.py")
    }
    for file in sorted(installed):
        assert_equal(encoders[name], file.read_bytes().decode(errors="replace"))


@pytest.mark.parametrize("name", PRETOKENIZERS)
@given(text=st.text(alphabet=st.characters(codec="utf-8")))
def test_both_encoders_agree_on_any_text(name: str, text: str, encoders: dict[str, TextEncoder]) -> None:
    assert_equal(encoders[name], text)


@pytest.mark.parametrize("name", PRETOKENIZERS)
@given(parts=st.lists(st.sampled_from(BORDERS)))
def test_both_encoders_agree_where_rules_meet(
    name: str, parts: list[str], encoders: dict[str, TextEncoder]
) -> None:
    assert_equal(encoders[name], "".join(parts))


@pytest.mark.full
@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_both_encoders_agree_on_every_character_there_is(name: str, encoders: dict[str, TextEncoder]) -> None:
    # Each library brings its own tables of letters, digits and blanks.
    for c in map(chr, (*range(0xD800), *range(0xE000, 0x110000))):
        assert_equal(encoders[name], f"a{c}b 1{c}2  {c}{c} ,{c}.\n{c}\n  'S'ſ {c}x'{c}")


@pytest.mark.parametrize("character", [" ", "\t", "\n", "a", "-", "1", "é", " \n"])
def test_runs_of_one_character_are_encoded_in_linear_time(
    character: str, encoders: dict[str, TextEncoder]
) -> None:
    # Quadratic time would take minutes and run into the time limit.
    assert_equal(encoders["gpt2"], "x" + character * 300_000 + "x")


def test_what_tiktoken_refuses_is_encoded_all_the_same(encoders: dict[str, TextEncoder]) -> None:
    text = " " * 1_500_000 + "x"
    fast = encoders["python"].fast  # splintr does not know this rule, and has no such limit for the others
    assert fast is not None
    with pytest.raises(ValueError, match="stack"):
        fast(text)
    for encoder in encoders.values():
        assert_equal(encoder, text)


@pytest.mark.parametrize("make", [as_splintr, as_tiktoken])
def test_a_file_without_use_regex_is_read_as_tokenizers_reads_it(
    make: Callable[[dict[str, Any]], Encode | None], encoders: dict[str, TextEncoder]
) -> None:
    # As in the Hub's GPT-2, whose file is older than the key.
    parsed = json.loads(encoders["gpt2"].tokenizer.to_str())
    del parsed["pre_tokenizer"]["use_regex"]
    fast = make(parsed)
    assert fast is not None
    theirs = Tokenizer.from_str(json.dumps(parsed))
    for file in sorted(STDLIB.glob("*.py"))[::10]:
        text = file.read_text(encoding="utf-8")
        assert np.asarray(fast(text)).tolist() == theirs.encode(text).ids


@pytest.mark.parametrize("make", [as_splintr, as_tiktoken])
def test_an_encoder_that_disagrees_is_found_out_and_left_alone(
    make: Callable[[dict[str, Any]], Encode | None], tokenizer_folder: Path
) -> None:
    encoder = TextEncoder(tokenizer_folder)
    parsed = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = parsed["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    encoder.fast = make(parsed)
    assert encoder.verify(["xyz"])
    assert not encoder.verify(["xyz", "a"])  # alone it is never part of a longer token, whatever was learnt
    assert encoder.encode("a").tolist() == encoder.tokenizer.encode("a").ids


def test_another_kind_of_tokenizer_is_encoded_by_tokenizers(tmp_path: Path) -> None:
    from tokenizers import models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "[UNK]": 1, "import": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder(tmp_path)
    encoder.verify(["import os"])
    assert encoder.encode("import os").tolist() == [2, 1]


def test_the_sizes_and_ids_are_those_of_the_file(tokenizer_folder: Path) -> None:
    encoder = TextEncoder(tokenizer_folder)
    assert (encoder.vocab_size, encoder.end_of_text_id) == (1024, 0)


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"\xff\xfe"], ids=["missing", "empty", "foreign", "binary"]
)
def test_a_folder_without_a_tokenizer_says_how_to_make_one(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"{tmp_path}/tokenizer.json: .*python preprocess/tokenizer.py -t"):
        TextEncoder(tmp_path)


def test_a_tokenizer_without_an_end_of_text_is_refused(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("<|endoftext|>", "</s>"), encoding="utf-8")
    with pytest.raises(UserError, match=r"no <\|endoftext\|>"):
        TextEncoder(folder)
