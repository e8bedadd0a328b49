"""A folder of shards, to preprocessing and to training: the same texts, the same hash, the same refusals."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from corpus.data_file import iter_documents
from corpus.data_file import shard_paths as shards_for_preprocessing
from corpus.output_files import Outputs, folder_fingerprint, last_summary, lines_bytes
from data_loading.source_files import iter_lines, plan_parts
from model_cli import UserError
from preprocess_cli import UserError as PreprocessError
from pretrained.corpus_files import digest_of, shard_paths, state_of, summary_of
from project import run_script

SUMMARY = "summary.json"
RECORDED = "ab" * 32  # the hash that a summary says: not the true one, so that it shows who believes it
compress = zstandard.ZstdCompressor().compress


def line(number: int, piece: int = 0, pieces: int = 1) -> bytes:
    origin = {"repo": "a/b", "path": f"{number}.py", "commit": "", "license": "MIT"}
    counts = {"piece": piece, "pieces": pieces, "split": "train"}
    return json.dumps({"text": f"x = {number}\n", **origin, **counts}).encode() + b"\n"


ZERO, ONE = compress(line(0)), compress(line(1))
TWO_SHARDS = {"00000.jsonl.zst": ZERO, "00001.jsonl.zst": ONE}
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"  # a frame of zstd without content
MARK = b"\xef\xbb\xbf"


def summary(without: str = "", **data: Any) -> bytes:
    """A summary of TWO_SHARDS, whose entry `data` has other things in it, or lacks one."""
    shards = [{"name": name, "size": len(content)} for name, content in TWO_SHARDS.items()]
    entry = {"sha256": RECORDED, "lines_bytes": 9, "shards": shards, **data}
    entry.pop(without, None)
    return json.dumps({"inputs": "", "options": {}, "unreadable": [], "ledger": {}, "data": entry}).encode()


FITTING = {**TWO_SHARDS, SUMMARY: summary()}
NULL, LIST = (summary().replace(b'"data"', b'"data": %b, "x"' % entry) for entry in (b"null", b"[]"))

BOTH_READ: dict[str, Mapping[str, bytes]] = {
    "compressed": TWO_SHARDS,
    "plain": {"00000.jsonl": line(0), "00001.jsonl": line(1)},
    "one of each": {"00000.jsonl": line(0), "00001.jsonl.zst": ONE},
    "numbers of other lengths": {f"{number}.jsonl": line(number) for number in (10, 9, 100)},
    "a number missing": {"00000.jsonl": line(0), "00002.jsonl": line(2)},
    "other files too": {
        **TWO_SHARDS,
        **dict.fromkeys(["report.html", "ledger-00000.jsonl", ".00002.jsonl.zst", "x.jsonl", "3.json"], b"?"),
        **dict.fromkeys(["00002.jsonl.zst.partial", "00002.JSONL", "\N{SUPERSCRIPT TWO}.jsonl"], b"?"),
    },
    "an empty shard": {"00000.jsonl": b"", "00001.jsonl": line(1)},
    "an empty frame": {"00000.jsonl.zst": ZERO, "00001.jsonl.zst": compress(b"")},
    "no newline at the end": {"00000.jsonl": line(0)[:-1], "00001.jsonl": line(1)[:-1]},
    "byte order marks": {"00000.jsonl": MARK + line(0), "00001.jsonl.zst": compress(MARK + line(1))},
    "two frames": {"00000.jsonl.zst": ZERO + ONE},
    "a line in two frames": {"00000.jsonl.zst": compress(line(0)[:9]) + compress(line(0)[9:])},
    "frames to skip": {"00000.jsonl.zst": SKIPPABLE + ZERO + SKIPPABLE},
    "a summary that fits": FITTING,
    "a summary cut off": {**TWO_SHARDS, SUMMARY: summary()[:90]},
    "an empty summary": {**TWO_SHARDS, SUMMARY: b""},
    "a summary in latin-1": {**TWO_SHARDS, SUMMARY: summary() + b"\xe9"},
    "a summary that is a list": {**TWO_SHARDS, SUMMARY: b"[]"},
    "a summary of nothing": {**TWO_SHARDS, SUMMARY: b"{}"},
    "a summary that is text": {**TWO_SHARDS, SUMMARY: b'"data"'},
    "an entry that is null": {
        **TWO_SHARDS,
        SUMMARY: NULL,
    },
    "an entry that is a list": {
        **TWO_SHARDS,
        SUMMARY: LIST,
    },
    "an entry alone": {**TWO_SHARDS, SUMMARY: summary().replace(b'"inputs"', b'"others"')},
    "no shards in it": {**TWO_SHARDS, SUMMARY: summary("shards")},
    "null for shards": {**TWO_SHARDS, SUMMARY: summary(shards=None)},
    "shards without names": {**TWO_SHARDS, SUMMARY: summary(shards=[{"size": 1}])},
    "shards that are text": {**TWO_SHARDS, SUMMARY: summary(shards=["00000.jsonl.zst"])},
    "no hash in it": {**TWO_SHARDS, SUMMARY: summary("sha256")},
    "null for a hash": {**TWO_SHARDS, SUMMARY: summary(sha256=None)},
    "a number for a hash": {**TWO_SHARDS, SUMMARY: summary(sha256=3)},
    "text for a size": {**TWO_SHARDS, SUMMARY: summary(lines_bytes="9")},
    "a shard that grew": {**FITTING, "00001.jsonl.zst": ONE + SKIPPABLE},
    "a shard too few": {"00000.jsonl.zst": ZERO, SUMMARY: summary()},
    "a shard too many": {**FITTING, "00002.jsonl": line(2)},
    "a shard under another name": {"00000.jsonl.zst": ZERO, "00002.jsonl.zst": ONE, SUMMARY: summary()},
}
FIT = {"a summary that fits", "an entry alone", "text for a size"}  # whose recorded hash is believed

BOTH_REFUSE: dict[str, Mapping[str, bytes]] = {
    "nothing": {},
    "no shards": {SUMMARY: summary(), "ledger-00000.jsonl": b"{}\n", "a.jsonl": line(0)},
    "a shard twice": {**TWO_SHARDS, "00001.jsonl": line(1)},
    "a shard cut off": {**TWO_SHARDS, "00001.jsonl.zst": ONE[:-3]},
    "the first cut off": {**TWO_SHARDS, "00000.jsonl.zst": ZERO[:-3]},
    "a shard cut off in its header": {"00000.jsonl.zst": ZERO[:3]},
    "the second frame cut off": {"00000.jsonl.zst": ZERO + ONE[:-3]},
    "nothing where a frame was": {**TWO_SHARDS, "00001.jsonl.zst": b""},
    "zeros, as after a crash": {**TWO_SHARDS, "00001.jsonl.zst": bytes(len(ONE))},
    "zeros at the end": {"00000.jsonl.zst": ZERO + bytes(20)},
    "a plain shard with the other name": {"00000.jsonl.zst": line(0)},
    "a compressed shard with the other name": {"00000.jsonl": ZERO},
    "a line cut off": {"00000.jsonl": line(0) + line(1)[:30], "00001.jsonl": line(2)},
    "a file that goes on in the next shard": {"00000.jsonl": line(0, 0, 2), "00001.jsonl": line(0, 1, 2)},
    "a shard that begins in a file": {"00000.jsonl": line(0), "00001.jsonl": line(1, 1, 2)},
    "a summary that fits, and other lines": {**FITTING, "00001.jsonl.zst": ONE[::-1]},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def filled(data: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (data / name).write_bytes(content)
    if SUMMARY in files:  # written last
        os.utime(data / SUMMARY, ns=(2 * 10**18, 2 * 10**18))
    return data


def seen_by_preprocessing(data: Path) -> tuple[Any, ...]:
    """(shards, size and time, hash, documents)"""
    fingerprint = folder_fingerprint(data)
    digest = fingerprint.pop("sha256")
    documents = [(each.text, each.path) for each in iter_documents(data)]
    return [path.name for path in shards_for_preprocessing(data)], fingerprint, digest, documents


def seen_by_training(data: Path) -> tuple[Any, ...]:
    digest = summary_of(data).get("sha256") or digest_of(data)
    documents = [(each["text"], each["path"]) for part in plan_parts(data) for each in iter_lines(part)]
    return [path.name for path in shard_paths(data)], state_of(data), digest, documents


@pytest.mark.parametrize("what", BOTH_READ)
def test_preprocessing_and_training_read_the_same_of_a_folder(what: str, data: Path) -> None:
    filled(data, BOTH_READ[what])
    seen = seen_by_preprocessing(data)
    assert seen == seen_by_training(data)
    assert (seen[2] == RECORDED) == (what in FIT) and len(seen[2]) == 64
    assert seen[3] and lines_bytes(data) > 0


@pytest.mark.parametrize("what", BOTH_REFUSE)
def test_preprocessing_and_training_refuse_the_same_folders(what: str, data: Path) -> None:
    filled(data, BOTH_REFUSE[what])
    with pytest.raises(PreprocessError):
        seen_by_preprocessing(data)
    with pytest.raises(UserError):
        seen_by_training(data)


def test_a_shard_that_is_newer_than_its_summary_is_read_by_both(data: Path) -> None:
    filled(data, FITTING)
    os.utime(data / "00001.jsonl.zst", ns=(3 * 10**18, 3 * 10**18))
    assert seen_by_preprocessing(data) == seen_by_training(data)
    assert seen_by_training(data)[2] != RECORDED


@pytest.mark.parametrize("script", ["preprocess/tokenizer.py", "model/train.py"])
@pytest.mark.parametrize("what", ["a folder", "a link to nothing"])
def test_what_only_has_the_name_of_a_shard_is_one_line(
    what: str, script: str, data: Path, tokenizer_folder: Path
) -> None:
    filled(data, {"00000.jsonl": line(0)})
    shard = data / "00001.jsonl"
    if what == "a folder":
        shard.mkdir()
    else:
        shard.symlink_to("nothing")
    options = ["-t"] if script == "preprocess/tokenizer.py" else ["--any-tokenizer", "--steps", "2"]
    result = run_script(script, *options, "--data", data, "--tokenizer", tokenizer_folder, cwd=data.parent)
    assert result.returncode == 1 and str(shard) in result.stderr.splitlines()[-1], result.stderr
    assert result.stderr.count("error: ") == 1 and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "what", ["an entry that is null", "an entry that is a list", "a summary cut off", "a summary of nothing"]
)
def test_a_damaged_summary_is_none_to_the_next_run_of_preprocessing(what: str, data: Path) -> None:
    outputs = Outputs(filled(data, FITTING), is_folder=True)
    assert last_summary(outputs) is not None
    filled(data, BOTH_READ[what])
    assert last_summary(outputs) is None
