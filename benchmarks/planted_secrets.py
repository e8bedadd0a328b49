"""Make up secrets and personal data of known kinds, at run time: none of them is stored or was ever used.

    python benchmarks/planted_secrets.py            secrets that only their name gives away; false alarms
    python benchmarks/planted_secrets.py --seed 7 --planted 100 --files 0

Run as a script it plants values of 30 kinds in 13 positions, says how many are left by stage 3, and lists the
strings of the standard library and the installed packages that it takes for a key or password. A value is
gone when no 12 characters of it in a row are left. With detect-secrets installed (`pip install
detect-secrets`; it is no dependency), the same files go through it: one finding in a file with a planted
value is enough there, and its alarms are counted in one of 20 library files.

>>> kinds = secret_kinds()
>>> kinds["github_token"](random.Random(0)).startswith("ghp_")
True
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import json
import random
import string
import subprocess
import sys
import sysconfig
import tempfile
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "preprocess"))

from documents.comments import UndecodableError, UnlexableError, decode_source, strip_comments
from documents.prepare import compile_error
from documents.redaction import EMAIL, IP_ADDRESS, find_secrets, redact, string_contents

ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
BASE32 = string.ascii_uppercase + "234567"
URL_SAFE = ALNUM + "-_"
DIGITS, LOWER = string.digits, string.ascii_lowercase


def some(rng: random.Random, alphabet: str, length: int) -> str:
    return "".join(rng.choices(alphabet, k=length))


def github_token(rng: random.Random) -> str:
    """Its last six characters are a checksum, CRC-32 in base 62."""
    body = some(rng, ALNUM, 30)
    number, checksum = zlib.crc32(body.encode()), ""
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    while number:
        number, digit = divmod(number, 62)
        checksum = digits[digit] + checksum
    return f"ghp_{body}{checksum:0>6}"


def jwt(rng: random.Random) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": some(rng, string.digits, 10), "iat": 1516239022}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, some(rng, URL_SAFE, 43)])


def private_key(rng: random.Random) -> str:
    """Written line by line, as in a triple-quoted string."""
    body = base64.b64encode(rng.randbytes(1190)).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    label = "RSA PRIVATE KEY"
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


def ipv4(rng: random.Random) -> str:
    return f"{rng.choice([23, 45, 81, 93, 104, 151, 178, 185, 195])}." + ".".join(
        str(rng.randint(10, 254)) for _ in range(3)
    )


def ipv6(rng: random.Random) -> str:
    return f"2a0{rng.choice('1234567')}:" + ":".join(some(rng, HEX, 4) for _ in range(7))


def secret_kinds() -> dict[str, Callable[[random.Random], str]]:
    """The name of each kind -> a function that makes one."""
    return {
        "aws_key_id": lambda rng: "AKIA" + some(rng, BASE32, 16),
        "github_token": github_token,
        "github_fine_grained": lambda rng: f"github_pat_{some(rng, ALNUM, 22)}_{some(rng, ALNUM, 59)}",
        "gitlab_token": lambda rng: "glpat-" + some(rng, ALNUM, 20),
        "slack_bot": lambda rng: (
            f"xoxb-{some(rng, DIGITS, 12)}-{some(rng, DIGITS, 12)}-{some(rng, ALNUM, 24)}"
        ),
        "slack_webhook": lambda rng: (
            f"https://hooks.slack.com/services/T{some(rng, UPPER, 9)}/B{some(rng, UPPER, 9)}/"
            f"{some(rng, ALNUM, 24)}"
        ),
        "stripe_key": lambda rng: "sk_live_" + some(rng, ALNUM, 24),
        "google_api_key": lambda rng: "AIza" + some(rng, URL_SAFE, 35),
        "openai_key": lambda rng: f"sk-proj-{some(rng, ALNUM, 74)}T3BlbkFJ{some(rng, ALNUM, 74)}",
        "anthropic_key": lambda rng: f"sk-ant-api03-{some(rng, URL_SAFE, 93)}AA",
        "huggingface_token": lambda rng: "hf_" + some(rng, string.ascii_letters, 34),
        "npm_token": lambda rng: "npm_" + some(rng, ALNUM, 36),
        "pypi_token": lambda rng: "pypi-AgEIcHlwaS5vcmc" + some(rng, URL_SAFE, 120),
        "sendgrid_key": lambda rng: f"SG.{some(rng, URL_SAFE, 22)}.{some(rng, URL_SAFE, 43)}",
        "digitalocean_token": lambda rng: "dop_v1_" + some(rng, HEX, 64),
        "shopify_token": lambda rng: "shpat_" + some(rng, HEX, 32),
        "telegram_bot": lambda rng: f"{rng.randint(10**8, 10**10)}:AA{some(rng, URL_SAFE, 33)}",
        "json_web_token": jwt,
        "private_key": private_key,
        "url_password": lambda rng: (
            f"postgresql://service:{some(rng, ALNUM, 14)}@db.{some(rng, LOWER, 6)}.org/app"
        ),
        "email": lambda rng: (
            f"{some(rng, string.ascii_lowercase, 6)}.{some(rng, string.ascii_lowercase, 8)}@"
            f"{some(rng, string.ascii_lowercase, 7)}.{rng.choice(['com', 'org', 'de', 'io', 'co.uk'])}"
        ),
        "ipv4": ipv4,
        "ipv6": ipv6,
    }


def secret_part(kind: str, secret: str) -> str:
    """The part of a planted text that must be gone afterwards; for most kinds all of it."""
    if kind == "url_password":
        return secret.split(":")[2].split("@")[0]
    return secret.split("\n")[10] if kind == "private_key" else secret


@dataclass(frozen=True)
class NamedKind:
    """Values without a shape of their own, and the names that people give them."""

    names: tuple[str, ...]
    make: Callable[[random.Random], str]


PRINTED = "!#$%&*+-=?@^_~"  # what generators of passwords add to letters and digits


def token_of(rng: random.Random, length: int) -> str:
    """As secrets.token_urlsafe: length bytes."""
    return base64.urlsafe_b64encode(rng.randbytes(length)).decode().rstrip("=")


def named_kinds() -> dict[str, NamedKind]:
    """The name of each kind -> names of variables and a function that makes a value."""

    def kind(names: str, make: Callable[[random.Random], str]) -> NamedKind:
        return NamedKind(tuple(names.split()), make)

    def of(alphabet: str, length: int, before: str = "") -> Callable[[random.Random], str]:
        return lambda rng: before + some(rng, alphabet, length)

    def base64_of(length: int) -> Callable[[random.Random], str]:
        return lambda rng: base64.b64encode(rng.randbytes(length)).decode()

    hex_upper = HEX.upper()
    return {
        "aws_secret": kind("aws_secret_access_key AWS_SECRET_KEY secretAccessKey", of(ALNUM + "/+", 40)),
        "huggingface": kind("HF_TOKEN HUGGINGFACE_HUB_TOKEN hf_token", of(ALNUM, 34, "hf_")),
        "twilio_auth": kind("TWILIO_AUTH_TOKEN auth_token twilio_token", of(HEX, 32)),
        "openai_project": kind("OPENAI_API_KEY openai_key api_key", of(URL_SAFE, 74, "sk-proj-")),
        "password_14": kind("DB_PASSWORD password EMAIL_HOST_PASSWORD", of(ALNUM + "!#%", 14)),
        "password_12": kind("REDIS_PASSWORD db_pass MYSQL_PWD", of(ALNUM + PRINTED, 12)),
        "django_key": kind("SECRET_KEY DJANGO_SECRET_KEY", of(LOWER + DIGITS + "!@#$%^&*(-_=+)", 50)),
        "django_insecure": kind(
            "SECRET_KEY secret_key", of(LOWER + DIGITS + "!@#$%^&*(-_=+)", 50, "django-" + "insecure-")
        ),
        "fernet": kind(
            "FERNET_KEY ENCRYPTION_KEY fernet_key",
            lambda rng: base64.urlsafe_b64encode(rng.randbytes(32)).decode(),
        ),
        "flask_hex": kind("APP_SECRET session_secret SECRET_KEY", of(HEX, 48)),
        "discord_bot": kind(
            "DISCORD_TOKEN BOT_TOKEN bot_token",
            lambda rng: f"M{some(rng, ALNUM, 23)}.{some(rng, URL_SAFE, 6)}.{some(rng, URL_SAFE, 38)}",
        ),
        "mailgun": kind("MAILGUN_API_KEY mailgun_key", of(HEX, 32, "key-")),
        "gmail_app": kind("SMTP_PASSWORD GMAIL_APP_PASSWORD mail_password", of(LOWER, 16)),
        "mailchimp": kind(
            "MAILCHIMP_API_KEY mailchimp_apikey", lambda rng: f"{some(rng, HEX, 32)}-us{rng.randint(1, 21)}"
        ),
        "uuid_key": kind(
            "API_KEY HEROKU_API_KEY client_secret",
            lambda rng: str(uuid.UUID(bytes=rng.randbytes(16), version=4)),
        ),
        "azure_account": kind("AZURE_STORAGE_KEY account_key AccountKey", base64_of(64)),
        "slack_signing": kind("SLACK_SIGNING_SECRET signing_secret", of(HEX, 32)),
        "cloudflare": kind("CLOUDFLARE_API_TOKEN cf_token", of(URL_SAFE, 40)),
        "twitter": kind("TWITTER_CONSUMER_SECRET access_token_secret consumerSecret", of(ALNUM, 50)),
        "reddit": kind("REDDIT_CLIENT_SECRET clientSecret", of(URL_SAFE, 27)),
        "datadog": kind("DD_APP_KEY DATADOG_APP_KEY dd_api_key", of(HEX, 40)),
        "twitch": kind("TWITCH_CLIENT_SECRET oauth_token", of(LOWER + DIGITS, 30)),
        "jwt_secret": kind("JWT_SECRET JWT_SECRET_KEY jwtSecret", base64_of(32)),
        "totp": kind("TOTP_SECRET otp_secret MFA_SECRET", of(BASE32, 32)),
        "okta": kind("OKTA_API_TOKEN okta_token", of(URL_SAFE, 40, "00")),
        "ethereum": kind("PRIVATE_KEY ETH_PRIVATE_KEY privateKey", of(HEX, 64, "0x")),
        "urlsafe": kind("INTERNAL_API_TOKEN service_token authToken", lambda rng: token_of(rng, 32)),
        "licence": kind(
            "LICENSE_KEY product_key license_key",
            lambda rng: "-".join(some(rng, UPPER, 5) for _ in range(5)),
        ),
        "algolia": kind("ALGOLIA_ADMIN_KEY algolia_api_key", of(HEX, 32)),
        "upper_hex": kind("WEBHOOK_SECRET MASTER_KEY master_key", of(hex_upper, 32)),
    }


# name and the value as a literal (or bare) -> a statement.
POSITIONS: dict[str, Callable[[str, str], str]] = {
    "assignment": lambda name, value: f"{name} = {value!r}\n",
    "keyword": lambda name, value: f"client = make_client('eu', {name.lower()}={value!r}, retries=3)\n",
    "dictionary": lambda name, value: f"SETTINGS = {{\n    'debug': False,\n    {name!r}: {value!r},\n}}\n",
    "environment": lambda name, value: f"import os\nsetting = os.environ.get({name!r}, {value!r})\n",
    "docstring": lambda name, value: f'def load():\n    """Load it.\n\n    {name}: {value}\n    """\n',
    "shell in text": lambda name, value: f'USAGE = """\nexport {name.upper()}={value}\npython app.py\n"""\n',
    "url query": lambda name, value: (
        f"URL = 'https://api.python.org/v1/items?limit=5&{name.lower()}={quote(value, safe='')}&page=2'\n"
    ),
    "getenv behind a name": lambda name, value: f"import os\n{name} = os.getenv('SETTING') or {value!r}\n",
    "attribute": lambda name, value: (
        f"class A:\n    def __init__(self):\n        self.{name.lower()} = {value!r}\n"
    ),
    "annotated": lambda name, value: f"class Settings:\n    {name}: str | None = {value!r}\n",
    "parameter": lambda name, value: (
        f"def connect(host, {name.lower()}: str = {value!r}, port=1):\n    pass\n"
    ),
    "subscript": lambda name, value: f"config = {{}}\nconfig['{name}'] = b{value!r}\n",
    "joined": lambda name, value: f"{name} = (\n    f{value[:9]!r}\n    {value[9:]!r}\n)\n",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--planted", type=int, default=20, help="values of each kind in each position")
    parser.add_argument("--seed", type=int, default=0, help="of the values")
    parser.add_argument("--files", type=int, default=0, help="library files in which to look; 0 = all")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    planted = planted_values(options.planted, random.Random(options.seed))
    left = [value for value in planted if value.is_left(redact(value.code).text)]
    print(f"{len(planted):,} values: {len(named_kinds())} kinds, {len(POSITIONS)} positions")
    print_shares("kind", planted, left)
    print_shares("position", planted, left)
    print(f"stage 3: {1 - len(left) / len(planted):.2%} gone, {len(left)} left")
    for value in left[:20]:
        print(f"  left: {value.kind}, {value.position}: {value.name} {value.value}")
    texts = library_texts(options.files)
    alarms = [alarm for path, text in texts for alarm in alarms_in(path, text)]
    rate = 1000 * len(alarms) / len(texts)
    print(f"stage 3: {len(alarms)} false alarms in {len(texts):,} library files, {rate:.2f} in 1,000")
    print("".join(f"  {alarm}\n" for alarm in alarms), end="")
    if importlib.util.find_spec("detect_secrets"):
        measure_detect_secrets(planted, texts[::20])
    return 0


@dataclass(frozen=True)
class Planted:
    """A value in the only statement of a program."""

    kind: str
    position: str
    name: str
    value: str
    code: str

    def is_left(self, written: str) -> bool:
        """Whether 12 characters in a row of the value are in the text, or all of a shorter one."""
        written = written.replace("'\n    '", "")
        secret = self.value.removeprefix("django-insecure-")  # which is no secret
        return any(
            spelt[start : start + 12] in written
            for spelt in (secret, quote(secret, safe=""))
            for start in range(max(1, len(spelt) - 11))
        )


def planted_values(number: int, rng: random.Random) -> list[Planted]:
    planted = []
    for kind, named in named_kinds().items():
        for position, statement in POSITIONS.items():
            for _ in range(number):
                name, value = rng.choice(named.names), named.make(rng)
                planted.append(Planted(kind, position, name, value, statement(name, value)))
                assert not compile_error(planted[-1].code), planted[-1].code
    return planted


def print_shares(what: str, planted: list[Planted], left: list[Planted]) -> None:
    total = Counter(getattr(value, what) for value in planted)
    remaining = Counter(getattr(value, what) for value in left)
    print("".join(f"  {name:<24}{1 - remaining[name] / total[name]:8.1%}\n" for name in total), end="")


def library_texts(most: int) -> list[tuple[str, str]]:
    """Path and stripped code of the standard library's and the installed packages' files, in random order."""
    folders = {Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))}
    files = sorted({file for folder in folders for file in folder.rglob("*.py") if file.is_file()})
    random.Random(0).shuffle(files)
    texts: list[tuple[str, str]] = []
    for file in files[: most or None]:
        try:
            texts.append((str(file), strip_comments(decode_source(file.read_bytes()))))
        except (UndecodableError, UnlexableError):
            continue
    return texts


def alarms_in(path: str, text: str) -> list[str]:
    """The places in a file of a library that stage 3 would take for a key or password."""
    secrets = [secret for secret in find_secrets(text) if secret.kind not in (EMAIL, IP_ADDRESS)]
    strings = list(string_contents(text)) if secrets else []
    return [
        f"{path}:{text.count(chr(10), 0, secret.start) + 1} {secret.kind}:"
        f" {text[max(0, secret.start - 40) : secret.end]!r}"
        for secret in secrets
        if any(start < secret.end and secret.start < end for start, end in strings)
    ]


def measure_detect_secrets(planted: list[Planted], texts: list[tuple[str, str]]) -> None:
    """detect-secrets with all its rules on the same files; it needs no network for that."""
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name)
        for number, value in enumerate(planted):
            (folder / f"planted{number}.py").write_text(value.code, encoding="utf-8")
        for number, (_, text) in enumerate(texts):
            (folder / f"library{number}.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "detect_secrets", "scan", "--all-files", "--no-verify", "."]
        scan = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    results = json.loads(scan.stdout)["results"]
    found = sum(f"planted{number}.py" in results for number in range(len(planted)))
    alarms = sum(len(places) for file, places in results.items() if file.startswith("library"))
    print(
        f"detect-secrets: {found / len(planted):.2%} found; {alarms} alarms in {len(texts):,} library files,"
        f" {1000 * alarms / len(texts):.2f} in 1,000"
    )


if __name__ == "__main__":
    raise SystemExit(main())
