"""Ours against what people would use instead: equal wall time, data, tokenizer and shape, in one table.

    python benchmarks/train_against.py --seconds 180 --seeds 0 1 2 --nanogpt ~/nanoGPT
    python benchmarks/train_against.py --seconds 30 --contenders ours adamw
    python benchmarks/train_against.py --seconds 1800 --paces train_against.jsonl --device cuda --jobs 6 ...

ours              model/train.py with that shape and clock
adamw             a plain PyTorch loop: GPT2LMHeadModel, float32, AdamW 1e-3 with cosine decay, random rows
trainer           transformers' Trainer with CodeParrot's settings: 5e-4, cosine, weight decay 0.1
trainer-defaults  the same with the Trainer's own: 5e-5, linear decay
nanogpt           train.py of a checkout of karpathy/nanoGPT, its rates as for small models: 1e-3 to 1e-4,
                  warm-up 20, beta2 0.99, no dropout

The clock counts the seconds of stepping alone. The Trainer and nanoGPT make a pilot run first, from whose
pace their number of steps is set, so that their schedules end with the clock: on a machine that others
use the paces differ, and the column of seconds shows by how much. All are scored by the same code on the
same whole held-out files. The rows: tokens per second, bits per byte (mean, lowest and highest of the
seeds), ours as a share of it.

With --paces nobody looks at the clock: each makes the steps that it would make in the seconds at its mean
pace in that record of earlier runs, and what is learnt is the same to within rounding (use float32) on
whatever device. So a GPU finishes in a minute what the machine of the record would take hours for.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast import planned_steps
from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from gpt2 import Shape
    from token_dataset import TokenDataset
    from torch import Tensor

CONTENDERS = ("ours", "adamw", "trainer", "trainer-defaults", "nanogpt")
PILOT_STEPS = 12
WARM_UP_STEPS = 20


@dataclass(frozen=True)
class Result:
    """What one contender came to with one seed."""

    contender: str
    seed: int
    tokens: int
    seconds: float
    bits_per_byte: float


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents")
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    parser.add_argument("--seconds", type=float, default=180, help="of stepping, for each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run for each")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="(default: all that there are)")
    parser.add_argument("--nanogpt", type=Path, help="checkout of nanoGPT (default: it does not take part)")
    parser.add_argument(
        "--shape", type=int, nargs=4, default=[4, 4, 256, 256], help="layers heads width context"
    )
    parser.add_argument("--batch", type=int, default=8, help="sequences per step of the others")
    parser.add_argument("--paces", type=Path, help="record of runs whose paces count instead of the clock")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, with --paces")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    parser.add_argument("--held-out-kb", type=int, default=1000, help="of held-out files to score")
    parser.add_argument("--record", type=Path, default=Path("train_against.jsonl"), help="gets a line a run")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one contender and seed, in a process of its own
    return parser


def paced_tokens(options: argparse.Namespace, name: str) -> float | None:
    """Tokens that a contender makes in the seconds at its pace in the record; None: the clock decides."""
    if options.paces is None:
        return None
    records = [json.loads(line) for line in options.paces.read_text(encoding="utf-8").splitlines()]
    paces: list[float] = [r["tokens"] / r["seconds"] for r in records if r["contender"] == name]
    if not paces:
        raise SystemExit(f"there is no run of {name} in {options.paces}: make one first")
    return statistics.mean(paces) * float(options.seconds)


def paced_steps(options: argparse.Namespace, name: str) -> int | None:
    """The same in steps of the others' batch."""
    tokens = paced_tokens(options, name)
    return None if tokens is None else max(2, round(tokens / (options.batch * options.shape[3])))


# The contenders ----------------------------------------------------------------------------------


def corpus(options: argparse.Namespace) -> TokenDataset:
    from token_dataset import encode_corpus

    cache = options.data.with_name(f"{options.data.stem}.cache")
    return encode_corpus(options.data, options.tokenizer, cache, threads=options.threads)


def shape_of(options: argparse.Namespace, vocab_size: int) -> Shape:
    from gpt2 import Shape

    n_layer, n_head, n_embd, block_size = options.shape
    return Shape(n_layer, n_head, n_embd, block_size, vocab_size)


