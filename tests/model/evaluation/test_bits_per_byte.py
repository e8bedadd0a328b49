"""Bits per byte by its definition: each token of a file once, with at least half a context behind it."""

from __future__ import annotations

import ast
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loading.token_file import TokenSplit
from evaluation.bits_per_byte import (
    EXCERPT_BYTES,
    IN_TURN,
    WHOLE_FILES,
    Excerpt,
    cut_at_statement,
    draw_in_turn,
    draw_whole_files,
    score,
    whole_file,
)
from gpt2.config import GPT2Config
from gpt2.network import GPT2

torch.set_num_threads(1)  # at these sizes a second thread only waits

SHAPE = GPT2Config(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=64)


def split_of(lengths: list[int]) -> TokenSplit:
    """Files of random tokens, each closed by <|endoftext|>; a token counts for three bytes of text."""
    random = np.random.default_rng(0)
    files = [np.append(random.integers(5, 64, length), 0) for length in lengths]
    return TokenSplit(
        tokens=np.concatenate(files).astype(np.uint16),
        offsets=np.cumsum([0, *map(len, files)]),
        text_bytes=np.array([3 * length for length in lengths], dtype=np.int64),
        repository=np.zeros(len(lengths), dtype=np.int32),
        repositories=["a"],
        paths_from=[f"{number}.py" for number in range(len(lengths))],
    )


def random_model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(SHAPE)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def bits_by_definition(model: GPT2, tokens: list[int]) -> float:
    """A file alone, window after window as the definition says it, one token at a time."""
    sequence, bits, half = [0, *tokens], 0.0, SHAPE.block_size // 2
    for target in range(1, len(sequence)):
        # the first window ends at its context; each later one brings half a context of new targets
        beyond = max(0, target - SHAPE.block_size)
        end = SHAPE.block_size + half * math.ceil(beyond / half)
        end = min(end, len(sequence) - 1)
        start = max(0, end - SHAPE.block_size)
        with torch.no_grad():
            scores = model.logits(torch.tensor([sequence[start:target]]))[0, -1]
        bits -= float(torch.log_softmax(scores, 0)[sequence[target]]) / math.log(2)
    return bits


@pytest.mark.parametrize("length", [1, 5, 7, 8, 9, 12, 13, 40])
def test_a_file_is_scored_as_the_definition_says(length: int) -> None:
    model, split = random_model(), split_of([length])
    expected = bits_by_definition(model, split.tokens.tolist()) / (3 * length)
    assert score(model, split, [whole_file(split, 0)]).bits_per_byte == pytest.approx(expected, rel=1e-4)


def test_files_are_scored_together_as_they_are_alone() -> None:
    model, split = random_model(), split_of([3, 30, 8, 17])
    alone = [score(model, split, [whole_file(split, file)]).bits for file in range(4)]
    together = score(model, split, [whole_file(split, file) for file in (2, 0, 3, 1)])
    assert together.bits == pytest.approx(sum(alone), rel=1e-5)
    assert (together.text_bytes, together.files) == (3 * 58, 4)


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary() -> None:
    model, split = GPT2(SHAPE), split_of([20])
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
    assert score(model, split, [whole_file(split, 0)]).bits == pytest.approx(
        21 * 6, rel=1e-3
    )  # 2^6 entries, 20 tokens and the end


def test_the_first_tokens_of_a_file_are_scored_as_a_file_that_ends_there() -> None:
    model, split = random_model(), split_of([30])
    expected = bits_by_definition(model, split.tokens.tolist()[:11])
    assert score(model, split, [Excerpt(0, 11, 33)]).bits == pytest.approx(expected, rel=1e-4)


def test_a_smaller_sample_of_whole_files_is_the_beginning_of_a_larger_one() -> None:
    split = split_of([10] * 30)
    small, large = draw_whole_files(split, 90), draw_whole_files(split, 300)
    assert (len(small.excerpts), len(large.excerpts)) == (3, 10)
    assert large.excerpts[:3] == small.excerpts
    assert sorted(each.file for each in draw_whole_files(split, 10**9).excerpts) == list(range(30))
    assert small.rule == WHOLE_FILES


# Repositories in turn

SPELLINGS = [bytes([byte]) for byte in range(256)] + [b""]  # a token is a byte, the last one ends a text
LIBRARY = "import os\n\n\n" + "\n\n".join(
    f"def f{n}(x):\n    return os.path.join(x, {n})\n" for n in range(99)
)
TABLE = "TABLE = (\n" + "    0x0041, 0x0042, 0x0043, 0x0044,\n" * 600 + ")\n"


def code_split(repositories: dict[str, list[str]]) -> TokenSplit:
    texts = [(number, text.encode()) for number, each in enumerate(repositories.values()) for text in each]
    tokens = [token for _, text in texts for token in (*text, 256)]
    return TokenSplit(
        tokens=np.array(tokens, dtype=np.uint16),
        offsets=np.cumsum([0, *(len(text) + 1 for _, text in texts)]),
        text_bytes=np.array([len(text) for _, text in texts], dtype=np.int64),
        repository=np.array([number for number, _ in texts], dtype=np.int32),
        repositories=list(repositories),
        paths_from=[f"{number}.py" for number in range(len(texts))],
    )


