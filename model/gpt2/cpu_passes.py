"""What a CPU computes between two matrix products, each compiled by numba into one pass over the numbers.

GELU with its derivative takes 1.9 ms for 2 million numbers, where PyTorch's takes some 10. Softmax takes
about as long as PyTorch's and includes the mask and the scale. On a processor that multiplies bfloat16 fast,
such operations were a third of a training step (benchmarks/LOG.md).

bfloat16 comes as its bits, in uint16, and is computed in float32. A pass works on the elements from `first`
to `last`, so that threads can share it. No pass checks its bounds.

The first call compiles for some seconds. numba keeps the result in NUMBA_CACHE_DIR, beside this file, or in
the user's cache folder (XDG_CACHE_HOME).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numba import config, njit, types
from numba.extending import overload
from numpy.typing import NDArray

from model_cli import UserError

# NUMBA_DISABLE_JIT is 1 where code is debugged or coverage is measured. As Python these loops would take
# seconds, so they exist compiled alone.
config.DISABLE_JIT = 0  # type: ignore[attr-defined]

# Sums may be taken in any order, which is what lets a processor take 16 at once; nan and inf stay themselves.
FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}

# e^x of less than this counts as nothing beside 1. Its products with gradients would be denormal numbers,
# which a processor multiplies a hundred times more slowly.
LEAST_EXPONENT = np.float32(-60)

# Of GELU by the sigmoid, x * sigmoid(FIRST * x + THIRD * x^3), which is the one by the tanh.
# Source: Hendrycks and Gimpel 2016, section 2, with 1 + tanh(y) = 2 * sigmoid(2 * y).
FIRST = np.float32(2 * math.sqrt(2 / math.pi))
THIRD = np.float32(0.044715 * 2 * math.sqrt(2 / math.pi))
LARGEST_SQUARE = np.float32(1e4)  # beyond it the gate is 0 or 1, and the derivative would be 0 * inf

Array = NDArray[Any]  # float32, or bfloat16 as uint16
Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function as machine code, kept on disk where a folder for it can be written.

    numba compiles it again when its own file changes, not when another file does that it calls into.
    """
    options: dict[str, Any] = {"fastmath": FAST, "nogil": True, "error_model": "numpy"}
    try:
        made: Any = njit(cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's can be written
        made = njit(**options)(function)
    return made  # type: ignore[no-any-return]


def folder_of_compiled(function: Any) -> Path | None:
    """Where numba keeps a compiled function; None if there is no such folder that can be written."""
    path = function.stats.cache_path
    return None if path is None else Path(path)


def is_compiled(function: Any) -> bool:
    """Whether it is compiled on disk; if for another processor or precision, numba compiles it once more."""
    folder = folder_of_compiled(function)
    names = f"{Path(function.py_func.__code__.co_filename).stem}.{function.py_func.__name__}-*.nbi"
    return folder is not None and any(folder.glob(names))


@contextmanager
def compiling(function: Any, tell: Callable[[str], None]) -> Iterator[None]:
    """Where a compiled function is called for the first time.

    tell: is told before if it was never compiled here, as this takes some seconds.

    Raises:
        UserError: the result cannot be written.
    """
    folder = folder_of_compiled(function)
    if not is_compiled(function):
        often = "once" if folder else "at each start, as no folder can be written: set NUMBA_CACHE_DIR to one"
        tell(f"compiling for this processor, some seconds, {often}")
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the compiled code cannot be kept ({error.strerror or error}): {folder}: "
            "free space there, or set NUMBA_CACHE_DIR to another folder"
        ) from None


def widened(number: Any) -> Any:
    """A number of an Array as float32."""
    raise NotImplementedError("it exists compiled alone: `widened_of` chooses by the type")


@overload(widened, jit_options={"fastmath": FAST})
def widened_of(number: Any) -> Any:
    """What numba puts in place of `widened`."""

    def from_bfloat16(number: Any) -> Any:
        return np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)

    def from_float32(number: Any) -> Any:
        return number

    return from_bfloat16 if number == types.uint16 else from_float32


def store(array: Any, i: Any, number: Any) -> None:
    """array[i] = number, rounded to the nearest that the array can hold, of two to the even one."""
    raise NotImplementedError("it exists compiled alone: `store_of` chooses by the type")


@overload(store, jit_options={"fastmath": FAST})
def store_of(array: Any, i: Any, number: Any) -> Any:
    """What numba puts in place of `store`."""

    def in_bfloat16(array: Any, i: Any, number: Any) -> None:
        bits = np.float32(number).view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = np.uint16((bits + np.uint32(0x7FFF) + even) >> np.uint32(16))
        array[i] = np.uint16(0x7FC0) if np.isnan(number) else rounded

    def in_float32(array: Any, i: Any, number: Any) -> None:
        array[i] = number

    return in_bfloat16 if array.dtype == types.uint16 else in_float32


