"""How fast the code generator writes and starts, beside transformers' own generate, in one run.

    python benchmarks/generate.py --model GPyT
    python benchmarks/generate.py --gpt2 --tokens 40            # GPT-2 124M's shape with random weights
    python benchmarks/generate.py --model GPyT --data data.txt --positions 10000       # and what it costs

All write the same number of greedy tokens after the same ids, in turn, at equal threads: transformers (fp32),
GPyT's own pass in fp32 and, where it is used, with its weights in half precision, and the whole generator
with the judge on. Prints a row for each: tokens per CPU-second (median of the rounds), the ratio and the
milliseconds to the first token; then the CPU-seconds of a start that writes one token beside those of
`import torch`. With --data: on how many held-out positions the two precisions choose the same token, and
their bits per byte.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from journey import PROJECT

sys.path.insert(0, str(PROJECT / "model"))

PROMPT = "import os\n\n\ndef main(argv):\n"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The docstring as written, each option with its default."""


def save_gpt2(folder: Path) -> None:
    """GPT-2 124M's shape with random weights, and a tokenizer of bytes alone padded to its vocabulary."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=None)).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": 0} | {character: i for i, character in enumerate(alphabet, start=1)}
    vocabulary |= {f"word{i}": i for i in range(len(vocabulary), 50257)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))


def ours(folder: Path, half: bool) -> Callable[[list[int], int], list[int]]:
    """The generator's own forward pass and choice, without its text."""
    import torch
    from inference import GPT2
    from pretrained import load_weights, read_pretrained

    pretrained = read_pretrained(folder)
    weights = load_weights(pretrained, torch.device("cpu"), torch.float32)
    model = GPT2(pretrained.config, weights, half=half)

    def write(context: list[int], tokens: int) -> list[int]:
        cache = model.new_cache(1, len(context) + tokens)
        written: list[int] = []
        ids = torch.tensor([context])
        while len(written) < tokens:
            ids = model.next_logits(ids, cache).argmax(-1, keepdim=True)
            written.append(int(ids))
        return written

    return write


def judged(folder: Path) -> Callable[[list[int], int], list[int]]:
    """The whole generator, held to valid Python; the tokens that stay of what it was asked for."""
    import torch
    from code_generator import HALF_PRECISION_PARAMETERS
    from completion import Completer
    from decoding_settings import Decoding
    from inference import GPT2
    from pretrained import load_weights, read_pretrained

    pretrained = read_pretrained(folder)
    weights = load_weights(pretrained, torch.device("cpu"), torch.float32)
    half = pretrained.parameters >= HALF_PRECISION_PARAMETERS  # as code_generator.py chooses
    completer = Completer(GPT2(pretrained.config, weights, half=half), pretrained.vocabulary)

    def write(context: list[int], tokens: int) -> list[int]:
        decoding = Decoding(max_new_tokens=tokens, temperature=0)
        [sample] = samples = completer.start(PROMPT, decoding)
        for _ in completer.write(samples, decoding):
            pass
        return sample.ids[len(context) :]

    return write


def compare_precisions(folder: Path, data: Path, positions: int) -> None:
    """Print how often both precisions choose the same token, and the bits per byte of each."""
    import math

    import torch
    from always_valid import held_out_files
    from inference import GPT2
    from pretrained import load_weights, read_pretrained

    pretrained = read_pretrained(folder)
    weights = load_weights(pretrained, torch.device("cpu"), torch.float32)
    models = [GPT2(pretrained.config, weights, half=half) for half in (False, True)]
    equal = count = text_bytes = 0
    nats = [0.0, 0.0]
    begin = pretrained.config.bos_token_id or 0
    for text in held_out_files(data):
        ids = [begin, *pretrained.vocabulary.encode(text)][: pretrained.config.n_positions]
        caches = [model.new_cache(1, len(ids)) for model in models]
        for place in range(len(ids) - 1):
            one = torch.tensor([[ids[place]]])
            answers = [m.next_logits(one, c)[0] for m, c in zip(models, caches, strict=True)]
            equal += int(answers[0].argmax()) == int(answers[1].argmax())
            for way, logits in enumerate(answers):
                nats[way] += float(logits.logsumexp(-1) - logits[ids[place + 1]])
            text_bytes += len(pretrained.vocabulary.token_bytes[ids[place + 1]])
            count += 1
        if count >= positions:
            break
    exact, half = (total / math.log(2) / text_bytes for total in nats)
    print(f"{count:,} held-out positions: the same choice on {equal / count:.2%}, bits per byte ", end="")
    print(f"{exact:.4f} in fp32, {half:.4f} in half precision ({half / exact - 1:+.3%})")


