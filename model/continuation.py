"""One completion while it is written: its tokens, its text, and the way back to its last good line.

Each line is judged when it is whole. A line that no valid program begins with is taken back, and so are the
lines since a bracket or a string was opened that does not close. What has been shown is never taken back.
"""

from __future__ import annotations

import codecs
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from random import Random

from clean_end import clean_end, shared
from ending import Search, string_ends
from fill_in import closing_gap, fitting, longest_middle
from open_brackets import closers, continues_nothing, place_of
from python_parser import is_viable
from reading import Reading
from sampling import Array, log_probability
from stopping import place_to_stop
from valid_code import Standing, holds, indentation_fits, judge
from vocabulary import impossible
from way_back import Line, Step

# A docstring or a bracket that a weak model opens often never closes: after so many tokens it is closed, at
# the last place where that can be done.
OPEN_TOKENS = 96
EVERY = 8  # tokens this is looked at
# Tries at a line: each goes back as little as it must, every eighth half of the way to the line's beginning.
# Then the text goes back to the last line that is settled, and after as many tries there it ends.
TRIES_BEFORE_HALF = 8
MOST_TRIES = 64
# Why tokens are lost.
REFUSED = "refused at once, which costs no pass"
WRONG = "taken back with a line that was wrong"
ENDLESS = "taken back to where a string or bracket could be closed"
CUT_OFF = "cut off at the end"


