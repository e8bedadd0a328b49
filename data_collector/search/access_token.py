"""The user's GitHub token: where it lies, and whether it can be one. It is sent to the API alone.

A file of its own: it shows at a glance everything that reads the token.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from collector_cli import UserError

TOKEN_FILE = Path("token.txt")
VARIABLE = "GITHUB_TOKEN"
PLACEHOLDER = "replace_this"  # of token.txt.example
NEW_TOKEN = "make one at https://github.com/settings/personal-access-tokens (it needs no permissions)"


class TokenFileError(UserError):
    """A token that cannot be read or cannot be one: where it lies and what to do, never the token itself."""


@dataclass(frozen=True)
class AccessToken:
    """A token and where it came from, in words; None for anonymous searches."""

    value: str | None = field(repr=False)
    origin: str


def read_token(file: Path | None) -> AccessToken:
    """The token of the file, else of token.txt in the current directory, else of GITHUB_TOKEN, else none."""
    if file is None and TOKEN_FILE.is_file():
        file = TOKEN_FILE
    if file is not None:
        try:
            text = _without_comments(file.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise TokenFileError(
                f"the token cannot be read ({reason}): {file.absolute()}: write it there, or {NEW_TOKEN}"
            ) from None
        return _checked(text, str(file.absolute()))
    if text := os.environ.get(VARIABLE, "").strip():
        return _checked(text, f"the variable {VARIABLE}")
    return AccessToken(None, "")


def _without_comments(text: str) -> str:
    """All lines but those that begin with "#", as token.txt.example has them."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()


def _checked(text: str, origin: str) -> AccessToken:
    is_token = 8 <= len(text) <= 512 and text.isascii() and text.isprintable() and " " not in text
    if not is_token or PLACEHOLDER in text:
        raise TokenFileError(f"not a token: {origin}: {NEW_TOKEN} and put it there as one line, or remove it")
    return AccessToken(text, origin)
