"""A stand-in for a package index on loopback: the simple repository API, as pages or JSON, and files."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

JSON = "application/vnd.pypi.simple.v1+json"


def metadata(name: str, version: str, requires: Iterable[str], lines: Iterable[str]) -> bytes:
    fields = ["Metadata-Version: 2.2", f"Name: {name}", f"Version: {version}", *lines]
    return "\n".join([*fields, *(f"Requires-Dist: {each}" for each in requires), "", ""]).encode()


def make_sdist(name: str, version: str, files: Mapping[str, bytes]) -> bytes:
    """A source distribution: these files below "name-version/"."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def make_wheel(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return buffer.getvalue()


@dataclass
class IndexFile:
    """A file as the index lists it."""

    filename: str
    content: bytes
    yanked: str | None = None
    sha256: str = ""  # as the index says
    metadata: bytes | None = None


class IndexStandIn:
    """The server; `with IndexStandIn() as index:` runs it. password: asked of "ann" unless it is ''."""

    def __init__(self) -> None:
        self.packages: dict[str, list[IndexFile]] = {}
        self.received: list[str] = []
        self.password = ""
        self.speaks_json = False
        self.pause_seconds = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    def __enter__(self) -> IndexStandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self._server.server_port}/simple/"

    def environment(self, folder: Path, login: str = "") -> dict[str, str]:
        """pip set up for this index alone."""
        return {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": self.url(login),
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "PIP_CACHE_DIR": str(folder / "pip-cache"),
            "PIP_RETRIES": "0",
            "NO_PROXY": "127.0.0.1",
            "GITHUB_TOKEN": "",
        }

    def put(self, name: str, file: IndexFile) -> IndexFile:
        file.sha256 = file.sha256 or hashlib.sha256(file.content).hexdigest()
        self.packages.setdefault(name, []).append(file)
        return file

    def add_sdist(
        self,
        name: str,
        version: str,
        files: Mapping[str, bytes] | None = None,
        *,
        requires: Iterable[str] = (),
        lines: Iterable[str] = ("License: MIT",),
        yanked: str | None = None,
    ) -> IndexFile:
        whole = {
            "PKG-INFO": metadata(name, version, requires, lines),
            **(files or {f"{name}.py": b"x = 1\n"}),
        }
        return self.put(name, IndexFile(f"{name}-{version}.tar.gz", make_sdist(name, version, whole), yanked))

    def add_wheel(
        self,
        name: str,
        version: str,
        files: Mapping[str, bytes] | None = None,
        *,
        requires: Iterable[str] = (),
        lines: Iterable[str] = ("License: MIT",),
        tag: str = "py3-none-any",
        tells_metadata: bool = False,
    ) -> IndexFile:
        text = metadata(name, version, requires, lines)
        whole = {f"{name}-{version}.dist-info/METADATA": text, **(files or {f"{name}.py": b"x = 1\n"})}
        file = IndexFile(f"{name}-{version}-{tag}.whl", make_wheel(whole))
        file.metadata = text if tells_metadata else None
        return self.put(name, file)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in._answer(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        self.received.append(f"{handler.command} {path}")
        time.sleep(self.pause_seconds)
        expected = "Basic " + base64.b64encode(f"ann:{self.password}".encode()).decode()
        if self.password and handler.headers.get("authorization") != expected:
            self._send(handler, 401, b"", "text/plain")
            return
        kind, _, name = path.strip("/").partition("/")
        files = {file.filename: file for each in self.packages.values() for file in each}
        if kind == "simple" and name in self.packages:
            self._send(handler, 200, *self._page(name))
        elif kind == "files" and name in files:
            self._send(handler, 200, files[name].content, "application/octet-stream")
        elif kind == "files" and name.removesuffix(".metadata") in files:
            self._send(handler, 200, files[name.removesuffix(".metadata")].metadata or b"", "text/plain")
        else:
            self._send(handler, 404, b"not found", "text/plain")

    def _page(self, name: str) -> tuple[bytes, str]:
        files = self.packages[name]
        if self.speaks_json:
            described = [
                {
                    "filename": file.filename,
                    "url": f"../../files/{file.filename}",
                    "hashes": {"sha256": file.sha256},
                    "yanked": file.yanked if file.yanked is not None else False,
                    "core-metadata": file.metadata is not None,
                }
                for file in files
            ]
            return json.dumps(
                {"meta": {"api-version": "1.0"}, "name": name, "files": described}
            ).encode(), JSON
        links = []
        for file in files:
            yanked = "" if file.yanked is None else f' data-yanked="{escape(file.yanked)}"'
            told = "" if file.metadata is None else ' data-core-metadata="true"'
            link = f"../../files/{file.filename}#sha256={file.sha256}"
            links.append(f'<a href="{link}"{yanked}{told}>{file.filename}</a>')
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode(), "text/html"

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, content: bytes, kind: str) -> None:
        handler.send_response(status)
        if status == 401:
            handler.send_header("WWW-Authenticate", 'Basic realm="index"')
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)
