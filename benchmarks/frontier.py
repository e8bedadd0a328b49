"""What minutes buy: the model that `train.py --minutes M` chooses by itself, for each M, in one table.

    python benchmarks/frontier.py --data data.txt --tokenizer tokenizer --minutes 3 10 30

All are scored on the same whole files as in benchmarks/train_against.py, of held-out repositories that no
run sees, so that its figures for other programs (--seconds 180, 600, 1800) can be compared. Prints a row for
each: the shape, tokens, bits per byte, and the error of the forecast on the files that train.py measures
itself. Runs that are finished in --work are not repeated. On a busy machine the figures are too high.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from journey import PROJECT, HelpFormatter
from pretokenizer_choice import score_folder
from reporting_split import set_apart


def train(options: argparse.Namespace, data: Path, minutes: float) -> Path:
    """The folder of the model that was trained for this many minutes."""
    folder: Path = options.work / f"{minutes:g}min"
    provenance = folder / "provenance.json"
    if not provenance.exists() or not json.loads(provenance.read_text(encoding="utf-8"))["finished"]:
        files = ["--data", data, "--tokenizer", options.tokenizer, "--any-tokenizer", "--output", folder]
        command = [sys.executable, PROJECT / "model/train.py", *files, "--minutes", f"{minutes:g}"]
        subprocess.run([*map(str, command), *options.rest], check=True, stdout=sys.stderr)
    return folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents")
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer"), help="folder of the tokenizer")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 10, 30], help="budgets")
    parser.add_argument("--held-out-kb", type=int, default=1000, help="of the files that are reported on")
    parser.add_argument("--work", type=Path, default=Path("frontier"), help="folder of the models")
    parser.add_argument("rest", nargs="*", help="after --: further options of train.py")
    options = parser.parse_args(argv)
    parts = set_apart(options.data, options.work)
    print(parts, file=sys.stderr)
    print(f"{'minutes':>8}{'layers x width, context':>26}{'M tokens':>10}{'bits/byte':>11}{'forecast':>10}")
    for minutes in options.minutes:
        folder = train(options, parts.seen, minutes)
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        plan, figures = provenance["plan"], provenance["figures"]
        shape = f"{plan['n_layer']} x {plan['n_embd']}, {plan['block_size']}"
        off = f"{figures['forecast_off_by']:+.1%}" if "forecast_off_by" in figures else ""
        sample = 1000 * options.held_out_kb
        bits = score_folder(folder, parts.reported, options.tokenizer, sample)["bits_per_byte"]
        print(f"{minutes:>8g}{shape:>26}{figures['tokens'] / 1e6:>10.2f}{bits:>11.4f}{off:>10}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
