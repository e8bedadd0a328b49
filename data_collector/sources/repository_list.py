"""A list of repositories, as people keep them: a name or an address a line.

    # parsers
    psf/requests
    psf/black@24.1.0                          # a tag, a branch or a whole commit
    https://gitlab.com/group/sub/project
    https://git.sr.ht/~ann/tool@v2

A line without a host is a name at GitHub, or at the server of --api-url. What follows a # is a comment.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cloning.git_environment import is_loopback
from collection.request import Request, SearchQuery
from collection.search_record import LISTED, ListedRepository
from collector_cli import UserError

STANDARD_INPUT = Path("-")
MAX_LIST_BYTES = 100_000_000  # a line for each repository of GitHub's Python would have about as much
MAX_LINE = 1_000  # characters; longer ones are no addresses
SHOWN = 60  # characters of a line that cannot be read

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*/[A-Za-z0-9._-]{1,100}")
# What git allows in a name of a tag or branch, without what a shell or a terminal could mind.
REF = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|\.lock$|[/.]$))[A-Za-z0-9._/+=-]{1,200}")
PATH = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9._~/+-]+")
# git@host:path, as git takes it for ssh, and addresses that would be the same over https.
OVER_SSH = re.compile(r"(?:[^/@]*@([^/:@]+)|([\w-]+(?:\.[\w-]+)+)):(?!\d+/)/?(.+)")
ALSO_HTTPS = ("ssh", "git", "http")
NO_TEXT = "it is no text"


class ListError(UserError):
    """A list that cannot be read: what happened, where, what to do."""


@dataclass
class RepositoryList:
    """The repositories of a list, each of them once, and a line for each entry that is none."""

    repositories: list[ListedRepository] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    repeated: int = 0

    def request(self) -> Request:
        """Stands for this list in the record: for what it names, not for its comments or its order."""
        lines = sorted(f"{each.key}@{each.ref}" for each in self.repositories)
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return Request(LISTED, (SearchQuery(f"list {digest}"),), "", "9999")


def check_api_url(url: str) -> None:
    """The token travels to this address: https, or http to this machine, and no password in it."""
    with suppress(ValueError):  # no address at all
        parts = urlsplit(url)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
        if is_safe and parts.hostname and parts.port != 0 and "@" not in parts.netloc:
            return
    remedy = "give --api-url https://api.github.com or https://HOST/api/v3"
    raise UserError(f"not an https address: {shown_entry(url)}: {remedy}")


def web_address(api_url: str) -> str:
    """The server whose repositories an API tells of: https://api.github.com -> https://github.com"""
    parts = urlsplit(api_url)
    host = "github.com" if parts.netloc.lower() == "api.github.com" else parts.netloc.lower()
    return f"{parts.scheme}://{host}"


def read_list(path: Path) -> str:
    """The text of a list, "-" for standard input. Bytes that are no text become surrogates."""
    where = "standard input" if path == STANDARD_INPUT else str(path.absolute())
    try:
        if path == STANDARD_INPUT and sys.stdin is None:
            raise ListError("standard input is closed: give a file with a repository a line")
        if path == STANDARD_INPUT:
            content = sys.stdin.buffer.read(MAX_LIST_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise ListError(
            f"the list cannot be read ({error.strerror}): {where}: give a file with a repository a line, or -"
        ) from None
    if len(content) > MAX_LIST_BYTES:
        raise ListError(f"the list is larger than {MAX_LIST_BYTES // 1_000_000} MB: {where}: cut it in parts")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Windows writes it
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "surrogateescape")


