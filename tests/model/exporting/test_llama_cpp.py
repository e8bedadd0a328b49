"""A GGUF file in llama.cpp itself: the same tokens for every text, the same greedy choices."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bpe.learning import CL100K_PATTERN as LEARNT_CL100K_PATTERN
from bpe.learning import train_bpe
from export import main
from exporting.gguf_file import NAME_OF_PATTERN
from generation.prompt_ids import gap_ids
from llama_cpp_server import LlamaServer
from pretrained.load import read_json, read_pretrained
from pretrained.vocabulary import CL100K_PATTERN, GPT2_PATTERN
from project import STDLIB
from tiny_model import change_json, close_calls, greedy_ids, save_tiny_model

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

RULES = ("gpt2", "cl100k")
# Where two programs may disagree about a letter, a digit, a blank, a line end or a capital.
DISPUTABLE = [
    "a\u017f b'\u017f I'\u017f'S 'LL don't 'Re'vE",
    "\u00a0\u00a0x\u180e\u3000x\u200b\u200d\u2028\u2029 z\ufeffx\x85 y",
    "\x1c\x1d\x1e\x1f x\x00\x01",
    "\r\n\r\n  x\r y\r\r\n   \n\n\tx = 1  ",
    "e\u0301\u0301 x 漢字かな 🐍🏽👩\u200d👩\u200d👧 ǅǈ ʰª \u0378\ue000\U0010ffff",
    "١٢٣٤٥ ⅷ½² ٠ߩ߀ 1234567",
    "x = '<|endoftext|>' + \"<|fim_prefix|>\"\n",
    "",
]


def export(folder: Path, *options: str) -> Path:
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["--model", str(folder), "--format", "gguf", "--force", *options]) == 0
    return folder / "gpyt.gguf"


@pytest.fixture(scope="module", params=RULES)
def of_rule(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a tokenizer that was learnt from the email package under this rule."""
    texts = [file.read_text(encoding="utf-8") for file in sorted((STDLIB / "email").glob("*.py"))]
    tokenizer = train_bpe(texts, 512, str(request.param))
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"), vocab_size=tokenizer.get_vocab_size())
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def differing(folder: Path, texts: list[str]) -> list[str]:
    """The texts that llama.cpp and we encode differently."""
    server, vocabulary = LlamaServer(export(folder)), read_pretrained(folder).vocabulary
    return [text for text in texts if server.tokens_of(text) != vocabulary.encode(text)]


def test_llama_cpp_has_the_same_tokens_for_every_text(of_rule: Path) -> None:
    chance = Random(0)
    alphabet = [chr(code) for code in range(0x20, 0x3000)] + list(" \n\t\r'\"()[]:=.,_abcs1239") * 60
    invented = ["".join(chance.choices(alphabet, k=40)) for _ in range(100)]
    files = [path.read_text(encoding="utf-8") for path in sorted((STDLIB / "json").glob("*.py"))]
    assert differing(of_rule, [*DISPUTABLE, *invented, *files]) == []


@pytest.mark.full
def test_llama_cpp_has_the_same_tokens_for_the_whole_standard_library(of_rule: Path) -> None:
    files = sorted(STDLIB.glob("[a-z]*/*.py")) + sorted(STDLIB.glob("*.py"))
    texts = [path.read_bytes().decode(errors="ignore") for path in files if "site-packages" not in str(path)]
    assert len(texts) > 300
    assert differing(of_rule, texts) == []


def test_names_are_given_to_the_rules_that_the_tokenizer_learns_with() -> None:
    assert NAME_OF_PATTERN == {GPT2_PATTERN: "gpt-2", LEARNT_CL100K_PATTERN: "dbrx"}
    assert CL100K_PATTERN == LEARNT_CL100K_PATTERN


