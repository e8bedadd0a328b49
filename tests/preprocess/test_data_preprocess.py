"""repos/ -> data.txt by its command: every file accounted for, the same bytes each time, nothing lost."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from corpus.data_file import Document, iter_documents
from project import PROJECT, STDLIB, run_script, succeed

SCRIPT = "preprocess/data_preprocess.py"
PACKAGES = "concurrent curses dbm html http importlib json logging tomllib wsgiref zoneinfo".split()


def write(path: Path, source: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return path


@pytest.fixture
def repos(tmp_path: Path) -> Path:
    """Packages of the standard library as repositories that no collector made."""
    for package in PACKAGES:
        shutil.copytree(STDLIB / package, tmp_path / "repos" / "installed" / package)
    return tmp_path / "repos"


def preprocess(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it; a file of one line is a file here."""
    options = ("--jobs", "2", "--threshold", "near_empty=off")
    return succeed(run_script(SCRIPT, *options, *arguments, cwd=folder))


def fates(folder: Path) -> dict[str, dict[str, Any]]:
    """The ledger by repository and path; that no file is in it twice is checked."""
    lines = [
        json.loads(line) for line in (folder / "data.ledger.jsonl").read_text("utf-8").split("\n") if line
    ]
    by_name = {f"{fate['repo']}/{fate['path']}": fate for fate in lines}
    assert len(by_name) == len(lines)
    return by_name


def summary(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "data.summary.json").read_text("utf-8"))
    return loaded


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("data.txt", "data.ledger.jsonl")}


def test_every_file_is_in_the_ledger_once_and_the_sums_balance(repos: Path, tmp_path: Path) -> None:
    result = preprocess(tmp_path)
    files = {str(path.relative_to(repos)): path.stat().st_size for path in repos.rglob("*.py")}
    by_name = fates(tmp_path)
    assert by_name.keys() == files.keys()
    sums = summary(tmp_path)
    assert sums["input"] == {"files": len(files), "bytes": sum(files.values())}
    for total in ("files", "bytes"):
        dropped = sum(rule[total] for rule in sums["dropped"].values())
        assert sums["kept"][total] + dropped == sums["input"][total]
    assert Counter(fate["rule"] for fate in by_name.values() if fate["rule"]) == {
        rule: counts["files"] for rule, counts in sums["dropped"].items()
    }
    documents = list(iter_documents(tmp_path / "data.txt"))
    assert len(documents) == sum(split["documents"] for split in sums["written"].values())
    assert sum(len(d.text.encode()) for d in documents) == sum(s["bytes"] for s in sums["written"].values())
    assert f"next: python {PROJECT / 'preprocess/tokenizer.py'} -t\n" in result.stdout
    assert str(tmp_path / "data.txt") in result.stdout


def test_documents_come_sorted_with_whole_repositories_held_out(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path)
    documents = list(iter_documents(tmp_path / "data.txt"))
    order = [(document.repo, document.path, document.piece) for document in documents]
    assert order == sorted(order)
    assert {len(document.text) <= 4000 for document in documents} == {True}
    sizes: Counter[str] = Counter()
    splits: dict[str, set[str]] = {}
    for document in documents:
        sizes[document.repo] += len(document.text.encode())
        splits.setdefault(document.repo, set()).add(document.split)
    assert {len(split) for split in splits.values()} == {1}
    share = sum(sizes[repo] for repo in sizes if "held_out" in splits[repo]) / sizes.total()
    assert 0.01 <= share <= 0.06


def test_a_repository_to_train_on_is_not_held_out(repos: Path, tmp_path: Path) -> None:
    def held_out() -> set[str]:
        lines = (tmp_path / "data.txt").read_text("utf-8").splitlines()
        return {record["repo"] for line in lines if (record := json.loads(line))["split"] == "held_out"}

    preprocess(tmp_path)
    plain = outputs(tmp_path)
    before = held_out()
    asked = ["--train-on", *sorted(before), "installed/nothing"]
    result = preprocess(tmp_path, *asked)
    assert "warning: no repository has the name --train-on installed/nothing" in result.stderr
    after = held_out()
    assert after and not after & before
    assert preprocess(tmp_path, *asked).stdout.startswith("up to date: ")
    preprocess(tmp_path)
    assert outputs(tmp_path) == plain


