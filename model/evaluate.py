"""Reads GPyT/ and the held-out files of data.txt and says how good the model is.

    python model/evaluate.py                        # GPyT/, beside compressors on the same bytes
    python model/evaluate.py GPyT old/GPyT          # side by side, compared file by file
    python model/evaluate.py --kilobytes 1000       # on more text: narrower intervals
    python model/evaluate.py --humaneval 10         # also 10 programs a problem, in a sandbox
    python model/evaluate.py --explain octo/cat/src/a.py    # one file, what each token costs

    8.000  guessing
    2.172  xz -9e
    1.896  PPMd
    1.517  PPMd after 10 MB of training text
    1.394  GPyT, 1.34 to 1.45

All files were held out of training: one of each repository in turn. Every figure has a 95 % interval. The
figures go to scores.json and, as a page, to scores.html in the model's folder; with several models, in
scores/. A part that is up to date is not measured again, so after a kill the same command continues.
"""

from __future__ import annotations

from model_cli import DONE, GAPS, UserError, run_script, script_parser, show, warn

# isort: split
import argparse
import contextlib
import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.decoding import number_between
from pretrained.corpus_files import check_corpus

if TYPE_CHECKING:
    from data_loading.token_file import TokenDataset
    from evaluation.held_out_texts import Evaluated, Sample

MOST_MODELS = 10


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    inputs = parser.add_argument_group("what is read")
    inputs.add_argument(
        "models",
        type=Path,
        nargs="*",
        metavar="MODEL",
        help="folders of models; the first is compared with each of the others (default: GPyT)",
    )
    inputs.add_argument("--data", type=Path, default="data.txt", metavar="PATH", help="a file or a folder")
    inputs.add_argument(
        "--kilobytes",
        type=number_between(int, 0, 2**31 - 1),
        metavar="N",
        help="held-out text to measure on, 0 = all of it (default: train.py's own sample, about 256)",
    )
    parts = parser.add_argument_group("what is measured")
    parts.add_argument(
        "--parts",
        type=parts_to_measure,
        default="read,write",
        metavar="PARTS",
        help="read: how well the model predicts; read,write: also what it writes, which takes minutes",
    )
    parts.add_argument(
        "--samples",
        type=number_between(int, 1, 10_000),
        default=100,
        metavar="N",
        help="places in held-out files at which the model writes",
    )
    parts.add_argument(
        "--max-new-tokens",
        type=number_between(int, 1, 100_000),
        default=200,
        metavar="N",
        help="length of each text that it writes",
    )
    parts.add_argument(
        "--humaneval",
        type=number_between(int, 0, 1000),
        default=0,
        metavar="N",
        help="programs to write and run for each of HumanEval's 164 problems, 0 = off",
    )
    parts.add_argument(
        "--sandbox",
        choices=("auto", "bwrap", "sandlock", "none"),
        default="auto",
        help="what isolates these programs; none: nothing, for a machine that is thrown away afterwards",
    )
    parts.add_argument(
        "--seed",
        type=number_between(int, 0, 2**31 - 1),
        default=0,
        metavar="N",
        help="draws places and texts",
    )
    outputs = parser.add_argument_group("what is written")
    outputs.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where scores.json goes (default: the model's folder; for several models, scores)",
    )
    outputs.add_argument(
        "--explain",
        metavar="PATH",
        help="show what each line and token of one file costs, and write nothing; a file of this machine, or"
        " owner/repository/path.py of data.txt (default: none)",
    )
    outputs.add_argument("--json", action="store_true", help="print scores.json instead of the table")
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where the model runs"
    )
    machine.add_argument(
        "--threads", type=number_between(int, 0, 1024), default=0, metavar="N", help="0 = one per core"
    )
    return parser


