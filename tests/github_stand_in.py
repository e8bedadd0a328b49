"""A stand-in for GitHub on loopback: its search by the REST documentation, its repositories by git.

Its rules: at most 1,000 results of a query and 422 beyond, 100 a page, Link headers, a true total_count, a
budget a minute with its headers, 401 for an unknown token. Requests and answers are checked against GitHub's
own description of its API. Requests that break a rule are counted. Each request uses up one queued fault.
"""

from __future__ import annotations

import calendar
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from git_stand_in import serve_git
from github_answers import check_answer, check_question, whole_result

NO_END = 10**12


@dataclass
class Fault:
    """How one request fails: a status with headers, or damage to a good answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "Server Error"
    # "incomplete", "half", "truncated", "reset", "slow", "drip", "shuffled", "html"; of git "truncated",
    # "late half", "stall", "reset"
    damage: str = ""


@dataclass
class Received:
    """A request as it arrived."""

    at: float
    path: str
    query: str
    page: int
    headers: dict[str, str]


def moment(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class GitHubStandIn:
    """The server; `with GitHubStandIn(folder) as github:` runs it."""

    def __init__(self, git_root: Path) -> None:
        self.git_root = git_root
        self.repositories: list[dict[str, Any]] = []
        self._created: dict[int, int] = {}
        self.renamed: dict[str, int] = {}  # an old name in lower case -> its repository's number
        self.faults: list[Fault] = []
        self.tokens: set[str] | None = None  # None: every token is known
        self.budget = 10_000  # searches a window
        self.window_seconds = 60.0
        self.clock_ahead = 0.0  # of the server, seconds
        self.slow_seconds = 1.0  # that a slow answer takes
        self.spent_elsewhere = 0  # searches that another program makes after each of ours
        self.received: list[Received] = []
        self.git_requests: list[Received] = []
        self.git_bytes = 0  # of git's answers, heads included
        self.violations: list[str] = []
        self.before_git: Callable[[str], Fault | None] | None = None
        self._forbidden_until = 0.0
        self._window_start = time.time()
        self._used = 0
        self._told_left = 1  # searches, as we last said
        self._mutex = threading.Lock()
        self._searching = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> GitHubStandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, full_name: str, created_at: str, **more: object) -> dict[str, Any]:
        """Make a repository known to the search."""
        repository: dict[str, Any] = {
            "id": len(self.repositories) + 1,
            "full_name": full_name,
            "clone_url": f"{self.url}/{full_name}.git",
            "created_at": created_at,
            "pushed_at": created_at,
            "updated_at": created_at,
            "stargazers_count": 0,
            "forks_count": 0,
            "size": 10,
            "fork": False,
            "license": None,
            **more,
        }
        self.repositories.append(repository)
        self._created[repository["id"]] = moment(created_at)
        return repository

    def matches(self, query: str) -> list[dict[str, Any]]:
        """All repositories that a query finds, most recently updated first."""

        def bounds(name: str) -> tuple[str, str]:
            found = re.search(rf"{name}:(\S+?)\.\.(\S+)", query)
            return (found[1], found[2]) if found else ("0", "*")

        def has_license(repository: dict[str, Any]) -> bool:
            wanted = re.search(r"license:(\S+)", query)
            return not wanted or (repository["license"] or {}).get("key") == wanted[1]

        first, last = bounds("created")
        created = range(moment(first), moment(last) + 1)
        numbers = {}
        for name in ("stars", "size"):
            low, high = bounds(name)
            numbers[name] = range(int(low), NO_END if high == "*" else int(high) + 1)
        found = [
            repository
            for repository in self.repositories
            if self._created[repository["id"]] in created
            and repository["stargazers_count"] in numbers["stars"]
            and repository["size"] in numbers["size"]
            and has_license(repository)
            and ("fork:true" in query or not repository["fork"])
        ]
        return sorted(
            found, key=lambda repository: (repository["updated_at"], repository["id"]), reverse=True
        )

    def _now(self) -> float:
        return time.time() + self.clock_ahead

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: else each answer takes 40 ms

            def do_GET(self) -> None:
                path = urlsplit(self.path)
                if path.path == "/search/repositories":
                    stand_in._search(self)
                elif path.path.startswith("/repos/"):
                    stand_in._tell(self, path.path.removeprefix("/repos/"))
                elif path.path.split("/")[2:3] and ".git" in path.path:
                    stand_in._git(self)
                else:
                    stand_in._answer(self, 404, {"message": "Not Found"}, {})

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    def _git(self, handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path
        self.git_requests.append(Received(time.time(), handler.path, "", 0, dict(handler.headers.items())))
        fault = self.before_git(path) if self.before_git else None
        if fault is None:
            size = serve_git(handler, self.git_root)
            with self._mutex:
                self.git_bytes += size
        elif fault.damage == "truncated":
            handler.close_connection = True
            serve_git(handler, self.git_root, cut=lambda content: content[: len(content) // 2])
        elif fault.damage == "late half":
            serve_git(handler, self.git_root, pause_seconds=self.slow_seconds)
        elif fault.damage == "reset":
            handler.rfile.read(int(handler.headers.get("content-length") or 0))
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            handler.close_connection = True
        elif fault.damage == "stall":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            time.sleep(60)
        else:
            handler.rfile.read(int(handler.headers.get("content-length") or 0))
            self._answer(handler, fault.status, {"message": fault.message}, fault.headers)

    def _tell(self, handler: BaseHTTPRequestHandler, full_name: str) -> None:
        """Answer what is known of one repository; an old name is led to the new one, by its number."""
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.received.append(Received(time.time(), handler.path, "", 0, headers))
        fault = self.faults.pop(0) if self.faults else Fault()
        named = full_name.lower()
        number = self.renamed.get(named)
        known = [each for each in self.repositories if each["full_name"].lower() == named]
        known = known or [each for each in self.repositories if f"by-id/{each['id']}" == named]
        if fault.status:
            self._answer(handler, fault.status, {"message": fault.message}, fault.headers)
        elif number is not None:
            location = {"Location": f"{self.url}/repos/by-id/{number}"}
            self._answer(handler, 301, {"message": "Moved Permanently"}, location)
        elif known:
            self._answer(handler, 200, whole_result(known[0]), {})
        else:
            self._answer(handler, 404, {"message": "Not Found"}, {})

    def _search(self, handler: BaseHTTPRequestHandler) -> None:
        if not self._searching.acquire(blocking=False):
            self.violations.append(f"two searches at a time: {handler.path}")
            self._searching.acquire()
        try:
            self._search_one(handler)
        finally:
            self._searching.release()

    def _search_one(self, handler: BaseHTTPRequestHandler) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
        check_question(asked)
        page, per_page = int(asked.get("page", 1)), int(asked.get("per_page", 30))
        now = time.time()
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.received.append(Received(now, handler.path, asked["q"], page, headers))
        if now < self._forbidden_until:
            self.violations.append(f"{self._forbidden_until - now:.2f} s too early: {handler.path}")
        if now >= self._window_start + self.window_seconds:
            self._window_start, self._used = now, 0
            self._told_left = self.budget
        self._used += 1
        limits = {
            "x-ratelimit-limit": str(self.budget),
            "x-ratelimit-remaining": str(max(self.budget - self._used, 0)),
            "x-ratelimit-reset": str(int(self._window_start + self.window_seconds + self.clock_ahead)),
            "x-ratelimit-resource": "search",
        }
        token = headers.get("authorization", "").removeprefix("token ").removeprefix("Bearer ")
        if token and self.tokens is not None and token not in self.tokens:
            self._answer(handler, 401, {"message": "Bad credentials"}, limits)
            return
        was_told_left, self._told_left = self._told_left, self.budget - self._used
        if self._used > self.budget:
            if was_told_left <= 0:
                self.violations.append(f"over the budget: {handler.path}")
            self._answer(handler, 403, {"message": "API rate limit exceeded for 127.0.0.1."}, limits)
            return
        self._used += self.spent_elsewhere
        fault = self.faults.pop(0) if self.faults else Fault()
        if fault.status:
            if fault.headers.get("retry-after", "").isdigit():
                self._forbidden_until = now + float(fault.headers["retry-after"])
            self._answer(handler, fault.status, {"message": fault.message}, {**limits, **fault.headers})
            return
        if (page - 1) * per_page >= 1000:
            self.violations.append(f"beyond 1,000: {handler.path}")
            self._answer(
                handler, 422, {"message": "Only the first 1000 search results are available"}, limits
            )
            return
        self._answer_page(handler, asked, page, per_page, limits, fault)

    def _answer_page(
        self,
        handler: BaseHTTPRequestHandler,
        asked: dict[str, str],
        page: int,
        per_page: int,
        headers: dict[str, str],
        fault: Fault,
    ) -> None:
        found = self.matches(asked["q"])
        if asked.get("sort") == "stars":
            found.sort(key=lambda repository: -repository["stargazers_count"])
        start = (page - 1) * per_page
        items = list(map(whole_result, found[start : min(start + per_page, 1000)]))
        if fault.damage == "shuffled":
            start = max(start - 1, 0)  # one of the page before again
            items = list(map(whole_result, found[start : start + len(items)]))
        if fault.damage == "incomplete":
            items = items[: len(items) // 2]
        last = -(-min(len(found), 1000) // per_page)
        if page < last:
            base = f"{self.url}{urlsplit(handler.path).path}?q=...&per_page={per_page}"
            links = f'<{base}&page={page + 1}>; rel="next", <{base}&page={last}>; rel="last"'
            headers = {**headers, "Link": links}
        body = {
            "total_count": len(items) if fault.damage == "incomplete" else len(found),
            "incomplete_results": fault.damage == "incomplete",
            "items": items,
        }
        self._answer(handler, 200, body, headers, fault.damage)

    def _answer(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: dict[str, Any],
        headers: dict[str, str],
        damage: str = "",
    ) -> None:
        if status >= 400:
            body = {**body, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
        is_one = "clone_url" in body  # the repository itself, as a search lists it
        check_answer(
            status, {"total_count": 1, "incomplete_results": False, "items": [body]} if is_one else body
        )
        content = json.dumps(body).encode()
        if damage == "slow":
            time.sleep(self.slow_seconds)
        if damage == "html":
            content = b"<html>Unicorn!</html>"
        if damage == "half":
            content = content[: len(content) // 2]
        if damage == "reset":
            handler.connection.close()
            handler.close_connection = True
            return
        handler.send_response_only(status)
        handler.send_header("Date", formatdate(self._now(), usegmt=True))
        handler.send_header("Content-Type", "application/json; charset=utf-8")
        handler.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if damage == "drip":  # never silent for long, and never at its end
            for byte in content[:40]:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(self.slow_seconds / 10)
        if damage in ("truncated", "drip"):
            handler.wfile.write(content[: len(content) // 2])
            handler.close_connection = True
            return
        handler.wfile.write(content)
