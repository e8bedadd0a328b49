"""What has to hold before a run begins: inputs that exist, an output that is ours, and no finished model."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_folder import is_foreign, prompt_command

if TYPE_CHECKING:
    from model_folder import Identity

SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "batch_size")


class TrainError(ValueError):
    """Inputs or options with which no run can begin."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that make a different model; where it is computed, and with how many threads, does not."""
    return {
        "minutes": None if arguments.steps else arguments.minutes,
        "steps": arguments.steps,
        "seed": arguments.seed,
        "size": getattr(arguments, "size", None),
        **{name: getattr(arguments, name, None) for name in SHAPE},
        "dtype": arguments.dtype,
        "fim_rate": arguments.fim_rate,
    }


def check_inputs(arguments: argparse.Namespace) -> None:
    """Raise TrainError with the command that makes a missing input."""
    data, tokenizer = arguments.data.absolute(), arguments.tokenizer.absolute()
    if not data.is_file():
        raise TrainError(f"there is no data file: {data}: run: python preprocess/data_preprocess.py")
    if data.stat().st_size == 0:
        raise TrainError(f"the data file is empty: {data}: run: python preprocess/data_preprocess.py")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if arguments.init_from is None and not (tokenizer / name).is_file():
            raise TrainError(
                f"the tokenizer has no {name}: {tokenizer}: run: python preprocess/tokenizer.py -t"
            )
    _check_shape(arguments)
    if arguments.report_to == "tensorboard":
        from tensorboard_report import ReportError, check_tensorboard

        try:
            check_tensorboard()
        except ReportError as error:
            raise TrainError(str(error)) from None
    parent = arguments.output.absolute().parent
    if parent.is_dir() and not os.access(parent, os.W_OK):
        raise TrainError(f"this folder cannot be written to: {parent}: choose another --output")


def _check_shape(arguments: argparse.Namespace) -> None:
    n_embd, n_head = getattr(arguments, "n_embd", None), getattr(arguments, "n_head", None)
    if n_embd and n_head and n_embd % n_head:
        raise TrainError(
            f"--n-embd {n_embd} is not a multiple of --n-head {n_head}: choose another of the two"
        )
    shaped = [
        f"--{name.replace('_', '-')}" for name in ("size", *SHAPE[:3]) if getattr(arguments, name, None)
    ]
    if shaped and arguments.init_from is not None:
        raise TrainError(f"{shaped[0]} cannot be chosen: the shape is that of --init-from: leave it out")
    if len(shaped) > 1 and shaped[0] == "--size":
        raise TrainError(f"--size and {shaped[1]} both choose the shape: leave one of them out")
    if arguments.init_from is not None and arguments.init_from.absolute() == arguments.output.absolute():
        raise TrainError(
            f"this folder cannot be read from and replaced at once: {arguments.output.absolute()}:"
            " choose another --output"
        )


def decide(
    arguments: argparse.Namespace, identity: Identity, provenance: dict[str, Any] | None
) -> bool | None:
    """Whether to resume (True) or to begin (False); None where the finished model is already there."""
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


def check_tokenizer(tokenizer: Path, identity: Identity) -> None:
    """Raise TrainError where the tokenizer's own record says that it was learnt from other data.

    A folder without a record, from elsewhere, is taken as it is.
    """
    try:
        record = json.loads((tokenizer / "provenance.json").read_text(encoding="utf-8"))
        learnt_from, file = record["data"]["sha256"], record["files"]["tokenizer.json"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    again = ["python", "preprocess/tokenizer.py", "-t"]
    for option, path, default in (
        ("--data", identity.data["path"], Path("data.txt")),
        ("--tokenizer", identity.tokenizer["path"], Path("tokenizer")),
    ):
        again += [] if Path(path) == default.absolute() else [option, path]
    if file != identity.tokenizer["sha256"]:
        raise TrainError(
            f"its files are not those of its provenance.json: {tokenizer.absolute()}: "
            f"learn it again: {shlex.join(again)}"
        )
    if learnt_from != identity.data["sha256"]:
        raise TrainError(
            f"this tokenizer was learnt from other data: {tokenizer.absolute()}: "
            f"learn it again: {shlex.join(again)}, or take it as it is with --any-tokenizer"
        )
