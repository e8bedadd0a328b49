"""Secrets and personal data of known kinds, made up at run time: none of them is stored or was ever in use.

>>> kinds = secret_kinds()
>>> kinds["github_token"](random.Random(0)).startswith("ghp_")
True
"""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from collections.abc import Callable

ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
BASE32 = string.ascii_uppercase + "234567"
URL_SAFE = ALNUM + "-_"
DIGITS, LOWER = string.digits, string.ascii_lowercase


def some(chance: random.Random, alphabet: str, length: int) -> str:
    return "".join(chance.choices(alphabet, k=length))


def github_token(chance: random.Random) -> str:
    """Its last six characters are a checksum, CRC-32 in base 62."""
    body = some(chance, ALNUM, 30)
    number, checksum = zlib.crc32(body.encode()), ""
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    while number:
        number, digit = divmod(number, 62)
        checksum = digits[digit] + checksum
    return f"ghp_{body}{checksum:0>6}"


def jwt(chance: random.Random) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": some(chance, string.digits, 10), "iat": 1516239022}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, some(chance, URL_SAFE, 43)])


def private_key(chance: random.Random) -> str:
    """Written line by line, as in a string of three quotes."""
    body = base64.b64encode(chance.randbytes(1190)).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    label = "RSA PRIVATE KEY"
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


def ipv4(chance: random.Random) -> str:
    return f"{chance.choice([23, 45, 81, 93, 104, 151, 178, 185, 195])}." + ".".join(
        str(chance.randint(10, 254)) for _ in range(3)
    )


def ipv6(chance: random.Random) -> str:
    return f"2a0{chance.choice('1234567')}:" + ":".join(some(chance, HEX, 4) for _ in range(7))


def secret_kinds() -> dict[str, Callable[[random.Random], str]]:
    """From the name of a kind to what makes one of it."""
    return {
        "aws_key_id": lambda chance: "AKIA" + some(chance, BASE32, 16),
        "github_token": github_token,
        "github_fine_grained": lambda chance: (
            f"github_pat_{some(chance, ALNUM, 22)}_{some(chance, ALNUM, 59)}"
        ),
        "gitlab_token": lambda chance: "glpat-" + some(chance, ALNUM, 20),
        "slack_bot": lambda chance: (
            f"xoxb-{some(chance, DIGITS, 12)}-{some(chance, DIGITS, 12)}-{some(chance, ALNUM, 24)}"
        ),
        "slack_webhook": lambda chance: (
            f"https://hooks.slack.com/services/T{some(chance, UPPER, 9)}/B{some(chance, UPPER, 9)}/"
            f"{some(chance, ALNUM, 24)}"
        ),
        "stripe_key": lambda chance: "sk_live_" + some(chance, ALNUM, 24),
        "google_api_key": lambda chance: "AIza" + some(chance, URL_SAFE, 35),
        "openai_key": lambda chance: f"sk-proj-{some(chance, ALNUM, 74)}T3BlbkFJ{some(chance, ALNUM, 74)}",
        "anthropic_key": lambda chance: f"sk-ant-api03-{some(chance, URL_SAFE, 93)}AA",
        "huggingface_token": lambda chance: "hf_" + some(chance, string.ascii_letters, 34),
        "npm_token": lambda chance: "npm_" + some(chance, ALNUM, 36),
        "pypi_token": lambda chance: "pypi-AgEIcHlwaS5vcmc" + some(chance, URL_SAFE, 120),
        "sendgrid_key": lambda chance: f"SG.{some(chance, URL_SAFE, 22)}.{some(chance, URL_SAFE, 43)}",
        "digitalocean_token": lambda chance: "dop_v1_" + some(chance, HEX, 64),
        "shopify_token": lambda chance: "shpat_" + some(chance, HEX, 32),
        "telegram_bot": lambda chance: f"{chance.randint(10**8, 10**10)}:AA{some(chance, URL_SAFE, 33)}",
        "json_web_token": jwt,
        "private_key": private_key,
        "url_password": lambda chance: (
            f"postgresql://service:{some(chance, ALNUM, 14)}@db.{some(chance, LOWER, 6)}.org/app"
        ),
        "email": lambda chance: (
            f"{some(chance, string.ascii_lowercase, 6)}.{some(chance, string.ascii_lowercase, 8)}@"
            f"{some(chance, string.ascii_lowercase, 7)}.{chance.choice(['com', 'org', 'de', 'io', 'co.uk'])}"
        ),
        "ipv4": ipv4,
        "ipv6": ipv6,
    }


def secret_part(kind: str, secret: str) -> str:
    """The part of a planted text that must be gone afterwards, where it is not all of it."""
    if kind == "url_password":
        return secret.split(":")[2].split("@")[0]
    return secret.split("\n")[10] if kind == "private_key" else secret
