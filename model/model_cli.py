"""What the scripts of model/ share: --help and --version, error lines, exit codes, the next command.

It imports no package of this folder: they import it. As no folder imports another, collector_cli.py,
preprocess_cli.py and model_cli.py say the same: change all three. What one of them needs alone is at its end.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal without its enumerations: they take long
import os
import sys


def end_at_once(*_: object) -> None:
    """Ctrl-C where nothing is at stake: while a script imports what it needs, and when its work is done."""
    try:
        os.write(2, b"\ninterrupted\n")
    finally:
        os._exit(130)


def is_for(script: str) -> bool:
    """Whether this module belongs to the script that runs, not to a test or a worker of one."""
    folder = os.path.realpath(__file__).rpartition(os.sep)[0]
    return os.path.realpath(script).rpartition(os.sep)[0] == folder


# Before anything else is imported, which is why scripts import this module first.
is_script = is_for(getattr(sys.modules["__main__"], "__file__", None) or "")
if is_script and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not as under nohup
    _signal.signal(_signal.SIGINT, end_at_once)

import argparse
import io
import re
import shlex
import shutil
import signal
import stat
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

PROJECT = Path(__file__).resolve().parent.parent

# Exit codes; argparse exits with USAGE by itself. GAPS: finished, and what is missing is named.
DONE, ERROR, USAGE, GAPS, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = (
    "exit codes: 0 done, 1 error, 2 wrong usage, 3 finished with gaps that are named, 130 interrupted"
)

WIDEST_HELP = 110  # columns; longer lines are hard to read


class UserError(Exception):
    """What the user can correct: what happened, which input (absolute path), what to do."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Fits the docstring to the terminal; shows each default, unless there is none or the words state it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(shutil.get_terminal_size().columns - 2, WIDEST_HELP))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_stated = action.nargs == 0 or action.default is None or "default" in (action.help or "")
        return action.help if is_stated else super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap the paragraphs; lines that are indented are commands, what they print, or a table."""
        paragraphs = []
        for paragraph in re.split(r"\n\s*?\n", text.strip("\n")):
            if paragraph.startswith(" "):
                paragraphs.append("\n".join(fit_line(line, width) for line in paragraph.splitlines()))
            else:
                paragraphs.append(
                    textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False)
                )
        return "\n\n".join(paragraphs)


def fit_line(line: str, width: int) -> str:
    r"""An indented line in lines of at most width characters; a command, after its comment, can be pasted.

    >>> print(fit_line("  python a.py --limit 10    # a few", 16))
      # a few
      python a.py \\
          --limit 10
    """
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    if not re.match(r"\s*(python|torchrun|bash|cat) ", line):
        return textwrap.fill(
            line, width, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False
        )
    command, _, comment = line.strip().partition("  # ")
    lines = textwrap.wrap(comment, width, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    current = indent
    for word in shlex.split(command, posix=False):
        if current.strip() and len(current) + len(word) + 2 > width:
            lines.append(f"{current}\\")
            current = f"{indent}    "
        current += f"{word} "
    return "\n".join([*lines, current.rstrip()])


class ScriptParser(argparse.ArgumentParser):
    """Answers a wrong command with one line, which names the option that was probably meant."""

    def error(self, message: str) -> NoReturn:
        what, _, words = message.partition("unrecognized arguments: ")
        if not what and words:
            message = self._unknown(words.split())
        self.exit(USAGE, f"error: {message} (see --help)\n")

    def _unknown(self, words: list[str]) -> str:
        import difflib  # only after a mistake: a start has no time for it

        names = [word.partition("=")[0] for word in words if word.startswith("-")]
        for name in names:
            if near := difflib.get_close_matches(name, self._option_string_actions, 1):
                return f"unknown option {name}: did you mean {near[0]}?"
        return f"unknown option {names[0]}" if names else f"not an option: {' '.join(words)}"


class ShowVersion(argparse.Action):
    """--version: reads the file VERSION only when it is asked for."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        show(f"GPyT {(PROJECT / 'VERSION').read_text(encoding='utf-8').strip()}")
        parser.exit()


def script_parser(docstring: str | None, table: str = "") -> argparse.ArgumentParser:
    """A parser whose --help is the script's docstring, a table and the exit codes; it knows --version.

    From here on the script outlives whoever reads its output.
    """
    outlive_readers()
    epilog = "\n\n".join(part for part in (table, EXIT_CODES) if part)
    parser = ScriptParser(
        usage="%(prog)s [options]", description=docstring, epilog=epilog, formatter_class=HelpFormatter
    )
    version = "print the version and exit"
    parser.add_argument("--version", action=ShowVersion, nargs=0, default=argparse.SUPPRESS, help=version)
    return parser


def run_script(run: Callable[[], int], *, interrupted: str, place: Path | str, remedy: str) -> int:
    """Run a script's work and turn what ends it into one line on standard error and an exit code.

    interrupted: what Ctrl-C leaves, in words. place, remedy: where an error of the disk happened if it names
    no file itself, and what to do about it.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        try:
            if before is end_at_once:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            code = run()
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk shows here, not while Python shuts down
            return code
        finally:
            if before is end_at_once:
                signal.signal(signal.SIGINT, before)  # nor does a second Ctrl-C disturb what is said
    except KeyboardInterrupt:
        warn(f"\ninterrupted: {interrupted}")
        return INTERRUPTED
    except UserError as error:
        warn(f"error: {printable(str(error))}")
        return ERROR
    except OSError as error:
        where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else place
        shown = where.absolute() if isinstance(where, Path) else where
        warn(f"error: {error.strerror or error}: {shown}: {remedy}")
        return ERROR


class OutlivedPipe(io.FileIO):
    """A pipe. Once its reader has gone away (`| head -1`), everything written to it is dropped.

    The work is worth more than the lines about it: the run continues, and its exit code stays true.
    """

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(content).nbytes


def outlive_readers() -> None:
    """Make standard output and standard error an OutlivedPipe each, if they are pipes or sockets."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            mode = os.fstat(stream.fileno()).st_mode
        except (AttributeError, OSError, ValueError):  # closed, or in memory
            continue
        if (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            pipe = OutlivedPipe(stream.fileno(), "w", closefd=False)
            is_unbuffered = isinstance(stream.buffer, io.RawIOBase)
            text = io.TextIOWrapper(
                pipe if is_unbuffered else io.BufferedWriter(pipe),
                stream.encoding,
                stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, text)


def show(text: str) -> None:
    """Print a result on standard output, at once."""
    print(text, flush=True)


def warn(text: str, end: str = "\n") -> None:
    """Print progress, or what went wrong, on standard error, at once."""
    print(text, end=end, file=sys.stderr, flush=True)


def printable(text: str) -> str:
    r"""A stranger's words without anything that a terminal would obey: an escape character becomes \x1b."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """1, "file" -> "1 file"; 1200, "file" -> "1,200 files" """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def next_command(script: str, *arguments: str) -> str:
    """A command of this project as it can be typed here: "python preprocess/data_cleaner.py"."""
    path = script if Path.cwd() == PROJECT else str(PROJECT / script)
    return shlex.join(["python", path, *arguments])


@contextmanager
def loading() -> Iterator[None]:
    """Ctrl-C ends at once: numba and llvmlite swallow a KeyboardInterrupt while they compile."""
    before = signal.getsignal(signal.SIGINT)
    is_ours = is_script and before is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, end_at_once)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, before)


def prompt_command(folder: Path) -> str:
    """The command that asks a folder's model for code."""
    arguments = [] if folder == Path("GPyT") else ["--model", str(folder)]
    return next_command("model/code_generator.py", *arguments)
