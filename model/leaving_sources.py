"""The end of a run: the index of what it learnt from, and those of the models that it goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from copied_runs import SourceIndex, SourceIndexError
from source_index import INDEX, ancestor_index, write_index
from whole_files import partial

if TYPE_CHECKING:
    from token_dataset import TokenDataset


def leave_sources(dataset: TokenDataset, folder: Path, ancestor: Path | None) -> str:
    """Write sources.index of the training split into a model's folder; ancestor: that of the model before.

    The ancestor's own index comes along as sources.1.index, its ancestor's as sources.2.index. Where it has
    none that can be used, the header names it as untraced, and so does what is returned ("" otherwise).
    """
    carried: list[str] = []
    untraced = ""
    if ancestor is not None:
        try:
            first = SourceIndex(ancestor / INDEX, dataset.tokenizer_sha256)
            known = [first.header.get("data_sha256", ""), *first.header.get("ancestors", [])]
            for number, _ in enumerate(known):
                name = ancestor_index(number) if number else INDEX
                SourceIndex(ancestor / name, dataset.tokenizer_sha256)
            for number, _ in enumerate(known):
                name = ancestor_index(number) if number else INDEX
                _copy(ancestor / name, folder / ancestor_index(number + 1))
            carried, untraced = known, first.header.get("untraced", "")
        except SourceIndexError:
            untraced = ancestor.name
    record = {"tokenizer_sha256": dataset.tokenizer_sha256, "data_sha256": dataset.data_sha256}
    write_index(dataset.train, folder / INDEX, {**record, "ancestors": carried, "untraced": untraced})
    return untraced


def remove_sources(folder: Path) -> None:
    """Leave no names: remove what an earlier part of the run may have written."""
    for path in [folder / INDEX, *folder.glob(ancestor_index("*"))]:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    beside = partial(target)
    try:
        shutil.copyfile(source, beside)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
