"""data.txt as token files: what is in them, and that they are never made twice nor half."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_loading import encoding
from data_loading.corpus_tokens import encode_corpus
from data_loading.token_file import TokenSplit
from model_cli import UserError
from project import PROJECT, run_script, succeed


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus") / "data.cache"


def text_of(split: TokenSplit, i: int, folder: Path) -> str:
    from tokenizers import Tokenizer

    ids = split.tokens[split.offsets[i] : split.offsets[i + 1]].tolist()
    assert ids.pop() == 0, "a document ends with <|endoftext|>"
    assert 0 not in ids
    text: str = Tokenizer.from_file(str(folder / "tokenizer.json")).decode(ids, skip_special_tokens=False)
    return text


def in_pieces(data: Path, to: Path) -> Path:
    """The same data.txt with each document cut into pieces of 1,000 characters."""
    with to.open("w", encoding="utf-8", newline="\n") as lines:
        for line in data.read_text(encoding="utf-8").splitlines():
            document = json.loads(line)
            text = document["text"]
            pieces = [text[i : i + 1000] for i in range(0, len(text), 1000)]
            for i, piece in enumerate(pieces):
                lines.write(json.dumps(document | {"text": piece, "piece": i, "pieces": len(pieces)}) + "\n")
    return to


def test_each_document_is_there_whole_and_in_order(
    data_txt: Path, tokenizer_folder: Path, cache: Path
) -> None:
    dataset = encode_corpus(data_txt, tokenizer_folder, cache, threads=2)
    documents = [json.loads(line) for line in data_txt.read_text(encoding="utf-8").splitlines()]
    for split, name in ((dataset.train, "train"), (dataset.held_out, "held_out")):
        expected = [document for document in documents if document["split"] == name]
        assert len(expected) == len(split.paths) == len(split.offsets) - 1
        assert split.offsets[0] == 0
        assert split.offsets[-1] == len(split.tokens)
        for i, document in enumerate(expected):
            assert text_of(split, i, tokenizer_folder) == document["text"]
            assert split.paths[i] == document["path"]
            assert split.repositories[split.repository[i]] == document["repo"]
            assert split.text_bytes[i] == len(document["text"].encode())
    assert (dataset.vocab_size, dataset.end_of_text_id) == (1024, 0)


def test_the_types_are_those_that_training_relies_on(
    data_txt: Path, tokenizer_folder: Path, cache: Path
) -> None:
    split = encode_corpus(data_txt, tokenizer_folder, cache, threads=1).train
    assert isinstance(split.tokens, np.memmap)
    types = [array.dtype.name for array in (split.tokens, split.offsets, split.text_bytes, split.repository)]
    assert types == ["uint16", "int64", "int64", "int32"]
    with pytest.raises(ValueError, match="read-only"):
        split.tokens[0] = 1


def test_a_file_in_pieces_is_one_document(
    data_txt: Path, tokenizer_folder: Path, cache: Path, tmp_path: Path
) -> None:
    whole = encode_corpus(data_txt, tokenizer_folder, cache, threads=2)
    data = in_pieces(data_txt, tmp_path / "data.txt")
    pieces = encode_corpus(data, tokenizer_folder, tmp_path / "data.cache", threads=2)
    assert np.array_equal(whole.train.tokens, pieces.train.tokens)
    assert np.array_equal(whole.train.offsets, pieces.train.offsets)
    assert list(whole.held_out.paths) == list(pieces.held_out.paths)


def test_the_number_of_threads_changes_nothing(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 5000)
    folders = []
    for threads in (1, 5):
        encode_corpus(data_txt, tokenizer_folder, tmp_path / str(threads), threads=threads)
        [folder] = (tmp_path / str(threads)).iterdir()
        folders.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert folders[0] == folders[1]


def test_without_held_out_documents_that_split_is_empty(tokenizer_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    document = {"text": "x = 1\n", "repo": "a/b", "path": "c.py", "commit": "", "license": ""}
    data.write_text(
        json.dumps(document | {"piece": 0, "pieces": 1, "split": "train"}) + "\n", encoding="utf-8"
    )
    dataset = encode_corpus(data, tokenizer_folder, tmp_path / "cache", threads=1)
    assert len(dataset.held_out.tokens) == 0
    assert dataset.held_out.offsets.tolist() == [0]
    assert list(dataset.held_out.paths) == []


def test_ids_beyond_16_bits_are_kept(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = encoding.TextEncoder.encode
    monkeypatch.setattr(encoding.TextEncoder, "encode", lambda self, text: encode(self, text) + 100_000)
    monkeypatch.setattr(encoding.TextEncoder, "verify", lambda self, texts: True)
    create = encoding.TextEncoder.__init__

    def large(self: encoding.TextEncoder, folder: Path, end_of_text_id: int | None) -> None:
        create(self, folder, end_of_text_id)
        self.vocab_size = 102_000

    monkeypatch.setattr(encoding.TextEncoder, "__init__", large)
    tokens = encode_corpus(data_txt, tokenizer_folder, tmp_path, threads=1).train.tokens
    assert tokens.dtype == np.uint32
    assert tokens.max() > 100_000


# The cache ---------------------------------------------------------------------------------------


def encoded(capture: pytest.CaptureFixture[str]) -> list[Path]:
    """Which data.txt has been encoded since this was last asked, in order, as standard error says."""
    lines = capture.readouterr().err.splitlines()
    return [
        Path(line.removeprefix("encoded ").split(": ")[0]) for line in lines if line.startswith("encoded ")
    ]


def test_the_same_corpus_is_encoded_once_also_when_touched_or_moved(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copy(data_txt, tmp_path / "data.txt"))
    first = encode_corpus(data, tokenizer_folder, tmp_path / "data.cache", threads=2)
    os.utime(data, ns=(1, 1))
    data = data.rename(tmp_path / "moved.txt")
    again = encode_corpus(data, tokenizer_folder, tmp_path / "data.cache", threads=2)
    assert encoded(capfd) == [tmp_path / "data.txt"]
    assert np.array_equal(first.train.tokens, again.train.tokens)
    assert first.data_sha256 == again.data_sha256


def test_an_unchanged_file_is_not_read_again(
    data_txt: Path, tokenizer_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_corpus(data_txt, tokenizer_folder, cache, threads=2)
    monkeypatch.setattr("hashlib.file_digest", None)
    encode_corpus(data_txt, tokenizer_folder, cache, threads=2)


@pytest.mark.parametrize("is_current", [True, False])
def test_a_known_digest_saves_reading_the_file_unless_the_file_has_changed_since(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, *, is_current: bool
) -> None:
    stat = data_txt.stat()
    mtime_ns = stat.st_mtime_ns + (0 if is_current else 1)
    known = {"sha256": "known", "size": stat.st_size, "mtime_ns": mtime_ns}
    dataset = encode_corpus(data_txt, tokenizer_folder, tmp_path, threads=2, identified=known)
    assert (dataset.data_sha256 == "known") is is_current


def test_another_corpus_or_tokenizer_is_encoded_anew(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copy(data_txt, tmp_path / "data.txt"))
    first = encode_corpus(data, tokenizer_folder, tmp_path / "data.cache", threads=2)
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[1:]), encoding="utf-8", newline="\n")
    shorter = encode_corpus(data, tokenizer_folder, tmp_path / "data.cache", threads=2)
    assert len(shorter.train.paths) + len(shorter.held_out.paths) == len(lines) - 1
    other = tmp_path / "tokenizer"
    options = ("--tokenizer", other, "--vocab-size", "500")
    succeed(run_script("preprocess/tokenizer.py", "-t", "--data", data_txt, *options))
    assert encode_corpus(data, other, tmp_path / "data.cache", threads=2).vocab_size == 500
    assert encoded(capfd) == [data] * 3
    assert first.tokenizer_sha256 == shorter.tokenizer_sha256


def test_nothing_but_the_tokens_stays_in_the_cache(
    data_txt: Path, tokenizer_folder: Path, cache: Path
) -> None:
    encode_corpus(data_txt, tokenizer_folder, cache, threads=2)
    assert [path.name[:7] for path in cache.iterdir()] == ["tokens-"]


@pytest.mark.parametrize(
    "name", ["meta.json", "train.tokens", "names.json", "train.paths.json", "held_out.offsets.npy"]
)
def test_a_damaged_cache_is_made_again(
    name: str,
    data_txt: Path,
    tokenizer_folder: Path,
    cache: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = encode_corpus(data_txt, tokenizer_folder, cache, threads=2)
    copy = shutil.copytree(cache, tmp_path / "data.cache")
    [folder] = copy.iterdir()
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    encoded(capfd)
    again = encode_corpus(data_txt, tokenizer_folder, copy, threads=2)
    assert encoded(capfd) == [data_txt]
    assert np.array_equal(whole.train.tokens, again.train.tokens)


def test_a_kill_leaves_nothing_that_counts_and_the_next_run_clears_it(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    program = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from data_loading.corpus_tokens import encode_corpus
from data_loading.token_file import SplitWriter
write = SplitWriter.add
def slowly(self, *document):
    write(self, *document)
    self.file.flush()
    time.sleep(0.1)
SplitWriter.add = slowly
encode_corpus(*map(Path, sys.argv[2:]), threads=2)
"""
    cache = tmp_path / "data.cache"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, (PROJECT / "model", data_txt, tokenizer_folder, cache))],
        stderr=subprocess.DEVNULL,
    )
    while not any(path.stat().st_size for path in cache.glob("partial-*/tokens/*.tokens")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name[:8] for path in cache.iterdir()] == ["partial-"]
    dataset = encode_corpus(data_txt, tokenizer_folder, cache, threads=2)
    assert len(dataset.train.tokens) == dataset.train.offsets[-1] > 0
    assert [path.name[:7] for path in cache.iterdir()] == ["tokens-"]


