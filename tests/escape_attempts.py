"""What code might try to get out of a sandbox: harmless attempts, each on something that this script made.

    python tests/escape_attempts.py bwrap     # -> JSON: what came of each attempt, and what changed outside

Other users run it too, with a Python and a copy of model/evaluation/sandbox.py that they can read: it needs
nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What is tried -> the code. It has: file, a file in `folder` for this attempt alone; bystander, a process of
# the same user; parent, which started the sandbox; and the addresses of four servers.
ATTEMPTS = {
    "read a file of the user's": "open(file).read()",
    "list a folder of the user's": "os.listdir(folder)",
    "read a file through /proc/self/root": "open('/proc/self/root' + file).read()",
    "read the accounts of this machine": "open('/etc/passwd').read()",
    "read a file that was left open": "os.read(left_open, 10)",
    "overwrite a file": "open(file, 'w').write('changed')",
    "append to a file": "open(file, 'a').write('changed')",
    "cut a file off": "os.truncate(file, 0)",
    "delete a file": "os.unlink(file)",
    "rename a file": "os.rename(file, file + '.renamed')",
    "link to a file": "os.link(file, file + '.linked')",
    "make a symbolic link": "os.symlink('/', file + '.symbolic')",
    "make a file": "open(file + '.new', 'w')",
    "make a folder": "os.mkdir(file + '.folder')",
    "make a device": "os.mknod(file + '.device', 0o20600, os.makedev(1, 3))",
    "write anywhere": """
for place in "/", "/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", ".", os.path.dirname(os.__file__):
    with contextlib.suppress(OSError):
        os.unlink(open(place + "/gpyt-attempt", "x").name)
        break
else:
    raise PermissionError
""",
    "change the mode of a file": "os.chmod(file, 0)",
    "change the owner of a file": "os.chown(file, os.getuid(), os.getgid())",
    "change the times of a file": "os.utime(file, (1, 1))",
    "change an attribute of a file": "os.setxattr(file, 'user.gpyt', b'changed')",
    "open a device": "open('/dev/zero', 'rb').read(1)",
    "list the processes of this machine": "int(next(filter(str.isdigit, os.listdir('/proc'))))",
    "read the environment of another process": "open(f'/proc/{parent}/environ').read()",
    "read the memory of another process": "open(f'/proc/{bystander}/mem', 'rb')",
    "trace another process": "call(libc.ptrace, 0x4206, bystander, 0, 0)",
    "send a signal to another process": "os.kill(bystander, signal.SIGURG)",
    "send a signal to the process that started it": "os.kill(parent, signal.SIGURG)",
    "lower the priority of another process": "os.setpriority(os.PRIO_PROCESS, bystander, 19)",
    "lower the limits of another process": "resource.prlimit(bystander, resource.RLIMIT_NOFILE, (9, 9))",
    "move another process to one core": "os.sched_setaffinity(bystander, [min(os.sched_getaffinity(0))])",
    "raise its own limits": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "connect to a TCP port": "socket.create_connection(tcp)",
    "send a UDP packet": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'hello', udp)",
    "connect to a Unix socket": "socket.socket(socket.AF_UNIX).connect(unix)",
    "connect to an abstract Unix socket": "socket.socket(socket.AF_UNIX).connect(abstract)",
    "listen on a port": "socket.create_server(('127.0.0.1', 0))",
    "listen on a port that the kernel chooses": "socket.socket().listen()",
    "fork": "os.fork() or os._exit(0)",
    "start a process": "subprocess.run([sys.executable, '-c', ''], check=True)",
    "start many processes": """
for number in range(40):
    os.fork() or os._exit(0)
""",
    "become another program": "os.execv('/bin/echo', ['echo', '-n', 'done'])",
    "make namespaces of its own": "call(libc.unshare, 0x10000000 | 0x20000)",
    "mount a file system": "call(libc.mount, b'none', folder.encode(), b'tmpfs', 0, None)",
    "rename this machine": "call(libc.sethostname, b'gpyt', 4)",
    "set the clock": "time.clock_settime(time.CLOCK_REALTIME, time.time())",
    "keep memory in a file of memory": "os.memfd_create('gpyt')",
    "keep memory in a shared segment": "entered(numbers['shmget'], 0, 4096, 0o1600)",
    "read the user's keys": "entered(numbers['keyctl'], 0, -4, 1)",
    "use io_uring": "entered(numbers['io_uring_setup'], 1, 0)",
    "use bpf": "entered(numbers['bpf'], 0, 0, 0)",
    "use perf events": "entered(numbers['perf_event_open'], 0, 0, -1, -1, 0)",
    "use userfaultfd": "entered(numbers['userfaultfd'], 0)",
    "see the caller's environment": "os.environ['GPYT_SECRET']",
}

# The others work without a sandbox. These work there for root alone:
FOR_ROOT = {"make a device", "read the memory of another process", "trace another process"}
# and these are not tried: they would change the machine, or depend on how its kernel was built.
NOT_TRIED_OUTSIDE = {
    "raise its own limits",
    "read a file that was left open",
    "change an attribute of a file",
    "make namespaces of its own",
    "mount a file system",
    "rename this machine",
    "set the clock",
    "keep memory in a shared segment",
    "read the user's keys",
    "use io_uring",
    "use bpf",
    "use perf events",
    "use userfaultfd",
    "see the caller's environment",
}

CODE = r"""
import contextlib, ctypes, errno, os, resource, signal, socket, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)