def test_the_output_does_not_depend_on_the_number_of_processes(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path, "--jobs", "1")
    before = outputs(tmp_path)
    shutil.rmtree(tmp_path / "data.cache")
    (tmp_path / "data.summary.json").unlink()
    preprocess(tmp_path, "--jobs", "3")
    assert outputs(tmp_path) == before


def test_the_same_inputs_are_up_to_date_and_others_are_not(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path)
    before = (tmp_path / "data.txt").stat().st_mtime_ns
    again = preprocess(tmp_path)
    assert again.stdout.startswith(f"up to date: {tmp_path / 'data.txt'} (")
    assert again.stdout.count("\n") == 2 and "\nnext: python " in again.stdout
    assert (tmp_path / "data.txt").stat().st_mtime_ns == before
    for change in (
        lambda: write(repos / "new" / "one" / "a.py", "print('new')\n"),
        lambda: (tmp_path / "data.txt").write_bytes((tmp_path / "data.txt").read_bytes()[:-100]),
        lambda: (tmp_path / "data.ledger.jsonl").unlink(),
    ):
        change()
        assert "up to date" not in preprocess(tmp_path).stdout
    assert "new/one/a.py" in fates(tmp_path)
    assert "up to date" not in preprocess(tmp_path, "--max-chars", "2000").stdout


def test_one_more_repository_leaves_the_work_on_the_others(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path)
    write(repos / "new" / "one" / "a.py", "print('new')\n")
    assert "preparing 1 of" in preprocess(tmp_path).stderr
    shutil.rmtree(repos / "new")
    assert "preparing 0 of" in preprocess(tmp_path).stderr


def test_a_killed_run_is_made_good_by_the_next(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path)
    expected = outputs(tmp_path)
    for path in (tmp_path / "data.txt", tmp_path / "data.ledger.jsonl", tmp_path / "data.summary.json"):
        path.unlink()
    shutil.rmtree(tmp_path / "data.cache")
    command = [sys.executable, str(PROJECT / SCRIPT), "--jobs", "2"]
    delays = random.Random(0)
    for _ in range(6):
        run = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(delays.uniform(0.1, 1.5))
        run.send_signal(signal.SIGKILL)  # the workers see that nobody is there any more, and end
        run.wait()
        if (tmp_path / "data.summary.json").exists():
            break
    preprocess(tmp_path)
    assert outputs(tmp_path) == expected
    assert not list(tmp_path.rglob("*.partial")) + list(tmp_path.rglob("*.position"))


def test_commit_and_licence_come_from_the_record_and_the_name_is_the_true_one(tmp_path: Path) -> None:
    write(tmp_path / "repos" / "Ann" / "x~2" / "a.py", "x = 1\n")
    write(tmp_path / "repos" / "else" / "where" / "deep" / "b.py", "y = 1\n")
    with sqlite3.connect(tmp_path / "repos" / "collection.db") as database:
        database.execute(
            "CREATE TABLE repositories (folder, full_name, commit_sha, license, stars, forks, created_at)"
        )
        database.execute(
            "INSERT INTO repositories VALUES ('ann/x~2', 'Ann/X', 'c0ffee', 'MIT', 3, 1, '2024')"
        )
    database.close()
    preprocess(tmp_path)
    documents = {document.path: document for document in iter_documents(tmp_path / "data.txt")}
    assert {document.split for document in documents.values()} == {"train", "held_out"}
    known = documents["a.py"]
    assert (known.repo, known.commit, known.license) == ("Ann/X", "c0ffee", "MIT")
    unknown = documents["deep/b.py"]
    assert (unknown.repo, unknown.commit, unknown.license) == ("else/where", "", "")


