"""A completion ends with the statement or the function that was asked for."""

from __future__ import annotations

import pytest
from stopping import place_to_stop


@pytest.mark.parametrize(
    ("prompt", "written", "stop", "kept"),
    [
        ("def f(x):\n", "    return x\n\n\ny = 1\n", "function", "    return x\n\n\n"),
        (
            "def f(x):",
            "\n    if x:\n        y\n    return x\nz",
            "function",
            "\n    if x:\n        y\n    return x\n",
        ),
        ("class A:\n    def f(self):\n        ", "return 1\n\n    def g", "function", "return 1\n\n"),
        ("", "import os\n\ndef f():\n    pass\n\nx = 1", "function", "import os\n\ndef f():\n    pass\n\n"),
        ("x = ", "1\ny = 2\n", "statement", "1"),
        ("x = ", "f(\n  1)\ny", "statement", "f(\n  1)"),
        ("x = 1\n", "y = 2\nz = 3\n", "statement", "y = 2"),
        ("if x:\n", "    y\nelse:\n    z\nw", "statement", "    y\nelse:\n    z\n"),
        ("def f(x):\n", "    '''a\nb'''\n    return x\n", "function", None),
        ("x = ", "1", "statement", None),
    ],
)
def test_the_text_is_cut_where_it_has_done_what_was_asked(
    prompt: str, written: str, stop: str, kept: str | None
) -> None:
    place = place_to_stop(prompt + written, len(prompt), stop)
    assert (None if place is None else written[: place - len(prompt)]) == kept
