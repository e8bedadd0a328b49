"""A corpus in parts: the tokens of a single file, made by whoever is free, each part once."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_loading import corpus_tokens, source_files
from data_loading.corpus_tokens import CorpusTokens, encode_corpus
from data_loading.source_files import plan_parts
from data_loading.token_file import JoinedTokens, TokenDataset
from model_cli import UserError
from project import PROJECT

SAID_ONCE = r"(encoding: .* MB\n)*encoded .*\n"  # a slow machine says every ten seconds how far it is


@pytest.fixture(scope="session")
def shards(data_txt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data_txt in six shards, one of them compressed, one of them empty."""
    import zstandard

    lines = data_txt.read_bytes().splitlines(keepends=True)
    folder = tmp_path_factory.mktemp("shards") / "data"
    folder.mkdir()
    for number, first in enumerate(range(0, len(lines), len(lines) // 4)):
        part = b"".join(lines[first : first + len(lines) // 4])
        (folder / f"{number:05d}.jsonl").write_bytes(part)
    (folder / "00099.jsonl").write_bytes(b"")
    first_shard = folder / "00000.jsonl"
    (folder / "00000.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(first_shard.read_bytes()))
    first_shard.unlink()
    return folder


@pytest.fixture(scope="session")
def whole(data_txt: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    return encode_corpus(data_txt, tokenizer_folder, tmp_path_factory.mktemp("whole"), threads=1)


def same(found: TokenDataset, whole: TokenDataset) -> bool:
    for split, expected in ((found.train, whole.train), (found.held_out, whole.held_out)):
        assert np.array_equal(split.tokens, expected.tokens)
        for column in ("offsets", "text_bytes", "repository", "origin"):
            ours, theirs = getattr(split, column), getattr(expected, column)
            assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), column
        assert split.repositories == expected.repositories and split.origins == expected.origins
        assert list(split.paths) == list(expected.paths)
    return True


def test_a_folder_has_the_tokens_of_its_lines(
    shards: Path, whole: TokenDataset, tokenizer_folder: Path, tmp_path: Path
) -> None:
    found = encode_corpus(shards, tokenizer_folder, tmp_path, threads=1)
    assert type(found.train.tokens).__name__ == JoinedTokens.__name__
    assert same(found, whole)
    assert same(encode_corpus(shards, tokenizer_folder, tmp_path, threads=1), whole)


def test_a_large_file_is_cut_between_source_files(
    data_txt: Path,
    whole: TokenDataset,
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert len(plan_parts(data_txt)) == 1
    monkeypatch.setattr(source_files, "PART_BYTES", 100_000)
    parts = plan_parts(data_txt)
    assert len(parts) > 5 and [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert same(encode_corpus(data_txt, tokenizer_folder, tmp_path, threads=1), whole)
    assert re.fullmatch(SAID_ONCE, capfd.readouterr().err)


def test_several_processes_give_the_same_tokens(
    shards: Path,
    whole: TokenDataset,
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(corpus_tokens, "PROCESS_BYTES", 1)
    assert same(encode_corpus(shards, tokenizer_folder, tmp_path, threads=2), whole)
    said = capfd.readouterr().err.splitlines()
    assert said[-1].startswith(f"encoded {shards}: ") and said[:-1] == [
        line for line in said[:-1] if line.startswith("encoding: ")
    ]


def test_ranks_share_the_parts_out_and_one_joins_them(
    shards: Path, whole: TokenDataset, tokenizer_folder: Path, tmp_path: Path
) -> None:
    made = []
    for rank in (1, 0):
        corpus = CorpusTokens(shards, tokenizer_folder, tmp_path, threads=1)
        corpus.encode_share(rank, 2)
        made.append({path.name: path.stat().st_mtime_ns for path in corpus.folder.glob("part-*")})
        assert corpus.find() is None
    assert made[0] and made[0].items() < made[1].items()
    joined = CorpusTokens(shards, tokenizer_folder, tmp_path, threads=1)
    assert same(joined.finish(), whole)
    assert {path.name: path.stat().st_mtime_ns for path in joined.folder.glob("part-*")} == made[1]


def test_a_kill_leaves_finished_parts_and_only_the_others_are_made_again(
    shards: Path, whole: TokenDataset, tokenizer_folder: Path, tmp_path: Path
) -> None:
    program = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from data_loading import encoding
from data_loading.corpus_tokens import encode_corpus
add = encoding.SplitWriter.add
def slowly(self, *document):
    add(self, *document)
    time.sleep(0.02)
encoding.SplitWriter.add = slowly
encode_corpus(*map(Path, sys.argv[2:]), threads=1)
"""
    arguments = [str(path) for path in (PROJECT / "model", shards, tokenizer_folder, tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("tokens-*/part-*/meta.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("tokens-*/part-*/train.tokens")}
    assert same(encode_corpus(shards, tokenizer_folder, tmp_path, threads=1), whole)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not list(tmp_path.glob("tokens-*/partial-*"))


def test_a_damaged_part_is_made_again_alone(
    shards: Path, whole: TokenDataset, tokenizer_folder: Path, tmp_path: Path
) -> None:
    encode_corpus(shards, tokenizer_folder, tmp_path, threads=1)
    parts = sorted(tmp_path.glob("tokens-*/part-*"))
    before = {path: path.stat().st_mtime_ns for path in parts}
    tokens = parts[1] / "train.tokens"
    tokens.write_bytes(tokens.read_bytes()[:-100])
    assert same(encode_corpus(shards, tokenizer_folder, tmp_path, threads=1), whole)
    changed = [path for path in parts if path.stat().st_mtime_ns != before[path]]
    assert changed == [parts[1]]


def test_a_process_that_dies_is_one_line_and_the_next_run_goes_on(
    shards: Path, whole: TokenDataset, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_tokens, "PROCESS_BYTES", 1)
    submit = ProcessPoolExecutor.submit
    monkeypatch.setattr(ProcessPoolExecutor, "submit", lambda pool, *_: submit(pool, os._exit, 9))
    with pytest.raises(UserError, match=r"a process that encodes was ended.*the same command continues"):
        encode_corpus(shards, tokenizer_folder, tmp_path, threads=2)
    monkeypatch.undo()
    assert same(encode_corpus(shards, tokenizer_folder, tmp_path, threads=1), whole)


def test_bad_lines_of_a_range_are_named_by_their_number_in_the_file(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = data_txt.read_bytes().splitlines(keepends=True)
    lines[60] = lines[60][:30] + b"\n"
    data = tmp_path / "data.txt"
    data.write_bytes(b"".join(lines))
    monkeypatch.setattr(source_files, "PART_BYTES", 100_000)
    with pytest.raises(UserError, match=r"^line 61 is not JSON .*data.txt: make it again"):
        encode_corpus(data, tokenizer_folder, tmp_path / "cache", threads=1)


def test_a_damaged_shard_and_a_folder_without_shards_are_one_line(
    shards: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(shards, tmp_path / "data"))
    compressed = data / "00000.jsonl.zst"
    compressed.write_bytes(compressed.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"it cannot be decompressed \(it ends in the middle\): .*00000"):
        encode_corpus(data, tokenizer_folder, tmp_path / "cache", threads=1)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"no shards \(00000.jsonl.zst or .jsonl\)"):
        encode_corpus(tmp_path / "none", tokenizer_folder, tmp_path / "cache", threads=1)


@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    start=st.integers(-3, 40),
    length=st.integers(0, 40),
)
def test_joined_tokens_are_sliced_as_one_array(
    sizes: list[int], start: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    numbers = np.arange(sum(sizes), dtype=np.uint16)
    files, before = [folder / f"{number}" for number in range(len(sizes))], 0
    for path, size in zip(files, sizes, strict=True):
        path.write_bytes(numbers[before : before + size].tobytes())
        before += size
    joined = JoinedTokens(files, np.dtype(np.uint16))
    assert len(joined) == len(numbers)
    assert joined[start : start + length].tolist() == numbers[start : start + length].tolist()
