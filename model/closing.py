"""The end of a run: measure the model on held-out files, draw its curve, write its card and its record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from leaving_sources import leave_sources, remove_sources
from loss_plot import loss_plot
from machine import peak_memory
from model_card import model_card
from model_folder import prompt_command
from progress import clock
from run_record import plan_record
from source_index import INDEX, SPAN

if TYPE_CHECKING:
    from pathlib import Path

    from training_run import Run

NAMES = f" `{INDEX}` knows which file each copied run of {SPAN} tokens stands in."
NOTICED = 5.0  # seconds that a person wonders about


def keep_sources(training: Run, ancestor: Path | None, *, wanted: bool) -> None:
    """Leave the index of the training files in the folder, or see to it that there is none."""
    if not training.ranks.first or not training.folder.begun:
        return
    if not wanted:
        remove_sources(training.folder.path)
        return
    started = time.perf_counter()
    untraced = leave_sources(training.dataset, training.folder.path, ancestor)
    if untraced:
        training.progress.say(
            f"note: no index says what {untraced!r} learnt from: copies of it will not be named"
        )
    seconds = time.perf_counter() - started
    if seconds > NOTICED:
        training.progress.say(f"indexed the training files in {seconds:.0f} s")


def close_run(training: Run, *, finished: bool) -> dict[str, Any]:
    """Write everything around the weights, which are saved already; the figures of the run."""
    figures = _figures(training)
    if finished and training.watch.files:
        figures |= _measured(training)
    figures["peak_memory_bytes"] = peak_memory()
    plan = plan_record(training.plan, training.trainer.machine)
    folder = training.folder
    if not training.ranks.first:
        return figures
    folder.write("loss.png", _picture(training, figures))
    card = model_card(folder.path.name, plan, figures, _corpus(training), finished=finished)
    folder.write("README.md", card.encode())
    folder.describe(plan, figures, finished=finished)
    folder.write_provenance()
    training.log.close()
    if finished:
        folder.remove_checkpoints()
    return figures


def _measured(training: Run) -> dict[str, Any]:
    """The held-out figures of the weights that the folder holds: the last ones, or better ones before."""
    last = training.evaluate()
    best = training.watch.best
    assert best is not None, "a measurement is the best one, or there was a better one before"
    figures = {
        "held_out_bits_per_byte": round(best.bits_per_byte, 4),
        "held_out_files": last.files,
        "held_out_bytes": last.text_bytes,
        "held_out_difficulty": round(training.watch.difficulty or 1.0, 4),
    }
    if best.step != training.timetable.step:
        figures |= {"best_step": best.step, "last_bits_per_byte": round(last.bits_per_byte, 4)}
    if training.plan.forecast is not None:
        off = training.plan.forecast / best.bits_per_byte - 1
        figures |= {"forecast_bits_per_byte": training.plan.forecast, "forecast_off_by": round(off, 4)}
    return figures


def _figures(training: Run) -> dict[str, Any]:
    return {
        "step": training.timetable.step,
        "tokens": training.tokens,
        "text_bytes": round(training.tokens * training.bytes_per_token),
        "epochs": round(training.tokens / training.rows.size, 4),
        "seconds": round(training.elapsed, 1),
        "skipped_steps": int(training.trainer.skipped),
    }


def _corpus(training: Run) -> dict[str, Any]:
    train = training.dataset.train
    return {
        "documents": len(train.lengths),
        "megabytes": train.size_bytes / 1e6,
        "repositories": len(set(train.repository.tolist())),
        "held_out_documents": len(training.dataset.held_out.text_bytes),
        "sources": NAMES if (training.folder.path / INDEX).is_file() else "",
    }


def _picture(training: Run, figures: dict[str, Any]) -> bytes:
    subtitle = (
        f"{training.plan.shape.parameters / 1e6:.1f} M parameters"
        f" · {figures['tokens'] / 1e6:.1f} M tokens of Python"
        f" · {figures['seconds'] / 60:.1f} minutes on {training.trainer.machine.name}"
    )
    title = f"{training.folder.path.name} learning Python"
    return loss_plot(training.log.rows, title, subtitle, figures.get("held_out_bits_per_byte"))


def summarize(folder: Path, figures: dict[str, Any], seconds: float) -> None:
    """Print what a run came to."""
    tokens, epochs, steps = figures["tokens"], figures["epochs"], figures["step"]
    print(f"trained on {tokens:,} tokens ({epochs:.2f} epochs) in {steps:,} steps")
    if "held_out_bits_per_byte" in figures:
        print(
            f"held out: {figures['held_out_bits_per_byte']:.3f} bits per byte"
            f" on {figures['held_out_files']:,} whole files, {figures['held_out_bytes'] / 1e3:,.0f} kB"
        )
        if "best_step" in figures:
            print(
                f"those are the weights of step {figures['best_step']:,}, which are kept: the last ones need"
                f" {figures['last_bits_per_byte']:.3f}"
            )
        if "forecast_bits_per_byte" in figures:
            print(
                f"forecast: {figures['forecast_bits_per_byte']:.3f}, off by {figures['forecast_off_by']:+.1%}"
            )
    else:
        print("held out: no file, so nothing was measured")
    if figures["skipped_steps"]:
        print(f"skipped {figures['skipped_steps']:,} steps whose gradients were no finite numbers")
    print(f"took {clock(figures['seconds'])} of training, {clock(seconds)} in all,", end=" ")
    print(f"{figures['peak_memory_bytes'] / 1e9:.1f} GB of memory at most")
    print(f"wrote {folder.absolute()}")
    print(f"next: {prompt_command(folder)}")
