"""Reads GPyT/ and writes it for other programs: one GGUF file (llama.cpp), or a folder of CTranslate2.

    python model/export.py --format gguf                  # GPyT/gpyt.gguf
    python model/export.py --format gguf --dtype int8 --force
    python model/export.py --format ctranslate2 --output ct2

    wrote /home/you/GPyT/gpyt.gguf (f16, 2.0 MB) in 1.9 s
    next: llama-server -m GPyT/gpyt.gguf

The weights are the same, in float32, float16 or 8 bits, and so are the tokens. llama.cpp knows the rules gpt2
and cl100k of preprocess/tokenizer.py, not python: a model with that one is refused. What is there already is
only replaced with --force, and never what another program wrote.

GGUF needs `pip install gguf==0.19.0`, CTranslate2 `pip install ctranslate2==4.8.5`.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from whole_files import partial

if TYPE_CHECKING:
    from pretrained import Pretrained

PACKAGES = {"gguf": "gguf==0.19.0", "ctranslate2": "ctranslate2==4.8.5"}
PLACES = {"gguf": "gpyt.gguf", "ctranslate2": "ctranslate2"}
# Raise it when the same model gives other files: they are then no longer up to date.
REVISION = 1


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The docstring's lines as they are, every option with its default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--format", choices=tuple(PLACES), required=True, help="what to write")
    parser.add_argument(
        "--model", type=Path, default=Path("GPyT"), metavar="FOLDER", help="the model's folder"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="the file or folder to write (default: gpyt.gguf or ctranslate2 in the model's folder)",
    )
    parser.add_argument(
        "--dtype",
        choices=("f32", "f16", "int8"),
        default="f16",
        help="the matrices' numbers; int8 is Q8_0 in GGUF: 8.5 bits a weight, a scale for each 32",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace an export of another model or with another --dtype"
    )
    return parser


class ExportError(ValueError):
    """What keeps a model from being exported, in one line that says what to do."""


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    from pretrained import PretrainedError

    try:
        return export(arguments)
    except (ExportError, PretrainedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = Path(error.filename).absolute() if error.filename else "the disk"
        print(f"error: {error.strerror or error}: {where}: choose another --output", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130


def export(arguments: argparse.Namespace) -> int:
    """Check all that can be checked, then write beside the place and move it there."""
    from pretrained import read_pretrained

    started = time.monotonic()
    kind, dtype = arguments.format, arguments.dtype
    pretrained = read_pretrained(arguments.model)
    output = arguments.output or arguments.model / PLACES[kind]
    if kind == "gguf":
        from gguf_file import check_exportable

        check_exportable(pretrained)
    else:
        from ctranslate2_folder import check_convertible

        check_convertible(pretrained)
    if find_spec(kind) is None:
        raise ExportError(f"the package {kind} is missing: run: python -m pip install {PACKAGES[kind]}")
    source = f"{fingerprint(pretrained)} {dtype} {REVISION}"
    if is_up_to_date(kind, output, source, replaces=arguments.force):
        print(f"up to date: {output.absolute()} ({dtype}, {megabytes(output)})")
    else:
        write(kind, pretrained, output, dtype, source)
        seconds = time.monotonic() - started
        print(f"wrote {output.absolute()} ({dtype}, {megabytes(output)}) in {seconds:.1f} s")
    print(f"next: {next_step(kind, output, pretrained)}")
    return 0


def is_up_to_date(kind: str, output: Path, source: str, *, replaces: bool) -> bool:
    """Whether this very export is there; False where something may be written.

    Raises:
        ExportError: something else is there and is to stay.
    """
    if not output.exists() or (kind == "ctranslate2" and output.is_dir() and not any(output.iterdir())):
        return False
    there = source_of(kind, output)
    if there is None:
        raise ExportError(
            f"something is here that export.py did not write: {output.absolute()}: choose another --output"
        )
    if there != source and not replaces:
        raise ExportError(
            f"an export of another model or with another --dtype is here: {output.absolute()}: "
            "to replace it add --force"
        )
    return there == source


def source_of(kind: str, output: Path) -> str | None:
    """What an earlier export was made from; None for what is none."""
    import ctranslate2_folder
    import gguf_file

    return gguf_file.source_of(output) if kind == "gguf" else ctranslate2_folder.source_of(output)


def write(kind: str, pretrained: Pretrained, output: Path, dtype: str, source: str) -> None:
    """Put the finished file or folder in its place; on an error nothing has changed there."""
    beside = partial(output)
    discard(beside)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        if kind == "gguf":
            from gguf_file import write_gguf

            write_gguf(pretrained, beside, dtype, source)
        else:
            from ctranslate2_folder import write_ctranslate2

            write_ctranslate2(pretrained, beside, dtype, source)
            if output.exists():  # a folder cannot be put over one with files in it
                shutil.rmtree(output)
        beside.replace(output)
    except BaseException:
        discard(beside)
        raise


def discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fingerprint(pretrained: Pretrained) -> str:
    """A digest of all that an export is made from."""
    digest = hashlib.sha256()
    names = (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "provenance.json",
    )
    for path in (*(pretrained.folder / name for name in names), *pretrained.weight_files):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def megabytes(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:,.1f} MB"


def next_step(kind: str, output: Path, pretrained: Pretrained) -> str:
    """How to run what was written; the batch is how much of its context llama.cpp reads around a gap."""
    from fill_in import fills_in

    if kind == "gguf":
        batch = ["-b", str(pretrained.config.n_positions // 2)] if fills_in(pretrained.folder) else []
        return shlex.join(["llama-server", "-m", str(output), *batch])
    return f'python -c "import ctranslate2; ctranslate2.Generator({str(output)!r})"'


if __name__ == "__main__":
    raise SystemExit(main())
