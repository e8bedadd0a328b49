"""Baselines on bytes whose cost is known."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

import evaluation.held_out_texts
from data_loading.token_file import TokenSplit
from evaluation.bits_per_byte import IN_TURN, WHOLE_FILES
from evaluation.held_out_texts import (
    FREQUENCIES,
    GUESSING,
    PPMD_ALONE,
    USUAL_BYTES,
    XZ_ALONE,
    measure_baselines,
    open_model,
    ppmd_after,
    sample_limit,
    training_texts,
    xz,
)
from project import STDLIB
from tiny_model import save_tiny_model

CODE = [file.read_bytes()[:8192] for file in sorted((STDLIB / "json").glob("*.py"))]


def test_frequencies_are_the_entropy_of_the_bytes() -> None:
    found = measure_baselines([b"aabb", b"cccc"], iter([]))
    assert found[GUESSING] == [32.0, 32.0]
    assert found[FREQUENCIES] == pytest.approx([8.0, 4.0])  # a and b a quarter each, c a half


def test_the_ladder_goes_down_on_code() -> None:
    other = [file.read_bytes() for file in sorted((STDLIB / "email").glob("*.py"))]
    found = measure_baselines(CODE, iter(other))
    read = ppmd_after(sum(map(len, other)))
    sums = [sum(found[name]) for name in (GUESSING, FREQUENCIES, XZ_ALONE, PPMD_ALONE, read)]
    assert sums == sorted(sums, reverse=True)
    assert 1.5 < sums[3] / sum(map(len, CODE)) < 2.6


def test_what_was_read_before_costs_a_fifth() -> None:
    found = measure_baselines(CODE, iter(CODE))
    assert sum(found[ppmd_after(sum(map(len, CODE)))]) < 0.2 * sum(found[PPMD_ALONE])


def test_its_name_says_how_much_was_read() -> None:
    assert ppmd_after(10_000_000) == "PPMd after 10 MB of training text"
    assert ppmd_after(2_712_345) == "PPMd after 3 MB of training text"
    assert ppmd_after(712_345) == "PPMd after <1 MB of training text"


def test_without_the_package_ppmd_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation.held_out_texts, "has_ppmd", lambda: False)
    assert list(measure_baselines([b"x = 1\n"], iter([]))) == [GUESSING, FREQUENCIES, XZ_ALONE]


def test_the_training_text_is_the_same_each_time_and_no_longer_than_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation.held_out_texts, "READ_BYTES", 25)
    texts = [bytes([65 + number]) * 10 for number in range(6)]
    split = TokenSplit(
        tokens=np.array([byte for text in texts for byte in (*text, 0)], np.uint16),
        offsets=np.arange(0, 67, 11),
        text_bytes=np.full(6, 10),
        repository=np.zeros(6, np.int32),
        repositories=["a"],
        paths_from=["x.py"] * 6,
    )
    spellings = [b"", *(bytes([byte]) for byte in range(1, 256))]
    drawn = list(training_texts(split, spellings))
    assert list(map(len, drawn)) == [10, 10, 5] and len(set(drawn)) == 3
    assert list(training_texts(split, spellings)) == drawn


def test_a_small_dictionary_gives_the_bytes_of_xz_with_a_large_one() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    for text in (*CODE, b"", b"x" * 5000):
        assert xz(text) == lzma.compress(text, lzma.FORMAT_RAW, filters=filters)


def test_train_pys_own_sample_is_taken_where_it_is_little_larger(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path)
    model = open_model(folder, "tiny")
    assert sample_limit(None, model) == USUAL_BYTES
    assert (sample_limit(20, model), sample_limit(0, model)) == (20_000, 1 << 62)
    for size, limit in (
        (270_768, 270_768),
        (320_000, 320_000),
        (90_000, USUAL_BYTES),
        (512_000, USUAL_BYTES),
    ):
        record = {"held_out_sample": {"rule": IN_TURN, "bytes": size}}
        (folder / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
        assert sample_limit(None, model) == limit
        assert sample_limit(20, model) == 20_000
    record = {"held_out_sample": {"rule": WHOLE_FILES, "bytes": 270_768}}
    (folder / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    assert sample_limit(None, model) == USUAL_BYTES
