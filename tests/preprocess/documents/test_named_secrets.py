"""A value is a secret by its name and its looks: tests/cases/redaction/named and unnamed show both sides."""

from __future__ import annotations

import ast
import random
import sys
import time

import pytest

from documents.named_secrets import KEY, PASSWORD, bar_of_name, looks_random
from documents.prepare import Prepared, Rules, prepare_source
from documents.redaction import find_secrets, redact
from documents.verification import what_changed
from planted_secrets import POSITIONS, alarms_in, library_texts, named_kinds, planted_values

VALUE = "kT7vQ2xLp9zW4mRb"


def test_of_30_kinds_in_13_positions_99_percent_are_gone_and_every_program_stays_the_same() -> None:
    planted = planted_values(3, random.Random(0))
    assert len(named_kinds()) == 30
    assert len(POSITIONS) == 13
    written = {value: redact(value.code) for value in planted}
    assert sum(value.is_left(written[value].text) for value in planted) <= 0.01 * len(planted)
    for value, redacted in written.items():
        assert redacted.outside is None
        assert what_changed(value.code.encode(), value.code, redacted.text) == ""


def test_at_most_one_of_1000_library_files_has_a_value_that_looks_like_a_secret() -> None:
    texts = library_texts(2000)
    alarms = [alarm for path, text in texts for alarm in alarms_in(path, text)]
    assert len(alarms) <= len(texts) / 1000, alarms


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (name, PASSWORD)
            for name in "DB_PASSWORD userPassword pgpassword db_pass MYSQL_PWD passwd_2".split()
        ),
        *(
            (name, KEY)
            for name in "SECRET_KEY apiKey accessToken token auth X-Api-Key AccountKey creds".split()
        ),
        *(
            (name, "")
            for name in "token_type passwordField secret_name key_file tokens_count auth_backend".split()
        ),
        *(
            (name, "")
            for name in "public_key publicKeyToken cache_key key author monkey compass tokenizer".split()
        ),
    ],
)
def test_the_words_of_a_name_say_whether_it_holds_a_secret(name: str, kind: str) -> None:
    bar = bar_of_name(name)
    assert (bar.kind if bar else "") == kind


@pytest.mark.parametrize(
    "value",
    "kT7vQ2xLp9 9f86d081884c7d65 6512bd43-d9ca-46e0-acd1-9f2c0b6f3e5a wxqthzrotbzhnvka HE8d!kQ2m%Zx41"
    r" \xec\x94k\xf1\x07Q\xb2\x8cz\x03\xd7\x9eV\xaa".split(),
)
def test_what_was_drawn_by_chance_looks_so(value: str) -> None:
    assert looks_random(value, 6)


@pytest.mark.parametrize(
    "value",
    "your-password-here P@ssw0rd! myTestToken1 12345678 a1b2c3d4e5f6 deadbeefdeadbeef xxxxxxxxxxxx"
    " %(user)s:%(key)s {user}:{token} <your-token> /etc/ssl/private/server.key https://python.org/a8Kx9"
    " 1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d"
    " X-Api-Key get_user_name django.contrib.auth"
    r" [A-Za-z0-9_]{8,} \d+[A-Z]\w* AKIAIOSFODNN7EXAMPLE <|endoftext|>".split(),
)
def test_what_a_person_wrote_does_not(value: str) -> None:
    assert not looks_random(value, 0)


@pytest.mark.parametrize(
    "code",
    [
        f"if token == '{VALUE}': pass\n",
        f"names = ['password', '{VALUE}']\n",
        f"token = Token(sha256='{VALUE}')\n",
        f"token = f'{{user}}-{VALUE}'\n",
        f"token = fr'{VALUE}{{user}}', 'x' f'{VALUE}{{user}}'\n",
        f"url = f'{{base}}?token={{b64({VALUE})}}&key={{{VALUE} if x else y}}'\n",
        f"derive(b'password', b'{VALUE}')\n",
        f"if token:\n    name = '{VALUE}'\n",
        f"value = '{VALUE}'\n",
    ],
)
def test_a_value_without_the_name_of_a_secret_stays(code: str) -> None:
    assert redact(code).text == code


@pytest.mark.parametrize(
    "code",
    [
        f"token = rb'{VALUE}'\n",
        f"token = x if x else '{VALUE}'\n",
        f"token = SecretStr('{VALUE}')\n",
        f"TOKENS = {{'ann': '{VALUE}'}}\n",
        f"value = getattr(settings, 'API_TOKEN', '{VALUE}')\n",
        f"value = config('API_TOKEN', default='{VALUE}')\n",
        f"monkeypatch.setenv('API_TOKEN', '{VALUE}')\n",
        f"token = '{VALUE}'\n'''What it is for.'''\n",
        f"{{'Authorization': 'token {VALUE}'}}\n",
        f"x = '--token={VALUE}', 'one\\ntoken: {VALUE}\\ntwo'\n",
        f"x = 'İstanbul', dict(token='{VALUE}')\n",
    ],
)
def test_a_value_with_the_name_of_a_secret_goes(code: str) -> None:
    redacted = redact(code)
    assert VALUE not in redacted.text
    assert redacted.number == 1 + ("--token" in code)
    ast.parse(redacted.text)


def test_strings_that_are_joined_are_judged_as_one() -> None:
    code = "token = ('kT7vQ2'\n    b'xLp9zW' +\n    '4mRb')\n".replace("b'", "'")
    assert redact(code).text == "token = ('<KEY>'\n    '<KEY>' +\n    '<KEY>')\n"


def test_the_token_of_a_discord_bot_needs_no_name() -> None:
    token = ".".join(("MTk4NjIyNDgzNDcxOTI1MjQ4", "Cl2FMQ", "Zn7Qk4vT9xLw2mRb8cYh3pDs6gJ"))
    code = f"import discord\ndiscord.Client().run('{token}')\n"
    assert redact(code).text == "import discord\ndiscord.Client().run('<KEY>')\n"


def test_only_the_secret_of_a_header_goes() -> None:
    assert redact(f"auth = 'Bearer {VALUE}'\n").text == "auth = 'Bearer <KEY>'\n"


def test_an_expression_that_looks_random_does_not_drop_the_file() -> None:
    prepared = prepare_source(b"def f(x):\n    return call(token=kT7vQ2xLp9zW4mRb, password=x)\n", Rules())
    assert isinstance(prepared, Prepared)
    assert prepared.redacted == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="quotes nest in f-strings from Python 3.12 on")
def test_a_secret_behind_an_fstring_with_its_own_quotes_goes() -> None:
    code = f"x = f'{{d['a']}}'\ntoken = '{VALUE}'\n"
    assert redact(code).text == "x = f'{d['a']}'\ntoken = '<KEY>'\n"


@pytest.mark.parametrize("part", ["token=(", "token=['',", "token: ", "'token',('", "password=a1B2"])
def test_the_search_takes_time_in_proportion_to_the_text(part: str) -> None:
    def seconds(repeated: int) -> float:
        start = time.process_time()
        find_secrets(part * repeated)
        return time.process_time() - start

    find_secrets(part)  # the rules are compiled
    assert seconds(8000) < 16 * seconds(1000) + 0.1
