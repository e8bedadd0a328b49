"""Reads GPyT/, the model that model/train.py wrote, and writes Python code that continues a prompt.

    python model/code_generator.py                           # an interactive prompt; /help lists commands
    python model/code_generator.py --prompt "def fibonacci(n):"
    cat half_a_file.py | python model/code_generator.py --temperature 0 > whole_file.py
    python model/code_generator.py --prompt "import os" --samples 3 --seed 1

With --prompt, --file or piped input it prints exactly the prompt's characters, the completion and one newline
on standard output, and nothing else: a file that can be saved as it is. Several samples are separated by a
line "# sample 2 of 3"; --best prints one alone, the best of 8 or of as many as --samples says.

The output compiles if the prompt can be the beginning of a Python program; each line appears once it is known
to be valid. Writing stops at the model's end-of-text token. Of a prompt longer than the model's context, only
the end is read. Ctrl-C stops early and keeps what was written. --sources names the training files from which
30 or more new tokens are copied.
"""

from __future__ import annotations

from model_cli import UserError, loading, next_command, run_script, script_parser, warn

# isort: split
import argparse
import dataclasses
import os
import signal
import sys
from pathlib import Path

from inference.decoding import SETTINGS, Decoding, number_between

MARKER = "<FILL>"  # in a prompt: the gap to fill in

BEST_OF = 8  # samples that --best chooses from; they are written together

# The BLAS of numpy reads its number of threads from one of these when it is loaded.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    inputs = parser.add_argument_group("what is read")
    inputs.add_argument("--model", type=Path, default="GPyT", metavar="FOLDER", help="the model's folder")
    inputs.add_argument(
        "--prompt",
        metavar="TEXT",
        help='the code to continue; "" starts an empty file (default: standard input; on a terminal, ask)',
    )
    inputs.add_argument("--file", type=Path, metavar="PATH", help="a file to continue (default: none)")
    inputs.add_argument(
        "--suffix",
        metavar="TEXT",
        help="what follows a gap to fill in (default: none); or write <FILL> in the prompt",
    )
    outputs = parser.add_argument_group("what is printed")
    outputs.add_argument("--completion-only", action="store_true", help="the new part without the prompt")
    outputs.add_argument(
        "--best",
        action="store_true",
        help="print only the best sample, of 8 unless --samples gives another number: no loop, the fewest"
        " pyflakes findings, then what the model found likeliest",
    )
    outputs.add_argument(
        "--lint", action="store_true", help="on standard error: what pyflakes finds in the new part"
    )
    outputs.add_argument(
        "--sources",
        action="store_true",
        help="on standard error (or in --json): which new parts of 30 tokens or more stand word for word in"
        " the training data, and in which files; the interactive prompt always shows it",
    )
    outputs.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object per sample: text, tokens, log-probability, timings",
    )
    writing = parser.add_argument_group("how it is continued")
    for setting in dataclasses.fields(Decoding):
        if setting.name not in SETTINGS or setting.name == "valid":
            continue
        parse, explanation = SETTINGS[setting.name]
        shown = " (default: a random one each time)" if setting.default is None else ""
        writing.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=parse,
            default=setting.default,
            metavar={int: "N", float: "X", str: "WHERE"}.get(type(setting.default), "N"),
            help=explanation + shown,
        )
    writing.add_argument(
        "--no-valid",
        dest="valid",
        action="store_false",
        help="print whatever the model writes (default: only what compiles)",
    )
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where the model runs; auto: an NVIDIA GPU for models of 30 M parameters or more, else the CPU",
    )
    machine.add_argument(
        "--threads",
        type=number_between(int, 0, 1024),
        default=0,
        metavar="N",
        help="CPU threads that read the prompt, 0 = one per core; writing uses one thread",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.prompt is not None and arguments.file:
        parser.error("--prompt and --file both name the code to continue: give one")
    if arguments.best and arguments.samples == 1:
        arguments.samples = BEST_OF
    given = {name: getattr(arguments, name) for name in (*SETTINGS, "valid")}
    decoding = Decoding(**given, scores=arguments.json or arguments.best)
    if arguments.threads:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(arguments.threads)))
    return run_script(
        lambda: generate(arguments, decoding),
        interrupted="no code was written",
        place="standard output or the terminal",
        remedy="nothing more can be shown there",
    )