def test_one_repository_of_many_long_tables_does_not_fill_the_sample() -> None:
    small = LIBRARY[:2000].rpartition("\n\n")[0] + "\n"
    tables = [f"import sys\n\n{TABLE}" * 2] * 40
    split = code_split({"tables": tables, **{f"library{n}": [small] for n in range(10)}})
    sample = draw_in_turn(split, 64_000, SPELLINGS)
    assert sample.rule == IN_TURN
    assert sample.repositories == 11
    assert sample.largest_share < 0.3
    counts = [sum(split.repository[each.file] == number for each in sample.excerpts) for number in range(11)]
    assert min(counts) == 1


def test_a_repository_that_has_a_quarter_sits_out() -> None:
    split = code_split({"large": [LIBRARY] * 90, **{f"small{n}": [LIBRARY] * 2 for n in range(9)}})
    sample = draw_in_turn(split, 10**9, SPELLINGS)
    assert 0.2 < sample.largest_share < 0.3
    assert draw_in_turn(split, 70_000, SPELLINGS).excerpts == sample.excerpts[:16]


def test_two_repositories_are_drawn_to_their_end() -> None:
    split = code_split({"one": ["x = 1\n"], "other": ["y = 2\n"] * 9, "empty": [""]})
    sample = draw_in_turn(split, 10**9, SPELLINGS)
    assert (len(sample.excerpts), sample.repositories, sample.largest_share) == (10, 2, 0.9)
    assert sample.record == {
        "rule": IN_TURN,
        "files": 10,
        "repositories": 2,
        "bytes": 60,
        "largest_share": 0.9,
    }


def test_a_long_file_is_cut_after_a_finished_statement_that_its_tokens_spell() -> None:
    text = "import os\n" + LIBRARY * 4
    split = code_split({"a": [text]})
    (excerpt,) = draw_in_turn(split, 64_000, SPELLINGS).excerpts
    assert EXCERPT_BYTES / 2 < excerpt.text_bytes <= EXCERPT_BYTES
    assert excerpt.tokens == excerpt.text_bytes  # a byte each, and no <|endoftext|>, which does not follow
    part, rest = text[: excerpt.text_bytes], text[excerpt.text_bytes :]
    parsed = [ast.dump(node) for code in (part, rest) for node in ast.parse(code).body]
    assert parsed == [ast.dump(node) for node in ast.parse(text).body]


def test_a_token_across_the_cut_is_left_out() -> None:
    text = "import os\n" + LIBRARY * 4
    split = code_split({"a": [text]})
    end = cut_at_statement(text.encode())
    spellings = [*SPELLINGS, text.encode()[end - 1 : end + 1]]
    tokens = [*text.encode()[: end - 1], 257, *text.encode()[end + 1 :], 256]
    split = replace(split, tokens=np.array(tokens, np.uint16), offsets=np.array([0, len(tokens)]))
    assert draw_in_turn(split, 64_000, spellings).excerpts == [Excerpt(0, end - 1, end - 1)]


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        (LIBRARY * 4, "top level"),
        ("@decorator\ndef f():\n    pass\n\n\n" * 900, "top level"),
        ('"""A text\nof lines at column 0\n"""\n' + LIBRARY * 4, "top level"),
        (LIBRARY * 2 + 'TEXT = """\n' + "words\n" * 9000 + '"""\n', "top level"),
        (LIBRARY * 2 + TABLE, "top level"),
        ("import os\n\n\nclass Long:\n" + "    def f(self):\n        return os\n\n" * 900, "a program"),
        (LIBRARY * 2 + "if x:\n" + "    f()\n" * 200 + "else:\n" + "    g()\n" * 900, "top level"),
        ("def f():\n" + "    try:\n        g()\n    except E:\n        h()\n" * 900, "a program"),
        (TABLE, "nothing"),
        ("x" * 9000, "nothing"),
        ("\0" + LIBRARY * 4, "nothing"),
        ("this is\nno Python\n" * 900, "nothing"),
    ],
)
def test_where_a_file_is_cut(code: str, kept: str) -> None:
    end = cut_at_statement(code.encode())
    assert end <= EXCERPT_BYTES
    if kept == "nothing":
        assert end == 0
        return
    ast.parse(code[:end])
    assert end > EXCERPT_BYTES / 3
    if kept == "top level":
        ast.parse(code[end:])


def test_other_texts_than_python_are_measured_on_whole_files() -> None:
    split = code_split({"a": ["no Python at all\n" * 900] * 3})
    assert draw_in_turn(split, 64_000, SPELLINGS) == draw_whole_files(split, 64_000)
    assert draw_in_turn(split, 64_000, None).rule == WHOLE_FILES


def test_nothing_held_out_is_an_empty_sample() -> None:
    sample = draw_in_turn(code_split({}), 64_000, SPELLINGS)
    assert (sample.excerpts, sample.repositories, sample.largest_share) == ([], 0, 0.0)
