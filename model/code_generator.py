"""Reads GPyT/, the model that model/train.py wrote, and writes Python code that continues a prompt.

    python model/code_generator.py                           # an interactive prompt; /help lists commands
    python model/code_generator.py --prompt "def fibonacci(n):"
    cat half_a_file.py | python model/code_generator.py --temperature 0 > whole_file.py
    python model/code_generator.py --prompt "import os" --samples 3 --seed 1

One-shot use (--prompt, or standard input that is not a terminal) prints exactly the prompt's characters, its
completion and one newline on standard output, nothing else: a file that can be saved as it is. Several
samples are separated by a line "# sample 2 of 3".

What is printed compiles as Python wherever the prompt can be the beginning of a program; each line appears
when it is known to be good. Writing stops at the model's end-of-text token; of a prompt longer than the
model's context the end is read. Ctrl-C ends it early and leaves what was written.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from decoding_settings import SETTINGS, Decoding, number_between

if TYPE_CHECKING:
    import torch
    from completion import Completer
    from continuation import Continuation
    from pretrained import Pretrained

# Below this many parameters a matrix product is over before a second thread has woken up: measured on 5.3 M,
# 0.57 ms of CPU a token on one thread, 0.97 ms (0.49 ms of wall clock) on two.
ONE_THREAD_PARAMETERS = 20_000_000


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the docstring's lines and shows every default, in words where None stands for something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    inputs = parser.add_argument_group("what is read")
    inputs.add_argument("--model", type=Path, default="GPyT", metavar="FOLDER", help="the model's folder")
    inputs.add_argument(
        "--prompt",
        metavar="TEXT",
        help='the code to continue; "" starts an empty file (default: standard input; on a terminal, ask)',
    )
    writing = parser.add_argument_group("how it is continued")
    for setting in dataclasses.fields(Decoding):
        if setting.name == "valid":
            continue
        parse, explanation = SETTINGS[setting.name]
        shown = " (default: a random one each time)" if setting.default is None else ""
        writing.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=parse,
            default=setting.default,
            metavar="N" if isinstance(setting.default, int | None) else "X",
            help=explanation + shown,
        )
    writing.add_argument(
        "--no-valid",
        dest="valid",
        action="store_false",
        help="whatever the model writes; default: only what compiles, see above",
    )
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where the model runs"
    )
    machine.add_argument(
        "--threads",
        type=number_between(int, 0, 1024),
        default=0,
        metavar="N",
        help="CPU threads; 0 = one for models of less than 20 M parameters, else one for each core",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    decoding = Decoding(
        **{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Decoding)}
    )
    is_interactive = arguments.prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    from pretrained import PretrainedError, read_pretrained

    try:
        pretrained = read_pretrained(arguments.model)
        if is_interactive:
            from prompt_session import converse

            return converse(
                pretrained, lambda: load(pretrained, arguments.device, int(arguments.threads)), decoding
            )
        prompt = read_prompt(arguments.prompt)
        return complete_once(load(pretrained, arguments.device, int(arguments.threads)), prompt, decoding)
    except PretrainedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def read_prompt(given: str | None) -> str:
    """The prompt to the character: --prompt, or standard input's bytes with their own line ends.

    Raises:
        PretrainedError: it is no UTF-8 text.
    """
    from pretrained import PretrainedError

    try:
        if given is not None:
            given.encode()  # an argument that was no UTF-8 arrives with lone surrogates
            return given
        if sys.stdin.isatty():
            print("type the code to continue, then Ctrl-D on a line of its own", file=sys.stderr)
        return sys.stdin.buffer.read().decode()
    except UnicodeError as error:
        where = "--prompt" if given is not None else "standard input"
        raise PretrainedError(f"the prompt is not UTF-8 text ({error}): {where}: give Python code") from None


def load(pretrained: Pretrained, device_name: str, threads: int) -> Completer:
    """The folder's model on its device; torch is imported here."""
    import torch
    from completion import Completer
    from inference import GPT2, has_half_products
    from pretrained import load_weights

    if threads or pretrained.parameters < ONE_THREAD_PARAMETERS:
        torch.set_num_threads(threads or 1)
    device, dtype = choose_device(device_name)
    weights = load_weights(pretrained, device, dtype)
    model = GPT2(pretrained.config, weights, half=has_half_products(device))
    return Completer(model, pretrained.vocabulary)


def choose_device(name: str) -> tuple[torch.device, torch.dtype]:
    """The device and the type that it computes in: bf16 where a GPU has it, else fp32."""
    import torch
    from pretrained import PretrainedError

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_there in available.items() if is_there)
    if not available[name]:
        raise PretrainedError(
            f"torch {torch.__version__} finds no such device here: {name}: use --device cpu"
        )
    has_bf16 = name == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.device(name), torch.bfloat16 if has_bf16 else torch.float32


def start(completer: Completer, prompt: str, decoding: Decoding) -> list[Continuation]:
    """The samples before their first token, held to valid Python where the prompt allows it."""
    from valid_code import NotPythonError

    try:
        return completer.start(prompt, decoding)
    except NotPythonError as error:
        print(f"note: {error.advice}", file=sys.stderr)
        return completer.start(prompt, dataclasses.replace(decoding, valid=False))


def complete_once(completer: Completer, prompt: str, decoding: Decoding) -> int:
    """Print the prompt and each completion: the first as it is written, the others after it."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends this as it ends cat
    completions = start(completer, prompt, decoding)
    emit(prompt)
    code = 0
    try:
        for number, text in completer.write(completions, decoding):
            if number == 0:
                emit(text)
    except KeyboardInterrupt:
        code = 130
    emit("\n")
    for number, completion in enumerate(completions[1:], start=2):
        emit(f"# sample {number} of {len(completions)}\n{prompt}{completion.text}\n")
    if code:
        print("interrupted: what was written so far is above", file=sys.stderr)
    return code


def emit(text: str) -> None:
    """Print the characters as UTF-8, with the line ends they have, at once."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    raise SystemExit(main())
