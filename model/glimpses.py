"""A few lines of what the model would write by now: what a falling loss means, shown while it falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from gpt2 import GPT2
    from tokenizers import Tokenizer

PROMPT = "def "
TOKENS = 64
TEMPERATURE = 0.7
SHARES = (0.02, 0.1, 0.3, 0.6, 1.0)  # of the run, at which to look


@torch.no_grad()
def glimpse(model: GPT2, tokenizer: Tokenizer, end_of_text_id: int, seed: int) -> str:
    """PROMPT and what follows; the same weights and seed give the same text, and no other random state moves.

    Every position is computed anew for each token, which 64 of them allow. Where the weights are divided
    every rank has to take part, and draws the same.
    """
    device = model.transformer.wte.weight.device
    ids = [end_of_text_id, *tokenizer.encode(PROMPT, add_special_tokens=False).ids]
    random = torch.Generator().manual_seed(seed)
    for _ in range(min(TOKENS, model.shape.block_size - len(ids))):
        scores = model.logits(torch.tensor([ids], device=device))[0, -1].float().cpu()
        if not torch.isfinite(scores).all():
            break  # diverged, which is for others to notice
        drawn = int(torch.multinomial(torch.softmax(scores / TEMPERATURE, 0), 1, generator=random))
        if drawn == end_of_text_id:
            break
        ids.append(drawn)
    text: str = tokenizer.decode(ids[1:], skip_special_tokens=True)
    return text
