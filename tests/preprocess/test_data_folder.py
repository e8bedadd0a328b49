"""repos/ -> a folder of shards: the lines of data.txt, whole or absent, which other programs read too."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from corpus.data_file import iter_documents
from corpus.output_files import folder_fingerprint
from preprocess_cli import UserError
from project import PROJECT, STDLIB, run_script, succeed
from shard_folder import in_shards, sharding

SCRIPT = "preprocess/data_preprocess.py"
TOKENIZER = "preprocess/tokenizer.py"
TEXT = 150_000  # bytes in a shard here


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with repos/, its data.txt, and its data/ in several shards."""
    folder = tmp_path_factory.mktemp("journey")
    for package in ("concurrent", "html", "http", "json", "logging", "tomllib"):
        shutil.copytree(STDLIB / package, folder / "repos" / "installed" / package)
    succeed(run_script(SCRIPT, "--jobs", "1", cwd=folder))
    in_shards(folder, "--output", "data/", "--jobs", "2", text=TEXT)
    return folder


@pytest.fixture
def own(journey: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(journey, tmp_path / "own", copy_function=shutil.copy2))


def shards(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0].isdecimal())


def lines(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


def summary(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    return loaded


def test_the_shards_joined_are_the_file_byte_for_byte(journey: Path) -> None:
    found = shards(journey / "data")
    assert [path.name for path in found] == [f"{n:05d}.jsonl.zst" for n in range(len(found))] and len(
        found
    ) > 2
    assert b"".join(map(lines, found)) == (journey / "data.txt").read_bytes()
    ledgers = sorted((journey / "data").glob("ledger-*.jsonl"))
    assert len(ledgers) == len(found)
    assert b"".join(path.read_bytes() for path in ledgers) == (journey / "data.ledger.jsonl").read_bytes()
    names = {path.name for path in (journey / "data").iterdir()}
    assert names == {path.name for path in [*found, *ledgers]} | {"summary.json"}


def test_a_shard_holds_whole_files_and_ends_with_the_one_that_fills_it(journey: Path) -> None:
    sizes = []
    for path in shards(journey / "data"):
        documents = [json.loads(line) for line in lines(path).split(b"\n")[:-1]]
        assert documents[0]["piece"] == 0 and documents[-1]["piece"] == documents[-1]["pieces"] - 1
        sizes.append([len(document["text"].encode()) for document in documents])
        last = sum(
            size for size, d in zip(sizes[-1], documents, strict=True) if d["path"] == documents[-1]["path"]
        )
        assert sum(sizes[-1]) - last < TEXT
    assert all(sum(each) >= TEXT for each in sizes[:-1])


def test_the_summary_has_the_hash_of_each_shard_and_otherwise_the_totals_of_the_file(journey: Path) -> None:
    folder, file = summary(journey / "data"), json.loads((journey / "data.summary.json").read_text("utf-8"))
    for entry in folder["data"]["shards"]:
        path = journey / "data" / entry["name"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert hashlib.sha256(lines(path)).hexdigest() == entry["lines_sha256"]
        assert entry["documents"] == lines(path).count(b"\n")
    assert folder["data"]["lines_bytes"] == (journey / "data.txt").stat().st_size
    for name in ("input", "kept", "dropped", "written", "redacted"):
        assert folder[name] == file[name]


def test_neither_processes_nor_compression_change_a_line(journey: Path, own: Path) -> None:
    shutil.rmtree(own / "data")
    shutil.rmtree(own / "data.cache")
    in_shards(own, "--output", "data/", "--jobs", "3", "--plain", text=TEXT)
    plain, compressed = shards(own / "data"), shards(journey / "data")
    assert [path.name for path in plain] == [path.name.removesuffix(".zst") for path in compressed]
    assert [path.read_bytes() for path in plain] == [lines(path) for path in compressed]
    assert summary(own / "data")["data"]["sha256"] == summary(journey / "data")["data"]["sha256"]
    shutil.rmtree(own / "data")
    in_shards(own, "--output", "data/", "--jobs", "1", text=TEXT)
    assert [path.read_bytes() for path in shards(own / "data")] == [path.read_bytes() for path in compressed]


def test_a_kill_leaves_no_folder_and_the_same_command_keeps_the_finished_shards(
    journey: Path, own: Path
) -> None:
    shutil.rmtree(own / "data")
    process = sharding(own, "--output", "data/", text=TEXT, seconds=0.02)
    partial = own / ".data.partial"
    while len(list(partial.glob("0*.zst"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (own / "data").exists()
    finished = {path.name: path.stat().st_mtime_ns for path in partial.glob("0*.zst")}
    in_shards(own, "--output", "data/", text=TEXT)
    assert not partial.exists()
    after = {path.name: path.stat().st_mtime_ns for path in shards(own / "data")}
    # The last one may have got its name just before the kill, but not its line in the record.
    assert len(finished.items() - after.items()) <= 1
    assert [p.read_bytes() for p in shards(own / "data")] == [
        p.read_bytes() for p in shards(journey / "data")
    ]


def test_an_earlier_folder_stays_until_the_new_one_is_complete(own: Path) -> None:
    before = [path.read_bytes() for path in shards(own / "data")]
    (own / "repos" / "installed" / "json" / "new.py").write_text("def new() -> int:\n    return 1\n")
    process = sharding(own, "--output", "data", text=TEXT, seconds=0.05)
    while not list((own / ".data.partial").glob("0*.zst")):
        assert process.poll() is None
        time.sleep(0.01)
    assert [path.read_bytes() for path in shards(own / "data")] == before
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path.read_bytes() for path in shards(own / "data")] == before
    in_shards(own, "--output", "data", text=TEXT)
    assert [path.read_bytes() for path in shards(own / "data")] != before
    assert sorted(path.name for path in own.iterdir() if "data" in path.name) == [
        "data", "data.cache", "data.ledger.jsonl", "data.summary.json", "data.txt",
    ]  # fmt: skip


def test_a_folder_that_is_complete_is_up_to_date_until_something_changes(own: Path) -> None:
    assert in_shards(own, "--output", "data/", text=TEXT).startswith(f"up to date: {own / 'data'} (")
    assert "the last run had other options" in in_shards(own, "--output", "data/", "--plain", text=TEXT)
    assert shards(own / "data")[0].name == "00000.jsonl"
    in_shards(own, "--output", "data/", text=TEXT)
    shards(own / "data")[1].unlink()
    assert "changed after the last run" in in_shards(own, "--output", "data/", text=TEXT)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda data: (data / "notes.txt").write_text("mine"), "something else made this"),
        (lambda data: (data / "summary.json").unlink(), "something else made this"),
        (lambda data: data.rename(data.parent / "else") and data.write_text("mine"), "this is not a folder"),
    ],
)
def test_what_it_did_not_make_is_not_replaced(make: Any, complaint: str, own: Path) -> None:
    make(own / "data")
    before = sorted((path, path.stat().st_mtime_ns) for path in own.rglob("*"))
    result = run_script(SCRIPT, "--output", "data/", cwd=own)
    assert result.returncode == 1 and result.stderr.startswith(f"error: {complaint}: {own / 'data'}")
    assert result.stderr.count("\n") == 1
    assert sorted((path, path.stat().st_mtime_ns) for path in own.rglob("*")) == before


def test_plain_belongs_to_a_folder(tmp_path: Path) -> None:
    result = run_script(SCRIPT, "--plain", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (
        2,
        "error: --plain belongs to a folder: --output FOLDER/ (see --help)\n",
    )


def test_explain_and_the_report_know_a_folder(own: Path) -> None:
    said = succeed(
        run_script(SCRIPT, "--output", "data", "--explain", "installed/json/tool.py", cwd=own)
    ).stdout
    assert said.startswith("installed/json/tool.py: kept")
    in_shards(own, "--output", "data/", "--report", text=TEXT)
    assert "installed/http" in (own / "data" / "report.html").read_text("utf-8")
    assert in_shards(own, "--output", "data/", text=TEXT).startswith("up to date: ")


# Other programs


def test_datasets_reads_it(journey: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    files = str(journey / "data" / "*.jsonl.zst")
    loaded = load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path))
    documents = list(iter_documents(journey / "data.txt"))
    assert loaded["text"][:] == [document.text for document in documents]
    assert loaded["path"][:] == [document.path for document in documents]


def test_duckdb_reads_it(journey: Path) -> None:
    import duckdb

    documents = duckdb.read_json(f"{journey}/data/*.jsonl.zst")
    found = documents.aggregate("repo, count(*)").order("repo").fetchall()
    counts: dict[str, int] = {}
    for document in iter_documents(journey / "data.txt"):
        counts[document.repo] = counts.get(document.repo, 0) + 1
    assert found == sorted(counts.items())


def test_datatrove_reads_it(journey: Path) -> None:
    from datatrove.pipeline.readers import JsonlReader

    reader = JsonlReader(str(journey / "data"), glob_pattern="*.jsonl.zst")
    read = [(document.text, document.metadata["repo"]) for document in reader()]
    assert read == [(document.text, document.repo) for document in iter_documents(journey / "data.txt")]


# The tokenizer


def test_the_tokenizer_is_the_same_from_a_folder(own: Path) -> None:
    options = ("-t", "--vocab-size", "400", "--tokenizer")
    said = succeed(run_script(TOKENIZER, *options, "of-folder", "--data", "data/", cwd=own))
    succeed(run_script(TOKENIZER, *options, "of-file", cwd=own))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (own / "of-folder" / name).read_bytes() == (own / "of-file" / name).read_bytes()
    assert f"next: python {PROJECT / 'model/train.py'} --data data --tokenizer of-folder\n" in said.stdout
    again = succeed(run_script(TOKENIZER, *options, "of-folder", "--data", "data/", cwd=own))
    assert again.stdout.startswith("up to date: ")


def test_of_a_large_folder_only_the_beginning_of_each_shard_is_read(journey: Path) -> None:
    from bpe.learning import READ_AT_MOST, TrainingSample
    from corpus.output_files import lines_bytes

    data = journey / "data"
    limit = lines_bytes(data) // (4 * READ_AT_MOST)
    sample = TrainingSample.of(lines_bytes(data), limit, len(shards(data)))
    texts = list(sample.train_documents(data))
    assert 0 < sum(len(text.encode()) for text in texts) <= limit
    assert sample.read_bytes < lines_bytes(data) / 2
    assert texts == list(sample.again().train_documents(data))
    whole = TrainingSample.of(lines_bytes(data), 0, len(shards(data)))
    assert whole.of_each_shard is None and len(list(whole.train_documents(data))) > len(texts)


# Damage


def test_a_copy_with_other_times_is_known_and_a_changed_shard_is_read_again(own: Path, journey: Path) -> None:
    known = folder_fingerprint(journey / "data")["sha256"]
    for path in (own / "data").iterdir():
        os.utime(path, ns=(10**18, 10**18))
    (own / "data" / "00000.jsonl.zst").rename(own / "aside")  # no shard can be read
    (own / "data" / "00000.jsonl.zst").write_bytes(bytes((own / "aside").stat().st_size))
    os.utime(own / "data" / "00000.jsonl.zst", ns=(10**18, 10**18))
    assert folder_fingerprint(own / "data")["sha256"] == known
    os.utime(own / "data" / "00000.jsonl.zst")
    with pytest.raises(UserError, match=r"it cannot be read \(.*00000.jsonl.zst"):
        folder_fingerprint(own / "data")


def test_a_shard_that_is_cut_off_or_there_twice_is_one_line(own: Path) -> None:
    shard = shards(own / "data")[1]
    shard.write_bytes(shard.read_bytes()[:-500])
    result = run_script(TOKENIZER, "-t", "--data", "data", cwd=own)
    assert result.returncode == 1 and result.stderr.splitlines()[-1] == (
        f"error: it cannot be read (it ends in the middle): {shard}: make it again: "
        "python preprocess/data_preprocess.py"
    )
    shard.with_suffix("").write_bytes(b"")
    with pytest.raises(UserError, match=r"both \.jsonl and \.jsonl\.zst are there"):
        list(iter_documents(own / "data"))


def test_several_frames_are_read_to_the_end(tmp_path: Path, journey: Path) -> None:
    whole = (journey / "data.txt").read_bytes()
    start = whole.rindex(b"\n", 0, whole.rindex(b'"piece": 0, "pieces": 1,')) + 1
    frames = [zstandard.ZstdCompressor().compress(part) for part in (whole[:start], whole[start:])]
    (tmp_path / "00000.jsonl.zst").write_bytes(b"".join(frames))
    assert list(iter_documents(tmp_path)) == list(iter_documents(journey / "data.txt"))
