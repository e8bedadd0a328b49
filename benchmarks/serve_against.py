"""How soon and how fast model/serve.py answers, beside llama-server and `transformers serve`, in one table.

    python benchmarks/serve_against.py --model GPyT
    python benchmarks/serve_against.py --widen GPyT                     # the same model with 5.3 M parameters
    python benchmarks/serve_against.py --model GPyT --contenders ours --soak 60
    python benchmarks/serve_against.py --model GPyT --contenders ours llama --clients 1 4 --seconds 5

Each contender is a process of its own on a free port and gets the same requests by OpenAI's API, in turn, at
equal threads: ours with the judge and without it; llama.cpp's server (xllamacpp) on what model/export.py
writes in float16; `transformers serve` in float32, which takes part if its packages are there (pip install
"transformers[serving]"). A row for each:

- milliseconds from a request to its answer of one token, medians: cold, a prompt of 2,000 characters that
  nobody has seen, or of as many as fit into the context if others take part, which refuse a longer one; warm,
  the same prompt with one more character, as after a keystroke;
- tokens a second in all, with 1, 4 and 16 clients that ask for --tokens tokens after prompts of 500
  characters;
- megabytes of memory at the end.

--soak: instead, 100 requests of 16 tokens in one second, and then 50 clients for so many seconds: how many
were refused or failed, how long they waited, and how the memory grew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from journey import PROJECT, HelpFormatter
from widening import Shape, save_widened

SMALL = Shape(n_layer=6, n_embd=256, n_positions=512, vocab_size=2048)  # 5.3 M parameters
NAMES = ("ours", "ours, not judged", "llama-server", "transformers serve")
CHARACTERS = 2000  # of the prompt whose first token is waited for
TURNS = 4  # new prompts of each round
ROOM = 40  # tokens of the context that a prompt leaves free
SHORT = 500  # characters of the prompts that clients send
BURST = 100  # requests in a second
BURST_TOKENS = 16
SOAK_CLIENTS = 50
PATIENCE = 600.0  # seconds until a contender has to answer, and for one answer: a machine may be busy


class Server:
    """A contender's process."""

    def __init__(self, name: str, folder: Path, gguf: Path, threads: int) -> None:
        self.name = name
        self.port = free_port()
        model = str(folder)
        if name.startswith("ours"):
            script, options = PROJECT / "model/serve.py", ["--model", model, "--port", str(self.port)]
            command = [sys.executable, str(script), *options]
        elif name == "llama-server":
            options = ["--gguf", str(gguf), "--port", str(self.port), "--threads", str(threads)]
            command = [sys.executable, str(Path(__file__)), *options]
        else:
            program = Path(sys.executable).with_name("transformers")
            command = [str(program), "serve", model, "--port", str(self.port), "--device", "cpu"]
        limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **dict.fromkeys(limits, str(threads))}
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (it is read when the process has ended)
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
        self.model = model
        self.settings: dict[str, Any] = {"model": model, "temperature": 0.8, "top_p": 0.95}
        if name == "ours, not judged":
            self.settings["valid"] = False

    def wait(self) -> str:
        """Wait until it answers -> "", or its last words if it does not."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                self.ask("x = 1", 1)
                return ""
            time.sleep(0.3)
        self.log.seek(0)
        words = self.log.read().decode(errors="replace").strip().splitlines()
        return words[-1] if words else "it does not answer"

    def ask(self, prompt: str, tokens: int) -> dict[str, Any]:
        """The answer to a prompt."""
        body = json.dumps({**self.settings, "prompt": prompt, "max_tokens": tokens}).encode()
        address = f"http://127.0.0.1:{self.port}/v1/completions"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            content: dict[str, Any] = json.load(answer)
        return content

    def memory(self) -> float:
        """Megabytes of the process and its children."""
        process = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1e6

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def run_llama(gguf: Path, port: int, threads: int) -> None:
    """llama.cpp's server until Ctrl-C, with room for 16 clients at once."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_gpu_layers = 0
    parameters.n_parallel = 16
    parameters.n_ctx = 16 * 512
    parameters.port = port
    parameters.cpuparams.n_threads = threads
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def longest_prompt(folder: Path, text: str) -> int:
    """How many characters of a text, CHARACTERS at most, fit into the model's context with room to write."""
    from pretrained.load import read_pretrained

    pretrained = read_pretrained(folder)
    characters = CHARACTERS
    while len(pretrained.vocabulary.encode(text[:characters])) > pretrained.config.block_size - ROOM:
        characters -= 50
    return characters


