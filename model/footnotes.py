"""The lines below a completion in the interactive prompt that name whose code it repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attribution import Attribution
    from pretrained import Pretrained


class Footnotes:
    """What is known of a model's training data; its index is opened at the first completion, not before."""

    def __init__(self, pretrained: Pretrained, *, asked: bool) -> None:
        """asked: whether to say so where there is no index; one that cannot be used is always named, once."""
        self.pretrained = pretrained
        self.opened = False
        self.attribution: Attribution | None = None
        self.problem = ""
        self.asked = asked

    def notes(self, prompt: str, completion: str) -> list[str]:
        """A line for each part of a completion that the training data has; none where it has none."""
        from source_index import INDEX  # numpy: late, torch has brought it by now

        was_told = self.problem
        lines = self._lines(prompt, completion)
        if self.problem:
            is_known = self.asked or (self.pretrained.folder / INDEX).is_file()
            return [] if was_told or not is_known else lines
        return lines

    def answer(self, prompt: str, completion: str) -> list[str]:
        """The same to somebody who asks: also that there is nothing, or why nobody knows."""
        from attribution import NOTHING

        lines = self._lines(prompt, completion) or [NOTHING]
        gap = self.attribution.gap if self.attribution else ""
        return [*lines, f"note: {gap}"] if gap else lines

    def _lines(self, prompt: str, completion: str) -> list[str]:
        from attribution import in_words, open_sources
        from copied_runs import SourceIndexError

        try:
            if not self.opened:
                self.opened = True
                self.attribution = open_sources(self.pretrained.folder, self.pretrained.vocabulary)
            if self.attribution is not None:
                copies = self.attribution.copies(prompt, completion)
                return [f"copied: {in_words(copy, prompt, completion)}" for copy in copies]
        except SourceIndexError as error:
            self.attribution, self.problem = None, f"note: {error}"
        return [self.problem]
