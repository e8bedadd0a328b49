"""Preprocessing beyond one machine: copies in bounded memory, the memory of the driver, Ray beside the pool.

    python benchmarks/cluster.py                                    copies and driver, small sizes
    python benchmarks/cluster.py --only copies --millions 0.1 1 10  the curve; 18 GB of disk for 10 million
    python benchmarks/cluster.py --only driver --millions 0.01 1
    python benchmarks/cluster.py --only overhead --repos repos      Ray on this machine, once it is up
    python benchmarks/cluster.py --only costs --terabytes 1 10

copies: signatures are made, not collected: three files in ten belong to families of up to thousands, whose
members differ in up to 30 % of their numbers. Each row is measured in a process of its own, which runs all
tasks itself: its peak is that of any process. driver: an inventory and results that are made, everything
after them is as in a run. costs: on paper, from the figures in MEASURED, which say where they come from.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "preprocess"))

from corpus.assembly import assemble
from corpus.copies import MEMORY_OF_A_FILE
from corpus.inventory import Inventory, Repository, SourceFile, SourceFiles, take_inventory
from corpus.near_duplicates import near_duplicates
from corpus.output_files import Outputs
from corpus.partitioned_duplicates import (
    RANKS,
    ROW_BITS,
    SIGNATURES,
    Means,
    near_duplicates_on_disk,
    run_here,
)
from corpus.selection import SIMILAR, Choice
from corpus.shards import ShardPlan
from documents.fingerprints import PERMUTATIONS
from documents.prepare import Rules
from executors.local_pool import Worker, prepare_in_workers

PARTS = ("copies", "driver", "overhead", "costs")
CHUNK = 1 << 14
HERE = 100_000_000  # bytes, as data_preprocess.py beside a cluster
SEED = 20261130

# What the costs are computed from. Machine A of LOG.md; CPU seconds, as the machine was busy.
MEASURED = {
    "bytes of a file": 10_700,  # 39.6 MB in 3,715 files: data_preprocess.py --help
    "seconds of a core to prepare a megabyte": 0.93,  # 18.5 s on two cores for them
    "microseconds of a core to find copies, a file": 60,  # --only copies, on disk, a million files
    "microseconds of the driver, a file": 89,  # --only driver, 100,000 files, without finding copies
    "bytes of results for a byte read": 0.94,  # data.cache: 81.8 MB for 86.6 MB in 5,214 files
    "bytes of text for a byte read": 0.93,  # data.txt: 80.6 MB for them
    "bytes of disk for copies, a file": 1800,  # --only copies: 1.8 GB for a million
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=["copies", "driver"])
    parser.add_argument("--millions", nargs="+", type=float, default=[0.01, 0.1])
    parser.add_argument("--memory", type=float, default=1.0, help="GB for each process")
    parser.add_argument("--repos", type=Path, default=Path("repos"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--terabytes", nargs="+", type=float, default=[1, 10])
    parser.add_argument("--folder", type=Path, default=None, help="for what is made (default: TMPDIR)")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    sizes = [round(1e6 * millions) for millions in options.millions]
    memory = round(1e9 * options.memory)
    if "copies" in options.only:
        show_copies(sizes, memory, options.folder)
    if "driver" in options.only:
        show_driver(sizes, memory, options.folder)
    if "overhead" in options.only:
        show_overhead(options.repos, options.jobs)
    if "costs" in options.only:
        show_costs(options.terabytes)
    return 0


# Copies


def show_copies(sizes: list[int], memory: int, folder: Path | None) -> None:
    print(f"copies among made signatures; on disk with {memory / 1e9:g} GB a process")
    head = f"{'files':>12}{'':4}{'way':<10}{'s':>8}{'CPU s':>8}{'files/CPU s':>13}"
    print(f"{head}{'peak MB':>9}{'disk GB':>9}{'dropped':>11}")
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            in_a_process(make_signatures, Path(name), size)
            ways = ["on disk"] + ["in memory"] * (size * MEMORY_OF_A_FILE < 8e9)
            results = {}
            for way in ways:
                arguments = Path(name), size, way, memory
                times, peak, disk, dropped, digest = in_a_process(measure_copies, *arguments)
                results[way] = digest
                row = f"{size:>12,}{'':4}{way:<10}{columns(size, times)}"
                print(f"{row}{peak:>9.0f}{disk / 1e9:>9.1f}{dropped:>11,}", flush=True)
            assert len(set(results.values())) == 1, "the two ways dropped different files"


def columns(size: int, times: tuple[float, float]) -> str:
    """Seconds, CPU seconds, and files per CPU second, which a busy machine changes least."""
    return f"{times[0]:>8.1f}{times[1]:>8.1f}{size / times[1]:>13,.0f}"


def make_signatures(folder: Path, size: int) -> None:
    """Signatures (size, 256) and ranks in random order of preference, in the files that the search reads."""
    rng = np.random.default_rng(SEED)
    with (folder / SIGNATURES).open("wb") as signatures, (folder / RANKS).open("wb") as ranks:
        for first in range(0, size, CHUNK):
            rows = np.arange(first, min(first + CHUNK, size), dtype=np.uint64)
            # The square of a uniform number: a few families are large, most have two or three members.
            family = (rng.random(len(rows)) ** 2 * size / 10).astype(np.uint64)
            alone = rng.random(len(rows)) < 0.7
            founders = mixed(np.where(alone, rows + np.uint64(size), family).astype(np.uint64))
            changed = rng.random((len(rows), PERMUTATIONS)) < rng.uniform(0, 0.3, (len(rows), 1))
            np.where(changed, mixed(rows + np.uint64(3 * size)), founders).astype("<u4").tofile(signatures)
            preference = rng.integers(0, 1 << 27, len(rows)).astype(np.uint64)
            (preference << np.uint64(ROW_BITS) | rows).astype("<u8").tofile(ranks)


def mixed(seeds: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """256 numbers for each seed (n,), always the same: SplitMix64 (Steele, Lea and Flood 2014)."""
    state = np.arange(PERMUTATIONS, dtype=np.uint64) + (seeds * np.uint64(PERMUTATIONS))[:, None]
    state *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (32, 1)):
        state ^= state >> np.uint64(shift)
        state *= np.uint64(factor)
    return state.astype(np.uint32)


def near_threshold(one: int, other: int) -> float:
    """Instead of the texts, which are not made: a similarity on one side of the threshold or the other."""
    return SIMILAR + (((one ^ other) * 2654435761 >> 7) % 201 - 100) / 1000


def measure_copies(folder: Path, size: int, way: str, memory: int) -> tuple[Any, ...]:
    """(seconds and CPU seconds, peak in MB, most bytes on disk, dropped files, a hash of them)."""
    before, most = clocks(), 0

    def watching(tasks: Any) -> Iterator[tuple[int, Any]]:
        nonlocal most
        for result in run_here(tasks):
            most = max(most, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
            yield result

    if way == "on disk":
        means = Means(watching, memory, memory)
        found = near_duplicates_on_disk(folder, size, SIMILAR, near_threshold, means)
    else:
        signatures = np.fromfile(folder / SIGNATURES, "<u4").reshape(-1, PERMUTATIONS)
        order = np.argsort(np.fromfile(folder / RANKS, "<u8")).tolist()
        found = iter(sorted(near_duplicates(signatures, order, SIMILAR, near_threshold).items()))
    dropped, digest = 0, blake2b()
    for row, kept in found:  # one after the other, so that the result does not count as memory
        dropped += 1
        digest.update(b"%d %d\n" % (row, kept.winner))
    return since(before), peak_megabytes(), most, dropped, digest.hexdigest()


# The driver


def show_driver(sizes: list[int], memory: int, folder: Path | None) -> None:
    print(f"the process that assembles the corpus, {memory / 1e9:g} GB allowed for copies")
    print(f"{'files':>12}{'s':>8}{'CPU s':>8}{'files/CPU s':>13}{'peak MB':>9}")
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            times, peak = in_a_process(measure_driver, Path(name), size, memory)
        print(f"{size:>12,}{columns(size, times)}{peak:>9.0f}", flush=True)


def measure_driver(folder: Path, size: int, memory: int) -> tuple[tuple[float, float], float]:
    outputs = Outputs.named(str(folder / "data.txt"), False)
    outputs.cache.mkdir(parents=True)
    inventory = made_inventory(size)
    plan = ShardPlan(inventory.files, outputs.cache, "made")
    for shard in plan:
        write_result(shard.result, list(shard.numbers))
    before = clocks()
    options = {"repos": "made"}
    assemble(inventory, {}, plan, outputs, "made", Choice(), options, Means(run_here, memory, HERE))
    return since(before), peak_megabytes()


def made_inventory(size: int) -> Inventory:
    """A hundred files in each repository."""
    inventory = Inventory(files=SourceFiles())
    for number in range(size):
        repo = f"owner-{number // 10_000}/name-{number // 100}"
        if number % 100 == 0:
            inventory.repositories[repo] = Repository(repo, "", "MIT", stars=number % 97)
        path = f"src/package/module_{number % 100}.py"
        inventory.files.append(SourceFile(repo, path, f"{repo}/{path}", 40, number))
    inventory.files.sort()
    return inventory


def write_result(result: Path, numbers: list[int]) -> None:
    """The result of a shard of one short piece a file, one file in twenty a copy of another."""
    outcomes, pieces = [], []
    for number in numbers:
        text = f"value = {number - number % 20 if number % 20 == 1 else number}\n"
        digest = f"{hash(text) & (1 << 64) - 1:016x}" * 2
        outcomes.append((None, 1, len(text), len(text), 0, "", digest, True))
        pieces.append(json.dumps(text).encode() + b"\n")
    body = b"".join(pieces) + mixed(np.array(numbers, np.uint64)).astype("<u4").tobytes()
    result.write_bytes(json.dumps([len(body), outcomes]).encode() + b"\n" + body)


# Ray beside the pool


def show_overhead(repos: Path, jobs: int) -> None:
    """Both in turn, twice, because the machine may be busy; Ray's start is not counted, but shown.

    The processes that prepare are kept from turn to turn on both sides: their start is not counted either.
    """
    from executors.ray_cluster import Cluster

    files = take_inventory([repos]).files
    size = sum(file.size for file in files)
    print(f"preparing {len(files):,} files, {size / 1e6:.1f} MB, {jobs} processes: seconds")
    rules = Rules()
    taken: dict[str, list[float]] = {"pool": [], "ray": []}
    kept: list[Worker] = []
    with tempfile.TemporaryDirectory() as name:
        shared = Path(name) / "prepared"
        shared.mkdir()
        started = time.monotonic()
        cluster = Cluster("", jobs, shared, [repos])
        print(f"Ray's start: {time.monotonic() - started:.1f}")
        ways: dict[str, Callable[[], object]] = {
            "pool": lambda: list(prepare_in_workers(ShardPlan(files, shared, "x"), repos, rules, jobs, kept)),
            "ray": lambda: list(cluster.prepare(ShardPlan(files, shared, "x"), repos, rules)),
        }
        for turn in range(3):
            for way, prepare in ways.items():
                started = time.monotonic()
                prepare()
                if turn:  # the first starts the processes
                    taken[way].append(time.monotonic() - started)
                for path in shared.iterdir():
                    path.unlink()
        cluster.close()
    for worker in kept:
        worker.end()
    for way, seconds in taken.items():
        print(f"{way:<6}" + "".join(f"{each:8.1f}" for each in seconds))
    print(f"ray / pool: {min(taken['ray']) / min(taken['pool']):.2f}")


# Costs on paper


def show_costs(terabytes: list[float]) -> None:
    for name, figure in MEASURED.items():
        print(f"{figure:>12,g}  {name}")
    print(f"\n{'TB read':>8}{'files':>16}{'core hours':>12}{'driver h':>10}{'disk TB':>9}{'network TB':>12}")
    for size in terabytes:
        files = size * 1e12 / MEASURED["bytes of a file"]
        prepare = size * 1e6 * MEASURED["seconds of a core to prepare a megabyte"] / 3600
        copies = files * MEASURED["microseconds of a core to find copies, a file"] / 1e6 / 3600
        driver = files * MEASURED["microseconds of the driver, a file"] / 1e6 / 3600
        results = size * MEASURED["bytes of results for a byte read"]
        text = size * MEASURED["bytes of text for a byte read"]
        of_copies = files * MEASURED["bytes of disk for copies, a file"] / 1e12
        # Files are read once; results written, read twice; what copies need is written and read twice.
        network = size + 3 * results + text + 3 * of_copies
        disk = size + results + text + of_copies
        print(
            f"{size:>8g}{files:>16,.0f}{prepare + copies:>12,.0f}{driver:>10,.1f}{disk:>9.1f}{network:>12.1f}"
        )


# Measuring


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own, whose peak is its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def since(before: tuple[float, float]) -> tuple[float, float]:
    """Seconds and CPU seconds of this process."""
    now = clocks()
    return now[0] - before[0], now[1] - before[1]


def peak_megabytes() -> float:
    """Of this process since it began: Linux counts it anew for each program, getrusage does not."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("this needs Linux")


if __name__ == "__main__":
    raise SystemExit(main())