def new_prompt(text: str, turn: int) -> str:
    """The text, from another line on for each turn and no line as in another turn.

    Another beginning would not do: a server that cuts the beginning of a long prompt would know the rest.
    """
    lines = text.splitlines()
    place = 7 * turn % len(lines)
    return "".join(f"{line}  # {turn}\n" for line in lines[place:] + lines[:place])


def first_tokens(server: Server, text: str, characters: int, number: int) -> tuple[float, float]:
    """Milliseconds to the first token, cold and warm, medians. number: other prompts for each."""
    cold, warm = [], []
    for turn in range(number * TURNS, (number + 1) * TURNS):
        prompt = new_prompt(text, turn)
        cold.append(timed(lambda prompt=prompt[:characters]: server.ask(prompt, 1)))  # type: ignore[misc]
        for more in range(1, 6):
            longer = prompt[: characters + more]
            warm.append(timed(lambda longer=longer: server.ask(longer, 1)))  # type: ignore[misc]
    return statistics.median(cold), statistics.median(warm)


def throughput(server: Server, text: str, clients: int, seconds: float, tokens: int) -> float:
    """Tokens a second of all clients together, each with one request after the other."""
    written, lock = [0], threading.Lock()
    until = time.monotonic() + seconds

    def ask(client: int) -> None:
        turn = 0
        while time.monotonic() < until:
            start = (client * 7919 + turn * 104729) % (len(text) - SHORT)
            start = text.find("\n", start) + 1
            count = server.ask(text[start : start + SHORT], tokens)["usage"]["completion_tokens"]
            turn += 1
            with lock:
                written[0] += count

    began = time.monotonic()
    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return written[0] / (time.monotonic() - began)


def soak(server: Server, text: str, seconds: float) -> None:
    """Print how a burst and a minute of many clients went."""
    waits, failures, lock = [], [], threading.Lock()

    def ask(prompt: str, tokens: int) -> None:
        began = time.perf_counter()
        try:
            server.ask(prompt, tokens)
        except (OSError, ValueError, urllib.error.HTTPError) as error:
            failures.append(str(error))
        with lock:
            waits.append(time.perf_counter() - began)

    threads = []
    for number in range(BURST):
        start = text.find("\n", number * 97 % (len(text) - SHORT)) + 1
        threads.append(threading.Thread(target=ask, args=(text[start : start + SHORT], BURST_TOKENS)))
        threads[-1].start()
        time.sleep(1 / BURST)
    for thread in threads:
        thread.join()
    say(server, f"{BURST} requests of {BURST_TOKENS} tokens in a second", waits, failures)

    waits.clear()
    until = time.monotonic() + seconds
    memory: list[float] = []

    def stay(client: int) -> None:
        turn = 0
        while time.monotonic() < until:
            start = (client * 7919 + turn * 104729) % (len(text) - SHORT)
            ask(text[start : start + SHORT], BURST_TOKENS)
            turn += 1

    threads = [threading.Thread(target=stay, args=(client,)) for client in range(SOAK_CLIENTS)]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        time.sleep(min(seconds / 6, 10))
        memory.append(server.memory())
    for thread in threads:
        thread.join()
    say(server, f"{SOAK_CLIENTS} clients for {seconds:g} s", waits, failures)
    print(f"{server.name}: memory in MB, in turn: {', '.join(f'{value:.0f}' for value in memory)}")


