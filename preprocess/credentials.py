"""Secrets and personal data in source: where they are and of which kind. No network is ever asked.

Tokens and private keys are found by kingfisher, with some 490 rules and checks of entropy and checksums; what
it leaves out on purpose, by the small rules here: e-mail addresses, public addresses of the internet,
passwords in URLs, ids of AWS keys that stand alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kingfisher_sdk import Scanner

# As StarCoder names them (Li et al. 2023, section 4).
KEY, PASSWORD, EMAIL, IP_ADDRESS = "KEY", "PASSWORD", "EMAIL", "IP_ADDRESS"

# Kingfisher's rule without regard for what the password is: test suites are full of user:pass@host.
REPLACED_RULES = ("betterleaks.generic-credential-uri",)

# "user:secret@" after "://"; braces, percent and dollar signs are of templates.
URL_PASSWORD = re.compile(r"""://([^\s/:@"'<>{}$%()\\]{0,64}):([^\s/@"'<>{}$%()\\]{1,256})@([\w.-]*)""")
NO_PASSWORDS = frozenset(
    """
    pass passwd password pwd pw psw secret user username name token key test guest root admin postgres
    changeme example foo bar baz mypass mypassword userpass somepassword yourpassword your_password
    my_password p port x-oauth-basic x-token-auth
    """.split()
)
# Unique prefixes of IAM: user keys, temporary keys, bearer tokens, context-specific credentials.
AWS_KEY_ID = re.compile(r"A(?<![A-Za-z0-9]A)(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9])")

# Kingfisher knows a Telegram bot's only beside the word. The colon comes first, for that is fast to look for.
BOT_TOKEN = re.compile(r":AA(?<=[0-9]{8}:AA)[A-Za-z0-9_-]{33}(?![\w-])")

DOMAIN = re.compile(r"@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,18})(?![\w@(=]|-\w|\.\w)")
LOCAL_PART = re.compile(r"\w[\w.+-]{0,63}\Z")
# Beside the countries' two letters; others are too rare among people to bear what they hit in code.
DOMAIN_ENDS = frozenset(
    "com org net edu gov mil int info biz name pro dev app cloud tech email online site xyz".split()
)
NO_COUNTRIES = frozenset(
    ("py", "js", "md", "rs", "sh")
)  # names of files; who lives there loses nothing by it
NOBODY = frozenset(("example", "test", "invalid", "localhost", "localdomain"))  # RFC 2606 and 6761
ACCOUNTS_OF_ALL = frozenset(("git", "hg", "svn", "noreply", "no-reply"))

# What each of them holds, in an expression that begins with a letter of its own: much faster to look for.
IPV4_INSIDE = re.compile(r"\.(?<=[0-9]\.)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
IPV6_INSIDE = re.compile(r":(?<=[23][0-9a-fA-F]{3}:)[0-9a-fA-F]{0,4}:")
IPV4 = re.compile(r"(?<![\w.-])([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?![\w/-]|\.\w)")
# 2000::/3 is all that is given to anybody.
IPV6 = re.compile(r"(?<![\w:.])([23][0-9a-fA-F]{3}(?::[0-9a-fA-F]{0,4}){2,7})(?![\w:/]|\.\w)")
VERSION_BEFORE = re.compile(
    r"(?:version|release|ver\.?|\bv|oid|build)[\W_]{0,8}\Z|(?:[<>=~!]=|[<>~])[ ]?\Z", re.IGNORECASE
)
CONTEXT = 16  # characters before a number that may call it a version


@dataclass(frozen=True, slots=True)
class Secret:
    """Where it stands, in characters, and of which kind it is."""

    start: int
    end: int
    kind: str


def find_secrets(code: str) -> list[Secret]:
    """All that is found, in order, without overlaps: of two that overlap, the kind named first above stays.

    >>> find_secrets("owner = 'ann@python.org'")
    [Secret(start=9, end=23, kind='EMAIL')]
    """
    # An escape such as \\n would hide where something begins; two blanks have the same length.
    if "\\" in code:
        for escape in ("\\n", "\\t", "\\r"):
            code = code.replace(escape, "  ")
    found: list[Secret] = []
    for secret in (*tokens(code), *url_passwords(code), *email_addresses(code), *ip_addresses(code)):
        if all(secret.end <= other.start or secret.start >= other.end for other in found):
            found.append(secret)
    return sorted(found, key=lambda secret: secret.start)


@cache
def scanner() -> Scanner:
    """Kingfisher's rules, compiled; it keeps them in the user's cache, so that the next start takes 0.3 s."""
    from kingfisher_sdk import Rules, Scanner

    return Scanner(Rules(), base64=False)  # what is encoded in a string is no string that a model could learn


def tokens(code: str) -> Iterator[Secret]:
    """Keys and tokens by kingfisher, and ids of AWS keys."""
    for finding in scanner().scan(code):
        if finding.visible and finding.rule_id not in REPLACED_RULES:
            place = finding.location
            yield from in_characters(code, place["start_offset"], place["end_offset"])
    for match in AWS_KEY_ID.finditer(code):
        if "EXAMPLE" not in match[0]:
            yield Secret(match.start(), match.end(), KEY)
    for match in BOT_TOKEN.finditer(code):
        yield Secret(len(code[: match.start()].rstrip("0123456789")), match.end(), KEY)


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
        is_meant = folded not in NO_PASSWORDS and folded != user.casefold() and len(set(folded)) > 2
        if is_meant and not is_nobodys(host):
            yield Secret(match.start(2), match.end(2), PASSWORD)


def email_addresses(code: str) -> Iterator[Secret]:
    for match in DOMAIN.finditer(code):
        domain = match[1].casefold()
        end = domain.rpartition(".")[2]
        if (len(end) > 2 and end not in DOMAIN_ENDS) or end in NO_COUNTRIES or is_nobodys(domain):
            continue
        local = LOCAL_PART.search(code, max(0, match.start() - 64), match.start())
        if not local:
            continue
        start = local.start()
        before = code[max(0, start - 1) : start]
        name = code[start : match.start()].casefold()
        # %s@host.org is a template; user:pass@host.org after :// is a URL's; git@host.org:name is no mailbox.
        in_url = "://" in code[max(0, start - 80) : start].rpartition(" ")[2]
        if name and before not in ("%", "$", "}") and not in_url and name not in ACCOUNTS_OF_ALL:
            yield Secret(start, match.end(1), EMAIL)


def ip_addresses(code: str) -> Iterator[Secret]:
    matches = list(IPV4.finditer(code)) if IPV4_INSIDE.search(code) else []
    if IPV6_INSIDE.search(code):
        matches += IPV6.finditer(code)
    for match in matches:
        numbers = match[1].split(".")
        # 1.2.3.4 is a version or an example; so is what ends in .0, if it is no network.
        if len(numbers) == 4 and (max(map(len, numbers)) == 1 or numbers[-1] == "0"):
            continue
        try:
            address = ipaddress.ip_address(match[1])
        except ValueError:
            continue
        before = code[max(0, match.start() - CONTEXT) : match.start()]
        if address.is_global and not address.is_multicast and not VERSION_BEFORE.search(before):
            yield Secret(match.start(1), match.end(1), IP_ADDRESS)


def is_nobodys(domain: str) -> bool:
    """Whether a domain is set aside for examples and tests."""
    return not NOBODY.isdisjoint(domain.casefold().split("."))
