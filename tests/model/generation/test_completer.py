"""A prompt of any end and any length is continued to the byte, and the text is shown at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tokenizers import Tokenizer

from generation.completer import Completer, load_completer
from generation.prompt_ids import gap_ids, without_last_word
from generation.sample import Sample
from inference.cpu_engine import CpuEngine
from inference.decoding import Decoding
from inference.language_model import Array, KeyValueCache
from model_cli import UserError
from pretrained.load import load_weights, read_pretrained
from pretrained.vocabulary import Vocabulary
from project import STDLIB
from python_syntax.compiler import is_complete
from python_syntax.judge import as_python_reads
from tiny_model import VOCABULARY, greedy_ids, save_endless_model, save_tiny_model, tokenizer_json

DECODER_PY = (STDLIB / "json" / "decoder.py").read_text(encoding="utf-8")
PROMPTS = [
    "",
    "import os",
    "import ",
    "def f(x):\n    ",
    "def f(x):\n\treturn",
    "x = 1\n\n\n\n\n\n\n\n\n",
    "    retu",
    "x = '<|endoftext|>'",
    "# ümläut 🐍",
    "x = 1\r\n",
    "\x00\x1b[31m",
    "\n",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def completer(folder: Path) -> Completer:
    return load_completer(read_pretrained(folder), "cpu")


def as_written(**settings: Any) -> Decoding:
    """Settings without the promise of valid code: what is shown is what the model writes."""
    return Decoding(**settings, valid=False)


def finish(completer: Completer, prompt: str, decoding: Decoding) -> list[Sample]:
    completions = completer.start(prompt, decoding)
    for _ in completer.write(completions, decoding):
        pass
    return completions


class ScriptedModel:
    """A model of which it is known what it writes: these ids, then the end of the text."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.config = SimpleNamespace(block_size=1000)
        self.step = 0

    def new_cache(self, rows: int, capacity: int) -> KeyValueCache:
        return KeyValueCache(np.zeros((1, 2, rows, 1, capacity, 1), np.float32))

    def next_logits(self, ids: Sequence[Sequence[int]], cache: KeyValueCache) -> Array:
        cache.length += len(ids[0])
        logits = np.zeros((len(ids), VOCABULARY), np.float32)
        logits[:, self.ids[self.step] if self.step < len(self.ids) else 0] = 50.0
        self.step += 1
        return logits


def pieces_of(text: str, **settings: Any) -> tuple[list[str], Sample]:
    """What is shown, piece by piece, when the model writes this text byte by byte after an empty prompt."""
    vocabulary = Vocabulary(Tokenizer.from_str(tokenizer_json()), frozenset({0}), VOCABULARY, begin_id=0)
    of_byte = {spelling: token_id for token_id, spelling in enumerate(vocabulary.token_bytes)}
    ids = [of_byte[bytes([byte])] for byte in text.encode()]
    completer = Completer(cast(CpuEngine, ScriptedModel(ids)), vocabulary)
    defaults = {"max_new_tokens": 100, "temperature": 0, "loop_penalty": 0, "valid": False}
    decoding = Decoding(**{**defaults, **settings})
    [completion] = completer.start("", decoding)
    return [piece for _, piece in completer.write([completion], decoding)], completion


def test_a_character_is_shown_once_its_last_byte_is_there() -> None:
    assert pieces_of("é🐍 x")[0] == ["é", "🐍", " ", "x"]


def test_half_a_character_at_the_end_is_not_shown() -> None:
    assert pieces_of("a🐍", max_new_tokens=3)[0] == ["a"]


def test_the_end_of_the_text_ends_the_completion_and_is_not_shown() -> None:
    pieces, completion = pieces_of("x = 1")
    assert completion.ended
    assert "".join(pieces) == completion.text == "x = 1"


def test_empty_lines_at_the_end_are_not_part_of_a_completion() -> None:
    pieces, completion = pieces_of("\nx\n\ny\n\n\n")
    assert pieces == ["\nx", "\n\ny"]
    assert completion.text == "\nx\n\ny"


