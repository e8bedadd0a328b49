"""A few lines of what the model would write by now: what a falling loss means, shown while it falls."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from decoding_settings import Decoding
from pretrained import GPT2Config
from sampling import broken_loops
from torch_inference import TorchGPT2

if TYPE_CHECKING:
    from gpt2 import Shape
    from tokenizers import Tokenizer
    from torch import Tensor

PROMPT = "def "
TOKENS = 64
SHARES = (0.02, 0.1, 0.3, 0.6, 1.0)  # of the run, at which to look


def glimpse(
    shape: Shape, weights: dict[str, Tensor], tokenizer: Tokenizer, end_of_text_id: int, seed: int
) -> str:
    """PROMPT and what follows, drawn as code_generator.py draws it; no judge reads along.

    The same weights and seed give the same text, and no other random state moves.
    weights: by the names of gpt2.GPT2, whole. They are read where they are by the forward pass of the prompt,
    which keeps keys and values: half of the time that computing all positions anew would take.
    """
    model = TorchGPT2(
        config_of(shape), {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    )
    ids = [end_of_text_id, *tokenizer.encode(PROMPT, add_special_tokens=False).ids]
    room = min(TOKENS, shape.block_size - len(ids))
    cache = model.new_cache(1, len(ids) + max(0, room))
    random = torch.Generator().manual_seed(seed)
    usual = Decoding()
    unread = ids[:]
    for _ in range(room):
        logits = broken_loops(model.next_logits([unread], cache), ids, usual.loop_penalty)
        scores = torch.from_numpy(logits[0])
        if not torch.isfinite(scores).all():
            break  # diverged, which is for others to notice
        drawn = int(torch.multinomial(torch.softmax(scores / usual.temperature, 0), 1, generator=random))
        if drawn == end_of_text_id:
            break
        ids.append(drawn)
        unread = [drawn]
    text: str = tokenizer.decode(ids[1:], skip_special_tokens=True)
    return text


def config_of(shape: Shape) -> GPT2Config:
    """A shape as the forward pass of the prompt wants it."""
    variant = {**asdict(shape.variant), "n_inner": shape.inner}
    return GPT2Config(
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_embd=shape.n_embd,
        n_positions=shape.block_size,
        vocab_size=shape.vocab_size,
        bos_token_id=None,
        end_ids=frozenset(),
        **variant,
    )
