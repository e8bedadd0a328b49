"""The language server: completions for an editor that starts this program and speaks to it over pipes.

It answers textDocument/inlineCompletion of the language server protocol 3.18, by the same worker and prompt
cache as the HTTP server. The protocol itself is pygls'. The documents are ours: pygls counts a form feed as
the end of a line, and reads documents that no editor has opened from the disk.
Source: https://microsoft.github.io/language-server-protocol/specifications/lsp/3.18/specification/
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.io_ import run_async
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, lsp_method

from model_cli import DONE, PROJECT, UserError, printable, warn
from serving.question import MOST_PROMPT, MOST_TOKENS, RequestError, read_decoding, whole
from serving.stops import Stops
from serving.worker import End, Event, Failure, Finish, QueueFullError, Task

if TYPE_CHECKING:
    from serving.worker import Worker

# What is written without being asked for is the likeliest text, one statement of it; who asks may choose.
AUTOMATIC = {"temperature": 0, "stop_at": "statement"}
INVOKED = {"stop_at": "statement"}
CHOICES = 3
DEFAULT_TOKENS = 128
# After the first whole line: typing goes on within a quarter of a second, who asked waits longer.
AUTOMATIC_MILLISECONDS, INVOKED_MILLISECONDS = 250.0, 1000.0
REQUEST_FAILED = -32803  # LSP's code
LINE_START = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")  # LSP knows three ends of a line: \n, \r\n and \r
UNITS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}  # codec, bytes a unit


class Document:
    """A text that an editor changes piece by piece. Positions count lines and, within them, code units."""

    def __init__(self, text: str, encoding: str = "utf-16") -> None:
        self.codec, self.width = UNITS[encoding]
        self.lines = LINE_START.split(without_half_pairs(text))

    def place(self, position: types.Position) -> tuple[int, int]:
        """A position's line and character; beyond the end of a line, or of the text, it is that end."""
        if position.line >= len(self.lines):
            return len(self.lines) - 1, len(self.lines[-1])
        line = self.lines[position.line].rstrip("\r\n")
        if line.isascii():
            return position.line, min(position.character, len(line))
        units = line.encode(self.codec)[: position.character * self.width]
        return position.line, len(units.decode(self.codec, "ignore"))

    def change(self, change: types.TextDocumentContentChangeEvent) -> None:
        """Replace a part of the text, or all of it."""
        text = without_half_pairs(change.text)
        if isinstance(change, types.TextDocumentContentChangeWholeDocument):
            self.lines = LINE_START.split(text)
            return
        first, begin = self.place(change.range.start)
        last, end = max((first, begin), self.place(change.range.end))
        text = self.lines[first][:begin] + text + self.lines[last][end:]
        if first:  # it may end with a \r to which a \n has come
            first -= 1
            text = self.lines[first] + text
        lines = LINE_START.split(text)
        if last + 1 < len(self.lines):
            lines.pop()  # after the end of a line there is the next one
        self.lines[first : last + 1] = lines

    def around(self, range_: types.Range) -> tuple[str, str]:
        """The text before and after a range, at most MOST_PROMPT characters of each, in whole lines."""
        (first, begin), (last, end) = self.place(range_.start), self.place(range_.end)
        before = "".join(self.lines[:first]) + self.lines[first][:begin]
        after = self.lines[last][end:] + "".join(self.lines[last + 1 :])
        if len(before) > MOST_PROMPT:
            before = before[-MOST_PROMPT:].partition("\n")[2]
        return before, after[:MOST_PROMPT].rpartition("\n")[0] if len(after) > MOST_PROMPT else after


def without_half_pairs(text: str) -> str:
    r"""A text in which each half of a surrogate pair, which is no character, is one that says so: \ufffd."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Protocol(LanguageServerProtocol):
    """pygls', with our documents, and an answer to requests that it cannot read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.server_capabilities = types.ServerCapabilities()  # until the editor has said what it can do
        self.documents: dict[str, Document] = {}

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        encoding = self.server_capabilities.position_encoding or types.PositionEncodingKind.Utf16
        self.documents[params.text_document.uri] = Document(
            params.text_document.text, getattr(encoding, "value", encoding)
        )

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        if document := self.documents.get(params.text_document.uri):
            for change in params.content_changes:
                document.change(change)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        self.documents.pop(params.text_document.uri, None)

    def structure_message(self, data: dict[str, Any]) -> Any:
        try:
            return super().structure_message(data)
        except JsonRpcException as error:
            if "id" in data and "method" in data:
                self._send_response(data["id"], error=error.to_response_error())
            raise