def call(function, *arguments):
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def entered(*arguments):  # the kernel looks at the arguments at all
    if libc.syscall(*arguments) == -1 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
        raise PermissionError

attempt, facts = eval(sys.stdin.buffer.read())
os.write(1, b"\0ready\n")
try:
    exec(attempt, {**globals(), **facts})
except (OSError, ValueError, KeyError) as error:
    os.write(1, type(error).__name__.encode())
else:
    os.write(1, b"done")
os._exit(0)
"""


class Outside:
    """What the attempts are made on, and whether they changed it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        for number, name in enumerate(ATTEMPTS):
            file = folder / f"{number}.txt"
            file.write_text("secret", encoding="utf-8")
            self.files[name] = str(file)
        self.bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
        self.left_open = os.open(self.files["read a file of the user's"], os.O_RDONLY)
        os.set_inheritable(self.left_open, True)
        self.servers = {
            "tcp": socket.create_server(("127.0.0.1", 0)),
            "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "unix": socket.socket(socket.AF_UNIX),
            "abstract": socket.socket(socket.AF_UNIX),
        }
        self.servers["udp"].bind(("127.0.0.1", 0))
        self.servers["unix"].bind(str(folder / "socket"))
        self.servers["abstract"].bind(f"\0{folder}")
        for name, server in self.servers.items():
            server.setblocking(False)
            if name != "udp":
                server.listen()
        self.before = self.state()

    def facts(self, name: str, numbers: dict[str, int]) -> dict[str, Any]:
        return {
            "file": self.files[name],
            "folder": str(self.folder),
            "left_open": self.left_open,
            "bystander": self.bystander.pid,
            "parent": os.getpid(),
            "numbers": numbers,
            **{name: server.getsockname() for name, server in self.servers.items()},
        }

    def state(self) -> dict[str, Any]:
        """What would show a change. Reading a file changes when it was read: that is not looked at."""
        pid = self.bystander.pid
        seen: dict[str, Any] = {
            "alive": self.bystander.poll() is None,
            "priority": os.getpriority(os.PRIO_PROCESS, pid),
            "cores": sorted(os.sched_getaffinity(pid)),
            "limit": resource.prlimit(pid, resource.RLIMIT_NOFILE),
            "host": socket.gethostname(),
        }
        for path in sorted(self.folder.iterdir()):
            status = path.lstat()
            seen[path.name] = status.st_mode, status.st_uid, status.st_nlink, status.st_size, status.st_mtime
        return seen

    def changes(self) -> list[str]:
        now = self.state()
        changed = [name for name in now.keys() | self.before.keys() if now.get(name) != self.before.get(name)]
        for name, server in self.servers.items():
            with contextlib.suppress(BlockingIOError):
                if name == "udp":
                    server.recv(10)
                else:
                    server.accept()
                changed.append(f"{name} was reached")
        return sorted(changed)

    def close(self) -> None:
        self.bystander.kill()
        self.bystander.wait()
        os.close(self.left_open)
        for server in self.servers.values():
            server.close()


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    folder = Path(tempfile.mkdtemp(prefix="gpyt-escapes-"))
    try:
        world = Outside(folder)
        try:
            yield world
        finally:
            world.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(tool: str) -> int:
    from evaluation import sandbox

    os.environ["GPYT_SECRET"] = "secret"
    found = sandbox.find(tool)
    if isinstance(found, sandbox.NoSandbox):
        print(json.dumps({"missing": found.message}))
        return 0
    words = sandbox.DENIED_IN_BWRAP.split()
    calls = zip(words[::3], words[2 if platform.machine() == "aarch64" else 1 :: 3], strict=True)
    numbers = {name: int(number) for name, number in calls if number != "-"}
    results = {}
    with outside() as world:
        for name, attempt in ATTEMPTS.items():
            if tool == "none" and name in NOT_TRIED_OUTSIDE:
                continue
            job = repr((attempt, world.facts(name, numbers))).encode()
            ending = found.execute(CODE, job, 20.0)
            results[name] = ending.output.decode("utf-8", "replace") or ending.how
        changes = world.changes()
    print(json.dumps({"tool": f"{found.tool} {found.version}", "results": results, "changes": changes}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