def parse_list(text: str, web_url: str) -> RepositoryList:
    """The repositories that a list names. web_url is the server of names without one: https://github.com"""
    found = RepositoryList()
    known: dict[str, ListedRepository] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        entry = re.sub(r"(^|\s)#.*", "", line).strip()
        if not entry:
            continue
        try:
            each = _parse(entry, number, web_url)
        except ValueError as error:
            shown = "" if str(error) == NO_TEXT else f": {shown_entry(entry)}"
            found.refused.append(f"line {number}: {error}{shown}")
            continue
        first = known.setdefault(each.key, each)
        if first is each:
            found.repositories.append(each)
        elif first.ref == each.ref:
            found.repeated += 1
        else:
            found.refused.append(
                f"line {number}: line {first.line} names it already, at another commit: {entry[:SHOWN]}"
            )
    return found


def shown_entry(entry: str) -> str:
    """The beginning of an entry, without what may be a password: "https://ann:x@h/y" -> "https://...@h/y" """
    scheme, separator, rest = entry[:MAX_LINE].rpartition("://")
    host = rest.partition("/")[0]
    if "@" in host or ("@" in rest and re.search(r":(?!\d*$)", host)):
        rest = f"...@{rest.rpartition('@')[2]}"
    shown = f"{scheme}{separator}{rest}"
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def _parse(entry: str, line: int, web_url: str) -> ListedRepository:
    """One entry; ValueError says why it names no repository."""
    if not entry.replace("\t", " ").isprintable():
        raise ValueError(NO_TEXT)
    if len(entry) > MAX_LINE:
        raise ValueError("no name or address")
    if "://" not in entry:
        if over_ssh := OVER_SSH.fullmatch(entry):
            raise ValueError(_only_https(over_ssh[1] or over_ssh[2], over_ssh[3]))
        name, _, ref = entry.partition("@")
        address = f"{web_url}/{name.strip('/')}"
        if not NAME.fullmatch(name.strip("/")):
            raise ValueError("neither owner/name nor an https address")
    else:
        address, ref = _without_ref(entry.removeprefix("git+"))
    if ("@" in entry and not ref) or (ref and not REF.fullmatch(ref)):
        raise ValueError("no commit, tag or branch after its @")
    parts = urlsplit(address)
    path = parts.path.strip("/").removesuffix(".git")
    if parts.query or parts.fragment or not PATH.fullmatch(path):
        raise ValueError("no address of a repository")
    host = parts.netloc.lower()
    url = f"{parts.scheme}://{host}/{path}"
    if f"{parts.scheme}://{host}" != web_url:
        given = url + (".git" if parts.path.rstrip("/").endswith(".git") else "")
        return ListedRepository(line, url, given, f"{host}/{path}", "", ref)
    if not NAME.fullmatch(path):
        raise ValueError(f"no repository's address: give {web_url}/owner/name")
    return ListedRepository(line, url.lower(), f"{url}.git", path, path, ref)


def _without_ref(entry: str) -> tuple[str, str]:
    """(address, what follows its @) of an https address; ValueError if it is none."""
    try:
        parts = urlsplit(entry)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("no address") from None
    is_http = parts.scheme == "http" and is_loopback(host)
    if not (parts.scheme == "https" or is_http):
        is_same = host and parts.scheme.removeprefix("git+") in ALSO_HTTPS
        raise ValueError(_only_https(host or "", parts.path) if is_same else "only https addresses are taken")
    if "@" in parts.netloc:
        raise ValueError("a user name or password in the address, which is not taken: clone it, then --local")
    if not host:
        raise ValueError("no address")
    start = entry.index(parts.netloc) + len(parts.netloc)
    path, _, ref = entry[start:].partition("@")
    return entry[:start] + path, ref


def _only_https(host: str, path: str) -> str:
    """What is said of an address that is the same over https: how to write it."""
    path = path.strip("/")
    hint = f": write https://{host}/{path}" if PATH.fullmatch(path.partition("@")[0]) else ""
    return f"only https addresses are taken{hint[: 2 * SHOWN]}"


def listed_at(url: str, web_url: str) -> ListedRepository | None:
    """The repository at an address to which a server redirects; None if it cannot be one."""
    try:
        return _parse(url.rstrip("/"), 0, web_url)
    except ValueError:
        return None
