"""Code -> the same with placeholders such as <EMAIL> in place of secrets and personal data.

Only the contents of string literals change; the rest of the program stays as it is. Nothing is sent over a
network. kingfisher finds tokens and private keys, with some 490 rules and checks of entropy and checksums.
Small rules here find what it leaves out on purpose: e-mail addresses, public IP addresses, passwords in URLs,
ids of AWS keys without their key. named_secrets.py finds what only the name beside it gives away.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from documents.comments import UP_TO_STRING, UnlexableError, without_nested_quotes
from documents.named_secrets import KEY, PASSWORD, Secret, looks_random, named_secrets

if TYPE_CHECKING:
    from kingfisher_sdk import Scanner

EMAIL, IP_ADDRESS = "EMAIL", "IP_ADDRESS"

# Kingfisher's rule takes every password: test suites are full of user:pass@host.
REPLACED_RULES = ("betterleaks.generic-credential-uri",)

# "user:secret@" after "://"; braces, percent and dollar signs and brackets are of templates.
URL_PASSWORD = re.compile(r"""://([^\s/:@"'<>{}$%()\[\\]{0,64}):([^\s/@"'<>{}$%()\\]{1,256})@([\w.-]*)""")
PLACEHOLDER_PASSWORDS = frozenset(
    """
    pass passwd password pwd pw psw secret user username name token key test guest root admin postgres
    changeme example foo bar baz mypass mypassword userpass somepassword yourpassword your_password
    my_password p port repo x-oauth-basic x-token-auth
    """.split()
)
# Unique prefixes of IAM: user keys, temporary keys, bearer tokens, context-specific credentials.
AWS_KEY_ID = re.compile(r"A(?<![A-Za-z0-9]A)(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9])")

ESCAPE = re.compile(r"\\[ntr]")

# Kingfisher finds a Telegram bot's token only next to the word, and no Discord bot's. The colon, the dot come
# first: that is fast.
BOT_TOKEN = re.compile(r":AA(?<=[0-9]{8}:AA)[A-Za-z0-9_-]{33}(?![\w-])")
DISCORD_TOKEN = re.compile(r"\.(?<=[\w-]{24}\.)[\w-]{6}\.[\w-]{27,38}(?![\w.-])")

DOMAIN = re.compile(r"@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,18})(?![\w@(=]|-\w|\.\w)")
LOCAL_PART = re.compile(r"\w[\w.+-]{0,63}\Z")
# Besides the two letters of countries. Few addresses have other ends, and in code those hit other things.
DOMAIN_ENDS = frozenset(
    "com org net edu gov mil int info biz name pro dev app cloud tech email online site xyz".split()
)
FILE_SUFFIXES = frozenset(("py", "js", "md", "rs", "sh"))  # countries too, but mostly names of files
RESERVED = frozenset(("example", "test", "invalid", "localhost", "localdomain"))  # RFC 2606 and 6761
SHARED_ACCOUNTS = frozenset(("git", "hg", "svn", "noreply", "no-reply"))

