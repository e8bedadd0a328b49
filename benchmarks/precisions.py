"""Does a model say the same in every precision? Each beside fp32, on held-out files, token by token.

    python benchmarks/precisions.py --model GPyT --data data.txt --positions 10000

Reads the beginnings of held-out files, chosen at random, through the pass that writes one token at a time,
in every precision of contenders.py. Prints a row each: the share of positions at which the likeliest token
is that of fp32 (at least 99 % is asked for), bits per byte, and by how much these differ (at most 0.5 %).
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from always_valid import held_out_files
from contenders import PRECISIONS, load_in
from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from pretrained.load import Pretrained


def held_out_ids(pretrained: Pretrained, data: Path, positions: int, context: int) -> Iterator[list[int]]:
    """The ids of held-out files from begin-of-text on, up to the context; together so many to predict."""
    files = held_out_files(data)
    random.Random(0).shuffle(files)
    for text in files:
        if positions <= 0:
            return
        ids = [pretrained.vocabulary.begin_id or 0, *pretrained.vocabulary.encode(text)]
        yield (read := ids[: min(context, positions + 1)])
        positions -= len(read) - 1


def compare_precisions(folder: Path, data: Path, positions: int, context: int, threads: int) -> None:
    """Print the rows; context: positions of the model that are read of each file."""
    import numpy as np
    import torch

    from pretrained.load import read_pretrained

    torch.set_num_threads(threads)
    pretrained = read_pretrained(folder)
    models = {name: load_in(pretrained, bits) for name, bits in PRECISIONS.items()}
    equal, nats = dict.fromkeys(models, 0), dict.fromkeys(models, 0.0)
    count = text_bytes = 0
    for ids in held_out_ids(pretrained, data, positions, context):
        caches = {name: model.new_cache(1, len(ids)) for name, model in models.items()}
        for token_id, target in pairwise(ids):
            choices = {}
            for name, model in models.items():
                logits = model.next_logits([[token_id]], caches[name])[0].astype(np.float64)
                choices[name] = int(logits.argmax())
                nats[name] += float(np.logaddexp.reduce(logits) - logits[target])
            base = next(iter(choices.values()))
            for name, choice in choices.items():
                equal[name] += choice == base
            text_bytes += len(pretrained.vocabulary.token_bytes[target])
            count += 1
    bits = {name: total / math.log(2) / text_bytes for name, total in nats.items()}
    print(f"{count:,} held-out positions, {text_bytes:,} bytes")
    print(f"{'':<12}{'same choice':>13}{'bits per byte':>15}{'change':>10}")
    for name in models:
        change = bits[name] / next(iter(bits.values())) - 1
        print(f"{name:<12}{equal[name] / count:>13.3%}{bits[name]:>15.4f}{change:>+10.3%}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("GPyT"), help="the model's folder")
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="where the held-out files are")
    parser.add_argument("--positions", type=int, default=10_000, help="tokens to predict")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args(argv)
    from pretrained.load import read_pretrained

    context = read_pretrained(options.model).config.block_size
    compare_precisions(options.model, options.data, options.positions, context, options.threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
