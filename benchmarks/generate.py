"""How fast the code generator writes beside transformers, CTranslate2 and llama.cpp, in one table.

    python benchmarks/generate.py --model GPyT
    python benchmarks/generate.py --widen GPyT --tokens 100     # the same model in GPT-2 124M's shape
    python benchmarks/generate.py --model GPyT --contenders transformers GPyT --rounds 15
    python benchmarks/generate.py --model GPyT --data data.txt --positions 10000      # and what it costs

Each contender is a process of its own and writes greedy tokens after the same prompts, in turn, at equal
threads: transformers' generate in float32; our forward pass alone in every precision that there is; the
whole generator without the judge and with it; CTranslate2 and, if it is installed, llama-cpp-python on
what model/export.py writes. A row for each, the median of the rounds: tokens per CPU-second and per second
on the clock, each with its ratio to transformers in the same round; how many of the tokens are, from the
first on, those of transformers; milliseconds from the ids of the prompt to the first token, for the whole
generator from its text; the peak of the process's memory. The whole generator counts the tokens that stay
in the text and ends where the model ends it; under the table stands how long its first text takes, which
with the judge on is a line. With --data: what the precisions change of the model's choices, as
benchmarks/precisions.py prints it. benchmarks/startup.py measures the start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import takewhile
from pathlib import Path
from typing import Any

from contenders import EXPORTS, contenders
from journey import PROJECT, HelpFormatter
from precisions import compare_precisions
from widening import save_widened

sys.path.insert(0, str(PROJECT / "model"))

PROMPTS = (
    "import os\n\n\ndef main(argv):\n",
    "class Stack:\n    def __init__(self):\n",
    "from __future__ import annotations\n\nimport json\n",
    "def read_lines(path, encoding='utf-8'):\n    with open(path",
    "try:\n    import numpy as np\nexcept ImportError:\n",
)
BASE = "transformers"
Answers = list[dict[str, Any]]


class Worker:
    """A contender's process."""

    def __init__(self, name: str, folder: Path, exports: Path, threads: int) -> None:
        self.name = name
        script = [sys.executable, str(PROJECT / "benchmarks" / "contenders.py"), name]
        options = ["--model", str(folder), "--exports", str(exports), "--threads", str(threads)]
        limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(limits, str(threads))}
        self.process = subprocess.Popen(
            [*script, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, prompt: str, tokens: int) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        print(json.dumps({"prompt": prompt, "tokens": tokens}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a contender ended: {self.name}")
        content: dict[str, Any] = json.loads(answer)
        return content

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def write_exports(folder: Path, exports: Path, names: list[str]) -> list[str]:
    """Export the model for those of the contenders that need it; the names of those that can take part."""
    able = []
    for name in names:
        if name in EXPORTS:
            export = EXPORTS[name]
            options = ["--format", export.format, "--dtype", export.dtype, "--output", str(exports / name)]
            command = [sys.executable, str(PROJECT / "model" / "export.py"), "--model", str(folder), *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name} does not take part: {done.stderr.strip()}")
                continue
        able.append(name)
    return able


def take_turns(workers: dict[str, Worker], tokens: int, rounds: int) -> dict[str, Answers]:
    """Every contender's answer in every round; each round has the next prompt, after one to warm up."""
    for worker in workers.values():
        worker.ask(PROMPTS[0], 8)
    answers: dict[str, Answers] = {name: [] for name in workers}
    for number in range(rounds):
        for name, worker in workers.items():
            answers[name].append(worker.ask(PROMPTS[number % len(PROMPTS)], tokens))
    return answers


def median_rate(answers: Answers, base: Answers, clock: str) -> tuple[float, float]:
    """Tokens that stay per second, and the same as a multiple of the base's in each round; medians."""
    rates, of_base = ([answer["kept"] / answer[clock] for answer in those] for those in (answers, base))
    return statistics.median(rates), statistics.median(
        rate / other for rate, other in zip(rates, of_base, strict=True)
    )


def equal_tokens(answers: Answers, base: Answers) -> str:
    """The share of the tokens up to the first that is another than the base's; "" for who has no ids."""
    if not any(answer["ids"] for answer in answers):
        return ""
    equal = total = 0
    for answer, other in zip(answers, base, strict=True):
        pairs = list(zip(answer["ids"], other["ids"], strict=False))
        equal += len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        total += len(other["ids"])
    return f"{equal / total:.0%}"


COLUMNS = ("tokens/CPU s", "ratio", "tokens/s", "ratio", "equal", "first ms", "MB")
WIDTHS = (14, 8, 10, 8, 8, 10, 8)
HEADER = f"{'':<24}" + "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True))


def row(name: str, answers: Answers, base: Answers) -> str:
    cpu, cpu_ratio = median_rate(answers, base, "cpu_seconds")
    wall, wall_ratio = median_rate(answers, base, "seconds")
    first = statistics.median(answer["first"] for answer in answers)
    memory = answers[-1]["peak"] / 1e6
    rates = f"{cpu:14.0f}{cpu_ratio:8.2f}{wall:10.0f}{wall_ratio:8.2f}"
    return f"{name:<24}{rates}{equal_tokens(answers, base):>8}{first:10.1f}{memory:8.0f}"


def compare(folder: Path, positions: int, options: argparse.Namespace) -> None:
    """Print the table; positions: those that the model knows."""
    from pretrained.load import read_pretrained

    pretrained = read_pretrained(folder)
    longest = max(len(pretrained.vocabulary.encode(prompt)) for prompt in PROMPTS) + 1
    tokens = min(options.tokens, positions - longest)
    with tempfile.TemporaryDirectory() as scratch:
        exports = Path(scratch)
        chosen = [
            name
            for name in contenders(folder, exports, options.threads)
            if name == BASE or any(name.startswith(beginning) for beginning in options.contenders or [""])
        ]
        workers = {
            name: Worker(name, folder, exports, options.threads)
            for name in write_exports(folder, exports, chosen)
        }
        try:
            answers = take_turns(workers, tokens, options.rounds)
        finally:
            for worker in workers.values():
                worker.end()
    config = pretrained.config
    shape = f"{config.n_layer} x {config.n_embd}, {config.vocab_size:,} entries"
    print(
        f"{pretrained.config.parameters / 1e6:.1f} M parameters ({shape}), {tokens} greedy tokens, "
        f"{options.rounds} rounds, threads: {options.threads}"
    )
    print(HEADER)
    for name, those in answers.items():
        print(row(name, those, answers[BASE]))
    for name, those in answers.items():
        if those[0]["shown"] is not None:
            shown = statistics.median(answer["shown"] for answer in those)
            print(f"{name}: the first text is shown after {shown:.1f} ms")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--model", type=Path, default=Path("GPyT"), help="the model's folder")
    models.add_argument(
        "--widen", type=Path, metavar="FOLDER", help="of this model the same in GPT-2 124M's shape"
    )
    parser.add_argument("--tokens", type=int, default=200, help="tokens that each writes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--contenders", nargs="+", metavar="NAME", help="those whose names begin so (default: all)"
    )
    parser.add_argument("--data", type=Path, help="held-out files to compare the precisions on")
    parser.add_argument("--positions", type=int, default=10_000, help="tokens of these")
    options = parser.parse_args(argv)
    from pretrained.load import read_pretrained

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if options.widen else options.model
        if options.widen:
            positions = save_widened(options.widen, folder)
        else:
            positions = read_pretrained(folder).config.block_size
        compare(folder, positions, options)
        if options.data:
            compare_precisions(folder, options.data, options.positions, positions, options.threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
