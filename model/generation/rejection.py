"""The judged text of a sample: which tokens are rejected, and how far the text is taken back.

The parser rejects a token at once if no program continues with it. CPython judges each line when it is whole:
one that no program contains is taken back, and with it the lines since a bracket or a string was opened that
does not close. Text that was shown is never taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from generation.ending import Draft, Gap
from python_syntax.compiler import Accepted, ends_in_empty_continuation, is_viable, lexical_state
from python_syntax.endings import EndingSearch, string_end
from python_syntax.judge import NotPythonError, accept_line, check_encoding, may_be_indented
from python_syntax.prefix_parser import PrefixParser

if TYPE_CHECKING:
    from collections.abc import Set

    from inference.language_model import Array

# A docstring or a bracket that a weak model opens often never closes: after so many tokens it is closed, at
# the last place where that is possible.
OPEN_TOKENS = 96
CHECKED_EVERY = 8  # tokens
CLOSING_ATTEMPTS = 20  # compilations to find out whether a place can be closed
# Tries at a line: each goes back as little as it must, every eighth half of the way to the line's beginning.
# Then the text goes back to the last line that is settled, and after as many tries there it ends.
TRIES_BEFORE_HALF = 8
MOST_TRIES = 64
# Why tokens are rejected.
REFUSED = "refused at once, which costs no pass"
WRONG = "taken back with a line that was wrong"
ENDLESS = "taken back to where a string or bracket could be closed"

NO_TOKENS: frozenset[int] = frozenset()


class Position(NamedTuple):
    """What a sample has read and written up to a place, to return there."""

    ids: int
    characters: int
    tokens: int
    pending_prompt_bytes: bytes
    decoder: tuple[bytes, int]
    log_probability: float


@dataclass
class TokenState:
    """The state before a token, and what the model says there: logits (1, V)."""

    position: Position
    logits: Array
    parser: PrefixParser | None
    forced_bytes: bytes
    token_id: int | None = None  # that was taken here
    banned: set[int] = field(default_factory=set)  # tokens that were rejected here


@dataclass
class LineState:
    """A line end that was accepted."""

    first: int  # number of the first token state after it
    accepted: Accepted
    tries: int = 0  # at the line after it


class Rollback(NamedTuple):
    """Where a sample has to return to, and why."""

    state: TokenState
    reason: str


class History:
    """The states that a judged text can return to: one before each token since the last settled line."""

    def __init__(self, accepted: Accepted) -> None:
        self.tokens: list[TokenState] = []
        self.lines = [LineState(0, accepted)]  # the settled one and those after it
        self.is_given_up = False  # after too many tries

    @property
    def banned(self) -> Set[int]:
        """The tokens that may not be written next."""
        return self.tokens[-1].banned if self.tokens and self.tokens[-1].token_id is None else NO_TOKENS

    def take(self, token_id: int) -> None:
        """Note the token that is written next."""
        self.tokens[-1].token_id = token_id

    def ban_next(self, token_ids: Set[int]) -> None:
        """Never write these tokens next."""
        self.tokens[-1].banned |= token_ids

    def add_line(self, accepted: Accepted, *, is_settled: bool) -> None:
        """Add an accepted line; if it is settled, nothing before it can be taken back any more."""
        if is_settled:
            self.tokens.clear()
            self.lines.clear()
        self.lines.append(LineState(len(self.tokens), accepted))

    def line_of(self, number: int) -> LineState:
        """The line that a token belongs to."""
        return next(line for line in reversed(self.lines) if line.first <= number)

    def token_at(self, characters: int) -> int | None:
        """Number of the token that wrote what follows so many characters; None if it is settled."""
        before = [n for n, state in enumerate(self.tokens) if state.position.characters <= characters]
        return before[-1] if before else None

    def tokens_from(self, characters: int) -> int:
        """How many of the tokens come after so many characters."""
        return sum(state.position.characters >= characters for state in self.tokens)

    def ban(self, number: int) -> None:
        """Never take this token again at its place."""
        token_id = self.tokens[number].token_id
        assert token_id is not None, "a token is banned after it was taken"
        self.tokens[number].banned.add(token_id)

    def ban_after_tries(self, number: int) -> int:
        """Count a try at a token's line and ban a token -> its number, further back after many tries."""
        line = self.line_of(number)
        line.tries += 1
        if line.tries > MOST_TRIES and line is not self.lines[0]:
            line, number = self.lines[0], 0
            line.tries += TRIES_BEFORE_HALF
        elif line.tries % TRIES_BEFORE_HALF == 0:
            number = (line.first + number) // 2
        self.ban(number)
        self.is_given_up = line.tries > MOST_TRIES
        return number

    def ban_end(self, token_id: int) -> None:
        """Ban the end-of-text token, and count a try: a model with no other token left has to stop."""
        self.tokens[-1].banned.add(token_id)
        self.lines[-1].tries += 1
        self.is_given_up = self.lines[-1].tries > MOST_TRIES

    def restore(self, number: int) -> TokenState:
        """Forget a token and all that came after it -> the state before it."""
        self.lines = [line for line in self.lines if line.first <= number]
        del self.tokens[number + 1 :]
        self.tokens[number].token_id = None
        return self.tokens[number]


