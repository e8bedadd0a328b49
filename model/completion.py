"""A prompt -> its completions, streamed: every line is handed out as soon as it is known to be good Python.

(Without that promise, every character as soon as its last byte is known.)

What the model reads. A prompt that fits is read from its beginning, after the begin-of-text token; of a
longer one the end. When the text outgrows the model's positions, its last half is read again and writing goes
on from there: GPT-2 learns each position by heart, so a window cannot slide over cached keys and values.

Where the prompt ends. "import " ends in a blank that in training was always the first byte of the next token,
and "    retu" in half a word: read as they stand they are text that the model has never seen. So the tokens
at the end of a prompt are taken back and written again by the model, held to the prompt's bytes until they
are used up. The prompt itself is never altered.
Source: "token healing", Lundberg, "The art of prompt design: prompt boundaries and token healing", 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from continuation import Continuation
from decoding_settings import Decoding
from fill_in import gap_of
from pretrained import PretrainedError
from sampling import Array, discouraged
from sampling import sample as draw_tokens
from valid_code import begin
from vocabulary import Vocabulary

if TYPE_CHECKING:
    from inference import LanguageModel
    from key_value_cache import KeyValueCache

# Only the end of a prompt that the model can read is encoded: a token is 2 to 5 characters, rarely over 32.
LONGEST_TOKEN = 32
# Tokens taken back at a prompt's end, for a word and the blanks after it; endless blanks are read as such.
MOST_TAKEN_BACK = 4
# Tokens that are drawn at a place where some were taken back, before all of the vocabulary is asked about.
MOST_CHOICES = 24
# A comment can always follow: it would be how every line ends that could not go on as the model meant it.
CHOICES_BEFORE_COMMENT = 12


class Completer:
    """A model and its vocabulary, ready to complete prompts."""

    def __init__(self, model: LanguageModel, vocabulary: Vocabulary) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.never_written = np.array(vocabulary.never_written, np.int64)

    def start(self, prompt: str, decoding: Decoding, suffix: str | None = None) -> list[Continuation]:
        """The samples before their first token; sample i of a seed is drawn alike however many there are.

        suffix: what comes after a gap that the samples fill, where the model can do that.

        Raises:
            NotPythonError: the code is to be valid and no valid program begins with this prompt.
        """
        standing = begin(prompt) if decoding.valid else None
        max_tokens = decoding.max_new_tokens
        if suffix is None:
            ids, owed = self.read_prompt(prompt, max_tokens)
        else:
            ids, owed = self.read_gap(prompt, suffix), b""
            max_tokens = min(max_tokens, self.model.config.n_positions - len(ids))
        seeds = [None if decoding.seed is None else decoding.seed + i for i in range(decoding.samples)]
        samples = [
            Continuation(prompt, Random(seed), list(ids), owed, max_tokens, decoding.stop) for seed in seeds
        ]
        for sample in samples:
            if standing:
                sample.suffix = suffix
                sample.guard(standing)
        return samples

    def write(self, samples: list[Continuation], decoding: Decoding) -> Iterator[tuple[int, str]]:
        """Pieces of text as they come, each with the number of its sample; all samples advance together."""
        shown = [0] * len(samples)
        going = list(range(len(samples)))
        if decoding.max_new_tokens > 0:
            logits, cache = self.read(samples[0], decoding)  # the prompt is read once for all
            if len(going) > 1:
                logits = np.repeat(logits, len(going), axis=0)
                cache.select_rows([0] * len(going))
        else:
            for sample in samples:
                sample.finish()
        while going:
            rows = [samples[number] for number in going]
            if decoding.max_new_tokens > 0:
                self.extend(rows, logits, decoding)
            for number in going:
                text = samples[number].text
                if len(text) > shown[number]:
                    yield number, text[shown[number] :]
                    shown[number] = len(text)
            staying = [row for row, sample in enumerate(rows) if not sample.finished]
            if staying and len(staying) < len(going):
                cache.select_rows(staying)
            going = [going[row] for row in staying]
            if going:
                logits = self.advance([samples[number] for number in going], cache)

    def extend(self, rows: list[Continuation], logits: Array, decoding: Decoding) -> None:
        """Add a token to each row; where the judge takes one back with its line, others in its place."""
        for row, sample in enumerate(rows):
            sample.remember(logits[row : row + 1], keep_logits=decoding.scores)
        for sample, token_id in zip(rows, self.choose(logits, rows, decoding), strict=True):
            while not self.add(sample, token_id):
                token_id = self.choose_again(sample, decoding)

    def choose_again(self, sample: Continuation, decoding: Decoding) -> int:
        """A token for the place that a sample was taken back to, one that the parser can go on from."""
        logits = sample.steps[-1].logits
        for choice in range(MOST_CHOICES):
            [token_id] = self.choose(logits, [sample], decoding)
            if token_id in self.vocabulary.end_ids or not sample.banned:
                return token_id
            spelling = self.vocabulary.token_bytes[token_id]
            if sample.could_go_on(spelling, as_comment=choice >= CHOICES_BEFORE_COMMENT):
                return token_id
            sample.banned.add(token_id)
        sample.ban_all_but_possible(self.vocabulary.token_bytes)
        return self.choose(logits, [sample], decoding)[0]

    def add(self, sample: Continuation, token_id: int) -> bool:
        if token_id in self.vocabulary.end_ids:
            return sample.end(token_id)
        return sample.add(token_id, self.vocabulary.token_bytes[token_id])

    def advance(self, rows: list[Continuation], cache: KeyValueCache) -> Array:
        """Logits (B, V) after each row's newest token, which the cache does not hold yet."""
        for row, sample in enumerate(rows):
            position = len(sample.ids) - 1 - sample.window
            if not 0 < position < cache.capacity:
                sample.window = max(0, len(sample.ids) - max(1, self.model.config.n_positions // 2))
                if again := sample.ids[sample.window : -1]:
                    self.model.next_logits([again], cache.row(row))
            sample.passes += 1
        cache.lengths = [len(sample.ids) - 1 - sample.window for sample in rows]
        return self.model.next_logits([[sample.ids[-1]] for sample in rows], cache)

    def read(self, sample: Continuation, decoding: Decoding) -> tuple[Array, KeyValueCache]:
        """Logits (1, V) after the prompt, in a cache with room for what is to come."""
        ahead = decoding.max_new_tokens + len(sample.owed)
        capacity = min(self.model.config.n_positions, len(sample.ids) + ahead)
        cache = self.model.new_cache(1, capacity)
        logits = self.model.next_logits([sample.ids], cache)
        if not np.isfinite(logits).all():
            raise PretrainedError("the model's weights are not finite numbers: train it again with --restart")
        return logits, cache

    def choose(self, logits: Array, rows: list[Continuation], decoding: Decoding) -> list[int]:
        """A token for each row; while bytes are owed, one that agrees with them."""
        logits[:, self.never_written] = -np.inf
        return [self.choose_alone(logits[row : row + 1], sample, decoding) for row, sample in enumerate(rows)]

    def choose_alone(self, logits: Array, sample: Continuation, decoding: Decoding) -> int:
        logits = discouraged(logits, sample.ids[sample.window :], decoding)
        if sample.banned:
            logits = logits.copy()
            logits[:, list(sample.banned)] = -np.inf
        required = sample.owed or sample.closing
        agreeing = self.vocabulary.continuing(required) if required else []
        agreeing = [token_id for token_id in agreeing if token_id not in sample.banned] or agreeing
        if not agreeing:
            return draw_tokens(logits, decoding, [sample.chance])[0]
        return agreeing[draw_tokens(logits[:, agreeing], decoding, [sample.chance])[0]]

    def read_gap(self, prefix: str, suffix: str) -> list[int]:
        """The ids of a gap's surroundings, of long ones what is near it; half of the positions stay free."""
        room = max(2, self.model.config.n_positions // 2 - 4)
        after = self.vocabulary.encode(suffix[: room * LONGEST_TOKEN])[: room // 2]
        before = self.vocabulary.encode(prefix[-room * LONGEST_TOKEN :])[-(room - len(after)) :]
        begin = self.model.config.bos_token_id
        start = [] if begin is None else [begin]
        return [*start, *gap_of(before, after, self.vocabulary.tokenizer.token_to_id)]

    def read_prompt(self, prompt: str, max_new_tokens: int) -> tuple[list[int], bytes]:
        """The ids that the model reads for this prompt, and its last bytes, which it writes again."""
        n_positions = self.model.config.n_positions
        end = prompt[-n_positions * LONGEST_TOKEN :]
        is_whole = len(end) == len(prompt)
        if not is_whole:
            end = end[end.find("\n") + 1 :]  # from the beginning of a line, where there is one
        ids, owed = take_back_end(end, self.vocabulary)
        begin = self.model.config.bos_token_id
        if begin is not None and is_whole:
            ids = [begin, *ids]
        elif not ids:  # something must be read before anything can be written
            ids, owed = self.vocabulary.encode(end), b""
        # Room for what is to be written, but never less than half of the positions for the prompt.
        ids = ids[-max(1, n_positions - min(max_new_tokens + len(owed), n_positions // 2)) :]
        if not ids:
            raise PretrainedError(
                "this model has no begin-of-text token to start an empty text from: give a prompt"
            )
        return ids, owed


def take_back_end(text: str, vocabulary: Vocabulary) -> tuple[list[int], bytes]:
    """The ids of a text without its last word or blanks, and the bytes of those.

    take_back_end("import os\nimport ") -> ids of "import os\nimport", b" "
    """
    ids = vocabulary.encode(text)
    blanks = len(text) - len(text.rstrip())
    kept, owed = len(ids), b""
    while kept and len(ids) - kept < MOST_TAKEN_BACK and (not owed or len(owed) < blanks):
        kept -= 1
        owed = vocabulary.token_bytes[ids[kept]] + owed
    if not text.encode().endswith(owed):  # a normalizer has changed the text
        return ids, b""
    return ids[:kept], owed
