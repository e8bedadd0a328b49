"""Every folder that cannot be used is answered with one line that names it and the remedy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from model_cli import UserError
from pretrained.load import load_weights, read_pretrained
from tiny_model import VOCABULARY, change_json, save_tiny_model


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("intact"))


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "GPyT"))


def truncate(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(20_000)


def scramble_header(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(8)
        file.write(b"\x00" * 100)


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.1.ln_2.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def leave_only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def put_in_a_larger_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"word{number}" for number in range(8)])
    tokenizer.save(str(folder / "tokenizer.json"))


def put_in_a_word_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"x": 0}, unk_token="x")).save(str(folder / "tokenizer.json"))


def change(name: str, **values: object) -> Callable[[Path], object]:
    return lambda folder: change_json(folder / name, **values)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def overwrite(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no model folder"),
    "no config": (remove("config.json"), "config.json is missing"),
    "no weights": (remove("model.safetensors"), "model.safetensors is missing"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer.json is missing"),
    "a torn config": (overwrite("config.json", '{"n_layer": 2,'), "cannot be read"),
    "a config that is a list": (overwrite("config.json", "[]"), "no JSON object"),
    "a torn tokenizer": (
        overwrite("tokenizer.json", '{"decoder": {"type": "ByteLevel"}, "model": {}}'),
        "cannot be read",
    ),
    "a value of the wrong kind": (change("config.json", n_layer="two"), "wrong kind"),
    "heads that do not divide the width": (change("config.json", n_head=5), "no GPT-2"),
    "another architecture": (change("config.json", model_type="llama"), "another kind (llama"),
    "quantized weights": (change("config.json", quantization_config={}), "another kind (quantized"),
    "an unknown activation": (change("config.json", activation_function="mish"), "'mish'"),
    "weights of another shape": (change("config.json", n_layer=3), "h.2."),
    "truncated weights": (truncate, "torn"),
    "a scrambled header": (scramble_header, "torn"),
    "a missing tensor": (drop_tensor, "h.1.ln_2.bias is missing"),
    "a pickle": (leave_only_a_pickle, "pickle"),
    "a larger tokenizer": (put_in_a_larger_tokenizer, "does not belong"),
    "a tokenizer of words": (put_in_a_word_tokenizer, "not a byte-level tokenizer"),
    "a tokenizer other than the recorded one": (
        lambda folder: (folder / "provenance.json").write_text('{"tokenizer": {"sha256": "00"}}', "utf-8"),
        "does not belong",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(fault: str, folder: Path) -> None:
    break_it, reason = FAULTS[fault]
    break_it(folder)
    with pytest.raises(UserError) as caught:
        read_pretrained(folder)
    message = str(caught.value)
    assert reason in message
    assert str(folder) in message
    assert "\n" not in message
    assert "train" in message


def test_the_parameters_are_counted_from_the_headers(folder: Path) -> None:
    embeddings = (VOCABULARY + 64) * 32
    layer = 32 * 96 + 96 + 32 * 32 + 32 + 2 * 32 * 128 + 128 + 32 + 4 * 32
    assert read_pretrained(folder).config.parameters == embeddings + 2 * layer + 64


def test_weights_saved_in_parts_are_read_together(folder: Path) -> None:
    from transformers import GPT2LMHeadModel

    whole = load_weights(read_pretrained(folder))
    model = GPT2LMHeadModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    assert not (folder / "model.safetensors").exists()
    parts = load_weights(read_pretrained(folder))
    assert parts.keys() == whole.keys()
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_weights_of_every_precision_are_read_in_float32(kind: str, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path, dtype=kind)
    saved = load_file(folder / "model.safetensors")
    weights = load_weights(read_pretrained(folder))
    assert len(weights) == len(saved)
    for name, tensor in saved.items():
        array = weights[name.removeprefix("transformer.")]
        assert array.dtype == np.float32
        assert np.array_equal(array, tensor.float().numpy())


def test_weights_saved_without_the_head_are_read(folder: Path) -> None:
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder)
    tensors = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "wte.weight" in load_weights(read_pretrained(folder))


def test_a_model_padded_to_a_round_size_is_accepted(tmp_path: Path) -> None:
    assert read_pretrained(save_tiny_model(tmp_path, vocab_size=576)).config.vocab_size == 576