@pytest.mark.parametrize("valid", [False, True])
@pytest.mark.parametrize(
    ("stop", "text"),
    [("function", "import os\n\n\ndef f():\n    pass"), ("statement", "import os"), ("none", None)],
)
def test_a_completion_stops_where_it_was_asked_to(stop: str, text: str | None, valid: bool) -> None:
    whole = "import os\n\n\ndef f():\n    pass\n\n\nx = 1"
    pieces, completion = pieces_of(whole, stop=stop, valid=valid)
    assert completion.ended
    assert "".join(pieces) == completion.text == (text or whole)


@pytest.mark.parametrize("prompt", PROMPTS, ids=repr)
def test_what_the_model_reads_and_writes_spells_the_prompt_and_its_completion(
    completer: Completer, prompt: str
) -> None:
    for completion in finish(completer, prompt, as_written(max_new_tokens=30, samples=3, seed=1)):
        spelt = b"".join(completer.vocabulary.token_bytes[token_id] for token_id in completion.ids)
        read = as_python_reads(prompt)
        assert spelt.startswith(read.encode())
        assert spelt.decode(errors="replace").startswith(read + completion.text)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_prompt_is_read_without_byte_order_mark_and_with_newlines(
    completer: Completer, mark: str, line_end: str
) -> None:
    prompt = "x = 'a\\\nb'\ny = (1,\n  "
    given, decoding = mark + prompt.replace("\n", line_end), Decoding(max_new_tokens=8, seed=1)
    [sample] = completer.start(given, decoding)
    assert sample.prompt == prompt
    assert sample.ids == completer.start(prompt, decoding)[0].ids
    for _ in completer.write([sample], decoding):
        pass
    assert is_complete(given.removeprefix("\ufeff") + sample.text, 0)


def test_the_same_holds_for_prompts_cut_anywhere_in_real_code(completer: Completer) -> None:
    rng = Random(0)
    for _ in range(100):
        start = rng.randrange(len(DECODER_PY) - 60)
        prompt = DECODER_PY[start : start + rng.randrange(60)]
        [completion] = finish(completer, prompt, as_written(max_new_tokens=5, seed=1))
        spelt = b"".join(completer.vocabulary.token_bytes[token_id] for token_id in completion.ids)
        assert spelt.decode(errors="replace").startswith(prompt + completion.text)
        assert completion.tokens == 5 or completion.ended


@pytest.mark.parametrize(
    ("text", "pending"),
    [("import os\nimport ", b" "), ("if self", b" self"), ("x = 1\n    ", b"\n    "), ("", b"")],
)
def test_the_last_word_or_blanks_of_a_prompt_are_taken_back(
    completer: Completer, text: str, pending: bytes
) -> None:
    ids, taken = without_last_word(text, completer.vocabulary)
    assert taken.endswith(pending)
    assert b"".join(completer.vocabulary.token_bytes[i] for i in ids) + taken == text.encode()


def test_greedy_text_equals_that_of_transformers(folder: Path, completer: Completer) -> None:
    decoding = as_written(max_new_tokens=40, temperature=0, loop_penalty=0)
    [completion] = completer.start("import json\n\nclass JSONDecoder(object):\n", decoding)
    completion.pending_prompt_bytes = b""  # transformers reads the prompt as it stands
    context = list(completion.ids)
    for _ in completer.write([completion], decoding):
        pass
    expected = greedy_ids(folder, context, 40, suppress_tokens=completer.vocabulary.never_written)
    assert completion.ids[len(context) :] == [token_id for token_id in expected if token_id != 0]


def test_text_goes_on_past_the_positions_of_the_model(completer: Completer) -> None:
    decoding = as_written(max_new_tokens=300, temperature=5, seed=1, samples=4)
    completions = finish(completer, "x = 1", decoding)
    assert max(completion.tokens for completion in completions) > 100
    assert all(completion.ended or completion.tokens == 300 for completion in completions)


