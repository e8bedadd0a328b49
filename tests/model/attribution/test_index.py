"""sources.index: every copy of 30 tokens is found, nothing else is, in less than a byte a token."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attribution import index as source_index
from attribution.copies import Run, Source, SourceIndex, open_sources
from attribution.index import INDEX, SPAN, SourceIndexError, remove_sources, write_index, write_sources
from data_loading.corpus_tokens import encode_corpus
from data_loading.token_file import TokenDataset, TokenSplit
from pretrained.load import read_pretrained
from project import STDLIB, run_script, succeed
from tiny_index import split_of

STEPS = "--steps 4 --block-size 64 --device cpu".split()
RECORD = {"tokenizer_sha256": "t", "data_sha256": "d"}


def sources(count: int) -> list[Source]:
    return [Source(f"owner/repo{i // 7}", f"src/module_{i}.py", f"{i % 3:040x}", "MIT") for i in range(count)]


@pytest.fixture(scope="module")
def split() -> TokenSplit:
    """60 documents of 1 to 700 tokens of which some come often."""
    random = np.random.default_rng(1)
    lengths = [1, 15, 29, 30, 31, *random.integers(1, 700, 55).tolist()]
    return split_of([(random.pareto(1, n).astype(int) % 500 + 5).tolist() for n in lengths], sources(60))


@pytest.fixture(scope="module")
def index(split: TokenSplit, tmp_path_factory: pytest.TempPathFactory) -> SourceIndex:
    path = tmp_path_factory.mktemp("index") / "sources.index"
    write_index(split, path, RECORD)
    return SourceIndex(path, "t")


def unlike(count: int) -> NDArray[np.int64]:
    """Tokens that no training document has."""
    return np.arange(1000, 1000 + count)


@pytest.mark.parametrize("length", [30, 31, 47, 60])
def test_each_run_of_thirty_tokens_or_more_is_found_wherever_it_stands(
    split: TokenSplit, index: SourceIndex, length: int
) -> None:
    planted = 0
    for document, start in enumerate(split.offsets[:-1].tolist()):
        end = int(split.offsets[document + 1]) - 1
        for first in range(start, end - length + 1, 7):
            run = np.array(split.tokens[first : first + length], np.int64)
            text = np.concatenate([unlike(13), run, unlike(11)])
            found = [run for run in index.runs(text) if run.document == document]
            assert any(run.start <= 13 and 13 + length <= run.end for run in found), (document, first)
            planted += 1
    assert planted > 1000


def test_its_ends_are_known_and_seem_a_token_too_far_in_one_case_of_eight(
    split: TokenSplit, index: SourceIndex
) -> None:
    document = int(np.argmax(split.lengths))
    start, exact = int(split.offsets[document]), 0
    for first in range(300):
        run = np.array(split.tokens[start + first : start + first + 40], np.int64)
        [found] = index.runs(np.concatenate([unlike(9) + first, run, unlike(9) + first]))
        assert 40 <= found.end - found.start <= 44
        exact += found == Run(9, 49, document)
    assert 0.8 < exact / 300 < 0.95  # (15 / 16) ** 2 = 0.88


def test_a_shorter_run_and_unrelated_text_are_not_marked(split: TokenSplit, index: SourceIndex) -> None:
    random = np.random.default_rng(2)
    marked = 0
    for document in range(len(split.paths)):
        start, end = split.offsets[document : document + 2].tolist()
        short = np.array(split.tokens[start : min(end - 1, start + SPAN - 4)], np.int64)
        marked += len(index.runs(np.concatenate([unlike(20) + document, short, unlike(20) + document])))
        assert index.runs(random.integers(5, 505, 300)) == []
    assert marked == 0  # 26 tokens would need four wrong ones that pass: 5 in 65,536


def test_no_run_goes_over_the_end_of_a_document(split: TokenSplit, index: SourceIndex) -> None:
    everything = np.array(split.tokens, np.int64)
    for run in index.runs(everything):
        assert 0 not in everything[run.start : run.end]


def test_a_document_is_named_by_repository_path_commit_and_licence(index: SourceIndex) -> None:
    assert [index.source(document) for document in range(60)] == sources(60)


def test_text_that_many_documents_share_is_found_in_each(tmp_path: Path) -> None:
    shared = list(range(100, 140))
    documents = [[*range(500 + 9 * i, 505 + i * 9), *shared, 7, 8] for i in range(300)]
    write_index(split_of(documents, sources(300)), tmp_path / "i", RECORD)
    index = SourceIndex(tmp_path / "i", "t")
    runs = index.runs(np.array([3, *shared, 4]))
    assert sorted({run.document for run in runs}) == list(range(300))


def test_one_token_again_and_again_is_found_and_costs_no_more(tmp_path: Path) -> None:
    split = split_of([[9] * 50_000, list(range(10, 300))], sources(2))
    write_index(split, tmp_path / "i", RECORD)
    runs = SourceIndex(tmp_path / "i", "t").runs(np.array([9] * 100))
    assert Run(0, 100, 0) in runs
    assert (tmp_path / "i").stat().st_size < split.size


def test_it_takes_less_than_a_byte_a_token_names_included(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    train = encode_corpus(data_txt, tokenizer_folder, tmp_path / "cache", threads=1).train
    write_index(train, tmp_path / "i", RECORD)
    assert 0.5 < (tmp_path / "i").stat().st_size / train.size < 0.8
    index = SourceIndex(tmp_path / "i", "t")
    assert {index.source(document).license for document in range(len(train.paths))} == {"PSF-2.0"}
    document = train.paths.index("queues.py")
    text = np.array(train.tokens[train.offsets[document] + 40 :][:200], np.int64)
    assert index.source(index.runs(text)[0].document).path == "queues.py"


def test_what_was_left_out_of_training_is_left_out_of_the_index(split: TokenSplit, tmp_path: Path) -> None:
    kept = np.array([i for i in range(60) if i % 3])
    write_index(replace(split, kept=kept), tmp_path / "i", RECORD)
    index = SourceIndex(tmp_path / "i", "t")
    assert [index.source(i) for i in range(40)] == [sources(60)[i] for i in kept]
    found = 0
    for document, (start, end) in enumerate(zip(split.offsets[:-1], split.offsets[1:], strict=True)):
        text = np.array(split.tokens[start : end - 1], np.int64)
        wholes = [run for run in index.runs(text) if (run.start, run.end) == (0, len(text))]
        if document % 3 == 0:
            assert wholes == []
        elif len(text) >= SPAN:
            assert kept[wholes[0].document] == document
            found += 1
    assert found > 30


def test_the_same_documents_give_the_same_bytes_however_they_are_taken(
    split: TokenSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_index(split, tmp_path / "a", RECORD)
    assert not write_index(split, tmp_path / "a", RECORD)
    monkeypatch.setattr(source_index, "BLOCK", 32)
    monkeypatch.setattr(source_index, "PARTITION", 100)
    write_index(split, tmp_path / "b", RECORD)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_full_disk_leaves_the_old_index_or_none(
    split: TokenSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source_index, "_write_grams", full)
    with pytest.raises(OSError, match="No space"):
        write_index(split, tmp_path / "i", RECORD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("documents", [[], [[5]], [[5] * 14], [[5] * 29]])
def test_too_little_text_for_any_copy_is_an_index_that_finds_none(
    documents: list[list[int]], tmp_path: Path
) -> None:
    write_index(split_of(documents, sources(len(documents))), tmp_path / "i", RECORD)
    assert SourceIndex(tmp_path / "i", "t").runs(np.array([5] * 60)) == []


def test_a_torn_a_foreign_and_a_missing_index_are_refused(index: SourceIndex, tmp_path: Path) -> None:
    content = index.path.read_bytes()
    cases = [
        ("is torn", content[:-1]),
        ("is of another format", content.replace(b"GPyT sources 1", b"GPyT sources 9")),
        ("is of another format", b"[1]\n"),
        ("cannot be read", b"\x00\xff" + content),
        ("cannot be read", b""),
    ]
    for reason, broken in cases:
        (tmp_path / "i").write_bytes(broken)
        with pytest.raises(SourceIndexError, match=reason) as error:
            SourceIndex(tmp_path / "i", "t")
        assert str(tmp_path / "i") in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(SourceIndexError, match="another tokenizer"):
        SourceIndex(index.path, "other")
    with pytest.raises(SourceIndexError, match="is missing"):
        SourceIndex(tmp_path / "missing", "t")


def test_names_that_were_overwritten_are_refused_when_they_are_asked_for(
    index: SourceIndex, tmp_path: Path
) -> None:
    content = bytearray(index.path.read_bytes())
    names = index.path.read_bytes().index(index.part("names").tobytes())
    content[names : names + 40] = bytes(40)
    (tmp_path / "i").write_bytes(content)
    with pytest.raises(SourceIndexError, match="torn"):
        SourceIndex(tmp_path / "i", "t").source(0)


# What a run leaves in its folder


@pytest.fixture(scope="module")
def dataset(data_txt: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    return encode_corpus(data_txt, tokenizer_folder, tmp_path_factory.mktemp("cache"), threads=1)


def header(folder: Path, name: str = INDEX) -> dict[str, object]:
    record: dict[str, object] = json.loads((folder / name).read_bytes().split(b"\n", 1)[0])
    return record


def test_a_trained_model_knows_its_training_files_and_not_the_held_out_ones(
    model_folder: Path, dataset: TokenDataset
) -> None:
    attribution = open_sources(model_folder, read_pretrained(model_folder).vocabulary)
    text = (STDLIB / "asyncio" / "queues.py").read_text(encoding="utf-8")
    [copy] = attribution.copies(text[:500], text[500:1500])
    assert vars(copy.sources[0]) == {
        "repo": "installed/asyncio",
        "path": "queues.py",
        "commit": "",
        "license": "PSF-2.0",
    }
    held_out = (STDLIB / "json" / "decoder.py").read_text(encoding="utf-8")
    assert attribution.copies("", held_out) == []
    assert (model_folder / INDEX).stat().st_size < dataset.train.size


def test_no_sources_leaves_no_names_and_is_no_other_run(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    paths: list[str | Path] = [
        "--data",
        data_txt,
        "--tokenizer",
        tokenizer_folder,
        "--output",
        tmp_path / "m",
    ]
    shape = "--n-layer 1 --n-head 1 --n-embd 32".split()
    succeed(run_script("model/train.py", *paths, *STEPS, *shape, "--no-sources"))
    assert list((tmp_path / "m").glob("sources*")) == []
    names = b"".join(f.read_bytes() for f in (tmp_path / "m").iterdir() if f.suffix not in (".png",))
    assert b"queues.py" not in names
    again = succeed(run_script("model/train.py", *paths, *STEPS, *shape))
    assert "up to date" in again.stdout


def test_a_model_trained_further_has_the_index_of_its_base_model(
    model_folder: Path, data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "data.txt"
    mine.write_text("".join(data_txt.read_text("utf-8").splitlines(keepends=True)[:12]), encoding="utf-8")
    options: list[str | Path] = ["--init-from", model_folder, "--data", mine, "--output", tmp_path / "m"]
    succeed(run_script("model/train.py", *options, *STEPS))
    assert (tmp_path / "m" / "sources.1.index").read_bytes() == (model_folder / INDEX).read_bytes()
    assert header(tmp_path / "m")["ancestors"] == [header(model_folder)["data_sha256"]]
    attribution = open_sources(tmp_path / "m", read_pretrained(tmp_path / "m").vocabulary)
    text = (STDLIB / "unittest" / "case.py").read_text(encoding="utf-8")  # not among the twelve
    assert attribution.copies("", text[5000:6000])[0].sources[0].path == "case.py"
    assert attribution.gap == ""


def test_a_generation_more_moves_each_index_one_further(dataset: TokenDataset, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    write_sources(dataset, tmp_path / "a", None)
    write_sources(dataset, tmp_path / "b", tmp_path / "a")
    write_sources(dataset, tmp_path / "c", tmp_path / "b")
    for name in ("sources.index", "sources.1.index", "sources.2.index"):
        SourceIndex(tmp_path / "c" / name, dataset.tokenizer_sha256)
    assert header(tmp_path / "c", "sources.1.index")["ancestors"] == [dataset.data_sha256]
    assert header(tmp_path / "c")["ancestors"] == [dataset.data_sha256] * 2
    remove_sources(tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_a_base_model_without_an_index_is_named_as_a_gap(
    model_folder: Path, dataset: TokenDataset, tmp_path: Path
) -> None:
    (tmp_path / "gpt2").mkdir()
    for name in ("m", "descendant"):
        (tmp_path / name).mkdir()
    write_sources(dataset, tmp_path / "m", tmp_path / "gpt2")
    write_sources(dataset, tmp_path / "descendant", tmp_path / "m")
    for name in ("m", "descendant"):
        (tmp_path / name / "tokenizer.json").write_bytes((model_folder / "tokenizer.json").read_bytes())
        attribution = open_sources(tmp_path / name, read_pretrained(model_folder).vocabulary)
        assert "base model 'gpt2' cannot be named" in attribution.gap


def test_a_missing_index_of_a_base_model_is_an_error(
    model_folder: Path, dataset: TokenDataset, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_bytes((model_folder / "tokenizer.json").read_bytes())
    write_sources(dataset, tmp_path / "a", None)
    write_sources(dataset, tmp_path / "b", tmp_path / "a")
    (tmp_path / "b" / "sources.1.index").unlink()
    with pytest.raises(SourceIndexError, match="is missing"):
        open_sources(tmp_path / "b", read_pretrained(model_folder).vocabulary)
