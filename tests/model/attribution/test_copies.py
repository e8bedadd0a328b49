"""Whose files a completion repeats: found in its text, told on standard error or in JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attribution.copies import Attribution, Copy, Run, Source, in_words, open_sources, widest
from attribution.index import INDEX, SourceIndexError
from pretrained.load import read_pretrained
from project import PROJECT, STDLIB
from tiny_index import index_texts
from tiny_model import save_tiny_model

DECODER = Source("python/cpython", "Lib/json/decoder.py", "0123456789abcdef", "PSF-2.0")
ENCODER = Source("python/cpython", "Lib/json/encoder.py", "", "")
OPTIONS = ["--prompt", "x = 1", "--seed", "1", "--max-new-tokens", "60", "--no-valid"]


def text_of(source: Source) -> str:
    return (STDLIB / source.path.removeprefix("Lib/")).read_text(encoding="utf-8")


def generate(folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(PROJECT / "model/code_generator.py"), "--model", str(folder)]
    return subprocess.run([*command, *OPTIONS, *options], capture_output=True, timeout=60, check=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the tiny model writes."""
    return generate(save_tiny_model(tmp_path_factory.mktemp("plain"))).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, written: bytes) -> Path:
    """The model, and an index of two files of the json package and of what that model writes."""
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    mine = {Source("me/mine", "a.py", "", ""): written.decode()}
    index_texts(folder, {DECODER: text_of(DECODER), ENCODER: text_of(ENCODER), **mine})
    return folder


@pytest.fixture
def attribution(folder: Path) -> Attribution:
    return open_sources(folder, read_pretrained(folder).vocabulary)


def test_a_copied_part_is_found_with_its_place_in_characters_and_its_source(attribution: Attribution) -> None:
    copied = text_of(DECODER)[3000:3600]
    completion = f"def über(x):\n    return 'ü'\n{copied}\nnobody = 'ever wrote this'\n"
    [copy] = attribution.copies("import os\n\n", completion)
    assert copied[8:-8] in completion[copy.start_character : copy.end_character]
    assert completion[copy.start_character : copy.end_character] in f"\n{copied}\n"
    assert copy.sources == [DECODER]
    assert copy.others == 0
    assert copy.record() == {
        "start": copy.start,
        "end": copy.end,
        "start_character": copy.start_character,
        "end_character": copy.end_character,
        "repo": "python/cpython",
        "path": "Lib/json/decoder.py",
        "commit": "0123456789abcdef",
        "license": "PSF-2.0",
        "also": [],
        "others": 0,
    }


def test_a_copy_that_began_in_the_prompt_counts_as_far_as_it_is_new(attribution: Attribution) -> None:
    text = text_of(DECODER)
    [copy] = attribution.copies(text[:2000], text[2000:2600])
    assert copy.start_character < 10 and copy.end_character > 590
    assert attribution.copies(text[:2000], text[2000:2020]) == []  # fewer than 30 tokens are new
    assert attribution.copies(text[:2000], "") == []


def test_the_prompt_itself_and_what_follows_a_gap_are_not_copies(attribution: Attribution) -> None:
    text = text_of(DECODER)
    assert attribution.copies(text[:2000], "\nmine = 1\n", text[2000:]) == []


def test_unrelated_code_is_not_marked(attribution: Attribution) -> None:
    other = (STDLIB / "heapq.py").read_text(encoding="utf-8")
    assert attribution.copies("", other) == []


def test_two_sources_are_named_and_the_others_counted(folder: Path, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "m")
    sources = [Source(f"o/r{i}", "LICENSE.py", "", "MIT") for i in range(7)]
    shared = text_of(DECODER)[3000:3600]
    index_texts(model, {source: f"own = {source.repo!r}\n{shared}" for source in sources})
    [copy] = open_sources(model, read_pretrained(model).vocabulary).copies("", f"y = 5\n{shared}\nz()")
    assert copy.sources == sources[:2]
    assert copy.others == 5
    assert in_words(copy, "", f"y = 5\n{shared}\nz()").endswith(
        "o/r0, LICENSE.py, MIT and o/r1, LICENSE.py, MIT; and 5 other files"
    )


def test_a_line_for_the_user_counts_the_lines_of_prompt_and_completion() -> None:
    copy = Copy(2, 47, 4, 9, [DECODER], 1)
    assert in_words(copy, "a\nb\n", "c\n\n\nd\ne\nf") == (
        "lines 6 to 8 (45 tokens): python/cpython, Lib/json/decoder.py, commit 0123456789ab, PSF-2.0;"
        " and 1 other file"
    )
    assert in_words(Copy(0, 30, 0, 1, [ENCODER], 0), "", "c") == (
        "line 1 (30 tokens): python/cpython, Lib/json/encoder.py, licence unknown"
    )


def test_of_runs_within_others_only_the_widest_are_told() -> None:
    runs = [Run(3, 40, 1), Run(0, 40, 2), Run(20, 60, 3), Run(20, 60, 4), Run(21, 59, 5)]
    assert widest(runs) == [(0, 40), (20, 60)]


def test_standard_output_is_the_code_alone_and_standard_error_names_the_source(
    folder: Path, written: bytes
) -> None:
    told = generate(folder, "--sources")
    assert told.stdout == written
    [line] = told.stderr.decode().splitlines()
    assert line.startswith("copied: line")
    assert line.endswith(" tokens): me/mine, a.py, licence unknown")


def test_json_has_the_copies_as_records(folder: Path) -> None:
    record = json.loads(generate(folder, "--sources", "--json").stdout)
    [copy] = record["sources"]
    assert (copy["repo"], copy["path"], copy["license"], copy["others"]) == ("me/mine", "a.py", "", 0)
    assert copy["end"] - copy["start"] >= 30
    assert 0 <= copy["start_character"] < copy["end_character"] <= len(record["completion"])


def test_nothing_copied_is_said_too(folder: Path) -> None:
    result = generate(folder, "--sources", "--seed", "2")
    assert result.stderr == b"no 30 new tokens in a row stand in the training data\n"


def test_without_an_index_one_line_says_so_and_writing_goes_on(tmp_path: Path, written: bytes) -> None:
    result = generate(save_tiny_model(tmp_path), "--sources")
    assert result.stdout == written
    assert result.stderr.decode() == (
        "note: the index of the training data is missing (train.py writes it, unless --no-sources):"
        f" {tmp_path / INDEX}\n"
    )


def test_with_a_torn_index_one_line_says_so_and_writing_goes_on(
    folder: Path, tmp_path: Path, written: bytes
) -> None:
    (save_tiny_model(tmp_path) / INDEX).write_bytes((folder / INDEX).read_bytes()[:-1])
    result = generate(tmp_path, "--sources", "--json")
    record = json.loads(result.stdout)
    assert record["text"] + "\n" == written.decode()
    assert record["sources"] is None
    assert result.stderr.startswith(b"note: the index of the training data is torn (")
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("provenance", "known", "reason"),
    [
        ({"data": {"sha256": "other"}}, {}, "made of other data than this model"),
        ({}, {"tokenizer_sha256": "other"}, "made with another tokenizer"),
        ({}, {"ancestors": ["gone"]}, "is missing"),
    ],
)
def test_an_index_of_another_model_is_refused(
    tmp_path: Path, provenance: dict[str, object], known: dict[str, object], reason: str
) -> None:
    model = save_tiny_model(tmp_path)
    index_texts(model, {DECODER: text_of(DECODER)}, **known)
    (model / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    with pytest.raises(SourceIndexError, match=reason):
        open_sources(model, read_pretrained(model).vocabulary)