class EditorServer:
    """Answers one editor."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.worker = worker
        self.options: dict[str, Any] = {}
        self.told: set[str] = set()  # what the editor's log has already
        version = (PROJECT / "VERSION").read_text(encoding="utf-8").strip()
        self.server = LanguageServer(name, version, protocol_cls=Protocol)

        @self.server.feature(types.INITIALIZE)
        def initialize(params: types.InitializeParams) -> None:
            self.initialize(params)

        @self.server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
        async def complete(params: types.InlineCompletionParams) -> list[types.InlineCompletionItem]:
            return await self.complete(params)

    def run(self, output: BinaryIO) -> int:
        """Answer until the editor says goodbye or goes -> the exit code.

        Raises: UserError if standard input holds something else.
        """
        for name in ("pygls", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # tracebacks of an editor's mistakes
        if sys.stdin.isatty():
            warn("note: an editor starts this and speaks to it on standard input; Ctrl-C ends it")
        try:
            asyncio.run(self.answer(output))
        except SystemExit as end:
            return int(end.code or 0)
        except asyncio.IncompleteReadError:
            return DONE  # the editor went in the middle of a message
        except ValueError:
            raise UserError(
                "this is not the language server protocol: standard input: let an editor start the server"
            ) from None
        return DONE

    async def answer(self, output: BinaryIO) -> None:
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()

        def read() -> None:
            try:
                while piece := os.read(sys.stdin.fileno(), 1 << 16):
                    loop.call_soon_threadsafe(reader.feed_data, piece)
                loop.call_soon_threadsafe(reader.feed_eof)
            except RuntimeError:
                return  # the loop is closed: the server has ended

        # A daemon: nothing else ends a thread that waits for standard input.
        threading.Thread(target=read, name="standard input", daemon=True).start()
        self.server.protocol.set_writer(Output(output))
        await run_async(threading.Event(), reader, self.server.protocol, error_handler=report)

    def initialize(self, params: types.InitializeParams) -> None:
        options = params.initialization_options
        self.options = dict(options) if isinstance(options, dict) else {}
        try:
            self.task("", "", 0, is_invoked=False)
        except RequestError as error:
            raise JsonRpcInvalidParams(f"initializationOptions: {error.message}") from None

    async def complete(self, params: types.InlineCompletionParams) -> list[types.InlineCompletionItem]:
        """What could stand at the cursor, the best first; a document that is not open has no cursor."""
        protocol: Any = self.server.protocol
        document: Document | None = protocol.documents.get(params.text_document.uri)
        if document is None:
            return []
        selected = params.context.selected_completion_info  # of the editor's own list, as if it were typed
        range_ = selected.range if selected else types.Range(params.position, params.position)
        typed = without_half_pairs(selected.text) if selected else ""
        before, after = document.around(range_)
        line = (before + typed).rpartition("\n")[2]
        indent = len(line) - len(line.lstrip(" \t"))
        is_invoked = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
        task = self.task(before + typed, after, indent, is_invoked=is_invoked)
        return [
            types.InlineCompletionItem(insert_text=typed + text, range=range_)
            for text in await self.written(task)
        ]

    def task(self, prompt: str, suffix: str, indent: int, *, is_invoked: bool) -> Task:
        """Raises: RequestError if the editor's options are wrong."""
        options = {**(INVOKED if is_invoked else AUTOMATIC), **self.options}
        tokens = min(whole(options, "max_tokens", DEFAULT_TOKENS, MOST_TOKENS), MOST_TOKENS)
        suffix = suffix if suffix.strip() else ""
        milliseconds = INVOKED_MILLISECONDS if is_invoked else AUTOMATIC_MILLISECONDS
        return Task(
            prompt,
            read_decoding(options, CHOICES if is_invoked else 1, tokens),
            suffix,
            Stops((), indent, milliseconds, suffix, prompt.endswith("\n") or not prompt),
            sources=self.worker.sources.has_index,
            best=is_invoked,
        )

    async def written(self, task: Task) -> list[str]:
        """Different texts, the best first. The task ends with whoever waits for them."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(_: int, event: Event) -> None:
            try:
                loop.call_soon_threadsafe(queue.put_nowait, event)
            except RuntimeError:
                return  # the loop is closed: the server has ended

        try:
            (job,) = self.worker.submit([task], put)
        except QueueFullError:
            raise JsonRpcException("too many requests wait: try again later", REQUEST_FAILED) from None
        ends: list[End] = []
        try:
            while not isinstance(event := await queue.get(), Finish | Failure):
                if isinstance(event, End):
                    ends.append(event)
        finally:
            job.cancel()
        if isinstance(event, Failure):
            raise JsonRpcException(event.message, REQUEST_FAILED)
        self.tell(event.note)
        order = sorted(ends, key=lambda end: end.rank or 0)
        for end in order:
            for copy in end.sources or ():
                self.tell(
                    f"copied from {copy['repo']}, {copy['path']} ({copy['license'] or 'licence unknown'})"
                )
        found = (end.text for end in order if end.valid is not False)  # None: it was not judged
        return list(dict.fromkeys(text for text in found if text.strip()))

    def tell(self, words: str) -> None:
        """Write something into the editor's log, once."""
        if words and words not in self.told:
            self.told.add(words)
            self.server.window_log_message(types.LogMessageParams(types.MessageType.Info, words))


class Output:
    """Standard output, as long as somebody reads it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def write(self, content: bytes) -> None:
        try:
            self.stream.write(content)
            self.stream.flush()
        except (BrokenPipeError, ValueError):
            return  # the editor has gone, which the end of standard input will say

    def close(self) -> None:
        return


def claim_output() -> BinaryIO:
    """Standard output for messages alone: whatever else is printed, by whomever, goes to standard error."""
    sys.stdout.flush()
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def report(error: Exception, _: Any) -> None:
    warn(f"note: a message was not understood: {printable(str(error) or type(error).__name__)}")
