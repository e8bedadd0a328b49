"""Reads GPyT/, the model that model/train.py wrote, and writes Python code that continues a prompt.

    python model/code_generator.py                           # an interactive prompt; /help lists commands
    python model/code_generator.py --prompt "def fibonacci(n):"
    cat half_a_file.py | python model/code_generator.py --temperature 0 > whole_file.py
    python model/code_generator.py --prompt "import os" --samples 3 --seed 1

One-shot use (--prompt, --file, or standard input that is no terminal) prints exactly the prompt's characters,
its completion and one newline on standard output, nothing else: a file that can be saved as it is. Several
samples are separated by a line "# sample 2 of 3"; --best prints the one that pyflakes objects to least.

What is printed compiles as Python wherever the prompt can be the beginning of a program; each line appears
when it is known to be good. Writing stops at the model's end-of-text token; of a prompt longer than the
model's context the end is read. Ctrl-C ends it early and leaves what was written. --sources names the
files of the training data that 30 new tokens or more are copied from.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from decoding_settings import SETTINGS, Decoding, number_between

if TYPE_CHECKING:
    from attribution import Attribution
    from completion import Completer
    from pretrained import Pretrained
    from torch_inference import TorchGPT2

# From here on a step waits for its weights: in 8 bits GPT-2 124M takes half of the time that it takes in 16,
# and a GPU is quicker still. Below, 16 bits cost little and no choice shows them (benchmarks/LOG.md).
LARGE_PARAMETERS = 30_000_000
# Where the BLAS that numpy multiplies with looks for the number of its threads, when it is loaded
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the docstring's lines and shows every default, in words where None stands for something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_said = action.default is None or isinstance(action.default, bool)  # a flag is off unless given
        return action.help if is_said else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
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
        "--best", action="store_true", help="of several samples the one with the fewest findings of pyflakes"
    )
    outputs.add_argument(
        "--lint", action="store_true", help="on standard error: what pyflakes finds in what was generated"
    )
    outputs.add_argument(
        "--sources",
        action="store_true",
        help="on standard error (or in --json): which new parts of 30 tokens or more the training data has"
        " word for word, and in whose files; the interactive prompt always says so",
    )
    outputs.add_argument(
        "--json", action="store_true", help="a JSON object a sample: text, tokens, log-probability, timings"
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
        help="whatever the model writes; default: only what compiles, see above",
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
        help="CPU threads that read the prompt, 0 = one for each core; one writes what follows",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.prompt is not None and arguments.file:
        parser.error("--prompt and --file both name the code to continue: give one")
    given = {name: getattr(arguments, name) for name in (*SETTINGS, "valid")}
    decoding = Decoding(**given, scores=arguments.json or arguments.best)
    is_asked = arguments.prompt is not None or arguments.file is not None
    if arguments.threads:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(arguments.threads)))
    from pretrained import PretrainedError, read_pretrained

    try:
        if sys.stdout is None:
            raise PretrainedError("standard output is closed: there is no place for the code")
        if sys.stdin is None and not is_asked:
            raise PretrainedError("standard input is closed: give --prompt or --file")
        pretrained = read_pretrained(arguments.model)
        if not is_asked and sys.stdin.isatty() and sys.stdout.isatty():
            from prompt_session import converse

            return converse(
                pretrained,
                lambda: load(pretrained, arguments.device),
                decoding,
                sources=arguments.sources,
            )
        from fill_in import check_fills_in, split_at_marker
        from one_shot import Output, complete_once

        prompt, suffix = read_prompt(arguments.prompt, arguments.file), arguments.suffix
        if suffix is None and (parts := split_at_marker(prompt)):
            prompt, suffix = parts
        if suffix is not None:
            check_fills_in(pretrained.folder)
        shown = arguments.completion_only, arguments.best, arguments.lint, arguments.json
        attribution = find_sources(pretrained) if arguments.sources else None
        output = Output(*shown, arguments.sources, attribution)
        completer = load(pretrained, arguments.device)
        return complete_once(completer, prompt, suffix, decoding, output)
    except PretrainedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or "standard output or the terminal"
        print(f"error: {error.strerror}: {where}: nothing more can be shown there", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def read_prompt(given: str | None, file: Path | None) -> str:
    """The prompt to the character: --prompt, --file or standard input's bytes with their own line ends.

    Raises:
        PretrainedError: it is no UTF-8 text, or the file cannot be read.
    """
    from pretrained import PretrainedError

    where = "--prompt" if given is not None else str(file.absolute()) if file else "standard input"
    try:
        if given is not None:
            given.encode()  # an argument that was no UTF-8 arrives with lone surrogates
            return given
        if file:
            return file.read_bytes().decode()
        if sys.stdin.isatty():
            print("type the code to continue, then Ctrl-D on a line of its own", file=sys.stderr)
        return sys.stdin.buffer.read().decode()
    except UnicodeError as error:
        raise PretrainedError(f"the prompt is not UTF-8 text ({error}): {where}: give Python code") from None
    except OSError as error:
        raise PretrainedError(f"cannot be read ({error.strerror}): {where}: give Python code") from None


def find_sources(pretrained: Pretrained) -> Attribution | None:
    """The index of the model's training data; None, with a note, where there is none that can be used."""
    from attribution import open_sources
    from copied_runs import SourceIndexError

    try:
        attribution = open_sources(pretrained.folder, pretrained.vocabulary)
    except SourceIndexError as error:
        print(f"note: {error}", file=sys.stderr)
        return None
    if attribution.gap:
        print(f"note: {attribution.gap}", file=sys.stderr)
    return attribution


def load(pretrained: Pretrained, device: str) -> Completer:
    """The folder's model on its device: by numpy and numba on the CPU, by torch elsewhere."""
    from completion import Completer

    is_large = pretrained.parameters >= LARGE_PARAMETERS
    if device == "auto":
        device = "cuda" if is_large and Path("/dev/nvidia0").exists() else "cpu"
    if device == "cpu":
        from compiled_pass import is_compiled
        from inference import GPT2
        from pretrained import load_weights

        if not is_compiled():
            print("note: compiling for this processor, once: some seconds", file=sys.stderr)
        model = GPT2(pretrained.config, load_weights(pretrained), bits=8 if is_large else 16)
        return Completer(model, pretrained.vocabulary)
    return Completer(load_on_gpu(pretrained, device), pretrained.vocabulary)


def load_on_gpu(pretrained: Pretrained, name: str) -> TorchGPT2:
    """The model in bfloat16 where the device computes in it, else in float32."""
    import torch
    from pretrained import PretrainedError
    from torch_inference import TorchGPT2, load_tensors

    is_there = torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()
    if not is_there:
        raise PretrainedError(
            f"torch {torch.__version__} finds no such device here: {name}: use --device cpu"
        )
    has_bf16 = name == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    weights = load_tensors(pretrained, torch.device(name), torch.bfloat16 if has_bf16 else torch.float32)
    return TorchGPT2(pretrained.config, weights)


if __name__ == "__main__":
    raise SystemExit(main())
