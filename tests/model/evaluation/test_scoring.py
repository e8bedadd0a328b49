"""The pass agrees with the held-out score and with transformers; its figures, with counting by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.bits_per_byte import score, whole_file
from evaluation.scoring import (
    SampledText,
    Spellings,
    TokenScores,
    calibration,
    calibration_error,
    count,
    read_closely,
    read_sample,
)
from evaluation.token_classes import CLASSES, label
from gpt2.config import GPT2Config
from gpt2.network import GPT2
from numbered_documents import split_of
from pretrained.load import load_tensors, read_pretrained
from project import STDLIB
from tiny_model import save_tiny_model

torch.set_num_threads(1)  # at these sizes a second thread only waits

SHAPE = GPT2Config(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=1024)
ONES = np.ones(SHAPE.vocab_size, np.int64)


def random_model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(SHAPE)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def tokens_of(length: int, seed: int) -> np.ndarray:
    return np.append(np.random.default_rng(seed).integers(5, SHAPE.vocab_size, length), 0)


def test_the_sum_of_the_bits_is_the_held_out_score() -> None:
    model, split = random_model(), split_of([3, 30, 8, 17])
    excerpts = [whole_file(split, file) for file in range(4)]
    texts = [np.asarray(split.tokens[split.offsets[n] : split.offsets[n + 1]], np.int64) for n in range(4)]
    scores, _ = read_sample(model, texts, 0, ONES)
    assert [len(each.bits) for each in scores] == [3, 30, 8, 17]
    expected = score(model, split, excerpts).bits
    assert sum(each.bits.sum() for each in scores) == pytest.approx(expected, rel=1e-6)


def test_every_score_is_that_of_transformers(tmp_path: Path) -> None:
    """Bits, first choice, rank and probability of each token of a text that is longer than the context."""
    from transformers import GPT2LMHeadModel

    folder = save_tiny_model(tmp_path)
    pretrained = read_pretrained(folder)
    model = GPT2(pretrained.config)
    weights = load_tensors(pretrained.weight_files, pretrained.config, torch.device("cpu"), torch.float32)
    model.load_state_dict({f"transformer.{name}": weight for name, weight in weights.items()})
    tokens = np.array(pretrained.vocabulary.encode((STDLIB / "json/tool.py").read_text("utf-8"))[:150])
    [found], _ = read_sample(model, [tokens], 0, np.ones(512, np.int64))
    reference = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    sequence, block_size = [0, *tokens.tolist()], pretrained.config.block_size
    for target in range(1, len(sequence)):
        end = min(len(sequence) - 1, max(block_size, math.ceil(target / 32) * 32))
        start = max(0, end - block_size)
        with torch.no_grad():
            logits = reference(torch.tensor([sequence[start:target]])).logits[0, -1].double()
        logarithms = torch.log_softmax(logits, 0)
        place, right = target - 1, sequence[target]
        assert found.bits[place] == pytest.approx(-float(logarithms[right]) / math.log(2), abs=1e-4)
        assert found.choice[place] == int(logits.argmax())
        assert found.rank[place] == int((logits > logits[right]).sum())
        assert found.confidence[place] == pytest.approx(float(logarithms.exp().max()), abs=1e-4)


def test_the_curve_counts_every_context_of_windows_within_files() -> None:
    """All targets of one window in eight; windows at the beginning of a file only if there are no others."""
    model = random_model()
    _, curve = read_sample(model, [tokens_of(39, 1)], 0, ONES)
    assert [(step["from"], step["to"], step["bytes"]) for step in curve] == [(1, 8, 8)]  # the first of eight
    _, curve = read_sample(model, [tokens_of(4, 2)], 0, ONES)
    assert [step["bytes"] for step in curve] == [5]
    [scores], _ = read_sample(model, [tokens_of(4, 2)], 0, ONES)
    assert curve[0]["bits"] == pytest.approx(scores.bits.sum())


def test_a_file_read_closely_has_the_same_bits_and_choices() -> None:
    model, tokens = random_model(), tokens_of(30, 3)
    [scores], _ = read_sample(model, [tokens], 0, ONES)
    bits, choices, probabilities = read_closely(model, tokens, 0)
    assert bits == pytest.approx(scores.bits, abs=1e-4)
    assert (choices[:, 0] == scores.choice).all()
    assert probabilities[:, 0] == pytest.approx(scores.confidence, abs=1e-5)


# Figures counted by hand: a vocabulary of bytes, and some tokens of several

SPELLINGS = Spellings(
    [*(bytes([byte]) for byte in range(256)), b"", b" = ", b"):\n", b"\n\n", b"):\n\n", b"ab"]
)
END = 256


def read_by(text: bytes, wrong: dict[int, int], tokens: list[int] | None = None, whole: bool = True
            ) -> dict[str, float]:  # fmt: skip
    """The sums of a text whose every token is a first choice, but those at these places: the token chosen."""
    ids = np.array([*(tokens or text), *([END] if whole else [])], np.int64)
    choice = ids.copy()
    for place, chosen in wrong.items():
        choice[place] = chosen
    ranks = np.where(choice == ids, 0, 7)
    scores = TokenScores(np.ones(len(ids)), choice, ranks, np.full(len(ids), 0.75))
    sums, _ = count(SampledText("r", "p", text, ids, whole), scores, SPELLINGS, label(text))
    return sums


def test_a_text_without_a_mistake_is_right_throughout() -> None:
    text = b"if a:\n    b = 1\n"
    sums = read_by(text, {})
    assert sums["bytes"] == sums["first_bytes"] == 16
    assert sums["bits"] == sums["tokens"] == sums["first"] == sums["five"] == 17
    assert sums["starts"] == sums["rests_right"] == 7  # i f a : b = 1
    assert sums["run_bytes"] == sum(16 - place for place in (0, 1, 3, 4, 10, 12, 14))
    assert (sums["lines"], sums["lines_right"], sums["names"], sums["names_right"]) == (2, 2, 2, 2)


def test_a_mistake_spoils_the_line_before_it_and_not_the_line_after() -> None:
    text = b"if a:\n    b = 1\n"
    sums = read_by(text, {3: ord("z")})
    assert (sums["first"], sums["five"], sums["first_bytes"]) == (16, 16, 15)
    assert (sums["rests_right"], sums["lines_right"]) == (4, 1)  # : and the second line
    assert sums["names_right"] == 1
    assert sums["run_bytes"] == 3 + 2 + 0 + sum(16 - place for place in (4, 10, 12, 14))


def test_a_line_is_right_only_if_a_line_end_was_to_follow() -> None:
    assert read_by(b"ab\n", {2: ord("c")})["rests_right"] == 0
    assert read_by(b"ab\n", {2: 259})["rests_right"] == 2  # two line ends: the line is as it should be
    assert read_by(b"f(a):\n", {3: 260}, [102, 40, 97, 258])["rests_right"] == 4
    assert read_by(b"f(a):\n", {3: ord(")")}, [102, 40, 97, 258])["rests_right"] == 0


def test_the_end_of_a_file_ends_its_last_line() -> None:
    assert read_by(b"ab", {})["rests_right"] == 2
    assert read_by(b"ab", {2: ord("\n")})["rests_right"] == 2
    assert read_by(b"ab", {2: ord("c")})["rests_right"] == 0
    assert read_by(b"ab", {}, whole=False)["starts"] == 0, "nobody knows how the line goes on"


def test_of_a_token_across_the_cut_only_its_bytes_before_it_count() -> None:
    sums = read_by(b"x = ab\ny = a", {}, [120, 257, 261, 10, 121, 257, 261], whole=False)
    assert sums["bytes"] == sums["first_bytes"] == 12
    assert sums["bits"] == pytest.approx(6.5)


def test_the_bits_of_the_classes_add_up_to_all_of_them() -> None:
    random, text = np.random.default_rng(0), (STDLIB / "json/decoder.py").read_bytes()
    ids = np.array([*text, END], np.int64)
    scores = TokenScores(random.exponential(2, len(ids)), ids, ids * 0, np.ones(len(ids)))
    sums, by_class = count(SampledText("r", "p", text, ids, True), scores, SPELLINGS, label(text))
    assert by_class.sum() == pytest.approx(sums["bits"], rel=1e-9)
    assert by_class[CLASSES.index("end of file")] == scores.bits[-1]
    assert by_class[CLASSES.index("keyword")] > 0


def test_a_model_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    text = SampledText("r", "p", b"a" * 8, np.array([97] * 8), False)
    choice = np.array([97, 97, 97, 98] * 2)

    def error(confidence: float) -> float:
        scores = TokenScores(np.ones(8), choice, np.zeros(8, np.int64), np.full(8, confidence))
        return calibration_error(calibration([text], [scores]))

    assert error(0.75) == pytest.approx(0)
    assert error(0.95) == pytest.approx(0.2)
    assert error(1.0) == pytest.approx(0.25)