class GuardedText:
    """The end of a text that must stay the beginning of a program; see refuse and take_back.

    It begins with the top-level statement in which the prompt ends. What lies before `settled` stays.
    """

    def __init__(self, prompt: str, accepted: Accepted) -> None:
        """accepted: the state of the prompt."""
        self.prompt_end = prompt[accepted.start :]
        before = prompt[: accepted.start]
        self.first_lines = before if before.count("\n") < 2 else None  # None: the text begins below them
        self.written = ""
        self.settled = 0  # characters of `written`
        self.parser: PrefixParser | None = PrefixParser().after(self.prompt_end)  # None: state unknown
        self.forced_bytes = b""  # to be written next, because something never closed
        self.history = History(accepted.from_last_statement(prompt))

    def remember(self, position: Position, logits: Array) -> None:
        """Make the present state one to return to; logits (1, V): what the model says here."""
        self.history.tokens.append(TokenState(position, logits, self.parser, self.forced_bytes))

    def add(self, written: str, added: str, tokens: int, *, is_half: bool) -> Rollback | None:
        """Judge what was added to the text; where to return to if it is not good.

        tokens: the number of those written. is_half: the text ends within a UTF-8 character.
        """
        self.written = written
        if self.parser is not None:
            parser = self.parser.after(added)
            if parser is not None and is_half and not parser.takes_any_character:
                parser = None  # half of a letter: letters beyond ASCII are too rare in names to wait for
            if parser is None and not self.forced_bytes:
                return self.refuse()
            self.parser = parser
        if "\n" in added and (rollback := self.judge_lines()):
            return rollback
        return self.close_endless(tokens)

    def refuse(self) -> Rollback:
        """Reject the newest token alone: no program continues with it."""
        newest = len(self.history.tokens) - 1
        state = self.history.tokens[newest]
        if state.token_id in state.banned:  # no other token is left
            return self.take_back(newest)
        self.history.ban(newest)
        return self.restore(newest, REFUSED)

    def take_back(self, number: int) -> Rollback:
        """Return to the state before a token, or further, and do not write the same there again."""
        return self.restore(self.history.ban_after_tries(number), WRONG)

    def restore(self, number: int, reason: str) -> Rollback:
        """Return to the state before a token."""
        state = self.history.restore(number)
        self.written = self.written[: state.position.characters]
        self.parser, self.forced_bytes = state.parser, state.forced_bytes
        return Rollback(state, reason)

    def may_end(self, gap: Gap | None) -> bool:
        """Whether the text is a program as it stands, with what follows its gap if it fills one."""
        text, accepted = self.prompt_end + self.written, self.history.lines[-1].accepted
        if gap:
            return gap.line_end(text, self.parser, accepted) is not None
        return accepted.compiles(text)

    def may_continue(self, added: str, *, is_half: bool, as_comment: bool) -> bool:
        """Whether a program may continue with this text; as_comment: also by beginning a comment."""
        if self.parser is None:
            return True
        parser = self.parser.after(added)
        if parser is None:
            return False
        return (parser.takes_any_character or not is_half) and (as_comment or not parser.in_comment)

    def judge_lines(self) -> Rollback | None:
        """Judge the text up to its last line end, and the indentation after it."""
        end = self.written.rfind("\n") + 1
        text, last = self.prompt_end + self.written[:end], self.history.lines[-1]
        newest = len(self.history.tokens) - 1
        statement = text[last.accepted.start :]
        if ends_in_empty_continuation(statement):
            return self.take_back(newest)
        if statement.endswith("\\\n") and lexical_state(statement).is_continued:
            return None  # it is judged with the line that continues it
        accepted = accept_line(text, last.accepted)
        if accepted is None:
            return self.correct(self.first_error())
        if self.names_unknown_encoding(text):
            return self.take_back(newest)
        if self.parser is None and not may_be_indented(text, self.written[end:], accepted):
            return self.take_back(newest)
        is_settled = accepted.opened_at is None or accepted.opened_at < len(self.prompt_end)
        self.history.add_line(accepted, is_settled=is_settled)
        if is_settled:
            self.settled = len(self.written[:end].rstrip("\n"))
        if self.parser is None:
            self.parser = PrefixParser().after(self.text_from(accepted.start))
        return None

    def names_unknown_encoding(self, text: str) -> bool:
        """Whether a comment in the first two lines makes this a file that Python cannot read."""
        if self.first_lines is None or self.first_lines.count("\n") + text.count("\n") > 2:
            return False  # those lines were judged before
        try:
            check_encoding(self.first_lines + text)
        except NotPythonError:
            return True
        return False

    def close_endless(self, tokens: int) -> Rollback | None:
        """Close a string or bracket that has been open for too many tokens."""
        states = self.history.tokens
        unsettled = tokens - states[0].position.tokens if states else 0
        if unsettled < OPEN_TOKENS or unsettled % CHECKED_EVERY or self.forced_bytes:
            return None
        start = self.history.lines[-1].accepted.start
        opened = self.opening_token(start, lexical_state(self.text_from(start)).opened_at)
        if opened is None or tokens - states[opened].position.tokens < OPEN_TOKENS:
            return None
        closable = self.last_closable(opened, len(states))
        return self.force(*closable) if closable else self.take_back(opened)

    def correct(self, wrong: int) -> Rollback:
        """Take a line back to its first wrong token, or end the string that it is in there."""
        start = self.history.lines[-1].accepted.start
        string = lexical_state(self.text_from(start, wrong)).string
        opened = self.opening_token(start, string[0] if string else None)
        line = self.history.line_of(wrong)
        is_tried_often = line.tries >= MOST_TRIES or line.tries % TRIES_BEFORE_HALF == TRIES_BEFORE_HALF - 1
        closable = None
        if opened is not None and not is_tried_often:
            closable = self.last_closable(opened, wrong, string_only=True)
        if closable is None:
            return self.take_back(wrong)
        rollback = self.force(*closable)
        assert rollback, "the wrong token is taken back"
        return rollback

    def text_from(self, start: int, number: int | None = None) -> str:
        """The text from a place on, up to a token or all of it."""
        states = self.history.tokens
        end = states[number].position.characters if number is not None and number < len(states) else None
        return (self.prompt_end + self.written[:end])[start:]

    def opening_token(self, start: int, offset: int | None) -> int | None:
        """Number of the token that opened what begins `offset` after `start`; None if it is settled."""
        return None if offset is None else self.history.token_at(start + offset - len(self.prompt_end))

    def first_error(self) -> int:
        """Number of the first token of this line that no valid program continues with."""
        line = self.history.lines[-1]
        low, high = line.first, len(self.history.tokens) - 1  # viable before `low`, not after `high`
        while low < high:
            middle = (low + high + 1) // 2
            text = self.text_from(line.accepted.start, middle)
            if lexical_state(text).string or is_viable(text, line.accepted.flags):
                low = middle
            else:
                high = middle - 1
        return low

    def last_closable(self, opened: int, last: int, *, string_only: bool = False) -> tuple[int, bytes] | None:
        """The last state up to `last` in which what a token opened can be closed, and the bytes that do so.

        The number after the last state stands for the present one. None also where it was tried too often.
        """
        accepted = self.history.lines[-1].accepted
        for number in range(last, opened, -1):
            text = self.text_from(accepted.start, number)
            state = lexical_state(text)
            end = string_end(text) if state.string else ""
            if end is None or (string_only and not state.string):
                continue
            end += "" if string_only else state.closing_brackets
            if EndingSearch(accepted.flags, CLOSING_ATTEMPTS).find(text + end) is not None:
                is_tried_often = self.history.line_of(number).tries >= MOST_TRIES
                return None if is_tried_often else (number, end.encode())
        return None

    def force(self, number: int, closing: bytes) -> Rollback | None:
        """Return to a state, if it is a past one, and have these bytes written there: a try at its line."""
        rollback = None
        self.history.line_of(number).tries += 1
        if number < len(self.history.tokens):
            rollback = self.restore(number, ENDLESS)
            rollback.state.forced_bytes = closing
        self.forced_bytes = closing
        return rollback

    def draft(self, written: str) -> Draft:
        """The text with `written` after the prompt, to be ended; it may be cut before each of its tokens."""
        parsers = {state.position.characters: state.parser for state in self.history.tokens}
        parsers[len(written)] = self.parser
        begins = len(self.prompt_end)
        cuts = [(begins + end, parsers[end]) for end in sorted(parsers, reverse=True)]
        return Draft(self.prompt_end + written, begins, self.history.lines[-1].accepted, cuts)
