"""Shards prepared by the nodes of a Ray cluster, which share the folders of the run with this machine.

A task is one shard. On its node it is prepared by a process of local_pool.py, which outlives the task: so a
file that kills or holds up a process is found and left out as on one machine. A node that dies takes no
result with it, as results are files: its tasks are given out again.

This process talks to Ray through a process of its own, the connection. Ray writes to its terminal, and ends
it if the head of the cluster is gone; here that is the end of a pipe, one line, and a log beside the results.

Nothing has to be copied to the nodes: Ray sends them this folder (runtime_env). What they need is Python and
the packages of requirements.txt and requirements-cluster.txt, in the same versions: each node is asked first.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from corpus.inventory import landmark
from corpus.shards import Shard
from documents.prepare import Rules, versions
from executors.local_pool import Task, prepare_in_kept_worker
from preprocess_cli import UserError, plural

TESTED = "2.60.0"  # as in requirements-cluster.txt
OLDEST = (2, 60)
INSTALL = "pip install -r requirements-cluster.txt"
START_SECONDS = 300  # a node starts a first process and unpacks this folder; a busy one takes minutes
HEAD_SECONDS = 10  # without an answer from the head: a restart of a switch takes less
PROBE_SECONDS = 5  # for the first look: a node that does not share the folder never sees it
SHARED_SECONDS = 90  # NFS may remember for a minute that a file is not there
TASKS_PER_CORE = 3  # one at work, two on their way
MOST_NODES_LOST = 20  # while one task was on them: it is the task, not the nodes
MOST_MEMORY_LOST = 3  # processes of one task that were ended for want of memory
AGAIN = "what is prepared is kept; {}, then run the same command again"


class Cluster:
    """A connection to a Ray cluster, or to one of this machine's cores that ends with it.

    address: "HOST:PORT" of a cluster's head, "" for one of `jobs` cores of this machine. shared: the folder
    of the results. folders: those of repositories. Raises UserError if there is none, or none for this work.
    """

    def __init__(self, address: str, jobs: int, shared: Path, folders: Sequence[Path]) -> None:
        self.name = f"the Ray cluster at {address}" if address else "Ray on this machine"
        self.log = shared.absolute().parent / "ray.log"
        check_ray_is_here()
        if address and not answers(address):
            raise UserError(f"no Ray cluster answers: {address}: start one: ray start --head")
        self.head, self.cores, self.nodes = address, 0, 0
        self.connection, theirs = get_context("spawn").Pipe()
        probe = shared.absolute() / f"probe-{secrets.token_hex(8)}"
        landmarks = tuple(landmark(each.absolute()) for each in folders)
        arguments = address, jobs, self.log, probe, Expected(tuple(versions().items()), landmarks)
        self.process = get_context("spawn").Process(target=connect, args=(theirs, *arguments))
        self.process.start()
        theirs.close()
        try:
            self.head, self.cores, self.nodes = self.receive(START_SECONDS)
        except BaseException:
            self.close()
            raise
        finally:
            for path in probe.parent.glob(f"{probe.name}*"):
                path.unlink(missing_ok=True)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Any]]:
        """(position, result) of each task, as soon as it is done.

        Raises what a task raised, if it is an OSError or a UserError, and UserError if the cluster is gone.
        """
        coming, running = enumerate(tasks), 0
        while True:
            for position, task in islice(coming, max(0, TASKS_PER_CORE * self.cores - running)):
                self.send((position, *task))
                running += 1
            if not running:
                return
            position, result, self.cores = self.receive()
            running -= 1
            yield position, result

    def send(self, message: tuple[Any, ...]) -> None:
        with suppress(BrokenPipeError):  # receive notices
            self.connection.send(message)

    def receive(self, seconds: float = float("inf")) -> Any:
        """The next message of the connection. Raises it if it is an error, UserError if it is none."""
        started = heard = time.monotonic()
        try:
            while not self.connection.poll(1):
                now = time.monotonic()
                if not self.head or answers(self.head):
                    heard = now
                if now - heard > HEAD_SECONDS or now - started > seconds:
                    raise EOFError
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            is_gone = self.head and not answers(self.head)
            what = "is gone" if is_gone else "ended the connection" if self.cores else "did not start"
            raise UserError(
                f"{self.name} {what}: {self.log} says why, if Ray did: {AGAIN.format('see to the cluster')}"
            ) from None
        if isinstance(message, Exception):
            raise message
        return message

    @property
    def size(self) -> str:
        return f"{plural(self.nodes, 'node')}, {plural(self.cores, 'core')} of {self.name}"

    def close(self) -> None:
        """Leave the cluster; one of this machine's cores ends."""
        self.connection.close()
        self.process.join(HEAD_SECONDS)  # Ray ends its own processes
        self.process.kill()
        self.process.join()

    def prepare(self, shards: Iterable[Shard], repos: Path, rules: Rules) -> Iterator[Shard]:
        """Prepare all shards; each one as soon as it is done."""
        given: dict[int, Shard] = {}

        def tasks() -> Iterator[Task]:
            for position, shard in enumerate(shards):
                given[position] = shard
                away = Shard(shard.files, shard.result.absolute(), shard.numbers, shard.failed)
                yield prepare_on_node, (away, repos.absolute(), rules)

        for position, node in self.run(tasks()):
            shard = given.pop(position)
            if not is_seen(shard.result, SHARED_SECONDS):
                raise UserError(not_shared(shard.result.absolute().parent, node))
            yield shard