def finished(
    options: argparse.Namespace,
    name: str,
    seed: int,
    tokens: int,
    seconds: float,
    weights: dict[str, Tensor],
    shape: Shape,
) -> Result:
    """Score the weights on the same held-out files as everybody's."""
    from gpt2 import GPT2
    from held_out import sample_files, score

    model = GPT2(shape)
    model.load_state_dict(weights)
    dataset = corpus(options)
    files = sample_files(dataset.held_out, 1000 * options.held_out_kb)
    bits = score(model, dataset.held_out, files, dataset.end_of_text_id).bits_per_byte
    return Result(name, seed, tokens, seconds, bits)


def run_ours(options: argparse.Namespace, seed: int, folder: Path) -> Result:
    from adapting import read_ancestor

    output = folder / "GPyT"
    names = ("--n-layer", "--n-head", "--n-embd", "--block-size")
    shape = [word for name, value in zip(names, options.shape, strict=True) for word in (name, str(value))]
    files = ["--data", str(options.data), "--tokenizer", str(options.tokenizer), "--output", str(output)]
    tokens = paced_tokens(options, "ours")
    length = (
        ["--minutes", str(options.seconds / 60)]
        if tokens is None
        else ["--steps", str(round(planned_steps(tokens, options.shape[3]))), "--dtype", "float32"]
    )
    machine = ["--threads", str(options.threads), "--device", options.device]
    program = [sys.executable, str(PROJECT / "model/train.py")]
    command = [*program, *files, *shape, *length, *machine, "--seed", str(seed)]
    subprocess.run(command, check=True, stdout=sys.stderr, stdin=subprocess.DEVNULL)
    figures = json.loads((output / "provenance.json").read_text(encoding="utf-8"))["figures"]
    ancestor = read_ancestor(output, output)
    weights = ancestor.weights(options.shape[3])
    return finished(options, "ours", seed, figures["tokens"], figures["seconds"], weights, ancestor.shape())


def stock_model(options: argparse.Namespace, vocab_size: int, seed: int, **config: Any) -> Any:
    """transformers' GPT2LMHeadModel as its configuration comes."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    layers, heads, width, context = options.shape
    numbers = {"n_layer": layers, "n_head": heads, "n_embd": width, "n_positions": context}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocab_size, bos_token_id=0, eos_token_id=0, **numbers, **config)
    )


def own_names(model: Any, shape: Shape) -> dict[str, Tensor]:
    """The weights of a GPT2LMHeadModel as our GPT2 takes them."""
    from gpt2 import GPT2

    state = model.state_dict()
    return {name: state[name] for name in GPT2(shape).state_dict()}


def random_rows(dataset: TokenDataset, rows: int, context: int, random: Any) -> Tensor:
    import numpy as np
    import torch

    starts = random.integers(0, len(dataset.train.tokens) - context - 1, rows)
    return torch.from_numpy(
        np.stack([dataset.train.tokens[s : s + context + 1].astype(np.int64) for s in starts])
    )


def run_adamw(options: argparse.Namespace, seed: int, folder: Path) -> Result:
    """The loop that one writes first."""
    import numpy as np
    import torch

    dataset, context = corpus(options), options.shape[3]
    model = stock_model(options, dataset.vocab_size, seed, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    model.to(options.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    random = np.random.default_rng(seed)

    def step() -> None:
        batch = random_rows(dataset, options.batch, context, random).to(options.device)
        logits = model(input_ids=batch[:, :-1]).logits
        loss: Any = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    planned = paced_steps(options, "adamw")
    started, steps = time.perf_counter(), 0

    def progress() -> float:
        return steps / planned if planned else (time.perf_counter() - started) / options.seconds

    while (share := progress()) < 1:
        rate = 1e-4 + 0.5 * (1e-3 - 1e-4) * (1 + np.cos(np.pi * share))
        optimizer.param_groups[0]["lr"] = float(rate * min(1.0, (steps + 1) / WARM_UP_STEPS))
        step()
        steps += 1
    seconds = time.perf_counter() - started
    shape = shape_of(options, dataset.vocab_size)
    tokens = steps * options.batch * context
    return finished(options, "adamw", seed, tokens, seconds, own_names(model, shape), shape)


def run_trainer(options: argparse.Namespace, seed: int, folder: Path, *, defaults: bool) -> Result:
    """transformers' Trainer over consecutive rows, with dropout as GPT2Config has it."""
    import torch
    from transformers import Trainer, TrainingArguments

    dataset, context = corpus(options), options.shape[3]
    count = len(dataset.train.tokens) // context
    rows = torch.from_numpy(dataset.train.tokens[: count * context].astype("int64")).view(count, context)
    examples = [{"input_ids": row, "labels": row} for row in rows]
    chosen: dict[str, Any] = {} if defaults else {
        "learning_rate": 5e-4, "lr_scheduler_type": "cosine", "weight_decay": 0.1,
        "warmup_steps": WARM_UP_STEPS,
    }  # fmt: skip

    def train(steps: int) -> tuple[Any, float]:
        model = stock_model(options, dataset.vocab_size, seed)
        arguments = TrainingArguments(
            output_dir=str(folder), max_steps=steps, per_device_train_batch_size=options.batch, seed=seed,
            save_strategy="no", report_to="none", use_cpu=options.device == "cpu", disable_tqdm=True,
            logging_strategy="no", **chosen,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=examples)
        seconds = trainer.train().metrics["train_runtime"]
        return model, float(seconds)

    name = "trainer-defaults" if defaults else "trainer"
    steps = paced_steps(options, name)
    if steps is None:
        pace = train(PILOT_STEPS)[1] / PILOT_STEPS
        steps = max(1, round(options.seconds / pace))
    model, seconds = train(steps)
    shape = shape_of(options, dataset.vocab_size)
    tokens = steps * options.batch * context
    return finished(options, name, seed, tokens, seconds, own_names(model, shape), shape)


