"""On paper: what GPT-2 124M needs to reach the HumanEval of two published models, on one GPU.

    python benchmarks/gpu_budget.py
    python benchmarks/gpu_budget.py --tokens-per-second 200000 --dollars 2    another card, by train_gpu.py

Prints a table as markdown, and where each number comes from: measured here (benchmarks/LOG.md), published, or
assumed. Nothing is run. That equal tokens give an equal score is an assumption too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from journey import HelpFormatter

GB = 1e9


@dataclass(frozen=True)
class Known:
    """A number with its kind (measured here, published, assumed) and where it stands."""

    value: float
    unit: str
    kind: str
    source: str


TOKENS_PER_SECOND = Known(
    415_000,
    "tokens/s",
    "measured",
    "LOG 11-26: one H100, bfloat16, compiled, 32 rows of 1,024 at 50,304 entries",
)
BYTES_PER_TOKEN = Known(
    4.093,
    "bytes/token",
    "measured",
    "LOG 11-24: cl100k with 32,768 entries, on packages it was not learnt from",
)
PREPARED = Known(
    39.8e6 / 11.9, "bytes per CPU second", "measured", "LOG 11-24: stage 3 whole, 39.8 MB in 11.9 CPU seconds"
)
KEPT = Known(
    50 / 180,
    "",
    "published",
    "CodeParrot kept 50 of 180 GB: https://huggingface.co/datasets/transformersbook/codeparrot",
)
PYTHON_PER_REPOSITORY = Known(
    159 * GB / 54e6,
    "bytes",
    "published",
    "Codex, https://arxiv.org/abs/2107.03374, 3.1: 159 GB kept of 54 M repositories",
)
PYTHON_SHARE = Known(1 / 8, "", "assumed", "of public repositories, those that are mostly Python")
REPOSITORIES_A_DAY = Known(20_000, "", "assumed", "docs/collecting.md: new Python repositories of a day")
HOURS_TO_COLLECT_A_DAY = Known(1.5, "h", "estimated", "docs/collecting.md: eight clones at once")
CORES = Known(16, "", "assumed", "beside the GPU, for stage 3, each as fast as one alone")
DOLLARS_AN_HOUR = Known(
    3.99,
    "$",
    "published",
    "one H100 SXM on demand at https://www.runpod.io/pricing,"
    " as copied on 2026-11-09 by https://github.com/datareceipts/data-receipts",
)
PARAMETERS = Known(124.4e6, "", "published", "GPT-2 124M")


@dataclass(frozen=True)
class Target:
    """A published model: its HumanEval (pass@1, pass@10, pass@100 in percent), what it read, its data."""

    name: str
    parameters: float
    human_eval: str
    tokens: float
    unique_bytes: float  # of Python, after cleaning
    source: str


CODEPARROT = Target(
    "CodeParrot-small",
    110e6,
    "3.80 / 6.57 / 12.78",
    150_000 * 192 * 1024,  # steps, rows, context
    50 * GB,
    "https://huggingface.co/codeparrot/codeparrot-small, https://huggingface.co/datasets/codeparrot/codeparrot-clean",
)
TINY_STARCODER = Target(
    "tiny_starcoder_py",
    164e6,
    "7.84 / - / -",
    100e9,
    100e9 / 6 * BYTES_PER_TOKEN.value,  # "~6 epochs which amounts to 100B tokens"
    "https://huggingface.co/bigcode/tiny_starcoder_py",
)
TARGETS = (CODEPARROT, TINY_STARCODER)


@dataclass(frozen=True)
class Budget:
    """What a run of so many tokens on so many bytes of Python takes."""

    tokens: float
    unique_bytes: float
    tokens_per_second: float = TOKENS_PER_SECOND.value
    dollars_an_hour: float = DOLLARS_AN_HOUR.value

    @property
    def passes(self) -> float:
        """How often each file is read."""
        return self.tokens * BYTES_PER_TOKEN.value / self.unique_bytes

    @property
    def days_of_github(self) -> float:
        """Days of new repositories that hold so much Python after cleaning."""
        per_repository = PYTHON_PER_REPOSITORY.value / PYTHON_SHARE.value
        return self.unique_bytes / (REPOSITORIES_A_DAY.value * per_repository)

    @property
    def collecting_hours(self) -> float:
        return self.days_of_github * HOURS_TO_COLLECT_A_DAY.value

    @property
    def preparing_hours(self) -> float:
        """Stage 3 on all cores, of everything that has to be read to keep so much."""
        return self.unique_bytes / KEPT.value / PREPARED.value / CORES.value / 3600

    @property
    def training_hours(self) -> float:
        return self.tokens / self.tokens_per_second / 3600

    @property
    def dollars(self) -> float:
        """Of training alone."""
        return self.training_hours * self.dollars_an_hour


def equal_operations(target: Target) -> float:
    """Tokens for which GPT-2 124M takes as many operations as the larger model took."""
    return target.tokens * target.parameters / PARAMETERS.value


COLUMNS = (
    "HumanEval of", "pass@1 / 10 / 100, %", "tokens", "Python, clean", "passes", "days of GitHub",
    "collecting", "stage 3", "training", "dollars",
)  # fmt: skip


def row(target: Target, note: str, budget: Budget) -> str:
    cells = (
        f"{target.name}, {note}",
        target.human_eval,
        f"{budget.tokens / 1e9:.1f} B",
        f"{budget.unique_bytes / GB:.0f} GB",
        f"{budget.passes:.1f}",
        f"{budget.days_of_github:.0f}",
        f"{budget.collecting_hours:.0f} h",
        f"{budget.preparing_hours:.1f} h",
        f"{budget.training_hours:.1f} h",
        f"{budget.dollars:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def table(tokens_per_second: float, dollars_an_hour: float) -> list[str]:
    """The lines of the table."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for target in TARGETS:
        settings = target.unique_bytes, tokens_per_second, dollars_an_hour
        lines.append(row(target, "equal tokens", Budget(target.tokens, *settings)))
        if target.parameters > PARAMETERS.value:
            lines.append(row(target, "equal operations", Budget(equal_operations(target), *settings)))
    return lines


def in_figures(known: Known) -> str:
    """415,000 tokens/s; 0.2778"""
    digits = f"{known.value:,.0f}" if known.value >= 1000 else f"{known.value:.4g}"
    return f"{digits} {known.unit}".rstrip()


def sources(known: Sequence[tuple[str, Known]]) -> list[str]:
    """A line for each number: its kind, value and source."""
    lines = [f"* {k.kind}: {name} = {in_figures(k)} ({k.source})" for name, k in known]
    return [*lines, *(f"* published: {target.name} ({target.source})" for target in TARGETS)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument(
        "--tokens-per-second", type=float, default=TOKENS_PER_SECOND.value, help="of the card"
    )
    parser.add_argument("--dollars", type=float, default=DOLLARS_AN_HOUR.value, help="an hour of the card")
    options = parser.parse_args(argv)
    known = [(name, value) for name, value in globals().items() if isinstance(value, Known)]
    print("\n".join([*table(options.tokens_per_second, options.dollars), "", *sources(known)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
