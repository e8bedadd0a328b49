"""What train.py leaves of its training data's names, for a model and for those that go on from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attribution import open_sources
from conftest import STDLIB, run_script, succeed
from copied_runs import SourceIndex, SourceIndexError
from leaving_sources import leave_sources, remove_sources
from pretrained import read_pretrained
from source_index import INDEX
from token_dataset import TokenDataset, encode_corpus

STEPS = "--steps 4 --block-size 64 --device cpu".split()


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


def test_a_model_that_goes_on_carries_the_index_of_the_one_before(
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
    leave_sources(dataset, tmp_path / "a", None)
    leave_sources(dataset, tmp_path / "b", tmp_path / "a")
    leave_sources(dataset, tmp_path / "c", tmp_path / "b")
    for name in ("sources.index", "sources.1.index", "sources.2.index"):
        SourceIndex(tmp_path / "c" / name, dataset.tokenizer_sha256)
    assert header(tmp_path / "c", "sources.1.index")["ancestors"] == [dataset.data_sha256]
    assert header(tmp_path / "c")["ancestors"] == [dataset.data_sha256] * 2
    remove_sources(tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_a_model_before_without_an_index_is_named_as_a_gap(
    model_folder: Path, dataset: TokenDataset, tmp_path: Path
) -> None:
    (tmp_path / "gpt2").mkdir()
    for name in ("m", "descendant"):
        (tmp_path / name).mkdir()
    leave_sources(dataset, tmp_path / "m", tmp_path / "gpt2")
    leave_sources(dataset, tmp_path / "descendant", tmp_path / "m")
    for name in ("m", "descendant"):
        (tmp_path / name / "tokenizer.json").write_bytes((model_folder / "tokenizer.json").read_bytes())
        attribution = open_sources(tmp_path / name, read_pretrained(model_folder).vocabulary)
        assert "'gpt2', which this model goes on from, are not found" in attribution.gap


def test_an_index_of_a_model_before_that_is_gone_is_missed(
    model_folder: Path, dataset: TokenDataset, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_bytes((model_folder / "tokenizer.json").read_bytes())
    leave_sources(dataset, tmp_path / "a", None)
    leave_sources(dataset, tmp_path / "b", tmp_path / "a")
    (tmp_path / "b" / "sources.1.index").unlink()
    with pytest.raises(SourceIndexError, match="is missing"):
        open_sources(tmp_path / "b", read_pretrained(model_folder).vocabulary)