def run_nanogpt(options: argparse.Namespace, seed: int, folder: Path) -> Result:
    """nanoGPT's own train.py on our token file; its checkpoint in our names."""
    import torch

    dataset = corpus(options)
    for name in ("train.py", "model.py", "configurator.py"):
        shutil.copyfile(options.nanogpt / name, folder / name)
    script = (folder / "train.py").read_text(encoding="utf-8")
    (folder / "train.py").write_text(
        script.replace("manual_seed(1337", f"manual_seed({1337 + seed}"), encoding="utf-8"
    )
    data = folder / "data" / "own"
    data.mkdir(parents=True)
    dataset.train.tokens.astype("uint16").tofile(data / "train.bin")
    dataset.held_out.tokens.astype("uint16").tofile(data / "val.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": dataset.vocab_size}))
    layers, heads, width, context = options.shape
    settings: dict[str, Any] = {
        "dataset": "own", "device": options.device, "compile": False, "dtype": "float32", "eval_iters": 1,
        "gradient_accumulation_steps": 1, "batch_size": options.batch, "block_size": context,
        "n_layer": layers, "n_head": heads, "n_embd": width, "dropout": 0.0, "learning_rate": 1e-3,
        "min_lr": 1e-4, "warmup_iters": WARM_UP_STEPS, "beta2": 0.99, "log_interval": 1,
    }  # fmt: skip

    def train(steps: int) -> list[float]:
        lengths = {"max_iters": steps, "lr_decay_iters": steps, "eval_interval": steps}
        words = [f"--{name}={value}" for name, value in {**settings, **lengths}.items()]
        done = subprocess.run(
            [sys.executable, "train.py", *words], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
        )
        return [
            float(time) / 1000
            for time in re.findall(r"^iter \d+: .*time ([\d.]+)ms", done.stdout, re.MULTILINE)
        ]

    steps = paced_steps(options, "nanogpt")
    if steps is None:
        pace = statistics.median(train(PILOT_STEPS)[2:-1])
        steps = max(2, round(options.seconds / pace))
    times = train(steps)[1:-1]  # the first and the last one hold its evaluations
    checkpoint = torch.load(folder / "out" / "ckpt.pt", weights_only=True, map_location="cpu")
    weights, shape = from_nanogpt(checkpoint["model"], shape_of(options, dataset.vocab_size))
    return finished(options, "nanogpt", seed, steps * options.batch * context, sum(times), weights, shape)


