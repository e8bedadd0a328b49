"""The one exception that ends a run with a line instead of a traceback."""

from __future__ import annotations


class CollectorError(ValueError):
    """What a user can mend: what happened, which input (absolute path), what to do."""