def generate(arguments: argparse.Namespace, decoding: Decoding) -> int:
    """Read the model, then complete one prompt, or ask for prompts on a terminal."""
    with loading():
        from generation.completer import load_completer
        from pretrained.load import read_pretrained
        from terminal.one_shot import Output, complete_once, note

    is_asked = arguments.prompt is not None or arguments.file is not None
    if sys.stdout is None:
        raise UserError("standard output is closed: there is no place for the code")
    if sys.stdin is None and not is_asked:
        raise UserError("standard input is closed: give --prompt or --file")
    with loading():
        pretrained = read_pretrained(arguments.model)
    tell_stale(pretrained.folder)
    if not is_asked and sys.stdin.isatty() and sys.stdout.isatty():
        from terminal.prompt_session import converse

        return converse(
            pretrained,
            lambda tell: load_completer(pretrained, arguments.device, tell),
            decoding,
            sources=arguments.sources,
        )
    prompt, suffix = read_prompt(arguments.prompt, arguments.file), arguments.suffix
    if suffix is None:
        prompt, suffix = split_at_marker(prompt)
    if suffix is not None:
        check_fills_in(pretrained.folder)
    shown = arguments.completion_only, arguments.best, arguments.lint, arguments.json
    sources = None
    if arguments.sources:
        from attribution.copies import SourceNotes

        sources = SourceNotes(pretrained.folder, pretrained.vocabulary)
    output = Output(*shown, sources)
    with loading():
        completer = load_completer(pretrained, arguments.device, note)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends this as it ends cat
    return complete_once(completer, prompt, suffix, decoding, output)


def tell_stale(folder: Path) -> None:
    """Say if the data or the tokenizer beside a model's folder is newer than the model, and what to do."""
    from pretrained.provenance import inputs_beside, newer_inputs

    newer, beside = newer_inputs(folder), inputs_beside(folder)
    if newer and beside:
        defaults = Path("data.txt").absolute(), Path("tokenizer").absolute(), Path("GPyT").absolute()
        given = zip(("--data", "--tokenizer", "--output"), (*beside, folder), defaults, strict=True)
        options = [word for name, path, default in given if path != default for word in (name, str(path))]
        command = next_command("model/train.py", "--restart", *options)
        warn(f"note: stale: {folder} is older than {' and '.join(map(str, newer))}: {command}")


def read_prompt(given: str | None, file: Path | None) -> str:
    """The prompt, character by character, with its own line ends: --prompt, --file or standard input.

    Raises:
        UserError: it is no UTF-8 text, or the file cannot be read.
    """
    where = "--prompt" if given is not None else str(file.absolute()) if file else "standard input"
    try:
        if given is not None:
            given.encode()  # an argument that is not UTF-8 arrives with lone surrogates
            return given
        if file:
            return file.read_bytes().decode()
        if sys.stdin.isatty():
            print("type the code to continue, then Ctrl-D on a line of its own", file=sys.stderr)
        return sys.stdin.buffer.read().decode()
    except UnicodeError as error:
        raise UserError(f"the prompt is not UTF-8 text ({error}): {where}: give Python code") from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}): {where}: give Python code") from None


def split_at_marker(prompt: str) -> tuple[str, str | None]:
    """split_at_marker("a = <FILL>\\nb") -> ("a = ", "\\nb"); without a marker there is no suffix: None."""
    prefix, marker, suffix = prompt.partition(MARKER)
    return prefix, suffix if marker else None


def check_fills_in(folder: Path) -> None:
    """Make sure that the model was trained to fill in gaps.

    Raises:
        UserError: it was not, or its record does not say so.
    """
    from pretrained.provenance import fills_in

    if not fills_in(folder):
        raise UserError(
            f"this model was trained to continue code, not to fill in gaps: {folder}: "
            f"leave out --suffix and {MARKER}, or train one with --fim-rate 0.5"
        )


if __name__ == "__main__":
    raise SystemExit(main())
