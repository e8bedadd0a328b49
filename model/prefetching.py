"""Batches on their way to the device while it still computes the one before."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from length_warmup import LengthWarmup

Batch = tuple[Tensor, Tensor]  # inputs and targets, both (B, T)


class Prefetcher:
    """Rows by number, on the device; for a GPU the next ones are laid out in pinned memory meanwhile.

    On a CPU a batch takes a thousandth of its step, and a thread would only disturb those that compute.
    """

    def __init__(self, rows: LengthWarmup, device: torch.device) -> None:
        self.rows = rows
        self.device = device
        self.waiting: dict[tuple[int, int], Future[Batch]] = {}
        self.pool = ThreadPoolExecutor(1) if device.type == "cuda" else None

    def get(self, first_row: int, count: int, following: tuple[int, int]) -> Batch:
        """Rows first_row ... first_row + count - 1; following: the same two numbers of the next call."""
        if self.pool is None:
            inputs, targets = self.rows.batch(first_row, count)
            return inputs.to(self.device), targets.to(self.device)
        ready = self.waiting.pop((first_row, count), None)
        inputs, targets = ready.result() if ready else self._pinned(first_row, count)
        self.waiting = {following: self.pool.submit(self._pinned, *following)}
        return inputs.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)

    def _pinned(self, first_row: int, count: int) -> Batch:
        inputs, targets = self.rows.batch(first_row, count)
        return inputs.pin_memory(), targets.pin_memory()
