"""loss.png: how the model learnt, in one picture that can be shown."""

from __future__ import annotations

import io
from typing import Any

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
TRAINING, HELD_OUT = "#3e7cb1", "#e07a1f"
SMOOTHING = 0.9  # share of the running mean that the next row leaves in place


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
