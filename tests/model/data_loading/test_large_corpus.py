"""Once encoded, a corpus of 10 GB of tokens is ready to train on with no more work than one of 10 MB."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_loading.batches import WINDOW, PackedRows
from data_loading.corpus_tokens import encode_corpus
from data_loading.encoding import TextEncoder
from data_loading.token_file import FORMAT, TokenDataset
from gpt2.config import GPT2Config
from pretrained.provenance import identify
from training.base_model import held_out_names
from training.monitor import HeldOutMonitor, draw_sample
from training.plan import Plan

DOCUMENTS = 500
ROWS = 8


class Counted:
    """A token file that counts what is read of it."""

    def __init__(self, tokens: Any) -> None:
        self.tokens = tokens
        self.read = 0

    def __getitem__(self, where: slice) -> Any:
        found = self.tokens[where]
        self.read += len(found)
        return found


def sparse_corpus(folder: Path, tokenizer: Path, size_bytes: int) -> Path:
    """A data.txt with the cache of so many bytes of training tokens, all of them in a hole of the file."""
    folder.mkdir()
    data = folder / "data.txt"
    data.write_text('{"text": "x = 1\\n"}\n', encoding="utf-8", newline="\n")
    encoder = TextEncoder(tokenizer)
    cache = folder / "data.cache" / "tokens-of-a-test"
    cache.mkdir(parents=True)
    names = {}
    for split, tokens in (("train", size_bytes // 2), ("held_out", 10_000)):
        with (cache / f"{split}.tokens").open("wb") as file:
            file.truncate(2 * tokens)
        offsets = np.linspace(0, tokens, DOCUMENTS + 1).astype(np.int64)
        np.save(cache / f"{split}.offsets.npy", offsets)
        np.save(cache / f"{split}.text_bytes.npy", 3 * np.diff(offsets))
        for name in ("repository", "origin"):
            np.save(cache / f"{split}.{name}.npy", np.zeros(DOCUMENTS, np.int32))
        names[split] = {"repositories": [split], "origins": [["", ""]]}
        paths = json.dumps([f"{number}.py" for number in range(DOCUMENTS)])
        (cache / f"{split}.paths.json").write_text(paths, encoding="utf-8")
    (cache / "names.json").write_text(json.dumps(names), encoding="utf-8")
    stat = data.stat()
    meta = {
        "state": {"path": str(data.resolve()), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns},
        "data_sha256": "of the test",
        "tokenizer_sha256": encoder.sha256,
        "format": FORMAT,
        "dtype": "uint16",
        "vocab_size": encoder.vocab_size,
        "end_of_text_id": encoder.end_of_text_id,
        "sizes": {path.name: path.stat().st_size for path in cache.iterdir()},
    }
    (cache / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return data


def start(data: Path, tokenizer: Path) -> tuple[TokenDataset, int, int]:
    """All that a run does with its corpus before the first step: what was read, and the memory taken."""
    tracemalloc.start()
    identify(data, tokenizer, {}, data.with_name("GPyT"))
    dataset = encode_corpus(data, tokenizer, data.with_name("data.cache"), threads=1)
    tokens = Counted(dataset.train.tokens)
    object.__setattr__(dataset.train, "tokens", tokens)
    held_out_names(dataset)
    rows = PackedRows(dataset.train, 256, seed=0)
    shape = GPT2Config(1, 1, 64, 256, dataset.vocab_size)
    plan = Plan(shape, ROWS, ROWS, 10, None, seconds_per_step=0.01, memory=0.0)
    HeldOutMonitor(plan, dataset, draw_sample(plan, dataset, tokenizer, None))
    for number in range(ROWS):
        rows.row(number)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return dataset, tokens.read, taken


def test_ten_gigabytes_start_with_the_work_of_ten_megabytes(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hashlib.file_digest", lambda file, name: _only_of_the_tokenizer(file, name))
    small = sparse_corpus(tmp_path / "small", tokenizer_folder, 10_000_000)
    large = sparse_corpus(tmp_path / "large", tokenizer_folder, 10_000_000_000)
    start(small, tokenizer_folder)  # what is imported at first use counts for neither
    dataset, read, taken = start(small, tokenizer_folder)
    large_dataset, large_read, large_taken = start(large, tokenizer_folder)
    assert (dataset.train.size, large_dataset.train.size) == (5_000_000, 5_000_000_000)
    assert read == large_read == ROWS * 257
    assert large_taken < taken + 8 * WINDOW + 100_000, "one window of the order of rows, and no more"
    assert "paths" not in vars(large_dataset.train), "no list of all files is read"


def _only_of_the_tokenizer(file: Any, name: str) -> Any:
    import hashlib

    assert Path(file.name).name == "tokenizer.json", f"{file.name} is read again"
    return hashlib.new(name, file.read())