@compiled
def exponential(x: np.float32) -> np.float32:
    """e^x to a relative 5e-7, in operations that a processor does for 16 numbers at once.

    x = k ln 2 + r with |r| <= ln 2 / 2: e^r by its series up to r^6, and 2^k by the bits of a float.
    """
    bounded = min(max(x, np.float32(-87)), np.float32(87))
    k = np.floor(bounded * np.float32(1.4426950408889634) + np.float32(0.5))
    r = bounded - k * np.float32(0.6931471805599453)
    series = np.float32(1 / 720)
    for factor in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        series = series * r + np.float32(factor)
    power: np.float32 = np.int32((np.int32(k) + 127) << 23).view(np.float32)
    return series * power


@compiled
def highest_of(row: NDArray[np.float32]) -> np.float32:
    """The largest number of a row; nan if there is one, or if numbers of both signs overflow the sum.

    By their bits, ordered as integers: a processor compares 16 of those at once, of floats one.
    """
    positive = np.int32(0x7FFFFFFF)
    highest, total = np.int32(-positive), np.float32(0)
    bits = row.view(np.int32)
    for i in range(bits.shape[0]):
        highest = max(highest, np.int32(bits[i] ^ np.int32((bits[i] >> np.int32(31)) & positive)))
        total += row[i]
    if np.isnan(total):
        return total
    highest = np.int32(highest ^ np.int32((highest >> np.int32(31)) & positive))
    return np.int32(highest).view(np.float32)


@compiled
def gelu_gate(number: np.float32, square: np.float32) -> np.float32:
    """What GELU multiplies a number by."""
    exponent = number * (FIRST + THIRD * square)
    gate: np.float32 = np.float32(1) / (np.float32(1) + exponential(-exponent))
    return np.float32(0) if exponent < LEAST_EXPONENT else gate


@compiled
def gelu(first: int, last: int, x: Array, values: Array, slopes: Array) -> None:
    """GPT-2's GELU of x (n,), and its derivative, unless there is no room for it: slopes (n,) or (0,)."""
    three = np.float32(3)
    x, values = x[first:last], values[first:last]
    if slopes.shape[0] == 0:
        for i in range(last - first):
            number = widened(x[i])
            store(values, i, number * gelu_gate(number, min(number * number, LARGEST_SQUARE)))
        return
    slopes = slopes[first:last]
    for i in range(last - first):
        number = widened(x[i])
        square = min(number * number, LARGEST_SQUARE)
        gate = gelu_gate(number, square)
        value = number * gate
        store(values, i, value)
        store(slopes, i, gate + (value - value * gate) * (FIRST + three * THIRD * square))


@compiled
def softmax(row: NDArray[np.float32], scale: np.float32, highest: np.float32) -> np.float32:
    """row (n,) = exp(scale * (row - highest)), in place; the factor that makes its sum 1, nan if one is."""
    total = np.float32(0)
    for i in range(row.shape[0]):
        exponent = (row[i] - highest) * scale
        row[i] = np.float32(0) if exponent < LEAST_EXPONENT else exponential(exponent)
        total += row[i]
    return np.float32(1) / total + (highest - highest)


@compiled
def causal_softmax(first: int, last: int, scores: Array, start: int, scale: np.float32) -> None:
    """scores (heads, queries, keys) = softmax(scale * scores), in place; query q sees keys 0 to start + q."""
    row = np.empty(scores.shape[2], np.float32)
    for head in range(first, last):
        for query in range(scores.shape[1]):
            seen = start + query + 1
            places = scores[head, query]
            for i in range(seen):
                row[i] = widened(places[i])
            factor = softmax(row[:seen], scale, highest_of(row[:seen]))
            for i in range(seen):
                store(places, i, row[i] * factor)
            places[seen:] = 0


@compiled
def causal_softmax_backward(
    first: int, last: int, probabilities: Array, gradients: Array, start: int, scale: np.float32
) -> None:
    """gradients (heads, queries, keys) of causal_softmax's result become those of its scores, in place."""
    for head in range(first, last):
        for query in range(gradients.shape[1]):
            seen = start + query + 1
            likely, gradient = probabilities[head, query], gradients[head, query]
            total = np.float32(0)
            for i in range(seen):
                total += widened(likely[i]) * widened(gradient[i])
            for i in range(seen):
                store(gradient, i, widened(likely[i]) * (widened(gradient[i]) - total) * scale)
            gradient[seen:] = 0


@compiled
def cross_entropy(
    first: int,
    last: int,
    logits: Array,
    log_counts: NDArray[np.float32],
    targets: NDArray[np.int64],
    losses: NDArray[np.float32],
) -> None:
    """losses (rows,) in nats of logits (rows, entries) + log_counts (entries,); logits = their gradient."""
    row = np.empty(logits.shape[1], np.float32)
    for number in range(first, last):
        places, target = logits[number], targets[number]
        for i in range(row.shape[0]):
            row[i] = widened(places[i]) + log_counts[i]
        highest, target_logit = highest_of(row), row[target]
        factor = softmax(row, np.float32(1), highest)
        losses[number] = highest - np.log(factor) - target_logit
        row[target] -= np.float32(1) / factor
        for i in range(row.shape[0]):
            store(places, i, row[i] * factor)
