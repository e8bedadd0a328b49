"""Delete everything from repos/ that is not a Python file: other files, links, .git, empty folders.

The collector's record, repos/collection.db, stays. Links are removed, never followed, so nothing outside the
folder can be deleted. A folder that the collector did not make is refused without --yes.

    python preprocess/data_cleaner.py --dry-run
    python preprocess/data_cleaner.py
    python preprocess/data_cleaner.py --repos ~/copies-of-my-projects --yes

--dry-run lists everything that would be deleted and adds up its size. A run ends like this, here for the
standard library and the installed packages of this machine:

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

from preprocess_cli import DONE, GAPS, UserError, next_stage, plural, printable, run_script, script_parser

# isort: split
import argparse
import fcntl
import os
import pwd
import shlex
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from corpus.inventory import DATABASE, SKIPPED_AT_ROOT, as_text, is_python_name

LOCK = f"{DATABASE}-lock"  # held by a running collector
GIT = ".git"

# What deleted entries are counted as, if not by their suffix.
FOLDERS = "empty folders"
LINKS = "links"
SPECIAL = "special files"  # pipes, sockets, devices
NO_SUFFIX = "no suffix"
MOST_KINDS = 10  # shown one by one; the others are added up
MOST_NAMED = 5  # of the paths that could not be cleaned

MOST_LEVELS = (
    200  # each one costs a file descriptor, of which there are often 1,024, and 3 of 1,000 stack frames
)
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--repos", type=Path, nargs="+", default="repos", metavar="FOLDER", help="folders to clean"
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be deleted, delete nothing")
    parser.add_argument("--yes", action="store_true", help="clean a folder that the collector did not make")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    options.repos = options.repos if isinstance(options.repos, list) else [options.repos]
    return run_script(
        lambda: clean(options),
        interrupted="run it again to finish",
        place=options.repos[0],
        remedy="check the path, its permissions and the disk, then run it again",
    )


def clean(options: argparse.Namespace) -> int:
    """Clean the folders and print what was done; the exit code."""
    failed = False
    for root in [safe_root(folder, options.yes) for folder in options.repos]:
        started = time.monotonic()
        listed = (lambda path: print(printable(as_text(path)))) if options.dry_run else None
        cleaning = Cleaning(listed=listed)
        with opened(root) as folder, collectors_kept_out(folder, root):
            cleaning.clean(folder)
        report(cleaning, root, options, time.monotonic() - started)
        failed |= bool(cleaning.failures)
    following = ["preprocess/data_preprocess.py"]
    if options.dry_run:
        following = ["preprocess/data_cleaner.py", *(["--yes"] if options.yes else [])]
    if len(options.repos) > 1:
        print(f"next: {next_stage(*following, '--repos', *map(str, options.repos))}")
    else:
        print(f"next: {next_stage(*following, repos=options.repos[0])}")
    return GAPS if failed else DONE


def safe_root(repos: Path, yes: bool) -> Path:
    """The real path of the folder to clean. Raises UserError if cleaning it could do harm."""
    root = repos.resolve()
    if not root.is_dir():
        what = "this is not a folder" if root.exists() else "there is no such folder"
        raise UserError(f"{what}: {repos.absolute()}: run: python data_collector/data_collector.py --local")
    for precious in (Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir), Path(__file__)):
        if root == precious.resolve() or root in precious.resolve().parents:
            raise UserError(
                f"this folder is never cleaned, because {precious} is in it: {root}: "
                "give the collected repositories: --repos repos"
            )
    if not yes and not (root / DATABASE).is_file():
        command = f"python preprocess/data_cleaner.py --repos {shlex.quote(str(repos))} --yes"
        raise UserError(
            f"the collector did not make this folder (it has no {DATABASE}): {root}: "
            f"to delete everything but its Python files anyway, run: {command}"
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
def collectors_kept_out(folder: int, root: Path) -> Iterator[None]:
    """Hold the collectors' lock while cleaning. Raises UserError if a collector is running."""
    try:
        lock = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(
            f"a collector is writing to it: {root}: wait until it has finished, then run this again"
        ) from None
    finally:
        os.close(lock)


