"""A Completer for a server: it keeps what it has read, and takes what an editor sends.

A model that was not trained to fill gaps continues the prefix, and stops where the suffix goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from generation.completer import Completer
from generation.ending import Gap
from generation.prompt_ids import LONGEST_TOKEN, PromptReader
from generation.rejection import GuardedText
from generation.sample import Sample
from python_syntax.judge import NotPythonError, as_python_reads
from serving.editor_window import Judged, accept_window, judged_suffix

if TYPE_CHECKING:
    from generation.trace import Trace
    from inference.decoding import Decoding
    from inference.language_model import Array, KeyValueCache, LanguageModel
    from pretrained.vocabulary import Vocabulary
    from serving.prompt_cache import PromptCache

# A long prompt is read from a token on whose number this share of the context divides: so the window stands
# still for some dozens of keystrokes, and most of what it holds is known. It costs an eighth of what is read.
STRIDES = 8
ENCODED_FROM = 4096  # characters: of a very long prompt the end is encoded, from a multiple of this on


@dataclass(frozen=True)
class Begun:
    """The samples of a prompt before their first token, and what the user should know about them."""

    samples: list[Sample]
    note: str
    judged: Judged | None  # the part of the prompt that is judged; None: the samples are not


class SteadyPromptReader(PromptReader):
    """Reads a long prompt from the same token on while it grows by some dozens of keystrokes."""

    def encoded_end(self, prompt: str) -> str:
        longest = self.block_size * LONGEST_TOKEN
        cut, step = len(prompt) - longest, min(ENCODED_FROM, longest // 4)
        return prompt[cut + -cut % step :] if cut > 0 else prompt

    def last(self, ids: list[int], room: int) -> list[int]:
        first, stride = len(ids) - room, max(1, self.block_size // STRIDES)
        return ids[min(first + -first % stride, len(ids) - 1) :] if first > 0 else ids


class ServingCompleter(Completer):
    """Completes prompts of which it has often read the beginning before."""

    def __init__(
        self, model: LanguageModel, vocabulary: Vocabulary, prompts: PromptCache, *, fills_in: bool
    ) -> None:
        super().__init__(model, vocabulary, SteadyPromptReader(vocabulary, model.config.block_size))
        self.prompts = prompts
        self.fills_in = fills_in
        self.known = 0  # of the tokens of the newest row that was read, those that were kept

    def begin(self, prompt: str, suffix: str, decoding: Decoding, trace: Callable[[], Trace | None]) -> Begun:
        """The samples of a prompt, judged if that is asked for and the prompt is Python.

        suffix: what follows the place where they are inserted; "" if nothing does.
        """
        prompt, suffix = as_python_reads(prompt), as_python_reads(suffix)
        note, judged, gap = "", None, None
        if decoding.valid:
            try:
                judged = accept_window(prompt)
                if suffix:
                    gap = Gap(judged.text[judged.accepted.start :], judged_suffix(judged, suffix))
            except NotPythonError as error:
                note, judged = error.advice, None
        read = suffix if suffix and self.fills_in else None
        ids, pending, max_tokens = self.reader.read_around(prompt, read, decoding.max_new_tokens)
        samples = [
            Sample(
                number,
                prompt,
                ids,
                pending,
                max_tokens,
                decoding,
                guard=GuardedText(judged.text, judged.accepted) if judged else None,
                gap=gap,
                trace=trace(),
            )
            for number in range(decoding.samples)
        ]
        return Begun(samples, note, judged)

    def read_row(self, ids: list[int], cache: KeyValueCache, row: int) -> Array:
        self.known = self.prompts.load(ids, cache, row)
        if len(cache.lengths) == 1:
            return self.model.next_logits([ids[self.known :]], cache)
        alone = cache.row(row)
        alone.lengths = [self.known]
        return self.model.next_logits([ids[self.known :]], alone)

    def leave(self, sample: Sample, cache: KeyValueCache, row: int) -> None:
        """Keep what was read for this sample, the newest token excepted."""
        self.prompts.keep(sample.window.seen[: sample.window.position], cache, row)
