"""GPT-2 with the parameters of `transformers`, name by name, and a faster forward pass.

The weights of `GPT2` have the names and layouts of transformers' `GPT2LMHeadModel`, so `model.safetensors` is
an ordinary GPT-2. The forward pass is our own for two reasons, both measured: it runs in bfloat16 from the
first addition to the last, and its loss never stores the logits. Not importing transformers saves a run
another 5 seconds of CPU. A test holds both forward passes equal.

Two of its operations are our own, because PyTorch computes them more slowly at these sizes.

Attention on a CPU goes in strips of queries. The fused kernel of scaled_dot_product_attention takes 2.3 times
as long, there and back, as plain matrix products (8 sequences of 256 tokens in bfloat16; benchmarks/LOG.md).
Those would also compute the upper half, which causal attention discards: strips of queries that meet the keys
up to their own last one skip most of it.

The output layer and its loss are one step that never stores the logits. A vocabulary of 8,192 makes the
logits the largest tensor of a small model. Here they exist for a few rows at a time: logits, softmax, and,
still in the forward pass, the two products that give the gradients. `model(labels=...)` keeps them in float32
for the backward pass, which is the largest single cost at this size.
Source of the idea: Hsu et al. 2024 (Liger Kernel), section 3.2; Wijmans et al. 2024 (Cut Your Losses).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2.config import GPT2Config
from gpt2.initial_weights import add_induction_heads

# GPT-2 draws every matrix from N(0, 0.02). Source: Radford et al. 2019; transformers' initializer_range.
INITIALIZER_RANGE = 0.02

STRIP = 128  # queries at a time
LONGEST = 512  # beyond it the stored probabilities, T * T for each head, cost more memory than they save time
CHUNK_ROWS = 1024  # rows at a time: at 8,192 entries in bfloat16 16 MB, which a CPU's last cache still holds

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def causal_attention(qkv: Tensor, n_head: int, scale: float) -> Tensor:
    """Queries, keys and values (B, T, 3 * C) of n_head heads -> their outputs side by side (B, T, C)."""
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    heads = qkv.view(B, T, 3, n_head, C // n_head)
    if qkv.device.type != "cpu" or T > LONGEST:
        q, k, v = heads.transpose(1, 3).unbind(2)  # three of (B, heads, T, head size)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    else:
        q, k, v = heads.permute(2, 0, 3, 1, 4).reshape(3, B * n_head, T, C // n_head).unbind(0)
        y = in_strips(q, k, v, scale).view(B, n_head, T, C // n_head)
    return y.transpose(1, 2).reshape(B, T, C)


def in_strips(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention of (N, T, head size) each."""
    T = q.shape[1]
    mask = causal_mask(T, q.dtype)
    strips = []
    for start in range(0, T, STRIP):
        end = min(T, start + STRIP)
        scores = torch.baddbmm(mask[start:end, :end], q[:, start:end], k[:, :end].mT, alpha=scale)
        strips.append(torch.softmax(scores, dim=-1) @ v[:, :end])
    return torch.cat(strips, dim=1)


@lru_cache(maxsize=4)
def causal_mask(T: int, dtype: torch.dtype) -> Tensor:
    """(T, T): 0 where the key is not later than the query, -inf where it is."""
    return torch.full((T, T), -torch.inf, dtype=dtype).triu(1)


class LinearCrossEntropy(torch.autograd.Function):
    """mean(cross_entropy(hidden @ weight.T, targets)) whose gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        N = hidden.shape[0]
        need_gradients = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if need_gradients else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_gradients else None
        losses = torch.empty(N, device=hidden.device)
        for start in range(0, N, CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            target = targets[rows]
            row = torch.arange(len(target), device=target.device)
            probabilities = torch.softmax(hidden[rows] @ weight.T, dim=-1)  # (rows, V)
            likelihood = probabilities[row, target]
            losses[rows] = -likelihood.float().clamp_min(1e-30).log()
            if grad_hidden is None or grad_weight is None:
                continue
            probabilities[row, target] = likelihood - 1  # now the gradient of the logits
            torch.mm(probabilities, weight, out=grad_hidden[rows])
            grad_weight += torch.mm(probabilities.T, hidden[rows])
        ctx.save_for_backward(grad_hidden, grad_weight)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grad_outputs[0] / grad_hidden.shape[0]
        return grad_hidden * scale.to(grad_hidden.dtype), grad_weight.mul_(scale).to(grad_hidden.dtype), None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean loss in nats of hidden states (N, C) under an output layer (V, C) for target ids (N,)."""
    loss: Tensor = LinearCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss


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

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean loss in nats per token of predicting targets (B, T) from tokens (B, T)."""
        return linear_cross_entropy(self.hidden(tokens), self.output_weight(), targets.reshape(-1))
