"""The bytes of a Python file -> its text, by the rules of the language itself (PEP 263)."""

from __future__ import annotations

import io
import tokenize


class UndecodableError(ValueError):
    """Bytes that are not text in the encoding which their file declares."""


def decode_source(source: bytes) -> str:
    r"""The text of a Python file: declared encoding, no byte order mark, newlines as \n.

    >>> decode_source(b"# -*- coding: latin-1 -*-\r\nname = '\xe9'\r")
    "# -*- coding: latin-1 -*-\nname = 'é'\n"

    Raises UndecodableError.
    """
    # CPython translates newlines before it looks for the declaration; a lone \r ends a line as well.
    source = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        text = source.decode(encoding)
        if encoding != "utf-8":
            text.encode()  # codecs such as utf-7 can spell half a surrogate pair, which is no character
    except (SyntaxError, LookupError, UnicodeError) as error:
        raise UndecodableError(str(error)) from None
    # Codecs such as utf-7 can spell a \r in other bytes, or bring the mark back.
    return text.removeprefix("\ufeff").replace("\r", "\n") if encoding != "utf-8" else text