def test_a_file_is_known_by_its_own_name_where_the_disk_needs_another(tmp_path: Path) -> None:
    names = ["a:b/what? is*.py", "tab\t.py", "trailing .py", "plain.py", "esc\x1b[31m.py"]
    for name in names:
        write(
            tmp_path / "src" / name, f"import os\n\n\ndef f(a, b):\n    return os.path.join(a, b, {name!r})\n"
        )
    succeed(run_script("data_collector/data_collector.py", "--local", "src", cwd=tmp_path))
    preprocess(tmp_path, "--filters", "off")
    documents = {document.path: document for document in iter_documents(tmp_path / "data.txt")}
    assert sorted(documents) == sorted(names)
    assert {fate["path"] for fate in fates(tmp_path).values()} == set(names)
    explained = preprocess(tmp_path, "--explain", "local/src/a:b/what? is*.py").stdout
    assert explained.startswith("local/src/a:b/what? is*.py: kept")
    assert preprocess(tmp_path, "--explain", "repos/local/src/a%3Ab/what%3F is%2A.py").stdout == explained
    assert "\x1b" not in preprocess(tmp_path, "--explain", "local/src/esc\x1b[31m.py").stdout
    write(tmp_path / "asked.txt", "local/src/a:b\nlocal/src/tab%09.py  # the name on the disk counts too\n")
    preprocess(tmp_path, "--filters", "off", "--exclude", "asked.txt")
    excluded = {fate["path"] for fate in fates(tmp_path).values() if fate["rule"] == "excluded"}
    assert excluded == {"a:b/what? is*.py", "tab\t.py"}


