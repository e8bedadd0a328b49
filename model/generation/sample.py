"""One completion while it is written: the tokens read and written, their text, and where it stops."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Set
from functools import partial
from random import Random

from generation.ending import Gap, place_to_stop
from generation.rejection import NO_TOKENS, REFUSED, GuardedText, Position, Rollback
from generation.trace import Trace
from inference.decoding import Decoding
from inference.language_model import Array
from inference.sampling import log_probability
from pretrained.vocabulary import impossible
from python_syntax.compiler import is_complete

CUT_OFF = "cut off at the end"  # a reason for rejected tokens, beside those of rejection.py

UTF8 = codecs.getincrementaldecoder("utf-8")


class ContextWindow:
    """The end of a sample's ids: what the model sees of them. It counts the passes through the model."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids  # the sample's own list
        self.start = 0
        self.passes = 0

    @property
    def seen(self) -> list[int]:
        return self.ids[self.start :]

    @property
    def position(self) -> int:
        """Where the newest token stands in it, which the model has not read yet."""
        return len(self.ids) - 1 - self.start

    def begin_pass(self, capacity: int, block_size: int) -> list[int]:
        """The ids to read again before the newest one: those of the last half if the context is full."""
        self.passes += 1
        if 0 < self.position < capacity:
            return []
        self.start = max(0, len(self.ids) - max(1, block_size // 2))
        return self.ids[self.start : -1]


class Sample:
    """What the model has read and written of one completion.

    Its text is handed out up to the last settled line, or of unjudged samples up to the newest character.
    """

    def __init__(
        self,
        number: int,
        prompt: str,
        ids: list[int],
        pending_prompt_bytes: bytes,
        max_tokens: int,
        decoding: Decoding,
        guard: GuardedText | None = None,
        gap: Gap | None = None,
        trace: Trace | None = None,
    ) -> None:
        """ids: what the model reads. pending_prompt_bytes: the end of the prompt, which it writes again.

        trace: takes down each token and each refusal, for whom the text alone does not say enough.
        """
        self.number = number  # from 0
        self.prompt = prompt
        self.ids = list(ids)
        self.prompt_ids = len(ids)
        self.window = ContextWindow(self.ids)
        self.pending_prompt_bytes = pending_prompt_bytes
        self.rewritten_bytes = len(pending_prompt_bytes)
        self.max_tokens = max_tokens
        self.stop = decoding.stop
        self.keeps_scores = decoding.scores
        self.rng = Random(None if decoding.seed is None else decoding.seed + number)
        self.guard = guard  # None: no line is judged
        self.gap = gap
        self.trace = trace
        self.written = ""
        self.settled = 0  # characters of it that stay
        self.completion: str | None = None  # once it is finished
        self.guaranteed = guard is not None  # to compile; if it fills a gap, together with prefix and suffix
        self.ended = False  # by the end-of-text token, or where --stop asked for it
        self.tokens = 0
        self.rejected_tokens: Counter[str] = Counter()  # by the reason
        self.log_probability = 0.0  # of what it has written, if asked for
        self.logits: Array | None = None  # (1, V) before the newest token, if that is asked for
        self.decoder = UTF8(errors="replace")

    @property
    def text(self) -> str:
        """What stays of the completion; it does not end in empty lines."""
        return self.written[: self.settled] if self.completion is None else self.completion

    @property
    def finished(self) -> bool:
        return self.completion is not None

    @property
    def forced_bytes(self) -> bytes:
        """The bytes that the next tokens have to spell: of the prompt, or to close what never closed."""
        return self.pending_prompt_bytes or (self.guard.forced_bytes if self.guard else b"")

    @property
    def banned(self) -> Set[int]:
        """The tokens that may not be written next."""
        return self.guard.history.banned if self.guard else NO_TOKENS

    def remember(self, logits: Array) -> None:
        """Keep what the model says here, logits (1, V): the text may be taken back to this place."""
        if self.keeps_scores:
            self.logits = logits
        if self.guard:
            counts = len(self.ids), len(self.written), self.tokens
            state = self.pending_prompt_bytes, self.decoder.getstate(), self.log_probability
            self.guard.remember(Position(*counts, *state), logits)

    def add(self, token_id: int, spelling: bytes) -> bool:
        """Take a token; False if it or more was rejected and another one is needed."""
        self.score(token_id)
        self.ids.append(token_id)
        if self.guard:
            self.guard.history.take(token_id)
        repeated = min(len(self.pending_prompt_bytes), len(spelling))
        self.pending_prompt_bytes = self.pending_prompt_bytes[repeated:]
        if repeated < len(spelling):
            self.tokens += 1
            added = self.decoder.decode(spelling[repeated:])
            if self.trace:
                self.trace.take(len(self.ids) - 1, token_id, added, len(self.written), self.logits)
            self.written += added
            if self.guard is None:
                self.settle(added)
            else:
                self.guard.forced_bytes = self.guard.forced_bytes[len(spelling) - repeated :]
                is_half = bool(self.decoder.getstate()[0])
                rollback = self.guard.add(self.written, added, self.tokens, is_half=is_half)
                if rollback:
                    self.roll_back(rollback)
                    return self.finished
                self.settled = self.guard.settled
            if self.stop != "none":
                self.stop_where_asked()
        if self.tokens >= self.max_tokens:
            self.finish()
        return True

    def end(self, token_id: int) -> bool:
        """Take the end-of-text token; False if the text cannot end here."""
        if self.guard and not self.guard.may_end(self.gap):
            self.guard.history.ban_end(token_id)
            if self.guard.history.is_given_up:
                self.finish()
            return self.finished
        self.score(token_id)
        self.ended = True
        self.finish()
        return True

    def score(self, token_id: int) -> None:
        """Add the log-probability of a token that was taken, by the model itself: at temperature 1."""
        if self.logits is not None:
            self.log_probability += log_probability(self.logits[0], token_id)

    def settle(self, added: str) -> None:
        """Let everything stay that was written; newlines at its end wait until something follows."""
        if rest := added.rstrip("\n"):
            self.settled = len(self.written) - len(added) + len(rest)

    def roll_back(self, rollback: Rollback) -> None:
        """Return to an earlier state, and end there if it was tried too often."""
        state, position = rollback.state, rollback.state.position
        self.rejected_tokens[rollback.reason] += self.tokens - position.tokens
        if self.trace:
            taken_back = self.written[position.characters :]
            self.trace.take_back(position.ids, position.characters, taken_back, rollback.reason)
        del self.ids[position.ids :]
        self.written = self.written[: position.characters]
        self.tokens, self.pending_prompt_bytes = position.tokens, position.pending_prompt_bytes
        self.log_probability = position.log_probability
        if self.keeps_scores:
            self.logits = state.logits
        self.decoder.setstate(position.decoder)
        if self.guard and self.guard.history.is_given_up:
            self.finish()

    def may_continue(self, spelling: bytes, *, as_comment: bool) -> bool:
        """Whether Python may continue with these bytes; as_comment: also by beginning a comment."""
        decoder = UTF8(errors="replace")
        decoder.setstate(self.decoder.getstate())
        added = decoder.decode(spelling[min(len(self.pending_prompt_bytes), len(spelling)) :])
        is_half = bool(decoder.getstate()[0])
        return self.guard is None or self.guard.may_continue(added, is_half=is_half, as_comment=as_comment)

    def ban_impossible(self, spellings: list[bytes]) -> None:
        """Ban each token of the vocabulary that Python cannot continue with."""
        assert self.guard, "only a judged text bans tokens"
        skip, may_continue = len(self.pending_prompt_bytes), partial(self.may_continue, as_comment=True)
        self.guard.history.ban_next(impossible(spellings, skip, may_continue))

    def stop_where_asked(self) -> None:
        """End the text after the function or statement that was asked for."""
        prompt = self.guard.prompt_end if self.guard else self.prompt
        place = place_to_stop(prompt + self.written, len(prompt), self.stop)
        if place is not None:
            self.written = self.written[: max(0, place - len(prompt))]
            self.settled = len(self.written.rstrip("\n"))
            self.ended = True
            self.finish()

    def finish(self) -> None:
        """Make the text one that can stand: with the line that is being written, or without it."""
        if self.finished:
            return
        if self.guard is None:
            self.conclude(self.text)
            return
        draft = self.guard.draft(self.written)
        middle = self.gap.longest_middle(draft) if self.gap else None
        if middle is not None:
            self.conclude(middle, fits_gap=True)
            return
        completion, kept = draft.clean_end(is_whole=self.ended)
        if self.written[kept:].strip():
            self.rejected_tokens[CUT_OFF] += self.guard.history.tokens_from(kept)
            if self.trace:
                self.trace.take_back(len(self.ids), kept, self.written[kept:], CUT_OFF)
        self.conclude(completion)

    def conclude(self, completion: str, *, fits_gap: bool = False) -> None:
        """Make this the completion, or as much of it as fits the gap."""
        if self.gap and not fits_gap:
            middle = self.gap.fit(completion)
            fits_gap, completion = middle is not None, completion if middle is None else middle
        self.completion = completion
        self.guaranteed = fits_gap if self.gap else self.guard is not None

    def break_off(self) -> None:
        """End now, with what is settled: the user has interrupted."""
        if not self.finished:
            self.conclude(self.text)


def stop_at(sample: Sample, place: int, *, is_exact: bool) -> None:
    """End a text at a place, closing what is open there; is_exact: adding nothing, valid or not."""
    sample.written, sample.ended, sample.completion = sample.written[:place], True, None
    sample.settled = len(sample.written)
    if sample.guard is None or is_exact:
        sample.conclude(sample.written)
        if sample.guard and not sample.gap:
            flags = sample.guard.history.lines[0].accepted.flags
            sample.guaranteed = is_complete(sample.guard.prompt_end + sample.written, flags)
    else:
        sample.guard.parser = None  # that of the text before it was cut
        sample.finish()


def note_refusal(sample: Sample, spelling: bytes) -> None:
    """Take down a token that was drawn and is not taken: nothing that Python allows begins with it."""
    if sample.trace:
        new = spelling[min(len(sample.pending_prompt_bytes), len(spelling)) :]
        sample.trace.refuse(len(sample.written), new.decode(errors="replace"), REFUSED)
