"""Delete everything from repos/ that is not a Python file: other files, links, .git, folders left empty.

The collector's record, repos/collection.db, stays. Links are removed, never followed, so that nothing outside
the folder can be deleted; a folder that the collector did not make is refused without --yes.

    python preprocess/data_cleaner.py --dry-run
    python preprocess/data_cleaner.py
    python preprocess/data_cleaner.py --repos ~/copies-of-my-projects --yes

--dry-run lists everything that would go and adds up its size. A run ends, for the standard library and the
installed packages of this machine:

    deleted                     number
      .pyc                       8,602
      .pyi                       1,308
      empty folders              1,119
      90 other kinds               617
    together                    13,707
    left in /home/ann/repos: 9,336 Python files
    took 2.1 s
    next: python preprocess/data_preprocess.py
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pwd
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cleaning import OPEN_FOLDER, Cleaning
from inventory import DATABASE, as_text
from next_stage import next_stage

LOCK = f"{DATABASE}-lock"  # held by a collector at work
KINDS_MOST = 10  # named each; the rest go together
NAMED_MOST = 5  # of the paths that could not be cleaned


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The docstring as it is, the options with their defaults."""


class CleanerError(ValueError):
    """A folder that must not be cleaned: why, which, what to do."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--repos", type=Path, default="repos", help="folder to clean")
    parser.add_argument("--dry-run", action="store_true", help="list what would be deleted, delete nothing")
    parser.add_argument("--yes", action="store_true", help="clean a folder that the collector did not make")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    started = time.monotonic()
    cleaning = Cleaning(listed=(lambda path: print(printable(path))) if options.dry_run else None)
    try:
        root = safe_root(options.repos, options.yes)
        with opened(root) as folder, not_being_collected(folder, root):
            cleaning.clean(folder)
    except CleanerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the list went to a program that has seen enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: cannot clean: {options.repos.absolute()}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run it again to go on from here", file=sys.stderr)
        return 130
    report(cleaning, root, options, time.monotonic() - started)
    return 3 if cleaning.failures else 0


def safe_root(repos: Path, yes: bool) -> Path:
    """The real path of the folder to clean. Raises CleanerError where that could hurt."""
    root = repos.resolve()
    if not root.is_dir():
        what = "this is not a folder" if root.exists() else "there is no such folder"
        raise CleanerError(
            f"{what}: {repos.absolute()}: run: python data_collector/data_collector.py --local"
        )
    for precious in (Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir), Path(__file__)):
        if root == precious.resolve() or root in precious.resolve().parents:
            raise CleanerError(
                f"this folder is never cleaned, because {precious} is in it: {root}: "
                "give the collected repositories: --repos repos"
            )
    if not yes and not (root / DATABASE).is_file():
        command = f"python preprocess/data_cleaner.py --repos {shlex.quote(str(repos))} --yes"
        raise CleanerError(
            f"the collector did not make this folder (it has no {DATABASE}): {root}: "
            f"to delete all but its Python files nevertheless, run: {command}"
        )
    return root


@contextmanager
def opened(root: Path) -> Iterator[int]:
    """The open folder, as a descriptor."""
    folder = os.open(root, OPEN_FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def not_being_collected(folder: int, root: Path) -> Iterator[None]:
    """Keep collectors out meanwhile. Raises CleanerError where one is at work."""
    try:
        lock = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CleanerError(
            f"a collector is at work on it: {root}: wait for it, then run this again"
        ) from None
    finally:
        os.close(lock)


def report(cleaning: Cleaning, root: Path, options: argparse.Namespace, seconds: float) -> None:
    """What was deleted by kind, what was freed and what is left, and the next command."""
    kept = f"{cleaning.python_files:,} Python files"
    for path, reason in sorted(cleaning.failures)[:NAMED_MOST]:
        print(f"warning: not cleaned: {printable(path)}: {reason}", file=sys.stderr)
    if len(cleaning.failures) > NAMED_MOST:
        print(f"warning: not cleaned: {len(cleaning.failures) - NAMED_MOST:,} more", file=sys.stderr)
    following = next_stage("preprocess/data_preprocess.py", repos=options.repos)
    if not cleaning.deleted and not cleaning.failures:
        print(f"up to date: {root} (nothing to delete, {kept})")
        print(f"next: {following}")
        return
    print_kinds(cleaning, options.dry_run)
    print(f"left in {root}: {kept}" + (" if it were run" if options.dry_run else ""))
    print(f"took {seconds:.1f} s")
    if options.dry_run:
        yes = ["--yes"] if options.yes else []
        following = next_stage("preprocess/data_cleaner.py", *yes, repos=options.repos)
    print(f"next: {following}")


def print_kinds(cleaning: Cleaning, dry_run: bool) -> None:
    """The number of each kind, and in a dry run what deleting would free."""

    def line(kind: str, number: int, freed: int) -> str:
        return f"{kind:<24}{number:>10,}" + (f"{freed / 1e6:>12,.1f}" if dry_run else "")

    freed, kinds = cleaning.freed, cleaning.deleted.most_common()
    print(f"{'would delete':<24}{'number':>10}{'MB':>12}" if dry_run else f"{'deleted':<24}{'number':>10}")
    for kind, number in kinds[:KINDS_MOST]:
        print(line(f"  {printable(kind)[:20]}", number, freed[kind]))
    if rest := kinds[KINDS_MOST:]:
        number, size = sum(n for _, n in rest), sum(freed[kind] for kind, _ in rest)
        print(line(f"  {len(rest):,} other kinds", number, size))
    print(line("together", cleaning.deleted.total(), freed.total()))


def printable(name: str) -> str:
    """A strange file's name without what a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in as_text(name))


if __name__ == "__main__":
    raise SystemExit(main())
