"""The command: what it checks before it serves, how it ends, and that it survives its clients."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from project import PROJECT, run_script
from serve import is_loopback, shown_host
from server_process import ServerProcess
from tiny_model import save_endless_model, save_tiny_model

SCRIPT = "model/serve.py"
ENDLESS = {"prompt": "x = 1", "valid": False, "max_tokens": 4096, "stream": True}


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_endless_model(tmp_path_factory.mktemp("endless") / "GPyT")


@pytest.fixture(scope="module")
def server(endless: Path) -> Iterator[ServerProcess]:
    with ServerProcess(endless) as running:
        yield running
    assert "Traceback" not in running.errors


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.txt"
    path.write_text("0123456789abcdef0123456789abcdef\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def refusal(*options: str | Path, cwd: Path | None = None) -> str:
    """The one line that a command ends with."""
    result = run_script(SCRIPT, *options, cwd=cwd, timeout=60)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result
    return result.stderr


def test_it_says_where_it_answers(server: ServerProcess) -> None:
    assert server.shown.startswith("GPyT: ")
    assert f"http://127.0.0.1:{server.port}/v1 " in server.shown


def test_without_a_model_it_says_how_to_train_one_and_imports_nothing_heavy(tmp_path: Path) -> None:
    assert refusal(cwd=tmp_path).startswith(f"error: no model folder: {tmp_path}/GPyT: train a model: ")
    command = [sys.executable, "-X", "importtime", str(PROJECT / SCRIPT)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "starlette", "uvicorn", "numpy", "numba", "tokenizers"}


def test_where_a_requirement_is_missing_one_line_says_how_to_install_it(
    endless: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'starlette' else find(name, package)\n",
        encoding="utf-8",
    )
    result = run_script(SCRIPT, "--model", endless, env={"PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: starlette missing: {sys.executable}: pip install -r requirements-serve.txt\n"
    )


def test_a_torn_model_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "GPyT")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "the weights are torn or missing" in refusal("--model", folder, "--port", "0")
    (folder / "config.json").write_text("{", encoding="utf-8")
    assert refusal("--model", folder, "--port", "0").startswith("error: cannot be read")


def test_a_port_that_is_in_use_is_said_at_once(server: ServerProcess, endless: Path) -> None:
    line = refusal("--model", endless, "--port", str(server.port))
    assert line == (
        f"error: the port is in use: 127.0.0.1:{server.port}: name another: --port {server.port + 1}\n"
    )


def test_two_servers_answer_on_two_ports(server: ServerProcess, endless: Path) -> None:
    with ServerProcess(endless) as other, other.client() as client:
        assert client.get("/health").status_code == 200
    assert other.process.returncode == 130


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_others_may_only_ask_with_a_key(endless: Path, host: str) -> None:
    assert "add --api-key-file FILE, or leave out --host" in refusal("--model", endless, "--host", host)


def test_an_address_of_another_machine_is_refused_in_one_line(endless: Path, key_file: Path) -> None:
    line = refusal("--model", endless, "--host", "192.0.2.7", "--port", "0", "--api-key-file", key_file)
    assert line.startswith("error: cannot listen (")


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "the key cannot be read (No such file or directory)"),
        (b"", 0o600, "not one word of 16 characters or more"),
        (b"short\n", 0o600, "not one word of 16 characters or more"),
        (b"two words of a long key\n", 0o600, "not one word of 16 characters or more"),
        (b"0123456789abcdef\n0123456789abcdef\n", 0o600, "not one word of 16 characters or more"),
        (b"\xff" * 20, 0o600, "the key cannot be read (not UTF-8 text)"),
        (b"0123456789abcdef\n", 0o644, "others may read the key"),
        (b"0123456789abcdef\n", 0o640, "others may read the key"),
    ],
)
def test_a_key_that_protects_nothing_is_refused(
    endless: Path, tmp_path: Path, content: bytes | None, mode: int, words: str
) -> None:
    path = tmp_path / "key.txt"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    line = refusal("--model", endless, "--api-key-file", path)
    assert words in line and str(path) in line and "0123456789" not in line


def test_with_a_key_only_who_sends_it_is_answered(endless: Path, key_file: Path) -> None:
    key = key_file.read_text(encoding="utf-8").strip()
    with ServerProcess(endless, "--host", "0.0.0.0", "--api-key-file", key_file) as server:
        for given in (None, "", key, "Bearer", "Bearer x", f"Basic {key}", f"Bearer {key}x", "Bearer \xe9"):
            headers = {} if given is None else {b"authorization": given.encode("latin-1")}
            with httpx2.Client(base_url=server.address) as client:
                answer = client.post("/v1/completions", json={"prompt": "x"}, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key" and key not in answer.text
        with server.client(authorization=f"Bearer {key}", host="this-machine.example") as client:
            assert client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}).status_code == 200
        with server.client() as client:
            assert client.get("/health").status_code == 200
            assert client.get("/about").status_code == 401
    assert server.errors == "\ninterrupted: the server has ended\n"


def test_ctrl_c_ends_it_with_one_line(endless: Path) -> None:
    server = ServerProcess(endless)
    assert server.interrupt() == 130
    assert server.errors == "\ninterrupted: the server has ended\n"


def test_ctrl_c_while_streaming_ends_the_stream_with_an_error(endless: Path) -> None:
    server = ServerProcess(endless)
    with server.client() as client, client.stream("POST", "/v1/completions", json=ENDLESS) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: {")
        began = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        *_, last = [line for line in lines if line]
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "the server is stopping"
    assert server.interrupt() == 130
    assert time.monotonic() - began < 10
    assert server.errors == "\ninterrupted: the server has ended\n"


def test_ctrl_c_does_not_wait_for_a_client_that_reads_nothing(endless: Path) -> None:
    server = ServerProcess(endless)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(http_request(ENDLESS))
        time.sleep(0.5)
        assert server.interrupt() == 130
    assert server.errors == "\ninterrupted: the server has ended\n"


def http_request(question: dict[str, object]) -> bytes:
    body = json.dumps(question).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_vanishes_stops_its_completion(server: ServerProcess, streams: bool) -> None:
    """Sixteen endless completions fill the server; a client that stays is answered when they are gone."""
    connections = []
    for _ in range(16):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(http_request({**ENDLESS, "stream": streams, "n": 2}))
        connections.append(connection)
    time.sleep(0.5)
    for connection in connections:
        connection.close()
    with server.client() as client:
        began = time.monotonic()
        answer = client.post("/v1/completions", json={**ENDLESS, "max_tokens": 8, "stream": False})
        assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 8
        alone = time.monotonic() - began
        began = time.monotonic()
        client.post("/v1/completions", json={**ENDLESS, "max_tokens": 8, "stream": False})
        assert alone < 10 * (time.monotonic() - began) + 2


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET",
        b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\n{",
        b"\0" * 99,
    ],
)
def test_half_a_request_harms_nobody(server: ServerProcess, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(sent)
    with server.client() as client:
        assert client.get("/health").status_code == 200


def test_fifty_clients_are_answered_alike(server: ServerProcess) -> None:
    """Each gets its own sample: what it would get alone."""
    texts: dict[int, str] = {}

    def ask(number: int) -> None:
        question = {"prompt": f"x = {number}", "seed": number, "max_tokens": 12, "valid": False}
        with server.client() as client:
            answer = client.post("/v1/completions", json=question)
            texts[number] = answer.json()["choices"][0]["text"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(texts) == 50
    together = dict(texts)
    for number in range(0, 50, 10):
        ask(number)
        assert texts[number] == together[number]


def test_memory_does_not_grow_with_requests(server: ServerProcess) -> None:
    def ask(count: int) -> None:
        with server.client() as client:
            for number in range(count):
                question = {"prompt": f"x = {number} + ", "max_tokens": 4, "logprobs": 5, "n": 2}
                assert client.post("/v1/completions", json=question).status_code == 200

    ask(60)
    before = server.memory()
    ask(200)
    assert server.memory() - before < 30e6


def test_a_model_that_learnt_to_fill_gaps_reads_what_follows(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "GPyT", n_positions=256)
    record = json.dumps({"options": {"fim_rate": 0.5}})
    (folder / "provenance.json").write_text(record, encoding="utf-8")
    prefix, suffix = "def f(x):\n    y = (x", ")\n    return y\n"
    with ServerProcess(folder) as server, server.client() as client:
        assert client.get("/about").json()["infilling"] is True
        for path, question in (
            ("/infill", {"input_prefix": prefix, "input_suffix": suffix, "n_predict": 12}),
            ("/v1/completions", {"prompt": prefix, "suffix": suffix, "max_tokens": 12}),
        ):
            answer = client.post(path, json={**question, "seed": 1}).json()
            text = answer["content"] if path == "/infill" else answer["choices"][0]["text"]
            compile(prefix + text + suffix, "", "exec")
            assert "note" not in answer
        alone = client.post("/v1/completions", json={"prompt": prefix, "max_tokens": 1}).json()["usage"]
        assert answer["usage"]["prompt_tokens"] > alone["prompt_tokens"] + 5, "prefix, suffix and three marks"
    assert "note:" not in server.errors


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("localhost.evil.example", False), ("", False)],
)  # fmt: skip
def test_loopback_is_known_without_asking_a_name_server(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local


def test_an_address_of_ipv6_is_shown_in_brackets() -> None:
    assert (shown_host("::1"), shown_host("127.0.0.1")) == ("[::1]", "127.0.0.1")


def test_the_environment_of_a_proxy_changes_nothing(endless: Path) -> None:
    env = {"FORWARDED_ALLOW_IPS": "*", "WEB_CONCURRENCY": "4"}
    with ServerProcess(endless, env=env) as server, server.client() as client:
        assert client.get("/health", headers={"x-forwarded-for": "1.2.3.4"}).status_code == 200
