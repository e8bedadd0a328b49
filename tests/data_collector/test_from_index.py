"""Collecting packages of an index, through pip: a stand-in index, and what can be wrong with one."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collected_folder import COLLECTOR, files_in, rows_in
from collector_runs import kill_at_random
from git_stand_in import wait_until
from index_stand_in import IndexFile, IndexStandIn, make_sdist
from project import PROJECT, STDLIB, run_script, succeed


@pytest.fixture
def index() -> Iterator[IndexStandIn]:
    with IndexStandIn() as server:
        yield server


def collect(
    index: IndexStandIn, work: Path, *arguments: str, login: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**index.environment(work.parent, login), **(env or {})}
    return run_script(COLLECTOR, *arguments, cwd=work, env=environment)


def packages(work: Path) -> dict[str, str]:
    """Name -> version of every package that was taken."""
    return {str(name): str(version) for name, version in rows_in(work / "repos", "full_name, commit_sha")}


@pytest.mark.parametrize("speaks_json", [False, True])
def test_the_source_distribution_of_the_newest_release_is_taken_and_recorded(
    index: IndexStandIn, work: Path, speaks_json: bool
) -> None:
    index.speaks_json = speaks_json
    index.add_sdist("tool", "1.0")
    newest = index.add_sdist(
        "tool",
        "1.10",
        {"src/tool/a.py": b"a = 1\n", "setup.py": b"b = 1\n", "data.bin": b"\0"},
        lines=("License-Expression: Apache-2.0 OR MIT",),
    )
    index.add_wheel("tool", "1.10")
    index.add_sdist("tool", "2.0rc1")
    result = succeed(collect(index, work, "--pypi", "Tool"))
    assert files_in(work / "repos") == {
        "pypi/tool/src/tool/a.py": b"a = 1\n",
        "pypi/tool/setup.py": b"b = 1\n",
    }
    sha256 = hashlib.sha256(newest.content).hexdigest()
    columns = "id, full_name, source, clone_url, commit_sha, license, state, python_files, fingerprint"
    address = f"pkg:pypi/tool@1.10?checksum=sha256:{sha256}&file_name=tool-1.10.tar.gz"
    expected = ("pypi/tool", "pypi/tool", "pypi", address, "1.10", "Apache-2.0 OR MIT", "fetched", 2)
    assert rows_in(work / "repos", columns) == [(*expected, f"sha256={sha256}")]
    assert "1 of 1 known" in result.stdout and "preprocess/data_cleaner.py" in result.stdout


def test_nothing_of_a_package_is_ever_run(index: IndexStandIn, work: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n".encode()
    project = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    index.add_sdist("evil", "1.0", {"setup.py": evil, "backend.py": evil, "pyproject.toml": project})
    succeed(collect(index, work, "--pypi", "evil", "--with-dependencies"))
    assert set(files_in(work / "repos")) == {"pypi/evil/setup.py", "pypi/evil/backend.py"}
    assert not canary.exists()


def test_a_package_without_a_source_distribution_gives_its_wheel(index: IndexStandIn, work: Path) -> None:
    index.add_wheel("tool", "1.0", {"tool/c.py": b"no\n"}, tag="cp27-cp27m-win32")
    index.add_wheel("tool", "1.0", {"tool/a.py": b"a = 1\n"})
    succeed(collect(index, work, "--pypi", "tool"))
    assert files_in(work / "repos") == {"pypi/tool/tool/a.py": b"a = 1\n"}


def test_what_cannot_be_taken_is_named_and_the_others_are_taken(index: IndexStandIn, work: Path) -> None:
    index.add_sdist("good", "1.0")
    index.add_sdist("old", "1.0")
    index.add_sdist("bad", "1.0", yanked="it deletes files")
    index.put("broken", IndexFile("broken-1.0.tar.gz", b"no archive at all"))
    index.put("changed", IndexFile("changed-1.0.tar.gz", make_sdist("changed", "1.0", {}), sha256="0" * 64))
    index.put("strange", IndexFile("strange-1.0.exe", b"MZ"))
    names = ["good", "old>=2", "bad", "broken", "changed", "strange", "missing", "./x", "a @ https://h/a.whl"]
    for _ in range(2):
        result = collect(index, work, "--pypi", *names)
        assert result.returncode == 3 and "Traceback" not in result.stderr
        lines = sorted(result.stderr.splitlines())
        for line, words in zip(
            lines,
            [
                "bad: yanked (1.0: it deletes files): pin it with == to take it all the same",
                "broken: the archive is damaged or cannot be read",
                "changed: its sha256 is not the one that the index gives",
                "missing: no index that pip is set up for has it",
                "no name of a package: ./x",
                "not from an index: a @ https://h/a.whl",
                "old>=2: no release fits; the newest is 1.0",
                "strange: no index that pip is set up for has it",
            ],
            strict=True,
        ):
            assert line.startswith(f"could not be taken: {words}"), line
        assert str(work) not in result.stderr
        assert set(files_in(work / "repos")) == {"pypi/good/good.py"}


def test_when_nothing_can_be_taken_it_is_an_error(index: IndexStandIn, work: Path) -> None:
    result = collect(index, work, "--pypi", "missing", "absent")
    assert result.returncode == 1
    assert [line.startswith("error: ") for line in result.stderr.splitlines()] == [True, True]
    assert not (work / "repos").exists()


def test_a_yanked_release_is_taken_only_where_it_is_pinned(index: IndexStandIn, work: Path) -> None:
    index.add_sdist("tool", "1.0")
    index.add_sdist("tool", "2.0", yanked="")
    succeed(collect(index, work, "--pypi", "tool"))
    assert packages(work) == {"pypi/tool": "1.0"}
    succeed(collect(index, work, "--pypi", "tool==2.0"))
    assert packages(work) == {"pypi/tool": "2.0"}


def test_a_second_run_asks_nobody_and_refresh_takes_only_what_is_newer(
    index: IndexStandIn, work: Path
) -> None:
    index.add_sdist("one", "1.0", {"old.py": b"old\n"})
    index.add_sdist("two", "1.0")
    succeed(collect(index, work, "--pypi", "one", "two"))
    index.add_sdist("one", "1.1", {"new.py": b"new\n"})
    index.received.clear()
    assert succeed(collect(index, work, "--pypi", "one", "two")).stdout.startswith("up to date: ")
    assert index.received == []
    succeed(collect(index, work, "--pypi", "one", "two", "--refresh"))
    assert set(files_in(work / "repos")) == {"pypi/one/new.py", "pypi/two/two.py"}
    assert [each for each in index.received if "/files/" in each] == ["GET /files/one-1.1.tar.gz"]


def test_a_package_without_python_files_is_nothing_missing(index: IndexStandIn, work: Path) -> None:
    index.add_wheel("fonts", "1.0", {"fonts/a.ttf": b"\0"})
    for _ in range(2):
        succeed(collect(index, work, "--pypi", "fonts"))
        assert rows_in(work / "repos", "state, python_files") == [("empty", 0)]
    assert [each for each in index.received if "/files/" in each] == ["GET /files/fonts-1.0-py3-none-any.whl"]


# Dependencies


def test_what_a_package_needs_is_taken_only_when_asked_for(index: IndexStandIn, work: Path) -> None:
    index.add_sdist(
        "top", "1.0", requires=["base>=1,<2", 'other; python_version < "3"', 'extra1; extra == "x"']
    )
    index.add_sdist("base", "1.5", requires=["top"])
    index.add_sdist("base", "2.0")
    index.add_sdist("extra1", "1.0")
    succeed(collect(index, work, "--pypi", "top"))
    assert packages(work) == {"pypi/top": "1.0"}
    succeed(collect(index, work, "--pypi", "top", "--with-dependencies"))
    assert packages(work) == {"pypi/top": "1.0", "pypi/base": "1.5"}
    succeed(collect(index, work, "--pypi", "top[x]", "--with-dependencies"))
    assert packages(work) == {"pypi/top": "1.0", "pypi/base": "1.5", "pypi/extra1": "1.0"}
    index.received.clear()
    again = succeed(collect(index, work, "--pypi", "top[x]", "--with-dependencies"))
    assert index.received == [] and "3 packages" in again.stdout


@pytest.mark.parametrize("tells_metadata", [False, True])
def test_what_a_source_distribution_leaves_to_its_build_its_wheel_tells(
    index: IndexStandIn, work: Path, tells_metadata: bool
) -> None:
    index.add_sdist("top", "1.0", lines=("Dynamic: Requires-Dist",))
    index.add_wheel("top", "1.0", requires=["base"], tells_metadata=tells_metadata)
    index.add_sdist("base", "1.0")
    succeed(collect(index, work, "--pypi", "top", "--with-dependencies"))
    assert packages(work) == {"pypi/top": "1.0", "pypi/base": "1.0"}


def test_what_only_a_build_could_tell_is_named(index: IndexStandIn, work: Path) -> None:
    index.add_sdist("top", "1.0", lines=("Dynamic: Requires-Dist",))
    result = collect(index, work, "--pypi", "top", "--with-dependencies")
    assert result.returncode == 3 and "top: what it needs is known only to its build" in result.stderr
    assert packages(work) == {"pypi/top": "1.0"}


def test_setuptools_own_list_is_read_too(index: IndexStandIn, work: Path) -> None:
    requires = b'base\n\n[x]\nextra1\n\n[:python_version < "3"]\nold\n\n[y:python_version >= "3"]\nextra2\n'
    files = {"a.py": b"a = 1\n", "top.egg-info/requires.txt": requires}
    index.add_sdist("top", "1.0", files, lines=("Dynamic: Requires-Dist",))
    for name in ("base", "extra1", "extra2"):
        index.add_sdist(name, "1.0")
    succeed(collect(index, work, "--pypi", "top[y]", "--with-dependencies"))
    assert set(packages(work)) == {"pypi/top", "pypi/base", "pypi/extra2"}


def test_a_dependency_that_is_missing_is_named_with_who_needs_it(index: IndexStandIn, work: Path) -> None:
    index.add_sdist("top", "1.0", requires=["missing>1"])
    result = collect(index, work, "--pypi", "top", "--with-dependencies")
    assert result.returncode == 3 and "missing>1 (needed by top): no index" in result.stderr


def test_versions_that_exclude_each_other_are_told_and_one_is_taken(index: IndexStandIn, work: Path) -> None:
    index.add_sdist("one", "1.0", requires=["base<2"])
    index.add_sdist("base", "1.0")
    index.add_sdist("base", "2.0")
    result = succeed(collect(index, work, "--pypi", "base", "one", "--with-dependencies"))
    assert packages(work) == {"pypi/base": "2.0", "pypi/one": "1.0"}
    assert "base<2 (needed by one): 2.0 was taken, a package counts once" in result.stdout


# Requirements files


def test_a_requirements_file_is_read_as_pip_reads_it(index: IndexStandIn, work: Path) -> None:
    for version in ("1.0", "2.0", "3.0"):
        index.add_sdist("one", version)
    index.add_sdist("two", "1.0")
    index.add_sdist("three", "1.0")
    (work / "constraints.txt").write_text("one<3\nnever==1\n", encoding="utf-8")
    (work / "more.txt").write_text('three # x\nfour; python_version < "3"\n', encoding="utf-8")
    text = "-c constraints.txt\n-r more.txt\none>=1 \\\n\n-e git+https://h/x#egg=x\n"
    (work / "requirements.txt").write_text(text, encoding="utf-8")
    result = collect(index, work, "--pypi-file", "requirements.txt", "--pypi", "two")
    assert packages(work) == {"pypi/one": "2.0", "pypi/two": "1.0", "pypi/three": "1.0"}
    assert result.returncode == 3 and "not from an index: git+https://h/x" in result.stderr


def test_hashes_of_a_requirements_file_choose_the_file_and_are_checked(
    index: IndexStandIn, work: Path
) -> None:
    index.add_sdist("tool", "1.0")
    wheel = index.add_wheel("tool", "1.0", {"tool/of_wheel.py": b"a = 1\n"})
    index.add_sdist("other", "1.0")
    text = f"tool==1.0 --hash=sha256:{wheel.sha256}\nother==1.0 --hash=sha256:{'0' * 64}\n"
    (work / "requirements.txt").write_text(text, encoding="utf-8")
    result = collect(index, work, "--pypi-file", "requirements.txt")
    assert result.returncode == 3 and "no file of it has one of the given hashes" in result.stderr
    assert set(files_in(work / "repos")) == {"pypi/tool/tool/of_wheel.py"}


def test_an_index_that_a_requirements_file_names_is_asked(index: IndexStandIn, work: Path) -> None:
    index.add_sdist("tool", "1.0")
    (work / "requirements.txt").write_text(f"--index-url {index.url()}\ntool\n", encoding="utf-8")
    env = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple/"}
    succeed(collect(index, work, "--pypi-file", "requirements.txt", env=env))
    assert packages(work) == {"pypi/tool": "1.0"}


@pytest.mark.parametrize("content", [None, b"a==\n", b"\x00\x01\xff\xfe noise\n", b"# nothing\n"])
def test_a_requirements_file_that_names_nothing_is_one_line(
    index: IndexStandIn, work: Path, content: bytes | None
) -> None:
    if content is not None:
        (work / "requirements.txt").write_bytes(content)
    result = collect(index, work, "--pypi-file", "requirements.txt")
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    assert not (work / "repos").exists()
    if content is None or b"noise" in content:
        reason = "it is no text" if content else "Could not open requirements file"
        assert result.stderr.startswith(f"error: the requirements cannot be read: {reason}")
        assert f": {work}/requirements.txt: give a file" in result.stderr


def test_a_pipe_instead_of_a_requirements_file_is_refused_and_not_waited_for(
    index: IndexStandIn, work: Path
) -> None:
    os.mkfifo(work / "pipe")
    result = collect(index, work, "--pypi-file", "pipe")
    assert result.returncode == 1
    assert (
        result.stderr
        == "error: the requirements cannot be read: pipe is no file: write them into one first\n"
    )


def test_a_password_in_a_requirement_is_never_shown(index: IndexStandIn, work: Path) -> None:
    index.add_sdist("tool", "1.0")
    lines = ("a @ https://ann:s3cret@h/a.whl", "-e git+https://ann:s3cret@h/x#egg=x", "tool")
    (work / "requirements.txt").write_text("\n".join(lines), encoding="utf-8")
    names = ("b @ https://ann:s3cret@h/b.whl", "ann:s3cret@h")
    result = collect(index, work, "--pypi-file", "requirements.txt", "--pypi", *names)
    assert result.returncode == 3 and packages(work) == {"pypi/tool": "1.0"}
    assert result.stderr.count("could not be taken: ") == 4
    assert "a @ https://...@h/a.whl" in result.stderr and "s3cret" not in result.stderr + result.stdout


# The user's own pip


def test_credentials_of_pip_are_used_and_never_shown_or_kept(index: IndexStandIn, work: Path) -> None:
    index.password = "s3cret"
    index.add_sdist("tool", "1.0")
    result = collect(index, work, "--pypi", "tool", "missing", login="ann:s3cret@")
    assert result.returncode == 3 and packages(work) == {"pypi/tool": "1.0"}
    assert "s3cret" not in result.stdout + result.stderr
    for path in (work / "repos").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()


def test_an_index_that_does_not_answer_is_told_from_one_that_has_no_such_package(
    index: IndexStandIn, work: Path
) -> None:
    result = collect(index, work, "--pypi", "tool", env={"PIP_INDEX_URL": "http://127.0.0.1:9/simple/"})
    assert result.returncode == 1 and "Could not fetch URL" in result.stderr
    assert "connection" in result.stderr.lower()


def test_a_pip_that_cannot_be_asked_is_one_line(index: IndexStandIn, work: Path, tmp_path: Path) -> None:
    (tmp_path / "fake/pip").mkdir(parents=True)
    (tmp_path / "fake/pip/__init__.py").write_text("", encoding="utf-8")
    result = collect(index, work, "--pypi", "tool", env={"PYTHONPATH": str(tmp_path / "fake")})
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "pip cannot be asked (ModuleNotFoundError" in result.stderr and "install pip" in result.stderr


# Plans, interruptions, options


def test_a_plan_tells_how_much_there_is_and_takes_nothing(index: IndexStandIn, work: Path) -> None:
    top = index.add_wheel("top", "1.0", requires=["base"], tells_metadata=True)
    base = index.add_sdist("base", "1.0", {"base.py": random.Random(1).randbytes(30_000)})
    plan = succeed(collect(index, work, "--pypi", "top", "--with-dependencies", "--plan")).stdout
    assert "2 packages wait" in plan and f" {(len(base.content) + len(top.content)) / 1e3:.0f} kB to" in plan
    assert "1 package may need" in plan
    assert [
        each for each in index.received if each.startswith("GET /files/") and "metadata" not in each
    ] == []
    assert not (work / "repos").exists()
    succeed(collect(index, work, "--pypi", "top", "--with-dependencies"))
    again = succeed(collect(index, work, "--pypi", "top", "--with-dependencies", "--plan")).stdout
    assert "0 packages wait" in again and "2 packages taken before" in again


def test_a_run_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    index: IndexStandIn, work: Path
) -> None:
    names = [f"p{number}" for number in range(12)]
    for number, name in enumerate(names):
        needs = [names[number + 1]] if number + 1 < len(names) else []
        index.add_sdist(name, "1.0", {f"{name}.py": f"n = {number}\n".encode()}, requires=needs)
    index.pause_seconds = 0.03
    kill_at_random(
        work,
        *("--pypi", "p0", "--with-dependencies"),
        env=index.environment(work.parent),
        progress=lambda: len(index.received),
        kills=5,
        seconds=0.4,
        seed=3,
    )
    succeed(collect(index, work, "--pypi", "p0", "--with-dependencies"))
    assert files_in(work / "repos") == {
        f"pypi/{name}/{name}.py": f"n = {number}\n".encode() for number, name in enumerate(names)
    }


def test_ctrl_c_ends_at_once_and_the_next_run_goes_on(index: IndexStandIn, work: Path) -> None:
    index.add_sdist("one", "1.0")
    index.pause_seconds = 30.0
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / COLLECTOR), "--pypi", "one"],
        cwd=work,
        env={**os.environ, **index.environment(work.parent)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: bool(index.received))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130 and "continues from here" in stderr and "Traceback" not in stderr
    index.pause_seconds = 0.0
    succeed(collect(index, work, "--pypi", "one"))
    assert packages(work) == {"pypi/one": "1.0"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pypi", "x", "--local"), "--local and --pypi are two sources"),
        (("--pypi", "x", "--limit", "3"), "--pypi takes no --limit"),
        (("--pypi",), "expected at least one argument"),
        (("--with-dependencies",), "--with-dependencies belongs to --pypi"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    index: IndexStandIn, work: Path, options: tuple[str, ...], words: str
) -> None:
    result = collect(index, work, *options)
    assert result.returncode == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert index.received == []


def test_packages_reach_the_training_data_by_name_version_and_licence(
    index: IndexStandIn, work: Path
) -> None:
    code = {
        f"json/{name}.py": (STDLIB / "json" / f"{name}.py").read_bytes() for name in ("decoder", "scanner")
    }
    index.add_sdist("kept", "1.2", code)
    index.add_sdist("asked", "3.4", {"asked.py": (STDLIB / "json/encoder.py").read_bytes()})
    succeed(collect(index, work, "--pypi", "kept", "asked"))
    (work / "out.txt").write_text("pypi/asked\n", encoding="utf-8")
    succeed(run_script("preprocess/data_cleaner.py", cwd=work))
    succeed(run_script("preprocess/data_preprocess.py", "--exclude", "out.txt", cwd=work))
    text = (work / "data.txt").read_text("utf-8")
    assert '"repo": "pypi/kept", "path": "json/decoder.py", "commit": "1.2", "license": "MIT"' in text
    assert "pypi/asked" not in text
