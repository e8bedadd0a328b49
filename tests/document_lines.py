"""Lines of data.txt for tests, written by json alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corpus.data_file import Document


def document_line(document: Document) -> bytes:
    """A document as its line of data.txt, newline included."""
    return json.dumps(asdict(document), ensure_ascii=False).encode() + b"\n"
