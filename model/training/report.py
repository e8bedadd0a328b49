"""The end of a run: source index, held-out figures, loss.png, model card, provenance and summary."""

from __future__ import annotations

import io
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attribution.index import INDEX, SPAN, remove_sources, write_sources
from gpt2.device import peak_memory
from model_cli import plural, prompt_command
from training.plan import plan_record
from training.progress import clock, without_controls

if TYPE_CHECKING:
    from data_loading.token_file import TokenSplit
    from training.run import Run

MOST_LICENCES = 12  # that the model card names
NOTICED = 5.0  # seconds of indexing that a user notices

# Of loss.png
INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
TRAINING, HELD_OUT = "#3e7cb1", "#e07a1f"
SMOOTHING = 0.9  # weight of the values before in the running mean


def write_report(
    run: Run, base_folder: Path | None = None, *, with_sources: bool, finished: bool
) -> dict[str, Any]:
    """Write everything around the weights, which are saved already. Returns the figures of the run.

    base_folder: of the model that the run continues. with_sources: write sources.index. Every rank must take
    part: they measure together.
    """
    trainer, folder, train = run.trainer, run.folder, run.dataset.train
    if run.ranks.is_main and folder.begun:
        _index_sources(run, base_folder, wanted=with_sources)
    figures = {
        "step": run.schedule.step,
        "tokens": trainer.tokens,
        "text_bytes": round(trainer.tokens * train.bytes_per_token),
        "epochs": round(trainer.tokens / trainer.rows.size * train.size / train.once.size, 4),
        "documents": len(train.once.lengths),
        "documents_left_out": train.left_out,
        "seconds": round(run.elapsed, 1),
        "skipped_steps": int(trainer.skipped),
    }
    if finished and run.monitor.sample.excerpts:
        figures |= _measure(run)
    figures["peak_memory_bytes"] = peak_memory()
    if not run.ranks.is_main:
        return figures
    plan = plan_record(run.plan, trainer.machine)
    folder.write("loss.png", _picture(run, figures))
    corpus = _corpus(run)
    base = None if base_folder is None else base_folder.name
    card = model_card(folder.path.name, plan, figures, corpus, base, finished=finished)
    folder.write("README.md", card.encode())
    folder.describe(plan, figures, finished=finished)
    folder.write_provenance()
    run.log.close()
    if finished:
        folder.remove_checkpoints()
    return figures


def _index_sources(run: Run, base_folder: Path | None, *, wanted: bool) -> None:
    """Write the index of the training files, or remove one that an earlier part of the run has written."""
    if not wanted:
        remove_sources(run.folder.path)
        return
    started = time.perf_counter()
    untraced = write_sources(run.dataset, run.folder.path, base_folder)
    if untraced:
        run.progress.say(
            f"note: base model {untraced!r} has no sources.index:"
            " copies from its training data cannot be named"
        )
    seconds = time.perf_counter() - started
    if seconds > NOTICED:
        run.progress.say(f"indexed the training files in {seconds:.0f} s")


def _measure(run: Run) -> dict[str, Any]:
    """The held-out figures of the weights in the folder: the last ones, or better ones before."""
    last = run.evaluate()
    best = run.monitor.best
    assert best is not None, "a measurement is the best one, or there was a better one before"
    figures = {
        "held_out_bits_per_byte": round(best.bits_per_byte, 4),
        "held_out_files": last.files,
        "held_out_repositories": run.monitor.sample.repositories,
        "held_out_bytes": last.text_bytes,
        "held_out_largest_share": run.monitor.sample.largest_share,
        "held_out_difficulty": round(run.monitor.difficulty or 1.0, 4),
    }
    if best.step != run.schedule.step:
        figures |= {"best_step": best.step, "last_bits_per_byte": round(last.bits_per_byte, 4)}
    if run.plan.forecast is not None:
        off = run.plan.forecast / best.bits_per_byte - 1
        figures |= {"forecast_bits_per_byte": run.plan.forecast, "forecast_off_by": round(off, 4)}
    return figures


def _corpus(run: Run) -> dict[str, Any]:
    """What the model card says of the data, and the newest sample of what the model writes."""
    train = run.dataset.train.once
    samples = [row["sample"] for row in run.log.rows if "sample" in row]
    names = f" `{INDEX}` knows which file each copied run of {SPAN} tokens comes from."
    return {
        "documents": len(train.lengths),
        "megabytes": train.size_bytes / 1e6,
        "repositories": len(set(train.of_kept(train.repository).tolist())),
        "chosen": _chosen(run.dataset.train, run.folder.fingerprint.options.get("like")),
        "held_out_documents": len(run.dataset.held_out.text_bytes),
        "dataset": Path(run.folder.fingerprint.data.get("path", "data.txt")).stem,
        "licences": _licences(train),
        "written": _written(samples[-1]) if samples else "",
        "sources": names if (run.folder.path / INDEX).is_file() else "",
    }


def _chosen(train: TokenSplit, like: list[str] | None) -> str:
    """What the card says of files of the corpus that the model did not learn from or read more than once."""
    said = [f"{train.left_out:,} others were left out"] if train.left_out else []
    if like:
        names = ", ".join(f"`{name}`" for name in like)
        said.append(f"a model for {names}" + (f", read {train.times} times" if train.times > 1 else ""))
    return f" ({'; '.join(said)})" if said else ""


