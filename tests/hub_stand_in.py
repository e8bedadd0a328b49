"""A stand-in for the Hugging Face hub on loopback: what `datasets` asks of it to stream a dataset's files."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
ABOUT = "/api/datasets/ann/code"


class HubStandIn:
    """The server, which has the files of one folder as the dataset ann/code.

    `with HubStandIn(folder) as hub:` runs it. is_gated: it asks everybody to log in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_gated = False
        self.received: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    def __enter__(self) -> HubStandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """The variables by which the hub's libraries ask this server, and keep what they know below home."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {
            "HF_ENDPOINT": url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",  # model/data_loading/source_files.py sets it where it is read
            "HF_TOKEN": "",
            "GITHUB_TOKEN": "",
            "NO_PROXY": "127.0.0.1",
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in._answer(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        self.received.append(f"{handler.command} {path}")
        asked, _, below = path.partition(f"/tree/{COMMIT}")
        if path.startswith("/datasets/ann/code/resolve/"):
            if self.is_gated:
                self._send(handler, 403, b"{}", {"X-Error-Code": "GatedRepo"})
            else:
                self._send_file(handler, self.folder / path.split("/", 6)[6])
        elif path in (ABOUT, f"{ABOUT}/revision/{COMMIT}"):
            self._send_json(handler, self._about())
        elif asked == ABOUT and (self.folder / below.strip("/")).is_dir():
            self._send_json(handler, self._tree(below.strip("/")))
        else:
            self._send(handler, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _about(self) -> dict[str, Any]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {
            "id": "ann/code",
            "sha": COMMIT,
            "private": False,
            "gated": "auto" if self.is_gated else False,
            "disabled": False,
            "tags": [],
            "siblings": [{"rfilename": path.relative_to(self.folder).as_posix()} for path in files],
        }

    def _tree(self, below: str) -> list[dict[str, Any]]:
        return [
            {
                "type": "file" if path.is_file() else "directory",
                "path": path.relative_to(self.folder).as_posix(),
                "size": path.stat().st_size if path.is_file() else 0,
                "oid": "b" * 40,
            }
            for path in sorted((self.folder / below).iterdir())
        ]

    def _send_json(self, handler: BaseHTTPRequestHandler, answer: object) -> None:
        self._send(handler, 200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send_file(self, handler: BaseHTTPRequestHandler, path: Path) -> None:
        if not path.is_file():
            self._send(handler, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        fields = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = handler.headers.get("range")
        if asked is None:
            self._send(handler, 200, content, fields)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)), len(content) - 1)
        fields["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(handler, 206, content[start : end + 1], fields)

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, content: bytes, fields: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in {**fields, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)
