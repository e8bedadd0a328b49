"""What is watched during a run: bits per byte on held-out files, the best weights so far, samples of code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer

from evaluation.bits_per_byte import (
    IN_TURN,
    HeldOutSample,
    HeldOutScore,
    draw_in_turn,
    draw_whole_files,
    score,
)
from inference.decoding import Decoding
from inference.sampling import loop_penalty
from inference.torch_engine import TorchEngine
from model_cli import UserError
from pretrained.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from data_loading.token_file import TokenDataset
    from gpt2.config import GPT2Config
    from gpt2.distributed import Ranks
    from gpt2.network import GPT2
    from training.plan import Plan

EVALUATION_SECONDS = 12.0  # for one measurement, at most
EVALUATION_SHARE = 0.02  # of the work of a run, for all measurements on the way
CONTINUED_EVALUATION_SHARE = 0.10  # of a run from a base model, which may learn few files by heart
MOST_EVALUATIONS = 20
FORWARD_GAIN = 1.5  # a scored token against a trained one: a third of the work, half of it twice
# Bits per byte of files cut at 8 kB over those of whole ones, to which the forecast is fit: more of the text
# is the beginning of a file, where a model knows little. Measured 1.055 to 1.076 (benchmarks/LOG.md).
CUT_FILES = 1.06
NOMINAL_FLOPS, NOMINAL_TOKENS = 4e11, 12_000  # per second, the smaller of the two: two cores with AVX512-BF16

# Samples of code on the way show what a falling loss means.
PROMPT = "def "
SAMPLE_TOKENS = 64
SAMPLES_AT = (0.02, 0.1, 0.3, 0.6, 1.0)  # shares of the run


@dataclass(frozen=True)
class Best:
    """The best measurement of a run so far."""

    bits_per_byte: float
    step: int


# Progress is a sum of many parts: 0.6 may be 0.5999...
ROUNDING = 1e-9


class Milestones:
    """Shares of a run at which something is due, each of them once."""

    def __init__(self, shares: Iterable[float]) -> None:
        self.shares = tuple(shares)
        self.ahead = list(self.shares)

    def start(self, progress: float) -> None:
        """Leave out what is over at this share of the run."""
        self.ahead = [share for share in self.shares if share > progress + ROUNDING]

    def reached(self, progress: float) -> float | None:
        """The next share if the run has come to it, else None."""
        if not self.ahead or progress < self.ahead[0] - ROUNDING:
            return None
        return self.ahead.pop(0)


class HeldOutMonitor:
    """Measures a model on the same held-out sample each time, and remembers the best."""

    def __init__(self, plan: Plan, dataset: TokenDataset, sample: HeldOutSample) -> None:
        self.dataset = dataset
        self.sample = sample
        self.best: Best | None = None
        self.milestones = Milestones(_shares(plan, sample.tokens) if sample.excerpts else ())

    @property
    def difficulty(self) -> float | None:
        """How many more bits a byte of the sample needs than one of whole files like the corpus.

        That is its tokens per byte relative to the corpus, and the cost of cutting its files. None if no file
        is held out.
        """
        if not self.sample.excerpts:
            return None
        tokens_per_byte = self.sample.tokens / self.sample.text_bytes
        cut = CUT_FILES if self.sample.rule == IN_TURN else 1.0
        return cut * tokens_per_byte * self.dataset.train.bytes_per_token

    def score(self, model: GPT2, ranks: Ranks) -> HeldOutScore:
        """Score the model on the sample. Every rank must take part. Raises UserError if it is not finite."""
        split, end = self.dataset.held_out, self.dataset.end_of_text_id
        found = score(model, split, self.sample.excerpts, end, ranks)
        if not math.isfinite(found.bits):
            raise UserError(
                f"the model's loss on held-out files is not finite ({found.bits}): try --dtype float32, or"
                " other weights"
            )
        return found

    def is_best(self, score: HeldOutScore, step: int) -> bool:
        """Whether this is the best score so far, which is then remembered."""
        if self.best is not None and score.bits_per_byte >= self.best.bits_per_byte:
            return False
        self.best = Best(score.bits_per_byte, step)
        return True


def draw_sample(
    plan: Plan, dataset: TokenDataset, tokenizer: Path, unfinished: dict[str, Any] | None
) -> HeldOutSample:
    """The held-out sample of a run, by the rule that the unfinished run began with if it resumes one.

    tokenizer: its folder. unfinished: provenance.json, which has no rule in runs of version 0.1.
    """
    limit = sample_bytes(plan, dataset.train.bytes_per_token)
    if unfinished is not None and unfinished.get("held_out_sample", {}).get("rule") != IN_TURN:
        return draw_whole_files(dataset.held_out, limit)
    return draw_in_turn(dataset.held_out, limit, _spellings(tokenizer, dataset.vocab_size))


def _spellings(tokenizer: Path, vocab_size: int) -> list[bytes] | None:
    """The bytes of each token; None for a tokenizer that is not byte-level."""
    vocabulary = Vocabulary(Tokenizer.from_file(str(tokenizer / "tokenizer.json")), frozenset(), vocab_size)
    try:
        return vocabulary.token_bytes
    except KeyError:
        return None


def sample_bytes(plan: Plan, bytes_per_token: float) -> int:
    """Held-out bytes that can be scored in time: a power of two of kilobytes, 64 kB to 16 MB.

    A coarse step, so that runs of similar speed are measured on the same files. Files differ by so much (one
    model had 1.57 bits per byte on 10 of them, 1.66 on 83) that only the same files compare.
    """
    # A run by steps must not depend on how fast the machine was while it was measured.
    nominal = min(NOMINAL_TOKENS, NOMINAL_FLOPS / plan.shape.flops_per_token)
    speed = nominal if plan.seconds is None else plan.tokens_per_second
    bytes_per_second = speed * FORWARD_GAIN * bytes_per_token
    kilobytes = min(16_384, max(64.0, EVALUATION_SECONDS * bytes_per_second / 1000))
    return int(1000 * 2 ** math.floor(math.log2(kilobytes)))


def _shares(plan: Plan, sample_tokens: int) -> list[float]:
    """The shares of a run at which to measure: as many as a small part of its work allows."""
    part = EVALUATION_SHARE if plan.rate == 1 else CONTINUED_EVALUATION_SHARE
    count = min(MOST_EVALUATIONS, int(plan.tokens * FORWARD_GAIN * part / sample_tokens))
    return [(number + 1) / (count + 1) for number in range(count)]


def sample_code(
    shape: GPT2Config, weights: dict[str, Tensor], tokenizer: Tokenizer, end_of_text_id: int, seed: int
) -> str:
    """PROMPT and how the model continues it, sampled as code_generator.py does but without checking Python.

    The same weights and seed give the same text, and no other random state moves.
    weights: by the names of gpt2.network.GPT2, whole. The inference engine uses them in place and caches keys
    and values, which takes half the time of computing all positions again.
    """
    model = TorchEngine(
        shape, {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    )
    ids = [end_of_text_id, *tokenizer.encode(PROMPT, add_special_tokens=False).ids]
    room = min(SAMPLE_TOKENS, shape.block_size - len(ids))
    cache = model.new_cache(1, len(ids) + max(0, room))
    random = torch.Generator().manual_seed(seed)
    usual = Decoding()
    unread = ids[:]
    for _ in range(room):
        logits = loop_penalty(model.next_logits([unread], cache), ids, usual.loop_penalty)
        scores = torch.from_numpy(logits[0])
        if not torch.isfinite(scores).all():
            break  # diverged, which the trainer will notice
        drawn = int(torch.multinomial(torch.softmax(scores / usual.temperature, 0), 1, generator=random))
        if drawn == end_of_text_id:
            break
        ids.append(drawn)
        unread = [drawn]
    text: str = tokenizer.decode(ids[1:], skip_special_tokens=True)
    return text