@dataclass
class Continuation:
    """One sample: what the model has read and written of it."""

    prompt: str
    chance: Random
    ids: list[int]  # all that the model has read: the prompt's tokens and its own
    owed: bytes  # the end of the prompt that the model still has to write again
    max_tokens: int
    suffix: str | None = None  # what comes after the gap that this fills
    stop: str = "none"  # "function" or "statement": end when one is finished
    closing: bytes = b""  # what the model has to write next, because something never closed
    tokens: int = 0
    passes: int = 0  # through the model, those for lines taken back included
    taken_back: Counter[str] = field(default_factory=Counter)  # tokens, by the reason
    window: int = 0  # the first of the ids that the model sees
    raw: str = ""  # all that it has written so far
    final: int | str = 0  # how much of that stays, and at the end the completion itself
    log_probability: float = 0.0  # of what it has written, where that is asked for
    newest: Array | None = None  # what the model says of the newest token, (1, V)
    ended: bool = False  # by the end-of-text token
    finished: bool = False
    steps: list[Step] = field(default_factory=list)  # since the last line that cannot be taken back
    lines: list[Line] = field(default_factory=list)  # from that one on; none: nothing is judged
    near: str = ""  # the end of the prompt from its last top-level statement on, where lines are judged
    reading: Reading | None = None  # of the text from the last top-level statement on, where it is known
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def guard(self, standing: Standing) -> None:
        """Judge every line from here on; standing: that of the prompt."""
        self.near = self.prompt[standing.start :]
        self.reading = Reading().after(self.near)
        self.lines = [Line(0, standing.without_statements_before(self.prompt))]

    @property
    def tries(self) -> int:
        """How often this line has been tried in vain."""
        return self.lines[-1].tries if self.lines else 0

    @property
    def banned(self) -> set[int]:
        """The tokens that may not be written next."""
        return self.steps[-1].banned if self.steps and self.steps[-1].ids == len(self.ids) else set()

    def remember(self, logits: Array, *, keep_logits: bool = False) -> None:
        """Keep what the model says here, for the case that the text is taken back to this place."""
        self.newest = logits if keep_logits else None
        if self.lines:
            counts = len(self.ids), len(self.raw), self.tokens
            owed = self.owed, self.closing, self.decoder.getstate()
            self.steps.append(Step(*counts, *owed, logits, self.reading, self.log_probability))

    def score(self, token_id: int) -> None:
        """Add the log-probability of the token that was taken, by the model itself: at temperature 1."""
        if self.newest is not None:
            self.log_probability += log_probability(self.newest[0], token_id)

    def end(self, token_id: int) -> bool:
        """Take the end-of-text token; False where the text cannot end."""
        if self.lines and not self.may_end():
            self.steps[-1].banned.add(token_id)
            self.lines[-1].tries += 1  # else a model with nothing else left to say would go on for ever
            if self.lines[-1].tries > MOST_TRIES:
                self.finish()
            return self.finished
        self.score(token_id)
        self.ended = True
        self.finish()
        return True

    def may_end(self) -> bool:
        """Whether the text is a program as it stands, with what comes after its gap where it fills one."""
        text, standing = self.near + self.raw, self.lines[-1].standing
        if self.suffix is not None:
            return closing_gap(text, self.suffix, self.reading, standing) is not None
        return holds(text, standing)

    def add(self, token_id: int, spelling: bytes) -> bool:
        """Take a token; False when the text was taken back instead and another is needed."""
        self.score(token_id)
        self.ids.append(token_id)
        paid = min(len(self.owed), len(spelling))
        self.owed = self.owed[paid:]
        if paid < len(spelling):
            self.tokens += 1
            self.closing = self.closing[len(spelling) - paid :]
            added = self.decoder.decode(spelling[paid:])
            self.raw += added
            if not self.lines:
                self.keep(added)
            elif not self.is_good(added):
                return self.finished
            if self.stop != "none":
                self.stop_where_asked()
        if self.tokens >= self.max_tokens:
            self.finish()
        return True

    def stop_where_asked(self) -> None:
        """End the text after the function or statement that was asked for."""
        prompt = self.near if self.lines else self.prompt
        place = place_to_stop(prompt + self.raw, len(prompt), self.stop)
        if place is not None:
            self.raw = self.raw[: max(0, place - len(prompt))]
            self.ended = True
            self.final = len(self.raw.rstrip("\n"))
            self.finish()

    @property
    def text(self) -> str:
        """What stays of the completion whatever comes; it does not end in empty lines."""
        return self.final if isinstance(self.final, str) else self.raw[: self.final]

    def since(self, place: int) -> str:
        """The near end of the prompt and what was written after it, from a place on."""
        return self.near[place:] + self.raw[max(0, place - len(self.near)) :]

    def keep(self, added: str) -> None:
        """Let everything stay that was written; newlines at its end wait until something follows."""
        if rest := added.rstrip("\n"):
            self.final = len(self.raw) - len(added) + len(rest)

    def is_good(self, added: str) -> bool:
        """Judge what was added; take the text back where it is not good."""
        if self.reading is not None:
            reading = self.reading.after(added)
            if reading is not None and self.decoder.getstate()[0] and not reading.takes_any_letter:
                reading = None  # half of a letter: one that is part of names is too rare to wait for
            if reading is None and not self.closing:
                self.refuse()
                return False
            self.reading = reading
        if "\n" in added and not self.accept_line():
            return False
        unsettled = self.tokens - self.first_tokens
        if unsettled >= OPEN_TOKENS and unsettled % EVERY == 0 and not self.closing:
            opened = self.opened_step()
            if opened is not None and self.tokens - self.steps[opened].tokens >= OPEN_TOKENS:
                last = len(self.steps)
                if not self.close(opened, last):
                    self.take_back(opened)
                return len(self.steps) == last
        return True

    @property
    def first_tokens(self) -> int:
        return self.steps[0].tokens if self.steps else self.tokens

    def accept_line(self) -> bool:
        """Judge the text up to its last line end, and the indentation after it."""
        end = self.raw.rfind("\n") + 1
        text, last = self.near + self.raw[:end], self.lines[-1]
        statement = text[last.standing.start :]
        if continues_nothing(statement):
            self.take_back(len(self.steps) - 1)
            return False
        if statement.endswith("\\\n") and place_of(statement).is_continued:
            return True  # no line by itself: it is judged with what it goes on in
        standing = judge(text, last.standing)
        if standing is None:
            self.correct(self.first_error())
            return False
        if self.reading is None and not indentation_fits(text, self.raw[end:], standing):
            self.take_back(len(self.steps) - 1)
            return False
        if standing.opened_at is None or standing.opened_at < len(self.near):
            self.steps.clear()
            self.lines.clear()
            self.final = len(self.raw[:end].rstrip("\n"))
        self.lines.append(Line(len(self.steps), standing))
        if self.reading is None:
            self.reading = Reading().after(self.since(standing.start))
        return True

    def refuse(self) -> None:
        """Take the newest token back alone: no program goes on with it."""
        step = self.steps[-1]
        if self.ids[step.ids] in step.banned:  # nothing else is left to say
            self.take_back(len(self.steps) - 1)
        else:
            step.banned.add(self.ids[step.ids])
            self.restore(len(self.steps) - 1, REFUSED)

    def step_at(self, place: int) -> int | None:
        """The step that wrote the character at a place of the text; None for what is settled."""
        place -= len(self.near)
        before = [index for index, step in enumerate(self.steps) if step.characters <= place]
        return before[-1] if before else None

    def first_error(self) -> int:
        """The step of the first token of this line that no valid program goes on with."""
        line = self.lines[-1]
        start, flags = line.standing.start, line.standing.flags
        low, high = line.step, len(self.steps) - 1  # the state before `low` is viable, before `high + 1` not
        while low < high:
            middle = (low + high + 1) // 2
            text = (self.near + self.raw[: self.steps[middle].characters])[start:]
            place = place_of(text)
            if place.string or is_viable(text, place, flags):
                low = middle
            else:
                high = middle - 1
        return low

    def opened_step(self) -> int | None:
        """The step that opened what is still open, if that was since the last settled line."""
        start = self.lines[-1].standing.start
        opened_at = place_of(self.since(start)).opened_at
        if opened_at is None or start + opened_at < len(self.near):
            return None
        return self.step_at(start + opened_at)

    def correct(self, wrong: int) -> None:
        """Take a line back to its first wrong step, or end the string that the line ended in."""
        start = self.lines[-1].standing.start
        place = place_of((self.near + self.raw[: self.steps[wrong].characters])[start:])
        opened = self.step_at(start + place.string[0]) if place.string else None
        line = self.line_of(wrong)
        is_tried_often = line.tries >= MOST_TRIES or line.tries % TRIES_BEFORE_HALF == TRIES_BEFORE_HALF - 1
        if opened is None or is_tried_often or not self.close(opened, wrong, string_only=True):
            self.take_back(wrong)
        else:
            line.tries += 1

    def close(self, opened: int, last: int, *, string_only: bool = False) -> bool:
        """Go back to the last state up to `last` in which what a step opened can be closed, and do so.

        False where there is none: nothing has changed.
        """
        start, flags = self.lines[-1].standing.start, self.lines[-1].standing.flags
        for step in range(last, opened, -1):
            characters = self.steps[step].characters if step < len(self.steps) else len(self.raw)
            text = (self.near + self.raw[:characters])[start:]
            place = place_of(text)
            end = next(string_ends(text, place.string), None) if place.string else ""
            if end is None or (string_only and not place.string):
                continue
            end += "" if string_only else closers(place)
            if Search(flags, 20).ending(text + end) is not None:
                if step < len(self.steps):
                    self.restore(step, ENDLESS)
                    self.steps[step].closing = end.encode()
                self.closing = end.encode()
                return True
        return False

    def take_back(self, step: int) -> None:
        """Go back to the state before a token, and do not write that token there again."""
        line = self.line_of(step)
        line.tries += 1
        if line.tries > MOST_TRIES and line is not self.lines[0]:
            line, step = self.lines[0], 0
            line.tries += TRIES_BEFORE_HALF
        elif line.tries % TRIES_BEFORE_HALF == 0:
            step = (line.step + step) // 2
        self.steps[step].banned.add(self.ids[self.steps[step].ids])
        self.restore(step)
        if line.tries > MOST_TRIES:
            self.finish()

    def line_of(self, step: int) -> Line:
        """The line that a step belongs to."""
        return next(line for line in reversed(self.lines) if line.step <= step)

    def restore(self, step: int, why: str = WRONG) -> None:
        """Be again in the state before a step's token."""
        self.lines = [line for line in self.lines if line.step <= step]
        del self.steps[step + 1 :]
        state = self.steps[step]
        self.taken_back[why] += self.tokens - state.tokens
        del self.ids[state.ids :]
        self.raw = self.raw[: state.characters]
        self.tokens, self.owed, self.closing = state.tokens, state.owed, state.closing
        self.log_probability = state.log_probability
        if self.newest is not None:
            self.newest = state.logits
        self.reading = state.reading
        self.decoder.setstate(state.decoder)

    def finish(self) -> None:
        """Make the text one that can stand as it is: with the line that is being written, or without it."""
        if self.finished:
            return
        self.finished = True
        if not self.lines:
            return
        judged = self.near + self.raw
        ends = {step.characters: step.reading for step in self.steps} | {len(self.raw): self.reading}
        places = [(len(self.near) + end, ends[end]) for end in sorted(ends, reverse=True)]
        if self.suffix is not None:
            middle = longest_middle(judged, len(self.near), self.suffix, places, self.lines[-1].standing)
            middle = fitting(self.prompt, self.raw, self.suffix) if middle is None else middle
            if middle is not None:
                self.final = middle
                return
        text = clean_end(judged, len(self.near), self.lines[-1].standing, places, is_whole=self.ended)
        self.final = text[len(self.near) :]
        kept = shared(text, judged) - len(self.near)
        lost = [step for step in self.steps if step.characters >= kept]
        self.taken_back[CUT_OFF] += len(lost) if self.raw[kept:].strip() else 0

    def ban_all_but_possible(self, spellings: list[bytes]) -> None:
        """Leave those tokens of the vocabulary that Python could go on with."""
        self.banned.update(impossible(spellings, len(self.owed), partial(self.could_go_on, as_comment=True)))

    def could_go_on(self, spelling: bytes, *, as_comment: bool) -> bool:
        """Whether Python could go on after these bytes: asked where tokens were taken back."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        decoder.setstate(self.decoder.getstate())
        added = decoder.decode(spelling[min(len(self.owed), len(spelling)) :])
        reading = self.reading.after(added) if self.reading else None
        if reading is None:
            return self.reading is None
        is_half = bool(decoder.getstate()[0])
        return (reading.takes_any_letter or not is_half) and (as_comment or not reading.in_comment)
