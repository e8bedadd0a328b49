"""What `--fim-rate` costs and what it is worth: one model for each rate, all else equal.

    python benchmarks/infilling.py --data data.txt --tokenizer tokenizer --rates 0 0.25 0.5 -- --minutes 10
    python benchmarks/infilling.py -- --steps 1500 --n-layer 2 --n-head 3 --n-embd 192 --block-size 512

What stands after -- goes to train.py as it is. Each model is scored on the same whole held-out files, and has
to write the same hidden lines of them: once as the continuation of what stands before the line ("before
alone"), and, if it was trained to fill gaps, with what follows the line as well ("both sides"). Exact: the
likeliest line is the hidden one but for blanks around it. Similarity: 1 - Levenshtein distance / length.
Intervals are Wilson's, 95 %. Runs that are finished in --work are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from journey import PROJECT, HelpFormatter
from pretokenizer_choice import score_folder

sys.path.insert(0, str(PROJECT / "model"))


def train(options: argparse.Namespace, rate: float) -> Path:
    """The folder of the model that was trained at this rate."""
    folder: Path = options.work / f"fim-{rate:g}"
    provenance = folder / "provenance.json"
    if not provenance.exists() or not json.loads(provenance.read_text(encoding="utf-8"))["finished"]:
        files = ["--data", options.data, "--tokenizer", options.tokenizer, "--output", folder]
        command = [sys.executable, PROJECT / "model/train.py", *files, "--fim-rate", rate]
        subprocess.run([*map(str, command), *options.rest], check=True, stdout=sys.stderr)
    return folder


def filled(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What a model writes for the hidden lines, by how much it sees of the file."""
    from attribution.copies import SourceNotes
    from data_loading.corpus_tokens import encode_corpus
    from evaluation.held_out_texts import draw_sample, open_model
    from evaluation.writing import Writing, choose_gaps, gap_figures
    from generation.completer import load_completer
    from pretrained.corpus_files import cache_of
    from pretrained.provenance import fills_in

    model = open_model(folder, str(folder))
    dataset = encode_corpus(options.data, options.tokenizer, cache_of(options.data), threads=2)
    sample = draw_sample(
        dataset.held_out,
        1000 * options.held_out_kb,
        model.spellings,
        {"name": "", "sha256": ""},
        model.tokenizer,
    )
    gaps = choose_gaps(sample.texts, options.gaps, options.seed)
    completer = load_completer(model.pretrained, "cpu")
    writing = Writing(completer, SourceNotes(folder, model.pretrained.vocabulary), 0, options.seed)
    alone = [(writing.next_line(before), line) for before, line, _ in gaps]
    found = {"before alone": gap_figures(alone)}
    if fills_in(folder):
        found["both sides"] = gap_figures(
            [(writing.fill(before, after), line) for before, line, after in gaps]
        )
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents")
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    parser.add_argument("--rates", type=float, nargs="+", default=[0, 0.25, 0.5], help="shares of documents")
    parser.add_argument("--gaps", type=int, default=500, help="hidden lines")
    parser.add_argument("--seed", type=int, default=0, help="draws the hidden lines")
    parser.add_argument("--held-out-kb", type=int, default=500, help="size of the held-out sample")
    parser.add_argument("--work", type=Path, default=Path("infilling"), help="folder of the models")
    parser.add_argument("rest", nargs="*", help="after --: further options of train.py")
    options = parser.parse_args(argv)
    print(f"{'rate':>5}{'M tokens':>10}{'bits/byte':>11}  {'sees':<14}{'exact':>7}{'':>16}{'similarity':>12}")
    for rate in options.rates:
        folder = train(options, rate)
        scored = score_folder(folder, options.data, options.tokenizer, 1000 * options.held_out_kb)
        head = f"{rate:>5g}{scored['tokens'] / 1e6:>10.2f}{scored['bits_per_byte']:>11.4f}"
        for sees, figures in filled(folder, options).items():
            exact, similarity = figures["exact"], figures["similarity"]
            low, high = exact["interval"]
            interval = f"{low:.1%} to {high:.1%}"
            print(f"{head}  {sees:<14}{exact['value']:>7.1%}{interval:>16}{similarity:>12.3f}", flush=True)
            head = " " * len(head)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
