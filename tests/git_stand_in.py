"""A real git smart-HTTP server on loopback: `git http-backend` behind a small http.server."""

from __future__ import annotations

import os
import subprocess
import time
import zlib
from collections.abc import Callable
from hashlib import sha1
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

AUTHOR = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2024-03-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "2024-03-01T00:00:00Z",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


# Parts of objects may be asked for, as on GitHub.
CONFIGURATION = """[core]
\trepositoryformatversion = 0
\tbare = true
[uploadpack]
\tallowFilter = true
\tallowAnySHA1InWant = true
"""

# Path -> content, or (mode, content).
Tree = dict[str, bytes | tuple[str, bytes]]


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """The output of a git command that must succeed."""
    environment = {**os.environ, **AUTHOR}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, input=stdin, env=environment, capture_output=True, check=True).stdout


def make_repository(path: Path, tree: Tree, *, parent: str = "", branch: str = "main") -> str:
    """Make a bare repository with one commit of these files, or one more, and return the commit.

    A value may be (mode, content): ("120000", b"/etc/passwd") is a link. Names may be anything that git
    stores: the objects are written as git writes them, and no file of them is ever made on the disk.
    """
    if not parent:
        for folder in ("objects", "refs/heads"):
            (path / folder).mkdir(parents=True)
        (path / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
        (path / "config").write_text(CONFIGURATION, encoding="utf-8")
    who = "A <a@example.org> 1709251200 +0000"
    parents = f"parent {parent}\n" if parent else ""
    text = f"tree {_write_tree(path, tree)}\n{parents}author {who}\ncommitter {who}\n\nall\n"
    commit = _write_object(path, "commit", text.encode())
    (path / "refs/heads" / branch).write_text(f"{commit}\n", encoding="utf-8")
    return commit


def make_bomb(path: Path, levels: int, width: int) -> None:
    """Make a repository of levels + 2 objects that unfolds to width ** levels files."""
    make_repository(path, {})
    name = _write_object(path, "blob", b"x = 1\n")
    mode, suffix = b"100644", b".py"
    for _ in range(levels):
        raw = bytes.fromhex(name)
        entries = (b"%s %03d%s\0%s" % (mode, number, suffix, raw) for number in range(width))
        name = _write_object(path, "tree", b"".join(entries))
        mode, suffix = b"40000", b""
    who = "A <a@example.org> 1709251200 +0000"
    commit = _write_object(path, "commit", f"tree {name}\nauthor {who}\ncommitter {who}\n\nall\n".encode())
    (path / "refs/heads/main").write_text(f"{commit}\n", encoding="utf-8")


def _write_object(path: Path, kind: str, content: bytes) -> str:
    """Store a loose object and return its id."""
    whole = f"{kind} {len(content)}\0".encode() + content
    name = sha1(whole, usedforsecurity=False).hexdigest()
    file = path / "objects" / name[:2] / name[2:]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(zlib.compress(whole, 1))
    return name


def _write_tree(path: Path, tree: Tree) -> str:
    """Store a tree level by level, with names that an index would refuse too."""
    entries: list[tuple[bytes, str, str]] = []
    folders: dict[str, Tree] = {}
    for name, value in tree.items():
        first, slash, rest = name.partition("/")
        if slash:
            folders.setdefault(first, {})[rest] = value
            continue
        mode, content = value if isinstance(value, tuple) else ("100644", value)
        id_ = content.decode() if mode == "160000" else _write_object(path, "blob", content)
        entries.append((os.fsencode(first), mode, id_))
    entries += [(os.fsencode(name), "40000", _write_tree(path, inner)) for name, inner in folders.items()]
    entries.sort(key=lambda entry: entry[0] + (b"/" if entry[1] == "40000" else b""))
    lines = (mode.encode() + b" " + name + b"\0" + bytes.fromhex(id_) for name, mode, id_ in entries)
    return _write_object(path, "tree", b"".join(lines))


def serve_git(
    handler: BaseHTTPRequestHandler,
    root: Path,
    *,
    cut: Callable[[bytes], bytes] | None = None,
    pause_seconds: float = 0.0,
) -> int:
    """Answer one request for root/<owner>/<name>.git/... by git's own server; the bytes of the answer.

    cut may damage the answer; with pause_seconds its second half is that late.
    """
    parts = urlsplit(handler.path)
    body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH_INFO": parts.path,
        "QUERY_STRING": parts.query,
        "REQUEST_METHOD": handler.command,
        "CONTENT_TYPE": handler.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": handler.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": handler.headers.get("git-protocol", ""),
        "REMOTE_ADDR": "127.0.0.1",
    }
    answer = subprocess.run(
        ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
    ).stdout
    head, _, content = answer.partition(b"\r\n\r\n")
    fields = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
    status = next((int(value[:3]) for name, value in fields if name.lower() == "status"), 200)
    handler.send_response(status)
    for name, value in fields:
        if name.lower() != "status":
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    content = cut(content) if cut else content
    half = len(content) // 2 if pause_seconds else 0
    handler.wfile.write(content[:half])
    handler.wfile.flush()
    time.sleep(pause_seconds)
    handler.wfile.write(content[half:])
    return len(head) + len(content)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