def test_the_best_copy_is_kept_and_named_by_the_others(tmp_path: Path) -> None:
    for name, license_name, stars in (("a", "", 9), ("b", "MIT", 1), ("c", "MIT", 5), ("d", "", 0)):
        write(tmp_path / "repos" / "o" / name / "same.py", f"# by {name}\nx   =  [{'1, ' * 9}]\n")
        write(tmp_path / "repos" / "o" / name / f"{name}.py", f"{name} = 1\n")
        with sqlite3.connect(tmp_path / "repos" / "collection.db") as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS repositories"
                " (folder, full_name, commit_sha, license, stars, forks, created_at)"
            )
            row = [f"o/{name}", f"o/{name}", "", license_name, stars, 0, ""]
            database.execute("INSERT INTO repositories VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        database.close()
    preprocess(tmp_path)
    by_name = fates(tmp_path)
    assert by_name["o/c/same.py"]["outcome"] == "kept"
    for name in "abd":
        fate = by_name[f"o/{name}/same.py"]
        assert (fate["rule"], fate["detail"]) == ("duplicate", "o/c/same.py")


def test_pieces_of_a_file_joined_are_the_file(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path, "--max-chars", "500", "--output", "small.txt")
    preprocess(tmp_path)
    small, large = joined_files(tmp_path / "small.txt"), joined_files(tmp_path / "data.txt")
    assert small == large
    for text in small.values():
        compile(text, "joined", "exec", dont_inherit=True)


def joined_files(data: Path) -> dict[tuple[str, str], str]:
    """The text of each file of a data.txt by repository and path, after checking that no piece is missing."""
    pieces: dict[tuple[str, str], list[Document]] = {}
    for document in iter_documents(data):
        pieces.setdefault((document.repo, document.path), []).append(document)
    for of_file in pieces.values():
        assert [document.piece for document in of_file] == list(range(of_file[0].pieces))
    return {name: "".join(document.text for document in of_file) for name, of_file in pieces.items()}


def test_strange_files_each_get_their_line_and_no_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "repos" / "o" / "strange"
    write(folder / "good.py", "x = 1\n")
    write(folder / "other.py", "other = 1\n")
    write(folder / "new\nline.py", "y = 1\n")
    write(Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xe9.py")), "z = 1\n")
    write(folder / "UPPER.PY", "upper = 1\n")
    write(folder / "nul.py", b"value = 'nothing\0more'\n")
    write(folder / "binary.py", bytes(range(256)) * 10)
    write(folder / "python2.py", "print 'old'\n")
    write(folder / "deep.py", "f(\n" * 10_000 + ")" * 900)
    write(folder / "line.py", b"x = '" + b"a" * 50_000_000 + b"'\n")
    write(folder / "huge.py", b"x = 1\n" * 12_000_000)
    write(folder / "surrogate.py", "# coding: utf-7\nhalf_a_pair = '+2AA-'\n")
    (folder / "link.py").symlink_to(folder / "good.py")
    os.mkfifo(folder / "pipe.py")
    write(folder / "folder.py" / "inside.py", "inside = 1\n")
    write(folder / ".git" / "refs" / "heads" / "branch.py", "0" * 40)
    write(tmp_path / "repos" / ".partial" / "1" / "half.py", "x = 1\n")
    result = preprocess(tmp_path)
    rules = {name.removeprefix("o/strange/"): fate["rule"] for name, fate in fates(tmp_path).items()}
    assert rules == {
        "good.py": "",
        "other.py": "",
        "new\nline.py": "",
        "\\xff\\xe9.py": "",
        "UPPER.PY": "",
        "folder.py/inside.py": "",
        "nul.py": "unparsable",
        "binary.py": "undecodable",
        "python2.py": "unparsable",
        "deep.py": "unparsable",
        "line.py": "large_file",
        "huge.py": "large_file",
        "surrogate.py": rules["surrogate.py"],
    }
    assert rules["surrogate.py"] in ("unparsable", "undecodable")
    assert "not opened: 2 links, devices and pipes named *.py" in result.stdout
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr
    for line in (tmp_path / "data.txt").read_bytes().splitlines():
        json.loads(line.decode("utf-8"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders_end_in_3_and_are_tried_again(repos: Path, tmp_path: Path) -> None:
    (repos / "installed" / "json" / "decoder.py").chmod(0)
    (repos / "installed" / "http").chmod(0)
    for _ in range(2):
        result = run_script(SCRIPT, cwd=tmp_path)
        assert result.returncode == 3
        assert "installed/json/decoder.py" in result.stderr and "installed/http" in result.stderr
    (repos / "installed" / "http").chmod(0o755)


@pytest.mark.parametrize(("harm", "rule"), [("os._exit(139)", "crashed"), ("time.sleep(600)", "time_limit")])
def test_a_file_that_ends_or_holds_up_its_worker_is_left_out_and_the_others_are_not(
    harm: str, rule: str, tmp_path: Path
) -> None:
    for name in "abcd":
        write(tmp_path / "files" / "o" / name / "x.py", f"{name} = 1\n")
        write(tmp_path / "files" / "o" / name / "y.py", f"{name} = 2\n")
    # A stand-in for a parser that dies or never ends: the module that workers import does so at one file.
    stand_in = (PROJECT / "preprocess" / "documents" / "prepare.py").read_text("utf-8")
    stand_in += (
        "\n_prepare = prepare_source\n\n"
        "def prepare_source(source, rules, path):\n"
        f"    if source == b'c = 1\\n':\n        {harm}\n"
        "    return _prepare(source, rules, path)\n"
    )
    shutil.copytree(PROJECT / "preprocess", tmp_path / "program")
    write(
        tmp_path / "program" / "documents" / "prepare.py",
        stand_in.replace("import sys\n", "import os\nimport sys\nimport time\n", 1),
    )
    workers = tmp_path / "program" / "executors" / "local_pool.py"
    seconds = "FILE_SECONDS = 6" if rule == "time_limit" else "FILE_SECONDS = 60"
    patience = re.sub(r"^FILE_SECONDS = \d+", seconds, workers.read_text("utf-8"), flags=re.MULTILINE)
    write(workers, patience)
    command = [
        sys.executable,
        str(tmp_path / "program" / "data_preprocess.py"),
        "--repos",
        "files",
        "--jobs",
        "2",
        "--filters",
        "off",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    by_name = fates(tmp_path)
    assert by_name.pop("o/c/x.py")["rule"] == rule
    assert {fate["outcome"] for fate in by_name.values()} == {"kept"}
    assert list((tmp_path / "data.cache").rglob("*.position")) == []


@pytest.mark.parametrize("harm", ["os.kill(os.getpid(), 9)", "raise MemoryError"])
def test_a_file_whose_processes_are_killed_is_named_and_tried_again(harm: str, tmp_path: Path) -> None:
    """As a system that has no memory left does it: this may be no fault of the file."""
    for name in "ab":
        write(tmp_path / "files" / "o" / name / "x.py", f"{name} = 1\n")
    shutil.copytree(PROJECT / "preprocess", tmp_path / "program")
    module = tmp_path / "program" / "documents" / "prepare.py"
    source = module.read_text("utf-8") + (
        "\n_prepare = prepare_source\n\ndef prepare_source(source, rules, path):\n"
        f"    if source == b'b = 1\\n' and os.path.exists('full'):\n        {harm}\n"
        "    return _prepare(source, rules, path)\n"
    )
    write(module, source)
    write(tmp_path / "full", "")
    script = str(tmp_path / "program" / "data_preprocess.py")
    command = [sys.executable, script, "--repos", "files", "--jobs", "1", "--filters", "off"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    result = run()
    assert result.returncode == 3, result.stderr
    assert "'o/b/x.py': each process at it was killed, perhaps for want of memory" in result.stderr
    assert "Traceback" not in result.stderr
    assert fates(tmp_path)["o/b/x.py"]["rule"] == "unreadable"
    (tmp_path / "full").unlink()
    again = succeed(run())
    assert "preparing 1 of 2 files" in again.stderr
    assert {fate["outcome"] for fate in fates(tmp_path).values()} == {"kept"}


def test_a_missing_or_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    for _ in range(2):
        result = run_script(SCRIPT, cwd=tmp_path)
        assert result.returncode == 1
        assert f"{tmp_path / 'repos'}: run: python data_collector/data_collector.py --local" in result.stderr
        assert result.stderr.count("\n") == 1
        (tmp_path / "repos").mkdir(exist_ok=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repos"]


def test_what_changed_after_the_last_run_is_named(tmp_path: Path) -> None:
    source = tmp_path / "repos" / "ann" / "tool" / "a.py"
    source.parent.mkdir(parents=True)
    source.write_text("def f(values):\n    return sum(values) / len(values)\n", encoding="utf-8")
    assert "last run" not in preprocess(tmp_path).stderr
    data = tmp_path / "data.txt"
    written = data.read_bytes()
    data.write_bytes(written.replace(b"sum", b"max"))
    assert f"changed after the last run: {data}: writing data.txt again\n" in preprocess(tmp_path).stderr
    assert data.read_bytes() == written
    data.unlink()
    assert f"missing since the last run: {data}: writing data.txt again\n" in preprocess(tmp_path).stderr
    source.write_text("def f(values):\n    return max(values) / len(values)\n", encoding="utf-8")
    repos = tmp_path / "repos"
    assert f"changed since the last run, or the rules have: {repos}: writing" in preprocess(tmp_path).stderr
    assert "the last run had other options: writing" in preprocess(tmp_path, "--max-chars", "2000").stderr
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert preprocess(moved, "--max-chars", "2000").stdout.startswith("up to date: ")


def test_no_file_worth_keeping_is_an_error_that_says_why(tmp_path: Path) -> None:
    write(tmp_path / "repos" / "o" / "n" / "old.py", "print 'what Python 2 prints'\n")
    result = run_script(SCRIPT, cwd=tmp_path)
    assert result.returncode == 1
    assert "no file of 1 can be kept (unparsable)" in result.stderr
    assert not (tmp_path / "data.txt").exists()


@pytest.mark.parametrize("name", ["data.txt", "data.ledger.jsonl", "data.summary.json"])
def test_somebody_elses_file_is_not_overwritten(tmp_path: Path, name: str) -> None:
    write(tmp_path / "repos" / "o" / "n" / "a.py", "x = 1\n")
    write(tmp_path / name, "my notes\n")
    result = run_script(SCRIPT, cwd=tmp_path)
    assert result.returncode == 1
    assert str(tmp_path / name) in result.stderr
    assert (tmp_path / name).read_text("utf-8") == "my notes\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["repos", name])


def test_a_corrupt_record_is_one_clear_line(tmp_path: Path) -> None:
    write(tmp_path / "repos" / "o" / "n" / "a.py", "x = 1\n")
    write(tmp_path / "repos" / "collection.db", "no database")
    result = run_script(SCRIPT, cwd=tmp_path)
    assert result.returncode == 1
    assert str(tmp_path / "repos" / "collection.db") in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_only_file_is_trained_on_and_it_says_so(tmp_path: Path) -> None:
    write(tmp_path / "repos" / "o" / "n" / "a.py", "x = 1\n")
    assert "nothing is held out" in preprocess(tmp_path).stdout
    assert [document.split for document in iter_documents(tmp_path / "data.txt")] == ["train"]


def test_files_of_no_repository_belong_to_their_folder(tmp_path: Path) -> None:
    write(tmp_path / "repos" / "top.py", "top = 1\n")
    write(tmp_path / "repos" / "scripts" / "one.py", "one = 1\n")
    preprocess(tmp_path)
    named = {(document.repo, document.path) for document in iter_documents(tmp_path / "data.txt")}
    assert named == {("repos", "top.py"), ("scripts", "one.py")}


def test_documents_hold_what_the_contract_says(repos: Path, tmp_path: Path) -> None:
    preprocess(tmp_path)
    first = next(iter(iter_documents(tmp_path / "data.txt")))
    assert first == Document(
        first.text, "installed/concurrent", "futures/__init__.py", "", "", 0, 1, first.split
    )
