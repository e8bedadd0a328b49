"""A prompt -> its completions, streamed: each line is handed out as soon as it is known to be good Python.

(Without that guarantee, each character as soon as its last byte is known.)

What the model reads of a prompt, and why it writes the end of it again: prompt_ids.py. When the text outgrows
the model's context, its last half is read again and writing continues from there: GPT-2 learns each position
by heart, and a window cannot slide over cached keys. The prompt is printed as it was given; model and judge
read it as Python does: without a byte order mark, with newlines for all line ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from generation.ending import Gap
from generation.prompt_ids import PromptReader
from generation.rejection import GuardedText
from generation.sample import Sample, note_refusal
from inference.decoding import Decoding
from inference.language_model import Array
from inference.sampling import apply_penalties
from inference.sampling import sample as draw_tokens
from model_cli import UserError, warn
from pretrained.vocabulary import Vocabulary
from python_syntax.judge import NotPythonError, accept_prompt, as_python_reads

if TYPE_CHECKING:
    from inference.language_model import KeyValueCache, LanguageModel
    from inference.torch_engine import TorchEngine
    from pretrained.load import Pretrained

# Tokens that are drawn where others were rejected, before the whole vocabulary is asked about.
MOST_CHOICES = 24
# A comment may nearly always follow: every line that cannot continue as the model meant would end in one.
CHOICES_BEFORE_COMMENT = 12
# From this size on a step waits for its weights: in 8 bits GPT-2 124M takes half of the time that it takes in
# 16, and a GPU is faster still. Below, 16 bits cost little and change no choice (benchmarks/LOG.md).
LARGE_PARAMETERS = 30_000_000


class Completer:
    """A model and its vocabulary, ready to complete prompts."""

    def __init__(
        self, model: LanguageModel, vocabulary: Vocabulary, reader: PromptReader | None = None
    ) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.reader = reader or PromptReader(vocabulary, model.config.block_size)
        self.never_written = np.array(vocabulary.never_written, np.int64)

    def start(
        self,
        prompt: str,
        decoding: Decoding,
        suffix: str | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> list[Sample]:
        """The samples before their first token. Sample i of a seed is the same however many there are.

        Their own prompt is the given one as Python reads it. suffix: what follows the gap that they fill.
        warn: told if the prompt is not Python, which is then completed without the guarantee; without `warn`
        that is an error.

        Raises:
            NotPythonError: the code is to be valid, and no valid program begins with the prompt.
        """
        prompt, accepted = as_python_reads(prompt), None
        if decoding.valid:
            try:
                accepted = accept_prompt(prompt)
            except NotPythonError as error:
                if warn is None:
                    raise
                warn(error.advice)
        ids, pending, max_tokens = self.reader.read_around(prompt, suffix, decoding.max_new_tokens)
        gap = Gap(prompt, suffix) if suffix is not None and decoding.valid else None
        return [
            Sample(
                number,
                prompt,
                ids,
                pending,
                max_tokens,
                decoding,
                guard=GuardedText(prompt, accepted) if accepted else None,
                gap=gap,
            )
            for number in range(decoding.samples)
        ]

    def write(self, samples: list[Sample], decoding: Decoding) -> Iterator[tuple[int, str]]:
        """Pieces of text as they come, each with the number of its sample; all samples advance together."""
        shown = [0] * len(samples)
        writing = Writing(self, samples, decoding)
        while True:
            for sample in samples:
                text = sample.text
                if len(text) > shown[sample.number]:
                    yield sample.number, text[shown[sample.number] :]
                    shown[sample.number] = len(text)
            if not writing.unfinished:
                return
            writing.step()
            writing.drop_finished()

    def extend(self, rows: list[Sample], logits: Array, decoding: Decoding) -> None:
        """Add a token to each row; if it is rejected, others in its place."""
        for row, sample in enumerate(rows):
            sample.remember(logits[row : row + 1])
        logits[:, self.never_written] = -np.inf
        for row, sample in enumerate(rows):
            token_id = self.choose(logits[row : row + 1], sample, decoding)
            while not self.add(sample, token_id):
                token_id = self.choose_again(sample, decoding)

    def add(self, sample: Sample, token_id: int) -> bool:
        if token_id in self.vocabulary.end_ids:
            return sample.end(token_id)
        spelling = self.vocabulary.token_bytes[token_id]
        if not spelling:  # drawn where every token is ruled out
            sample.finish()
            return True
        return sample.add(token_id, spelling)

    def choose(self, logits: Array, sample: Sample, decoding: Decoding) -> int:
        """A token by logits (1, V), one that agrees with the bytes that the sample has to write next."""
        logits = apply_penalties(logits, sample.window.seen, decoding)
        banned, forced = sample.banned, sample.forced_bytes
        if banned:
            logits = logits.copy()
            logits[:, list(banned)] = -np.inf
        if not forced:
            return draw_tokens(logits, decoding, [sample.rng])[0]
        agreeing = self.vocabulary.continuing(forced)
        agreeing = [token_id for token_id in agreeing if token_id not in banned] or agreeing
        if not agreeing:
            return draw_tokens(logits, decoding, [sample.rng])[0]
        return agreeing[draw_tokens(logits[:, agreeing], decoding, [sample.rng])[0]]

    def choose_again(self, sample: Sample, decoding: Decoding) -> int:
        """Another token where one was rejected, one that the parser can continue with."""
        assert sample.guard, "only a judged text rejects tokens"
        logits, spellings = sample.guard.history.tokens[-1].logits, self.vocabulary.token_bytes
        for choice in range(MOST_CHOICES):
            token_id = self.choose(logits, sample, decoding)
            if token_id in self.vocabulary.end_ids or not sample.banned:
                return token_id
            as_comment = choice >= CHOICES_BEFORE_COMMENT
            if sample.may_continue(spellings[token_id], as_comment=as_comment):
                return token_id
            note_refusal(sample, spellings[token_id])
            sample.guard.history.ban_next({token_id})
        sample.ban_impossible(spellings)
        return self.choose(logits, sample, decoding)

    def read(self, samples: list[Sample], decoding: Decoding) -> tuple[Array, KeyValueCache]:
        """Logits (B, V) after all that each sample has, in a cache with room for what is to come."""
        first = samples[0]
        ahead = decoding.max_new_tokens + first.rewritten_bytes
        capacity = min(self.model.config.block_size, first.prompt_ids + ahead)
        is_new = all(len(sample.ids) == sample.prompt_ids for sample in samples)
        rows = samples[:1] if is_new else samples  # the prompt is read once for all
        if not is_new:
            for sample in rows:
                sample.window.begin_pass(capacity, self.model.config.block_size)
        cache = self.model.new_cache(len(rows), capacity)
        logits = np.concatenate([self.read_row(s.window.seen, cache, row) for row, s in enumerate(rows)])
        if not np.isfinite(logits).all():
            raise UserError("the model's weights are not finite numbers: train it again with --restart")
        if len(rows) < len(samples):
            logits = np.repeat(logits, len(samples), axis=0)
            cache.select_rows([0] * len(samples))
        return logits, cache

    def read_row(self, ids: list[int], cache: KeyValueCache, row: int) -> Array:
        """Logits (1, V) after these ids, which an empty row of the cache takes."""
        if len(cache.lengths) == 1:
            return self.model.next_logits([ids], cache)
        return self.model.next_logits([ids], cache.row(row))

    def leave(self, sample: Sample, cache: KeyValueCache, row: int) -> None:
        """A sample writes no more, and its row of the cache is about to be given up: nothing is kept."""

    def advance(self, rows: list[Sample], cache: KeyValueCache) -> Array:
        """Logits (B, V) after each row's newest token, which the cache does not hold yet."""
        for row, sample in enumerate(rows):
            if again := sample.window.begin_pass(cache.capacity, self.model.config.block_size):
                self.model.next_logits([again], cache.row(row))
        cache.lengths = [sample.window.position for sample in rows]
        return self.model.next_logits([[sample.ids[-1]] for sample in rows], cache)


