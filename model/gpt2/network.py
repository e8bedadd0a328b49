"""GPT-2 with the parameters of `transformers`, name by name, and a faster forward pass.

The weights of `GPT2` have the names and layouts of transformers' `GPT2LMHeadModel`, so `model.safetensors` is
an ordinary GPT-2. The forward pass is our own for two reasons, both measured: it runs in bfloat16 from the
first addition to the last, and its loss never stores the logits. Not importing transformers saves a run
another 5 seconds of CPU. A test holds both forward passes equal.
Attention, activation and loss are in operations.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2.config import GPT2Config
from gpt2.initial_weights import add_induction_heads
from gpt2.operations import ACTIVATIONS, Candidates, causal_attention, linear_cross_entropy

# GPT-2 draws every matrix from N(0, 0.02). Source: Radford et al. 2019; transformers' initializer_range.
INITIALIZER_RANGE = 0.02


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
    """Causal self-attention; one product gives queries, keys and values."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.scale = config.attention_scale(layer)
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, B: int) -> Tensor:
        C = x.shape[1]
        y = causal_attention(self.c_attn(x).view(B, -1, 3 * C), self.n_head, self.scale)
        return self.c_proj(y.view(-1, C))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two layers, usually four times as wide between them."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.c_fc = Linear(config.n_embd, config.inner)
        self.c_proj = Linear(config.inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One of the n_layer transformer blocks; x is (B * T, C)."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        epsilon = config.layer_norm_epsilon
        self.ln_1 = LayerNorm(config.n_embd, epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = LayerNorm(config.n_embd, epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, B: int) -> Tensor:
        x = x + self.attn(self.ln_1(x), B)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """Everything but the output layer, under the name that transformers gives it."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)


class GPT2(nn.Module):
    """A GPT-2 of this configuration, computing in `dtype` over weights in float32."""

    def __init__(self, config: GPT2Config, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.dtype = dtype
        self.transformer = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw the weights: N(0, 0.02), and zero for the two projections back into the residual stream.

        With zeros there each block starts as the identity and the network as a bigram model, which trains
        faster under Muon. Source: Yang et al. 2022 (Tensor Programs V), section D.2; modded-nanogpt.
        """
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):
                weight.zero_()
            elif weight.dim() == 2:
                weight.normal_(std=INITIALIZER_RANGE)
        add_induction_heads(self.transformer, self.config)

    def compile_blocks(self) -> None:
        """Compile the blocks at their first use: one is compiled, and the others are alike and share it."""
        for block in self.transformer.h:
            block.compile()

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
        tied = self.config.tie_word_embeddings
        weight = self.transformer.wte.weight if tied else self.lm_head.weight
        return weight.to(self.dtype)

    def logits(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) -> float32 scores of the next token (B, T, vocab_size)."""
        scores = self.hidden(tokens) @ self.output_weight().T
        return scores.float().view(*tokens.shape, -1)

    def losses(self, tokens: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Loss in nats of predicting the counted (B, T) of the targets: (counted.sum(),), for measuring."""
        hidden = self.hidden(tokens)[counted.flatten()]  # before the output layer: it is the expensive part
        scores = (hidden @ self.output_weight().T).float()
        return F.cross_entropy(scores, targets[counted], reduction="none")

    def forward(
        self, tokens: Tensor, targets: Tensor, candidates: Sequence[Candidates] | None = None
    ) -> Tensor:
        """Mean loss in nats per token of predicting targets (B, T) from tokens (B, T).

        candidates: estimate it from these entries of the vocabulary, as linear_cross_entropy does.
        """
        hidden, weight = self.hidden(tokens), self.output_weight()
        return linear_cross_entropy(hidden, weight, targets.reshape(-1), candidates)
