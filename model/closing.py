"""The end of a run: measure the model on held-out files, draw its curve, write its card and its record."""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING, Any

from loss_plot import loss_plot
from model_card import model_card
from model_folder import prompt_command
from progress import clock
from training_run import plan_record

if TYPE_CHECKING:
    from pathlib import Path

    from training_run import Run


def close_run(training: Run, *, finished: bool) -> dict[str, Any]:
    """Write everything around the weights, which are saved already; the figures of the run."""
    figures = _figures(training)
    if finished and len(training.dataset.held_out.text_bytes):
        measured = training.evaluate()
        figures["held_out_bits_per_byte"] = round(measured.bits_per_byte, 4)
        figures["held_out_files"] = measured.files
        figures["held_out_bytes"] = measured.text_bytes
    figures["peak_memory_bytes"] = peak_memory()
    plan = plan_record(training.plan, training.trainer.machine)
    folder = training.folder
    folder.write("loss.png", _picture(training, figures))
    card = model_card(folder.path.name, plan, figures, _corpus(training), finished=finished)
    folder.write("README.md", card.encode())
    folder.describe(plan, figures, finished=finished)
    folder.write_provenance()
    if finished:
        folder.remove_checkpoints()
    return figures


def _figures(training: Run) -> dict[str, Any]:
    return {
        "step": training.timetable.step,
        "tokens": training.tokens,
        "epochs": round(training.tokens / len(training.dataset.train.tokens), 4),
        "seconds": round(training.elapsed, 1),
    }


def _corpus(training: Run) -> dict[str, Any]:
    train = training.dataset.train
    return {
        "documents": len(train.text_bytes),
        "megabytes": int(train.text_bytes.sum()) / 1e6,
        "repositories": len(set(train.repository.tolist())),
        "held_out_documents": len(training.dataset.held_out.text_bytes),
    }


def _picture(training: Run, figures: dict[str, Any]) -> bytes:
    subtitle = (
        f"{training.plan.shape.parameters / 1e6:.1f} M parameters"
        f" · {figures['tokens'] / 1e6:.1f} M tokens of Python"
        f" · {figures['seconds'] / 60:.1f} minutes on {training.trainer.machine.name}"
    )
    title = f"{training.folder.path.name} learning Python"
    return loss_plot(training.log.rows, title, subtitle, figures.get("held_out_bits_per_byte"))


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kilobytes


def summarize(folder: Path, figures: dict[str, Any], seconds: float) -> None:
    """Print what a run came to."""
    tokens, epochs, steps = figures["tokens"], figures["epochs"], figures["step"]
    print(f"trained on {tokens:,} tokens ({epochs:.2f} epochs) in {steps:,} steps")
    if "held_out_bits_per_byte" in figures:
        print(
            f"held out: {figures['held_out_bits_per_byte']:.3f} bits per byte"
            f" on {figures['held_out_files']:,} whole files, {figures['held_out_bytes'] / 1e3:,.0f} kB"
        )
    else:
        print("held out: no file, so nothing was measured")
    print(f"took {clock(figures['seconds'])} of training, {clock(seconds)} in all,", end=" ")
    print(f"{figures['peak_memory_bytes'] / 1e9:.1f} GB of memory at most")
    print(f"wrote {folder.absolute()}")
    print(f"next: {prompt_command(folder)}")
