"""A trained model -> the same model in a larger one's shape: the same logits, the larger one's cost.

The speed of writing with 124 M parameters must be measured on a network that writes code: random weights
never end a line that the judge accepts, and their choices depend on the last bit. Training such a network
takes a day on eight GPUs. So every channel of a small model is copied k times, what reads the copies divides
by k, and layers are added that leave their input as it is.
Source: Chen et al. 2016, "Net2Net: accelerating learning via knowledge transfer", section 2.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from journey import PROJECT

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from torch import Tensor

    from gpt2.config import GPT2Config


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of the larger model; its heads are as wide as the small one's."""

    n_layer: int
    n_embd: int
    n_positions: int
    vocab_size: int


GPT2_124M = Shape(n_layer=12, n_embd=768, n_positions=1024, vocab_size=50257)

# The logit of the entries that only the larger vocabulary has, after any text: their probability is 0.
NEVER = -100.0


def widen(weights: dict[str, Tensor], config: GPT2Config, shape: Shape) -> dict[str, Tensor]:
    """The weights of the larger model, named as those that load_tensors gives, float32.

    Position p beyond the trained ones is read as p modulo their number: only up to there is the text the
    small model's. The added entries of the vocabulary have the logit NEVER.

    Raises:
        ValueError: the shape is not larger, or its width is not a multiple of the small one's.
    """
    import torch

    k, rest = divmod(shape.n_embd, config.n_embd)
    added_layers, added_tokens = shape.n_layer - config.n_layer, shape.vocab_size - config.vocab_size
    if k < 2 or rest or min(added_layers, added_tokens, shape.n_positions - config.block_size) < 0:
        raise ValueError(
            f"{config.n_layer} x {config.n_embd} does not fit into {shape.n_layer} x {shape.n_embd}: "
            "a whole number of times as wide, and at least as deep, is needed"
        )

    def copied(name: str) -> Tensor:
        """All channels that this writes k times: (out,) -> (k out,), (n, out) -> (n, k out)."""
        weight = weights[name]
        return weight.repeat(k) if weight.ndim == 1 else weight.repeat(1, k)

    def reading(name: str, parts: int = 1) -> Tensor:
        """A matrix that reads k copies of each channel and writes k copies: (in, out) -> (k in, k out).

        parts: what it writes are so many vectors side by side, each of which is copied by itself.
        """
        return torch.cat([part.repeat(k, k) for part in weights[name].chunk(parts, 1)], 1) / k

    wide = {"wte.weight": copied("wte.weight")}
    rounds = -(-shape.n_positions // config.block_size)
    wide["wpe.weight"] = copied("wpe.weight").repeat(rounds, 1)[: shape.n_positions].contiguous()
    for layer in range(config.n_layer):
        for name in (f"h.{layer}.{part}" for part in ("ln_1", "ln_2")):
            wide[f"{name}.weight"], wide[f"{name}.bias"] = copied(f"{name}.weight"), copied(f"{name}.bias")
        for name in (f"h.{layer}.{part}" for part in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj")):
            wide[f"{name}.weight"], wide[f"{name}.bias"] = reading(f"{name}.weight"), copied(f"{name}.bias")
        name = f"h.{layer}.attn.c_attn"  # queries, keys and values
        wide[f"{name}.weight"] = reading(f"{name}.weight", parts=3)
        wide[f"{name}.bias"] = weights[f"{name}.bias"].view(3, 1, -1).repeat(1, k, 1).flatten()
    for layer in range(config.n_layer, shape.n_layer):
        for name in [name for name in wide if name.startswith("h.0.")]:
            weight = wide[name]
            adds_nothing = ".c_proj." in name
            wide[name.replace("h.0.", f"h.{layer}.", 1)] = (weight * 0) if adds_nothing else weight.clone()
    # The output layer may be the embedding itself, so the division by k stands before it. The added entries
    # read the difference between two copies of a channel: 2 / k after any text. For all other entries the two
    # cancel out.
    wide["ln_f.weight"], wide["ln_f.bias"] = copied("ln_f.weight") / k, copied("ln_f.bias") / k
    first, second = 0, config.n_embd
    wide["ln_f.bias"][first] += 1 / k
    wide["ln_f.bias"][second] -= 1 / k
    never = torch.zeros(added_tokens, shape.n_embd)
    never[:, first], never[:, second] = NEVER * k / 2, -NEVER * k / 2
    wide["wte.weight"] = torch.cat([wide["wte.weight"], never])
    if not config.tie_word_embeddings:
        wide["lm_head.weight"] = torch.cat([copied("lm_head.weight"), never])
    return wide


def save_widened(source: Path, folder: Path, shape: Shape = GPT2_124M) -> int:
    """Write the model of one folder in this shape into another; returns the number of trained positions.

    The tokenizer gets entries that no text is encoded to and that are never written: they begin with a NUL.
    """
    import torch
    from safetensors.torch import save_file

    from pretrained.load import load_tensors, read_pretrained

    pretrained = read_pretrained(source)
    config = pretrained.config
    weights = widen(
        load_tensors(pretrained.weight_files, pretrained.config, torch.device("cpu"), torch.float32),
        config,
        shape,
    )
    named = {name if name == "lm_head.weight" else f"transformer.{name}": weights[name] for name in weights}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    saved = json.loads((source / "config.json").read_text(encoding="utf-8"))
    saved |= dataclasses.asdict(shape) | {"n_ctx": shape.n_positions}
    copies = shape.n_embd // config.n_embd
    saved |= {"n_head": copies * config.n_head, "n_inner": copies * config.inner, "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(saved, indent=2), encoding="utf-8", newline="\n")
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    used = {added["id"] for added in tokenizer["added_tokens"]} | set(tokenizer["model"]["vocab"].values())
    nul = chr(0x100)  # as a byte-level vocabulary spells it
    unused = (token_id for token_id in range(shape.vocab_size) if token_id not in used)
    tokenizer["model"]["vocab"] |= {f"{nul}{token_id}": token_id for token_id in unused}
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8", newline="\n"
    )
    for name in ("tokenizer_config.json", "generation_config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    return config.block_size
