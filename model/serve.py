"""Reads GPyT/ and answers editors and other programs over HTTP, and people with a page.

    python model/serve.py                     # http://127.0.0.1:8012: a page, and completions for editors
    python model/serve.py --model ours/GPyT --port 9000
    python model/serve.py --host 0.0.0.0 --api-key-file key.txt

    GPyT: 1,802,496 parameters, a context of 512 tokens
    http://127.0.0.1:8012/               the page
    http://127.0.0.1:8012/v1             for programs that speak OpenAI's API (completions)
    http://127.0.0.1:8012/infill         for editors with llama.vim or llama.vscode
    Ctrl-C ends it.

What it writes compiles where the prompt is Python, together with what follows the cursor; "valid": false in a
request turns that off. What the model has read is kept, so the next keystroke costs its own tokens alone.
Nothing that is sent or generated is ever run. The addresses and fields are in docs/serving.md.

It listens on this machine alone and answers no page of another site. Another --host needs --api-key-file, a
file with one line that requests then carry: Authorization: Bearer KEY.

Editors that speak the language server protocol 3.18 start it themselves, and it listens nowhere:

    python model/serve.py --lsp

It needs `pip install -r requirements-serve.txt`.
"""

from __future__ import annotations

from model_cli import DONE, UserError, loading, run_script, script_parser, show, warn

# isort: split
import argparse
import ipaddress
import os
import socket
import stat
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.decoding import Decoding, number_between

if TYPE_CHECKING:
    from pretrained.load import Pretrained
    from serving.worker import Worker

HOST, PORT = "127.0.0.1", 8012  # where llama.vim looks
SHORTEST_KEY = 16  # characters: 64 bits and more if they are random
BACKLOG = 512  # connections that wait to be accepted
SHUTDOWN_SECONDS = 5  # after Ctrl-C; streams end at their next token, so this is for clients that do not read
NEEDED = ("starlette", "uvicorn")
NEEDED_BY_EDITORS = ("pygls",)
FIRST = Decoding(max_new_tokens=8, seed=0, scores=True)  # a completion that nobody sees
INSTALL = "pip install -r requirements-serve.txt"


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--model", type=Path, default=Path("GPyT"), metavar="FOLDER", help="the model's folder"
    )
    parser.add_argument(
        "--host", default=HOST, help="the address to listen on; another than this needs --api-key-file"
    )
    parser.add_argument(
        "--port", type=number_between(int, 0, 65535), default=PORT, metavar="N", help="0 = any that is free"
    )
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="PATH",
        help="answer only who sends the key in this file, which nobody else may read (default: no key)",
    )
    parser.add_argument(
        "--lsp",
        action="store_true",
        help="be a language server for the editor that starts this: standard input and output, no address",
    )
    parser.add_argument(
        "--cache-mb",
        type=number_between(int, 0, 1 << 20),
        default=256,
        metavar="N",
        help="megabytes for what the model has read, to be used again; 0 = off",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where the model runs; auto: an NVIDIA GPU for models of 30 M parameters or more, else the CPU",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    return run_script(
        lambda: serve(arguments),
        interrupted="the server has ended",
        place=arguments.model,
        remedy="look at the model's folder, or name another: --model FOLDER",
    )


