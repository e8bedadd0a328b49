"""From inputs and options to a run that is ready to step."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import adapting
from announcing import announce
from budget import Corpus, Wish, make_plan
from expected_loss import expected_bits_per_byte
from fill_in_the_middle import FillInTheMiddle, read_marks
from held_out_watch import HeldOutWatch
from model_folder import ModelFolder, SpecialIds, cache_of
from never_learnt import leave_out, names_of_dataset
from progress import Progress
from run_record import plan_from_record, plan_record
from starting import SHAPE, TrainError, say
from tensorboard_report import TensorBoardReport
from token_dataset import encode_corpus
from training_run import Extras, Run

if TYPE_CHECKING:
    from adapting import Ancestor
    from budget import Plan
    from machine import Machine
    from model_folder import Identity
    from ranks import Ranks
    from token_dataset import TokenDataset


def encode(
    arguments: argparse.Namespace, machine: Machine, ranks: Ranks, ancestor: Ancestor | None
) -> TokenDataset:
    """The corpus as tokens; the first rank encodes, the others find the work done."""
    end = None if ancestor is None else ancestor.ids.end
    if not ranks.first:
        ranks.wait()
    dataset = encode_corpus(
        arguments.data,
        arguments.tokenizer,
        cache_of(arguments.data),
        threads=machine.threads,
        end_of_text_id=end,
    )
    if ranks.first:
        ranks.wait()
    if not len(dataset.train.tokens):
        raise TrainError(
            f"there are no training documents in {arguments.data.absolute()}:"
            " collect more, then run: python preprocess/data_preprocess.py"
        )
    return dataset


def begin(
    arguments: argparse.Namespace,
    identity: Identity,
    machine: Machine,
    dataset: TokenDataset,
    provenance: dict[str, Any] | None,
    ancestor: Ancestor | None,
    ranks: Ranks,
) -> Run | None:
    """A run that is ready to step: a new one with its plan, or the recorded one where it stopped."""
    names, left_out = names_of_dataset(dataset), 0
    if ancestor is not None:
        dataset, left_out = leave_out(dataset, ancestor.held_out)
        names |= ancestor.held_out
    if not dataset.train.size:
        raise TrainError(f"all files were held out of {arguments.init_from.absolute()}: use other ones")
    if provenance is not None:
        plan = plan_from_record(provenance["plan"])
    else:
        plan = choose_plan(arguments, machine, dataset, ancestor, ranks)
        plan = plan_from_record(ranks.from_first(plan_record(plan, machine)))
        tell(arguments, plan, machine, dataset, ancestor, left_out, ranks)
    if arguments.plan:
        return None
    marks = read_marks(arguments.tokenizer) if arguments.fim_rate else None
    extras = Extras(
        ranks,
        arguments.fsdp,
        FillInTheMiddle(arguments.fim_rate, marks) if marks else None,
        None if ancestor is None else lambda: ancestor.weights(plan.shape.block_size),
        TensorBoardReport() if arguments.report_to == "tensorboard" and ranks.first else None,
    )
    ids = SpecialIds() if ancestor is None else ancestor.ids
    folder = ModelFolder(arguments.output, plan.shape, arguments.tokenizer, identity, ids, names.record)
    peak = None if machine.peak_flops is None else ranks.world * machine.peak_flops
    progress = Progress(plan.tokens_per_step, plan.shape.flops_per_token, peak, silent=not ranks.first)
    training = Run(plan, machine, dataset, folder, progress, arguments.seed, extras)
    if provenance is not None:
        checkpoint = training.resume()
        done, planned = training.timetable.step, training.timetable.steps
        say(f"resuming at step {done:,} of {planned:,}: {checkpoint.absolute()}")
    return training


def choose_plan(
    arguments: argparse.Namespace,
    machine: Machine,
    dataset: TokenDataset,
    ancestor: Ancestor | None,
    ranks: Ranks,
) -> Plan:
    """The plan of a new run, and what to expect of it where it begins from scratch."""
    seconds = None if arguments.steps else arguments.minutes * 60
    shape: dict[str, Any] = {name: getattr(arguments, name, None) for name in SHAPE}
    wish = Wish(seconds, arguments.steps, **shape, parameters=getattr(arguments, "size", None))
    if ancestor is not None:
        wish = replace(wish, first=ancestor.shape(), rate=adapting.RATE, most_epochs=adapting.MOST_EPOCHS)
        if dataset.vocab_size > ancestor.config.vocab_size:
            raise TrainError(
                f"the tokenizer has {dataset.vocab_size:,} entries, the model {ancestor.config.vocab_size:,}:"
                f" they do not belong together: {arguments.tokenizer.absolute()}"
            )
        if (wish.block_size or 0) > ancestor.config.n_positions:
            raise TrainError(
                f"--block-size can be {ancestor.config.n_positions} at most, as --init-from has it"
            )
    corpus = Corpus(dataset.train.size, dataset.vocab_size)
    plan = make_plan(wish, corpus, machine, ranks.world, sharded=arguments.fsdp)
    if ancestor is not None:
        return plan
    bytes_per_token = dataset.train.size_bytes / dataset.train.size
    difficulty = HeldOutWatch(plan, dataset, bytes_per_token).difficulty
    if difficulty is None:
        return plan
    text_bytes = plan.tokens * bytes_per_token
    size = plan.shape.parameters
    expected = expected_bits_per_byte(size, text_bytes, dataset.train.size_bytes, difficulty)
    return replace(plan, forecast=round(expected, 4))


def tell(
    arguments: argparse.Namespace,
    plan: Plan,
    machine: Machine,
    dataset: TokenDataset,
    ancestor: Ancestor | None,
    left_out: int,
    ranks: Ranks,
) -> None:
    """Print the plan, and what goes for a run that goes on from another."""
    announce(plan, machine, dataset, ranks.world, None if arguments.steps else 60 * arguments.minutes)
    if ancestor is not None:
        watched = len(dataset.held_out.text_bytes) > 0
        for line in adapting.expectation(ancestor, plan, dataset.train.size_bytes, left_out, watched=watched):
            say(line)
