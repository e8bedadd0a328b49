"""A run's eye on the held-out files: when it looks, at how many of them, and which model was best there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from held_out import HeldOutScore, sample_files, score

if TYPE_CHECKING:
    from budget import Plan
    from gpt2 import GPT2
    from ranks import Ranks
    from token_dataset import TokenDataset

EVALUATION_SECONDS = 12.0  # for a measurement at most
EVALUATION_SHARE = 0.02  # of the work of a run, for measurements on the way
ADAPTING_SHARE = 0.10  # of one that goes on from a trained model, which may learn few files by heart
MOST_EVALUATIONS = 20
FORWARD_GAIN = 1.5  # a scored token against a trained one: a third of the work, half of it twice
NOMINAL_FLOPS, NOMINAL_TOKENS = 4e11, 12_000  # per second, whatever is the less: two cores with AVX512-BF16


@dataclass(frozen=True)
class Best:
    """The best measurement of a run so far."""

    bits_per_byte: float
    step: int


class HeldOutWatch:
    """Measures a model on the same whole files each time, and remembers the best."""

    def __init__(self, plan: Plan, dataset: TokenDataset, bytes_per_token: float) -> None:
        self.plan = plan
        self.dataset = dataset
        self.bytes_per_token = bytes_per_token
        self.best: Best | None = None
        limit = self.sample_bytes()
        self.files = sample_files(dataset.held_out, limit) if len(dataset.held_out.text_bytes) else []
        self.tokens = sum(int(dataset.held_out.lengths[file]) for file in self.files)

    def sample_bytes(self) -> int:
        """Held-out bytes that can be scored in time: a power of two of kilobytes, 64 kB to 16 MB.

        A coarse step, so that runs of similar speed are measured on the same files. Whole files differ by so
        much (one model had 1.57 bits per byte on 10 of them, 1.66 on 83) that only the same files compare.
        """
        # Of a run by steps nothing may depend on how fast the machine was while it was measured.
        nominal = min(NOMINAL_TOKENS, NOMINAL_FLOPS / self.plan.shape.flops_per_token)
        speed = nominal if self.plan.seconds is None else self.plan.tokens_per_second
        bytes_per_second = speed * FORWARD_GAIN * self.bytes_per_token
        kilobytes = min(16_384, max(64.0, EVALUATION_SECONDS * bytes_per_second / 1000))
        return int(1000 * 2 ** math.floor(math.log2(kilobytes)))

    @property
    def difficulty(self) -> float | None:
        """Tokens per byte of the sample, relative to the corpus; None where nothing is held out."""
        if not self.files:
            return None
        sample_bytes = sum(int(self.dataset.held_out.text_bytes[file]) for file in self.files)
        return self.tokens / sample_bytes * self.bytes_per_token

    def points(self, progress: float) -> list[float]:
        """The shares of the run at which to look: as many as a small part of its work allows, those ahead."""
        if not self.files:
            return []
        share = EVALUATION_SHARE if self.plan.rate == 1 else ADAPTING_SHARE
        looks = self.plan.tokens * FORWARD_GAIN * share / self.tokens
        count = min(MOST_EVALUATIONS, int(looks))
        points = [(number + 1) / (count + 1) for number in range(count)]
        return [point for point in points if point > progress + 1e-9]

    def measure(self, model: GPT2, ranks: Ranks) -> HeldOutScore:
        """Score the model on the sample. Every rank has to take part."""
        return score(model, self.dataset.held_out, self.files, self.dataset.end_of_text_id, ranks)

    def is_best(self, measured: HeldOutScore, step: int) -> bool:
        """Whether this is the best measurement so far, which is then remembered."""
        if self.best is not None and measured.bits_per_byte >= self.best.bits_per_byte:
            return False
        self.best = Best(measured.bits_per_byte, step)
        return True
