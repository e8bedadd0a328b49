"""python model/serve.py --lsp: a real process that speaks the protocol over pipes, as an editor starts it."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from project import PROJECT, STDLIB, run_script
from python_syntax.compiler import is_complete
from serving.language_server import Document
from tiny_model import save_endless_model, save_tiny_model

TEXT = (STDLIB / "json" / "decoder.py").read_text(encoding="utf-8")
URI = "file:///nowhere/decoder.py"
AUTOMATIC, INVOKED = {"triggerKind": 2}, {"triggerKind": 1}
ENDLESS = {"valid": False, "max_tokens": 4096, "stop_at": "none"}


class Editor:
    """`with Editor(folder) as editor:` a language server, and what an editor would say to it."""

    def __init__(self, folder: Path, options: Any = None, encodings: list[str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROJECT / "model/serve.py"), "--lsp", "--model", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()  # None: there will be no more
        self.stray = b""  # on standard output, and no message
        self.noted: list[dict[str, Any]] = []  # notifications
        self.version = self.number = 0
        threading.Thread(target=self.listen, daemon=True).start()
        general = {"positionEncodings": encodings} if encodings else {}
        self.greeting = self.ask(
            "initialize",
            processId=None,
            rootUri=None,
            capabilities={"general": general},
            initializationOptions=options,
        )
        self.say("initialized")

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stderr):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def listen(self) -> None:
        assert self.process.stdout
        while line := self.process.stdout.readline():
            if not line.startswith(b"Content-Length: "):
                self.stray += line
                continue
            while self.process.stdout.readline().strip():
                continue
            self.messages.put(json.loads(self.process.stdout.read(int(line.split()[1]))))
        self.messages.put(None)

    def send(self, message: Any) -> None:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        assert self.process.stdin
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def say(self, method: str, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def begin(self, method: str, **params: Any) -> int:
        self.number += 1
        self.send({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params})
        return self.number

    def answer(self, number: int) -> dict[str, Any]:
        for known in self.noted:
            if known.get("id") == number and "method" not in known:
                return known
        while True:
            message = self.messages.get(timeout=120)
            assert message is not None, f"it ended: {self.end()}"
            if message.get("id") == number and "method" not in message:
                return message
            self.noted.append(message)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self.answer(self.begin(method, **params))

    def open(self, text: str, uri: str = URI) -> None:
        item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self.say("textDocument/didOpen", textDocument=item)

    def change(self, *changes: dict[str, Any]) -> None:
        self.version += 1
        document = {"uri": URI, "version": self.version}
        self.say("textDocument/didChange", textDocument=document, contentChanges=list(changes))

    def request(self, line: int, character: int, context: Any, uri: str = URI) -> dict[str, Any]:
        position = {"line": line, "character": character}
        return {"textDocument": {"uri": uri}, "position": position, "context": context}

    def complete(
        self, line: int, character: int, context: Any = AUTOMATIC, uri: str = URI
    ) -> list[dict[str, Any]]:
        found = self.ask("textDocument/inlineCompletion", **self.request(line, character, context, uri))
        assert "error" not in found, found
        return list(found["result"])

    def leave(self) -> tuple[int, str]:
        """Say goodbye -> the exit code and what was written on standard error."""
        self.ask("shutdown")
        self.say("exit")
        return self.end()

    def end(self) -> tuple[int, str]:
        assert self.process.stderr
        errors = self.process.stderr.read().decode()
        return self.process.wait(60), errors


def part(start: tuple[int, int], end: tuple[int, int]) -> dict[str, Any]:
    return {name: dict(zip(("line", "character"), at)) for name, at in (("start", start), ("end", end))}  # noqa: B905


@pytest.fixture(scope="module")
def editor(model_folder: Path) -> Iterator[Editor]:
    with Editor(model_folder) as running:
        yield running
        code, errors = running.leave()
        assert (code, running.stray) == (0, b"")
        assert errors.count("\n") <= 1 and "Traceback" not in errors


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_endless_model(tmp_path_factory.mktemp("endless") / "GPyT")


def test_it_offers_inline_completion_and_wants_changes_piece_by_piece(editor: Editor) -> None:
    found = editor.greeting["result"]
    assert found["serverInfo"]["name"] == "GPyT"
    assert found["capabilities"]["inlineCompletionProvider"] == {}
    assert found["capabilities"]["positionEncoding"] == "utf-16"
    assert found["capabilities"]["textDocumentSync"]["change"] == 2
    assert found["capabilities"]["textDocumentSync"]["openClose"] is True


@pytest.mark.parametrize("typed", ["    def decode_all", "        ", "    x = [1, ", "    "])
def test_what_is_inserted_leaves_the_file_valid(editor: Editor, typed: str) -> None:
    lines = TEXT.split("\n")
    place = next(i for i, line in enumerate(lines) if "def raw_decode" in line)
    lines.insert(place, typed)
    editor.open("\n".join(lines))
    for context in (AUTOMATIC, INVOKED):
        for item in editor.complete(place, len(typed), context):
            assert item["range"] == part((place, len(typed)), (place, len(typed)))
            whole = "\n".join([*lines[:place], typed + item["insertText"], *lines[place + 1 :]])
            assert is_complete(whole, 0), item["insertText"]


def test_who_asks_gets_different_choices(editor: Editor) -> None:
    editor.open("import os\n\n\ndef walk(path):\n    ")
    texts = [item["insertText"] for item in editor.complete(4, 4, INVOKED)]
    assert 1 < len(texts) <= 3 and len(set(texts)) == len(texts)
    assert len(editor.complete(4, 4, AUTOMATIC)) <= 1


def test_without_being_asked_it_writes_one_statement(editor: Editor) -> None:
    editor.open("import os\n\n\ndef walk(path):\n    x = ")
    (item,) = editor.complete(4, 8)
    assert is_complete(f"import os\n\n\ndef walk(path):\n    x = {item['insertText']}\n", 0)
    assert editor.complete(4, 8) == [item], "the same place, the same text"


def test_what_the_editors_own_list_proposes_is_continued(editor: Editor) -> None:
    editor.open("import os\n\n\ndef walk(path):\n    ret\n")
    word = part((4, 4), (4, 7))
    context = {**AUTOMATIC, "selectedCompletionInfo": {"range": word, "text": "return "}}
    for item in editor.complete(4, 7, context):
        assert item["insertText"].startswith("return ") and item["range"] == word


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "utf-32"])
def test_changed_piece_by_piece_a_document_is_as_if_it_had_been_opened_so(
    model_folder: Path, encoding: str
) -> None:
    wide = {"utf-16": 2, "utf-8": 4, "utf-32": 1}[encoding]  # units of the face
    with Editor(model_folder, encodings=[encoding]) as editor:
        assert editor.greeting["result"]["capabilities"]["positionEncoding"] == encoding
        editor.open("x = '😀😀'\r\ny = 1\n")
        after = 5 + 2 * wide
        editor.change(
            {"range": part((0, 5 + wide), (0, after)), "text": "é"},
            {"range": part((2, 0), (2, 0)), "text": "\ndef walk(path):\n    x = 1\n"},
            {"range": part((4, 8), (99, 0)), "text": ""},
        )
        (changed,) = editor.complete(4, 8)
        editor.open("x = '😀é'\r\ny = 1\n\ndef walk(path):\n    x = ", "untitled:two")
        assert editor.complete(4, 8, uri="untitled:two") == [changed]
        editor.change({"text": "import os\n\n\ndef walk(path):\n    x = "})
        assert editor.complete(7, 3)[0]["range"] == part((7, 3), (7, 3))


def test_only_what_is_open_is_read(editor: Editor, tmp_path: Path) -> None:
    file = tmp_path / "there.py"
    file.write_text("import os\n\n\ndef walk(path):\n    x = ", encoding="utf-8")
    assert editor.complete(4, 8, INVOKED, file.as_uri()) == []
    editor.open(file.read_text(encoding="utf-8"), file.as_uri())
    assert editor.complete(4, 8, INVOKED, file.as_uri())
    editor.say("textDocument/didClose", textDocument={"uri": file.as_uri()})
    assert editor.complete(4, 8, INVOKED, file.as_uri()) == []


def test_half_a_surrogate_pair_and_other_languages_harm_nothing(editor: Editor) -> None:
    editor.open("x = '\ud83d'\ny = ")
    assert isinstance(editor.complete(1, 4), list)
    editor.open("int main() {\n  return ")
    assert isinstance(editor.complete(1, 9), list)


def test_cancelled_requests_stop_writing(endless: Path) -> None:
    with Editor(endless, ENDLESS) as editor:
        editor.open("x = 1")
        started = [
            editor.begin("textDocument/inlineCompletion", **editor.request(0, 5, INVOKED)) for _ in range(40)
        ]
        time.sleep(0.5)
        for number in reversed(started):  # so that none of them begins when the one before it ends
            editor.say("$/cancelRequest", id=number)
        for number in started:
            found = editor.answer(number)
            assert "result" in found or found["error"]["code"] == -32800
        assert "error" in found, "the last one had not begun"
        times = psutil.Process(editor.process.pid).cpu_times()
        time.sleep(1)
        later = psutil.Process(editor.process.pid).cpu_times()
        assert later.user - times.user < 0.5, "nobody waits for what it writes"
        assert editor.leave() == (0, "")


def test_wrong_requests_are_answered_with_an_error_and_harm_nobody(endless: Path) -> None:
    with Editor(endless, {"max_tokens": 8}) as editor:
        assert editor.ask("textDocument/inlineCompletion", textDocument=5)["error"]["code"] == -32602
        assert editor.ask("textDocument/nonsense")["error"]["code"] == -32601
        editor.send(b"{")
        editor.send(b"[" * 100_000)
        editor.say("textDocument/didOpen", textDocument=7)
        editor.change({"range": part((0, 0), (0, 0)), "text": "of no document"})
        editor.open("x = ")
        assert isinstance(editor.complete(0, 4), list)
        code, errors = editor.leave()
        assert code == 0 and "Traceback" not in errors
        assert errors.count("note: a message was not understood: ") == errors.count("\n") == 4
        assert str(PROJECT) not in json.dumps(editor.noted)


@pytest.mark.parametrize("options", [{"temperature": "hot"}, {"valid": 1}, {"max_tokens": -1}])
def test_wrong_options_are_named(endless: Path, options: dict[str, Any]) -> None:
    with Editor(endless, options) as editor:
        error = editor.greeting["error"]
        assert error["code"] == -32602
        assert (
            error["message"].startswith("initializationOptions: ") and next(iter(options)) in error["message"]
        )


@pytest.mark.parametrize("last", ["an exit", "the end", "half a message"])
def test_an_editor_that_goes_ends_it(endless: Path, last: str) -> None:
    with Editor(endless) as editor:
        assert editor.process.stdin
        if last == "an exit":
            editor.say("exit")
        elif last == "half a message":
            editor.process.stdin.write(b"Content-Length: 500\r\n\r\n{")
        editor.process.stdin.close()
        assert editor.end() == (int(last == "an exit"), "")


def test_ctrl_c_ends_it_with_one_line(endless: Path) -> None:
    with Editor(endless) as editor:
        editor.process.send_signal(signal.SIGINT)
        assert editor.end() == (130, "\ninterrupted: the server has ended\n")


def test_a_model_that_fills_no_gaps_says_so_once(continuing_folder: Path) -> None:
    with Editor(continuing_folder) as editor:
        for text in ("def f(x):\n    return \n\ny = 1\n", "def g(x):\n    return \n\nz = 1\n"):
            editor.open(text)
            editor.complete(1, 11)
        code, errors = editor.leave()
    told = [message["params"]["message"] for message in editor.noted if "method" in message]
    assert code == 0 and errors.count("\n") == 1
    assert len(told) == 1 and "--fim-rate" in told[0] and told[0] in errors


def test_a_torn_model_is_one_line_on_standard_error(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "GPyT")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    found = run_script("model/serve.py", "--lsp", "--model", folder)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (1, "", 1)
    assert found.stderr.startswith("error: the weights are torn or missing")


def test_other_input_is_refused_in_one_line(endless: Path) -> None:
    found = subprocess.run(
        [sys.executable, str(PROJECT / "model/serve.py"), "--lsp", "--model", str(endless)],
        input=b"x" * 200_000,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, found.stdout) == (1, b"")
    assert found.stderr.startswith(b"error: this is not the language server protocol: standard input: ")


def test_what_else_is_printed_goes_to_standard_error(endless: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import atexit\natexit.register(print, 'stray')\n", "utf-8")
    found = run_script("model/serve.py", "--lsp", "--model", endless, env={"PYTHONPATH": str(tmp_path)})
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "stray\n")


@pytest.mark.parametrize("option", ["--port=9000", "--host=::1", "--api-key-file=key.txt"])
def test_it_has_no_address(endless: Path, option: str) -> None:
    found = run_script("model/serve.py", "--lsp", "--model", endless, option)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("error: --lsp listens on no address: ")


# Documents

ALPHABET = st.text(st.sampled_from("ab \n\r\fé\u2028😀"), max_size=12)


def ends_of_lines(text: str) -> list[tuple[int, int]]:
    """Where each line of a text begins and where its content ends, counted by hand."""
    lines, start, at = [], 0, 0
    while at < len(text):
        if text[at] in "\r\n":
            after = at + (2 if text[at : at + 2] == "\r\n" else 1)
            lines.append((start, at))
            start = at = after
        else:
            at += 1
    return [*lines, (start, len(text))]


@given(ALPHABET, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), ALPHABET), max_size=4), st.data())
def test_changes_at_positions_are_changes_of_the_text(
    text: str, edits: list[tuple[int, int, str]], data: st.DataObject
) -> None:
    encoding, width = data.draw(st.sampled_from([("utf-8", 1), ("utf-16", 2), ("utf-32", 4)]))
    codec = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[encoding]
    document = Document(text, encoding)
    for one, other, new in edits:
        lines = ends_of_lines(text)
        places = []
        for wanted in sorted((min(one, len(text)), min(other, len(text)))):
            number = max(i for i, (start, _) in enumerate(lines) if start <= wanted)
            start, end = lines[number]
            at = min(wanted, end)  # there is no position between a \r and its \n
            units = len(text[start:at].encode(codec)) // width
            places.append((at, types.Position(number, units)))
        (begin, first), (end, last) = places
        text = text[:begin] + new + text[end:]
        document.change(types.TextDocumentContentChangePartial(types.Range(first, last), new))
        assert "".join(document.lines) == text
        assert len(document.lines) == len(ends_of_lines(text))
        whole = document.around(types.Range(types.Position(0, 0), types.Position(10**6, 0)))
        assert whole == ("", "")


def test_a_position_beyond_the_end_is_the_end_and_within_a_pair_before_it() -> None:
    document = Document("ab\r\n😀c")
    assert document.place(types.Position(0, 99)) == (0, 2)
    assert document.place(types.Position(9, 0)) == (1, 2)
    assert [document.place(types.Position(1, units))[1] for units in range(5)] == [0, 0, 1, 2, 2]


def test_of_an_endless_file_the_part_around_the_cursor_is_taken() -> None:
    document = Document("x = 1\n" * 400_000)
    middle = types.Position(200_000, 3)
    before, after = document.around(types.Range(middle, middle))
    assert (
        1 << 20 >= len(before) > (1 << 20) - 7 and before.startswith("x = 1\n") and before.endswith("\nx =")
    )
    assert 1 << 20 >= len(after) > (1 << 20) - 7 and after.startswith(" 1\n") and after.endswith("\nx = 1")
