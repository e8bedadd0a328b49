"""Who may ask, what is served beside completions, and what every answer carries."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from generation.rejection import REFUSED
from project import PROJECT
from server_process import ServerProcess
from serving.access import Access, host_name
from serving.application import PAGE, Service, verdict


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx2.Client]:
    with server.client() as asking:
        yield asking


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8012", "127.0.0.1.evil.example", "", "[::1", "a b"]
)
def test_a_name_that_a_stranger_resolved_to_this_machine_is_refused(client: httpx2.Client, host: str) -> None:
    answer = client.get("/v1/models", headers={"host": host})
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:8012"])
def test_this_machine_is_known_by_its_own_names(client: httpx2.Client, host: str) -> None:
    assert client.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:1", "vscode-webview://x", "http://[::1", "", "http://"],
)
def test_a_page_of_another_site_is_refused(server: ServerProcess, client: httpx2.Client, origin: str) -> None:
    for method, path in (("POST", "/v1/completions"), ("OPTIONS", "/v1/completions"), ("GET", "/about")):
        answer = client.request(method, path, headers={"origin": origin}, content=b'{"prompt": "x"}')
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_its_own_page_may_ask(server: ServerProcess, client: httpx2.Client) -> None:
    headers = {"origin": server.address, "sec-fetch-site": "same-origin"}
    assert client.post("/v1/judge", json={"text": "x"}, headers=headers).status_code == 200


def test_a_foreign_page_may_link_here_but_not_load_anything(client: httpx2.Client) -> None:
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/loss.png", headers=foreign).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/health", headers=link).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nowhere", "/about"])
def test_every_answer_keeps_the_page_to_itself(client: httpx2.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_scores_may_have_their_own_styles_and_run_nothing(
    client: httpx2.Client, server: ServerProcess
) -> None:
    answer = client.get("/scores.html")
    if answer.status_code == 200:
        policy = answer.headers["content-security-policy"]
        assert "sandbox" in policy and "script-src" not in policy and "default-src 'none'" in policy
    else:
        assert answer.status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/page/../application.py", "/page/..%2fapplication.py", "/page/%2e%2e/worker.py", "/page//etc/passwd",
     "/page/__init__.py", "/page/index.html/..", "/page/", "/GPyT/config.json", "/config.json", "/..",
     "/page/x\\y"],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(server: ServerProcess, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ", 2)[1] in (b"404", b"400")
    assert b"import" not in answer and b"root:" not in answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/completions", 405), ("POST", "/nowhere", 404), ("PUT", "/", 405)],
)
def test_a_wrong_address_or_method_is_an_error_in_the_form_of_the_api(
    client: httpx2.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_prompt_of_ten_megabytes_is_too_long(client: httpx2.Client) -> None:
    answer = client.post("/v1/completions", json={"prompt": "x = 1\n" * 1_700_000})
    assert answer.status_code == 413
    long = client.post("/v1/completions", json={"prompt": "x" * 1_100_000})
    assert (long.status_code, long.json()["error"]["param"]) == (413, "prompt")
    assert client.get("/health").status_code == 200


def test_a_body_of_unknown_length_is_cut_off_at_the_same_place(client: httpx2.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 65536

    try:
        answer = client.post("/v1/completions", content=endless())
    except (httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError):
        pass  # it hung up while the rest was still being sent
    else:
        assert answer.status_code == 413
    assert client.get("/health").status_code == 200


def test_the_model_tells_about_itself_and_names_no_path(client: httpx2.Client, server: ServerProcess) -> None:
    about = client.get("/about").json()
    assert about["name"] == "GPyT" and about["context"] == 128 and about["vocabulary"] == 1024
    assert about["infilling"] is True
    assert about["card"].startswith("---") and about["license"]
    assert isinstance(about["bits_per_byte"], float)
    assert (about["has_loss_plot"], client.get("/loss.png").status_code) in ((True, 200), (False, 404))


def test_no_answer_names_a_path_of_this_machine(client: httpx2.Client) -> None:
    answers = [client.get(path) for path in ("/about", "/props", "/v1/models", "/nowhere", "/v1/models/x")]
    answers.append(client.post("/v1/completions", json={"prompt": "x", "n": "y"}))
    for answer in answers:
        assert str(PROJECT) not in answer.text and "/tmp" not in answer.text and "/home" not in answer.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1", (True, False, None, None)),
        ("", (True, False, None, None)),
        ("x = = 1", (False, False, 1, 5)),
        ("f(1,", (False, True, 1, 2)),
        ("if x:\n", (False, True, 1, None)),
        ("def f():\n    return", (True, False, None, None)),
        ("a\n  b\n", (False, False, 2, None)),
    ],
)
def test_a_text_is_judged_with_the_place_of_its_error(
    client: httpx2.Client, text: str, expected: tuple[bool, bool, int | None, int | None]
) -> None:
    found = client.post("/v1/judge", json={"text": text}).json()
    assert (found["valid"], found["unfinished"], found["line"]) == expected[:3]
    assert expected[3] is None or found["column"] == expected[3]
    assert (found["message"] is None) is found["valid"]


def test_what_is_judged_is_not_run(client: httpx2.Client, tmp_path: object) -> None:
    marker = f"{tmp_path}/ran"
    assert client.post("/v1/judge", json={"text": f"open({marker!r}, 'w')"}).json()["valid"] is True
    assert not PROJECT.joinpath(marker).exists()


def test_deep_nesting_is_judged_too() -> None:
    assert verdict("(" * 100_000)["valid"] is False
    assert verdict("x = " + "-" * 200_000 + "1")["valid"] is False


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:1", "a"), ("[::1]:8012", "::1"), ("LOCALHOST", "localhost"), ("", ""), ("[::1", "")],
)
def test_the_host_is_taken_out_of_its_header(host: str, name: str) -> None:
    assert host_name(host) == name


def test_a_text_that_would_be_compiled_for_seconds_is_not_judged(client: httpx2.Client) -> None:
    """The compiler lets nothing else run: for a class of a million characters it may take a minute."""
    answer = client.post("/v1/judge", json={"text": "x = 1\n" * 60_000})
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "text")


def test_a_fault_is_answered_in_the_form_of_the_api(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fail(_: Service, __: Request) -> Response:
        raise ZeroDivisionError("a secret")

    def without_model(service: Service) -> None:
        service.page = {}

    monkeypatch.setattr(Service, "__init__", without_model)
    monkeypatch.setattr(Service, "health", fail)
    service: Any = Service
    application, sent = service().application(Access()), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/health", "headers": [(b"host", b"localhost")]}
    asyncio.run(application(scope, receive, send))
    assert [message.get("status") for message in sent] == [500, None]
    assert json.loads(sent[1]["body"])["error"]["message"] == "internal error"
    assert "ZeroDivisionError: a secret: please report it" in capfd.readouterr().err


def test_the_page_knows_refusals_by_the_judges_own_words() -> None:
    """It says the commonest reason once, above the list, instead of in each line."""
    known = re.search('const BY_GRAMMAR = "(.*)";', (PAGE / "why.js").read_text(encoding="utf-8"))
    assert known and known[1] == REFUSED