def check_ray_is_here() -> None:
    """Raise UserError if Ray is not installed, or too old."""
    try:
        installed = version("ray")
    except PackageNotFoundError:
        raise UserError(f"Ray is not installed: {sys.prefix}: run: {INSTALL}") from None
    if tuple(int(part) for part in installed.split(".")[:2]) < OLDEST:
        raise UserError(f"Ray {installed} is older than {TESTED}: {sys.prefix}: run: {INSTALL}")


def answers(address: str, seconds: float = 3) -> bool:
    """Whether something listens there."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), seconds):
            return True
    except (OSError, ValueError):
        return False


def is_seen(path: Path, seconds: float) -> bool:
    """Whether a file that another machine wrote is seen here, now or soon."""
    started = time.monotonic()
    while not path.exists():
        if time.monotonic() - started > seconds:
            return False
        time.sleep(0.2)
    return True


def not_shared(folder: Path, node: str) -> str:
    return (
        f"node {node} does not see what this machine has in it: {folder}: "
        "mount one shared folder at the same path on all nodes, and run from there"
    )


# On a node


def prepare_on_node(shard: Shard, repos: Path, rules: Rules) -> str:
    """Prepare a shard in a process of this node; the node's name."""
    prepare_in_kept_worker(shard, repos, rules)
    return socket.gethostname()


@dataclass(frozen=True)
class Expected:
    """What a node must have: the versions of this machine, and a file in each folder of repositories."""

    versions: tuple[tuple[str, str], ...]
    landmarks: tuple[tuple[Path, Path, int], ...]  # folder, a file (another folder may have its name), size


@lru_cache(maxsize=1)
def complaint(expected: Expected) -> str:
    """Why this node cannot take part; "" if it can."""
    host, found = socket.gethostname(), versions()
    for package, number in expected.versions:
        if found[package] != number:
            other = "does not have it" if found[package] == "none" else f"has {found[package]}"
            return (
                f"{package} {number} is on this machine, node {host} {other}: "
                "install the same versions on all nodes: pip install -r requirements.txt"
            )
    for folder, file, size in expected.landmarks:
        try:
            is_shared = file.stat().st_size == size or file == folder
        except OSError:
            is_shared = False
        if not is_shared:
            return not_shared(folder, host)
    return ""


def look_around(probe: Path, expected: Expected, node: str) -> tuple[str, str]:
    """(host, why it cannot take part) of a node, which leaves a file beside the probe if it can."""
    with suppress(OSError):
        probe.with_name(f"{probe.name}-{node}").touch()
    host = socket.gethostname()
    reason = complaint(expected)
    return host, reason or ("" if is_seen(probe, PROBE_SECONDS) else not_shared(probe.parent, host))