def from_nanogpt(state: dict[str, Tensor], shape: Shape) -> tuple[dict[str, Tensor], Shape]:
    """nanoGPT's weights by our names: matrices transposed, no biases, exact GELU."""
    from dataclasses import replace

    from gpt2 import GPT2, Variant

    weights = {}
    for name, own in GPT2(shape).state_dict().items():
        theirs = state.get(name.replace("_orig_mod.", ""))
        if theirs is None:
            weights[name] = own.zero_()
        else:
            is_matrix = ".h." in name and theirs.dim() == 2
            weights[name] = (theirs.T if is_matrix else theirs).contiguous()
    return weights, replace(shape, variant=Variant(activation_function="gelu"))


def run_one(options: argparse.Namespace, name: str, seed: int) -> Result:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if name == "ours":
            return run_ours(options, seed, folder)
        if name == "adamw":
            return run_adamw(options, seed, folder)
        if name == "nanogpt":
            return run_nanogpt(options, seed, folder)
        return run_trainer(options, seed, folder, defaults=name == "trainer-defaults")


# The table ---------------------------------------------------------------------------------------


def table(results: list[Result]) -> str:
    """A row for each contender, the best first."""
    by_name = {name: [r for r in results if r.contender == name] for name in CONTENDERS}
    means = {name: statistics.mean(r.bits_per_byte for r in rows) for name, rows in by_name.items() if rows}
    lines = [
        f"{'':<18}{'seeds':>5}{'tokens/s':>10}{'tokens':>11}{'seconds':>9}"
        f"{'bits/byte':>11}{'low':>8}{'high':>8}{'ours is':>9}"
    ]
    for name in sorted(means, key=lambda name: means[name]):
        rows = by_name[name]
        speed = statistics.mean(r.tokens / r.seconds for r in rows)
        tokens, seconds = (
            statistics.mean(getattr(r, field) for r in rows) for field in ("tokens", "seconds")
        )
        bits = [r.bits_per_byte for r in rows]
        ratio = f"{means['ours'] / means[name]:.3f}" if "ours" in means else ""
        lines.append(
            f"{name:<18}{len(rows):>5}{speed:>10,.0f}{tokens:>11,.0f}{seconds:>9.1f}"
            f"{means[name]:>11.4f}{min(bits):>8.4f}{max(bits):>8.4f}{ratio:>9}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    options.data, options.tokenizer = options.data.absolute(), options.tokenizer.absolute()
    if options.nanogpt is not None:
        options.nanogpt = options.nanogpt.absolute()
    if options.paces is None and (options.device != "cpu" or options.jobs > 1):
        raise SystemExit("--device and --jobs take --paces: what the clock says of them is no comparison")
    if options.run:
        import torch

        torch.set_num_threads(options.threads)
        name, seed = options.run.split(":")
        print(json.dumps(asdict(run_one(options, name, int(seed)))))
        return 0
    chosen = options.contenders or [name for name in CONTENDERS if name != "nanogpt" or options.nanogpt]
    if "nanogpt" in chosen and options.nanogpt is None:
        raise SystemExit("nanogpt takes part with --nanogpt PATH, a checkout of karpathy/nanoGPT")
    corpus(options)
    arguments = sys.argv[1:] if argv is None else argv
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}

    def run(name: str, seed: int) -> Result:
        command = [sys.executable, __file__, *arguments, "--run", f"{name}:{seed}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        result = Result(**json.loads(done.stdout.splitlines()[-1]))
        with options.record.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        print(result, file=sys.stderr, flush=True)
        return result

    # in turn, so that a busy hour of the machine meets all of them
    runs = [(name, seed) for seed in options.seeds for name in chosen]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(run, *zip(*runs, strict=True)))
    print(table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