class Writing:
    """Samples of one prompt that advance together, in one cache: a token for each of them at every step."""

    def __init__(self, completer: Completer, samples: list[Sample], decoding: Decoding) -> None:
        """samples: before their first token, or as an earlier Writing left them."""
        self.completer = completer
        self.decoding = decoding
        self.unfinished = [sample for sample in samples if not sample.finished]
        if decoding.max_new_tokens == 0:
            for sample in self.unfinished:
                sample.finish()  # with what completes the prompt
            self.unfinished = []
        self.logits: Array | None = None  # None: the newest tokens are not read yet
        if self.unfinished:
            self.logits, self.cache = completer.read(self.unfinished, decoding)

    def step(self) -> None:
        """Write a token of each unfinished sample. Its text may be shown before the next pass begins."""
        if self.logits is None:
            self.logits = self.completer.advance(self.unfinished, self.cache)
        self.completer.extend(self.unfinished, self.logits, self.decoding)
        self.logits = None

    def drop_finished(self) -> None:
        """Give up the rows of the samples that are finished."""
        staying = [row for row, sample in enumerate(self.unfinished) if not sample.finished]
        if len(staying) == len(self.unfinished):
            return
        self.leave([row for row in range(len(self.unfinished)) if row not in staying])
        if staying:
            self.cache.select_rows(staying)
        self.unfinished = [self.unfinished[row] for row in staying]

    def leave(self, rows: list[int] | None = None) -> None:
        """Give up these rows, or all that are left."""
        for row in range(len(self.unfinished)) if rows is None else rows:
            self.completer.leave(self.unfinished[row], self.cache, row)


def load_completer(pretrained: Pretrained, device: str, tell: Callable[[str], None] = warn) -> Completer:
    """tell: takes what the user should know while this loads."""
    return Completer(load_engine(pretrained, device, tell), pretrained.vocabulary)


def load_engine(pretrained: Pretrained, device: str, tell: Callable[[str], None] = warn) -> LanguageModel:
    """A folder's model, ready to compute: by numpy and numba on the CPU, by torch elsewhere.

    Raises:
        UserError: torch finds no such device, or the weights cannot be read.
    """
    from gpt2.device import has_gpu

    is_large = pretrained.config.parameters >= LARGE_PARAMETERS
    if device == "auto":
        device = "cuda" if is_large and has_gpu() and torch_finds("cuda") else "cpu"
    if device != "cpu":
        return load_torch_engine(pretrained, device)
    from inference.cpu_engine import CpuEngine
    from pretrained.load import load_weights

    engine = CpuEngine(pretrained.config, load_weights(pretrained), bits=8 if is_large else 16)
    engine.compile(tell)
    return engine


def torch_finds(device: str) -> bool:
    import torch

    return torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()


def load_torch_engine(pretrained: Pretrained, name: str) -> TorchEngine:
    """The model in bfloat16 where the device computes in it, else in float32."""
    import torch

    from inference.torch_engine import TorchEngine
    from pretrained.load import load_tensors

    if not torch_finds(name):
        raise UserError(f"torch {torch.__version__} finds no such device here: {name}: use --device cpu")
    has_bf16 = name == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    dtype = torch.bfloat16 if has_bf16 else torch.float32
    weights = load_tensors(pretrained.weight_files, pretrained.config, torch.device(name), dtype)
    return TorchEngine(pretrained.config, weights)