def say(server: Server, what: str, waits: list[float], failures: list[str]) -> None:
    order = sorted(waits)
    median, late = (order[int(len(order) * share)] for share in (0.5, 0.95))
    print(
        f"{server.name}: {what}: {len(waits)} answered, {len(failures)} refused or failed, "
        f"waited {median:.2f} s (median), {late:.2f} s (95 %), {order[-1]:.2f} s (longest)"
    )
    for words in sorted(set(failures))[:3]:
        print(f"  {words}")


@contextlib.contextmanager
def running(names: list[str], folder: Path, scratch: Path, threads: int) -> Iterator[dict[str, Server]]:
    """The contenders that can take part, as processes that answer."""
    gguf = scratch / "gpyt.gguf"
    if "llama-server" in names:
        command = [
            sys.executable,
            str(PROJECT / "model/export.py"),
            "--format",
            "gguf",
            "--model",
            str(folder),
        ]
        done = subprocess.run([*command, "--output", str(gguf)], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"llama-server does not take part: {done.stderr.strip()}")
            names = [name for name in names if name != "llama-server"]
    servers: dict[str, Server] = {}
    try:
        for name in names:
            server = Server(name, folder, gguf, threads)
            servers[name] = server
            if problem := server.wait():
                print(f"{name} does not take part: {problem}")
                server.end()
                del servers[name]
        yield servers
    finally:
        for server in servers.values():
            server.end()


def compare(servers: dict[str, Server], folder: Path, text: str, options: argparse.Namespace) -> None:
    is_alone = all(name.startswith("ours") for name in servers)
    prompts = [new_prompt(text, turn) for turn in range(options.rounds * TURNS)]
    characters = CHARACTERS if is_alone else min(longest_prompt(folder, prompt) for prompt in prompts)
    print(f"prompts of {characters:,} characters for the first token, threads: {options.threads}")
    columns = ["cold ms", "warm ms", *(f"{count} clients" for count in options.clients), "MB"]
    print(f"{'':<22}" + "".join(f"{column:>12}" for column in columns))
    first: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    rates: dict[str, list[list[float]]] = {name: [] for name in servers}
    for number in range(options.rounds):  # in turn, so that another program's load meets all alike
        for name, server in servers.items():
            first[name].append(first_tokens(server, text, characters, number))
            rates[name].append(
                [
                    throughput(server, text, count, options.seconds, options.tokens)
                    for count in options.clients
                ]
            )
    for name, server in servers.items():
        cold, warm = (statistics.median(each) for each in zip(*first[name], strict=True))
        medians = [statistics.median(each) for each in zip(*rates[name], strict=True)]
        figures = [
            f"{cold:.1f}",
            f"{warm:.1f}",
            *(f"{rate:.0f}" for rate in medians),
            f"{server.memory():.0f}",
        ]
        print(f"{name:<22}" + "".join(f"{figure:>12}" for figure in figures))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--model", type=Path, default=Path("GPyT"), help="the model's folder")
    models.add_argument(
        "--widen", type=Path, metavar="FOLDER", help="of this model the same in a shape of 5.3 M parameters"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16], help="clients at once")
    parser.add_argument("--seconds", type=float, default=10, help="of each number of clients")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each contender")
    parser.add_argument(
        "--contenders", nargs="+", metavar="NAME", help="those whose names begin so (default: all)"
    )
    parser.add_argument("--soak", type=float, default=0, metavar="S", help="seconds of many clients; 0 = off")
    parser.add_argument("--gguf", type=Path, help=argparse.SUPPRESS)  # be llama.cpp's server
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.gguf:
        run_llama(options.gguf, options.port, options.threads)
        return 0
    beginnings = tuple(options.contenders or [""])
    text = (Path(json.__file__).parent / "decoder.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model.absolute()
        if options.widen:
            folder = Path(scratch) / "GPyT"
            save_widened(options.widen, folder, SMALL)
        names = [name for name in NAMES if name.startswith(beginnings)]
        with running(names, folder, Path(scratch), options.threads) as servers:
            if options.soak:
                for server in servers.values():
                    soak(server, text, options.soak)
            else:
                compare(servers, folder, text, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
