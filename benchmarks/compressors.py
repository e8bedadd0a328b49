"""Bits per byte of compressors on held-out files, beside a model's on the same bytes.

    python benchmarks/compressors.py                          # xz and others on data.txt's held-out files
    python benchmarks/compressors.py --cut-kb 8               # the first 8 kB of each file alone
    python benchmarks/compressors.py --model GPyT --cut-kb 8  # and the model

A figure in bits per byte says little without something beside it. Each file is compressed alone, as the model
sees it alone; the row "one stream" lets xz look back at the files before. xz is run without its headers
(FORMAT_RAW, preset 9 with extreme), so that small files are not charged for them. PPMd predicts the next byte
from the eight before it, which makes it the n-gram model of this comparison; it needs `pip install pyppmd`.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from journey import HelpFormatter
from pretokenizer_choice import score_folder

XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
PPMD_ORDER, PPMD_MEMORY = 8, 16 << 20


def held_out_files(data: Path) -> list[str]:
    """The text of each held-out file, its pieces joined, in the order of data.txt."""
    files: dict[tuple[str, str], str] = {}
    with data.open(encoding="utf-8") as lines:
        for line in lines:
            document = json.loads(line)
            if document["split"] == "held_out":
                key = (document["repo"], document["path"])
                files[key] = files.get(key, "") + document["text"]
    return list(files.values())


def cut(text: str, most: int) -> str:
    """The lines that fit into so many bytes, at least the first one; 0 = all."""
    lines, size = text.splitlines(keepends=True), 0
    for number, line in enumerate(lines):
        size += len(line.encode())
        if most and size > most and number:
            return "".join(lines[:number])
    return text


def order_zero_bits(texts: Sequence[bytes]) -> float:
    """The entropy of the bytes when only their frequencies are known."""
    counts = Counter(b"".join(texts))
    total = counts.total()
    return -sum(count * math.log2(count / total) for count in counts.values())


def xz(text: bytes) -> bytes:
    return lzma.compress(text, format=lzma.FORMAT_RAW, filters=XZ)


def ppmd() -> Callable[[bytes], bytes] | None:
    """PPMd by pyppmd, None where that is not installed."""
    try:
        import pyppmd
    except ImportError:
        return None
    return lambda text: bytes(pyppmd.compress(text, max_order=PPMD_ORDER, mem_size=PPMD_MEMORY, variant="H"))


def model_bits_per_byte(model: Path, tokenizer: Path, texts: Sequence[str]) -> float:
    """The model's figure on these texts, each a file of its own, by the same code as train.py's."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.txt"
        with data.open("w", encoding="utf-8", newline="\n") as lines:
            for number, text in enumerate(["pass\n", *texts]):
                split = "held_out" if number else "train"
                document = {"text": text, "repo": "a/b", "path": f"{number}.py", "commit": "", "license": ""}
                lines.write(json.dumps({**document, "piece": 0, "pieces": 1, "split": split}) + "\n")
        size = sum(len(text.encode()) for text in texts)
        return score_folder(model, data, tokenizer, size)["bits_per_byte"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents, from preprocessing")
    parser.add_argument("--cut-kb", type=float, default=0, help="kB of each file that count, 0 = all")
    parser.add_argument("--model", type=Path, help="a model's folder, to stand beside (default: none)")
    parser.add_argument("--tokenizer", type=Path, help="folder of its tokenizer (default: the model's)")
    options = parser.parse_args(argv)
    texts = [cut(text, round(1000 * options.cut_kb)) for text in held_out_files(options.data)]
    if not texts:
        print(f"error: no held-out files: {options.data.absolute()}: run stage 3 first", file=sys.stderr)
        return 1
    encoded = [text.encode() for text in texts]
    size = sum(map(len, encoded))

    def show(name: str, bits: float) -> None:
        print(f"{name:<36}{bits / size:>8.3f}", flush=True)

    print(f"{len(texts)} held-out files, {size / 1e3:,.0f} kB; bits per byte")
    show("guessing", 8.0 * size)
    show("frequencies of bytes (order 0)", order_zero_bits(encoded))
    show("zlib -9, each file alone", 8.0 * sum(len(zlib.compress(text, 9)) for text in encoded))
    show("xz -9e, each file alone", 8.0 * sum(len(xz(text)) for text in encoded))
    show("xz -9e, one stream", 8.0 * len(xz(b"".join(encoded))))
    if compress := ppmd():
        show(f"PPMd order {PPMD_ORDER}, each file alone", 8.0 * sum(len(compress(text)) for text in encoded))
    else:
        print("PPMd is not measured: pip install pyppmd==1.3.1", file=sys.stderr)
    if options.model:
        bits_per_byte = model_bits_per_byte(options.model, options.tokenizer or options.model, texts)
        show(f"the model in {options.model}", bits_per_byte * size)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
