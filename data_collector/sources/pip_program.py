"""Asks package indexes as pip does: with the user's mirrors, credentials, proxies and certificates.

A program: it reads a request a line on standard input, and writes an answer a line, both JSON.

    {"files": "requests"}     -> {"files": [{"name", "url", "hash", "yanked", "metadata"}], "faults": []}
    {"size": URL}             -> {"size": 123} or {"size": -1}
    {"text": URL, "limit": N} -> {"text": "Metadata-Version: ..."}
    {"fetch": URL, "to": PATH, "limit": N, "hash": "sha256=..."} -> {"sha256": "...", "size": 123}
    {"requirements": PATH}    -> {"lines": [{"text", "hashes", "is_constraint", "is_editable"}]}

Whatever goes wrong is answered with {"error": words}. Nothing is built, and nothing that is fetched is run:
pip's own commands for source distributions run their build backends even for a download.

A file of its own, and of the standard library alone: it runs beside the collector. pip promises no interface
to programs, so it is asked through the few names that are the same in pip 23.0, 23.2, 24.2 and 26.3.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import importlib.util
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 262_144
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def find_pip() -> None:
    """Make pip importable: that of this environment, else the one that comes with Python."""
    if importlib.util.find_spec("pip") is None:
        bundled = importlib.import_module("ensurepip").__path__[0]
        sys.path.append(str(sorted(Path(bundled, "_bundled").glob("pip-*.whl"))[-1]))


class Faults(logging.Handler):
    """Collects why pages of an index could not be read, which pip only logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("Could not fetch URL") or "is not a trusted or secure host" in message:
            self.lines.append(message)


class Pip:
    """pip's session and its view of the indexes."""

    def __init__(self) -> None:
        find_pip()
        command_class = importlib.import_module("pip._internal.commands.index").IndexCommand
        self.collector_module = importlib.import_module("pip._internal.index.collector")
        self.network = importlib.import_module("pip._internal.network.utils")
        self.requirements_module = importlib.import_module("pip._internal.req.req_file")
        self.link_class = importlib.import_module("pip._internal.models.link").Link
        command = command_class("index", "as the collector asks")
        self.options, _ = command.parse_args(["--no-input", "versions", "x"])
        self.session = command._build_session(self.options)
        self.session.auth.prompting = False
        self.finder = command._build_package_finder(options=self.options, session=self.session)
        self.faults = Faults()
        for name in ("pip._internal.index.collector", "pip._internal.index.sources"):
            logger = logging.getLogger(name)
            logger.setLevel(logging.DEBUG)
            logger.addHandler(self.faults)
            logger.propagate = False

    def links_at(self, page: Any) -> list[Any]:
        content = self.finder._link_collector.fetch_response(page)
        return list(self.collector_module.parse_links(content)) if content else []

    def links_of(self, name: str) -> Iterator[Any]:
        sources = self.finder._link_collector.collect_sources(name, candidates_from_page=self.links_at)
        for source in [*sources.index_urls, *sources.find_links]:
            if source is not None:
                yield from source.page_candidates()
                yield from source.file_links()

    def files(self, name: str) -> dict[str, Any]:
        """Every file of a package that an index or a --find-links has."""
        self.faults.lines = []
        files = [
            {
                "name": link.filename,
                "url": link.url_without_fragment,
                "hash": f"{link.hash_name}={link.hash}" if link.hash else "",
                "yanked": link.yanked_reason,
                "metadata": metadata.url_without_fragment if (metadata := link.metadata_link()) else "",
            }
            for link in self.links_of(name)
        ]
        return {"files": files, "faults": self.faults.lines}

    def answer_of(self, url: str) -> Any:
        response = self.session.get(url, headers=self.network.HEADERS, stream=True)
        self.network.raise_for_status(response)
        return response

    def size(self, url: str) -> dict[str, Any]:
        with contextlib.closing(self.session.head(url, headers=self.network.HEADERS)) as response:
            length = response.headers.get("Content-Length", "") if response.status_code == 200 else ""
            return {"size": int(length) if str(length).isdecimal() else -1}

    def text(self, url: str, limit: int) -> dict[str, Any]:
        content = b""
        with contextlib.closing(self.answer_of(url)) as response:
            for chunk in self.network.response_chunks(response, CHUNK):
                content += chunk
                if len(content) > limit:
                    raise ValueError(f"more than {limit} bytes")
        return {"text": content.decode("utf-8", "replace")}

    def fetch(self, url: str, to: str, limit: int, hash: str) -> dict[str, Any]:  # noqa: A002
        """Write a file, and check it by the hash that the index gives: "sha256=...", '' if none."""
        name, _, expected = hash.partition("=")
        sha256, given, size = hashlib.sha256(), hashlib.new(name or "sha256"), 0
        with contextlib.closing(self.answer_of(url)) as response, Path(to).open("wb") as file:
            for chunk in self.network.response_chunks(response, CHUNK):
                size += len(chunk)
                if size > limit:
                    raise ValueError(f"too large: more than {limit // 1_000_000} MB")
                sha256.update(chunk)
                given.update(chunk)
                file.write(chunk)
        if expected and given.hexdigest() != expected.lower():
            raise ValueError(f"its {name} is not the one that the index gives")
        return {"sha256": sha256.hexdigest(), "size": size}

    def requirements(self, path: str) -> dict[str, Any]:
        """The lines of a requirements file, as pip reads it; its --index-url holds from here on."""
        parse = self.requirements_module.parse_requirements
        try:
            parsed = list(parse(path, self.session, finder=self.finder, options=self.options))
        except UnicodeDecodeError:
            raise ValueError("it is no text") from None
        lines = [
            {
                "text": each.requirement,
                "hashes": ((each.options or {}).get("hashes") or {}).get("sha256", []),
                "is_constraint": each.constraint,
                "is_editable": each.is_editable,
            }
            for each in parsed
        ]
        return {"lines": lines}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "files" in request:
            return self.files(request["files"])
        if "size" in request:
            return self.size(request["size"])
        if "text" in request:
            return self.text(request["text"], request["limit"])
        if "fetch" in request:
            return self.fetch(request["fetch"], request["to"], request["limit"], request["hash"])
        return self.requirements(request["requirements"])


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # what pip prints is no answer
    failure, pip = "", None
    try:
        pip = Pip()
    except Exception as error:  # noqa: BLE001 - any version of pip may be here
        failure = f"pip cannot be asked ({type(error).__name__}: {error})"
    for line in sys.stdin:
        try:
            answer = pip.answer(json.loads(line)) if pip else {"error": failure, "is_fatal": True}
        except OSError as error:
            answer = {"error": str(error), "errno": error.errno if error.errno in FULL_DISK else None}
        except (Exception, SystemExit) as error:  # noqa: BLE001 - strangers' pages, and pip's own errors
            answer = {"error": " ".join(str(error).split()) or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