@pytest.mark.parametrize("new_tokens", [1, 20, 1000])
def test_of_a_prompt_longer_than_the_positions_the_end_is_read(completer: Completer, new_tokens: int) -> None:
    ids, pending = completer.reader.read_prompt(DECODER_PY, new_tokens)
    spelt = b"".join(completer.vocabulary.token_bytes[token_id] for token_id in ids) + pending
    assert DECODER_PY.encode().endswith(spelt)
    assert 64 // 2 <= len(ids) < 64
    assert finish(completer, DECODER_PY, as_written(max_new_tokens=new_tokens, seed=2))


def test_a_prompt_of_ten_megabytes_is_not_encoded_whole(completer: Completer) -> None:
    prompt = "x = 1\n" * 1_700_000
    assert completer.reader.read_prompt(prompt, 10) == completer.reader.read_prompt(prompt[-6000:], 10)


def test_the_same_seed_writes_the_same_text(completer: Completer) -> None:
    decoding = as_written(max_new_tokens=50, temperature=1, seed=7, samples=3)
    first = [completion.text for completion in finish(completer, "import ", decoding)]
    assert first == [completion.text for completion in finish(completer, "import ", decoding)]
    assert len(set(first)) == 3


def test_a_sample_is_the_same_however_many_there_are(completer: Completer) -> None:
    several = finish(completer, "def f", as_written(max_new_tokens=50, temperature=1, seed=7, samples=4))
    [alone] = finish(completer, "def f", as_written(max_new_tokens=50, temperature=1, seed=7))
    assert several[0].text == alone.text


def test_without_a_begin_of_text_token_a_prompt_is_read_as_it_stands(tmp_path: Path) -> None:
    pretrained = read_pretrained(save_endless_model(tmp_path))
    completer = load_completer(pretrained, "cpu")
    assert completer.reader.read_prompt("x", 10) == (pretrained.vocabulary.encode("x"), b"")
    with pytest.raises(UserError, match="give a prompt"):
        completer.reader.read_prompt("", 10)


def test_where_every_token_is_ruled_out_the_text_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without an end-of-text token cannot end it by itself."""
    completer = load_completer(read_pretrained(save_endless_model(tmp_path)), "cpu")
    decoding = Decoding(max_new_tokens=4, seed=1)
    samples = completer.start("x = 1 + ", decoding)
    monkeypatch.setattr(Sample, "banned", set(range(completer.vocabulary.model_size)))
    monkeypatch.setattr(Sample, "forced_bytes", b"")
    text = "".join(text for _, text in completer.write(samples, decoding))
    compile("x = 1 + " + text, "", "exec")
    assert samples[0].finished and samples[0].tokens == 0


def test_a_prompt_may_end_in_a_control_character_that_is_never_written_otherwise(
    completer: Completer,
) -> None:
    [sample] = completer.start("x = 1  # \x01", as_written(max_new_tokens=5, temperature=1, seed=1))
    assert sample.pending_prompt_bytes.endswith(b"\x01")
    list(completer.write([sample], as_written(max_new_tokens=5, temperature=1, seed=1)))
    assert sample.pending_prompt_bytes == b"" and sample.tokens > 0


def test_no_tokens_asked_for_is_no_completion(completer: Completer) -> None:
    [completion] = finish(completer, "x", as_written(max_new_tokens=0))
    assert (completion.text, completion.tokens) == ("", 0)


def test_weights_that_are_no_numbers_are_said_to_be_so(folder: Path) -> None:
    pretrained = read_pretrained(folder)
    weights = load_weights(pretrained)
    weights["ln_f.weight"] = weights["ln_f.weight"] * math.nan
    with pytest.raises(UserError, match="not finite"):
        finish(Completer(CpuEngine(pretrained.config, weights), pretrained.vocabulary), "x", as_written())


# Gaps


def test_the_marks_are_those_of_the_model_s_own_tokenizer() -> None:
    ids = {"<|fim_prefix|>": 40, "<|fim_suffix|>": 7, "<|fim_middle|>": 99}
    assert gap_ids([1, 2], [3], ids.get) == [40, 1, 2, 7, 3, 99]
    del ids["<|fim_suffix|>"]
    with pytest.raises(UserError, match=r"has no <\|fim_suffix\|>: leave out --suffix"):
        gap_ids([1], [2], ids.get)
