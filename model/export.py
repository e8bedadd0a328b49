"""Reads GPyT/ and writes it for other programs: one GGUF file (llama.cpp), or a folder for CTranslate2.

    python model/export.py --format gguf                  # GPyT/gpyt.gguf
    python model/export.py --format gguf --dtype int8 --force
    python model/export.py --format ctranslate2 --output ct2

    wrote /home/you/GPyT/gpyt.gguf (f16, 2.0 MB) in 1.9 s
    next: llama-server -m GPyT/gpyt.gguf

The weights are the same, in float32, float16 or 8 bits, and so are the tokens. llama.cpp knows the
pre-tokenizers gpt2 and cl100k of preprocess/tokenizer.py; a model with the pre-tokenizer python is refused.
--force replaces an earlier export, but never a file that another program wrote.

GGUF needs `pip install gguf==0.19.0`, CTranslate2 `pip install ctranslate2==4.8.5`.
"""

from __future__ import annotations

from model_cli import DONE, UserError, run_script, script_parser

# isort: split
import argparse
import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pretrained.atomic_write import temporary_path
from pretrained.provenance import sha256_of_files

if TYPE_CHECKING:
    from pretrained.load import Pretrained

# Raise it when the same model gives other files: earlier exports are then no longer up to date.
REVISION = 1
EXPORTED_FROM = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "provenance.json",
)  # and the weights


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument("--format", choices=("gguf", "ctranslate2"), required=True, help="what to write")
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
        help="type of the matrices; int8 is Q8_0 in GGUF: 8.5 bits a weight, a scale for each 32",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace an export of another model or with another --dtype"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    return run_script(
        lambda: export(arguments),
        interrupted="nothing was written",
        place="the disk",
        remedy="choose another --output",
    )


def export(arguments: argparse.Namespace) -> int:
    """Check all that can be checked, then write the export, unless it is there already."""
    from pretrained.load import read_pretrained

    started = time.monotonic()
    pretrained, dtype = read_pretrained(arguments.model), arguments.dtype
    form = load_format(arguments.format)
    output = arguments.output or arguments.model / form.DEFAULT_NAME
    if write_export(form, pretrained, output, dtype, replaces=arguments.force):
        seconds = time.monotonic() - started
        print(f"wrote {output.absolute()} ({dtype}, {megabytes(output)}) in {seconds:.1f} s")
    else:
        print(f"up to date: {output.absolute()} ({dtype}, {megabytes(output)})")
    print(f"next: {form.next_command(output, pretrained)}")
    return DONE


def megabytes(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:,.1f} MB"


class ExportFormat(Protocol):
    """A module of exporting, which knows one format."""

    REQUIREMENT: str  # for pip: "gguf==0.19.0"
    DEFAULT_NAME: str  # in the model's folder
    WRITES_A_FOLDER: bool

    def check(self, pretrained: Pretrained) -> object:
        """Raises UserError if the format cannot hold this model."""

    def write(self, pretrained: Pretrained, path: Path, dtype: str, source: str) -> None:
        """Write the file or folder. dtype: f32, f16 or int8. source: kept in it, for source_of."""

    def source_of(self, path: Path) -> str | None:
        """What an export of this program was made from; None for anything else."""

    def next_command(self, path: Path, pretrained: Pretrained) -> str:
        """How to run the export."""


def load_format(name: str) -> ExportFormat:
    """The module behind --format."""
    if name == "gguf":
        from exporting import gguf_file

        return gguf_file
    from exporting import ctranslate2_folder

    return ctranslate2_folder


def write_export(
    form: ExportFormat, pretrained: Pretrained, output: Path, dtype: str, *, replaces: bool
) -> bool:
    """Write a model to its place; False if this very export is there already.

    replaces: whether an export of another model, or with another dtype, may be replaced.

    Raises:
        UserError: the format cannot hold the model, its package is missing, or the place is taken.
    """
    form.check(pretrained)
    if find_spec(form.REQUIREMENT.partition("==")[0]) is None:
        package = form.REQUIREMENT.partition("==")[0]
        raise UserError(f"the package {package} is missing: run: python -m pip install {form.REQUIREMENT}")
    source = f"{digest_of(pretrained)} {dtype} {REVISION}"
    if is_up_to_date(form, output, source, replaces=replaces):
        return False
    beside = temporary_path(output)
    remove(beside)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        form.write(pretrained, beside, dtype, source)
        if output.is_dir():  # a folder cannot be renamed over one with files in it
            shutil.rmtree(output)
        beside.replace(output)
    except BaseException:
        remove(beside)
        raise
    return True


def is_up_to_date(form: ExportFormat, output: Path, source: str, *, replaces: bool) -> bool:
    """Whether this very export is there; False if it may be written. Raises UserError if not."""
    is_empty_folder = form.WRITES_A_FOLDER and output.is_dir() and not any(output.iterdir())
    if is_empty_folder or not output.exists():
        return False
    there = form.source_of(output)
    if there is None:
        raise UserError(
            f"something is here that export.py did not write: {output.absolute()}: choose another --output"
        )
    if there != source and not replaces:
        raise UserError(
            f"an export of another model or with another --dtype is here: {output.absolute()}: "
            "to replace it add --force"
        )
    return there == source


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest_of(pretrained: Pretrained) -> str:
    """A digest of all files that an export is made from."""
    files = *(pretrained.folder / name for name in EXPORTED_FROM), *pretrained.weight_files
    return sha256_of_files(path for path in files if path.is_file())


if __name__ == "__main__":
    raise SystemExit(main())
