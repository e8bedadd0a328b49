"""The contenders of benchmarks/train_against.py: each run in its own loop, all scored by the same code."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey import PROJECT
from run_length import length_options

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from torch import Tensor

    from data_loading.token_file import TokenDataset
    from gpt2.config import GPT2Config

CONTENDERS = ("ours", "adamw", "trainer", "trainer-defaults", "nanogpt")
PILOT_STEPS = 12
WARM_UP_STEPS = 20


@dataclass(frozen=True)
class Result:
    """The result of one contender with one seed."""

    contender: str
    seed: int
    tokens: int
    seconds: float
    bits_per_byte: float


def paced_tokens(options: argparse.Namespace, name: str) -> float | None:
    """Tokens that a contender reads in the seconds at its speed in the record; None: the clock decides."""
    if options.paces is None:
        return None
    records = [json.loads(line) for line in options.paces.read_text(encoding="utf-8").splitlines()]
    paces: list[float] = [r["tokens"] / r["seconds"] for r in records if r["contender"] == name]
    if not paces:
        raise SystemExit(f"{options.paces} has no run of {name}: make one first")
    return statistics.mean(paces) * float(options.seconds)


def paced_steps(options: argparse.Namespace, name: str) -> int | None:
    """The same in steps of the others' batch."""
    tokens = paced_tokens(options, name)
    return None if tokens is None else max(2, round(tokens / (options.batch * options.shape[3])))


def corpus(options: argparse.Namespace) -> TokenDataset:
    """What the contenders see: it has no file that is reported on."""
    return encoded(options.data, options)


def encoded(data: Path, options: argparse.Namespace) -> TokenDataset:
    from data_loading.corpus_tokens import encode_corpus
    from pretrained.corpus_files import cache_of

    return encode_corpus(data, options.tokenizer, cache_of(data), threads=options.threads)


def shape_of(options: argparse.Namespace, vocab_size: int) -> GPT2Config:
    from gpt2.config import GPT2Config

    n_layer, n_head, n_embd, block_size = options.shape
    return GPT2Config(n_layer, n_head, n_embd, block_size, vocab_size)


def finished(
    options: argparse.Namespace,
    name: str,
    seed: int,
    tokens: int,
    seconds: float,
    weights: dict[str, Tensor],
    shape: GPT2Config,
) -> Result:
    """Score the weights on the files that are reported on, the same for all contenders."""
    from evaluation.bits_per_byte import draw_whole_files, score
    from gpt2.network import GPT2

    model = GPT2(shape)
    model.load_state_dict(weights)
    dataset = encoded(options.reported, options)
    excerpts = draw_whole_files(dataset.held_out, 1000 * options.held_out_kb).excerpts
    bits = score(model, dataset.held_out, excerpts, dataset.end_of_text_id).bits_per_byte
    return Result(name, seed, tokens, seconds, bits)


def run_ours(options: argparse.Namespace, seed: int, folder: Path) -> Result:
    from training.base_model import read_base_model

    output = folder / "GPyT"
    names = ("--n-layer", "--n-head", "--n-embd", "--block-size")
    shape = [word for name, value in zip(names, options.shape, strict=True) for word in (name, str(value))]
    files = ["--data", str(options.data), "--tokenizer", str(options.tokenizer), "--output", str(output)]
    files.append("--any-tokenizer")  # learnt from the same documents before some were set apart
    tokens = paced_tokens(options, "ours")
    length = (
        ["--minutes", str(options.seconds / 60), "--dtype", options.dtype]
        if tokens is None
        else [*length_options(tokens, options.shape[3]), "--dtype", "float32"]
    )
    machine = ["--threads", str(options.threads), "--device", options.device]
    program = [sys.executable, str(PROJECT / "model/train.py")]
    command = [*program, *files, *shape, *length, *machine, "--seed", str(seed)]
    subprocess.run(command, check=True, stdout=sys.stderr, stdin=subprocess.DEVNULL)
    figures = json.loads((output / "provenance.json").read_text(encoding="utf-8"))["figures"]
    base = read_base_model(output, output)
    weights = base.weights(options.shape[3])
    return finished(options, "ours", seed, figures["tokens"], figures["seconds"], weights, base.config)


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


def own_names(model: Any, shape: GPT2Config) -> dict[str, Tensor]:
    """The weights of a GPT2LMHeadModel as our GPT2 takes them."""
    from gpt2.network import GPT2

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
    highest, lowest = options.rate, options.rate / 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=highest, betas=(0.9, 0.95), weight_decay=0.1)
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
        rate = lowest + 0.5 * (highest - lowest) * (1 + np.cos(np.pi * share))
        optimizer.param_groups[0]["lr"] = float(rate * min(1.0, (steps + 1) / WARM_UP_STEPS))
        step()
        steps += 1
    seconds = time.perf_counter() - started
    shape = shape_of(options, dataset.vocab_size)
    tokens = steps * options.batch * context
    return finished(options, "adamw", seed, tokens, seconds, own_names(model, shape), shape)


def run_trainer(options: argparse.Namespace, seed: int, folder: Path, *, defaults: bool) -> Result:
    """transformers' Trainer over consecutive rows, with dropout as its GPT2Config has it."""
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
        "n_layer": layers, "n_head": heads, "n_embd": width, "dropout": 0.0,
        "learning_rate": options.rate, "min_lr": options.rate / 10,
        "warmup_iters": WARM_UP_STEPS, "beta2": 0.99, "log_interval": 1,
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


def from_nanogpt(state: dict[str, Tensor], shape: GPT2Config) -> tuple[dict[str, Tensor], GPT2Config]:
    """nanoGPT's weights by our names: matrices transposed, no biases, exact GELU."""
    from dataclasses import replace

    from gpt2.network import GPT2

    weights = {}
    for name, own in GPT2(shape).state_dict().items():
        theirs = state.get(name.replace("_orig_mod.", ""))
        if theirs is None:
            weights[name] = own.zero_()
        else:
            is_matrix = ".h." in name and theirs.dim() == 2
            weights[name] = (theirs.T if is_matrix else theirs).contiguous()
    return weights, replace(shape, activation_function="gelu")


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
