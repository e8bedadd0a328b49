"""Train a GPT-2 on data.txt with tokenizer/ and write GPyT/, which transformers loads.

    python model/train.py                        # some minutes; size and steps chosen for this machine
    python model/train.py --minutes 30           # the same with more time: a larger model, more text
    python model/train.py --minutes 30 --plan    # what that would be, and how good; trains nothing
    python model/train.py --steps 2000 --n-layer 6 --n-head 6 --n-embd 384 --block-size 512
    python model/train.py --init-from GPyT --data mine.txt --output mine    # train it further on your files
    torchrun --standalone --nproc-per-node 2 model/train.py --minutes 30

Ctrl-C, a crash or a power cut costs what came after the last checkpoint, half a minute or, with a large
model, fifty times what saving it takes: the same command continues the run. GPyT/
holds an ordinary GPT-2 (config.json, model.safetensors, the tokenizer), provenance.json with everything that
went into it, a model card, training_log.jsonl and loss.png. Its weights are those that did best on held-out
files. With sources.index the prompt can name the files that the model copies from.
"""

from __future__ import annotations

from model_cli import DONE, ERROR, INTERRUPTED, UserError, loading, run_script, script_parser

# isort: split
import argparse
import platform
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2.device import find_machine, has_bfloat16, has_gpu, keep_freed_memory, limit_spinning
from gpt2.distributed import (
    ALONE,
    init_ranks,
    is_distributed,
    is_first,
    is_first_of_machine,
    silence_other_ranks,
)
from training.options import (
    CPU_MINUTES,
    GPU_MINUTES,
    TrainOptions,
    add_options,
    check_options,
    default_fim_rate,
)
from training.progress import say
from training.setup import RunContext, Start, build_run, find_start, load_dataset, plan_run

if TYPE_CHECKING:
    from gpt2.device import Machine
    from training.base_model import BaseModel


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    add_options(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    options = TrainOptions(**vars(build_parser().parse_args(argv)))
    silence_other_ranks()
    return run_script(
        lambda: run(options),
        interrupted="if the run has saved a checkpoint, the same command continues it",
        place=options.output.absolute(),
        remedy="free space there, then run the same command: it continues from the last checkpoint",
    )


def run(options: TrainOptions) -> int:
    """Check, decide what there is to do, and do it. Until that is decided a single process loads no torch."""
    started = time.perf_counter()
    limit_spinning()
    keep_freed_memory()
    if is_distributed():
        return run_with_others(options, started)
    options, base = checked(options)
    start = find_start(options, base)
    if start is None:
        return DONE
    machine = find_machine(options.device, options.dtype, options.threads)
    return train(RunContext(options, start, base, machine, ALONE), started)


def checked(options: TrainOptions) -> tuple[TrainOptions, BaseModel | None]:
    """The options with what follows from them, and the model to continue. Raises UserError."""
    check_options(options)
    if options.minutes is None:
        on_gpu = options.device == "cuda" or (options.device == "auto" and has_gpu())
        options = replace(options, minutes=GPU_MINUTES if on_gpu else CPU_MINUTES)
    if options.fim_rate is None:
        options = replace(options, fim_rate=default_fim_rate(options))
    if options.init_from is None:
        return options, None
    from training.base_model import read_base_model

    base = read_base_model(options.init_from, options.tokenizer)
    return replace(options, tokenizer=base.tokenizer), base


def run_with_others(options: TrainOptions, started: float) -> int:
    """The same as one of several processes, perhaps on several machines: the first decides for all.

    What a process cannot find on its machine is said by the first, before any of them works. A device has to
    be there for the processes to meet, so one that lacks its own says so itself.
    """
    problem, base = "", None
    try:
        options, base = checked(options)
    except UserError as error:
        problem = str(error)
    try:
        machine = find_machine(options.device, options.dtype, options.threads)
    except UserError as error:
        say_for_itself(error)
        raise
    ranks = init_ranks(machine.device)
    if problems := ranks.gather_problems(problem):
        if ranks.is_main:
            raise UserError(problems[0])
        return ERROR
    # Its default depends on the output folder, which another machine need not have.
    options = replace(options, fim_rate=ranks.broadcast(options.fim_rate))
    start = find_start(options, base) if ranks.is_main else None
    record = ranks.broadcast(None if start is None else start.record)
    code = DONE
    if record is not None:
        try:
            code = train(RunContext(options, Start.from_record(record), base, machine, ranks), started)
        except RuntimeError as error:
            what = (
                f"the processes lost contact ({str(error).splitlines()[0]}): the same command continues from"
                f" the last checkpoint, with any number of processes: {options.output.absolute()}"
            )
            if is_first_of_machine():  # the machine of the first may be what was lost
                say_for_itself(what)
            raise UserError(what) from error
        except UserError as error:
            say_for_itself(error)  # the first will only say that contact was lost
            raise
    ranks.destroy()
    return code


def say_for_itself(problem: UserError | str) -> None:
    """Print what stops this process, unless it is the first, whose errors are printed anyway."""
    if not is_first():
        print(f"error on {platform.node()}: {problem}", file=sys.__stderr__, flush=True)


def train(context: RunContext, started: float) -> int:
    """Load the corpus, plan, step, report. Returns the exit code. started: when, by time.perf_counter()."""
    from gpt2.operations import compile_passes
    from training.report import print_summary, write_report

    context = replace(context, machine=settled_machine(context))
    options, base, machine = context.options, context.base, context.machine
    if machine.device.type == "cpu":
        with loading():
            compile_passes(machine.dtype, lambda text: say(f"  {text}"))
    plan, dataset, monitor = plan_run(context, load_dataset(context))
    if options.plan_only:
        return DONE
    run = build_run(context, plan, dataset, monitor)
    ending = run.train()
    base_folder = None if base is None else base.folder
    figures = write_report(run, base_folder, with_sources=options.sources, finished=not ending.interrupted)
    if ending.interrupted:
        say(f"interrupted at step {figures['step']:,}; the model so far: {options.output.absolute()}")
        say("the same command continues from there")
        return INTERRUPTED
    if context.ranks.is_main:
        print_summary(options.output, figures, time.perf_counter() - started)
    return DONE


def settled_machine(context: RunContext) -> Machine:
    """The machine in the precision of the first process, which keeps to that of the run it resumes.

    Each process has measured which precision is faster, and where two are equally fast the answers differ.
    A processor without bfloat16 among them decides for all.
    """
    machine, plan = context.machine, (context.start.unfinished or {}).get("plan", {})
    if context.options.dtype != "auto" or machine.device.type != "cpu":
        return machine
    precision = context.ranks.broadcast(
        plan["precision"] if plan.get("device") == "cpu" else machine.precision
    )
    [lacking] = context.ranks.all_reduce_list([precision == "bfloat16" and not has_bfloat16()])
    return machine.in_precision("float32" if lacking else precision)


if __name__ == "__main__":
    raise SystemExit(main())
