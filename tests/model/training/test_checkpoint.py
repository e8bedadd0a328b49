"""Checkpoints hold everything that the next step depends on, and are whole or refused."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpt2.config import GPT2Config
from gpt2.network import GPT2
from pretrained.atomic_write import write_tensors
from project import PROJECT
from small_run import make_run
from training.checkpoint import CheckpointError, checkpoints, load_checkpoint, save_checkpoint
from training.optimizers import build_optimizers
from training.trainer import gather_tensors, restore_tensors

torch.set_num_threads(1)  # at these sizes a second thread only waits


class TinyRun:
    """A model and its optimisers that take steps on numbered random batches."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = GPT2(GPT2Config(2, 2, 16, 8, 32), torch.bfloat16)
        self.optimizers = build_optimizers(self.model, torch.bfloat16)

    def step(self, number: int) -> None:
        tokens = torch.randint(32, (2, 9), generator=torch.Generator().manual_seed(number))
        self.model(tokens[:, :-1], tokens[:, 1:]).backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def tensors(self) -> dict[str, torch.Tensor]:
        return gather_tensors(self.model, self.optimizers)


def test_a_restored_run_continues_to_the_same_bits(tmp_path: Path) -> None:
    straight = TinyRun()
    for number in range(3):
        straight.step(number)
    path = save_checkpoint(tmp_path / "checkpoints", 3, straight.tensors(), {"step": 3})
    straight.step(3)

    tensors, record = load_checkpoint(path)
    resumed = TinyRun()
    restore_tensors(resumed.model, resumed.optimizers, tensors)
    resumed.step(3)
    assert record == {"step": 3}
    expected, found = straight.tensors(), resumed.tensors()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 50, 500):
        save_checkpoint(tmp_path, step, {"model/w": torch.zeros(2)}, {})
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-000000050.safetensors",
        "step-000000500.safetensors",
    ]


@pytest.mark.parametrize("kept", [0, 5, 200])
def test_a_torn_checkpoint_is_refused_by_name(tmp_path: Path, kept: int) -> None:
    path = save_checkpoint(tmp_path, 1, {"model/w": torch.zeros(100)}, {"step": 1})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=path.name):
        load_checkpoint(path)


def test_a_checkpoint_is_due_every_half_minute_or_less_often_if_saving_is_slow(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("training.checkpoint.time.perf_counter", lambda: now)
    checkpointer = make_run(tmp_path / "GPyT", tokenizer, steps=1_000_000).checkpointer
    checkpointer.start()
    now = 29.9
    assert not checkpointer.is_due()
    now = 30.0
    assert checkpointer.is_due()
    checkpointer.save_seconds = 2.0  # 2 % of 100 seconds
    now = 99.9
    assert not checkpointer.is_due()
    now = 100.0
    assert checkpointer.is_due()


def test_a_full_disk_costs_neither_the_file_before_nor_its_room(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"w": torch.ones(10)}, {})
    before = path.read_bytes()
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(PROJECT / "model")!r})
import torch
from pathlib import Path
from model_cli import UserError
from pretrained.atomic_write import write_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {resource.RLIM_INFINITY}))
try:
    write_tensors(Path({str(path)!r}), {{"w": torch.ones(100_000)}}, {{}})
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert str(path) in done.stdout
    assert "make room" in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
