"""Does everything that the code generator prints compile, and what does that cost? Beside --no-valid.

    python benchmarks/always_valid.py --model GPyT --data data.txt --samples 1000
    python benchmarks/always_valid.py --random-weights --samples 300

Half of the prompts are empty, half are held-out files cut at random places. Prints for each way of writing:
texts that do not compile; the share of the written tokens that stand in them up to the first line that no
valid program could contain; passes through the model for each such token; texts that ended before their
number of tokens was reached though no end of text was written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from journey import PROJECT

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from completion import Completer
    from continuation import Continuation

MOST_BYTES = 40_000  # of a prompt: only its last 256 or 1,024 tokens are read anyway


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The docstring as written, each option with its default."""


@dataclasses.dataclass
class Tally:
    """Sums over all texts of one way of writing."""

    texts: int = 0
    invalid: int = 0
    early: int = 0
    tokens: int = 0
    kept: float = 0.0
    passes: int = 0
    seconds: float = 0.0

    def row(self, name: str) -> str:
        kept = self.kept / max(1, self.tokens)
        cost = self.passes / max(1.0, self.kept)
        rate = self.kept / self.seconds
        return (
            f"{name:<12}{self.texts:>7}{self.invalid:>9}{kept:>9.1%}{cost:>15.2f}{self.early:>8}{rate:>14.0f}"
        )


HEADER = f"{'':<12}{'texts':>7}{'invalid':>9}{'kept':>9}{'passes/token':>15}{'early':>8}{'kept/s':>14}"


def held_out_files(data: Path) -> list[str]:
    """The whole held-out files of data.txt, their pieces joined."""
    files: dict[tuple[str, str], str] = {}
    with data.open(encoding="utf-8") as lines:
        for line in lines:
            document = json.loads(line)
            if document["split"] == "held_out":
                key = document["repo"], document["path"]
                files[key] = files.get(key, "") + document["text"]
    return [text for text in files.values() if len(text) < MOST_BYTES]


def prompts(files: list[str], count: int, seed: int) -> Iterator[str]:
    """Every other one empty, every other one a held-out file up to a random place."""
    chance = random.Random(seed)
    for number in range(count):
        text = chance.choice(files)
        yield text[: chance.randrange(len(text))] if number % 2 else ""


def load(folder: Path, random_weights: bool) -> Completer:
    import numpy as np
    from completion import Completer
    from inference import GPT2
    from pretrained import load_weights, read_pretrained

    pretrained = read_pretrained(folder)
    weights = load_weights(pretrained)
    if random_weights:
        chance = np.random.default_rng(0)
        weights = {
            name: chance.standard_normal(weight.shape, np.float32) * np.float32(0.3)
            if weight.ndim == 2
            else weight
            for name, weight in weights.items()
        }
    return Completer(GPT2(pretrained.config, weights), pretrained.vocabulary)


def share_before_first_error(prompt: str, sample: Continuation) -> float:
    """How much of a text, in characters, stands before the first line that is not Python."""
    from valid_code import begin, judge

    standing = begin(prompt)
    text = prompt + sample.text
    place = text.find("\n", len(prompt))
    while place >= 0:
        judged = judge(text[: place + 1], standing)
        if judged is None:
            break
        standing = judged
        place = text.find("\n", place + 1)
    return (standing.end - len(prompt)) / max(1, len(sample.text)) if place >= 0 else 1.0


def write_one(completer: Completer, prompt: str, tokens: int, seed: int, valid: bool, tally: Tally) -> None:
    from decoding_settings import Decoding
    from python_parser import is_complete

    decoding = Decoding(max_new_tokens=tokens, seed=seed, valid=valid)
    started = time.perf_counter()
    [sample] = samples = completer.start(prompt, decoding)
    for _ in completer.write(samples, decoding):
        pass
    tally.seconds += time.perf_counter() - started
    tally.texts += 1
    tally.passes += sample.passes
    tally.early += sample.tokens < tokens and not sample.ended
    if not is_complete(prompt + sample.text + "\n", 0):
        tally.invalid += 1
        if valid:
            print(f"INVALID: {prompt[-200:]!r} + {sample.text!r}", flush=True)
    if valid:
        tally.tokens += max(sample.tokens, sample.passes)
        tally.kept += sample.tokens
    else:
        tally.tokens += sample.tokens
        tally.kept += sample.tokens * share_before_first_error(prompt, sample)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--model", type=Path, default="GPyT", help="the model's folder")
    parser.add_argument("--data", type=Path, default="data.txt", help="where the held-out files are")
    parser.add_argument("--samples", type=int, default=1000, help="texts written each way")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each")
    parser.add_argument("--seed", type=int, default=0, help="of prompts and texts")
    parser.add_argument(
        "--random-weights", action="store_true", help="of the model's shape instead of its own"
    )
    arguments = parser.parse_args(argv)
    completer = load(arguments.model, arguments.random_weights)
    files = held_out_files(arguments.data)
    tallies = {"valid": Tally(), "--no-valid": Tally()}
    for number, prompt in enumerate(prompts(files, arguments.samples, arguments.seed)):
        for name, tally in tallies.items():
            seed = arguments.seed + number
            write_one(completer, prompt, arguments.tokens, seed, name == "valid", tally)
    print(HEADER)
    for name, tally in tallies.items():
        print(tally.row(name))
    return int(tallies["valid"].invalid > 0)


if __name__ == "__main__":
    raise SystemExit(main())
