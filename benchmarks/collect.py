"""What the collector costs beside the plain ways of doing the same: requests, bytes, seconds, memory.

    python benchmarks/collect.py requests
    python benchmarks/collect.py clones
    python benchmarks/collect.py memory --repositories 1000000

Everything runs against servers on this machine, with repositories made here from the standard library's
files and random assets. requests: searches for 4,000 repositories, half of them made in one day of thirty,
beside halving. clones: network bytes and seconds of full clones, `--depth 1` clones and ours, one at a time
and eight at once, with 80 ms added to each request; for small repositories also as if all of them were
fetched in part. memory: the resident memory while a generated listing is recorded. The limits are printed
beside the figures.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from journey import PROJECT, HelpFormatter

for folder in ("data_collector", "tests"):
    sys.path.insert(0, str(PROJECT / folder))

from cloning.clone import PARTIAL_CLONE_KB, Cloner  # noqa: E402
from cloning.git_environment import git_environment  # noqa: E402
from collecting.github_run import GitHubRun, Options  # noqa: E402
from collection.record import Collection  # noqa: E402
from collection.request import Request, SearchQuery, Span, timestamp  # noqa: E402
from collection.search_record import FoundRepository  # noqa: E402
from git_stand_in import Tree, git, make_repository  # noqa: E402
from github_stand_in import Fault, GitHubStandIn, moment, stamp  # noqa: E402
from search.date_windows import search  # noqa: E402
from search.github_api import GitHub, Hooks, Page  # noqa: E402

QUERY = SearchQuery("language:Python")
MONTH = moment("2024-03-01T00:00:00Z")
DAY = 86_400
STDLIB = Path(os.__file__).parent
LATENCY = 0.08  # seconds


def no_wait(seconds: float, reason: str) -> None:
    """Stand-ins without limits have nothing to wait for."""


# Searching


def halving(github: GitHub, first: int, last: int, found: set[str]) -> None:
    """The reference: a range with more than 1,000 is halved, and the page that told so is kept."""
    words = f"{QUERY.words} created:{stamp(first)}..{stamp(last)}"
    page = github.page(words, 1)
    add_ids(found, page.repositories)
    if page.total > 1000:
        middle = (first + last) // 2
        halving(github, first, middle, found)
        halving(github, middle + 1, last, found)
        return
    for number in range(2, -(-page.total // 100) + 1):
        add_ids(found, github.page(words, number).repositories)


def day_by_day(github: GitHub, found: set[str]) -> None:
    """What most scripts do: a search for each day, as far as GitHub shows it."""
    for day in range(30):
        first = MONTH + day * DAY
        words = f"{QUERY.words} created:{stamp(first)}..{stamp(first + DAY - 1)}"
        page = github.page(words, 1)
        add_ids(found, page.repositories)
        for number in range(2, min(-(-page.total // 100), 10) + 1):
            add_ids(found, github.page(words, number).repositories)


def add_ids(found: set[str], repositories: list[FoundRepository]) -> None:
    found |= {repository.id for repository in repositories}


def compare_requests(seeds: int) -> None:
    print(f"{'seed':<6}{'way':<14}{'searches':>9}{'found':>8}{'beside halving':>16}  limit 1.10")
    span = Span(MONTH, MONTH + 30 * DAY - 1)
    for seed in range(seeds):
        chance = random.Random(seed)
        with tempfile.TemporaryDirectory() as folder, GitHubStandIn(Path(folder)) as stand_in:
            for number in range(4000):
                second = chance.randrange(30 * DAY) if number < 2000 else 12 * DAY + chance.randrange(DAY)
                stand_in.add(f"o/{number}", stamp(MONTH + second))
            ways: dict[str, Callable[[GitHub, set[str]], object]] = {
                "halving": lambda github, found: halving(github, span.low, span.high, found),
                "day by day": day_by_day,
                "ours": lambda github, found: list(search(github, QUERY, span, partial(add_ids, found))),
            }
            searches: dict[str, int] = {}
            for name, way in ways.items():
                github, found = GitHub(stand_in.url, None, Hooks(no_wait)), set[str]()
                way(github, found)
                searches[name] = github.requests
                ratio = github.requests / searches["halving"]
                print(f"{seed:<6}{name:<14}{github.requests:>9}{len(found) / 4000:>8.1%}{ratio:>16.2f}")


# Cloning


@dataclass(frozen=True)
class Sample:
    """A repository of the stand-in: its name and the size that the API would say."""

    name: str
    size_kb: int


def python_tree(chance: random.Random, files: int) -> Tree:
    """Files of the standard library, as a package has them."""
    paths = chance.sample(sorted(STDLIB.glob("*.py")), files)
    return {f"src/{path.name}": path.read_bytes() for path in paths}


def asset_rich(root: Path, count: int, seed: int) -> list[Sample]:
    """Repositories as machine learners have them: a few modules, pictures and weights, a history."""
    chance = random.Random(seed)
    samples = []
    for number in range(count):
        name = f"rich/r{number}"
        tree = python_tree(chance, 12)
        assets = {f"assets/{n}.bin": chance.randbytes(chance.randrange(200_000, 900_000)) for n in range(8)}
        commit = ""
        for version in range(4):  # assets that were changed make a full clone larger still
            changed = {f"assets/{version}.bin": chance.randbytes(400_000)}
            commit = make_repository(root / f"{name}.git", {**tree, **assets, **changed}, parent=commit)
        samples.append(Sample(name, packed(root / f"{name}.git") // 1000))
    return samples


def small_ones(root: Path, count: int, seed: int) -> list[Sample]:
    """Repositories as most are: a handful of modules and a text or two."""
    chance = random.Random(seed)
    samples = []
    for number in range(count):
        name = f"small/r{number}"
        tree = python_tree(chance, chance.randrange(1, 8))
        texts: Tree = {"README.md": b"Readme. " * 200, "LICENSE": b"MIT " * 50}
        make_repository(root / f"{name}.git", {**tree, **texts})
        samples.append(Sample(name, packed(root / f"{name}.git") // 1000))
    return samples


def packed(repository: Path) -> int:
    """Pack a repository as a server has it, and return its bytes on the disk."""
    git(repository, "repack", "-adq")
    return sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())


def ours(server: GitHubStandIn, samples: list[Sample], jobs: int, folder: Path) -> None:
    """Fetch with the collector's own cloner, so many at a time."""
    with closing(Cloner(threading.Event())) as cloner, ThreadPoolExecutor(jobs) as threads:

        def fetch(sample: Sample) -> int:
            place = folder / sample.name.replace("/", "-")
            place.mkdir(parents=True)
            url = f"{server.url}/{sample.name}.git"
            return cloner.fetch(url, place, size_kb=sample.size_kb, license="").files

        assert all(threads.map(fetch, samples)), "a repository gave no Python file"


