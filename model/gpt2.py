"""GPT-2 as `transformers` names it: the same parameters under the same names, a shorter way through them.

The weights of `GPT2` are those of transformers' `GPT2LMHeadModel`, name by name and layout by layout, so that
`model.safetensors` is an ordinary GPT-2. The forward pass is our own for two reasons, both measured: it runs
in bfloat16 from the first addition to the last, and it ends in a loss that never stores the logits. Not
importing transformers saves a run another 5 seconds of CPU. A test holds both forward passes equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from attention import causal_attention
from cross_entropy import linear_cross_entropy
from induction import begin_with_induction
from torch import Tensor, nn

# GPT-2 draws every matrix from N(0, 0.02). Source: Radford et al. 2019; transformers' initializer_range.
INITIALIZER_RANGE = 0.02


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), lambda x: F.gelu(x, approximate="tanh")),
    **dict.fromkeys(("silu", "swish"), F.silu),
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Variant:
    """In what a GPT-2 may differ from the one that this program makes, by transformers' names and defaults.

    Whoever goes on from somebody else's folder goes on with these.
    """

    n_inner: int | None = None  # width between the two layers of the MLP; None: 4 * n_embd
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True

    def attention_scale(self, layer: int, head_size: int) -> float:
        """What query times key is multiplied by in a layer, counted from 0."""
        scale = head_size**-0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale


@dataclass(frozen=True)
class Shape:
    """The five numbers that make a GPT-2, and its variant."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int  # the context in tokens; transformers calls it n_positions
    vocab_size: int
    variant: Variant = Variant()

    @property
    def inner(self) -> int:
        return self.variant.n_inner or 4 * self.n_embd

    @property
    def parameters(self) -> int:
        """Number of weights; the output layer shares the token embedding's, unless the variant unties them.

        Shape(12, 12, 768, 1024, 50257).parameters -> 124_439_808
        """
        C = self.n_embd
        # c_attn 3C^2, c_proj C^2, two of C * inner; their biases; two layer norms
        block = 4 * C * C + 2 * C * self.inner + 9 * C + self.inner
        untied = 0 if self.variant.tie_word_embeddings else self.vocab_size * C
        return (self.vocab_size + self.block_size) * C + self.n_layer * block + 2 * C + untied

    @property
    def flops_per_token(self) -> int:
        """Floating point operations of one training step per token.

        Six for each weight that is multiplied (two forward, four backward; a position embedding is not), and
        12 * n_layer * n_embd * block_size for attention. Source: PaLM (Chowdhery et al. 2022), appendix B.
        Shape(12, 12, 768, 1024, 50257).flops_per_token -> 855_166_464 (the field's 855 MFLOP)
        """
        untied = 0 if self.variant.tie_word_embeddings else self.vocab_size * self.n_embd
        multiplied = self.parameters - self.block_size * self.n_embd - untied
        return 6 * multiplied + 12 * self.n_layer * self.n_embd * self.block_size


class Linear(nn.Module):
    """x @ weight + bias with the weight stored (inputs, outputs): GPT-2's `Conv1D`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias.to(x.dtype), x, self.weight.to(x.dtype))


class LayerNorm(nn.Module):
    """Layer normalisation whose weights follow the input's precision."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, self.weight.shape, weight, bias, eps=self.epsilon)


class Attention(nn.Module):
    """Causal self-attention; queries, keys and values come from one product."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.scale = shape.variant.attention_scale(layer, shape.n_embd // shape.n_head)
        self.c_attn = Linear(shape.n_embd, 3 * shape.n_embd)
        self.c_proj = Linear(shape.n_embd, shape.n_embd)

    def forward(self, x: Tensor, B: int) -> Tensor:
        C = x.shape[1]
        y = causal_attention(self.c_attn(x).view(B, -1, 3 * C), self.n_head, self.scale)
        return self.c_proj(y.view(-1, C))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two layers, as a rule four times as wide between them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[shape.variant.activation_function]
        self.c_fc = Linear(shape.n_embd, shape.inner)
        self.c_proj = Linear(shape.inner, shape.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """What the network repeats n_layer times; x is (B * T, C)."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        epsilon = shape.variant.layer_norm_epsilon
        self.ln_1 = LayerNorm(shape.n_embd, epsilon)
        self.attn = Attention(shape, layer)
        self.ln_2 = LayerNorm(shape.n_embd, epsilon)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, B: int) -> Tensor:
        x = x + self.attn(self.ln_1(x), B)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """Everything but the output layer, under the name that transformers gives it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.block_size, shape.n_embd)
        self.h = nn.ModuleList(Block(shape, layer) for layer in range(shape.n_layer))
        self.ln_f = LayerNorm(shape.n_embd, shape.variant.layer_norm_epsilon)


class GPT2(nn.Module):
    """A GPT-2 of the given shape, computing in `dtype` over weights in float32."""

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape = shape
        self.dtype = dtype
        self.transformer = Trunk(shape)
        if not shape.variant.tie_word_embeddings:
            self.lm_head = nn.Linear(shape.n_embd, shape.vocab_size, bias=False)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw the weights: N(0, 0.02), and zero for the two projections back into the residual stream.

        With zero there each block starts as the identity and the network as a bigram model, which trains
        faster under Muon. Source: Yang et al. 2022 (Tensor Programs V), section D.2; modded-nanogpt. Some
        heads are not left to chance: see induction.py.
        """
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):
                weight.zero_()
            elif weight.dim() == 2:
                weight.normal_(std=INITIALIZER_RANGE)
        begin_with_induction(self)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) -> the final hidden states (B * T, C)."""
        B, T = tokens.shape
        trunk = self.transformer
        x = (trunk.wte(tokens) + trunk.wpe.weight[:T]).to(self.dtype).view(B * T, -1)
        for block in trunk.h:
            x = block(x, B)
        return trunk.ln_f(x)  # type: ignore[no-any-return]

    def output_weight(self) -> Tensor:
        """The output layer (vocab_size, C) in the precision that computes."""
        tied = self.shape.variant.tie_word_embeddings
        weight = self.transformer.wte.weight if tied else self.lm_head.weight
        return weight.to(self.dtype)

    def logits(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) -> float32 scores of the next token (B, T, vocab_size)."""
        scores = self.hidden(tokens) @ self.output_weight().T
        return scores.float().view(*tokens.shape, -1)

    def losses(self, tokens: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Loss in nats of predicting the counted (B, T) of the targets: (counted.sum(),), for measuring."""
        hidden = self.hidden(tokens)[counted.flatten()]  # only what is counted meets the vocabulary
        scores = (hidden @ self.output_weight().T).float()
        return F.cross_entropy(scores, targets[counted], reduction="none")

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean loss in nats per token of predicting targets (B, T) from tokens (B, T)."""
        return linear_cross_entropy(self.hidden(tokens), self.output_weight(), targets.reshape(-1))
