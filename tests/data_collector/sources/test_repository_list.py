"""Lists as people keep them: names, addresses, comments, repetitions, and lines that name nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector_cli import printable
from sources.repository_list import STANDARD_INPUT, ListError, listed_at, parse_list, read_list, web_address

GITHUB = "https://github.com"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def entries(text: str) -> list[tuple[str, str, str]]:
    """(name, address, commit or tag) of each repository of a list of which nothing is refused."""
    found = parse_list(text, GITHUB)
    assert found.refused == []
    return [(each.full_name, each.url, each.ref) for each in found.repositories]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("psf/requests", ("psf/requests", "https://github.com/psf/requests.git", "")),
        ("psf/requests/", ("psf/requests", "https://github.com/psf/requests.git", "")),
        ("psf/black@24.1.0", ("psf/black", "https://github.com/psf/black.git", "24.1.0")),
        ("a/b@feature/x", ("a/b", "https://github.com/a/b.git", "feature/x")),
        (f"a/b@{COMMIT}", ("a/b", "https://github.com/a/b.git", COMMIT)),
        ("https://github.com/psf/requests", ("psf/requests", "https://github.com/psf/requests.git", "")),
        ("https://GitHub.com/psf/requests.git/", ("psf/requests", "https://github.com/psf/requests.git", "")),
        ("git+https://github.com/a/b.git@v1", ("a/b", "https://github.com/a/b.git", "v1")),
        ("https://gitlab.com/g/sub/p", ("gitlab.com/g/sub/p", "https://gitlab.com/g/sub/p", "")),
        ("https://codeberg.org/a/b.git@v1", ("codeberg.org/a/b", "https://codeberg.org/a/b.git", "v1")),
        ("https://git.sr.ht/~ann/tool@v2", ("git.sr.ht/~ann/tool", "https://git.sr.ht/~ann/tool", "v2")),
        ("https://h:8443/a", ("h:8443/a", "https://h:8443/a", "")),
        ("http://127.0.0.1:9/a/b", ("127.0.0.1:9/a/b", "http://127.0.0.1:9/a/b", "")),
        ("  a/b   # why", ("a/b", "https://github.com/a/b.git", "")),
        ("a/b\r", ("a/b", "https://github.com/a/b.git", "")),
    ],
)
def test_an_entry_is_a_name_or_an_address_with_a_commit_or_tag(
    line: str, expected: tuple[str, str, str]
) -> None:
    assert entries(line) == [expected]


def test_comments_and_blank_lines_count_for_nothing() -> None:
    assert entries("# all of them\n\n   \n\t# none\n") == []


def test_a_repository_that_is_named_again_counts_once() -> None:
    found = parse_list("a/b\nA/B\nhttps://github.com/a/b.git\nhttps://h/x\nhttps://h/X\n", GITHUB)
    assert [each.key for each in found.repositories] == [
        "https://github.com/a/b",
        "https://h/x",
        "https://h/X",  # another server may tell cases apart
    ]
    assert (found.repeated, found.refused) == (2, [])


def test_one_repository_at_two_commits_is_named() -> None:
    found = parse_list("a/b@v1\n\na/b@v2\n", GITHUB)
    assert [each.ref for each in found.repositories] == ["v1"]
    assert found.refused == ["line 3: line 1 names it already, at another commit: a/b@v2"]


@pytest.mark.parametrize(
    "line",
    [
        "requests",
        "a/b/c",
        "../b",
        "a/..",
        "-a/b",
        "a b/c",
        "a/b@",
        "a/b@-x",
        "a/b@x..y",
        "a/b@x y",
        "a/b@refs/heads/x.lock",
        "git@github.com:a/b.git",
        "ssh://git@github.com/a/b",
        "ftp://h/a",
        "file:///etc",
        "http://example.org/a/b",
        "https://",
        "https:///a/b",
        "https://h:port/a",
        "https://[::1/a",
        "https://h",
        "https://h/a?x=1",
        "https://h/a#x",
        "https://h/a/../b",
        "https://github.com/psf/requests/tree/main/src",
        "\\xff\\xfe\x00\x01",
        "x" * 2000,
        "a/\x1b[31mred",
    ],
)
def test_a_line_that_names_no_repository_is_named_and_the_others_stay(line: str) -> None:
    found = parse_list(f"a/first\n{line}\na/last\n", GITHUB)
    assert [each.full_name for each in found.repositories] == ["a/first", "a/last"]
    (refused,) = found.refused
    assert refused.startswith("line 2: ") and len(refused) < 200


@pytest.mark.parametrize(
    "line",
    [
        "https://ann:secret@h/x",
        "https://secret@h/y@v1",
        "https://ann:sec/secret@h/x",
        "https://ann:se@cret/secret@h/x",
        "ssh://ann:secret@h/x",
        "ann:secret@h:x/y",
        "ann:secret@h/x",
        "secret@h:x",
        "ftp://ann:secret@h/x",
        "http://ann:secret@example.org/x",
        "https://ann:secret@",
        "git+https://ann:secret@h/" + "x" * 2000,
    ],
)
def test_a_password_is_refused_and_never_shown(line: str) -> None:
    found = parse_list(f"{line}\n", GITHUB)
    assert found.repositories == [] and len(found.refused) == 1
    assert "secret" not in found.refused[0] and "cret" not in found.refused[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("git@github.com:a/b.git", "only https addresses are taken: write https://github.com/a/b.git"),
        ("git@github.com:a/b.git@v1", "only https addresses are taken: write https://github.com/a/b.git@v1"),
        ("codeberg.org:a/b", "only https addresses are taken: write https://codeberg.org/a/b"),
        ("ssh://git@github.com/a/b", "only https addresses are taken: write https://github.com/a/b"),
        ("ssh://git@h:2222/~ann/b", "only https addresses are taken: write https://h/~ann/b"),
        ("git+ssh://git@h/a/b@v1", "only https addresses are taken: write https://h/a/b@v1"),
        ("git://h/a/b", "only https addresses are taken: write https://h/a/b"),
        ("http://example.org/a/b", "only https addresses are taken: write https://example.org/a/b"),
        ("ssh://ann:pw@h/a/b", "only https addresses are taken: write https://h/a/b"),
        ("ftp://h/a", "only https addresses are taken: ftp://h/a"),
        ("file:///etc", "only https addresses are taken: file:///etc"),
        ("https://ann:pw@h/x", "a user name or password in the address, which is not taken: clone it, then"),
        ("\x7fELF\x02\x01", "it is no text"),
        ("a/\x1b[31mred", "it is no text"),
        ("a\tb", r"neither owner/name nor an https address: a\tb"),
    ],
)
def test_what_is_said_of_a_line_is_true(line: str, reason: str) -> None:
    (refused,) = parse_list(f"{line}\n", GITHUB).refused
    assert printable(refused).startswith(f"line 1: {reason}")
    assert "it is no text" not in refused or refused == "line 1: it is no text"


def test_an_address_that_is_proposed_is_one_that_is_taken() -> None:
    text = "git@github.com:a/b.git\nssh://git@h:22/~ann/c@v1\nhttp://example.org/d\n"
    proposed = "\n".join(
        line.partition(" write ")[2].partition(": ")[0] for line in parse_list(text, GITHUB).refused
    )
    assert entries(proposed) == [
        ("a/b", "https://github.com/a/b.git", ""),
        ("h/~ann/c", "https://h/~ann/c", "v1"),
        ("example.org/d", "https://example.org/d", ""),
    ]


def test_a_list_may_have_a_byte_order_mark_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa/b  # caf\xe9\n\xff\xfe/x\n\x00\x01\x02\nc/d")
    found = parse_list(read_list(path), GITHUB)
    assert [each.full_name for each in found.repositories] == ["a/b", "c/d"]
    assert found.refused == ["line 2: it is no text", "line 3: it is no text"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_list_as_windows_writes_it_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.txt").write_bytes("a/b\r\nc/d  # caf\xe9\r\n".encode(encoding))
    assert [name for name, _, _ in entries(read_list(tmp_path / "list.txt"))] == ["a/b", "c/d"]


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_list_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ListError, match="the list cannot be read"):
        read_list(tmp_path / name)


def test_a_list_is_known_by_what_it_names_not_by_its_comments_or_its_order() -> None:
    one = parse_list("a/b\nc/d@v1\n", GITHUB).request()
    assert parse_list("# x\nc/d@v1\n\na/b\nA/b", GITHUB).request() == one
    assert parse_list("a/b\nc/d@v2\n", GITHUB).request() != one


def test_names_belong_to_the_server_of_the_api() -> None:
    assert web_address("https://api.github.com") == GITHUB
    company = web_address("https://git.example.org/api/v3")
    assert company == "https://git.example.org"
    (found,) = parse_list("a/b", company).repositories
    assert (found.url, found.full_name) == ("https://git.example.org/a/b.git", "a/b")


def test_an_address_to_which_a_server_leads_is_a_repository_or_nothing() -> None:
    moved = listed_at("https://github.com/psf/new/", GITHUB)
    assert moved is not None and moved.full_name == "psf/new"
    assert listed_at("https://github.com/login?return_to=x", GITHUB) is None


def test_closed_standard_input_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python has it after <&-
    with pytest.raises(ListError, match="standard input is closed"):
        read_list(STANDARD_INPUT)
