"""Stages 2 and 3 beside their peers, in one run: speed, near-duplicates, secrets, cleaning.

    python benchmarks/preprocess.py                       all four, on 40 MB of this machine's Python code
    python benchmarks/preprocess.py --repos repos --only speed secrets
    python benchmarks/preprocess.py --only cleaner --files 20000

Prints a table for each; CPU seconds count this process's children too. speed: the whole stage (read, decode,
lex, filter, secrets, compile, signatures, both deduplications, write) with one and two processes beside a
bare pass of the standard library's tokenize and libcst's parser. near: precision and recall against the exact
Jaccard similarity of every pair, beside datasketch. secrets: planted tokens of known kinds, and what is found
in library files without any. cleaner: the CPU time beside `find -type f ! -name '*.py' -delete`, in TMPDIR
(in memory, with TMPDIR=/dev/shm, the 600,000 files of a run are made in seconds, on some disks in many
minutes).
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
import tokenize
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "preprocess"))

from documents.comments import UndecodableError, UnlexableError, decode_source, strip_comments
from documents.fingerprints import PERMUTATIONS, TO_WORDS, shingles, signature
from documents.prepare import compile_error
from documents.redaction import EMAIL, IP_ADDRESS, find_secrets, redact
from exact_similarity import found_pairs, losers_by_pairs, similar_pairs
from planted_secrets import secret_kinds, secret_part

PARTS = ("speed", "near", "secrets", "cleaner")
SIMILAR = 0.7
LIBCST_SHARE = 20  # one file in so many: it is far slower


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--repos", type=Path, help="folder of repositories (default: this machine's code)")
    parser.add_argument("--max-mb", type=float, default=40, help="of this machine's code")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--sample", type=int, default=4000, help="files of which all pairs are compared")
    parser.add_argument("--planted", type=int, default=50, help="secrets of each kind")
    parser.add_argument("--files", type=int, default=200_000, help="files for the cleaner")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="preprocess-") as folder:
        repos = options.repos or collected(Path(folder), options.max_mb)
        files = sorted(file for file in repos.rglob("*.py") if file.is_file() and not file.is_symlink())
        if "speed" in options.only:
            measure_speed(repos, files, Path(folder))
        if "near" in options.only:
            measure_near_duplicates(options.sample)
        if "secrets" in options.only:
            measure_secrets(options.planted)
        if "cleaner" in options.only:
            measure_cleaner(Path(folder), options.files)
    return 0


def collected(folder: Path, max_mb: float) -> Path:
    """A folder with the Python code of this machine, collected by stage 1."""
    command = [sys.executable, str(PROJECT / "data_collector" / "data_collector.py"), "--local"]
    run([*command, "--max-mb", f"{max_mb:g}"], folder)
    return folder / "repos"


def run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of this process and its children."""
    before, start = os.times(), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - start, os.times()
    return seconds, sum(after[:4]) - sum(before[:4])


def measure_speed(repos: Path, files: list[Path], folder: Path) -> None:
    size = sum(file.stat().st_size for file in files)
    script = [sys.executable, str(PROJECT / "preprocess" / "data_preprocess.py"), "--repos", str(repos)]

    def stage(jobs: int) -> Callable[[], object]:
        output = folder / f"jobs{jobs}.txt"
        return lambda: run([*script, "--output", str(output), "--jobs", str(jobs)], folder)

    def repeated() -> None:
        (folder / "jobs1.summary.json").unlink()
        run([*script, "--output", str(folder / "jobs1.txt"), "--jobs", "1"], folder)

    run([*script[:-1], str(tiny(folder)), "--output", str(folder / "tiny.txt")], folder)  # kingfisher's cache
    rows = {
        "tokenize": timed(lambda: tokenize_all(files)),
        "whole stage, 1 process": timed(stage(1)),
        "tokenize again": timed(lambda: tokenize_all(files)),
        "whole stage, 2 processes": timed(stage(2)),
        "again, all prepared": timed(repeated),
    }
    sample = files[::LIBCST_SHARE]
    scale = size / max(1, sum(file.stat().st_size for file in sample))
    seconds, cpu = timed(lambda: parse_with_libcst(sample))
    rows[f"libcst (1 in {LIBCST_SHARE})"] = seconds * scale, cpu * scale
    wall, base = (rows["tokenize"][i] / 2 + rows["tokenize again"][i] / 2 for i in (0, 1))
    print(
        f"\nspeed: {len(files):,} files, {size / 1e6:.1f} MB; ratios to the mean of both passes of tokenize"
    )
    print(f"{'':<26}{'s':>8}{'CPU s':>8}{'by clock':>10}{'by CPU':>8}")
    for name, (seconds, cpu) in rows.items():
        print(f"{name:<26}{seconds:8.1f}{cpu:8.1f}{wall / seconds:9.2f}x{base / cpu:7.2f}x")