def call(expected: Expected, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What a function returns, or the error that the user can do something about, with the node's name.

    Each process looks at its node first: it may have joined after the run began.
    """
    try:
        return UserError(reason) if (reason := complaint(expected)) else function(*arguments)
    except OSError as error:
        where = f"{error.strerror or error} (on node {socket.gethostname()})"
        return OSError(error.errno, where, error.filename)
    except UserError as error:
        return UserError(f"{error} (on node {socket.gethostname()})")


# The connection


def connect(
    connection: Connection, address: str, jobs: int, log: Path, probe: Path, expected: Expected
) -> None:
    """The process that talks to Ray: sends (head, cores, nodes), then a result for each task that comes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the process that gives out the tasks
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if not address:  # who reaches a port of Ray can run anything; by itself it would leave a token in ~/.ray
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        join_cluster(address, jobs, log)
        connection.send(check_nodes(probe, expected))
        serve(connection, expected)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except (UserError, OSError) as error:
        connection.send(error)
    import ray

    ray.shutdown()


def join_cluster(address: str, jobs: int, log: Path) -> None:
    """Raises UserError if this is no cluster, or one of another version."""
    import ray

    code = {"working_dir": str(Path(__file__).resolve().parent.parent), "excludes": ["__pycache__"]}
    own: dict[str, Any] = {"num_cpus": jobs, "include_dashboard": False, "object_store_memory": 100_000_000}
    try:
        ray.init(
            address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env=code,
            **({} if address else own),
        )
    except Exception as error:  # noqa: BLE001  # Ray raises this very class if a machine is too busy
        text = " ".join(str(error).split())
        if "AuthToken" in log.read_text("utf-8", "replace"):  # said there, while the error says less
            raise UserError(
                f"the cluster asks for its token: {address}: copy ~/.ray/auth_token from its head, "
                "and set RAY_AUTH_MODE=token"
            ) from None
        if "ersion mismatch" in text:
            raise UserError(
                f"this machine and the cluster have different versions ({text[:300]}): {address}: "
                "install the same Python and Ray on all nodes"
            ) from None
        if address:
            raise UserError(
                f"Ray cannot join the cluster ({text[:300]}): {address}: run this on one of its nodes; "
                f"this machine becomes one by: ray start --address={address}"
            ) from None
        raise UserError(f"Ray does not start here ({text[:300]}): see its log, or leave out --ray") from None


def check_nodes(probe: Path, expected: Expected) -> tuple[str, int, int]:
    """(address of the head, cores, nodes). Raises UserError if a node differs, or does not share folders."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe.touch()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    look = ray.remote(look_around)
    asked = [
        look.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(probe, expected, node["NodeID"])
        for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        try:
            host, reason = ray.get(answer, timeout=START_SECONDS)
        except ray.exceptions.OutOfMemoryError as error:
            raise out_of_memory(error) from None
        except ray.exceptions.RayError as error:
            if node["NodeID"] not in {each["NodeID"] for each in ray.nodes() if each["Alive"]}:
                continue  # it has died since
            raise UserError(
                f"node {node['NodeManagerHostname']} cannot do this work ({end_of(error)}): "
                "see /tmp/ray/session_latest/logs on it, and whether its disk is full"
            ) from None
        if not reason and not is_seen(probe.with_name(f"{probe.name}-{node['NodeID']}"), PROBE_SECONDS):
            reason = not_shared(probe.parent, host)
        if reason:
            raise UserError(reason)
    head: str = ray.get_runtime_context().gcs_address
    return head, cores(), len(nodes)


def out_of_memory(error: Exception) -> UserError:
    """From Ray's error, which tells much more and has only the address of the node."""
    address = re.search(r"\(IP: ([^,\s]+),", str(error))
    what = f"too little memory, so Ray ended each process at a task: node {address[1] if address else '?'}"
    remedy = "give Ray fewer cores there (ray start --num-cpus) or stop it"
    return UserError(f"{what}: {AGAIN.format(remedy)}")


def end_of(error: Exception) -> str:
    """Of a traceback of Ray, what matters, in one line."""
    return " ".join(str(error).split())[-300:]


def cores() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def serve(connection: Connection, expected: Expected) -> None:
    """Give tasks to Ray as they come, send back (position, result, cores) or what ends the run."""
    import ray

    remote = ray.remote(call).options(num_cpus=1, max_retries=0)  # Ray would retry without end
    running: dict[Any, tuple[int, Task]] = {}
    losses: Counter[tuple[int, type]] = Counter()
    while True:
        while connection.poll(None if not running else 0):
            position, function, arguments = connection.recv()
            running[remote.remote(expected, function, arguments)] = position, (function, arguments)
        done, _ = ray.wait(list(running), timeout=0.2)
        for reference in done:
            position, task = running.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:  # an error of ours, or a package that is missing
                raise UserError(f"a task failed ({end_of(error)})") from None
            except ray.exceptions.RayError as error:  # a node or a process of Ray died
                result, kind = error, type(error)
                losses[position, kind] += 1
                if kind is ray.exceptions.OutOfMemoryError and losses[position, kind] >= MOST_MEMORY_LOST:
                    raise out_of_memory(error) from None
                if losses[position, kind] >= MOST_NODES_LOST:
                    what = f"nodes, or Ray's processes on them, die again and again ({kind.__name__})"
                    raise UserError(f"{what}: {AGAIN.format('see to the cluster')}") from None
            if isinstance(result, ray.exceptions.RayError):
                function, arguments = task
                running[remote.remote(expected, function, arguments)] = position, task
            elif isinstance(result, OSError | UserError):
                connection.send(result)
            else:
                connection.send((position, result, cores()))
