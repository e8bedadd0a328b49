"""Train a GPT-2 on data.txt with tokenizer/ and write GPyT/, which transformers loads.

    python model/train.py                        # four minutes; size and steps chosen for this machine
    python model/train.py --minutes 30           # the same with more time: a larger model, more text
    python model/train.py --steps 2000 --n-layer 6 --n-head 6 --n-embd 384 --block-size 512

Ctrl-C, a crash or a power cut costs at most the last half minute: the same command goes on where the run
was. GPyT/ holds an ordinary GPT-2 (config.json, model.safetensors, the tokenizer), provenance.json with
everything that went into it, a model card, training_log.jsonl and loss.png.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budget import Machine, Plan
    from model_folder import Identity
    from token_dataset import TokenDataset
    from training_run import Run

# OpenMP's threads wait for each other by spinning. With another program on one of the cores the default spin
# makes training eight times slower (measured: 640 tokens/s, not 5,100); a short one costs 3 % on an idle one.
SPIN_COUNT = "1000"

DEFAULT_MINUTES = 4.0  # of training on a CPU: long enough for a model that writes the form of Python


class TrainError(ValueError):
    """Inputs or options with which no run can begin."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, every option with its default."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    files = parser.add_argument_group("files")
    files.add_argument("--data", type=Path, default=Path("data.txt"), help="documents, from preprocessing")
    files.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    files.add_argument("--output", type=Path, default=Path("GPyT"), help="folder of the model")
    files.add_argument("--restart", action="store_true", help="replace a model made with other options")
    length = parser.add_argument_group("length").add_mutually_exclusive_group()
    length.add_argument("--minutes", type=positive_number, default=DEFAULT_MINUTES, help="time for training")
    length.add_argument(
        "--steps", type=positive_int, help="steps instead of minutes; on a CPU the same command then gives "
        "the same model, bit for bit (default: as many as the minutes allow)",
    )  # fmt: skip
    shape = parser.add_argument_group("shape (default: the best that corpus, machine and minutes allow)")
    shape.add_argument(
        "--n-layer", type=positive_int, default=argparse.SUPPRESS, help="blocks (default: chosen)"
    )
    shape.add_argument("--n-head", type=positive_int, default=argparse.SUPPRESS,
                       help="attention heads (default: one per 64 of --n-embd)")  # fmt: skip
    shape.add_argument(
        "--n-embd", type=positive_int, default=argparse.SUPPRESS, help="width (default: chosen)"
    )
    shape.add_argument("--block-size", type=positive_int, default=argparse.SUPPRESS,
                       help="context in tokens (default: chosen)")  # fmt: skip
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="where to compute"
    )
    machine.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto",
                         help="precision of the products; the weights are kept in float32")  # fmt: skip
    machine.add_argument("--threads", type=positive_int, default=argparse.SUPPRESS,
                         help="CPU threads (default: one per core)")  # fmt: skip
    machine.add_argument(
        "--seed", type=int, default=0, help="of the first weights and the order of documents"
    )
    return parser


def positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def positive_number(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        return run(arguments)
    except KeyboardInterrupt:
        print("interrupted: a run that had saved something goes on with the same command", file=sys.stderr)
        return 130
    except TrainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"error: {error.strerror or error}: {error.filename or arguments.output.absolute()}",
            file=sys.stderr,
        )
        return 1


def run(arguments: argparse.Namespace) -> int:
    """Everything that can be known before torch is loaded, then the training."""
    from model_folder import identify, read_provenance, recover

    started = time.perf_counter()
    check_inputs(arguments)
    recover(arguments.output)
    identity = identify(arguments.data, arguments.tokenizer, options_of(arguments), arguments.output)
    provenance = read_provenance(arguments.output)
    resuming = decide(arguments, identity, provenance)
    if resuming is None:
        return 0
    size = arguments.data.stat().st_size / 1e6
    length = f"{arguments.steps:,} steps" if arguments.steps else f"{arguments.minutes:g} minutes"
    say(f"training a GPT-2 for {length} on {arguments.data.absolute()} ({size:,.1f} MB)")
    note_other_data(arguments.tokenizer, identity)
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read once, when torch loads OpenMP
    return train(arguments, identity, provenance if resuming else None, started)


