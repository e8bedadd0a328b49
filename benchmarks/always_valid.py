"""Does everything that the code generator prints compile, and what does that cost? Beside --no-valid.

    python benchmarks/always_valid.py --model GPyT --data data.txt --samples 1000
    python benchmarks/always_valid.py --random-weights --samples 300

Half of the prompts are empty, half are held-out files cut at random places. The columns, with the judge
and without it:

    invalid       texts that do not compile
    kept          tokens in the finished texts, of all that were written (also those refused or taken back)
    of passes     the same, of all passes through the model
    passes/token  passes for each token that is kept
    early         texts that are too short although the model did not end them

Without the judge, a token counts as kept if it stands before the first line that is not Python. Then it
prints why tokens were lost. With --log each text is a line of JSON; an interrupted run continues after them.
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
from typing import TYPE_CHECKING, Any

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from generation.completer import Completer
    from generation.sample import Sample

MOST_BYTES = 40_000  # of a prompt: only its last 256 or 1,024 tokens are read anyway


@dataclasses.dataclass
class Tally:
    """Sums over all texts of one way of writing."""

    texts: int = 0
    invalid: int = 0
    early: int = 0
    written: int = 0
    kept: float = 0.0
    passes: int = 0
    seconds: float = 0.0  # of the processor
    lost: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, text: dict[str, Any]) -> None:
        """Count one text, as write_one describes it."""
        self.texts += 1
        for name in ("invalid", "early", "written", "kept", "passes", "seconds"):
            setattr(self, name, getattr(self, name) + text[name])
        for why, tokens in text["lost"].items():
            self.lost[why] = self.lost.get(why, 0) + tokens

    def row(self, name: str) -> str:
        kept = self.kept / max(1, self.written)
        of_passes = min(1.0, self.kept / max(1, self.passes))
        cost = self.passes / max(1.0, self.kept)
        rate = self.kept / max(1e-9, self.seconds)
        return (
            f"{name:<12}{self.texts:>7}{self.invalid:>9}{kept:>9.1%}{of_passes:>12.1%}"
            f"{cost:>15.2f}{self.early:>8}{rate:>14.0f}"
        )


HEADER = (
    f"{'':<12}{'texts':>7}{'invalid':>9}{'kept':>9}{'of passes':>12}"
    f"{'passes/token':>15}{'early':>8}{'kept/CPU s':>14}"
)


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
    rng = random.Random(seed)
    for number in range(count):
        text = rng.choice(files)
        yield text[: rng.randrange(len(text))] if number % 2 else ""


def load(folder: Path, random_weights: bool) -> Completer:
    """As code_generator.py loads it, or its shape with other weights."""
    import numpy as np

    from generation.completer import Completer, load_completer
    from inference.cpu_engine import CpuEngine
    from pretrained.load import load_weights, read_pretrained

    pretrained = read_pretrained(folder)
    if not random_weights:
        return load_completer(pretrained, "cpu")
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal(weight.shape, np.float32) * np.float32(0.3) if weight.ndim == 2 else weight
        for name, weight in load_weights(pretrained).items()
    }
    return Completer(CpuEngine(pretrained.config, weights), pretrained.vocabulary)


def share_before_first_error(prompt: str, sample: Sample) -> float:
    """The share of a text, in characters, before the first line that is not Python."""
    from python_syntax.judge import accept_line, accept_prompt

    accepted = accept_prompt(prompt)
    text = prompt + sample.text
    place = text.find("\n", len(prompt))
    while place >= 0:
        judged = accept_line(text[: place + 1], accepted)
        if judged is None:
            break
        accepted = judged
        place = text.find("\n", place + 1)
    return (accepted.end - len(prompt)) / max(1, len(sample.text)) if place >= 0 else 1.0


def write_one(completer: Completer, prompt: str, tokens: int, seed: int, valid: bool) -> dict[str, Any]:
    """What became of one text, for a Tally and a line of the log."""
    from generation.sample import CUT_OFF
    from inference.decoding import Decoding
    from python_syntax.compiler import is_complete

    decoding = Decoding(max_new_tokens=tokens, seed=seed, valid=valid)
    started = time.process_time()
    [sample] = samples = completer.start(prompt, decoding)
    for _ in completer.write(samples, decoding):
        pass
    seconds = time.process_time() - started
    lost = {reason: count for reason, count in sample.rejected_tokens.items() if count}
    cut = sample.rejected_tokens[CUT_OFF]
    kept: float = sample.tokens - cut
    if not valid:
        kept *= share_before_first_error(prompt, sample)
    return {
        "seed": seed,
        "valid": valid,
        "invalid": int(not is_complete(prompt + sample.text + "\n", 0)),
        "early": int(sample.tokens < tokens and not sample.ended),
        "written": sample.tokens - cut + sum(lost.values()),
        "kept": kept,
        "passes": sample.window.passes,
        "seconds": round(seconds, 4),
        "lost": lost,
        "text": sample.text,
    }


def logged(log: Path | None) -> dict[tuple[int, bool], dict[str, Any]]:
    """The texts of an earlier run, by seed and way of writing; an unfinished last line is left out."""
    texts = {}
    if log and log.is_file():
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                text = json.loads(line)
                texts[text["seed"], text["valid"]] = text
    return texts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--model", type=Path, default="GPyT", help="the model's folder")
    parser.add_argument("--data", type=Path, default="data.txt", help="where the held-out files are")
    parser.add_argument("--samples", type=int, default=1000, help="texts written each way")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each")
    parser.add_argument("--seed", type=int, default=0, help="of prompts and texts")
    parser.add_argument(
        "--random-weights", action="store_true", help="use random weights of the model's shape"
    )
    parser.add_argument(
        "--log", type=Path, help="write a line of JSON for each text; an existing log is continued"
    )
    parser.add_argument("--judged-only", action="store_true", help="leave out the texts without the judge")
    arguments = parser.parse_args(argv)
    completer = load(arguments.model, arguments.random_weights)
    files = held_out_files(arguments.data)
    tallies = {"valid": Tally()} if arguments.judged_only else {"valid": Tally(), "--no-valid": Tally()}
    known = logged(arguments.log)
    for number, prompt in enumerate(prompts(files, arguments.samples, arguments.seed)):
        for name, tally in tallies.items():
            seed, valid = arguments.seed + number, name == "valid"
            text = known.get((seed, valid))
            if text is None:
                text = write_one(completer, prompt, arguments.tokens, seed, valid)
                if arguments.log:
                    with arguments.log.open("a", encoding="utf-8", newline="\n") as lines:
                        lines.write(json.dumps(text) + "\n")
            tally.add(text)
            if valid and text["invalid"]:
                print(f"INVALID: {prompt[-200:]!r} + {text['text']!r}", flush=True)
    print(HEADER)
    for name, tally in tallies.items():
        print(tally.row(name))
    print("\nlost, of the tokens written with the judge:")
    judged = tallies["valid"]
    for why, tokens in sorted(judged.lost.items(), key=lambda cause: -cause[1]):
        print(f"{tokens / max(1, judged.written):>8.2%}  {why}")
    return int(judged.invalid > 0)


if __name__ == "__main__":
    raise SystemExit(main())
