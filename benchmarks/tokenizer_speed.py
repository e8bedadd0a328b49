"""Learning a tokenizer and encoding with it, beside other libraries, on a data.txt, in one run.

    python benchmarks/tokenizer_speed.py --data data.txt
    pip install rustbpe bpeasy       # optional: without them their rows say so

Three tables. Learning: wall-clock seconds, CPU seconds and peak memory of a process that learns 8,192
entries from the train documents, for train_bpe, ByteLevelBPETokenizer's own path (a text file), rustbpe and
bpeasy. Encoding: MB/s of CPU time on one thread, TextEncoder of model/ beside encode_batch_fast, in
alternating rounds; ids are compared. Compression: bytes per token on the held-out repositories for each
pre-tokenizer and size, and their ratio to those of ByteLevelBPETokenizer's defaults.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from journey import PROJECT, HelpFormatter

sys.path[:0] = [str(PROJECT / "preprocess"), str(PROJECT / "model")]

WAYS = ("train_bpe", "ByteLevelBPETokenizer", "rustbpe", "bpeasy")
ENTRIES = 8192
ROUNDS = 5  # of encoding, in turn
ENCODED_BYTES = 12_000_000
ONE_THREAD = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def texts_of(data: Path, split: str) -> list[str]:
    """The texts of a split, a document each."""
    with data.open(encoding="utf-8") as lines:
        return [document["text"] for document in map(json.loads, lines) if document["split"] == split]


def learn(way: str, data: Path, entries: int) -> None:
    """Learn a vocabulary by one of the WAYS; the result is thrown away."""
    from bpe.learning import train_bpe
    from corpus.data_file import iter_documents

    documents = (document.text for document in iter_documents(data) if document.split == "train")
    if way == "train_bpe":
        train_bpe(documents, entries, "gpt2")
    elif way == "ByteLevelBPETokenizer":
        from tokenizers import ByteLevelBPETokenizer

        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text"
            with text.open("w", encoding="utf-8", newline="") as file:
                file.writelines(documents)
            ByteLevelBPETokenizer().train([str(text)], vocab_size=entries, show_progress=False)
    elif way == "rustbpe":
        import rustbpe

        from pretrained.vocabulary import GPT2_PATTERN

        rustbpe.Tokenizer().train_from_iterator(documents, entries - 5, pattern=GPT2_PATTERN)
    else:
        import bpeasy

        from pretrained.vocabulary import GPT2_PATTERN

        bpeasy.train_bpe(documents, GPT2_PATTERN, 32, entries - 5)


def cost_of_learning(way: str, data: Path, entries: int) -> str:
    """A row: seconds, CPU seconds and peak memory of a process that learns by this way."""
    if way in ("rustbpe", "bpeasy") and importlib.util.find_spec(way) is None:
        return f"{way:<24} not installed: pip install {way}"
    command = [sys.executable, __file__, "--data", str(data), "--learn", way, "--entries", str(entries)]
    started, before = time.perf_counter(), os.times()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wall, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return f"{way:<24}{wall:>8.1f}{cpu:>8.1f}{int(output) / 1e6:>10,.0f}"


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def encoding_row(pretokenizer: str, entries: int, train: list[str]) -> str:
    """MB/s of both encoders on one thread and their ratio, round by round."""
    import numpy as np

    from bpe.learning import train_bpe
    from data_loading.encoding import TextEncoder

    texts, size = [], 0
    for text in train:
        texts.append(text)
        size += len(text.encode())
        if size > ENCODED_BYTES:
            break
    with tempfile.TemporaryDirectory() as folder:
        train_bpe(texts, entries, pretokenizer).save(str(Path(folder) / "tokenizer.json"))
        encoder = TextEncoder(Path(folder))
    equal = all(np.array_equal(encoder.encode(text), encoder.encode_slowly(text)) for text in texts)
    fast, slow = [], []
    for _ in range(ROUNDS):
        slow.append(cpu_seconds(lambda: encoder.tokenizer.encode_batch_fast(texts, add_special_tokens=False)))
        fast.append(cpu_seconds(lambda: [encoder.encode(text) for text in texts]))
    ratio = statistics.median(s / f for s, f in zip(slow, fast, strict=True))
    speeds = [size / statistics.median(seconds) / 1e6 for seconds in (fast, slow)]
    ids = "equal ids" if equal else "OTHER IDS"
    return f"{pretokenizer:<10}{entries:>8,}{speeds[0]:>10.1f}{speeds[1]:>12.1f}{ratio:>8.2f}   {ids}"


def packing_rows(sizes: list[int], train: list[str], held_out: list[str]) -> list[str]:
    """Bytes per token on held-out text for each size and rule, beside ByteLevelBPETokenizer's."""
    from bpe.learning import PRETOKENIZERS, train_baseline, train_bpe

    size = sum(len(text.encode()) for text in held_out)

    def packed(tokenizer: Any) -> float:
        return size / sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(held_out))

    rows = []
    for entries in sizes:
        baseline = packed(train_baseline(train, entries))
        cells = [f"{entries:>8,}{baseline:>10.3f}"]
        for name in PRETOKENIZERS:
            own = packed(train_bpe(train, entries, name))
            cells.append(f"{own:>10.3f} ({own / baseline:.3f})")
        rows.append("".join(cells))
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default="data.txt", help="documents, from preprocessing")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="vocabulary of the first two tables")
    parser.add_argument("--sizes", default="8192,16384,32768", help="vocabularies of the third table")
    parser.add_argument("--learn", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.learn:
        learn(arguments.learn, arguments.data, arguments.entries)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        return 0
    from bpe.learning import PRETOKENIZERS

    print(f"{f'learning {arguments.entries:,}':<24}{'s':>8}{'CPU s':>8}{'peak MB':>10}")
    for way in WAYS:
        print(cost_of_learning(way, arguments.data, arguments.entries), flush=True)
    train, held_out = texts_of(arguments.data, "train"), texts_of(arguments.data, "held_out")
    print(f"\n{'encoding':<10}{'entries':>8}{'ours MB/s':>10}{'batch_fast':>12}{'times':>8}")
    os.environ.update(ONE_THREAD)
    for name in PRETOKENIZERS:
        for entries in (arguments.entries // 2, arguments.entries):
            print(encoding_row(name, entries, train), flush=True)
    for variable in ONE_THREAD:
        del os.environ[variable]
    size = sum(len(text.encode()) for text in held_out) / 1e6
    print(f"\nbytes per token on {size:.1f} MB held out (times ByteLevelBPETokenizer's)")
    print(f"{'entries':>8}{'default':>10}" + "".join(f"{name:>18}" for name in PRETOKENIZERS))
    for row in packing_rows([int(word) for word in arguments.sizes.split(",")], train, held_out):
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