def tiny(folder: Path) -> Path:
    path = folder / "tiny" / "a" / "b" / "c.py"
    path.parent.mkdir(parents=True)
    path.write_text("print('something of a file')\n", encoding="utf-8")
    return folder / "tiny"


def tokenize_all(files: list[Path]) -> None:
    for file in files:
        try:
            with tokenize.open(file) as lines:
                for _ in tokenize.generate_tokens(lines.readline):
                    pass
        except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):
            continue


def parse_with_libcst(files: list[Path]) -> None:
    import libcst

    for file in files:
        try:
            libcst.parse_module(file.read_bytes())
        except (libcst.ParserSyntaxError, UnicodeDecodeError, RecursionError):
            continue


def library_code(most: int | None = None) -> list[str]:
    """The stripped code of the standard library and the installed packages, in a fixed random order."""
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    files = sorted({file for folder in folders for file in Path(folder).rglob("*.py") if file.is_file()})
    random.Random(0).shuffle(files)
    texts: list[str] = []
    for file in files:
        if len(texts) == most:
            break
        try:
            texts.append(strip_comments(decode_source(file.read_bytes())))
        except (UndecodableError, UnlexableError):
            continue
    return texts


def measure_near_duplicates(sample: int) -> None:
    texts = [text for text in library_code(sample) if len(shingles(text))]
    sets = [np.unique(shingles(text)) for text in texts]
    truth: dict[tuple[int, int], float] = {}
    seconds, cpu = timed(lambda: truth.update(similar_pairs(sets, SIMILAR)))
    found: dict[tuple[int, int], float] = {}

    def ours() -> None:
        blob = b"".join(map(signature, texts))
        matrix = np.frombuffer(blob, "<u4").reshape(-1, PERMUTATIONS)
        found.update(found_pairs(matrix, sets, SIMILAR))

    theirs: set[tuple[int, int]] = set()
    rows = {
        "here": (timed(ours), set(found), found),
        "datasketch": (timed(lambda: theirs.update(pairs_by_datasketch(texts))), theirs, {}),
    }
    print(f"\nnear-duplicates: {len(texts):,} files, {len(truth):,} pairs of similarity {SIMILAR} or more")
    print(f"{'':<26}{'s':>8}{'CPU s':>8}{'precision':>11}{'recall':>8}")
    print(f"{'every pair, exactly':<26}{seconds:8.1f}{cpu:8.1f}")
    for name, (times, pairs, _) in rows.items():
        right = len(pairs & truth.keys())
        print(
            f"{name:<26}{times[0]:8.1f}{times[1]:8.1f}{right / max(1, len(pairs)):10.1%}"
            f"{right / max(1, len(truth)):8.1%}"
        )
    dropped, should = losers_by_pairs(len(texts), found), losers_by_pairs(len(texts), truth)
    right = len(dropped & should)
    print(
        f"files dropped here: {len(dropped):,}, by exact similarities {len(should):,}:"
        f" precision {right / max(1, len(dropped)):.1%}, recall {right / max(1, len(should)):.1%}"
    )


