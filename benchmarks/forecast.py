"""The points behind the forecast of model/train.py, and the fit that its constants come from.

    python benchmarks/forecast.py --data data.txt --tokenizer tokenizer
    python benchmarks/forecast.py --fit                                    # the points that are there already
    python benchmarks/forecast.py --points 2x128:1M 4x256:3M --threads 1   # layers x width : tokens

Each point is a whole run of `model/train.py --steps` with that shape and the context of its preset. Its
held-out bits per byte do not depend on the speed of the machine, so a shared one will do. The points are kept
in --record, one JSON object a line, and not run twice. Prints each beside what the fit and the present
constants say of it, the largest errors, and the constants for model/training/plan.py.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from journey import PROJECT, HelpFormatter
from run_length import length_options

sys.path.insert(0, str(PROJECT / "model"))
from training.plan import effective_bytes, expected_bits_per_byte, missing_start

POINTS = (
    *("2x128:1M", "2x128:2M", "2x128:5M", "2x192:2M", "2x192:4M", "2x192:8M"),
    *("3x192:4M", "3x192:8M", "4x256:4M", "4x256:12M"),
)
EXPONENTS = np.arange(0.10, 0.61, 0.02)
ENOUGH = 9  # points for five constants


@dataclass(frozen=True)
class Point:
    """One run: its shape, its data and its result."""

    n_layer: int
    n_embd: int
    parameters: int
    tokens: int
    text_bytes: int
    corpus_bytes: int
    bits_per_byte: float
    difficulty: float  # of the held-out sample, relative to whole files of the corpus


def parse_point(text: str) -> tuple[int, int, float]:
    """ "4x256:3M" -> (4, 256, 3e6)."""
    match = re.fullmatch(r"(\d+)x(\d+):([\d.]+)M", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is not LAYERSxWIDTH:TOKENSM, as in 4x256:3M")
    return int(match[1]), int(match[2]), float(match[3]) * 1e6


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents")
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    parser.add_argument(
        "--points", type=parse_point, nargs="+", default=[*map(parse_point, POINTS)], help="runs to make"
    )
    parser.add_argument(
        "--record", type=Path, default=Path("forecast.jsonl"), help="where the points are kept"
    )
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], default="cpu", help="where to compute")
    parser.add_argument("--dtype", default="auto", help="precision of the products")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each run")
    parser.add_argument("--fit", action="store_true", help="make no runs")
    return parser


def read_points(record: Path) -> list[Point]:
    if not record.exists():
        return []
    return [Point(**json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()]


def run_point(options: argparse.Namespace, n_layer: int, n_embd: int, tokens: float) -> Point:
    """Train a model on so many tokens. Raises SystemExit where train.py does not succeed."""
    output = options.record.with_name(f"forecast-{n_layer}x{n_embd}-{tokens / 1e6:g}M")
    context = context_of(n_layer, n_embd)
    shape = ["--n-layer", str(n_layer), "--n-embd", str(n_embd), "--block-size", str(context)]
    files = ["--data", str(options.data), "--tokenizer", str(options.tokenizer), "--output", str(output)]
    machine = ["--threads", str(options.threads), "--device", options.device, "--dtype", options.dtype]
    length = length_options(tokens, context)
    command = [sys.executable, str(PROJECT / "model/train.py"), *files, *shape, *length, *machine]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    provenance = json.loads((output / "provenance.json").read_text(encoding="utf-8"))
    plan, figures = provenance["plan"], provenance["figures"]
    return Point(
        n_layer,
        n_embd,
        plan["parameters"],
        figures["tokens"],
        figures["text_bytes"],
        round(figures["text_bytes"] / figures["epochs"]),
        figures["held_out_bits_per_byte"],
        figures["held_out_difficulty"],
    )


def context_of(n_layer: int, n_embd: int) -> int:
    """The context of the preset with this shape; 256 if there is none."""
    from training.plan import PRESETS

    return next((context for *shape, context in PRESETS if shape[::2] == [n_layer, n_embd]), 256)


def fit(points: list[Point]) -> tuple[float, float, float, float, float]:
    """(E, A, alpha, B, beta) of E + A / N^alpha + B / D^beta with the least squared relative error.

    No term is negative, and the excess of short runs is taken from the present constants. The exponents are
    those of Hoffmann et al. 2022 (section 3.3, approach 3), unless the points suffice for a grid.
    """
    exponents = [(0.34, 0.28)]
    if len(points) >= ENOUGH:
        exponents = list(itertools.product(EXPONENTS, EXPONENTS))
    N = np.array([point.parameters for point in points], dtype=float)
    D = np.array([effective_bytes(point.text_bytes, point.corpus_bytes) for point in points])
    target = np.array([point.bits_per_byte / point.difficulty for point in points])
    begun = 1 - np.array([missing_start(point.text_bytes) for point in points]) / target
    best, constants = np.inf, (0.0, 0.0, 0.0, 0.0, 0.0)
    for alpha, beta in exponents:
        terms = np.stack([np.ones_like(N), N**-alpha, D**-beta], axis=1) / target[:, None]
        for used in ([0, 1, 2], [0, 2], [1, 2], [2]):  # without the terms that would be negative
            found, *_ = np.linalg.lstsq(terms[:, used], begun, rcond=None)
            error = float(np.square(terms[:, used] @ found - begun).sum())
            if found.min() >= 0 and error < best - 1e-12:
                weights = np.zeros(3)
                weights[used] = found
                best, constants = error, (weights[0], weights[1], alpha, weights[2], beta)
    E, A, alpha, B, beta = map(float, constants)
    return E, A, alpha, B, beta


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    points = read_points(options.record)
    for n_layer, n_embd, tokens in [] if options.fit else options.points:
        known = [point for point in points if (point.n_layer, point.n_embd) == (n_layer, n_embd)]
        if any(abs(point.tokens / tokens - 1) < 0.1 for point in known):
            continue
        points.append(run_point(options, n_layer, n_embd, tokens))
        with options.record.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(points[-1].__dict__) + "\n")
    if len(points) < 4:
        raise SystemExit(f"{len(points)} points are too few for three constants")
    E, A, alpha, B, beta = fit(points)
    print(
        f"{'shape':>8}{'parameters':>12}{'tokens':>12}{'measured':>10}{'fitted':>8}{'error':>8}{'now':>8}{'error':>8}"
    )
    worst = worst_now = 0.0
    for point in points:
        D = effective_bytes(point.text_bytes, point.corpus_bytes)
        learnt = E + A * point.parameters**-alpha + B * D**-beta
        fitted = point.difficulty * (learnt + missing_start(point.text_bytes))
        now = expected_bits_per_byte(point.parameters, point.text_bytes, point.corpus_bytes, point.difficulty)
        error, error_now = fitted / point.bits_per_byte - 1, now / point.bits_per_byte - 1
        worst, worst_now = max(worst, abs(error)), max(worst_now, abs(error_now))
        figures = f"{fitted:>8.3f}{error:>+8.1%}{now:>8.3f}{error_now:>+8.1%}"
        shape = f"{point.n_layer}x{point.n_embd}"
        print(f"{shape:>8}{point.parameters:>12,}{point.tokens:>12,}{point.bits_per_byte:>10.3f}{figures}")
    print(f"largest error {worst:.1%}, with the present constants {worst_now:.1%}")
    print(f"E, A, ALPHA, B, BETA = {E:.4g}, {A:.4g}, {alpha:.2f}, {B:.4g}, {beta:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