@pytest.mark.parametrize(
    "variant", [{}, {"tie_word_embeddings": False}, {"n_inner": 96, "layer_norm_epsilon": 1e-3}], ids=str
)
def test_llama_cpp_chooses_the_same_tokens_as_transformers(variant: dict[str, Any], tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path, **variant)
    server, vocabulary = LlamaServer(export(folder, "--dtype", "f32")), read_pretrained(folder).vocabulary
    written = 0
    differing = 0
    for prompt in ("", "import json\n", "def f(x):\n    return", "class JSONDecoder(object):\n"):
        context = [0, *vocabulary.encode(prompt)]
        ids = server.greedy(context, 40)
        written += len(ids)
        differing += close_calls(folder, context, ids)
    assert written > 100
    assert differing <= 0.03 * written


def test_a_trained_model_chooses_the_same_in_llama_cpp_from_text_to_text(
    model_folder: Path, tmp_path: Path
) -> None:
    gguf = tmp_path / "gpyt.gguf"
    export(model_folder, "--dtype", "f32", "--output", str(gguf))
    server, vocabulary = LlamaServer(gguf), read_pretrained(model_folder).vocabulary
    for prompt in ("import asyncio\n", "    def __init__(self", "try:\n"):
        expected = greedy_ids(model_folder, [0, *vocabulary.encode(prompt)], 40)
        answer = server.ask("/v1/completions", prompt=prompt, max_tokens=40, temperature=0)
        assert answer["choices"][0]["text"] == vocabulary.tokenizer.decode(expected)


@pytest.fixture(scope="module")
def fills_in(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model with a record that says it fills gaps in."""
    folder = Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("fim") / "GPyT"))
    provenance = read_json(folder / "provenance.json")
    provenance["options"]["fim_rate"] = 0.5
    change_json(folder / "provenance.json", **provenance)
    export(folder, "--dtype", "f32")
    return folder


def test_a_gap_is_read_and_filled_as_we_do(fills_in: Path) -> None:
    server, vocabulary = LlamaServer(fills_in / "gpyt.gguf"), read_pretrained(fills_in).vocabulary
    for before, after in (
        ("class Queue:\n", "        self.size = 0\n"),
        ("", "    return x\n"),
        ("import ", ""),
    ):
        gap = gap_ids(vocabulary.encode(before), vocabulary.encode(after), vocabulary.tokenizer.token_to_id)
        expected = greedy_ids(fills_in, [0, *gap], 20)
        question = {"input_prefix": before, "input_suffix": after, "n_predict": 20, "temperature": 0}
        answer = server.ask("/infill", **question)
        assert answer["content"] == vocabulary.tokenizer.decode(expected)


def test_an_editor_in_a_long_file_is_answered_with_half_of_the_context_as_the_batch(fills_in: Path) -> None:
    """The request is llama.vim's, whose prefix and suffix are hundreds of lines."""
    text = (STDLIB / "json" / "decoder.py").read_text(encoding="utf-8")
    place = text.index("    def raw_decode")
    server = LlamaServer(fills_in / "gpyt.gguf", batch=64)
    answer = server.ask(
        "/infill",
        input_prefix=text[:place],
        input_suffix=text[place:],
        input_extra=[],
        prompt="    def decode",
        n_predict=48,
        n_indent=4,
        top_k=40,
        top_p=0.99,
        samplers=["top_k", "top_p", "infill"],
        cache_prompt=True,
        t_max_prompt_ms=500,
        t_max_predict_ms=1000,
        response_fields=["content", "timings/prompt_n", "truncated"],
    )
    assert 50 < answer["timings/prompt_n"] <= 64 + 2
    assert isinstance(answer["content"], str)
    assert not answer["truncated"]


@pytest.mark.parametrize("dtype", ["f16", "int8"])
def test_smaller_numbers_keep_most_choices(model_folder: Path, tmp_path: Path, dtype: str) -> None:
    gguf = tmp_path / "gpyt.gguf"
    export(model_folder, "--dtype", dtype, "--output", str(gguf))
    server, vocabulary = LlamaServer(gguf), read_pretrained(model_folder).vocabulary
    ids = vocabulary.encode((STDLIB / "json" / "decoder.py").read_text(encoding="utf-8"))
    places = range(20, 100, 2)
    same = [
        server.greedy([0, *ids[:place]], 1) == greedy_ids(model_folder, [0, *ids[:place]], 1)
        for place in places
    ]
    assert sum(same) >= 0.9 * len(places)
