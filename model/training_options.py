"""The options of train.py: files, length, shape, learning, machine."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, every option with its default."""


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The parser with all options of train.py."""
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    files = parser.add_argument_group("files")
    files.add_argument("--data", type=Path, default=Path("data.txt"), help="documents, from preprocessing")
    files.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    files.add_argument("--output", type=Path, default=Path("GPyT"), help="folder of the model")
    files.add_argument(
        "--any-tokenizer", action="store_true", help="take a tokenizer that was learnt from other data: "
        "that costs tokens, not correctness",
    )  # fmt: skip
    files.add_argument("--restart", action="store_true", help="replace a model made with other options")
    files.add_argument(
        "--init-from", type=Path, help="go on from this GPT-2 folder, with its tokenizer, at a lower "
        "learning rate (default: begin from scratch)",
    )  # fmt: skip
    files.add_argument(
        "--no-sources", dest="sources", action="store_false", help="leave no index of the training files in "
        "GPyT/, for those who must not ship names; by default what the model copies can be named",
    )  # fmt: skip
    length = parser.add_argument_group("length").add_mutually_exclusive_group()
    length.add_argument("--minutes", type=positive_number, default=argparse.SUPPRESS,
                        help="time for training (default: 4 on a CPU, 30 on a GPU)")  # fmt: skip
    length.add_argument(
        "--steps", type=positive_int, help="steps instead of minutes; on a CPU the same command then gives "
        "the same model, bit for bit (default: as many as the minutes allow)",
    )  # fmt: skip
    parser.add_argument("--plan", action="store_true", help="print plan and forecast, then stop")
    shape = parser.add_argument_group("shape (default: the best that corpus, machine and minutes allow)")
    shape.add_argument("--size", type=parameters, default=argparse.SUPPRESS,
                       help="about so many parameters, as 5M or 124M (default: chosen)")  # fmt: skip
    for option, text in (
        ("--n-layer", "blocks (default: chosen)"),
        ("--n-head", "attention heads (default: one per 64 of --n-embd)"),
        ("--n-embd", "width (default: chosen)"),
        ("--block-size", "context in tokens (default: chosen)"),
        ("--batch-size", "rows of that many tokens per step, all processes together (default: chosen)"),
    ):
        shape.add_argument(option, type=positive_int, default=argparse.SUPPRESS, help=text)
    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--seed", type=int, default=0, help="of the first weights and the order of documents"
    )
    learning.add_argument("--fim-rate", type=share, default=0.0,
                          help="documents with their middle last, to learn filling gaps")  # fmt: skip
    learning.add_argument("--report-to", choices=["none", "tensorboard"], default="none",
                          help="also write the log for this program")  # fmt: skip
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="where to compute"
    )
    machine.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto",
                         help="precision of the products; the weights are kept in float32")  # fmt: skip
    machine.add_argument("--threads", type=positive_int, default=argparse.SUPPRESS,
                         help="CPU threads (default: one per core)")  # fmt: skip
    machine.add_argument("--fsdp", action="store_true",
                         help="under torchrun: divide the weights among the processes (FSDP2)")  # fmt: skip
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


def share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def parameters(text: str) -> float:
    """ "124M" -> 124e6."""
    match = re.fullmatch(r"([0-9.]+)([KMG]?)", text.upper())
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is no number of parameters, as 5M or 124M")
    return positive_number(match[1]) * {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]]
