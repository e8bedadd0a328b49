"""Why a clone failed: its repository is gone, its host is down (a circuit breaker), or our disk is full."""

from __future__ import annotations

import errno
import os
import re
import time
from dataclasses import dataclass, field

from collector_cli import UserError
from search.github_api import FAULT_PATIENCE

TRIP_AFTER = 20  # repositories that fail in a row: the host is down
FIRST_PAUSE = 15.0  # seconds; each further one is twice as long
LONGEST_PAUSE = 300.0

NO_SERVER = "no git server answers at this address"
GONE = (
    (r"repository .*not found|error: 404", "not found: deleted, renamed or private"),
    # GitHub answers the same for what does not exist, so as not to reveal what does
    (
        r"could not read Username|Authentication failed|error: 401",
        "private or deleted: it asks for a password",
    ),
    (r"DMCA|error: 451|unavailable due to", "blocked for legal reasons"),
    (r"access blocked|has been disabled|error: 403", "blocked by its host"),
    (r"is this a git repository", NO_SERVER),
    (
        r"SSL certificate problem|certificate verification failed|SSL: (no alternative )?certificate",
        "the certificate of its server is not valid here",
    ),
    (r"dumb http transport does not support", "its server cannot send a part of a history (dumb HTTP)"),
    (r"transport '.*' not allowed|unsupported protocol", "redirected to a protocol that is not https"),
)
OUTAGE = (
    r"Could not resolve host|Failed to connect|Couldn't connect|Connection (refused|reset|timed out)"
    r"|Operation (timed out|too slow)|network is unreachable|No route to host|error: (429|5\d\d)"
    r"|SSL_ERROR_SYSCALL|gnutls_handshake"
)
DISK = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
}


class CloneError(Exception):
    """A repository that could not be fetched; state is "gone" (for good) or "failed" (worth another try).

    is_outage: its host, or the network, seems to be at fault.
    """

    def __init__(self, state: str, reason: str, *, is_outage: bool = False) -> None:
        super().__init__(reason)
        self.state = state
        self.is_outage = is_outage


class TooLargeError(CloneError):
    """A repository beyond a bound: which one."""

    def __init__(self, bound: str) -> None:
        super().__init__("gone", f"too large: more than {bound}")


class CloneStopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """The run ended before this clone did."""


def classify(stderr: str) -> CloneError:
    """What git's error message means: gone for good, or worth another try.

    Raises OSError if this machine's disk is at fault: the next repository would fail too.
    """
    for words, number in DISK.items():
        if re.search(rf"^(fatal|error): .*{words}$", stderr, re.MULTILINE):
            raise OSError(number, os.strerror(number))
    for pattern, reason in GONE:
        if re.search(pattern, stderr, re.IGNORECASE):
            return CloneError("gone", reason)
    lines = [line for line in stderr.splitlines() if line.strip()] or ["git gave no reason"]
    telling = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
    reason = telling.removeprefix("fatal: ").removeprefix("error: ").strip()[:200]
    return CloneError("failed", reason, is_outage=bool(re.search(OUTAGE, stderr, re.IGNORECASE)))


class OutageError(UserError):
    """The host cannot be cloned from: since when, and what to do."""


@dataclass
class CircuitBreaker:
    """Tells an outage of the host from the faults of single repositories, and pauses cloning while it lasts.

    Without it, a night without a network would mark every repository as failed. With it they wait.
    """

    failed: list[str] = field(default_factory=list)  # ids of the repositories that failed in a row
    resume_at: float = 0.0  # by the monotonic clock
    _first_failure: float = 0.0
    _pauses: int = 0
    _has_worked: bool = False
    _is_disabled: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the host seems to be down, so that only one clone at a time is tried."""
        return len(self.failed) >= TRIP_AFTER and not self._is_disabled

    def record_answer(self) -> None:
        """The host has answered, even if it refused one repository for good."""
        self.failed.clear()
        self._pauses = 0
        self._has_worked = True

    def record_failure(self, id_: str) -> list[str]:
        """One more repository failed, perhaps by the host's fault; the ids of those that must wait again."""
        if not self.failed:
            self._first_failure = time.monotonic()
        self.failed.append(id_)
        if not self.is_open:
            return []
        self.resume_at = time.monotonic() + min(FIRST_PAUSE * 2.0**self._pauses, LONGEST_PAUSE)
        self._pauses += 1
        return list(self.failed) if len(self.failed) == TRIP_AFTER else [id_]

    def disable(self) -> None:
        """From now on count each failure as the fault of its repository."""
        self._is_disabled = True
        self.failed.clear()

    def check(self, reason: str) -> None:
        """Raise OutageError if the outage has lasted too long, at once if no clone has ever worked."""
        has_lasted = time.monotonic() - self._first_failure > FAULT_PATIENCE
        if self.is_open and (has_lasted or not self._has_worked):
            raise OutageError(
                f"{len(self.failed)} repositories in a row could not be cloned ({reason}): "
                "check the network and run the same command again, they still wait"
            )