def parts_to_measure(text: str) -> tuple[str, ...]:
    """ "read,write" -> ("read", "write"): there is no writing without reading."""
    parts = tuple(text.split(","))
    if parts[0] != "read" or parts[1:] not in ((), ("write",)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither read nor read,write")
    return parts


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    arguments.models = arguments.models or [Path("GPyT")]
    if len(arguments.models) > MOST_MODELS:
        parser.error(f"at most {MOST_MODELS} models can be compared")
    return run_script(
        lambda: explain(arguments) if arguments.explain else evaluate(arguments),
        interrupted="finished parts are kept; the same command continues",
        place=output_of(arguments).absolute(),
        remedy="it needs free space and must be writable, or choose another --output",
    )


def output_of(arguments: argparse.Namespace) -> Path:
    """The folder of scores.json."""
    if arguments.output:
        return Path(arguments.output)
    return Path(arguments.models[0]) if len(arguments.models) == 1 else Path("scores")


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure what is not up to date, keep each part as soon as it is there, and show the table."""
    from evaluation.held_out_texts import names_of, open_model
    from evaluation.problems import read_problems
    from evaluation.score_record import PAGE, RECORD, read_scores
    from evaluation.score_table import notes, table
    from gpt2.device import limit_spinning

    started = time.monotonic()
    limit_spinning()
    check_folders(arguments)
    if arguments.humaneval:
        read_problems()  # raises at once, not after minutes, if they are missing
    names = names_of(arguments.models)
    path = output_of(arguments) / RECORD
    earlier = [read_scores(path)]
    for folder in arguments.models:
        with contextlib.suppress(UserError):  # what is there is not ours, and stays as it is
            earlier.append(read_scores(folder / RECORD))
    models = [open_model(folder, name) for folder, name in zip(arguments.models, names, strict=True)]
    work = Evaluation(arguments, models, earlier, path)
    work.run()
    for note in notes(work.record):
        warn(f"note: {note}")
    write_page(path.with_name(PAGE), work.record, arguments)
    text = json.dumps(work.record, indent=2, ensure_ascii=False) if arguments.json else table(work.record)
    show(text)
    measured = ", ".join(work.measured) or "nothing, everything is up to date"
    warn(f"measured {measured}, in {time.monotonic() - started:.1f} s")
    warn(f"wrote {path.absolute()} and the page {path.with_name(PAGE).absolute()}")
    if work.missing:
        warn(f"not measured: {work.missing}")
    learnt = [m for m in work.record["models"] if m["reading"]["known"]["is_clean"] is False]
    return GAPS if learnt or work.missing else DONE


def write_page(path: Path, record: dict[str, Any], arguments: argparse.Namespace) -> None:
    """scores.html. Raises UserError if a file of that name is there that this program did not write."""
    from evaluation.score_page import GENERATOR, score_page
    from evaluation.score_record import not_ours
    from pretrained.atomic_write import write_atomic

    if path.exists() and GENERATOR.encode() not in path.read_bytes()[:1000]:
        raise not_ours(path)
    names = [model["name"] for model in record["models"]]
    options = [] if arguments.kilobytes is None else ["--kilobytes", str(arguments.kilobytes)]
    command = shlex.join(["python", "model/evaluate.py", *names, *options])
    write_atomic(path, score_page(record, command).encode())


def explain(arguments: argparse.Namespace) -> int:
    """Show one file with what each of its tokens costs the model."""
    from rich.console import Console

    from evaluation.held_out_texts import find_tokens, load_network, open_model
    from evaluation.score_table import explained
    from evaluation.scoring import first_choices
    from gpt2.device import find_machine

    check_folders(arguments)
    machine = find_machine(arguments.device, "float32", arguments.threads or None)
    model = open_model(arguments.models[0], str(arguments.models[0]))
    tokens = find_tokens(arguments.explain, arguments.data, model, machine, warn)
    network = load_network(model, machine)
    seen = first_choices(network, tokens, model.begin_id, model.pretrained.vocabulary)
    Console(width=1 << 16, soft_wrap=True, highlight=False).print(explained(seen), end="\n")
    size = int(model.spellings.length[tokens].sum())
    bits = sum(cost for _, cost, _ in seen)
    warn(f"{bits:,.0f} bits for {size:,} bytes: {bits / max(1, size):.3f} bits per byte")
    return DONE


def check_folders(arguments: argparse.Namespace) -> None:
    """Raises UserError at once for a missing input that would only be noticed later."""
    output = output_of(arguments).absolute()
    if output.exists() and not output.is_dir():
        raise UserError(f"not a folder: {output}: choose another --output")
    for folder in arguments.models:
        if not folder.is_dir():
            raise UserError(f"no model folder: {folder.absolute()}: train a model: python model/train.py")
    check_corpus(arguments.data)


@dataclass
class Evaluation:
    """The parts of the record, each measured unless it is up to date, and written as soon as it is there."""

    arguments: argparse.Namespace
    models: list[Evaluated]
    earlier: list[dict[str, Any]]  # what earlier runs have written
    path: Path

    def __post_init__(self) -> None:
        from evaluation.score_record import PROGRAM, REVISION

        self.record: dict[str, Any] = {"program": PROGRAM, "revision": REVISION}
        self.measured: list[str] = []
        self.missing = ""  # what could not be measured, and what would help

    def run(self) -> None:
        from evaluation.held_out_texts import load_dataset, sample_limit, sample_of
        from evaluation.score_record import versions
        from gpt2.device import find_machine

        arguments = self.arguments
        self.machine = find_machine(arguments.device, "float32", arguments.threads or None)
        dataset = load_dataset(arguments.data, self.models[0], self.machine)
        limit = sample_limit(arguments.kilobytes, self.models[0])
        sample = sample_of(arguments.data, limit, dataset, self.models[0])
        self.record |= {
            "data": sample.data,
            "sample": sample.record,
            "versions": versions(),
            "baselines": self.baselines(sample, dataset),
            "models": [model.record for model in self.models],
        }
        self.keep()
        for model, record in zip(self.models, self.record["models"], strict=True):
            record["reading"] = self.reading(model, sample)
            self.keep()
        if "write" in arguments.parts:
            for model, record in zip(self.models, self.record["models"], strict=True):
                record["writing"] = self.writing(model, sample, record)
                self.keep()
        if arguments.humaneval:
            self.solve_problems()
        self.compare()
        self.keep()

    def keep(self) -> None:
        from evaluation.score_record import write_scores

        finished = [model for model in self.record["models"] if "reading" in model]
        write_scores(self.path, {**self.record, "models": finished})

    def baselines(self, sample: Sample, dataset: TokenDataset) -> dict[str, Any]:
        """What compressors make of the sample."""
        from evaluation.held_out_texts import REQUIREMENT, has_ppmd
        from evaluation.score_record import baselines_key, measured_baselines

        if not has_ppmd():
            warn(f"note: PPMd is not measured: python -m pip install {REQUIREMENT}")
        key = baselines_key(sample)
        for record in self.earlier:
            if record.get("baselines", {}).get("key") == key:
                return dict(record["baselines"])
        warn("compressing the sample")
        self.measured.append("compressors")
        return measured_baselines(sample, dataset.train, self.models[0].spellings, key)

    def reading(self, model: Evaluated, sample: Sample) -> dict[str, Any]:
        """The record of a model's pass over the sample."""
        from evaluation.held_out_texts import load_network
        from evaluation.score_record import earlier_part, read, reading_key

        key = reading_key(model, sample, self.machine.device.type)
        part = earlier_part("reading", key, self.earlier)
        if part is not None:
            return part
        warn(f"reading {sample.drawn.text_bytes / 1e3:,.0f} kB with {model.name}")
        self.measured.append(model.name)
        return read(model, load_network(model, self.machine), sample, key)

    def writing(self, model: Evaluated, sample: Sample, record: dict[str, Any]) -> dict[str, Any]:
        """The record of what a model writes; the places that are done are kept on the way."""
        from attribution.copies import SourceNotes
        from evaluation.score_record import UNFINISHED, earlier_part, rounded, writing_key
        from evaluation.writing import Writing, check_package, choose_places, summary
        from generation.completer import load_completer
        from pretrained.provenance import fills_in

        arguments, pretrained = self.arguments, model.pretrained
        key = writing_key(model, sample, arguments.samples, arguments.max_new_tokens, arguments.seed)
        part = earlier_part("writing", key, self.earlier)
        if part is not None:
            return part
        check_package()
        places = choose_places(sample.texts, arguments.samples, arguments.seed)
        if not places:
            warn("note: the sample's files are too short to continue, so nothing is written")
            return {}
        done = (earlier_part(UNFINISHED, key, self.earlier) or {}).get("rows", [])
        warn(f"writing with {model.name} at {len(places):,} places")
        self.measured.append(f"what {model.name} writes")
        completer = load_completer(pretrained, arguments.device)
        sources = SourceNotes(pretrained.folder, pretrained.vocabulary)
        writing = Writing(completer, sources, arguments.max_new_tokens, arguments.seed)

        def save(rows: list[dict[str, Any]]) -> None:
            record[UNFINISHED] = {"key": key, "rows": rows}
            self.keep()

        rows = writing.run(places, done, save)
        record.pop(UNFINISHED, None)
        found = {"key": key, **summary(rows, places)}
        if fills_in(pretrained.folder):
            found["gaps"] = writing.fill_gaps(sample.texts, arguments.seed)
        return dict(rounded(found))

    def solve_problems(self) -> None:
        """HumanEval of each model; without a sandbox it is named as missing."""
        from evaluation.problems import solved
        from evaluation.sandbox import NoSandbox, SandboxError, find
        from evaluation.score_record import UNSOLVED, earlier_part, problems_key, rounded

        options, sandbox = self.arguments, None
        for model, record in zip(self.models, self.record["models"], strict=True):
            key = problems_key(model, options.humaneval, options.seed)
            part = earlier_part("humaneval", key, self.earlier)
            if part is None:
                sandbox = sandbox or find(options.sandbox)
                if isinstance(sandbox, NoSandbox):
                    self.missing = f"HumanEval, which needs a sandbox: {sandbox.message}"
                    return
                warn(f"solving problems with {model.name}, {options.humaneval} programs each, twice")
                self.measured.append(f"HumanEval of {model.name}")
                texts = list((earlier_part(UNSOLVED, key, self.earlier) or {}).get("texts", []))

                def save(texts: list[str], record: dict[str, Any] = record, key: str = key) -> None:
                    record[UNSOLVED] = {"key": key, "texts": texts}
                    self.keep()

                try:
                    found = solved(model.pretrained, options, sandbox, texts, save)
                except SandboxError as error:
                    self.missing = f"HumanEval: {sandbox.tool} did not start a program: {error}"
                    return
                record.pop(UNSOLVED, None)
                part = dict(rounded({"key": key, **found}))
            record["humaneval"] = part
            self.keep()

    def compare(self) -> None:
        """Compare each other model with the first."""
        from evaluation.score_record import comparison

        first, *others = self.record["models"]
        if others:
            self.record["comparisons"] = [comparison(other, first) for other in others]


if __name__ == "__main__":
    raise SystemExit(main())
