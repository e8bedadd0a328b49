"""A server that plays model/serve.py to its page: each test says what it streams and what goes wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from project import PROJECT

PAGE = PROJECT / "model/serving/page"
# As strict as a server can be that shows a page of its own: nothing inline, nothing from elsewhere.
POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
ABOUT = {
    "name": "GPyT",
    "parameters": 1_830_000,
    "context": 512,
    "vocabulary": 2048,
    "infilling": False,
    "bits_per_byte": 1.21,
    "card": "",
    "has_scores": False,
    "has_loss_plot": False,
    "has_sources": True,
}
VALID = {"valid": True, "unfinished": False, "message": "", "line": None, "column": None}
UNFINISHED = {**VALID, "valid": False, "unfinished": True, "message": "unexpected EOF", "line": 1}


def token(text: str, offset: int, logprob: float = -0.3, **others: float) -> dict[str, Any]:
    """A part of a stream that is one token; others: what else was likely there."""
    logprobs = {
        "tokens": [text],
        "token_logprobs": [logprob],
        "top_logprobs": [{text: logprob, **others}],
        "text_offset": [offset],
    }
    return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": None, "rejected": []}


def tokens(*texts: str, logprob: float = -0.3) -> list[dict[str, Any]]:
    """Parts of a stream, one for each of these tokens."""
    parts, offset = [], 0
    for text in texts:
        parts.append(token(text, offset, logprob))
        offset += len(text)
    return parts


def last(index: int = 0, reason: str = "stop", score: float = -0.5, **more: Any) -> dict[str, Any]:
    """The last part of a stream."""
    part = {"index": index, "text": "", "logprobs": None, "finish_reason": reason, "rejected": []}
    return {**part, "valid": True, "score": score, "sources": [], **more}


@dataclass
class Answer:
    """What is answered to one request for a completion."""

    parts: Sequence[dict[str, Any]] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""  # with another status as its body, else as the stream's end
    is_cut: bool = False  # the connection ends before the stream does
    waits_before: int = -1  # the part before which the stream waits for `go_on`


class PageStandIn:
    """The server, on a port of loopback; `asked` has every request with its body."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []  # the next ones; the last is repeated
        self.judgements: dict[str, dict[str, Any]] = {}  # of texts that contain this; others are valid
        self.about: dict[str, Any] = dict(ABOUT)
        self.files: dict[str, tuple[str, bytes]] = {}  # path: its type and bytes
        self.key = ""
        self.may_fail = False  # the browser notes each answer of 400 and more; the test means them
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.go_on = threading.Event()
        self.clients_gone = 0
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                stand_in.get(self)

            def do_POST(self) -> None:
                stand_in.post(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    @property
    def completions(self) -> list[dict[str, Any]]:
        """The bodies of the requests for completions."""
        return [body for path, body in self.asked if path == "/v1/completions"]

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def send(
        self, to: BaseHTTPRequestHandler, body: bytes, kind: str, status: int = 200, **headers: str
    ) -> None:
        to.send_response(status)
        to.send_header("Content-Type", kind)
        to.send_header("Content-Length", str(len(body)))
        to.send_header("Content-Security-Policy", POLICY)
        for name, value in headers.items():
            to.send_header(name, value)
        to.end_headers()
        to.wfile.write(body)

    def send_json(self, to: BaseHTTPRequestHandler, body: Any, status: int = 200, **headers: str) -> None:
        self.send(to, json.dumps(body).encode(), "application/json", status, **headers)

    def is_refused(self, request: BaseHTTPRequestHandler) -> bool:
        """Answer a request without the key, where one is needed."""
        if not self.key or request.headers["Authorization"] == f"Bearer {self.key}":
            return False
        self.send_json(request, {"error": {"message": "no such key"}}, 401)
        return True

    def get(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        file = PAGE / ("index.html" if path == "/" else path.removeprefix("/page/"))
        if path in self.files:
            kind, body = self.files[path]
            if not self.is_refused(request):
                self.send(request, body, kind)
        elif path == "/" or (path.startswith("/page/") and file.is_file()):
            self.send(request, file.read_bytes(), KINDS[file.suffix])
        elif path == "/about":
            if not self.is_refused(request):
                self.send_json(request, self.about)
        else:
            self.send_json(request, {"error": {"message": f"no such page: {path}"}}, 404)

    def post(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.asked.append((request.path, body))
        if self.is_refused(request):
            return
        if request.path == "/v1/judge":
            found = [said for part, said in self.judgements.items() if part in body["text"]]
            self.send_json(request, found[0] if found else VALID)
            return
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.status != 200:
            self.send_json(request, {"error": {"message": answer.error}}, answer.status, **answer.headers)
            return
        try:
            self.stream(request, answer)
        except OSError:
            self.clients_gone += 1

    def stream(self, request: BaseHTTPRequestHandler, answer: Answer) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()

        def event(text: str) -> None:
            request.wfile.write(f"data: {text}\n\n".encode())
            request.wfile.flush()

        for number, part in enumerate(answer.parts):
            if number == answer.waits_before and not self.go_on.wait(20):
                raise TimeoutError("nobody let the stream go on")
            event(json.dumps({"id": "cmpl-1", "object": "text_completion", "choices": [part]}))
        if answer.error:
            event(json.dumps({"error": {"message": answer.error, "type": "server_error"}}))
        elif not answer.is_cut:
            event("[DONE]")
