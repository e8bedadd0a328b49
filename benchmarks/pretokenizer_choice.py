"""Which vocabulary and pre-tokenizer learn most in a given time: held-out bits per byte at equal compute.

    python benchmarks/pretokenizer_choice.py --data data.txt --minutes 3
    python benchmarks/pretokenizer_choice.py --data data.txt --minutes 10 --candidates gpt2:4096,gpt2:8192
    python benchmarks/pretokenizer_choice.py --data data.txt --minutes 3 --shape 2 192 128 --rate 20000
    TORCH_COMPILE_DISABLE=1 python benchmarks/pretokenizer_choice.py --shape 2 128 128 --rate 9000 \\
        --device cuda --dtype float32 --jobs 8 --seeds 3              # the same operations, on a GPU

Each candidate is a tokenizer learnt from the train documents and the GPT-2 that model/train.py takes for the
minutes, or one of --shape, trained with it and scored on the same held-out files. By default all have the
same time on the clock, on an idle machine. With --rate, for a busy one, they have the same number of floating
point operations instead, on any device: as many as a machine of that many tokens a second at 8,192 entries
would do in the time. These are with --full-softmax, so by operations a large vocabulary has less than a run
on a CPU would give it. Finished candidates are kept in --work, so the same command continues after an
interruption.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from journey import PROJECT, HelpFormatter
from run_length import length_options

sys.path.insert(0, str(PROJECT / "model"))

REFERENCE_ENTRIES = 8192
SCORED_BYTES = 2_000_000  # of held-out files, the same for every candidate
ENCODING = Lock()  # the progress bars of `datasets` are not for two threads at once
CANDIDATES = ",".join(
    f"{rule}:{size}" for size in (2048, 4096, 8192, 16384) for rule in ("gpt2", "cl100k", "python")
)


def run(script: str, *arguments: object) -> None:
    """Run one of the project's scripts; all its output goes to standard error."""
    command = [sys.executable, str(PROJECT / script), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def equal_tokens(minutes: float, rate: float, shape: Sequence[int], entries: int) -> float:
    """Tokens with as many operations as `rate` tokens/s at 8,192 entries make in the minutes.

    shape: layers, channels, context.
    """
    from gpt2.config import GPT2Config

    n_layer, n_embd, block_size = shape
    reference, own = (
        GPT2Config(n_layer, 1, n_embd, block_size, size).flops_per_token
        for size in (REFERENCE_ENTRIES, entries)
    )
    return minutes * 60 * rate * reference / own


def learn_tokenizer(arguments: argparse.Namespace, rule: str, entries: int) -> None:
    """Make the tokenizer of a candidate and encode the corpus with it, unless that is done already."""
    from data_loading.corpus_tokens import encode_corpus
    from pretrained.corpus_files import cache_of

    tokenizer = tokenizer_of(arguments, rule, entries)
    options = ["--vocab-size", entries, "--pretokenizer", rule]
    run("preprocess/tokenizer.py", "-t", "--data", arguments.data, "--tokenizer", tokenizer, *options)
    with ENCODING:
        encode_corpus(arguments.data, tokenizer, cache_of(arguments.data), threads=arguments.threads or 2)


def tokenizer_of(arguments: argparse.Namespace, rule: str, entries: int) -> Path:
    work: Path = arguments.work
    return work / f"tokenizer-{rule}-{entries}"


def measure(arguments: argparse.Namespace, rule: str, entries: int, seed: int) -> dict[str, float]:
    """Train and score one candidate, or read its result if that is done already."""
    folder = arguments.work / f"{rule}-{entries}-{arguments.minutes:g}min-seed{seed}"
    result = folder / "result.json"
    if not result.exists():
        tokenizer = tokenizer_of(arguments, rule, entries)
        length: list[object] = ["--minutes", arguments.minutes]
        if arguments.rate:
            tokens = equal_tokens(arguments.minutes, arguments.rate, arguments.shape, entries)
            # the operations are counted over all entries
            length = [*length_options(tokens, arguments.shape[2]), "--full-softmax"]
        names = ("--n-layer", "--n-embd", "--block-size")
        shape = [word for pair in zip(names, arguments.shape or (), strict=False) for word in pair]
        places = ["--data", arguments.data, "--tokenizer", tokenizer, "--output", folder / "model"]
        threads = ["--threads", arguments.threads] if arguments.threads else []
        machine = [*threads, "--device", arguments.device, "--dtype", arguments.dtype]
        run("model/train.py", *places, *length, *shape, *machine, "--seed", seed)
        measured = score_folder(folder / "model", arguments.data, tokenizer, device=arguments.device)
        result.write_text(json.dumps(measured), encoding="utf-8")
    return dict(json.loads(result.read_text(encoding="utf-8")))


def score_folder(
    model_folder: Path, data: Path, tokenizer: Path, sample_bytes: int = SCORED_BYTES, device: str = "cpu"
) -> dict[str, float]:
    """Bits per byte of a trained folder on the fixed sample, in float32, with what it was trained on."""
    import torch

    from data_loading.corpus_tokens import encode_corpus
    from evaluation.bits_per_byte import draw_whole_files, score
    from gpt2.device import find_machine
    from gpt2.network import GPT2
    from pretrained.corpus_files import cache_of
    from training.base_model import read_base_model

    provenance = json.loads((model_folder / "provenance.json").read_text(encoding="utf-8"))
    dataset = encode_corpus(data, tokenizer, cache_of(data), threads=2)
    base = read_base_model(model_folder, model_folder)
    model = GPT2(base.config, torch.float32)
    model.load_state_dict(base.weights(base.config.block_size))
    model.to(find_machine(device, "float32", None).device)
    excerpts = draw_whole_files(dataset.held_out, sample_bytes).excerpts
    measured = score(model, dataset.held_out, excerpts, dataset.end_of_text_id)
    packed = dataset.train if len(dataset.train.tokens) else dataset.held_out  # a file may hold that alone
    return {
        "bits_per_byte": measured.bits_per_byte,
        "tokens": provenance["figures"]["tokens"],
        "text_bytes": measured.text_bytes,
        "bytes_per_token": float(packed.text_bytes.sum()) / len(packed.tokens),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default="data.txt", help="documents, from preprocessing")
    parser.add_argument("--work", type=Path, default="pretokenizers", help="folder of what is being compared")
    parser.add_argument("--minutes", type=float, default=3, help="of training, each")
    parser.add_argument(
        "--shape", type=int, nargs=3, metavar=("LAYERS", "CHANNELS", "CONTEXT"), help="instead of train.py's"
    )
    parser.add_argument(
        "--rate", type=float, default=0, help="tokens/s to count operations by, 0 = by the clock"
    )
    parser.add_argument("--candidates", default=CANDIDATES, help="rule:entries, ...")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="train.py's")
    parser.add_argument("--dtype", default="auto", help="train.py's")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 = train.py's default")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, with --rate")
    arguments = parser.parse_args(argv)
    if arguments.rate and not arguments.shape:
        parser.error("--rate counts operations: it needs --shape")
    if arguments.jobs > 1 and not arguments.rate:
        parser.error("with --jobs the runs share the machine, so they cannot have equal time: add --rate")
    arguments.work.mkdir(parents=True, exist_ok=True)
    candidates = [tuple(candidate.split(":")) for candidate in arguments.candidates.split(",")]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda one: learn_tokenizer(arguments, one[0], int(one[1])), candidates))
    print(f"{'rule':<10}{'entries':>8}{'seed':>6}{'M tokens':>10}{'MB seen':>9}{'bits/byte':>11}", flush=True)

    def measured(one: tuple[str, str, int]) -> tuple[str, str, int, dict[str, float]]:
        rule, entries, seed = one
        return rule, entries, seed, measure(arguments, rule, int(entries), seed)

    runs = [(rule, entries, seed) for rule, entries in candidates for seed in range(arguments.seeds)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for rule, entries, seed, row in pool.map(measured, runs):
            seen = row["tokens"] * row["bytes_per_token"] / 1e6
            figures = f"{row['tokens'] / 1e6:>10.2f}{seen:>9.1f}{row['bits_per_byte']:>11.4f}"
            print(f"{rule:<10}{int(entries):>8,}{seed:>6}{figures}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