def _licences(train: TokenSplit) -> str:
    """The licences of the training files with their counts, as rows of a table, the most frequent first."""
    if train.origin is None:
        return ""
    of_file = train.of_kept(train.origin)
    counts: Counter[str] = Counter()
    for number, count in Counter(of_file.tolist()).items():
        counts[train.origins[number][1] or "unknown"] += count
    rows = [f"| {licence} | {count:,} |" for licence, count in counts.most_common(MOST_LICENCES)]
    rest = len(counts) - MOST_LICENCES
    if rest > 0:
        files = counts.total() - sum(count for _, count in counts.most_common(MOST_LICENCES))
        rows.append(f"| {rest:,} more | {files:,} |")
    return "\n".join(["", "| licence | files |", "|---|---|", *rows, ""])


def _written(sample: str) -> str:
    """A sample of what the model writes, in a fence longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", sample)), default=0))
    return f"\nIts last sample during training:\n\n{fence}python\n{without_controls(sample)}\n{fence}\n"


def _picture(run: Run, figures: dict[str, Any]) -> bytes:
    subtitle = (
        f"{run.plan.shape.parameters / 1e6:.1f} M parameters"
        f" · {figures['tokens'] / 1e6:.1f} M tokens of Python"
        f" · {figures['seconds'] / 60:.1f} minutes on {run.trainer.machine.name}"
    )
    title = f"{run.folder.path.name} learning Python"
    return loss_plot(run.log.rows, title, subtitle, figures.get("held_out_bits_per_byte"))


def _sample_in_words(figures: dict[str, Any]) -> str:
    """The held-out sample: "24 files of 12 repositories, 150 kB, at most 9% from one"."""
    files, repositories = figures["held_out_files"], figures["held_out_repositories"]
    share = f", at most {figures['held_out_largest_share']:.0%} from one" if repositories > 1 else ""
    return (
        f"{plural(files, 'file')} of {plural(repositories, 'repository', 'repositories')},"
        f" {figures['held_out_bytes'] / 1e3:,.0f} kB{share}"
    )


def beside_forecast(off_by: float) -> str:
    """How a model compares with a forecast that is off by so much: 0.031 -> "3.1% too high"."""
    if abs(off_by) < 0.0005:
        return "as measured"
    high = off_by > 0
    return f"{abs(off_by):.1%} too {'high' if high else 'low'}: the model is {'better' if high else 'worse'}"


def print_summary(folder: Path, figures: dict[str, Any], seconds: float) -> None:
    """Print the figures of a finished run; seconds: in all, encoding and measuring included."""
    tokens, epochs, steps = figures["tokens"], figures["epochs"], figures["step"]
    print(f"trained on {tokens:,} tokens ({epochs:.2f} epochs) in {plural(steps, 'step')}")
    if "held_out_bits_per_byte" in figures:
        print(
            f"held out: {figures['held_out_bits_per_byte']:.3f} bits per byte on {_sample_in_words(figures)}"
        )
        if "best_step" in figures:
            print(
                f"kept the best weights (step {figures['best_step']:,}); the last step scored"
                f" {figures['last_bits_per_byte']:.3f}"
            )
        if "forecast_bits_per_byte" in figures:
            beside = beside_forecast(figures["forecast_off_by"])
            print(f"forecast: {figures['forecast_bits_per_byte']:.3f}, {beside}")
    else:
        print("held out: no file, so bits per byte were not measured")
    if figures["skipped_steps"]:
        print(f"skipped {plural(figures['skipped_steps'], 'step')} with non-finite gradients")
    print(f"took {clock(figures['seconds'])} of training, {clock(seconds)} in all,", end=" ")
    print(f"{figures['peak_memory_bytes'] / 1e9:.1f} GB of memory at most")
    print(f"wrote {folder.absolute()}")
    print(f"next: {prompt_command(folder)}")


CARD = """\
---
{metadata}
---

# {name}