# A part of each address, in an expression that begins with a rare character: much faster to search for.
IPV4_INSIDE = re.compile(r"\.(?<=[0-9]\.)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
IPV6_INSIDE = re.compile(r":(?<=[23][0-9a-fA-F]{3}:)[0-9a-fA-F]{0,4}:")
IPV4 = re.compile(r"(?<![\w.-])([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?![\w/-]|\.\w)")
# 2000::/3 is all that has been assigned.
IPV6 = re.compile(r"(?<![\w:.])([23][0-9a-fA-F]{3}(?::[0-9a-fA-F]{0,4}){2,7})(?![\w:/]|\.\w)")
VERSION_BEFORE = re.compile(
    r"(?:version|release|ver\.?|\bv|oid|build)[\W_]{0,8}\Z|(?:[<>=~!]=|[<>~])[ ]?\Z", re.IGNORECASE
)
CONTEXT = 16  # characters before a number in which it may be called a version


@dataclass(frozen=True, slots=True)
class Redacted:
    """The text to write, how many secrets were replaced in it, and the first one outside of all strings."""

    text: str
    number: int
    outside: Secret | None = None


def redact(code: str) -> Redacted:
    """The code without its secrets. code is Python without comments.

    >>> redact("owner = 'ann@python.org'").text
    "owner = '<EMAIL>'"

    A key outside of all strings, for instance in a name, is left in and returned: the file must not be used.
    A secret that spans several strings, such as a private key written line by line, is replaced in each.
    """
    secrets = find_secrets(code)
    if not secrets:
        return Redacted(code, 0)
    literals = list(string_contents(code))
    ends = [end for _, end in literals]
    parts: list[str] = []
    position = number = 0
    outside = None
    for secret in secrets:
        first, beyond = bisect_right(ends, secret.start), bisect_left(ends, secret.end) + 1
        spans = [(max(start, secret.start), min(end, secret.end)) for start, end in literals[first:beyond]]
        spans = [(start, end) for start, end in spans if start < end]
        if spans:
            number += 1
        elif secret.kind == KEY and not secret.by_name:
            outside = outside or secret
        for start, end in spans:
            parts += [code[position:start], f"<{secret.kind}>"]
            position = end
    return Redacted("".join([*parts, code[position:]]), number, outside)


def string_contents(code: str) -> Iterator[tuple[int, int]]:
    """Where the contents of the string literals begin and end, without the quotes."""
    with suppress(UnlexableError):  # not Python: the file is dropped later
        code = without_nested_quotes(code)  # of the same length
    position = 0
    while match := UP_TO_STRING.match(code, position):
        start, position = match.span("string")
        if start == position:
            return
        quotes = 3 if code[start : start + 3] in ('"""', "'''") and position - start >= 6 else 1
        yield start + quotes, position - quotes


def find_secrets(code: str) -> list[Secret]:
    """All secrets in code, in order. Of two that overlap, the one found by the earlier rule below stays;
    what a name gives away is joined with what another rule found of it.

    >>> find_secrets("owner = 'ann@python.org'")
    [Secret(start=9, end=23, kind='EMAIL')]
    """
    # An escape such as \\n would hide where a secret begins; two blanks have the same length.
    readable = ESCAPE.sub("  ", code) if "\\" in code else code
    rules = keys(readable), url_passwords(readable), email_addresses(readable), ip_addresses(readable)
    found: list[Secret] = []
    for secret in chain(*rules):
        if all(secret.end <= other.start or secret.start >= other.end for other in found):
            found.append(secret)
    joined: list[Secret] = []
    for secret in sorted([*found, *named_secrets(code, readable)], key=lambda secret: secret.start):
        if joined and secret.start < joined[-1].end:
            last = joined.pop()
            kind = last.kind if secret.by_name else secret.kind
            by_name = secret.by_name and last.by_name
            secret = Secret(last.start, max(last.end, secret.end), kind, by_name)
        joined.append(secret)
    return joined


@cache
def scanner() -> Scanner:
    """Kingfisher's rules, compiled. It keeps them in the user's cache: the next start takes 0.3 s."""
    from kingfisher_sdk import Rules, Scanner

    return Scanner(Rules(), base64=False)  # a secret encoded in a string is not learnt by a model


def keys(code: str) -> Iterator[Secret]:
    """Keys and tokens by kingfisher, ids of AWS keys, tokens of bots."""
    for finding in scanner().scan(code):
        if finding.visible and finding.rule_id not in REPLACED_RULES:
            place = finding.location
            yield from in_characters(code, place["start_offset"], place["end_offset"])
    for match in AWS_KEY_ID.finditer(code):
        if "EXAMPLE" not in match[0]:
            yield Secret(match.start(), match.end(), KEY)
    for match in BOT_TOKEN.finditer(code):
        yield Secret(len(code[: match.start()].rstrip("0123456789")), match.end(), KEY)
    if "discord" in code:
        for match in DISCORD_TOKEN.finditer(code):
            if looks_random(code[match.start() - 24 : match.end()], least_bits=60):
                yield Secret(match.start() - 24, match.end(), KEY)


def in_characters(code: str, start: int, end: int) -> Iterator[Secret]:
    """The key between two offsets in the UTF-8 bytes of the code."""
    if not code.isascii():
        source = code.encode()
        start, end = (len(source[:offset].decode("utf-8", "ignore")) for offset in (start, end))
    yield Secret(start, end, KEY)


def url_passwords(code: str) -> Iterator[Secret]:
    for match in URL_PASSWORD.finditer(code):
        user, password, host = match.groups()
        folded = password.casefold()
        is_real = folded not in PLACEHOLDER_PASSWORDS and folded != user.casefold() and len(set(folded)) > 2
        if is_real and not is_reserved(host):
            yield Secret(match.start(2), match.end(2), PASSWORD)


def email_addresses(code: str) -> Iterator[Secret]:
    for match in DOMAIN.finditer(code):
        domain = match[1].casefold()
        end = domain.rpartition(".")[2]
        if (len(end) > 2 and end not in DOMAIN_ENDS) or end in FILE_SUFFIXES or is_reserved(domain):
            continue
        local = LOCAL_PART.search(code, max(0, match.start() - 64), match.start())
        if not local:
            continue
        start = local.start()
        before = code[max(0, start - 1) : start]
        name = code[start : match.start()].casefold()
        # %s@host.org is a template; user:pass@host.org after :// is part of a URL; git@host.org:name is a
        # remote.
        in_url = "://" in code[max(0, start - 80) : start].rpartition(" ")[2]
        if name and before not in ("%", "$", "}") and not in_url and name not in SHARED_ACCOUNTS:
            yield Secret(start, match.end(1), EMAIL)


def ip_addresses(code: str) -> Iterator[Secret]:
    matches = list(IPV4.finditer(code)) if IPV4_INSIDE.search(code) else []
    if IPV6_INSIDE.search(code):
        matches += IPV6.finditer(code)
    for match in matches:
        numbers = match[1].split(".")
        # 1.2.3.4 is a version or an example; what ends in .0 is one too, or a network.
        if len(numbers) == 4 and (max(map(len, numbers)) == 1 or numbers[-1] == "0"):
            continue
        try:
            address = ipaddress.ip_address(match[1])
        except ValueError:
            continue
        before = code[max(0, match.start() - CONTEXT) : match.start()]
        if address.is_global and not address.is_multicast and not VERSION_BEFORE.search(before):
            yield Secret(match.start(1), match.end(1), IP_ADDRESS)


def is_reserved(domain: str) -> bool:
    """Whether a domain is reserved for examples and tests."""
    return not RESERVED.isdisjoint(domain.casefold().split("."))
