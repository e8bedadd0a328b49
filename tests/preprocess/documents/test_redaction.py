"""Secrets and personal data go, all else stays: tests/cases/redaction/ is the specification."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.named_secrets import KEY
from documents.prepare import Prepared, Rules, prepare_source
from documents.redaction import find_secrets, redact, string_contents
from documents.verification import what_changed
from planted_secrets import secret_kinds, secret_part
from project import PROJECT, STDLIB

CASES = sorted((PROJECT / "tests" / "cases" / "redaction").glob("*.in.py"))
KINDS = secret_kinds()
PLACES = {
    "a string": "import os\n\n\ndef load():\n    return '''{}'''\n",
    "a value": 'CONFIG = {{\n    "token": """{}""",\n}}\n',
    "other text": 'LOG = """started\nkey is {} (from the vault)\n"""\n',
    "behind letters of other scripts": "ключ = '''日本語 {}'''\n",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removesuffix(".in.py"))
def test_case(case: Path) -> None:
    code = case.read_bytes().decode()
    expected = case.with_name(case.name.replace(".in.", ".out.")).read_bytes().decode()
    assert redact(code).text == expected
    assert redact(expected).number == 0
    assert what_changed(code.encode(), code, expected) == ""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_secret_is_gone_and_the_rest_of_the_program_stays(kind: str, place: str) -> None:
    rng = random.Random(f"{kind} {place}")
    for _ in range(5):
        secret = KINDS[kind](rng)
        code = PLACES[place].format(secret)
        redacted = redact(code)
        assert secret_part(kind, secret) not in redacted.text
        assert redacted.number >= 1
        assert redacted.outside is None
        assert what_changed(code.encode(), code, redacted.text) == ""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "private_key"])
def test_a_secret_behind_an_escape_is_seen(kind: str) -> None:
    secret = KINDS[kind](random.Random(kind))
    assert secret_part(kind, secret) not in redact(f"x = 'one\\n{secret}\\ntwo'\n").text


def test_a_private_key_goes_from_each_of_the_strings_it_is_written_in() -> None:
    lines = KINDS["private_key"](random.Random(0)).split("\n")
    code = "KEY = (\n" + "".join(f"    '{line}\\n'\n" for line in lines) + ")\n"
    redacted = redact(code)
    assert not any(line in redacted.text for line in lines[1:-1])
    assert redacted.number == 1
    ast.parse(redacted.text)


def test_a_token_that_is_no_string_drops_the_file() -> None:
    name = "AKIA" + "QRSTUVWXYZ234567"
    source = f"{name} = 'the id of a key became a name'\n".encode()
    finding = prepare_source(source, Rules())
    assert not isinstance(finding, Prepared)
    assert (finding.rule, finding.detail) == ("redaction", "it holds a key outside of strings")


def test_the_number_of_secrets_of_a_file_is_known() -> None:
    prepared = prepare_source(b"owners = ['ann@python.org', 'ben@python.org', 'ann@python.org']\n", Rules())
    assert isinstance(prepared, Prepared)
    assert prepared.redacted == 3
    assert prepared.pieces == ["owners = ['<EMAIL>', '<EMAIL>', '<EMAIL>']\n"]


def test_library_files_hold_no_tokens() -> None:
    files = [file for file in sorted(STDLIB.rglob("*.py")) if "site-packages" not in file.parts][::9]
    alarms = [
        file
        for file in files
        for secret in find_secrets(file.read_bytes().decode("utf-8", "replace"))
        if secret.kind == KEY
    ]
    assert alarms == []


@given(st.text("'\"\\ab\n#f{}", max_size=30))
def test_the_contents_of_strings_are_inside_of_them(text: str) -> None:
    for start, end in string_contents(text):
        assert 0 < start <= end < len(text)
        assert text[start - 1] == text[end] and text[end] in "'\""