def serve(arguments: argparse.Namespace) -> int:
    """Check all that can be checked, load the model, and answer until Ctrl-C."""
    if not arguments.model.is_dir():
        raise UserError(
            f"no model folder: {arguments.model.absolute()}: train a model: python model/train.py, "
            "or name one: --model FOLDER"
        )
    addresses = arguments.api_key_file, arguments.host, arguments.port
    if arguments.lsp and addresses != (None, HOST, PORT):
        raise UserError("--lsp listens on no address: --host, --port or --api-key-file: leave it out")
    needed = NEEDED_BY_EDITORS if arguments.lsp else NEEDED
    if missing := [name for name in needed if find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} missing: {sys.executable}: {INSTALL}")
    if arguments.lsp:
        return serve_editor(arguments)
    is_local = is_loopback(arguments.host)
    if not is_local and arguments.api_key_file is None:
        raise UserError(
            f"others could use this address without a key: --host {arguments.host}: "
            "add --api-key-file FILE, or leave out --host"
        )
    key = read_key(arguments.api_key_file) if arguments.api_key_file else None
    listener = listen(arguments.host, arguments.port)
    with loading():
        from pretrained.load import read_pretrained

        pretrained = read_pretrained(arguments.model)
        worker = load_worker(pretrained, arguments.device, arguments.cache_mb)
    from serving.access import LOOPBACK, Access
    from serving.application import Service

    hosts = (*LOOPBACK, arguments.host) if is_local else None
    application = Service(pretrained, worker).application(Access(key, hosts))
    address = f"http://{shown_host(arguments.host)}:{listener.getsockname()[1]}"
    config = pretrained.config
    show(
        f"{pretrained.folder.name}: {config.parameters:,} parameters, a context of {config.block_size} tokens"
    )
    for path, purpose in (
        ("/", "the page"),
        ("/v1", "for programs that speak OpenAI's API (completions)"),
        ("/infill", "for editors with llama.vim or llama.vscode"),
    ):
        show(f"{address + path:<36} {purpose}")
    show("Ctrl-C ends it.")
    answer(application, listener, worker)
    return DONE


def serve_editor(arguments: argparse.Namespace) -> int:
    """Speak the language server protocol until the editor ends it."""
    from serving.language_server import EditorServer, claim_output

    output = claim_output()
    with loading():
        from pretrained.load import read_pretrained

        pretrained = read_pretrained(arguments.model)
        worker = load_worker(pretrained, arguments.device, arguments.cache_mb)
    worker.start()
    try:
        return EditorServer(worker, pretrained.folder.name).run(output)
    finally:
        worker.close()
        worker.thread.join(SHUTDOWN_SECONDS)


def load_worker(pretrained: Pretrained, device: str, cache_mb: int) -> Worker:
    """The model in its thread."""
    from attribution.copies import SourceNotes
    from generation.completer import load_engine
    from pretrained.provenance import fills_in
    from serving.completing import ServingCompleter
    from serving.prompt_cache import PromptCache
    from serving.worker import Worker

    engine = load_engine(pretrained, device, lambda text: warn(f"note: {text}"))
    prompts = PromptCache(cache_mb * 1_000_000)
    completer = ServingCompleter(engine, pretrained.vocabulary, prompts, fills_in=fills_in(pretrained.folder))
    for _ in completer.write(completer.start("def f(x):\n    re", FIRST), FIRST):
        continue  # what is loaded and built when it is first used, no request shall wait for
    return Worker(completer, SourceNotes(pretrained.folder, pretrained.vocabulary))


def answer(application: Any, listener: socket.socket, worker: Worker) -> None:
    """Answer requests until Ctrl-C, which ends at their next token what is being written."""
    import logging

    import uvicorn

    class Server(uvicorn.Server):
        """A server whose worker hears of Ctrl-C first: streams end, and then so do their connections."""

        def handle_exit(self, sig: int, frame: Any) -> None:
            worker.close()
            super().handle_exit(sig, frame)

    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # strangers' broken requests are no news
    worker.start()
    try:
        Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        ).run([listener])
    finally:
        worker.close()
        worker.thread.join(SHUTDOWN_SECONDS)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything takes time.

    Raises:
        UserError: the port is in use, or the address is none of this machine's.
    """
    where = f"{shown_host(host)}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        import errno

        if error.errno == errno.EADDRINUSE:
            raise UserError(f"the port is in use: {where}: name another: --port {port + 1}") from None
        raise UserError(
            f"cannot listen ({error.strerror or error}): {where}: name another --host or --port"
        ) from None


def read_key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        UserError: it is missing, empty, short, of several lines, or others may read it.
    """
    shown = path.absolute()
    advice = f"python -c 'import secrets; print(secrets.token_urlsafe())' > {path} && chmod 600 {path}"
    try:
        mode = path.stat().st_mode
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"the key cannot be read ({reason}): {shown}: make one: {advice}") from None
    if len(key) < SHORTEST_KEY or not key.isprintable() or " " in key:
        raise UserError(
            f"the key is not one word of {SHORTEST_KEY} characters or more: {shown}: make one: {advice}"
        )
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise UserError(f"others may read the key: {shown}: chmod 600 {path}")
    return key.encode()


if __name__ == "__main__":
    raise SystemExit(main())
