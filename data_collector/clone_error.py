"""Why a repository could not be fetched, by git's complaints: for good, for now, or this machine's fault."""

from __future__ import annotations

import errno
import os
import re

GONE = (
    (r"repository .*not found|error: 404", "not found: deleted, renamed or private"),
    # GitHub answers so for what does not exist too, in order not to tell
    (
        r"could not read Username|Authentication failed|error: 401",
        "private or deleted: it asks for a password",
    ),
    (r"DMCA|error: 451|unavailable due to", "blocked for legal reasons"),
    (r"access blocked|has been disabled|error: 403", "blocked by its host"),
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

    is_outage: not this repository but its host, or the way there, seems to be at fault.
    """

    def __init__(self, state: str, reason: str, *, is_outage: bool = False) -> None:
        super().__init__(reason)
        self.state = state
        self.is_outage = is_outage


class TooLargeError(CloneError):
    """A repository beyond a bound: which one."""

    def __init__(self, bound: str) -> None:
        super().__init__("gone", f"too large: more than {bound}")


class CloneStopped(Exception):  # noqa: N818 - no error: the user asked for it
    """The run ends before this clone did."""


def classify(stderr: str) -> CloneError:
    """What git's complaint means: gone for good, or worth another try.

    Raises OSError where this machine's disk is at fault: the next repository would fare no better.
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
