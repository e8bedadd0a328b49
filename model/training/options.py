"""The options of train.py: the parser, the record of them, and what can be checked before torch is loaded."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpt2.distributed import is_distributed
from model_cli import UserError
from pretrained.corpus_files import state_of
from pretrained.provenance import fills_in, recorded_fim_rate
from pretrained.vocabulary import FIM_TOKENS

SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "batch_size")

CPU_MINUTES = 4.0  # long enough for a model that writes the form of Python
GPU_MINUTES = 30.0  # long enough for one of a hundred million parameters

# Costs nothing that can be measured, and an editor's model reads what follows the cursor (benchmarks/LOG.md).
FIM_RATE = 0.5


@dataclass(frozen=True)
class TrainOptions:
    """The command line of train.py; what is None is chosen by the plan or by the machine."""

    data: Path
    tokenizer: Path
    output: Path
    any_tokenizer: bool
    restart: bool
    init_from: Path | None
    sources: bool  # whether to write sources.index
    minutes: float | None
    steps: int | None
    plan_only: bool
    size: float | None  # parameters
    n_layer: int | None
    n_head: int | None
    n_embd: int | None
    block_size: int | None
    batch_size: int | None
    seed: int
    fim_rate: float | None
    full_softmax: bool
    all_documents: bool
    like: list[str]  # names of repositories, as fnmatch takes them
    report_to: str
    device: str
    dtype: str
    threads: int | None
    fsdp: bool

    @property
    def seconds(self) -> float | None:
        """The budget of a run by the clock; None with --steps."""
        return None if self.steps or self.minutes is None else 60 * self.minutes

    @property
    def shape(self) -> dict[str, Any]:
        """The numbers of the shape that were asked for, by their names in a plan."""
        return {name: getattr(self, name) for name in SHAPE}

    @property
    def record(self) -> dict[str, Any]:
        """The options that make a different model; the device and the number of threads do not."""
        return {
            "minutes": None if self.steps else self.minutes,
            "steps": self.steps,
            "seed": self.seed,
            "size": self.size,
            **self.shape,
            "dtype": self.dtype,
            "fim_rate": self.fim_rate,
            # False is None, as in the records of before there were these options
            "full_softmax": self.full_softmax or None,
            "all_documents": self.all_documents or None,
            "like": sorted(set(self.like)) or None,
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every option of train.py: one for each field of TrainOptions."""
    files = parser.add_argument_group("files")
    files.add_argument("--data", type=Path, default=Path("data.txt"),
                       help="documents, from preprocessing: a file or a folder")  # fmt: skip
    files.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    files.add_argument("--output", type=Path, default=Path("GPyT"), help="folder of the model")
    files.add_argument(
        "--any-tokenizer", action="store_true", help="accept a tokenizer that was learnt from other data: "
        "it needs more tokens for the same text",
    )  # fmt: skip
    files.add_argument("--restart", action="store_true", help="replace a model made with other options")
    files.add_argument(
        "--init-from", type=Path, help="continue training this GPT-2 folder, with "
        "its tokenizer, at a lower learning rate (default: train from scratch)",
    )  # fmt: skip
    files.add_argument(
        "--no-sources", dest="sources", action="store_false", help="write no index of the training files to "
        "GPyT/, if you must not publish names; with the index, copied code can be traced to its file",
    )  # fmt: skip
    length = parser.add_argument_group("length").add_mutually_exclusive_group()
    minutes = f"{CPU_MINUTES:g} on a CPU, {GPU_MINUTES:g} on a GPU"
    length.add_argument("--minutes", type=positive_number, help=f"time for training (default: {minutes})")
    length.add_argument(
        "--steps", type=positive_int, help="steps instead of minutes; on a CPU the "
        "same command then gives the same model, bit for bit (default: as many as the minutes allow)",
    )  # fmt: skip
    parser.add_argument("--plan", dest="plan_only", action="store_true",
                        help="print plan and forecast, then stop")  # fmt: skip
    shape = parser.add_argument_group("shape", "by default the best that corpus, machine and minutes allow")
    shape.add_argument("--size", type=parameters,
                       help="about this many parameters, as 5M or 124M (default: chosen)")  # fmt: skip
    for option, text in (
        ("--n-layer", "blocks (default: chosen)"),
        ("--n-head", "attention heads (default: one per 64 of --n-embd)"),
        ("--n-embd", "width (default: chosen)"),
        ("--block-size", "context in tokens (default: chosen)"),
        ("--batch-size", "rows of that many tokens per step, all processes together (default: chosen)"),
    ):
        shape.add_argument(option, type=positive_int, help=text)
    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--seed", type=natural, default=0, help="draws the first weights, documents and their order"
    )
    learning.add_argument(
        "--fim-rate", type=share,
        help="share of documents with their middle last, to learn to fill gaps "
        f"(default: {FIM_RATE}; 0 where the tokenizer, or the model of --init-from, does not know gaps)",
    )  # fmt: skip
    learning.add_argument("--full-softmax", action="store_true",
                          help="compare all entries of a large vocabulary in every step on a CPU, "
                          "which takes longer (default: a sample from 4,096 on)")  # fmt: skip
    learning.add_argument("--all-documents", action="store_true",
                          help="draw from all documents even if there is no time for all of them "
                          "(default: leave out those that the others predict best)")  # fmt: skip
    learning.add_argument("--like", nargs="+", default=[], metavar="NAME",
                          help="repositories of the data that the model is for, as local/work or 'local/*': "
                          "learn from them and from files most like them (default: all alike)")  # fmt: skip
    learning.add_argument("--report-to", choices=["none", "tensorboard"], default="none",
                          help="also write the log in the format of this program")  # fmt: skip
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="where to compute"
    )
    machine.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto",
                         help="precision of the products; the weights are kept in float32")  # fmt: skip
    machine.add_argument("--threads", type=positive_int,
                         help="CPU threads (default: one per core)")  # fmt: skip
    machine.add_argument("--fsdp", action="store_true",
                         help="under torchrun: divide the weights among the processes (FSDP2)")  # fmt: skip


def positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return number


def positive_number(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def parameters(text: str) -> float:
    """ "124M" -> 124e6."""
    match = re.fullmatch(r"([0-9.]+)([KMG]?)", text.upper())
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is not a number of parameters, as 5M or 124M")
    return positive_number(match[1]) * {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]]


def check_options(options: TrainOptions) -> None:
    """Raise UserError for a missing input, with the command that makes it, or for options that clash."""
    data, tokenizer = options.data.absolute(), options.tokenizer.absolute()
    if not data.is_file() and not data.is_dir():
        raise UserError(f"there is no data file: {data}: run: python preprocess/data_preprocess.py")
    if state_of(data)["size"] == 0:
        raise UserError(f"the data file is empty: {data}: run: python preprocess/data_preprocess.py")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if options.init_from is None and not (tokenizer / name).is_file():
            raise UserError(
                f"the tokenizer has no {name}: {tokenizer}: run: python preprocess/tokenizer.py -t"
            )
    _check_shape(options)
    if options.like and (options.all_documents or options.init_from):
        other = "--all-documents" if options.all_documents else "--init-from"
        raise UserError(f"--like chooses what a new model learns from: leave it or {other} out")
    if options.report_to == "tensorboard" and find_spec("tensorboard") is None:
        raise UserError("--report-to tensorboard needs a package: run: pip install tensorboard")
    if options.fsdp and not is_distributed():
        raise UserError(
            "--fsdp divides the weights among processes: start several: torchrun --nproc-per-node 2 ..."
        )
    parent = options.output.absolute().parent
    if parent.is_dir() and not os.access(parent, os.W_OK):
        raise UserError(f"this folder cannot be written to: {parent}: choose another --output")


def default_fim_rate(options: TrainOptions) -> float:
    """That of the run in the output folder, which the same command continues; else FIM_RATE.

    0 for a tokenizer without marks for gaps, and for a base model that does not fill them.
    """
    recorded = None if options.restart else recorded_fim_rate(options.output)
    if recorded is not None:
        return recorded
    if options.init_from is not None:
        return FIM_RATE if fills_in(options.init_from) else 0.0
    try:
        tokenizer = json.loads((options.tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
        known = {token["content"] for token in tokenizer["added_tokens"]}
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0  # what is wrong with it is said where it is loaded
    return FIM_RATE if known.issuperset(FIM_TOKENS) else 0.0


def _check_shape(options: TrainOptions) -> None:
    if options.n_embd and options.n_head and options.n_embd % options.n_head:
        raise UserError(
            f"--n-embd {options.n_embd} is not a multiple of --n-head {options.n_head}:"
            " choose another of the two"
        )
    given = ("size", *SHAPE[:3])
    shaped = [f"--{name.replace('_', '-')}" for name in given if getattr(options, name)]
    if shaped and options.init_from is not None:
        raise UserError(f"{shaped[0]} cannot be chosen: the shape is that of --init-from: leave it out")
    if len(shaped) > 1 and shaped[0] == "--size":
        raise UserError(f"--size and {shaped[1]} both choose the shape: leave one of them out")
    if options.init_from is not None and options.init_from.absolute() == options.output.absolute():
        raise UserError(
            f"this folder cannot be read from and replaced at once: {options.output.absolute()}:"
            " choose another --output"
        )
