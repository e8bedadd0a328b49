"""What does a short run learn best with? Held-out bits per byte of runs that differ in one choice or a few.

    python benchmarks/learning_choices.py --shape 3 3 192 --steps 500
    python benchmarks/learning_choices.py --variants base momentum=0.9 momentum=0.9+muon=0.045 normuon
    python benchmarks/learning_choices.py --shape 4 4 256 --steps 300 --variants base momentum=0.95+muon=0.03
    python benchmarks/learning_choices.py --device cuda --dtype float32 --jobs 8   # many at once on a GPU
    python benchmarks/learning_choices.py --list                           # the choices, a line each

Each variant is a run of model/train.py's own trainer over --steps steps of 2,048 tokens, in a process of its
own: the same first weights, order of data and held-out files for all. A variant that changes the rows of a
step or their context makes as many more or fewer steps, so that all see the same number of tokens.
Finished variants are kept in --work and not run again. Prints a row each: bits per byte, as a share of
base's, nats a token of the same files cut into texts of 128 tokens that are seen alone ("short"), the mean
training loss of the last tenth in nats per token, CPU seconds and tokens per CPU second of stepping. The bits
per byte do not depend on how busy the machine is, and on one thread not on its speed. In the same precision a
GPU gives the same figures as a CPU to within rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from data_loading.token_file import TokenDataset
    from evaluation.bits_per_byte import Excerpt
    from gpt2.network import GPT2

SHORT_TOKENS = 128  # of a text that is scored alone: about as short as a prompt

# What benchmarks/LOG.md lists as untried, beside what is in use
VARIANTS = (
    *("base", "normuon", "unigram=8", "z-loss=1e-4", "masks", "unlearnt-starts", "ramp=2", "tail=0.1"),
    *("ema=0.98", "rows=2", "rows=8", "context=256", "context=1024", "unshuffled-rows", "epochs=4"),
    *("fim=0.5", "length-warmup=0", "length-warmup=0.6", "short-length=128", "sinusoids=0.1"),
    *("positions=0", "wpe-rate=0.1"),
)


@dataclass(frozen=True)
class Trained:
    """The result of one variant."""

    variant: str
    bits_per_byte: float
    short: float  # nats a token in the first SHORT_TOKENS of a text
    last_loss: float
    steps: int
    tokens: int
    cpu_seconds: float


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents")
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    parser.add_argument(
        "--cache", type=Path, help="encoded tokens (default: beside the data, as model/train.py)"
    )
    parser.add_argument("--shape", type=int, nargs=3, default=[3, 3, 192], help="layers heads width")
    parser.add_argument("--steps", type=int, default=500, help="of 2,048 tokens")
    parser.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), help="choices as name or name=value, joined by +"
    )
    parser.add_argument("--held-out-kb", type=int, default=300, help="of held-out files to score")
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], default="cpu", help="where to compute")
    parser.add_argument("--dtype", default="auto", help="precision of the products")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--jobs", type=int, default=1, help="variants at a time")
    parser.add_argument(
        "--work", type=Path, default=Path("learning_choices"), help="folder of what is finished"
    )
    parser.add_argument(
        "--teacher", type=Path, help="folder of the model that the choice teacher learns from"
    )
    parser.add_argument("--list", action="store_true", help="print the choices and stop")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one variant, in a process of its own
    return parser


def corpus(options: argparse.Namespace) -> TokenDataset:
    from data_loading.corpus_tokens import encode_corpus
    from pretrained.corpus_files import cache_of

    cache = options.cache or cache_of(options.data)
    return encode_corpus(options.data, options.tokenizer, cache, threads=options.threads)


def run_variant(options: argparse.Namespace, variant: str) -> Trained:
    """Train with these choices and score the weights."""
    import torch

    from data_loading.batches import PackedRows
    from evaluation.bits_per_byte import draw_whole_files, score
    from gpt2.config import GPT2Config
    from gpt2.device import find_machine, keep_freed_memory
    from learning_preparations import PREPARING, STEP_TOKENS, Preparation
    from learning_variants import ADAPTING, Trial, parse_variant
    from training.plan import Plan
    from training.schedule import Schedule
    from training.trainer import Trainer

    keep_freed_memory()
    machine = find_machine(options.device, options.dtype, options.threads)
    torch.compiler.set_stance("force_eager")  # a short run is over before a compiler is
    choices = parse_variant(variant)
    made_of = Preparation(corpus(options), context=512, tokens=options.steps * STEP_TOKENS)
    for name, value in sorted(choices.items(), key=lambda choice: choice[0] != "seed"):  # others draw by it
        if name in PREPARING:
            PREPARING[name](made_of, value)
    dataset, context = made_of.dataset, made_of.context
    rows = made_of.rows or max(1, round(STEP_TOKENS / context))
    steps = max(1, round(made_of.tokens / (rows * context)))
    n_layer, n_head, n_embd = options.shape
    shape = GPT2Config(n_layer, n_head, n_embd, context, dataset.vocab_size, n_inner=made_of.inner)
    plan = Plan(
        shape, rows, rows, steps, None, seconds_per_step=0.0, memory=0.0, length_warmup=made_of.length_warmup
    )
    packed = PackedRows(dataset.train, context, made_of.seed, made_of.fim)
    schedule = Schedule(steps)
    trainer = Trainer(plan, machine, packed, schedule, made_of.seed)
    trial = Trial(trainer, dataset, teacher=options.teacher)
    for name, value in choices.items():
        if name in ADAPTING:
            ADAPTING[name](trial, value)
    losses = []
    started = time.process_time()
    while not schedule.done:
        for prepare in trial.before:
            prepare(schedule.step)
        losses.append(float(trainer.step()))
        for follow in trial.after:
            follow()
    for finish in trial.finally_:
        finish()
    cpu_seconds = time.process_time() - started
    excerpts = draw_whole_files(dataset.held_out, 1000 * options.held_out_kb).excerpts
    measured = score(trainer.model, dataset.held_out, excerpts, dataset.end_of_text_id)
    last = losses[-max(1, steps // 10) :]
    return Trained(
        variant,
        round(measured.bits_per_byte, 4),
        round(short_texts(trainer.model, dataset, excerpts), 4),
        round(math.fsum(last) / len(last), 4),
        steps,
        steps * rows * context,
        round(cpu_seconds, 1),
    )


def short_texts(model: GPT2, dataset: TokenDataset, excerpts: list[Excerpt]) -> float:
    """Nats a token with little context: the files cut into texts of SHORT_TOKENS tokens."""
    from evaluation.bits_per_byte import score, whole_file

    split = dataset.held_out
    spans = [(int(split.offsets[each.file]), int(split.offsets[each.file + 1])) for each in excerpts]
    cuts = [first for start, end in spans for first in range(start, end - SHORT_TOKENS + 1, SHORT_TOKENS)]
    ends = [end for first in cuts for end in (first, first + SHORT_TOKENS)]
    # Every second "file" is a text, and its "bytes" are tokens.
    texts = replace(split, offsets=np.array(ends), text_bytes=np.full(len(ends), SHORT_TOKENS))
    found = score(model, texts, [whole_file(texts, 2 * n) for n in range(len(cuts))], dataset.end_of_text_id)
    return found.bits_per_byte * math.log(2)


def kept_in(options: argparse.Namespace) -> Path:
    """The file of the finished variants with this data, tokenizer, shape, length, sample and precision."""
    from gpt2.device import find_machine

    dataset, machine = corpus(options), find_machine(options.device, options.dtype, options.threads)
    shape = "x".join(map(str, options.shape))
    names = [dataset.data_sha256[:8], dataset.tokenizer_sha256[:8], shape, options.steps, options.held_out_kb]
    names += [machine.device.type, machine.precision]
    if options.teacher is not None:
        names.append(sha256((options.teacher / "model.safetensors").read_bytes()).hexdigest()[:8])
    work: Path = options.work
    return work / f"{'-'.join(map(str, names))}.jsonl"


def read_kept(path: Path) -> dict[str, Trained]:
    if not path.exists():
        return {}
    records: list[dict[str, Any]] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {record["variant"]: Trained(**record) for record in records}


def table(results: list[Trained], base: Trained | None) -> str:
    """A row for each variant, in the order in which they were asked for."""
    width = max(len(result.variant) for result in results) + 2
    header = ("bits/byte", "of base", "short", "last loss", "steps", "CPU s", "tokens/s")
    lines = [f"{'':<{width}}" + "".join(f"{name:>11}" for name in header)]
    for result in results:
        share = f"{result.bits_per_byte / base.bits_per_byte:.4f}" if base else ""
        figures = (
            f"{result.bits_per_byte:.4f}",
            share,
            f"{result.short:.4f}",
            f"{result.last_loss:.4f}",
            f"{result.steps:,}",
            f"{result.cpu_seconds:,.1f}",
            f"{result.tokens / max(result.cpu_seconds, 0.1):,.0f}",
        )
        lines.append(f"{result.variant:<{width}}" + "".join(f"{figure:>11}" for figure in figures))
    return "\n".join(lines)


def list_choices() -> None:
    from learning_preparations import PREPARING
    from learning_variants import ADAPTING

    for name, choice in {**PREPARING, **ADAPTING}.items():
        print(f"{name:<18}{(choice.__doc__ or '').splitlines()[0]}")


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    if options.list:
        list_choices()
        return 0
    if options.run:
        print(json.dumps(asdict(run_variant(options, options.run))))
        return 0
    from learning_variants import parse_variant

    for variant in options.variants:
        try:
            if "teacher" in parse_variant(variant) and options.teacher is None:
                raise ValueError("it needs --teacher FOLDER")
        except ValueError as error:
            raise SystemExit(f"error: --variants {variant}: {error}") from None
    options.work.mkdir(parents=True, exist_ok=True)
    kept = kept_in(options)
    results = read_kept(kept)
    arguments = sys.argv[1:] if argv is None else argv
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}

    def train(variant: str) -> None:
        command = [sys.executable, __file__, *arguments, "--run", variant]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        results[variant] = Trained(**json.loads(done.stdout.splitlines()[-1]))
        with kept.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(asdict(results[variant])) + "\n")
        print(results[variant], file=sys.stderr, flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        missing = [variant for variant in dict.fromkeys(options.variants) if variant not in results]
        list(pool.map(train, missing))
    print(table([results[variant] for variant in options.variants], results.get("base")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
