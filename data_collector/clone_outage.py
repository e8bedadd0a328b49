"""An outage of the host that is cloned from, told from the faults of single repositories.

Without it a night without a network would mark every repository as failed. With it they go on waiting.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from collector_error import CollectorError
from github_api import FAULT_PATIENCE

IN_A_ROW = 20  # repositories that fail one after the other, with none between that can be fetched
FIRST_PAUSE = 15.0
LONGEST_PAUSE = 300.0


class OutageError(CollectorError):
    """The host cannot be cloned from: since when, and what to do."""


@dataclass
class CloneOutage:
    """What the last clones tell of their host."""

    failed: list[str] = field(default_factory=list)  # ids of those that failed in a row
    resume_at: float = 0.0  # by the monotonic clock
    _first_fault: float = 0.0
    _pauses: int = 0
    _has_worked: bool = False
    _is_given_up: bool = False

    @property
    def is_on(self) -> bool:
        """Whether the host, not single repositories, is at fault."""
        return len(self.failed) >= IN_A_ROW and not self._is_given_up

    def note_success(self) -> None:
        """The host has answered, be it by refusing one repository for good."""
        self.failed.clear()
        self._pauses = 0
        self._has_worked = True

    def give_up(self) -> None:
        """Take what fails from now on for the fault of each repository."""
        self._is_given_up = True
        self.failed.clear()

    def note_fault(self, id_: str) -> list[str]:
        """One more repository failed by what may be the host's fault; the ids of those that wait again."""
        if not self.failed:
            self._first_fault = time.monotonic()
        self.failed.append(id_)
        if not self.is_on:
            return []
        self.resume_at = time.monotonic() + min(FIRST_PAUSE * 2.0**self._pauses, LONGEST_PAUSE)
        self._pauses += 1
        return list(self.failed) if len(self.failed) == IN_A_ROW else [id_]

    def check(self, reason: str) -> None:
        """Raise OutageError when that has been so for too long, at once if no clone has ever worked."""
        has_lasted = time.monotonic() - self._first_fault > FAULT_PATIENCE
        if self.is_on and (has_lasted or not self._has_worked):
            raise OutageError(
                f"{len(self.failed)} repositories in a row could not be cloned ({reason}): "
                "check the network and run the same command again, they wait"
            )