# What it says ------------------------------------------------------------------------------------


def test_in_a_log_it_says_once_what_came_out(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = encode_corpus(data_txt, tokenizer_folder, tmp_path, threads=2)
    tokens = len(dataset.train.tokens) + len(dataset.held_out.tokens)
    out, err = capfd.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("encoding: ")]  # of a slow machine
    assert len(lines) == 1
    assert lines[0].startswith(f"encoded {data_txt}: ")
    assert f"{tokens:,} tokens" in lines[0]
    encode_corpus(data_txt, tokenizer_folder, tmp_path, threads=2)
    assert capfd.readouterr() == ("", "")


def test_it_says_so_when_no_fast_encoder_can_be_used(
    data_txt: Path,
    tokenizer_folder: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fast = encode_corpus(data_txt, tokenizer_folder, cache, threads=2)
    monkeypatch.setattr(encoding, "as_splintr", lambda parsed: None)
    monkeypatch.setattr(encoding, "as_tiktoken", lambda parsed: None)
    slow = encode_corpus(data_txt, tokenizer_folder, tmp_path, threads=2)
    assert "more slowly" in capfd.readouterr().err
    assert np.array_equal(fast.train.tokens, slow.train.tokens)


@pytest.mark.parametrize("missing", ["data", "tokenizer"])
def test_a_missing_input_is_one_error_with_the_remedy(
    missing: str, data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    inputs = {"data": data_txt, "tokenizer": tokenizer_folder, missing: tmp_path / missing}
    with pytest.raises(UserError, match=rf"{tmp_path / missing}.*: make it first: python preprocess/"):
        encode_corpus(inputs["data"], inputs["tokenizer"], tmp_path / "data.cache", threads=1)
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_line_is_one_error_and_leaves_no_tokens(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    lines = data_txt.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[20] = lines[20][:30] + "\n"
    (tmp_path / "data.txt").write_text("".join(lines), encoding="utf-8", newline="\n")
    with pytest.raises(UserError, match=r"^line 21 is not JSON .*python preprocess/data_preprocess.py$"):
        encode_corpus(tmp_path / "data.txt", tokenizer_folder, tmp_path / "data.cache", threads=1)
    assert list((tmp_path / "data.cache").iterdir()) == []
