"""benchmarks/gpu_budget.py: its arithmetic, what it starts from, and what the pages say of it."""

from __future__ import annotations

import re

import pytest

from gpt2.config import GPT2Config
from gpu_budget import (
    BYTES_PER_TOKEN,
    CODEPARROT,
    DOLLARS_AN_HOUR,
    PREPARED,
    TARGETS,
    TINY_STARCODER,
    TOKENS_PER_SECOND,
    Budget,
    equal_operations,
    main,
    table,
)
from project import PROJECT


def test_a_budget_is_what_one_computes_by_hand() -> None:
    """9 billion tokens at 100,000 a second are 90,000 s = 25 h, at 2 dollars 50."""
    budget = Budget(9e9, 18.4185e9, tokens_per_second=100_000, dollars_an_hour=2.0)
    assert budget.training_hours == pytest.approx(25)
    assert budget.dollars == pytest.approx(50)
    # 9e9 tokens of 4.093 bytes are 36.837 GB, twice 18.4185
    assert budget.passes == pytest.approx(2)
    # 159 GB / 54 M = 2,944.4 bytes a repository, one of Python 8 times that, 20,000 of those: 471.1 MB
    assert budget.days_of_github == pytest.approx(18_418.5 / 471.111, rel=1e-4)
    assert budget.collecting_hours == pytest.approx(58.64, abs=0.01)
    # 18.4185 GB are 5 / 18 of 66.307 GB; 16 cores read 39.8 / 11.9 = 3.3445 MB/s each: 1,239 s
    assert budget.preparing_hours == pytest.approx(1239 / 3600, rel=1e-3)


def test_the_published_models_read_what_their_cards_say() -> None:
    assert CODEPARROT.tokens == pytest.approx(29e9, rel=0.02)  # "roughly 29 billion tokens"
    assert TINY_STARCODER.tokens == 100e9
    assert Budget(TINY_STARCODER.tokens, TINY_STARCODER.unique_bytes).passes == pytest.approx(6)
    # 164 / 124.4 of 100 billion
    assert equal_operations(TINY_STARCODER) == pytest.approx(131.83e9, rel=1e-4)
    # CodeParrot-small is GPT-2 124M's shape with a vocabulary of 32,768
    assert GPT2Config(12, 12, 768, 1024, 32_768).parameters == pytest.approx(CODEPARROT.parameters, rel=0.01)


def test_what_is_called_measured_stands_in_the_log() -> None:
    log = (PROJECT / "benchmarks/LOG.md").read_text("utf-8")
    assert "**415,000 tokens/s, 78.9 ms a step, 12.1 GB; 44.9 % of the measured matrix rate" in log
    assert TOKENS_PER_SECOND.value == 415_000 == pytest.approx(32 * 1024 / 0.0789, rel=0.001)
    flops = GPT2Config(12, 12, 768, 1024, 50_304).flops_per_token
    assert TOKENS_PER_SECOND.value * flops / 790.3e12 == pytest.approx(0.449, abs=0.0005)
    assert f"32,768: 3.852, {BYTES_PER_TOKEN.value} (1.063)" in log
    assert "39.8 MB of the standard library and packages" in log
    assert "the whole stage in one process 11.9 (0.82x)" in log
    assert PREPARED.value == pytest.approx(3.3445e6, rel=1e-4)


def test_the_page_has_the_table_that_the_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = table(TOKENS_PER_SECOND.value, DOLLARS_AN_HOUR.value)
    assert printed[: len(lines)] == lines and len(lines) == 2 + len(TARGETS) + 1
    page = (PROJECT / "docs/training.md").read_text("utf-8")
    assert "\n".join(lines) in page
    assert f"${DOLLARS_AN_HOUR.value}" in page


def test_every_number_is_printed_with_its_kind_and_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tokens-per-second", "830000", "--dollars", "1"])
    printed = capsys.readouterr().out
    assert "| 9.9 h | 10 |" in printed, "twice the speed, a quarter of the price"
    given = re.findall(
        r"^\* (measured|published|assumed|estimated): (\w+) = .* \(.+\)$", printed, re.MULTILINE
    )
    assert {"TOKENS_PER_SECOND", "PYTHON_SHARE", "KEPT"} <= {name for _, name in given}
    assert len(given) == 11
