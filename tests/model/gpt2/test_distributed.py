"""Several processes under torchrun: the model that one makes, one writer, a run that outlives a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from project import PROJECT, run_script, succeed

TINY = "--n-layer 2 --n-head 2 --n-embd 32 --block-size 128 --device cpu --dtype float32".split()
STEPS = ["--steps", "150"]


def command(data: Path, tokenizer: Path, output: Path, *options: str) -> list[str]:
    files = ["--data", str(data), "--tokenizer", str(tokenizer), "--output", str(output)]
    return [*files, *TINY, *STEPS, *options]


def torchrun(processes: int, arguments: list[str]) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = [f"--nproc-per-node={processes}", str(PROJECT / "model/train.py")]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        [*launcher, *script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "training_log.jsonl").read_text("utf-8").splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "provenance.json").read_text("utf-8"))["figures"]
    return found


def assert_same_run(folder: Path, other: Path) -> None:
    """The same losses step by step, weights and held-out figure, to within rounding."""
    ours, theirs = losses(folder), losses(other)
    assert list(ours) == list(theirs) == list(range(1, 151))
    assert max(abs(ours[step] - theirs[step]) for step in ours) < 2e-3
    weights, expected = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    for name, weight in expected.items():
        ours_here, theirs_here = weights[name], weight
        if name.endswith(
            "c_attn.bias"
        ):  # softmax does not see the keys' bias: its gradient is rounding alone
            (query, _, value), (query_there, _, value_there) = ours_here.chunk(3), theirs_here.chunk(3)
            ours_here, theirs_here = torch.cat([query, value]), torch.cat([query_there, value_there])
        distance = torch.linalg.vector_norm(ours_here - theirs_here) / torch.linalg.vector_norm(theirs_here)
        assert float(distance) < 0.002, name
    assert figures(folder)["held_out_bits_per_byte"] == pytest.approx(
        figures(other)["held_out_bits_per_byte"], abs=2e-3
    )


@pytest.fixture(scope="module")
def alone(data_txt: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "GPyT"
    arguments = command(data_txt, tokenizer_folder, folder, "--threads", "1")
    succeed(run_script("model/train.py", *arguments, timeout=900))  # which a busy machine may need
    return folder


def test_a_run_that_loses_one_of_two_processes_goes_on_with_one_to_the_same_model(
    alone: Path, data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "GPyT"
    arguments = command(data_txt, tokenizer_folder, folder)
    launched = torchrun(2, arguments)
    while launched.poll() is None and not list(folder.glob("checkpoints/step-*")):
        time.sleep(0.01)
    workers = [
        child
        for child in psutil.Process(launched.pid).children(recursive=True)
        if "model/train.py" in " ".join(child.cmdline())
    ]
    by_rank = {worker.environ()["RANK"]: worker for worker in workers}
    assert len(by_rank) == 2
    by_rank["1"].send_signal(signal.SIGKILL)
    message = launched.communicate(timeout=120)[1]
    assert launched.returncode not in (0, None)
    assert message.count("training a GPT-2 for 150 steps") == 1, "one process speaks for both"
    assert 0 < len(losses(folder)) < 150

    end = succeed(run_script("model/train.py", *arguments, "--threads", "1"))
    assert "resuming at step" in end.stderr
    assert_same_run(folder, alone)


@pytest.mark.full
def test_weights_divided_by_fsdp_make_the_same_model_and_resume_whole(
    alone: Path, data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "GPyT"
    arguments = command(data_txt, tokenizer_folder, folder)
    launched = torchrun(2, [*arguments, "--fsdp"])
    while launched.poll() is None and not list(folder.glob("checkpoints/step-*")):
        time.sleep(0.01)
    launched.send_signal(signal.SIGINT)
    message = launched.communicate(timeout=120)[1]
    assert 0 < len(losses(folder)) < 150, message
    again = torchrun(3, arguments)
    output, message = again.communicate(timeout=200)
    assert again.returncode == 0, message
    assert output.count("wrote ") == 1
    assert "resuming at step" in message
    assert_same_run(folder, alone)


def test_fsdp_without_other_processes_is_refused(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    refused = run_script("model/train.py", *command(data_txt, tokenizer_folder, tmp_path / "GPyT", "--fsdp"))
    assert refused.returncode == 1
    assert "torchrun --nproc-per-node" in refused.stderr


# Several machines: two nodes on loopback, each with its own torchrun and working folder


class Nodes:
    """The processes of `torchrun --nnodes N`, one for each node, with one shared folder beside their own."""

    def __init__(self, folder: Path, count: int, arguments: list[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        launcher = ["--nnodes", str(count), "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
        launcher += ["--rdzv-endpoint", address, "--rdzv-id", "run", "--local-addr", "127.0.0.1"]
        script = [str(PROJECT / "model/train.py"), *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        self.logs = [folder / f"node{number}.log" for number in range(count)]
        self.agents: list[subprocess.Popen[bytes]] = []
        for number, log in enumerate(self.logs):
            (folder / f"node{number}").mkdir(exist_ok=True)
            with log.open("wb") as output:
                self.agents.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "torch.distributed.run", *launcher, *script],
                        cwd=folder / f"node{number}",
                        env=environment,
                        stdout=output,
                        stderr=output,
                    )
                )

    def wait_for(self, folder: Path, pattern: str) -> None:
        while not list(folder.glob(pattern)):
            assert [agent.poll() for agent in self.agents] == [None] * len(self.agents), self.said()
            time.sleep(0.05)

    def lose(self, number: int) -> None:
        """Kill a node: its torchrun and its processes, which lead groups of their own, all at once."""
        agent = psutil.Process(self.agents[number].pid)
        for process in [agent, *agent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.agents[number].wait()

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        for number, agent in enumerate(self.agents):
            if agent.poll() is None:
                self.lose(number)

    def end(self, seconds: float = 400) -> list[int]:
        return [agent.wait(seconds) for agent in self.agents]

    def said(self) -> str:
        return "\n".join(log.read_text("utf-8") for log in self.logs)


@pytest.fixture(scope="module")
def shards(data_txt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data_txt as a folder of four shards."""
    lines = data_txt.read_bytes().splitlines(keepends=True)
    folder = tmp_path_factory.mktemp("shards") / "data"
    folder.mkdir()
    for number in range(4):
        part = lines[number * len(lines) // 4 : (number + 1) * len(lines) // 4]
        (folder / f"{number:05d}.jsonl").write_bytes(b"".join(part))
    return folder


def on_nodes(shards: Path, tokenizer: Path, output: Path, *options: str) -> list[str]:
    return command(shards, tokenizer, output, "--any-tokenizer", *options)


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("fsdp", [(), ("--fsdp",)])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_run_on_two_nodes_that_loses_one_goes_on_with_one_or_two_to_the_same_model(
    fsdp: tuple[str, ...], lost: int, alone: Path, shards: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(shards, shared / "data")
    arguments = on_nodes(shared / "data", tokenizer_folder, shared / "GPyT", *fsdp)
    with Nodes(tmp_path, 2, arguments) as nodes:
        nodes.wait_for(shared / "GPyT", "checkpoints/step-*")
        nodes.lose(lost)
        assert nodes.end()[1 - lost] != 0
    assert nodes.said().count("training a GPT-2 for 150 steps") == 1, "one process speaks for all"
    left = nodes.logs[1 - lost].read_text("utf-8")
    assert left.count("the processes lost contact (") == 1 and left.count("the same command continues") == 1
    parts = list((shared / "data.cache").glob("tokens-*/part-*/meta.json"))
    assert len(parts) == 4 and len(losses(shared / "GPyT")) < 150
    shutil.copytree(shared / "GPyT", shared / "again")

    on_one = [word for word in arguments if word != "--fsdp"]
    succeed(run_script("model/train.py", *on_one, "--threads", "1", timeout=900))
    assert_same_run(shared / "GPyT", alone)
    again = on_nodes(shared / "data", tokenizer_folder, shared / "again", *fsdp)
    with Nodes(tmp_path, 2, again) as nodes:
        assert nodes.end() == [0, 0], nodes.said()
    assert "resuming at step" in nodes.said() and nodes.said().count("wrote ") == 1
    assert_same_run(shared / "again", alone)


def test_what_one_node_lacks_is_one_line_before_any_work(
    shards: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """The paths are relative, and only the first node has them."""
    (tmp_path / "node0").mkdir()
    shutil.copytree(shards, tmp_path / "node0/data")
    shutil.copytree(tokenizer_folder, tmp_path / "node0/tokenizer")
    with Nodes(tmp_path, 2, on_nodes(Path("data"), Path("tokenizer"), Path("GPyT"))) as nodes:
        assert 0 not in nodes.end()
    [line] = [line for line in nodes.said().splitlines() if line.startswith("error: ")]
    assert f"there is no data file: {tmp_path / 'node1/data'}: run: python preprocess/" in line
    assert not (tmp_path / "node0/GPyT").exists() and not (tmp_path / "node0/data.cache").exists()


@pytest.mark.full
@pytest.mark.timeout(900)
def test_nodes_that_share_nothing_train_if_their_copies_are_the_same_and_end_if_not(
    shards: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    for number in range(2):
        (tmp_path / f"node{number}").mkdir()
        shutil.copytree(shards, tmp_path / f"node{number}/data")
        shutil.copytree(tokenizer_folder, tmp_path / f"node{number}/tokenizer")
    arguments = on_nodes(Path("data"), Path("tokenizer"), Path("GPyT"))
    with Nodes(tmp_path, 2, arguments) as nodes:
        assert nodes.end() == [0, 0], nodes.said()
    assert sum((tmp_path / f"node{number}/GPyT/model.safetensors").is_file() for number in range(2)) == 1
    for number in range(2):
        assert len(list((tmp_path / f"node{number}/data.cache").glob("tokens-*/meta.json"))) == 1

    last = tmp_path / "node1/data/00003.jsonl"
    last.write_bytes(last.read_bytes().replace(b"import", b"impart", 1))
    with Nodes(tmp_path, 2, [*arguments, "--restart"]) as nodes:
        assert 0 not in nodes.end()
    [line] = [line for line in nodes.said().splitlines() if line.startswith("error: ")]
    assert "another corpus or tokenizer than on the first machine" in line