def pairs_by_datasketch(texts: list[str]) -> set[tuple[int, int]]:
    """Its MinHash and LSH with the same number of permutations, candidates checked by its own estimate."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=SIMILAR, num_perm=PERMUTATIONS)
    minhashes: list[MinHash] = []
    pairs: set[tuple[int, int]] = set()
    for number, text in enumerate(texts):
        words = text.encode().translate(TO_WORDS).split()
        minhash = MinHash(num_perm=PERMUTATIONS)
        minhash.update_batch({b" ".join(words[start : start + 5]) for start in range(len(words) - 4)})
        for other in index.query(minhash):
            if minhashes[other].jaccard(minhash) >= SIMILAR:
                pairs.add((other, number))
        minhashes.append(minhash)
        index.insert(number, minhash)
    return pairs


def measure_secrets(planted: int) -> None:
    texts = [text for text in library_code(6000) if text]
    rng = random.Random(0)
    hosts = [text for text in texts if "\n\n" in text and not find_secrets(text)]
    print(f"\nsecrets: {planted} of each kind planted in library files, one a file")
    together = Counter[str]()
    for kind, make in secret_kinds().items():
        gone = 0
        for _ in range(planted):
            secret = make(rng)
            code = planted_in(hosts, f'SETTING = {{"value": """{secret}"""}}\n', rng)
            gone += secret_part(kind, secret) not in redact(code).text
        together["planted"] += planted
        together["gone"] += gone
        print(f"  {kind:<24}{gone / planted:8.1%}")
    print(f"  {'together':<24}{together['gone'] / together['planted']:8.1%}")
    found = [(secret, text) for text in texts for secret in find_secrets(text)]
    kinds = Counter(secret.kind for secret, _ in found)
    alarms = [(secret, text) for secret, text in found if secret.kind not in (EMAIL, IP_ADDRESS)]
    print(
        f"in {len(texts):,} library files: {kinds[EMAIL]:,} e-mail addresses, {kinds[IP_ADDRESS]:,} public"
        f" addresses; {len(alarms)} keys and passwords, {1000 * len(alarms) / len(texts):.2f} in 1,000 files"
    )
    for alarm, text in alarms:
        print(f"  {alarm.kind}: {text[max(0, alarm.start - 40) : alarm.end + 10]!r}")


def planted_in(hosts: list[str], statement: str, rng: random.Random) -> str:
    """One of the files with a statement put at its first empty line, such that it still compiles."""
    while True:
        host = rng.choice(hosts)
        place = host.index("\n\n") + 2
        code = f"{host[:place]}{statement}{host[place:]}"
        if not compile_error(code):
            return code


def measure_cleaner(folder: Path, files: int) -> None:
    script = [sys.executable, str(PROJECT / "preprocess" / "data_cleaner.py"), "--yes", "--repos"]
    times: dict[str, list[float]] = {"find": [], "data_cleaner.py": []}
    for _ in range(3):
        for name in times:
            tree = folder / "tree"
            plant_tree(tree, files)
            find = ["find", str(tree), "-type", "f", "!", "-name", "*.py", "-delete"]
            command = find if name == "find" else [*script, str(tree)]
            times[name].append(timed(lambda command=command: run(command, folder))[1])  # type: ignore[misc]
            run(["rm", "-r", str(tree)], folder)
    print(f"\ncleaner: {files:,} files, half of them Python, 50 a folder; CPU seconds, best of 3")
    base = min(times["find"])
    for name, taken in times.items():
        print(f"{name:<26}{min(taken):8.2f}{min(taken) / base:7.2f}x")


def plant_tree(tree: Path, files: int) -> None:
    for folder in range(files // 50):
        path = tree / str(folder % 100) / str(folder)
        path.mkdir(parents=True)
        for number in range(50):
            suffix = (".py", ".md")[number % 2]
            os.close(os.open(path / f"{number}{suffix}", os.O_CREAT | os.O_WRONLY))


if __name__ == "__main__":
    raise SystemExit(main())
