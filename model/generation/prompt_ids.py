"""A prompt -> the ids that the model reads, and the bytes at its end that it writes again.

What the model reads. A prompt that fits is read from its beginning, after the begin-of-text token; of a
longer one the end.

Where the prompt ends. "import " ends in a blank that in training was always the first byte of the next token,
and "    retu" in half a word: read as they stand they are text that the model has never seen. So the model
writes the last tokens of the prompt again, held to the prompt's bytes.
Source: "token healing", Lundberg, "The art of prompt design: prompt boundaries and token healing", 2023.

A gap. The suffix is read first and then the prefix ("SPM"), which the model then simply continues: so a
prefix may end within a word, and one that grows costs its new tokens alone. Half of the documents of
--fim-rate are learnt in this order. In the other one the suffix stands between the prefix and what continues
it, and small models lose the thread (benchmarks/LOG.md).
Source: Bavarian et al. 2022, "Efficient training of language models to fill in the middle", section 3.
"""

from __future__ import annotations

from collections.abc import Callable

from model_cli import UserError
from pretrained.vocabulary import FIM_TOKENS, Vocabulary

# Only the end of a prompt that the model can read is encoded: a token is 2 to 5 characters, rarely over 32.
LONGEST_TOKEN = 32
# Tokens at a prompt's end that are written again: a word and the blanks after it, but not endless blanks.
MOST_HEALED = 4


class PromptReader:
    """Chooses what a model reads of a prompt, by its vocabulary and its context of block_size tokens."""

    def __init__(self, vocabulary: Vocabulary, block_size: int) -> None:
        self.vocabulary = vocabulary
        self.block_size = block_size

    def read_around(
        self, prompt: str, suffix: str | None, max_new_tokens: int
    ) -> tuple[list[int], bytes, int]:
        """The ids that the model reads, the last bytes of the prompt, and the tokens that there is room for.

        suffix: None if there is no gap to fill.
        """
        if suffix is None:
            return *self.read_prompt(prompt, max_new_tokens), max_new_tokens
        ids, pending = self.read_gap(prompt, suffix)
        return ids, pending, min(max_new_tokens, self.block_size - len(ids) - MOST_HEALED)

    def read_gap(self, prefix: str, suffix: str) -> tuple[list[int], bytes]:
        """The ids of what is near the gap on both sides, and the last bytes before it, to write again.

        They leave half of the context free.
        """
        room = max(2, self.block_size // 2 - 4)
        after = self.vocabulary.encode(suffix[: room * LONGEST_TOKEN])[: room // 2]
        end = self.encoded_end(prefix)
        before, pending = without_last_word(
            end[end.find("\n") + 1 :] if end != prefix else end, self.vocabulary
        )
        begin = self.vocabulary.begin_id
        start = [] if begin is None else [begin]
        marked = gap_ids([], after, self.vocabulary.tokenizer.token_to_id)
        return [*start, *marked, *self.last(before, room - len(after))], pending

    def read_prompt(self, prompt: str, max_new_tokens: int) -> tuple[list[int], bytes]:
        """The ids that the model reads for this prompt, and its last bytes, which it writes again."""
        end = self.encoded_end(prompt)
        is_whole = len(end) == len(prompt)
        if not is_whole:
            end = end[end.find("\n") + 1 :]  # from the beginning of a line, if it has one
        ids, pending = without_last_word(end, self.vocabulary)
        begin = self.vocabulary.begin_id
        if begin is not None and is_whole:
            ids = [begin, *ids]
        elif not ids:  # something must be read before anything can be written
            ids, pending = self.vocabulary.encode(end), b""
        # Room for what is to be written, but never less than half of the context for the prompt.
        left_free = min(max_new_tokens + len(pending), self.block_size // 2)
        ids = self.last(ids, max(1, self.block_size - left_free))
        if not ids:
            raise UserError(
                "this model has no begin-of-text token to start an empty text from: give a prompt"
            )
        return ids, pending

    def encoded_end(self, prompt: str) -> str:
        """As much of a prompt's end as the model could read, and more."""
        return prompt[-self.block_size * LONGEST_TOKEN :]

    def last(self, ids: list[int], room: int) -> list[int]:
        """The ids of a prompt that are read where there is room for so many."""
        return ids[-room:]


def without_last_word(text: str, vocabulary: Vocabulary) -> tuple[list[int], bytes]:
    """The ids of a text without its last word or blanks, and the bytes of those.

    without_last_word("import os\nimport ") -> ids of "import os\nimport", b" "
    """
    ids = vocabulary.encode(text)
    blanks = len(text) - len(text.rstrip())
    kept, last = len(ids), b""
    while kept and len(ids) - kept < MOST_HEALED and (not last or len(last) < blanks):
        kept -= 1
        last = vocabulary.token_bytes[ids[kept]] + last
    if not text.encode().endswith(last):  # a normalizer has changed the text
        return ids, b""
    return ids[:kept], last


def gap_ids(before: list[int], after: list[int], id_of: Callable[[str], int | None]) -> list[int]:
    """The ids that a model reads of a gap: prefix and suffix, each after its mark, then the middle's mark.

    before: none if the prefix follows the middle's mark. id_of: the id of a token by its name, None if the
    tokenizer has none.

    Raises:
        UserError: the tokenizer lacks one of the marks.
    """
    ids = [id_of(mark) for mark in FIM_TOKENS]
    if None in ids:
        raise UserError(f"this model's tokenizer has no {FIM_TOKENS[ids.index(None)]}: leave out --suffix")
    prefix, suffix, middle = (number for number in ids if number is not None)
    return [prefix, *before, suffix, *after, middle]
