"""What makes two runs the same run, and which folders are ours."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pretrained.provenance import (
    PROGRAM,
    chain,
    fills_in,
    identify,
    is_foreign,
    newer_inputs,
    read_provenance,
)


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """data.txt and a tokenizer's folder."""
    (tmp_path / "data.txt").write_text("{}\n", encoding="utf-8")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}", encoding="utf-8")
    return tmp_path / "data.txt", tmp_path / "tokenizer"


def test_a_run_differs_from_a_record_by_what_makes_another_model(inputs: tuple[Path, Path]) -> None:
    run = identify(*inputs, {"steps": 40, "size": None}, inputs[0].with_name("GPyT"))
    record = asdict(run)
    assert run.differences(record) == []
    assert replace(run, options={"steps": 80, "size": 2e6}).differences(record) == [
        "--steps 40 there, 80 now",
        "--size unset there, 2e+06 now",
    ]
    assert replace(run, data={**run.data, "sha256": "0"}).differences(record) == ["other data"]
    further = replace(run, init_from={"path": "base", "sha256": "1"})
    assert further.differences(record) == ["--init-from"]
    assert run.differences(asdict(further)) == ["no --init-from"]
    assert further.key != run.key


def test_the_key_of_a_run_knows_no_paths_and_times(inputs: tuple[Path, Path]) -> None:
    data, tokenizer = inputs
    run = identify(data, tokenizer, {"steps": 40}, data.with_name("GPyT"))
    moved = data.rename(data.with_name("moved.txt"))
    os.utime(moved, (0, 0))
    assert identify(moved, tokenizer, {"steps": 40}, data.with_name("GPyT")).key == run.key


@pytest.mark.parametrize(
    "place", ["GPyT/provenance.json", "data.summary.json", "data.cache/tokens-1/meta.json"]
)
def test_a_data_file_that_a_record_knows_is_not_hashed_again(inputs: tuple[Path, Path], place: str) -> None:
    data, tokenizer = inputs
    state = {"size": data.stat().st_size, "mtime_ns": data.stat().st_mtime_ns}
    known = {"data": {**state, "sha256": "known"}, "state": state, "data_sha256": "known"}
    record = data.parent / place
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(known), encoding="utf-8")
    assert identify(data, tokenizer, {}, data.with_name("GPyT")).data["sha256"] == "known"
    data.write_text("{}\n\n", encoding="utf-8")  # another size: no record fits
    digest = hashlib.sha256(b"{}\n\n").hexdigest()
    assert identify(data, tokenizer, {}, data.with_name("GPyT")).data["sha256"] == digest


