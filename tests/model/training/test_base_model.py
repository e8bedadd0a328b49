"""--init-from: continued pretraining of any GPT-2, on little text, without what it held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gpt2.network import GPT2
from model_cli import UserError
from project import run_script, succeed
from tiny_model import change_json, save_tiny_model, tokenizer_json
from training.base_model import read_base_model

torch.set_num_threads(1)  # at these sizes a second thread only waits

VARIANTS: list[dict[str, Any]] = [
    {},
    {"tie_word_embeddings": False},
    {"activation_function": "relu", "n_inner": 48},
    {"activation_function": "gelu", "layer_norm_epsilon": 1e-3, "scale_attn_by_inverse_layer_idx": True},
    {"scale_attn_weights": False, "n_head": 2},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: ", ".join(variant) or "as we make it")
def test_every_kind_of_gpt2_goes_on_with_the_forward_pass_of_transformers(
    variant: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import GPT2LMHeadModel

    folder = save_tiny_model(tmp_path / "model", **variant)
    base = read_base_model(folder, tmp_path)
    ours = GPT2(base.config)
    ours.load_state_dict(base.weights(64))
    theirs: Any = GPT2LMHeadModel.from_pretrained(folder)  # in evaluation mode, so without dropout
    tokens = torch.randint(512, (2, 64), generator=torch.manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)
    assert ours.config.parameters == sum(weight.numel() for weight in ours.parameters())


def test_a_shorter_context_keeps_the_first_positions(tmp_path: Path) -> None:
    base = read_base_model(save_tiny_model(tmp_path / "model"), tmp_path)
    whole, short = base.weights(64), base.weights(16)
    torch.testing.assert_close(short["transformer.wpe.weight"], whole["transformer.wpe.weight"][:16])


def test_folders_that_are_no_gpt2_are_refused_by_name(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    change_json(folder / "config.json", model_type="llama")
    with pytest.raises(UserError, match=r"llama.*--init-from needs a folder that GPT2LMHeadModel"):
        read_base_model(folder, tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        read_base_model(tmp_path / "nowhere", tmp_path)


@pytest.fixture(scope="module")
def own_files(data_txt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 200 kB: http, and json, which the model held out and which is called training here."""
    path = tmp_path_factory.mktemp("own") / "data.txt"
    lines = []
    for line in data_txt.read_text(encoding="utf-8").split("\n")[:-1]:
        document = json.loads(line)
        if document["repo"] == "installed/json":
            lines.append({**document, "split": "train"})
        elif document["repo"] == "installed/http":
            lines.append({**document, "split": "held_out" if document["path"] == "__init__.py" else "train"})
    lines.sort(key=lambda document: (document["repo"], document["path"]))
    path.write_text(
        "".join(json.dumps(document) + "\n" for document in lines), encoding="utf-8", newline="\n"
    )
    return path


def continue_from(folder: Path, data: Path, output: Path, *options: str) -> Any:
    files = ["--init-from", str(folder), "--data", str(data), "--output", str(output)]
    return run_script("model/train.py", *files, "--device", "cpu", "--threads", "1", *options)


def test_our_own_model_learns_ones_own_files_and_keeps_the_best(
    model_folder: Path, own_files: Path, tmp_path: Path
) -> None:
    output = tmp_path / "mine"
    result = succeed(continue_from(model_folder, own_files, output, "--steps", "60"))
    assert "not new abilities" in result.stderr
    assert "files that the base model held out are held out here too" in result.stderr
    provenance = json.loads((output / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["init_from"]["name"] == model_folder.name
    assert provenance["held_out"]["repositories"] == ["installed/json"]
    assert provenance["held_out"]["files"] == [["installed/http", "__init__.py"]]
    rows = [json.loads(line) for line in (output / "training_log.jsonl").read_text("utf-8").splitlines()]
    held_out = {row["step"]: row["held_out"] for row in rows if "held_out" in row}
    assert 0 in held_out, "measured before the first step"
    assert len(held_out) > 3
    best = provenance["figures"]["held_out_bits_per_byte"]
    assert best <= min(held_out.values()) < held_out[0]
    assert (output / "tokenizer.json").read_bytes() == (model_folder / "tokenizer.json").read_bytes()
    again = succeed(continue_from(model_folder, own_files, output, "--steps", "60"))
    assert again.stdout.startswith("up to date")


def test_a_model_of_transformers_goes_on_in_a_folder_that_transformers_loads(
    own_files: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = save_tiny_model(tmp_path / "theirs", tie_word_embeddings=False, activation_function="relu")
    (theirs / "tokenizer_config.json").unlink(missing_ok=True)
    output = tmp_path / "mine"
    result = succeed(continue_from(theirs, own_files, output, "--steps", "5"))
    assert "may know held-out files" in result.stderr
    model: Any = AutoModelForCausalLM.from_pretrained(output)
    assert (model.config.activation_function, model.config.tie_word_embeddings) == ("relu", False)
    assert set(load_file(output / "model.safetensors")) == {
        *(name for name, _ in model.named_parameters()),
    }
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert (tokenizer.eos_token_id, model.config.eos_token_id) == (0, 0)
    assert json.loads(tokenizer.backend_tokenizer.to_str())["model"] == json.loads(tokenizer_json())["model"]


def test_what_does_not_go_together_with_init_from_is_said_at_once(
    model_folder: Path, own_files: Path, tmp_path: Path
) -> None:
    for options, expected in (
        (["--n-layer", "3"], "the shape is that of --init-from"),
        (["--block-size", "4096", "--steps", "1"], "--block-size can be 128 at most"),
    ):
        refused = continue_from(model_folder, own_files, tmp_path / "mine", *options)
        assert refused.returncode == 1
        assert expected in refused.stderr
    refused = continue_from(model_folder, own_files, model_folder)
    assert "choose another --output" in refused.stderr
    assert not (tmp_path / "mine").exists()