def plain(server: GitHubStandIn, samples: list[Sample], options: list[str], folder: Path) -> None:
    """One `git clone` after the other."""
    folder.mkdir()
    environment = {**os.environ, **git_environment(folder, allow_http=True)}
    for sample in samples:
        command = ["git", "clone", "--quiet", *options, f"{server.url}/{sample.name}.git"]
        place = str(folder / sample.name.replace("/", "-"))
        subprocess.run([*command, place], env=environment, check=True)


def measured(server: GitHubStandIn, way: Callable[[Path], None], runs: int) -> tuple[int, float, int]:
    """Bytes that the server sent, the fastest of several runs in seconds, and requests."""
    seconds = []
    for _ in range(runs):
        server.git_requests.clear()
        server.git_bytes = 0
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            way(Path(folder, "clones"))
            seconds.append(time.perf_counter() - start)
    return server.git_bytes, min(seconds), len(server.git_requests)


def compare_clones(count: int, runs: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, GitHubStandIn(Path(folder)) as server:

        def late(_: str) -> Fault | None:
            time.sleep(LATENCY)
            return None

        server.before_git = late
        for kind, samples in (
            ("asset-rich", asset_rich(Path(folder), count, seed)),
            ("small", small_ones(Path(folder), count, seed)),
        ):
            ways = {
                "full, serial": (1, partial(plain, server, samples, [])),
                "--depth 1, serial": (1, partial(plain, server, samples, ["--depth=1"])),
                "ours, 1 at a time": (1, partial(ours, server, samples, 1)),
                "ours, 8 at once": (8, partial(ours, server, samples, 8)),
            }
            if kind == "small":  # what the choice by size saves, or costs
                in_part = [replace(sample, size_kb=PARTIAL_CLONE_KB) for sample in samples]
                ways["ours, all in part"] = (8, partial(ours, server, in_part, 8))
            print(f"\n{len(samples)} {kind} repositories, {LATENCY * 1000:.0f} ms added to each request")
            print(f"{'':<20}{'MB sent':>9}{'requests':>10}{'seconds':>9}{'a clone':>9}")
            results = {name: measured(server, way, runs) for name, (_, way) in ways.items()}
            for name, (size, seconds, requests) in results.items():
                clone = ways[name][0] * seconds / len(samples)
                print(f"{name:<20}{size / 1e6:>9.2f}{requests:>10}{seconds:>9.2f}{clone:>9.2f}")
            share = results["ours, 8 at once"][0] / results["--depth 1, serial"][0]
            speed = results["ours, 1 at a time"][1] / results["ours, 8 at once"][1]
            limit = "at most 0.20" if kind == "asset-rich" else "no limit: whole shallow clones"
            print(f"bytes beside --depth 1: {share:.3f} ({limit})")
            print(f"8 at once: {speed:.1f} times as fast as one at a time (at least 2.5)")


# Listing


class GeneratedListing(GitHub):
    """A search whose answers are computed: one repository a second, as far as it is asked."""

    def __init__(self, on_request: Callable[[int], None]) -> None:
        super().__init__("http://127.0.0.1:1", None, Hooks(no_wait))
        self._on_request = on_request

    def page(self, query: str, number: int, sort: str = "updated") -> Page:
        """As many repositories as the range has seconds; 1,000 are shown."""
        self.requests += 1
        created = query.split("created:")[1].split(" ")[0]
        first, last = (moment(end) for end in created.split(".."))
        self._on_request(first)
        start = first + 100 * (number - 1)
        seconds = range(start, min(start + 100, last + 1))
        return Page(last - first + 1, False, [self._repository(second) for second in seconds])

    def _repository(self, second: int) -> FoundRepository:
        name = f"owner{second % 50_000}/repository{second}"
        return FoundRepository(
            id=f"{self.host}/{second}",
            full_name=name,
            source=self.host,
            clone_url=f"https://github.com/{name}.git",
            license="MIT",
            stars=second % 7,
            forks=0,
            is_fork=False,
            created_at=timestamp(second),
            pushed_at=timestamp(second),
            size_kb=second % 3000,
        )


def measure_memory(repositories: int) -> None:
    """Record a generated listing and print the resident memory on the way."""
    folder = Path(tempfile.mkdtemp(prefix="listing-"))
    process = psutil.Process()
    start = time.perf_counter()
    shown = iter(steps(repositories))
    following = next(shown)
    print(f"{'listed':>12}{'MB resident':>13}{'seconds':>9}")

    def report(first: int) -> None:
        nonlocal following
        if first - MONTH >= following:
            resident = process.memory_info().rss / 1e6
            print(f"{first - MONTH:>12,}{resident:>13.1f}{time.perf_counter() - start:>9.0f}", flush=True)
            following = next(shown, repositories * 2)

    github = GeneratedListing(report)
    request = Request(github.host, (QUERY,), timestamp(MONTH), timestamp(MONTH + repositories - 1))
    try:
        with Collection(folder / "repos") as collection:
            run = GitHubRun(collection, request, Options(is_plan=True))
            run.searching.search(github)
            report(MONTH + repositories)
            listed = sum(tally.repositories for tally in collection.tally.of(request).values())
            print(f"{listed:,} recorded with {github.requests:,} searches; memory must not grow with them")
    finally:
        shutil.rmtree(folder)


def steps(repositories: int) -> Iterator[int]:
    """Where the memory is looked at: after 2 %, then after each tenth."""
    yield repositories // 50
    yield from (repositories * tenth // 10 for tenth in range(1, 11))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("what", choices=["requests", "clones", "memory"], help="what is compared")
    parser.add_argument("--seeds", type=int, default=3, help="requests: distributions of the repositories")
    parser.add_argument("--count", type=int, default=16, help="clones: repositories of each kind")
    parser.add_argument("--runs", type=int, default=2, help="clones: runs of each way, the fastest counts")
    parser.add_argument("--repositories", type=int, default=1_000_000, help="memory: length of the listing")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    if options.what == "requests":
        compare_requests(options.seeds)
    elif options.what == "clones":
        compare_clones(options.count, options.runs, seed=0)
    else:
        measure_memory(options.repositories)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
