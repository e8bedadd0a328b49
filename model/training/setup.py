"""Set a run up: resume or start, corpus, plan, the plan in words, and the run itself.

torch is imported inside the functions that need it: "up to date" is said without it.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2.distributed import is_first_of_machine
from model_cli import ERROR, UserError, plural, prompt_command
from pretrained.corpus_files import cache_of, state_of
from pretrained.provenance import (
    RunFingerprint,
    chain,
    identify,
    is_changed,
    is_foreign,
    read_provenance,
)
from pretrained.save import ModelFolder, SpecialIds, recover
from training.progress import Progress, TensorBoardReport, TrainingLog, clock, say

if TYPE_CHECKING:
    from data_loading.token_file import TokenDataset
    from gpt2.device import Machine
    from gpt2.distributed import Ranks
    from gpt2.network import GPT2
    from training.base_model import BaseModel
    from training.monitor import HeldOutMonitor
    from training.options import TrainOptions
    from training.plan import Plan
    from training.run import Run


@dataclass(frozen=True)
class Start:
    """A run that has to be made: its fingerprint, and the record of the unfinished run that it resumes."""

    fingerprint: RunFingerprint
    unfinished: dict[str, Any] | None  # provenance.json

    @property
    def record(self) -> dict[str, Any]:
        """As JSON, for the other ranks."""
        return asdict(self)

    @staticmethod
    def from_record(record: dict[str, Any]) -> Start:
        return Start(RunFingerprint(**record["fingerprint"]), record["unfinished"])


@dataclass(frozen=True)
class RunContext:
    """Everything that a run is set up from."""

    options: TrainOptions
    start: Start
    base: BaseModel | None
    machine: Machine
    ranks: Ranks


# Resume or start


def find_start(options: TrainOptions, base: BaseModel | None) -> Start | None:
    """The run that these options ask for; None, after a message, if its finished model is there already.

    Raises: UserError if the output folder holds something else, or if the tokenizer belongs to other data.
    """
    recover(options.output)
    fingerprint = identify(options.data, options.tokenizer, options.record, options.output)
    if base is not None:
        fingerprint = replace(fingerprint, init_from={"path": str(base.folder), "sha256": base.sha256})
    unfinished = None
    if not options.plan_only:
        if is_foreign(options.output):
            raise UserError(
                f"this folder holds something that train.py did not make: {options.output.absolute()}:"
                " choose another --output"
            )
        recorded = {} if options.restart else read_provenance(options.output)
        if recorded and _continues(options, fingerprint, recorded):
            if recorded["finished"]:
                _say_up_to_date(options.output, recorded["figures"])
                return None
            unfinished = recorded
    _say_chain(options, fingerprint)
    if base is None and not options.any_tokenizer:
        _check_tokenizer(options.tokenizer, fingerprint)
    megabytes = state_of(options.data)["size"] / 1e6
    minutes = "1 minute" if options.minutes == 1 else f"{options.minutes:g} minutes"
    length = plural(options.steps, "step") if options.steps else minutes
    say(f"training a GPT-2 for {length} on {options.data.absolute()} ({megabytes:,.1f} MB)")
    return Start(fingerprint, unfinished)


def _continues(options: TrainOptions, fingerprint: RunFingerprint, recorded: dict[str, Any]) -> bool:
    """Whether the recorded run is the one asked for; on a terminal the user may have another one replaced."""
    differences = fingerprint.differences(recorded)
    if not differences:
        return True
    state = "a finished model" if recorded["finished"] else "an unfinished run"
    what = f"{options.output.absolute()} holds {state} with {', '.join(differences)}"
    if sys.stdin.isatty() and sys.stderr.isatty():
        answer = input(f"{what}.\nReplace it? [y/N] ")
        if answer.strip().lower() in ("y", "yes"):
            return False
    raise UserError(f"{what}: to replace it add --restart, to keep it choose another --output")


def _say_chain(options: TrainOptions, fingerprint: RunFingerprint) -> None:
    """With --plan: what each stage left, with its hash; else only that the data is stale, if it is."""
    links = chain(fingerprint, options.output) if options.plan_only else []
    width = max((len(link.name) for link in links), default=0)
    for number, link in enumerate(links):
        stale = f"  stale: {link.stale}" if link.stale else ""
        label = "" if number else "chain"
        say(f"  {label:8} {link.name:{width}}  {link.sha256[:12]}{stale}")
    if not links and is_changed(fingerprint.data):
        say(
            f"note: stale: {fingerprint.data['path']} was changed since preprocessing wrote it;"
            " python preprocess/data_preprocess.py makes it again"
        )


def _say_up_to_date(output: Path, figures: dict[str, Any]) -> None:
    bits = figures.get("held_out_bits_per_byte")
    measured = f", {bits:.3f} bits per byte held out" if bits is not None else ""
    print(f"up to date: {output.absolute()} ({plural(figures['step'], 'step')}{measured})")
    print(f"next: {prompt_command(output)}")


def _check_tokenizer(tokenizer: Path, fingerprint: RunFingerprint) -> None:
    """Raise UserError if the tokenizer's own record says that it was learnt from other data.

    A tokenizer without a record comes from elsewhere and is accepted.
    """
    try:
        record = json.loads((tokenizer / "provenance.json").read_text(encoding="utf-8"))
        learnt_from, file = record["data"]["sha256"], record["files"]["tokenizer.json"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    again = ["python", "preprocess/tokenizer.py", "-t"]
    for option, path, default in (
        ("--data", fingerprint.data["path"], Path("data.txt")),
        ("--tokenizer", fingerprint.tokenizer["path"], Path("tokenizer")),
    ):
        again += [] if Path(path) == default.absolute() else [option, path]
    command = shlex.join(again)
    if file != fingerprint.tokenizer["sha256"]:
        raise UserError(
            f"its files are not those of its provenance.json: {tokenizer.absolute()}: "
            f"learn it again: {command}"
        )
    if learnt_from != fingerprint.data["sha256"]:
        raise UserError(
            f"this tokenizer was learnt from other data: {tokenizer.absolute()}: "
            f"learn it again: {command}, or accept it with --any-tokenizer"
        )


# Corpus and plan


def load_dataset(context: RunContext) -> TokenDataset:
    """The corpus as tokens, without what the base model held out.

    All processes encode their share of it. The first joins the parts; then, where the cache of its machine
    is not the same, the first of each machine.
    Raises: UserError if nothing is left to train on, or another process has other data.
    """
    from data_loading.corpus_tokens import CorpusTokens
    from training.base_model import exclude_held_out

    options, base, ranks = context.options, context.base, context.ranks
    corpus = CorpusTokens(
        options.data,
        options.tokenizer,
        cache_of(options.data),
        threads=context.machine.threads,
        end_of_text_id=None if base is None else base.ids.end,
        identified=context.start.fingerprint.data,
    )
    dataset = corpus.find()
    if ranks.world_size > 1:
        if dataset is None:
            corpus.encode_share(ranks.rank, ranks.world_size)
        for joins in (ranks.is_main, is_first_of_machine()):
            ranks.barrier()
            if joins and dataset is None:
                dataset = corpus.find() or corpus.finish()
        ranks.barrier()
    if dataset is None:
        dataset = corpus.find() or corpus.finish()
    made_of = [dataset.data_sha256, dataset.tokenizer_sha256]
    problem = "" if made_of == ranks.broadcast(made_of) else (
        f"another corpus or tokenizer than on the first machine: {options.data.absolute()}:"
        " put them into a folder that all machines share, or copy them to each"
    )  # fmt: skip
    if problems := ranks.gather_problems(problem):
        if not ranks.is_main:
            raise SystemExit(ERROR)
        raise UserError(problems[0])
    if not len(dataset.train.tokens):
        raise UserError(
            f"there are no training documents in {options.data.absolute()}:"
            " collect more, then run: python preprocess/data_preprocess.py"
        )
    if base is not None:
        dataset = exclude_held_out(dataset, base.held_out)
        if not dataset.train.size:
            raise UserError(f"all files were held out of {base.folder}: use other ones")
    return dataset


def plan_run(context: RunContext, dataset: TokenDataset) -> tuple[Plan, TokenDataset, HeldOutMonitor]:
    """The recorded plan of an unfinished run, or a new one, which is printed.

    With the dataset whose documents it reads, and its monitor.
    """
    from data_loading.document_choice import choose_documents
    from training.monitor import HeldOutMonitor, draw_sample
    from training.plan import expected_bits_per_byte, plan_from_record

    unfinished = context.start.unfinished
    plan = _new_plan(context, dataset) if unfinished is None else plan_from_record(unfinished["plan"])
    sample = draw_sample(plan, dataset, context.options.tokenizer, unfinished)
    monitor = HeldOutMonitor(plan, dataset, sample)
    if plan.chooses_documents:
        with context.ranks.alike():
            dataset = choose_documents(dataset, plan.tokens, context.options.seed, context.options.like)
    if unfinished is not None:
        return plan, dataset, monitor
    # With --like the held-out files are other people's, of which it reads less than a forecast expects.
    if context.base is None and monitor.difficulty is not None and not context.options.like:
        train = dataset.train
        forecast = expected_bits_per_byte(
            plan.shape.parameters, plan.tokens * train.bytes_per_token, train.size_bytes, monitor.difficulty
        )
        plan = replace(plan, forecast=round(forecast, 4))
    print_plan(context, plan, dataset)
    return plan, dataset, monitor


def _new_plan(context: RunContext, dataset: TokenDataset) -> Plan:
    """The plan that rank 0 makes, for all ranks."""
    from training import base_model
    from training.plan import Corpus, PlanRequest, make_plan, plan_from_record, plan_record
    from training.sampled_softmax import sampler_for

    options, base = context.options, context.base
    request = PlanRequest(options.seconds, options.steps, **options.shape, parameters=options.size)
    if base is not None:
        if dataset.vocab_size > base.config.vocab_size:
            raise UserError(
                f"the tokenizer has {dataset.vocab_size:,} entries, the model {base.config.vocab_size:,}:"
                f" they do not belong together: {options.tokenizer.absolute()}"
            )
        if (request.block_size or 0) > base.config.block_size:
            raise UserError(f"--block-size can be {base.config.block_size} at most, as --init-from has it")
        rate, most_epochs = base_model.RATE, base_model.MOST_EPOCHS
        request = replace(request, base=base.config, rate=rate, most_epochs=most_epochs)
    softmax = None
    if base is None and not options.full_softmax:  # what a sample costs a trained model is not known
        softmax = sampler_for(dataset, context.machine, context.ranks, options.seed)
    corpus = Corpus(dataset.train.size, dataset.vocab_size, softmax)
    plan = make_plan(request, corpus, context.machine, context.ranks.world_size, sharded=options.fsdp)
    # Which documents teach a trained model least is not known either.
    plan = replace(plan, chooses_documents=base is None and not options.all_documents)
    return plan_from_record(context.ranks.broadcast(plan_record(plan, context.machine)))


def print_plan(context: RunContext, plan: Plan, dataset: TokenDataset) -> None:
    """Corpus, model, machine and length in words, and what to expect."""
    from data_loading.document_choice import describe_choice
    from training.base_model import describe_continuation
    from training.plan import FORECAST_WITHIN

    shape, train, ranks, asked = plan.shape, dataset.train, context.ranks.world_size, context.options.seconds
    held_out, once = len(dataset.held_out.text_bytes), train.once
    say(
        f"  corpus   {plural(len(once.lengths), 'file')}, {once.size_bytes / 1e6:,.1f} MB,"
        f" {once.size:,} tokens ({once.bytes_per_token:.2f} bytes each);"
        f" {plural(held_out, 'file')} held out"
    )
    if plan.chooses_documents and (choice := describe_choice(dataset, context.options.like)):
        say(f"           {choice}")
    say(
        f"  model    {shape.parameters / 1e6:.1f} M parameters: {plural(shape.n_layer, 'layer')},"
        f" {shape.n_embd} wide, {plural(shape.n_head, 'head')}, context {shape.block_size},"
        f" vocabulary {shape.vocab_size:,}"
    )
    several = f"{ranks} processes, each on " if ranks > 1 else ""
    say(
        f"  machine  {several}{context.machine.name}: {plan.tokens_per_second:,.0f} tokens/s,"
        f" about {plan.memory / 1e9:.1f} GB of memory"
    )
    seconds = plan.steps * plan.seconds_per_step
    say(
        f"  run      {clock(seconds)} = {plural(plan.steps, 'step')} of {plan.tokens_per_step:,} tokens,"
        f" {plan.tokens / once.size:.2g} epochs of these; then about 15 s of measuring"
    )
    if plan.sampled_softmax:
        say(
            f"  loss     in each step over a sample of the {shape.vocab_size:,} entries, held out over all"
            " (--full-softmax: always all)"
        )
    if plan.forecast is not None:
        low, high = plan.forecast / (1 + FORECAST_WITHIN), plan.forecast / (1 - FORECAST_WITHIN)
        say(f"  forecast {plan.forecast:.2f} bits per byte on held-out files ({low:.2f} to {high:.2f})")
    if shape.block_size == 1 << (train.size.bit_length() - 1):
        say(f"  the corpus has {train.size:,} tokens, so the context is {shape.block_size}")
    if asked is not None and plan.seconds is not None and plan.seconds < 0.98 * asked:
        say(f"  more time would only repeat this corpus, so it takes {clock(plan.seconds)} of {clock(asked)}")
    if context.base is not None:
        for line in describe_continuation(context.base, plan, dataset):
            say(line)


# The run


def _first_weights(context: RunContext, plan: Plan, dataset: TokenDataset) -> Callable[[GPT2], None]:
    """What sets the weights that a run does not begin with as they are drawn."""
    from gpt2.initial_weights import PAIR_TOKENS, embed_pairs

    base, ranks = context.base, context.ranks

    def load_base(model: GPT2) -> None:
        assert base is not None
        model.load_state_dict(base.weights(plan.shape.block_size))

    def count_pairs(model: GPT2) -> None:
        trunk, found = model.transformer, None
        if ranks.is_main:
            embed_pairs(trunk, plan.shape, dataset.train.sample(PAIR_TOKENS))
            found = {"wte": trunk.wte.weight.detach()}
        if ranks.world_size > 1:  # another processor's rounding may turn the embeddings round
            trunk.wte.weight.data.copy_(ranks.broadcast_tensors(found)["wte"])

    return count_pairs if base is None else load_base


def build_run(context: RunContext, plan: Plan, dataset: TokenDataset, monitor: HeldOutMonitor) -> Run:
    """A run that is ready to step: a new one, or the unfinished one where it stopped."""
    from data_loading.batches import FillInTheMiddle, PackedRows, read_fim_ids
    from training.base_model import held_out_names
    from training.run import Run
    from training.sampled_softmax import sampler_for
    from training.schedule import Schedule
    from training.trainer import Trainer

    options, base, machine, ranks = context.options, context.base, context.machine, context.ranks
    fim = FillInTheMiddle(options.fim_rate, read_fim_ids(options.tokenizer)) if options.fim_rate else None
    trainer = Trainer(
        plan,
        machine,
        PackedRows(dataset.train, plan.shape.block_size, options.seed, fim),
        Schedule(plan.steps, plan.seconds),
        options.seed,
        ranks,
        sharded=options.fsdp,
        first_weights=_first_weights(context, plan, dataset),
        is_trained=base is not None,
        softmax=sampler_for(dataset, machine, ranks, options.seed) if plan.sampled_softmax else None,
    )
    names, ids = held_out_names(dataset), SpecialIds()
    if base is not None:
        names, ids = names | base.held_out, base.ids
    folder = ModelFolder(
        options.output,
        plan.shape,
        options.tokenizer,
        context.start.fingerprint,
        ids,
        names.record,
        monitor.sample.record,
    )
    peak_flops = None if machine.peak_flops is None else ranks.world_size * machine.peak_flops
    progress = Progress(
        plan.tokens_per_step, plan.shape.flops_per_token, peak_flops, silent=not ranks.is_main
    )
    reports = options.report_to == "tensorboard" and ranks.is_main
    run = Run(
        trainer, dataset, folder, monitor, progress, TrainingLog(TensorBoardReport() if reports else None)
    )
    if context.start.unfinished is not None:
        checkpoint = run.resume()
        done, planned = run.schedule.step, run.schedule.steps
        say(f"resuming at step {done:,} of {planned:,}: {checkpoint.absolute()}")
    return run