A GPT-2 of {parameters:,} parameters, trained {origin} on Python source code. It continues Python; it does
not follow instructions, and at this size its output looks like code more often than it makes sense.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
prompt = tokenizer("def main(", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64, do_sample=True, top_p=0.95)[0]))
```

## Figures

| | |
|---|---|
| held-out bits per byte | {held_out} |
| trained on | {tokens:,} tokens, {epochs:.2f} epochs, {seconds:.0f} s on {machine} |
| layers, heads, width, context | {n_layer}, {n_head}, {n_embd}, {block_size} tokens |
| vocabulary | {vocab_size:,} (byte-level BPE) |

Bits per byte: each held-out file scored from its beginning as one sequence, windows of the context with half
overlap, the bits of its tokens (of at most 8,192 bytes, cut after a finished statement; of a whole file also
those of the closing `<|endoftext|>`) divided by their UTF-8 bytes.
{sample}

![bits per byte during training](loss.png)
{written}
## Data

{documents:,} files ({megabytes:.1f} MB) of {repositories:,} repositories{chosen}; {held_out_documents:,} more
files were held out, by whole repository where there are three or more. Comments were removed, docstrings
stay. What the model writes can repeat what it has read, so check the licences before you publish
either.{sources}
{licences}
`provenance.json` has the hashes of data and tokenizer, all options and versions; `training_log.jsonl`
shows the run.
"""


def model_card(
    name: str,
    plan: dict[str, Any],
    figures: dict[str, Any],
    corpus: dict[str, Any],
    base: str | None = None,
    *,
    finished: bool,
) -> str:
    """The text of README.md from the records of provenance.json.

    Its metadata are those of the Hub, which shows the held-out figure beside the model. base: the name of the
    model that the run continued.
    """
    held_out = "no file was held out" if finished else "not measured: the run was interrupted"
    sample = ""
    if figures.get("held_out_bits_per_byte") is not None:
        held_out = f"**{figures['held_out_bits_per_byte']:.3f}**"
        sample = f"Measured on a fixed sample: {_sample_in_words(figures)}."
    further = f"further, from the weights of `{base}`,"
    return CARD.format(
        metadata=_metadata(name, figures, corpus["dataset"], base),
        name=name,
        origin="from scratch" if base is None else further,
        held_out=held_out,
        sample=sample,
        tokens=figures["tokens"],
        epochs=figures["epochs"],
        seconds=figures["seconds"],
        **{key: plan[key] for key in ("parameters", "machine", "n_layer", "n_head", "n_embd", "block_size")},
        vocab_size=plan["vocab_size"],
        **corpus,
    )


def _metadata(name: str, figures: dict[str, Any], dataset: str, base: str | None) -> str:
    """The card's YAML block, with the held-out bits per byte as the Hub's model-index."""
    from huggingface_hub import EvalResult, ModelCardData  # imported here: most of a run does not need it

    results = None
    if figures.get("held_out_bits_per_byte") is not None:
        results = [
            EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type="held-out-files",
                dataset_name=f"{figures['held_out_files']:,} held-out Python files",
                metric_type="bits_per_byte",
                metric_name="bits per byte",
                metric_value=figures["held_out_bits_per_byte"],
            )
        ]
    data = ModelCardData(
        language="code",
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["gpt2", "python", "code"],
        license="other",
        license_name="those-of-the-training-files",
        license_link="README.md#data",
        datasets=[dataset],
        base_model=base,
        model_name=name if results else None,
        eval_results=results,
    )
    metadata: str = data.to_yaml()
    return metadata


def loss_plot(rows: list[dict[str, Any]], title: str, subtitle: str, held_out: float | None) -> bytes:
    """The PNG of a training log: bits per byte over tokens, each row faint, their running mean strong."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure = Figure(figsize=(8, 4.5), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.085, 0.13, 0.88, 0.68))
    losses = [row for row in rows if "loss" in row]
    tokens = [row["tokens"] for row in losses]
    bits = [row["bits_per_byte"] for row in losses]
    smooth = _running_mean(bits)
    axes.plot(tokens, bits, color=TRAINING, alpha=0.22, linewidth=0.9)
    axes.plot(tokens, smooth, color=TRAINING, linewidth=2.0, label="training files")
    points = [(row["tokens"], row["held_out"]) for row in rows if "held_out" in row]
    if held_out is not None and tokens:
        points.append((tokens[-1], held_out))
    if points:
        style = "o-" if len(points) > 1 else "o"
        axes.plot(*zip(*points, strict=True), style, color=HELD_OUT, markersize=6, linewidth=1.5,
                  label="held-out files", clip_on=False, zorder=5)  # fmt: skip
        is_lowest = bool(smooth) and points[-1][1] < smooth[-1]  # then the training curve is just above
        figure_of_merit = axes.annotate(
            f"{points[-1][1]:.3f}",
            points[-1],
            xytext=(-4, -20 if is_lowest else 12),
            textcoords="offset points",
            ha="right",
            color=HELD_OUT,
            fontsize=12,
            fontweight="bold",
        )
        figure_of_merit.set_path_effects([withStroke(linewidth=4, foreground="white")])
    if smooth:
        lowest = min([*smooth, *(value for _, value in points)])
        highest = min(max(bits), max(smooth[len(smooth) // 20 :]) * 1.15)
        axes.set_ylim(max(0.0, lowest - 0.12 * (highest - lowest)), highest)
        axes.set_xlim(0, tokens[-1] * 1.01)
    figure.text(0.085, 0.925, title, fontsize=14, fontweight="bold", color=INK)
    figure.text(0.085, 0.865, subtitle, fontsize=9.5, color=MUTED)
    axes.set_xlabel("tokens seen", color=MUTED, fontsize=10)
    axes.set_ylabel("bits per byte (lower is better)", color=MUTED, fontsize=10)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.legend(frameon=False, fontsize=10, labelcolor=INK, loc="upper right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _running_mean(values: list[float]) -> list[float]:
    """An exponential running mean without the lag of its start."""
    means: list[float] = []
    total = weight = 0.0
    for value in values:
        total = SMOOTHING * total + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        means.append(total / weight)
    return means