def transformers_generate(folder: Path) -> Callable[[list[int], int], list[int]]:
    import torch
    from transformers import GPT2LMHeadModel

    model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)  # in eval mode
    model.generation_config.eos_token_id = None

    def write(context: list[int], tokens: int) -> list[int]:
        ids = torch.tensor([context])
        mask = torch.ones_like(ids)
        written = model.generate(
            ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=1
        )
        answer: list[int] = written[0, len(context) :].tolist()
        return answer

    return write


def compare(folder: Path, tokens: int, rounds: int) -> None:
    from code_generator import HALF_PRECISION_PARAMETERS
    from pretrained import read_pretrained

    pretrained = read_pretrained(folder)
    context = [pretrained.config.bos_token_id or 0, *pretrained.vocabulary.encode(PROMPT)]
    tokens = min(tokens, pretrained.config.n_positions - len(context))
    writers = {"transformers": transformers_generate(folder), "GPyT, fp32": ours(folder, half=False)}
    if pretrained.parameters >= HALF_PRECISION_PARAMETERS:
        writers |= {"GPyT": ours(folder, half=True)}
    written = {name: write(context, tokens) for name, write in writers.items()}
    for name, ids in written.items():
        if ids != written["transformers"]:
            print(f"the greedy tokens of {name} differ")
    if len(pretrained.vocabulary.token_bytes) < 50_000:  # else it is random weights that know no Python
        writers["GPyT, judged"] = judged(folder)
    rates: dict[str, list[float]] = {name: [] for name in writers}
    firsts: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(rounds):
        for name, write in writers.items():
            started = time.process_time()
            count = len(write(context, tokens))
            rates[name].append(count / (time.process_time() - started))
            started = time.perf_counter()
            write(context, 1)
            firsts[name].append(time.perf_counter() - started)
    base = statistics.median(rates["transformers"])
    print(f"{pretrained.parameters / 1e6:.1f} M parameters, {tokens} greedy tokens, {rounds} rounds")
    print(f"{'':<14}{'tokens/CPU s':>14}{'ratio':>8}{'first token, ms':>18}")
    for name in writers:
        rate, first = statistics.median(rates[name]), 1000 * statistics.median(firsts[name])
        print(f"{name:<14}{rate:14.0f}{rate / base:8.2f}{first:18.1f}")


def cpu_seconds(command: list[str]) -> float:
    before = os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def compare_starts(folder: Path, rounds: int) -> None:
    script = [str(PROJECT / "model" / "code_generator.py"), "--model", str(folder)]
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "one token": [sys.executable, *script, "--prompt", "x", "--max-new-tokens", "1"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command))
    importing, writing = (statistics.median(taken) for taken in seconds.values())
    ratio = writing / importing
    print(f"start, CPU s: import torch {importing:.2f}, one token {writing:.2f}, ratio {ratio:.2f}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--model", type=Path, default="GPyT", help="the model's folder")
    parser.add_argument("--gpt2", action="store_true", help="measure GPT-2 124M's shape instead")
    parser.add_argument("--tokens", type=int, default=200, help="tokens that each writes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--data", type=Path, help="held-out files to compare the two precisions on")
    parser.add_argument("--positions", type=int, default=10_000, help="tokens of these")
    arguments = parser.parse_args(argv)
    import torch

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.gpt2:
            save_gpt2(Path(scratch))
        folder = Path(scratch) if arguments.gpt2 else arguments.model
        compare(folder, arguments.tokens, arguments.rounds)
        compare_starts(folder, arguments.rounds)
        if arguments.data:
            compare_precisions(folder, arguments.data, arguments.positions)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
