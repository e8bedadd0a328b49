"""What a completion's text does not show: the tokens it was written in, and what was refused on the way.

Places are characters of the completion. A token that was taken back leaves the list of tokens and becomes
text that was refused; what had been refused within that text goes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inference.language_model import Array
    from pretrained.vocabulary import Vocabulary

MOST_REFUSALS = 1000  # are kept of one sample: nobody reads more, and a weak model is refused without end
NEVER = -9999.0  # stands for minus infinity, which JSON has no number for; OpenAI's API says the same


@dataclass(frozen=True)
class TracedToken:
    """A token that stays, as far as it writes something new."""

    place: int  # of the sample's ids
    offset: int  # where its text begins in the completion
    text: str  # what it added; nothing yet, as half of a character does: bytes:\\xe2
    log_probability: float  # by the model itself, at temperature 1
    top: dict[str, float]  # the likeliest tokens there, the likeliest first


@dataclass(frozen=True)
class Refusal:
    """Text that was written, or drawn, and does not stay."""

    offset: int
    text: str
    reason: str


class Trace:
    """The tokens and refusals of one sample that were not handed out yet."""

    def __init__(self, vocabulary: Vocabulary, top: int | None = None, *, refusals: bool = False) -> None:
        """top: how many of the likeliest tokens to name, None: tokens are not kept. refusals: keep these."""
        self.vocabulary = vocabulary
        self.top = top
        self.keeps_refusals = refusals
        self.tokens: list[TracedToken] = []
        self.refusals: list[Refusal] = []
        self.refused = 0

    def take(self, place: int, token_id: int, added: str, offset: int, logits: Array | None) -> None:
        """A token added a text at `offset`; logits (1, V): what the model said there."""
        if self.top is None or logits is None:
            return
        row = logits[0].astype(np.float64)
        highest = row.max()
        row -= highest + np.log(np.exp(row - highest).sum())
        count = min(self.top, len(row))
        likeliest = np.argpartition(-row, count - 1)[:count] if count else np.zeros(0, np.int64)
        likeliest = likeliest[np.argsort(-row[likeliest], kind="stable")]
        top = {self.spelled(i): float(row[i]) for i in likeliest.tolist() if np.isfinite(row[i])}
        log_probability = max(float(row[token_id]), NEVER)
        self.tokens.append(TracedToken(place, offset, added or self.spelled(token_id), log_probability, top))

    def take_back(self, place: int, offset: int, text: str, reason: str) -> None:
        """The tokens from `place` of the ids on, which wrote `text` at `offset`, do not stay."""
        while self.tokens and self.tokens[-1].place >= place:
            self.tokens.pop()
        if self.keeps_refusals:
            self.refusals = [refusal for refusal in self.refusals if refusal.offset <= offset]
            self.refuse(offset, text, reason)

    def refuse(self, offset: int, text: str, reason: str) -> None:
        """Text that would have stood at `offset` was refused."""
        if self.keeps_refusals and text and self.refused < MOST_REFUSALS:
            self.refused += 1
            self.refusals.append(Refusal(offset, text, reason))

    def hand_out(self, kept: int, *, is_finished: bool) -> tuple[list[TracedToken], list[Refusal]]:
        """What belongs to the first `kept` characters that the model wrote and was not handed out before.

        is_finished: nothing comes after them, so what was refused there is handed out too.
        """
        tokens = [token for token in self.tokens if token.offset < kept]
        refusals = [refusal for refusal in self.refusals if is_finished or refusal.offset < kept]
        self.tokens = self.tokens[len(tokens) :]
        self.refusals = self.refusals[len(refusals) :]
        return tokens, refusals

    def spelled(self, token_id: int) -> str:
        """A token as text: " if"; half of a character as "bytes:\\xe2"; "<|endoftext|>"."""
        spelling = self.vocabulary.token_bytes[token_id]
        if not spelling:
            return str(self.vocabulary.tokenizer.id_to_token(token_id))
        try:
            return spelling.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelling)