@pytest.fixture
def trained(inputs: tuple[Path, Path]) -> Path:
    """A model's folder beside the inputs of its run."""
    folder = inputs[0].with_name("GPyT")
    run = identify(*inputs, {}, folder)
    folder.mkdir()
    data = {**run.data, "name": "data.txt"}
    record = {"program": PROGRAM, "data": data, "tokenizer": {**run.tokenizer, "name": "tokenizer"}}
    (folder / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def make_newer(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (4e9, 4e9))


def test_inputs_that_were_replaced_since_a_model_was_trained_are_known(
    inputs: tuple[Path, Path], trained: Path
) -> None:
    data, tokenizer = inputs
    assert newer_inputs(trained) == []
    make_newer(tokenizer / "tokenizer.json", '{"other": 1}')
    assert newer_inputs(trained) == [tokenizer]
    make_newer(data, "{}\n{}\n")
    assert newer_inputs(trained) == [data, tokenizer]
    make_newer(tokenizer / "tokenizer.json", "{}")  # written again with the same content
    assert newer_inputs(trained) == [data]


def test_data_of_the_same_size_is_another_if_a_record_says_so(
    inputs: tuple[Path, Path], trained: Path
) -> None:
    data, _ = inputs
    make_newer(data, "[]\n")
    assert newer_inputs(trained) == [], "nobody knows, and a start has no time to hash it"
    state = {"size": 3, "mtime_ns": data.stat().st_mtime_ns}
    summary = data.with_name("data.summary.json")
    summary.write_text(json.dumps({"data": {**state, "sha256": "another"}}), encoding="utf-8")
    assert newer_inputs(trained) == [data]
    summary.write_text(
        json.dumps({"data": {**state, "sha256": read_provenance(trained)["data"]["sha256"]}}),
        encoding="utf-8",
    )
    assert newer_inputs(trained) == []


@pytest.mark.parametrize("change", ["nothing beside", "another program", "no record", "a damaged record"])
def test_a_model_that_lies_elsewhere_or_is_not_ours_is_not_called_stale(
    inputs: tuple[Path, Path], trained: Path, change: str
) -> None:
    record = read_provenance(trained)
    make_newer(inputs[0], "{}\n{}\n")
    assert newer_inputs(trained) == [inputs[0]]
    if change == "nothing beside":
        inputs[0].unlink()
    else:
        changed = {
            "another program": {**record, "program": "x"},
            "no record": {},
            "a damaged record": {"data": 1},
        }
        (trained / "provenance.json").write_text(json.dumps(changed[change]), encoding="utf-8")
    assert newer_inputs(trained) == []


@pytest.mark.parametrize("content", [None, "", "[]", "{", "\N{SNOWMAN}"])
def test_a_record_that_cannot_be_read_says_nothing(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "provenance.json").write_text(content, encoding="utf-8")
    assert read_provenance(tmp_path) == {}
    assert not fills_in(tmp_path)


def test_a_folder_is_foreign_unless_it_is_empty_or_says_that_train_py_made_it(tmp_path: Path) -> None:
    assert not is_foreign(tmp_path / "missing")
    assert not is_foreign(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert is_foreign(tmp_path)
    assert is_foreign(tmp_path / "notes.txt")
    (tmp_path / "provenance.json").write_text(json.dumps({"program": "another"}), encoding="utf-8")
    assert is_foreign(tmp_path)
    (tmp_path / "provenance.json").write_text(json.dumps({"program": PROGRAM}), encoding="utf-8")
    assert not is_foreign(tmp_path)


def test_the_chain_names_what_is_stale_and_the_command_that_makes_it_again(inputs: tuple[Path, Path]) -> None:
    data, tokenizer = inputs
    folder, repos = data.with_name("GPyT"), data.with_name("repos")
    for made in (folder, repos):
        made.mkdir()
    (repos / "collection.db").write_bytes(b"db")
    os.utime(repos / "collection.db", (0, 0))
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (data, tokenizer / "tokenizer.json")
    }
    summary = {"options": {"repos": str(repos)}, "data": {"sha256": digest[data]}}
    data.with_name("data.summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (tokenizer / "provenance.json").write_text(
        json.dumps({"data": {"sha256": digest[data]}}), encoding="utf-8"
    )
    record = {"data": {"sha256": digest[data]}, "tokenizer": {"sha256": digest[tokenizer / "tokenizer.json"]}}
    (folder / "provenance.json").write_text(json.dumps(record), encoding="utf-8")

    def links() -> dict[str, str]:
        return {link.name: link.stale for link in chain(identify(data, tokenizer, {}, folder), folder)}

    assert links() == {"repos/collection.db": "", "data.txt": "", "tokenizer/": "", "GPyT/": ""}
    os.utime(repos / "collection.db")
    os.utime(data, (1, 1))
    assert "older than the collection" in links()["data.txt"]
    data.write_text("{}\n\n", encoding="utf-8")
    stale = links()
    assert stale["data.txt"] == "changed since preprocessing wrote it: python preprocess/data_preprocess.py"
    assert stale["tokenizer/"] == "learnt from other data: python preprocess/tokenizer.py -t"
    assert stale["GPyT/"] == "made with other data: python model/train.py --restart"
    for file in (
        data.with_name("data.summary.json"),
        tokenizer / "provenance.json",
        folder / "model.safetensors",
    ):
        file.unlink()
    (repos / "collection.db").unlink()
    assert links() == {"data.txt": "", "tokenizer/": ""}
