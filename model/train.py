"""Train a GPT-2 on data.txt with tokenizer/ and write GPyT/, which transformers loads.

    python model/train.py                        # some minutes; size and steps chosen for this machine
    python model/train.py --minutes 30           # the same with more time: a larger model, more text
    python model/train.py --minutes 30 --plan    # what that would be, and how good; nothing is trained
    python model/train.py --steps 2000 --n-layer 6 --n-head 6 --n-embd 384 --block-size 512
    python model/train.py --init-from GPyT --data mine.txt --output mine    # go on with other files
    torchrun --standalone --nproc-per-node 2 model/train.py --minutes 30

Ctrl-C, a crash or a power cut costs at most the last half minute: the same command goes on where the run
was. GPyT/ holds an ordinary GPT-2 (config.json, model.safetensors, the tokenizer), provenance.json with
everything that went into it, a model card, training_log.jsonl and loss.png. Its weights are those that did
best on held-out files. sources.index lets the prompt name the files that the model copies from.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launched import is_one_of_several, silence_all_but_the_first
from starting import TrainError, check_inputs, check_tokenizer, decide, options_of, say
from training_options import parser_of

if TYPE_CHECKING:
    from adapting import Ancestor
    from machine import Machine
    from ranks import Ranks

# OpenMP's threads wait for each other by spinning. With another program on one of the cores the default spin
# makes training eight times slower (measured: 640 tokens/s, not 5,100); a short one costs 3 % on an idle one.
SPIN_COUNT = "1000"

CPU_MINUTES = 4.0  # long enough for a model that writes the form of Python
GPU_MINUTES = 30.0  # long enough for one of a hundred million parameters


def build_parser() -> argparse.ArgumentParser:
    return parser_of(__doc__)


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    silence_all_but_the_first()
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
    started = time.perf_counter()
    check_inputs(arguments)
    if not hasattr(arguments, "minutes"):
        arguments.minutes = GPU_MINUTES if has_gpu(arguments.device) else CPU_MINUTES
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read once, when torch loads OpenMP
    ancestor = find_ancestor(arguments)
    if is_one_of_several():
        from ranks import join_ranks

        machine = find_machine(arguments)
        ranks = join_ranks(machine.device)
        agreed = ranks.from_first(choose_run(arguments, ancestor) if ranks.first else None)
        code = train(arguments, agreed, ancestor, started, machine, ranks) if agreed else 0
        ranks.leave()
        return code
    agreed = choose_run(arguments, ancestor)
    return train(arguments, agreed, ancestor, started) if agreed else 0


def has_gpu(device: str) -> bool:
    """Whether a GPU will probably be found; torch, which knows, is not loaded yet."""
    return device == "cuda" or (device == "auto" and Path("/dev/nvidiactl").exists())


def find_ancestor(arguments: argparse.Namespace) -> Ancestor | None:
    if arguments.init_from is None:
        return None
    from adapting import AncestorError, read_ancestor

    try:
        ancestor = read_ancestor(arguments.init_from, arguments.tokenizer)
    except AncestorError as error:
        raise TrainError(str(error)) from None
    arguments.tokenizer = ancestor.tokenizer
    return ancestor


def choose_run(arguments: argparse.Namespace, ancestor: Ancestor | None) -> dict[str, Any] | None:
    """What makes this run the one it is, and the record that it resumes; None where nothing is to be done."""
    from model_folder import identify, read_provenance, recover

    recover(arguments.output)
    identity = identify(arguments.data, arguments.tokenizer, options_of(arguments), arguments.output)
    if ancestor is not None:
        first = {"path": str(ancestor.folder), "sha256": ancestor.sha256}
        identity = replace(identity, init_from=first)
    provenance = None if arguments.plan else read_provenance(arguments.output)
    resuming = False if arguments.plan else decide(arguments, identity, provenance)
    if resuming is None:
        return None
    if ancestor is None and not arguments.any_tokenizer:
        check_tokenizer(arguments.tokenizer, identity)
    size = arguments.data.stat().st_size / 1e6
    length = f"{arguments.steps:,} steps" if arguments.steps else f"{arguments.minutes:g} minutes"
    say(f"training a GPT-2 for {length} on {arguments.data.absolute()} ({size:,.1f} MB)")
    return {"identity": asdict(identity), "provenance": provenance if resuming else None}


def find_machine(arguments: argparse.Namespace) -> Machine:
    import machine

    try:
        return machine.find_machine(arguments.device, arguments.dtype, getattr(arguments, "threads", None))
    except machine.MachineError as error:
        raise TrainError(str(error)) from None


def train(
    arguments: argparse.Namespace,
    agreed: dict[str, Any],
    ancestor: Ancestor | None,
    started: float,
    machine: Machine | None = None,
    ranks: Ranks | None = None,
) -> int:
    """Encode, plan, step, measure, write. Raises TrainError for whatever a sibling has to tell the user."""
    from budget import BudgetError
    from checkpoint import CheckpointError
    from closing import close_run, keep_sources, summarize
    from fill_in_the_middle import FillInTheMiddleError
    from model_folder import Identity
    from preparing import begin, encode
    from ranks import ALONE
    from token_dataset import TokenDatasetError
    from training_run import RunFailedError

    ranks = ranks or ALONE
    if arguments.fsdp and ranks.world == 1:
        raise TrainError(
            "--fsdp divides the weights among processes: start some: torchrun --nproc-per-node 2 ..."
        )
    try:
        machine = machine or find_machine(arguments)
        dataset = encode(arguments, machine, ranks, ancestor)
        identity = Identity(**agreed["identity"])
        training = begin(arguments, identity, machine, dataset, agreed["provenance"], ancestor, ranks)
        if training is None:
            return 0
        ending = training.train()
        keep_sources(training, None if ancestor is None else ancestor.folder, wanted=arguments.sources)
        figures = close_run(training, finished=not ending.interrupted)
    except (BudgetError, CheckpointError, FillInTheMiddleError, TokenDatasetError, RunFailedError) as error:
        raise TrainError(str(error)) from error
    except RuntimeError as error:
        if ranks.world == 1:
            raise
        raise TrainError(
            f"the processes lost each other ({str(error).splitlines()[0]}): the same command goes on from the"
            f" last checkpoint, with as many processes as there are: {arguments.output.absolute()}"
        ) from error
    output = arguments.output
    if ending.interrupted:
        say(f"interrupted at step {figures['step']:,}; the model so far: {output.absolute()}")
        say("the same command goes on from there")
        return 130
    if ranks.first:
        summarize(output, figures, time.perf_counter() - started)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
