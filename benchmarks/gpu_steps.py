"""The steps of gpu_check.py: what each runs, what it has to find, and its figure for the table."""

from __future__ import annotations

import json
import re
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from gpu_place import LeftOutError, Place, Scale, StepError, end_family, found
from journey import PROJECT

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TRAIN, ONE_CARD = str(PROJECT / "model/train.py"), str(PROJECT / "benchmarks/one_card.py")

# Prints what a run needs to know of its machine, as JSON.
PROBE = """
import importlib.util, json, platform, sys
import torch
about = {"torch": torch.__version__, "python": platform.python_version(), "cards": 0, "triton": True}
about["name"] = f"{torch.get_num_threads()} CPU threads"
if sys.argv[1] == "cuda":
    if not torch.cuda.is_available():
        raise SystemExit(f"error: this torch ({torch.__version__}) finds no CUDA device")
    about |= {"cuda": torch.version.cuda, "name": torch.cuda.get_device_name(0)}
    about |= {"cards": torch.cuda.device_count()}
    about |= {"triton": importlib.util.find_spec("triton") is not None}
print(json.dumps(about))
"""


SCALES = {
    "cuda": Scale(
        device="cuda",
        patience=1.0,
        megabytes="20",
        vocabulary="4096",
        speed=("--steps", "20"),
        minutes="0.3",
        training=tuple(
            "--n-layer 4 --n-head 4 --n-embd 256 --block-size 512 --batch-size 64 --steps 300".split()
        ),
        learnt=2.5,
        apart=0.02,  # a GPU adds in any order
        writing=("--samples", "4", "--max-new-tokens", "128"),
        evaluation=("--kilobytes", "64", "--samples", "4", "--max-new-tokens", "32"),
    ),
    "cpu": Scale(
        device="cpu",
        patience=8.0,
        megabytes="2",
        vocabulary="512",
        speed=tuple("--shape 1 1 64 64 --vocab-size 512 --rows 2 --steps 2".split()),
        minutes="0.05",
        training=tuple(
            "--n-layer 1 --n-head 1 --n-embd 32 --block-size 64 --batch-size 8 --steps 60 --threads 1".split()
        ),
        learnt=4.0,
        apart=0.0,
        writing=("--samples", "2", "--max-new-tokens", "16"),
        evaluation=("--kilobytes", "8", "--samples", "1", "--max-new-tokens", "8"),
    ),
}


@dataclass(frozen=True)
class Step:
    """A row of the table: its limit in seconds, and the work that returns its figure."""

    name: str
    seconds: float
    work: Callable[[Place], str]


# What the others need


def look_at_device(place: Place) -> str:
    place.about = json.loads(found(r"^\{.*\}$", place.run("-c", PROBE, place.scale.device))[0])
    if not place.about["triton"]:
        raise StepError("Triton is not there, so nothing is compiled")
    cards = place.about["cards"]
    return f"{cards} GPU{'s' * (cards != 1)}, Triton is there" if cards else "no GPU"


def make_corpus(place: Place) -> str:
    data, tokenizer = place.folder / "data.txt", place.folder / "tokenizer"
    if place.corpus is None:
        place.script("data_collector/data_collector.py", "--local", "--max-mb", place.scale.megabytes)
        place.script("preprocess/data_cleaner.py")
        place.script("preprocess/data_preprocess.py")
        place.script("preprocess/tokenizer.py", "-t", "--vocab-size", place.scale.vocabulary)
    else:
        try:
            shutil.copy(place.corpus / "data.txt", data)
            shutil.copytree(place.corpus / "tokenizer", tokenizer, dirs_exist_ok=True)
        except OSError as error:
            raise StepError(f"there is no data.txt with a tokenizer/: {error}") from error
    return f"data.txt of {data.stat().st_size / 1e6:.1f} MB"


# Speed


def measure_speed(place: Place, *options: str) -> str:
    output = place.script(
        "benchmarks/train_gpu.py", "--device", place.scale.device, *place.scale.speed, *options
    )
    speed = found(r"([\d,]+) tokens/s, .* a step, ([\d.]+) GB", output)
    share = found(r"TFLOP/s: (.*% of the measured matrix rate.*)$", output)
    return f"**{speed[1]} tokens/s**, {share[1]}, {speed[2]} GB"


