"""model/export.py: what it writes is whole, says what it is, and leaves alone what others wrote."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import main
from exporting import ctranslate2_folder, gguf_file
from pretrained.load import read_pretrained
from pretrained.vocabulary import Vocabulary
from project import PROJECT, run_script, succeed
from tiny_model import change_json, greedy_ids, save_tiny_model, tokenizer_json

gguf = pytest.importorskip("gguf")
ctranslate2 = pytest.importorskip("ctranslate2")

SCRIPT = "model/export.py"
PROMPTS = (
    "",
    "import json\n",
    "def f(x):\n    return",
    "class JSONDecoder(object):\n",
    "x = '<|endoftext|>'",
)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny_model(tmp_path_factory.mktemp("intact"))
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "GPyT"))


def export(*arguments: str | Path) -> str:
    """What an export that succeeds prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main([str(argument) for argument in arguments]) == 0
    return output.getvalue()


def refusal(*arguments: str | Path) -> str:
    """The one line with which an export is refused."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as error,
    ):
        assert main([str(argument) for argument in arguments]) == 1
    assert output.getvalue() == ""
    assert error.getvalue().startswith("error: ")
    assert error.getvalue().count("\n") == 1
    return error.getvalue()


# GGUF, read back by the package that wrote it; tests/test_llama_cpp.py runs it


def test_every_tensor_and_the_vocabulary_come_back_from_the_file(folder: Path) -> None:
    from safetensors.numpy import load_file

    export("--model", folder, "--format", "gguf", "--dtype", "f32")
    reader = gguf.GGUFReader(folder / "gpyt.gguf")
    written = {tensor.name: tensor.data for tensor in reader.tensors}
    saved = load_file(folder / "model.safetensors")
    assert len(written) == len([name for name in saved if name != "lm_head.weight"])
    layer = "transformer.h.1."
    for ours, theirs in {
        "token_embd.weight": saved["transformer.wte.weight"],
        "position_embd.weight": saved["transformer.wpe.weight"],
        "blk.1.attn_qkv.weight": saved[f"{layer}attn.c_attn.weight"].T,
        "blk.1.attn_output.weight": saved[f"{layer}attn.c_proj.weight"].T,
        "blk.1.ffn_up.weight": saved[f"{layer}mlp.c_fc.weight"].T,
        "blk.1.ffn_down.weight": saved[f"{layer}mlp.c_proj.weight"].T,
        "blk.1.ffn_norm.bias": saved[f"{layer}ln_2.bias"],
        "output_norm.weight": saved["transformer.ln_f.weight"],
    }.items():
        np.testing.assert_array_equal(written[ours], theirs)
    of_key: Any = {key: field.contents() for key, field in reader.fields.items()}
    assert of_key["general.architecture"] == "gpt2"
    assert of_key["tokenizer.ggml.pre"] == "gpt-2"
    assert of_key["tokenizer.ggml.bos_token_id"] == of_key["tokenizer.ggml.eos_token_id"] == 0
    assert of_key["tokenizer.ggml.add_bos_token"] is True
    vocabulary = json.loads(tokenizer_json())["model"]
    assert {token: i for i, token in enumerate(of_key["tokenizer.ggml.tokens"])} == vocabulary["vocab"]
    assert of_key["tokenizer.ggml.merges"] == [" ".join(merge) for merge in vocabulary["merges"]]
    assert of_key["tokenizer.ggml.token_type"][:6] == [3, 3, 3, 3, 3, 1]
    assert "tokenizer.ggml.fim_pre_token_id" not in of_key, "it was not trained to fill gaps"


def test_a_model_that_fills_gaps_says_so_in_its_file(folder: Path) -> None:
    (folder / "provenance.json").write_text('{"options": {"fim_rate": 0.5}}', encoding="utf-8")
    export("--model", folder, "--format", "gguf")
    reader = gguf.GGUFReader(folder / "gpyt.gguf")
    ids = [reader.fields[f"tokenizer.ggml.fim_{part}_token_id"].contents() for part in ("pre", "suf", "mid")]
    assert ids == [2, 3, 4]


def test_a_model_that_fills_gaps_is_run_with_room_for_what_it_writes(folder: Path) -> None:
    (folder / "provenance.json").write_text('{"options": {"fim_rate": 0.5}}', encoding="utf-8")
    printed = export("--model", folder, "--format", "gguf")
    assert printed.splitlines()[-1] == f"next: llama-server -m {folder / 'gpyt.gguf'} -b 32"


def test_rows_beyond_the_vocabulary_have_names_of_their_own(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path, vocab_size=520)
    export("--model", folder, "--format", "gguf")
    tokens = gguf.GGUFReader(folder / "gpyt.gguf").fields["tokenizer.ggml.tokens"].contents()
    assert len(set(tokens)) == 520
    assert tokens[-1] == "[unused519]"


# CTranslate2, run


def greedy_in_ctranslate2(folder: Path, vocabulary: Vocabulary, context: list[int], tokens: int) -> list[int]:
    """One prompt at a time: of a batch of prompts of different lengths this version answers some wrongly."""
    generator = ctranslate2.Generator(str(folder), device="cpu", inter_threads=1, intra_threads=1)
    spelt = [vocabulary.tokenizer.id_to_token(token_id) for token_id in context]
    [result] = generator.generate_batch([spelt], max_length=tokens, include_prompt_in_result=False)
    ids: list[int] = result.sequences_ids[0]
    return ids


def test_ctranslate2_chooses_the_same_tokens_as_transformers(folder: Path) -> None:
    export("--model", folder, "--format", "ctranslate2", "--dtype", "f32")
    vocabulary = read_pretrained(folder).vocabulary
    for prompt in PROMPTS:
        context = [0, *vocabulary.encode(prompt)]
        written = greedy_in_ctranslate2(folder / "ctranslate2", vocabulary, context, 40)
        assert written == [token_id for token_id in greedy_ids(folder, context, 40) if token_id != 0]


def test_eight_bits_in_ctranslate2_write_what_a_trained_model_writes(
    model_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "ct2"
    paths = ["--model", str(model_folder), "--output", str(output)]
    export(*paths, "--format", "ctranslate2", "--dtype", "int8")
    vocabulary = read_pretrained(model_folder).vocabulary
    # Place by place: after one near tie, of which a model of 60 steps has some, whole texts part.
    equal = places = 0
    for prompt in ("import asyncio\n", "def f(x):\n", "class A:\n", "x = 1\n"):
        context = [0, *vocabulary.encode(prompt)]
        for token_id in greedy_ids(model_folder, context, 10):
            equal += greedy_in_ctranslate2(output, vocabulary, context, 1) == [token_id]
            places += 1
            context.append(token_id)
    assert equal >= 0.9 * places
    half_size = (model_folder / "model.safetensors").stat().st_size / 2
    assert (output / "model.bin").stat().st_size < half_size


# What is there already


@pytest.mark.parametrize(("kind", "name"), [("gguf", "gpyt.gguf"), ("ctranslate2", "ctranslate2")])
def test_the_same_export_is_up_to_date_and_another_needs_force(folder: Path, kind: str, name: str) -> None:
    options = ["--model", str(folder), "--format", kind]
    first = export(*options)
    assert first.startswith(f"wrote {folder / name} (f16, ")
    time = (folder / name).stat().st_mtime_ns
    assert export(*options).startswith(f"up to date: {folder / name} (f16, ")
    assert "to replace it add --force" in refusal(*options, "--dtype", "f32")
    assert (folder / name).stat().st_mtime_ns == time
    change_json(folder / "config.json", layer_norm_epsilon=1e-4)
    assert "an export of another model" in refusal(*options)
    export(*options, "--force")
    assert (folder / name).stat().st_mtime_ns > time
    assert [path.name for path in folder.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("kind", ["gguf", "ctranslate2"])
def test_what_others_wrote_is_not_replaced_by_force_either(folder: Path, tmp_path: Path, kind: str) -> None:
    thesis = tmp_path / "thesis"
    if kind == "gguf":
        thesis.write_text("years of work", encoding="utf-8")
    else:
        thesis.mkdir()
        (thesis / "thesis.tex").write_text("years of work", encoding="utf-8")
    line = refusal("--model", folder, "--format", kind, "--output", thesis, "--force")
    assert f"something is here that export.py did not write: {thesis}" in line
    assert "years of work" in (thesis if kind == "gguf" else thesis / "thesis.tex").read_text(
        encoding="utf-8"
    )


def test_a_failure_in_between_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--model", str(folder), "--format", "gguf"]) == 0
    before = (folder / "gpyt.gguf").read_bytes()

    def fill_the_disk(writer: object, name: str, weight: object, dtype: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_file, "write_weight", fill_the_disk)
    assert main(["--model", str(folder), "--format", "gguf", "--dtype", "f32", "--force"]) == 1
    assert (folder / "gpyt.gguf").read_bytes() == before
    assert [path.name for path in folder.iterdir() if "partial" in path.name] == []


# What cannot be exported


def test_a_pre_tokenizer_that_llama_cpp_does_not_know_is_refused(folder: Path) -> None:
    from tokenizers import Tokenizer

    from bpe.learning import build_pretokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = build_pretokenizer("python")
    tokenizer.save(str(folder / "tokenizer.json"))
    line = refusal("--model", folder, "--format", "gguf")
    assert "llama.cpp does not know this tokenizer's pre-tokenizer" in line
    assert "python preprocess/tokenizer.py -t --pretokenizer gpt2" in line
    export("--model", folder, "--format", "ctranslate2")


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ({"activation_function": "relu"}, "gguf", "gelu_new, not relu"),
        ({"activation_function": "tanh"}, "ctranslate2", "does not know the activation tanh"),
        ({"scale_attn_by_inverse_layer_idx": True}, "gguf", "usual attention scale"),
        ({"scale_attn_weights": False}, "ctranslate2", "usual attention scale"),
    ],
)
def test_a_network_that_the_other_program_computes_otherwise_is_refused(
    folder: Path, values: dict[str, object], kind: str, expected: str
) -> None:
    change_json(folder / "config.json", **values)
    assert expected in refusal("--model", folder, "--format", kind)


def test_ctranslate2_is_told_what_its_converter_would_fail_on(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    assert "CTranslate2 needs a bos_token" in refusal("--model", folder, "--format", "ctranslate2")


def test_the_command_ends_with_what_to_do_next(folder: Path) -> None:
    result = succeed(run_script(SCRIPT, "--model", folder, "--format", "gguf"))
    assert result.stdout.splitlines()[-1] == f"next: llama-server -m {folder / 'gpyt.gguf'}"
    assert result.stderr == ""


def test_without_a_model_it_says_how_to_train_one(tmp_path: Path) -> None:
    line = refusal("--model", tmp_path / "GPyT", "--format", "gguf")
    assert f"no model folder: {tmp_path / 'GPyT'}" in line
    assert "python model/train.py" in line


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.find_spec", lambda name: None)
    assert main(["--model", str(folder), "--format", "gguf"]) == 1
    assert capsys.readouterr().err.endswith("run: python -m pip install gguf==0.19.0\n")


def test_the_versions_that_it_names_are_those_that_the_tests_ran_with() -> None:
    pins = (PROJECT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert {gguf_file.REQUIREMENT, ctranslate2_folder.REQUIREMENT} <= set(pins)
