"""What the parts of model/evaluate.py cost, and how far each figure moves from sample to sample.

    python benchmarks/evaluating.py --model GPyT --only cost
    python benchmarks/evaluating.py --model GPyT --only spread            # five samples of 256 kB
    python benchmarks/evaluating.py --model GPyT other/GPyT --only spread

Cost: the pass over the sample, compared with train.py's held-out scoring of the same sample, in turn and
several times; then each other part. Spread: the same figures on five samples that have no file in common. A
figure that moves more from sample to sample than from model to model says little when measured on one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from data_loading.token_file import TokenSplit
    from evaluation.held_out_texts import Evaluated, Sample
    from gpt2.device import Machine

SAMPLES = 5


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of all processors together: on a busy machine these say more."""

    clock: float
    processors: float

    def __str__(self) -> str:
        return f"{self.clock:>9.2f} s {self.processors:>9.2f} s"


def timed(work: Callable[[], Any]) -> tuple[Cost, Any]:
    """What something cost, and what came out."""
    clock, processors = time.perf_counter(), time.process_time()
    found = work()
    return Cost(time.perf_counter() - clock, time.process_time() - processors), found


def median(costs: Sequence[Cost]) -> Cost:
    clock = statistics.median(cost.clock for cost in costs)
    return Cost(clock, statistics.median(cost.processors for cost in costs))


def open_models(folders: Sequence[Path], device: str) -> tuple[list[Evaluated], Machine]:
    from gpt2.device import find_machine, limit_spinning

    limit_spinning()
    from evaluation.held_out_texts import open_model

    return [open_model(folder, str(folder)) for folder in folders], find_machine(device, "float32", None)


def draw(split: TokenSplit, kilobytes: int, model: Evaluated) -> Sample:
    from evaluation.held_out_texts import draw_sample

    data = {"name": "", "sha256": ""}
    return draw_sample(split, 1000 * kilobytes, model.spellings, data, model.tokenizer)


def show_cost(model: Evaluated, machine: Machine, options: argparse.Namespace) -> None:
    """Seconds of each part; of the pass and of scoring alone the medians of runs in turn."""
    from attribution.copies import SourceNotes
    from evaluation.bits_per_byte import score
    from evaluation.held_out_texts import load_dataset, load_network
    from evaluation.score_record import known_already, measured_baselines, read
    from evaluation.scoring import read_sample
    from evaluation.token_classes import label
    from evaluation.writing import Writing, choose_places
    from generation.completer import load_completer

    dataset = load_dataset(options.data, model, machine)
    cost, sample = timed(lambda: draw(dataset.held_out, options.kilobytes, model))
    network, texts = load_network(model, machine), [text.text for text in sample.texts]
    tokens = [text.tokens for text in sample.texts]
    rows = [(f"drawing {sample.drawn.text_bytes / 1e3:,.0f} kB", cost)]
    alone, passes, wholes = [], [], []
    for _ in range(options.rounds):
        cost, _ = timed(lambda: score(network, dataset.held_out, sample.drawn.excerpts, model.begin_id))
        alone.append(cost)
        cost, _ = timed(lambda: read_sample(network, tokens, model.begin_id, model.spellings.length))
        passes.append(cost)
        wholes.append(timed(lambda: read(model, network, sample, ""))[0])
    rows.append(("scoring alone, as train.py does", median(alone)))
    rows.append(("the pass", median(passes)))
    rows.append(("classes of all bytes", timed(lambda: [label(text) for text in texts])[0]))
    rows.append(("what is known already", timed(lambda: known_already(model, sample.texts, sample))[0]))
    rows.append(("reading, all of it", median(wholes)))
    train, spellings = dataset.train, model.spellings
    rows.append(("compressors", timed(lambda: measured_baselines(sample, train, spellings, ""))[0]))
    if options.samples:
        completer = load_completer(model.pretrained, "auto")
        sources = SourceNotes(model.pretrained.folder, model.pretrained.vocabulary)
        writing, places = Writing(completer, sources, 200, 0), choose_places(sample.texts, options.samples)
        cost, _ = timed(lambda: writing.run(places, [], lambda _: None))
        rows.append((f"writing at {len(places)} places", cost))
    print(f"{'':<40}{'clock':>9}   {'processors':>9}")
    for name, cost in rows:
        print(f"{name:<40}{cost}")
    for title, costs in (("the pass", passes), ("reading", wholes)):
        ratios = [one.processors / other.processors for one, other in zip(costs, alone, strict=True)]
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"{title} beside scoring alone, by processors: {middle:.3f} times ({low:.3f} to {high:.3f})")


def show_spread(models: Sequence[Evaluated], machine: Machine, options: argparse.Namespace) -> None:
    """The figures of each model on samples without a file in common: mean, and standard deviation."""
    from evaluation.held_out_texts import load_dataset, load_network
    from evaluation.score_record import figures_of
    from evaluation.scoring import count, read_sample

    found: dict[str, list[list[float]]] = {}
    for model in models:
        dataset = load_dataset(options.data, model, machine)
        whole = draw(dataset.held_out, SAMPLES * options.kilobytes, model)
        network = load_network(model, machine)
        parts = [whole.texts[n::SAMPLES] for n in range(SAMPLES)]
        labels = [whole.labels[n::SAMPLES] for n in range(SAMPLES)]
        values: dict[str, list[float]] = {}
        for texts, of_bytes in zip(parts, labels, strict=True):
            tokens = [text.tokens for text in texts]
            scores, _ = read_sample(network, tokens, model.begin_id, model.spellings.length)
            files = [
                {"repository": text.repository, **count(text, each, model.spellings, classes)[0]}
                for text, each, classes in zip(texts, scores, of_bytes, strict=True)
            ]
            for name, figure in figures_of(files).items():
                values.setdefault(name, []).append(figure["value"])
        for name, each in values.items():
            found.setdefault(name, []).append(each)
    size = replace(whole.drawn, excerpts=whole.drawn.excerpts[::SAMPLES]).text_bytes
    print(f"{SAMPLES} samples of about {size / 1e3:,.0f} kB; mean and standard deviation over the samples")
    for name, columns in found.items():
        cells = "".join(f"{statistics.mean(v):>10.4f} {statistics.stdev(v):>8.4f}" for v in columns)
        print(f"{name:<32}{cells}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--model", type=Path, nargs="+", default=[Path("GPyT")], help="models' folders")
    parser.add_argument("--data", type=Path, default=Path("data.txt"), help="documents, from preprocessing")
    parser.add_argument("--only", choices=("cost", "spread"), help="(default: both)")
    parser.add_argument("--kilobytes", type=int, default=256, help="of a sample")
    parser.add_argument("--samples", type=int, default=100, help="places to write at, 0 = none")
    parser.add_argument("--rounds", type=int, default=5, help="of the pass and of scoring alone, in turn")
    parser.add_argument("--device", default="cpu", help="where the models run")
    options = parser.parse_args(argv)
    models, machine = open_models(options.model, options.device)
    if options.only != "spread":
        show_cost(models[0], machine, options)
    if options.only != "cost":
        show_spread(models, machine, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
