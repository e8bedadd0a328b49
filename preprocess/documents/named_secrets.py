r"""Find the secrets that only the name beside them gives away: DB_PASSWORD = '...', token='...', ?api_key=...

32 hex digits are a password or a checksum; the name tells which. First the code is searched for parts of such
names, which costs little. Then the words of the whole name decide, then the value: it must look drawn by
chance. A placeholder, a path, a format, a word of the language or another name does not.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from documents.comments import STRING

# As StarCoder names them (Li et al. 2023, section 4); redaction.py knows other kinds.
KEY, PASSWORD = "KEY", "PASSWORD"

NAME_PARTS = ("pass", "pwd", "secret", "token", "key", "auth", "cred")  # in small letters

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
PASSWORD_WORDS = frozenset("password passwords passwd passphrase passcode pwd".split())
PASSWORD_ENDS = ("password", "passwd")
SECRET_WORDS = frozenset("secret secrets token tokens apikey apikeys credential credentials creds".split())
SECRET_ENDS = ("secret", "token", "apikey", "secretkey", "accesskey", "authkey", "privatekey")
KEY_WORDS = frozenset(("key", "keys"))  # only with a word before: api_key
AUTH_WORDS = frozenset(("auth", "authorization"))
# A key with one of these before it is no secret: cache_key.
OTHER_KEYS = frozenset(
    """
    pub primary foreign sort cache dict row partition group index lookup config setting settings object map
    json hot shortcut sub unique natural registry state parent child hotkey pubkey publickey monkey turkey
    """.split()
)
# A name with one of these after the secret's word says something about it: token_type, secret_name.
ABOUT_SECRETS = frozenset(
    """
    type types kind field fields name names file files filename path paths dir folder url urls uri uris
    endpoint header headers prefix suffix regex pattern re format fmt template class cls id ids index idx hash
    hashes hashed hasher digest md sha checksum fingerprint thumbprint len length size count num max min limit
    hint label help text msg message messages error errors err exception policy validator validators input
    prompt placeholder location source provider backend scheme mode method algorithm alg status scope scopes
    expiry expires expiration ttl timeout lifetime date time version var variable param params parameter arg
    args option flag column col attr property schema model form view page icon domain realm issuer audience
    usage description desc title doc docs permission permissions arn required chars alphabet charset
    characters separator
    """.split()
)

# From the part of a name to its value: the rest of the name, the quote of a key, an annotation, a mark.
TO_VALUE = re.compile(
    r"""
    (?P<rest> [\w-]{0,40}+ )
    (?P<quote> \\?["'] (?: [ ]?\] )? )?
    \s*+
    (?: : [ ]* [\w.\[\], |]{1,80}? (?= \s=\s | =["'] ) \s?+ )?
    (?P<mark> =>? (?!=) | :=? (?!:) | is[ ] | (?(quote) , | (?!) ) )
    [ \t]*+
    """,
    re.VERBOSE,
)
# Before a name with a comma behind it: it begins the arguments, or follows a variable. Not a list of names.
BEFORE_PAIR = re.compile(r"""(?:\(|[\w)\]],)\s*\\?["']\Z""")

# A step in an expression: a string with those joined to it, a bracket, an end, something else.
STEP = re.compile(
    rf"""
      (?P<string> (?: {STRING} ) (?: [\s+\\]*+ [rRbBuUfFtT]{{0,2}} (?: {STRING} ) )* )
    | (?P<open> [\[({{] ) | (?P<close> [\])}}] ) | (?P<end> [,\n;] )
    | (?: [^"'\[\](){{}},\n;\\]{{1,200}}+ | \\\n | . )
    """,
    re.DOTALL | re.VERBOSE,
)
ONE_STRING = re.compile(STRING, re.DOTALL | re.VERBOSE)
STRING_NEXT = re.compile(r"""[ ]*["']""")
MOST_STRINGS, MOST_STEPS, MOST_CHARACTERS = 40, 200, 4000  # in an expression
DEEPEST, LAST = 2, 8  # brackets around a string that is judged, and around what is looked at
INNER_NAME = re.compile(r"""([\w-]+)["']?\s*([:=])\s*[rRbBuUfFtT]{0,2}\Z""")
FORMATTED = re.compile(r"""[fFtT][rR]?["']""")
DEFAULTS = frozenset(("default", "fallback", "value"))

PROSE_BITS = 6  # more for letters in a text, "a single pass: ..."
# In a text, up to a field: password: ..., TOKEN=..., ?api_key=...&, Authorization: Bearer ...
SCHEME = re.compile(r"(?:bearer|basic|token|apikey|bot|key)\s+", re.IGNORECASE)
TEXT = re.compile(
    r"""
    (?: \\["'] | `{1,2} )?
    (?P<value>
        (?: (?i:bearer|basic|token) [ ]+ )?
        (?: [^\s"'`<>{\\] | <(?!/) | >(?!\s) | {(?![\w(\[{]) ){8,600}
    )
    """,
    re.VERBOSE,
)
NEXT_PARAMETER = re.compile(r"[&#]")
NEXT_SETTING = re.compile(r"[,;](?=[A-Za-z]{2,}=)")

# Which letters follow a letter in 92 % of the pairs in names and texts of the standard library; which in 1 %.
USUAL = """
bcdgiklmnprstuv aeijloruy aehiklortu adeilorsu abcdefglmnpqrstvwxy aefiloru einrs aeiort abcdefglmnoprstvxz -
e adeilostu abeimops acdefgiknostuv abcdgklmnoprstuw aeiloprty u acdegimnorstuy acehilopstuy acdefhioprstuy
beilmnprst ae aior cpt pst e
""".split()
RARE = """
hjoq ghknqvwxz jnqwxz ghjkqwxz j hjkmqvwxz bcfjkpqvwxyz bcfghjkpqvwxyz hjkquwy abcdfghijklmnpqrtvwxyz
bcfhjkmopqrtuvxz gjqwxz cfghjkqrvwxz jqwxz hjqy bjqxz abcdefghijklmnopqrstvwxyz hjqxz bjxz jqz hjkquvwxyz
bcdfghjklmnpqrstuvwxyz bfgjkmpqtuvyz bdfghjknoqrsuvwz abdfghjkqruvxyz abcdfghjklmnpqrstuvwxyz
""".split()
BITS_OF_LETTERS = {
    first + second: -1.5 if second in usual else 4.0 if second in rare else 1.5
    for first, usual, rare in zip(string.ascii_lowercase, USUAL, RARE, strict=True)
    for second in string.ascii_lowercase
}
SEPARATORS = frozenset("_-./: ")
BYTE = re.compile(r"\\x([0-9a-fA-F]{2})")
BYTES_SHOWN = 0x2800  # a byte escaped in a value becomes the symbol at this code point or up to 255 after it
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
FORMAT_FIELD = re.compile(r"%\(\w+\)[sdr]|%[sdrfx]\b|\{[\w.!:\[\]-]*\}|\$\{\w+\}|<[\w -]+>")
# Sentences, web addresses, AWS's examples, dots and crosses to fill in, regular expressions.
NO_VALUE = re.compile(r"\s|\A<.*>\Z|://|EXAMPLE|\.\.\.|x{5}|X{5}|\*{4}|\[\^?\w-\w|\\[dswbDSWB.]|\(\?")
# In a short value: words of a placeholder, and what is in the weak passwords of examples, p@ssw0rd too.
PLACEHOLDER_WORDS = frozenset(
    "your test tests testing dummy fake change insert wrong none null todo demo default sample token".split()
)
WEAK = "password passwd secret example changeme placeholder replace invalid redacted qwerty letmein".split()
LEET = str.maketrans("0134578@$!", "oleastbasi")
MOST_JUDGED = 120  # characters of a value
LONG = 30  # characters: in a longer value, drawn by chance, such a word appears by chance too


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is, in characters, and of which kind."""

    start: int
    end: int
    kind: str
    by_name: bool = field(default=False, repr=False)  # outside of strings it is an expression, no secret


def named_secrets(code: str, readable: str) -> Iterator[Secret]:
    """The values beside the names of secrets: of variables, keywords, keys, settings in texts.

    readable is the code with blanks in place of escapes, of the same length. Texts are judged wherever they
    lie, so a Secret may be an expression outside of all strings.
    """
    lower = readable.replace("\u0130", "I").lower()  # the one letter that lower() makes two of
    judged: set[int] = set()
    for part in NAME_PARTS:
        position = -1
        while (position := lower.find(part, position + 1)) >= 0:
            to_value = TO_VALUE.match(readable, position + len(part))
            if not to_value or to_value.end() in judged:
                continue
            judged.add(to_value.end())
            start = position
            while start and (readable[start - 1].isalnum() or readable[start - 1] in "_-"):
                start -= 1
            if readable[start - 1 : start] == ":":  # a part of a name: arn:aws:secretsmanager:*:secret:...
                continue
            if to_value["mark"] == "," and not BEFORE_PAIR.search(readable, max(0, start - 40), start):
                continue
            name = readable[start : to_value.end("rest")]
            in_url = readable[start - 1 : start] in ("?", "&")
            bar = bar_of_name("api_key" if in_url and name == "key" else name)
            if bar:
                yield from values(code, readable, to_value, bar, in_url)


@dataclass(frozen=True, slots=True)
class Bar:
    """What a value beside a name must be to count as a secret of this kind."""

    kind: str
    bits: float  # that speak for chance
    length: int


PASSWORD_BAR, SECRET_BAR = Bar(PASSWORD, 0, 8), Bar(KEY, 4, 10)
VAGUE_BAR = Bar(KEY, 6, 16)  # of names that are often something else


@lru_cache(maxsize=4096)
def bar_of_name(name: str) -> Bar | None:
    """What a value of this name must be; None if no value of this name is a secret.

    >>> [bar_of_name(name) and bar_of_name(name).kind for name in ("DB_PASSWORD", "apiKey", "token_type")]
    ['PASSWORD', 'KEY', None]
    """
    words = [word.lower() for word in WORD.findall(name)]
    if "public" in words:
        return None
    for place in reversed(range(len(words))):
        word, before = words[place], words[place - 1] if place else ""
        if not ABOUT_SECRETS.isdisjoint(words[place + 1 :]):
            return None
        if word in PASSWORD_WORDS or word.endswith(PASSWORD_ENDS) or (word == "pass" and word == words[-1]):
            return PASSWORD_BAR
        if word in SECRET_WORDS or word.endswith(SECRET_ENDS):
            return SECRET_BAR
        is_key = before and before not in OTHER_KEYS if word in KEY_WORDS else word.endswith("key")
        if word in AUTH_WORDS or (is_key and word not in OTHER_KEYS):
            return VAGUE_BAR
    return None


def values(code: str, readable: str, to_value: re.Match[str], bar: Bar, in_url: bool) -> Iterator[Secret]:
    """The secrets after a name."""
    in_text = [*value_in_text(readable, to_value.end(), in_url)]
    is_prose = any(value.isalpha() for _, _, value in in_text)
    for start, end, value in (*in_text, *values_in_strings(code, to_value)):
        scheme = SCHEME.match(value)
        skipped = scheme.end() if scheme else 0
        bits = bar.bits + is_prose * PROSE_BITS
        if len(value) - skipped >= bar.length and looks_random(value[skipped:], bits):
            yield Secret(start + skipped, end, bar.kind, by_name=True)


def value_in_text(code: str, position: int, in_url: bool) -> Iterator[tuple[int, int, str]]:
    """Where a value without quotes begins and ends, and the value."""
    if match := TEXT.match(code, position):
        border = NEXT_PARAMETER if in_url else NEXT_SETTING
        value = border.split(match["value"], maxsplit=1)[0].rstrip(".,;:)]}")
        yield match.start("value"), match.start("value") + len(value), value


def values_in_strings(code: str, to_value: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    """Where the contents of the strings in the expression after a name begin and end, and the contents."""
    mark = to_value["mark"]
    if mark.startswith("is") or (to_value["quote"] or "").startswith("\\"):  # a comparison; text in a string
        return
    ends = ";" if mark == "," else ",;\n"
    if to_value["quote"] and mark == ":" and "]" not in to_value["quote"]:  # the key of a dictionary
        ends = ",;"
    begin = position = to_value.end()
    depth = 0
    left = 2 if mark == "," else MOST_STRINGS
    for _ in range(MOST_STEPS):
        step = STEP.match(code, position)
        if not step or not left or position > begin + MOST_CHARACTERS:
            return
        position = step.end()
        if step["string"]:
            if depth <= DEEPEST and is_value(code, begin, step):
                left -= 1
                yield from contents(step)
        elif step["open"]:
            depth += 1
            if depth > LAST:
                return
        elif step["close"]:
            depth -= 1
            if depth < 0:
                return
        elif step["end"] and not depth and step["end"] in ends:
            is_tuple = step["end"] == "," and mark == "=" and STRING_NEXT.match(code, position)
            if not is_tuple:
                return


def is_value(code: str, begin: int, step: re.Match[str]) -> bool:
    """Whether a string in an expression has no name of its own, and no fields."""
    start = step.start()
    if "{" in step["string"] and FORMATTED.search(code, max(begin, start - 2), step.end()):
        return False
    before = code[max(begin, start - 60) : start]
    inner = INNER_NAME.search(before)
    if not inner:
        return True
    last = WORD.findall(inner[1])[-1:]
    return inner[1] in DEFAULTS if inner[2] == "=" else ABOUT_SECRETS.isdisjoint(map(str.lower, last))


def contents(step: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    """The content of a string; of strings that are joined the content of all, then that of each."""
    parts = []
    for match in ONE_STRING.finditer(step["string"]):
        quotes = 3 if match[0][:3] in ('"""', "'''") and len(match[0]) >= 6 else 1
        start, end = step.start() + match.start() + quotes, step.start() + match.end() - quotes
        parts.append((start, end, match[0][quotes:-quotes]))
    if len(parts) > 1:
        yield parts[0][0], parts[-1][1], "".join(part for _, _, part in parts)
    yield from parts


def looks_random(value: str, least_bits: float) -> bool:
    """Whether a value is more likely drawn by chance than written by a person, by so many bits at least.

    Each pair of neighbours counts: letters that words seldom have side by side, digits among letters,
    capitals behind small letters speak for chance. The bits say how much more often random strings have such
    a pair than the names and texts of the standard library.

    >>> looks_random("kT7vQ2xLp9", 4), looks_random("password_reset_form", 4)
    (True, False)
    """
    if UUID.fullmatch(value):
        return not is_regular(value.replace("-", ""))
    shown, escaped = BYTE.subn(lambda byte: chr(BYTES_SHOWN + int(byte[1], 16)), value[:MOST_JUDGED])
    rest, fields = FORMAT_FIELD.subn(" ", shown)
    if sum(map(bits_for_chance, rest, rest[1:])) < least_bits:  # nearly all
        return False
    if NO_VALUE.search(shown) or shown.isdigit() or is_regular(shown):
        return False
    if len(value) < LONG and (fields > 1 or is_placeholder(value)):
        return False
    classes = [sum(map(is_one, shown)) for is_one in (str.islower, str.isupper, str.isdigit)]
    # Operators and regular expressions have fewer letters and digits.
    return sum(classes) + escaped >= (0.3 if all(classes) else 0.5) * len(shown)


def is_placeholder(value: str) -> bool:
    """Whether one of the words of examples is in it.

    >>> is_placeholder("yourToken123"), is_placeholder("P@ssw0rd!2")
    (True, True)
    """
    if not PLACEHOLDER_WORDS.isdisjoint(map(str.lower, WORD.findall(value))):
        return True
    plain = value.lower().translate(LEET)
    return any(word in plain for word in WEAK)


def is_regular(value: str) -> bool:
    """Whether it counts up or repeats itself: 12345678, a1b2c3d4, deadbeefdeadbeef."""
    codes = list(map(ord, value))
    steps = sum(abs(second - first) <= 1 for first, second in pairwise(codes))
    leaps = sum(abs(second - first) <= 1 for first, second in zip(codes, codes[2:], strict=False))
    triples = len(value) - 2
    distinct = len({value[start : start + 3] for start in range(triples)})
    return steps > 0.55 * (triples + 1) or leaps > 0.6 * triples or distinct < 0.7 * triples


@lru_cache(maxsize=16384)
def bits_for_chance(first: str, second: str) -> float:
    """How much more often a random string has these two characters side by side: a logarithm to base 2."""
    if not (first.isascii() and second.isascii()):
        return float(any(BYTES_SHOWN <= ord(one) < BYTES_SHOWN + 256 for one in (first, second)))
    if first.isalpha() and second.isalpha():
        if first.islower() and second.isupper():
            return 2
        bits = BITS_OF_LETTERS[(first + second).lower()]
        return bits if first.islower() == second.islower() else max(0, bits + 1)
    if first.isdigit() and second.isdigit():
        return 0.5
    if first.isalnum() and second.isalnum():
        return 3
    ends_a_word = (first.isalnum() and second in SEPARATORS) or (first in SEPARATORS and second.isalnum())
    return -1 if ends_a_word else 1