@dataclass(slots=True)
class Cleaning:
    """Deletes what is not Python from a folder tree, without ever leaving the tree, and counts.

    Every step is relative to the descriptor of an open folder, and none is opened through a link: a folder
    that is swapped for a link in the meantime is not followed. Other file systems mounted inside are left
    alone. In a dry run nothing is deleted; listed is called with each path instead.
    """

    listed: Callable[[str], None] | None = None
    deleted: Counter[str] = field(default_factory=Counter)  # by suffix or kind
    freed: Counter[str] = field(default_factory=Counter)  # bytes by suffix or kind, in a dry run
    python_files: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)  # path, reason

    def clean(self, root: int) -> None:
        """Clean the open folder root. It stays itself, as does the collector's record in it."""
        device = os.fstat(root).st_dev
        for entry in self.entries_of(root):
            if not (entry.name.startswith(DATABASE) and entry.is_file(follow_symlinks=False)):
                half_collected = entry.name == SKIPPED_AT_ROOT
                self.visit_all(root, [entry], "", device, 1, with_python=half_collected)

    def visit_all(
        self,
        folder: int,
        entries: list[os.DirEntry[str]],
        parent: str,
        device: int,
        depth: int,
        with_python: bool,
    ) -> bool:
        """Clean entries of an open folder; whether any of them is left."""
        is_left = False
        for entry in entries:
            if not with_python and is_python_name(entry.name) and entry.is_file(follow_symlinks=False):
                self.python_files += 1
                is_left = True
            elif self.visit(folder, entry, parent, device, depth, with_python):
                is_left = True
        return is_left

    def visit(
        self, folder: int, entry: os.DirEntry[str], parent: str, device: int, depth: int, with_python: bool
    ) -> bool:
        """Delete an entry of an open folder, or clean it if it is a folder; whether it is left."""
        name = entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                return self.visit_folder(folder, name, f"{parent}{name}", device, depth, with_python)
            if self.listed is None:
                os.unlink(name, dir_fd=folder)
                self.deleted[kind_of(entry)] += 1
            else:
                self.list_file(entry, f"{parent}{name}")
        except FileNotFoundError:
            return False
        except OSError as error:
            self.failures.append((f"{parent}{name}", error.strerror or str(error)))
            return True
        return False

    def visit_folder(
        self, parent: int, name: str, path: str, device: int, depth: int, with_python: bool
    ) -> bool:
        """Clean a folder, and delete it if nothing is left in it; whether it is left."""
        if depth > MOST_LEVELS:
            raise OSError(f"nested more than {MOST_LEVELS} levels deep")
        folder = os.open(name, OPEN_FOLDER, dir_fd=parent)
        try:
            status = os.fstat(folder)
            if status.st_dev != device:
                raise OSError("another file system is mounted here")
            if self.listed is None and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                os.fchmod(folder, status.st_mode | stat.S_IRWXU)
            with_python = with_python or name == GIT
            entries = self.entries_of(folder)
            is_left = self.visit_all(folder, entries, f"{path}/", device, depth + 1, with_python)
        finally:
            os.close(folder)
        if is_left:
            return True
        if self.listed is None:
            os.rmdir(name, dir_fd=parent)
        self.deleted[FOLDERS] += 1
        if self.listed:
            self.listed(f"{path}/")
        return False

    def list_file(self, entry: os.DirEntry[str], path: str) -> None:
        """Count and list a file that would be deleted. Its size is one more call, for dry runs alone."""
        assert self.listed is not None, "only a dry run lists"
        status = entry.stat(follow_symlinks=False)
        kind = kind_of(entry)
        self.deleted[kind] += 1
        # Another name of the same file keeps its bytes on the disk.
        self.freed[kind] += status.st_size if status.st_nlink == 1 else 0
        self.listed(path)

    def entries_of(self, folder: int) -> list[os.DirEntry[str]]:
        """All entries of an open folder, read before the first is deleted; by name if they are shown."""
        with os.scandir(folder) as listing:
            entries = list(listing)
        return sorted(entries, key=lambda entry: entry.name) if self.listed else entries


def kind_of(entry: os.DirEntry[str]) -> str:
    """What a file is counted as: its suffix in lower case, or what it is if not a regular file."""
    if not entry.is_file(follow_symlinks=False):
        return LINKS if entry.is_symlink() else SPECIAL
    name = entry.name
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else NO_SUFFIX


def report(cleaning: Cleaning, root: Path, options: argparse.Namespace, seconds: float) -> None:
    """Print what was deleted by kind, what was freed, and what is left."""
    kept = plural(cleaning.python_files, "Python file")
    for path, reason in sorted(cleaning.failures)[:MOST_NAMED]:
        print(f"warning: not cleaned: {printable(as_text(path))}: {reason}", file=sys.stderr)
    if len(cleaning.failures) > MOST_NAMED:
        print(f"warning: not cleaned: {len(cleaning.failures) - MOST_NAMED:,} more", file=sys.stderr)
    if not cleaning.deleted and not cleaning.failures:
        print(f"up to date: {root} (nothing to delete, {kept})")
        return
    print_kinds(cleaning, options.dry_run)
    print(f"left in {root}: {kept}" + (" if it were run" if options.dry_run else ""))
    print(f"took {seconds:.1f} s")


def print_kinds(cleaning: Cleaning, dry_run: bool) -> None:
    """Print the number of each kind, and in a dry run how many bytes deleting would free."""

    def line(kind: str, number: int, freed: int) -> str:
        return f"{kind:<24}{number:>10,}" + (f"{freed / 1e6:>12,.1f}" if dry_run else "")

    freed, kinds = cleaning.freed, cleaning.deleted.most_common()
    print(f"{'would delete':<24}{'number':>10}{'MB':>12}" if dry_run else f"{'deleted':<24}{'number':>10}")
    for kind, number in kinds[:MOST_KINDS]:
        print(line(f"  {printable(as_text(kind))[:20]}", number, freed[kind]))
    if rest := kinds[MOST_KINDS:]:
        number, size = sum(n for _, n in rest), sum(freed[kind] for kind, _ in rest)
        print(line(f"  {plural(len(rest), 'other kind')}", number, size))
    print(line("together", cleaning.deleted.total(), freed.total()))


if __name__ == "__main__":
    raise SystemExit(main())
