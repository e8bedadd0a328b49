"""GPT2Config: the one description of a GPT-2, by the names that transformers gives its settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# The activation functions by the names of config.json, several of which mean the same function.
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}

# Names that transformers gives these numbers in all models; it reads them for GPT-2, too.
GENERAL_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}


@dataclass(frozen=True)
class GPT2Config:
    """Five numbers that make a GPT-2, and settings that other people's GPT-2s change.

    The settings with defaults are those of transformers; this project trains with the defaults, and continues
    a model from elsewhere with the settings it came with.
    """

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int  # the context in tokens; n_positions in config.json
    vocab_size: int
    n_inner: int | None = None  # width between the two layers of the MLP; None: 4 * n_embd
    activation_function: str = "gelu_new"  # a key of ACTIVATIONS
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True

    @property
    def inner(self) -> int:
        return self.n_inner or 4 * self.n_embd

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def activation(self) -> str:
        """The function itself: gelu_tanh, gelu, relu, silu or tanh."""
        return ACTIVATIONS[self.activation_function]

    def attention_scale(self, layer: int) -> float:
        """What query times key is multiplied by in a layer, counted from 0."""
        scale = self.head_size**-0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale

    @property
    def parameters(self) -> int:
        """Number of weights; the output layer is the token embedding, unless tie_word_embeddings is off.

        GPT2Config(12, 12, 768, 1024, 50257).parameters -> 124_439_808
        """
        C = self.n_embd
        # c_attn 3C^2, c_proj C^2, two of C * inner; their biases; two layer norms
        block = 4 * C * C + 2 * C * self.inner + 9 * C + self.inner
        untied = 0 if self.tie_word_embeddings else self.vocab_size * C
        return (self.vocab_size + self.block_size) * C + self.n_layer * block + 2 * C + untied

    @property
    def flops_per_token(self) -> int:
        """Floating point operations of one training step per token.

        Six for each weight that is multiplied (two forward, four backward; a position embedding is not), and
        12 * n_layer * n_embd * block_size for attention. Source: PaLM (Chowdhery et al. 2022), appendix B.
        GPT2Config(12, 12, 768, 1024, 50257).flops_per_token -> 855_166_464 (the field's 855 MFLOP)
        """
        untied = 0 if self.tie_word_embeddings else self.vocab_size * self.n_embd
        multiplied = self.parameters - self.block_size * self.n_embd - untied
        return 6 * multiplied + 12 * self.n_layer * self.n_embd * self.block_size

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor by its name without "transformer." in front: {"wte.weight": (V, C), ...}."""
        C = self.n_embd
        shapes: dict[str, tuple[int, ...]] = {"wte.weight": (self.vocab_size, C)}
        shapes |= {"wpe.weight": (self.block_size, C), "ln_f.weight": (C,), "ln_f.bias": (C,)}
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, C)
        in_layer: dict[str, tuple[int, ...]] = {
            "attn.c_attn": (C, 3 * C),
            "attn.c_proj": (C, C),
            "mlp.c_fc": (C, self.inner),
            "mlp.c_proj": (self.inner, C),
            "ln_1": (C,),
            "ln_2": (C,),
        }
        for layer in range(self.n_layer):
            for name, shape in in_layer.items():
                shapes[f"h.{layer}.{name}.weight"] = shape
                shapes[f"h.{layer}.{name}.bias"] = shape[-1:]
        return shapes

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> GPT2Config:
        """The model that a config.json describes, with transformers' defaults for what it does not say.

        Raises:
            TypeError, ValueError: a value is not of its kind.
        """
        for general, name in GENERAL_NAMES.items():
            saved = {name: saved[general], **saved} if general in saved else saved
        n_embd = int(saved.get("n_embd", 768))
        n_inner = int(saved.get("n_inner") or 4 * n_embd)
        return cls(
            n_layer=int(saved.get("n_layer", 12)),
            n_head=int(saved.get("n_head", 12)),
            n_embd=n_embd,
            block_size=int(saved.get("n_positions", 1024)),
            vocab_size=int(saved.get("vocab_size", 50257)),
            n_inner=None if n_inner == 4 * n_embd else n_inner,
            activation_function=str(saved.get("activation_function", "gelu_new")),
            layer_norm_epsilon=float(saved.get("layer_norm_epsilon", 1e-5)),
            scale_attn_weights=bool(saved.get("scale_attn_weights", True)),
            scale_attn_by_inverse_layer_idx=bool(saved.get("scale_attn_by_inverse_layer_idx", False)),
            tie_word_embeddings=bool(saved.get("tie_word_embeddings", True)),
        )

    def to_json(self) -> dict[str, Any]:
        """The entries of config.json: every value that has a default of its own in transformers is there."""
        own = asdict(self)
        block_size = own.pop("block_size")
        return {
            **own,
            "n_positions": block_size,
            "n_ctx": block_size,  # llama.cpp's converter reads this name
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "dtype": "float32",
            "initializer_range": 0.02,
            "attn_pdrop": 0.0,  # no dropout: trained without it, and further training should start the same
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "reorder_and_upcast_attn": False,
            "use_cache": True,
        }