def train(
    arguments: argparse.Namespace, identity: Identity, provenance: dict[str, Any] | None, started: float
) -> int:
    """Encode, plan, step, measure, write. Raises TrainError for whatever a sibling has to tell the user."""
    from budget import BudgetError
    from checkpoint import CheckpointError
    from closing import close_run, summarize
    from token_dataset import TokenDatasetError
    from training_run import RunFailedError

    try:
        machine, dataset = prepare(arguments)
        training = begin(arguments, identity, machine, dataset, provenance)
        ending = training.train()
        figures = close_run(training, finished=not ending.interrupted)
    except (BudgetError, CheckpointError, TokenDatasetError, RunFailedError) as error:
        raise TrainError(str(error)) from error
    output = arguments.output
    if ending.interrupted:
        say(f"interrupted at step {figures['step']:,}; the model so far: {output.absolute()}")
        say("the same command goes on from there")
        return 130
    summarize(output, figures, time.perf_counter() - started)
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that make a different model; where it is computed, and with how many threads, does not."""
    return {
        "minutes": None if arguments.steps else arguments.minutes,
        "steps": arguments.steps,
        "seed": arguments.seed,
        **{name: getattr(arguments, name, None) for name in ("n_layer", "n_head", "n_embd", "block_size")},
        "dtype": arguments.dtype,
    }


def check_inputs(arguments: argparse.Namespace) -> None:
    """Raise TrainError with the command that makes a missing input."""
    data, tokenizer = arguments.data.absolute(), arguments.tokenizer.absolute()
    if not data.is_file():
        raise TrainError(f"there is no data file: {data}: run: python preprocess/data_preprocess.py")
    if data.stat().st_size == 0:
        raise TrainError(f"the data file is empty: {data}: run: python preprocess/data_preprocess.py")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (tokenizer / name).is_file():
            raise TrainError(
                f"the tokenizer has no {name}: {tokenizer}: run: python preprocess/tokenizer.py -t"
            )
    n_embd, n_head = getattr(arguments, "n_embd", None), getattr(arguments, "n_head", None)
    if n_embd and n_head and n_embd % n_head:
        raise TrainError(
            f"--n-embd {n_embd} is not a multiple of --n-head {n_head}: choose another of the two"
        )
    parent = arguments.output.absolute().parent
    if parent.is_dir() and not os.access(parent, os.W_OK):
        raise TrainError(f"this folder cannot be written to: {parent}: choose another --output")


def decide(
    arguments: argparse.Namespace, identity: Identity, provenance: dict[str, Any] | None
) -> bool | None:
    """Whether to resume (True) or to begin (False); None where the finished model is already there."""
    from model_folder import is_foreign, prompt_command

    output = arguments.output.absolute()
    if is_foreign(output):
        raise TrainError(
            f"this folder holds something that train.py did not make: {output}: choose another --output"
        )
    if provenance is None or arguments.restart:
        return False
    differences = identity.differences(provenance)
    if not differences:
        if not provenance["finished"]:
            return True
        figures = provenance["figures"]
        bits = figures.get("held_out_bits_per_byte")
        measured = f", {bits:.3f} bits per byte held out" if bits is not None else ""
        print(f"up to date: {output} ({figures['step']:,} steps{measured})")
        print(f"next: {prompt_command(arguments.output)}")
        return None
    state = "a finished model" if provenance["finished"] else "an unfinished run"
    what = f"{output} holds {state} with {', '.join(differences)}"
    if sys.stdin.isatty() and sys.stderr.isatty():
        answer = input(f"{what}.\nReplace it? [y/N] ")
        if answer.strip().lower() in ("y", "yes"):
            return False
    raise TrainError(f"{what}: to replace it add --restart, to keep it choose another --output")


def note_other_data(tokenizer: Path, identity: Identity) -> None:
    """Say so where the tokenizer was trained on other data than the model will be."""
    import json

    try:
        record = json.loads((tokenizer / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    digests = {
        record.get("sha256"),
        *(part.get("sha256") for part in record.values() if isinstance(part, dict)),
    }
    if identity.data["sha256"] not in digests:
        say("note: this tokenizer was trained on other data, which costs tokens but no correctness;"
            " to match: python preprocess/tokenizer.py -t")  # fmt: skip


def prepare(arguments: argparse.Namespace) -> tuple[Machine, TokenDataset]:
    """Load torch, find the machine, encode the corpus."""
    from budget import find_machine
    from token_dataset import encode_corpus

    threads: int | None = getattr(arguments, "threads", None)
    machine = find_machine(arguments.device, arguments.dtype, threads)
    cache = arguments.data.with_name(f"{arguments.data.stem}.cache")
    dataset = encode_corpus(arguments.data, arguments.tokenizer, cache, threads=machine.threads)
    if not len(dataset.train.tokens):
        raise TrainError(
            f"there are no training documents in {arguments.data.absolute()}:"
            " collect more, then run: python preprocess/data_preprocess.py"
        )
    return machine, dataset


def begin(
    arguments: argparse.Namespace,
    identity: Identity,
    machine: Machine,
    dataset: TokenDataset,
    provenance: dict[str, Any] | None,
) -> Run:
    """A run that is ready to step: a new one with its plan, or the recorded one where it stopped."""
    from budget import Corpus, Wish, make_plan
    from model_folder import ModelFolder
    from progress import Progress
    from training_run import Run, plan_from_record

    output: Path = arguments.output
    corpus = Corpus(len(dataset.train.tokens), dataset.vocab_size)
    if provenance is not None:
        plan = plan_from_record(provenance["plan"])
    else:
        seconds = None if arguments.steps else arguments.minutes * 60
        shape = {
            name: getattr(arguments, name, None) for name in ("n_layer", "n_head", "n_embd", "block_size")
        }
        plan = make_plan(Wish(seconds, arguments.steps, **shape), corpus, machine)
        announce(plan, machine, dataset, arguments)
    folder = ModelFolder(output, plan.shape, arguments.tokenizer, identity)
    training = Run(plan, machine, dataset, folder, Progress(plan.tokens_per_step), arguments.seed)
    if provenance is not None:
        checkpoint = training.resume()
        done, planned = training.timetable.step, training.timetable.steps
        say(f"resuming at step {done:,} of {planned:,}: {checkpoint.absolute()}")
    return training


def announce(plan: Plan, machine: Machine, dataset: TokenDataset, arguments: argparse.Namespace) -> None:
    """What will be done, for how long and with how much memory."""
    from progress import clock

    shape = plan.shape
    text_bytes = int(dataset.train.text_bytes.sum())
    tokens = len(dataset.train.tokens)
    say(
        f"  corpus   {len(dataset.train.text_bytes):,} files, {text_bytes / 1e6:,.1f} MB, {tokens:,} tokens"
        f" ({text_bytes / tokens:.2f} bytes each); {len(dataset.held_out.text_bytes):,} files held out"
    )
    say(
        f"  model    {shape.parameters / 1e6:.1f} M parameters: {shape.n_layer} layers, {shape.n_embd} wide,"
        f" {shape.n_head} heads, context {shape.block_size}, vocabulary {shape.vocab_size:,}"
    )
    say(
        f"  machine  {machine.name}: {plan.tokens_per_second:,.0f} tokens/s,"
        f" about {plan.memory / 1e9:.1f} GB of memory"
    )
    seconds = plan.steps * plan.seconds_per_step
    say(
        f"  run      {clock(seconds)} = {plan.steps:,} steps of {plan.tokens_per_step:,} tokens,"
        f" {plan.tokens / tokens:.2g} epochs; then about 15 s of measuring"
    )
    asked: int | None = getattr(arguments, "block_size", None)
    if shape.block_size < (asked or 256):
        say(f"  the corpus has {tokens:,} tokens, so the context is {shape.block_size}")
    if plan.seconds is not None and not arguments.steps and plan.seconds < 0.98 * arguments.minutes * 60:
        say(f"  more time would only repeat this corpus, so it takes {clock(plan.seconds)} of"
            f" {clock(arguments.minutes * 60)}")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