# Training


def train(place: Place, output: str, *options: str) -> dict[str, Any]:
    """Train to the end. Returns the record of the run."""
    files = ("--output", output, "--device", place.scale.device)
    place.script("model/train.py", *files, *options)
    return record_of(place, output)


def record_of(place: Place, output: str) -> dict[str, Any]:
    """A finished run's provenance.json. Raises: StepError if it is none."""
    try:
        record: dict[str, Any] = json.loads((place.folder / output / "provenance.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StepError(f"no record of a run: {error}") from error
    if not record.get("finished") or "held_out_bits_per_byte" not in record.get("figures", {}):
        raise StepError("the run is not finished")
    return record


def in_words(record: dict[str, Any]) -> str:
    figures = record["figures"]
    speed = figures["tokens"] / max(figures["seconds"], 0.1)
    skipped = figures["skipped_steps"]
    words = f"{figures['held_out_bits_per_byte']:.3f} bits per byte, {speed:,.0f} tokens/s"
    return words + (f", {skipped} of {figures['step']} steps skipped" if skipped else "")


def train_by_the_dial(place: Place) -> str:
    """Minutes alone are given: the machine is measured, and the run has to end on time."""
    record = train(place, "GPyT", "--minutes", place.scale.minutes, "--dtype", "bfloat16")
    figures = record["figures"]
    forecast = figures.get("forecast_off_by")
    foretold = "" if forecast is None else f", forecast {forecast:+.1%}"
    seconds = f"{figures['seconds']:.0f} of {60 * float(place.scale.minutes):.0f} s"
    return f"{record['plan']['parameters'] / 1e6:.1f} M parameters, {in_words(record)}, {seconds}{foretold}"


def train_steps(place: Place, dtype: str) -> str:
    record = train(place, f"steps-{dtype}", *place.scale.training, "--dtype", dtype)
    if record["figures"]["held_out_bits_per_byte"] >= place.scale.learnt:
        raise StepError(f"{in_words(record)}: nothing was learnt")
    return in_words(record)


def compared(place: Place, output: str) -> str:
    """A run beside the undisturbed one of equal steps. Raises: StepError if they are too far apart."""
    bits, expected = (
        record_of(place, name)["figures"]["held_out_bits_per_byte"] for name in (output, "steps-bfloat16")
    )
    if abs(bits / expected - 1) > max(place.scale.apart, 0.002):  # rounding alone, over several processes
        raise StepError(f"{bits:.3f} bits per byte, {expected:.3f} undisturbed")
    return f"{bits:.3f} bits per byte, {expected:.3f} undisturbed"


def kill_and_resume(place: Place) -> str:
    """SIGKILL after the first checkpoint; the same command has to continue to the same model."""
    files = ("--output", "killed", "--device", place.scale.device)
    command = (TRAIN, *files, *place.scale.training, "--dtype", "bfloat16")
    shutil.rmtree(place.folder / "killed", ignore_errors=True)
    process = place.start(*command)
    try:
        while not list((place.folder / "killed/checkpoints").glob("step-*.safetensors")):
            if process.poll() is not None:
                raise StepError(f"ended with {process.returncode} before there was a checkpoint")
            if time.monotonic() > place.deadline:
                raise StepError(f"no checkpoint within {place.limit:.0f} s")
            time.sleep(0.01)
    finally:
        end_family(process)
    if process.returncode != -9:
        raise StepError("the run had ended before it was killed")
    resumed = found(r"resuming at step ([\d,]+ of [\d,]+)", place.run(*command))
    said = f"resumed at step {resumed[1]}: {compared(place, 'killed')}"
    if place.scale.apart:
        return said
    weights = (place.folder / name / "model.safetensors" for name in ("killed", "steps-bfloat16"))
    if len({file.read_bytes() for file in weights}) > 1:
        raise StepError("not the same bytes as the run that was not killed")
    return f"{said}, the same bytes"


def two_on_one_card(place: Place) -> str:
    """Two ranks share the first card, over gloo."""
    files = ("--output", "ranks", "--device", place.scale.device)
    output = place.run(*TORCHRUN, ONE_CARD, *files, *place.scale.training, "--dtype", "bfloat16")
    found(r"2 processes, each on", output)
    return compared(place, "ranks")


def two_for_all_cards(place: Place) -> str:
    """train.py as it is: it refuses two processes on one card in a line, and takes two cards over NCCL."""
    files = ("--output", "nccl", "--device", place.scale.device)
    command = (*TORCHRUN, TRAIN, *files, *place.scale.training, "--dtype", "bfloat16")
    if place.about.get("cards", 0) > 1:
        found(r"2 processes, each on", place.run(*command))
        return f"two cards over NCCL: {compared(place, 'nccl')}"
    return "refused: " + found(r"there are 1 GPUs for 2 processes: .*", place.run(*command, codes=(1,)))[0]


def ask_nccl(place: Place) -> str:
    return found(r"^NCCL .*", place.run(*TORCHRUN, ONE_CARD, "--ask-nccl"))[0]


# The model that the dial made


def generate(place: Place, *options: str) -> str:
    prompt = ("--prompt", "class Stack:", "--seed", "1", "--json", *place.scale.writing)
    output = place.script("model/code_generator.py", "--device", place.scale.device, *prompt, *options)
    records = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if not records:
        raise StepError("no sample was written")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        valid = sum(is_python(record["text"]) for record in records)
    if "--no-valid" not in options and valid < len(records):
        raise StepError(f"{len(records) - valid} of {len(records)} texts do not compile")
    tokens, seconds = sum(record["tokens"] for record in records), max(r["seconds"] for r in records)
    return f"{tokens / max(seconds, 1e-3):,.0f} tokens/s, {valid} of {len(records)} texts compile"


def is_python(text: str) -> bool:
    """Whether a text compiles; it is not run."""
    try:
        compile(text, "sample", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def evaluate(place: Place) -> str:
    output = place.script("model/evaluate.py", "--device", place.scale.device, *place.scale.evaluation)
    return found(r"([\d.]+ bits per byte.*)$", output)[1]


def export(place: Place) -> str:
    start = place.log.stat().st_size
    try:
        output = place.script("model/export.py", "--format", "gguf", "--force")
    except StepError:
        missing = re.search(r"the package gguf is missing: .*", place.log_since(start))
        if missing is None:
            raise
        raise LeftOutError(missing[0]) from None
    return found(r"\((f16, .*?)\)", output)[1]


def steps_for(device: str) -> list[Step]:
    """In their order: what matters most comes first, for time may run out."""
    compiled = ", compiled" if device == "cuda" else ""
    steps = [
        Step("device", 60, look_at_device),
        Step("corpus", 90, make_corpus),
        Step(f"speed, bfloat16{compiled}", 100, measure_speed),
        Step(f"train, bfloat16{compiled}, minutes alone", 150, train_by_the_dial),
        Step(f"train, bfloat16{compiled}, equal steps", 100, partial(train_steps, dtype="bfloat16")),
        Step(f"train, float16{compiled}, equal steps", 100, partial(train_steps, dtype="float16")),
        Step("train, SIGKILL and resume", 120, kill_and_resume),
        Step("train, two processes on one card, gloo", 100, two_on_one_card),
        Step("generate, judged", 45, generate),
        Step("generate, not judged", 45, lambda place: generate(place, "--no-valid")),
        Step("evaluate", 60, evaluate),
        Step("export, GGUF", 30, export),
        Step("train, two processes, one card each", 90, two_for_all_cards),
        Step("NCCL, two ranks on one card", 60, ask_nccl),
        Step(f"speed, float16{compiled}", 60, lambda place: measure_speed(place, "--dtype", "float16")),
        Step("speed, bfloat16, --no-compile", 60, lambda place: measure_speed(place, "--no-compile")),
    ]
    only_there = {two_for_all_cards, ask_nccl}
    return [step for step in steps if device == "cuda" or step.work not in only_there]
