"""The server's addresses, and how questions and answers travel: an ASGI application on Starlette.

Nothing of what is sent or generated is ever run; no answer names a path of this machine.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from python_syntax.compiler import compiled, is_viable
from python_syntax.judge import as_python_reads
from serving.access import Access, Guarded, refused
from serving.answers import Answer, LlamaAnswer, OpenAIAnswer, error_body
from serving.question import RequestError, llama_question, openai_question, parse_json, text_of
from serving.worker import Event, Failure, Finish, QueueFullError

if TYPE_CHECKING:
    from pretrained.load import Pretrained
    from serving.question import Question
    from serving.worker import Worker

PAGE = Path(__file__).parent / "page"
PAGE_FILE = re.compile(r"[a-z0-9_-]+\.(html|css|js|svg|png)")
MOST_DROPPED = 32 << 20  # bytes that are read and dropped: a client that still sends may lose the answer
MOST_BODY = 6 << 20  # bytes: a prompt and a suffix of a million characters each, as JSON
MOST_JUDGED = 1 << 18  # characters: compiling holds up everything else, and may take longer than linear time
MOST_CARD = 1 << 20
BODY_SECONDS = 30.0  # a client that stops in the middle of its request is not waited for longer
# scores.html came with the model, from wherever that came: its styles are its own, and it may do nothing.
SCORES_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "sandbox; frame-ancestors 'self'",
    "x-frame-options": "SAMEORIGIN",
}
EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}


class EventStream(Response):
    """Server-sent events: each JSON object, or text, in a line of its own after "data: "."""

    def __init__(self, content: AsyncIterator[Any]) -> None:
        super().__init__(headers=EVENT_STREAM)
        del self.headers["content-length"]
        self.content = content

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for event in self.content:
            text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False, allow_nan=False)
            await send(
                {"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True}
            )
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Service:
    """The routes, and what they need."""

    def __init__(self, pretrained: Pretrained, worker: Worker) -> None:
        self.pretrained = pretrained
        self.worker = worker
        self.name = pretrained.folder.resolve().name
        self.context = pretrained.config.block_size
        files = PAGE.iterdir() if PAGE.is_dir() else ()
        self.page = {file.name: file for file in files if PAGE_FILE.fullmatch(file.name)}

    def application(self, access: Access) -> Guarded:
        def get(path: str, answer: Any) -> Route:
            return Route(path, answer, methods=["GET"])

        def post(path: str, answer: Any) -> Route:
            return Route(path, answer, methods=["POST"])

        routes = [
            post("/v1/completions", self.completions),
            get("/v1/models", self.models),
            get("/v1/models/{name}", self.model),
            post("/v1/judge", self.judge),
            post("/completion", self.completion),
            post("/infill", self.infill),
            get("/health", self.health),
            get("/props", self.props),
            get("/about", self.about),
            get("/scores.html", self.scores),
            get("/loss.png", self.loss),
            get("/", self.index),
            get("/page/{name}", self.page_file),
        ]
        handlers: dict[Any, Any] = {
            RequestError: bad_request,
            HTTPException: no_such_address,
            Exception: internal_error,
        }
        return Guarded(Starlette(routes=routes, exception_handlers=handlers), access)

    async def completions(self, request: Request) -> Response:
        question = openai_question(await read_json(request), self.pretrained.vocabulary)
        return await self.answer(request, question, OpenAIAnswer(question, self.name))

    async def completion(self, request: Request) -> Response:
        return await self.llama(request, is_infill=False)

    async def infill(self, request: Request) -> Response:
        return await self.llama(request, is_infill=True)

    async def llama(self, request: Request, *, is_infill: bool) -> Response:
        content, vocabulary = await read_json(request), self.pretrained.vocabulary
        question = llama_question(content, vocabulary, is_infill=is_infill, context=self.context)
        return await self.answer(request, question, LlamaAnswer(question, self.name, self.context))

    async def answer(self, request: Request, question: Question, answer: Answer) -> Response:
        """Let the worker write, and send what it writes at once or in the end."""
        events = self.events(request, question)
        if question.is_streamed:
            return EventStream(streamed(events, answer))
        async with aclosing(events):
            async for number, event in events:
                if isinstance(event, Failure):
                    return refused(event.status, event.message)
                answer.take(number, event)
        return JSONResponse(answer.whole())

    def events(self, request: Request, question: Question) -> AsyncGenerator[tuple[int, Event]]:
        """The worker's events with the numbers of their tasks; the tasks end with whoever listens.

        Raises: RequestError if too many wait.
        """
        queue: asyncio.Queue[tuple[int, Event] | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(number: int, event: Event) -> None:
            try:
                loop.call_soon_threadsafe(queue.put_nowait, (number, event))
            except RuntimeError:
                return  # the loop is closed: the server has ended

        try:
            jobs = self.worker.submit(question.tasks, put)
        except QueueFullError:
            raise RequestError("too many requests wait: try again later", status=503) from None

        async def listen() -> AsyncGenerator[tuple[int, Event]]:
            gone = asyncio.ensure_future(until_gone(request))
            gone.add_done_callback(lambda _: queue.put_nowait(None))
            left = len(jobs)
            try:
                while left:
                    found = await queue.get()
                    if found is None:
                        raise ClientDisconnect
                    left -= isinstance(found[1], Finish | Failure)
                    yield found
            finally:
                gone.cancel()
                for job in jobs:
                    job.cancel()

        return listen()

    async def judge(self, request: Request) -> Response:
        text = text_of((await read_json(request)).get("text"), "text", MOST_JUDGED, or_null=False)
        return JSONResponse(await asyncio.to_thread(verdict, as_python_reads(text)))

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.card()]})

    async def model(self, request: Request) -> Response:
        if request.path_params["name"] != self.name:
            return refused(404, "no such model", "model_not_found", "model")
        return JSONResponse(self.card())

    def card(self) -> dict[str, Any]:
        config = self.pretrained.config
        meta = {"n_ctx_train": self.context, "n_vocab": config.vocab_size, "n_params": config.parameters}
        created = int((self.pretrained.folder / "config.json").stat().st_mtime)
        return {"id": self.name, "object": "model", "created": created, "owned_by": "you", "meta": meta}

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def props(self, _: Request) -> Response:
        return JSONResponse(
            {
                "default_generation_settings": {"n_ctx": self.context},
                "total_slots": 1,
                "model_alias": self.name,
                "model_path": self.name,
                "chat_template": "",
            }
        )

    async def about(self, _: Request) -> Response:
        from pretrained.provenance import fills_in, read_provenance

        folder, config = self.pretrained.folder, self.pretrained.config
        try:
            card = (folder / "README.md").read_bytes()[:MOST_CARD].decode(errors="replace")
        except OSError:
            card = ""
        figures = read_provenance(folder).get("figures")
        bits = figures.get("held_out_bits_per_byte") if isinstance(figures, dict) else None
        licence = re.search(r"^license_name: *(\S+)$", card, re.M) or re.search(
            r"^license: *(\S+)$", card, re.M
        )
        return JSONResponse(
            {
                "name": self.name,
                "parameters": config.parameters,
                "context": self.context,
                "vocabulary": config.vocab_size,
                "infilling": fills_in(folder),
                "bits_per_byte": bits,
                "license": licence[1] if licence else None,
                "card": card,
                "has_scores": (folder / "scores.html").is_file(),
                "has_loss_plot": (folder / "loss.png").is_file(),
                "has_sources": self.worker.sources.has_index,
            }
        )

    async def scores(self, _: Request) -> Response:
        return file_or_404(self.pretrained.folder / "scores.html", SCORES_HEADERS)

    async def loss(self, _: Request) -> Response:
        return file_or_404(self.pretrained.folder / "loss.png")

    async def index(self, _: Request) -> Response:
        return file_or_404(self.page.get("index.html"))

    async def page_file(self, request: Request) -> Response:
        return file_or_404(self.page.get(request.path_params["name"]))


def file_or_404(path: Path | None, headers: dict[str, str] | None = None) -> Response:
    if path is None or not path.is_file():
        return refused(404, "no such address")
    return FileResponse(path, headers=headers)


async def streamed(events: AsyncGenerator[tuple[int, Event]], answer: Answer) -> AsyncIterator[Any]:
    """What a stream sends: the answer's pieces, or in the end an error."""
    for piece in answer.opening():
        yield piece
    async with aclosing(events):
        async for number, event in events:
            if isinstance(event, Failure):
                yield error_body(event.message, event.status)
                return
            for piece in answer.take(number, event):
                yield piece
    for last in answer.closing():
        yield last


async def until_gone(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def read_json(request: Request) -> dict[str, Any]:
    """The body. Raises: RequestError if it is too long, comes too slowly or is no JSON object."""
    too_long = RequestError(f"the body is longer than {MOST_BODY:,} bytes", status=413)
    length = request.headers.get("content-length", "0")
    is_too_long = length.isdecimal() and int(length) > MOST_BODY
    if is_too_long and int(length) > MOST_DROPPED:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += b"" if is_too_long else part
                if len(body) > MOST_BODY:
                    raise too_long
    except TimeoutError:
        raise RequestError("the body did not arrive in time", status=408) from None
    if is_too_long:
        raise too_long
    return parse_json(bytes(body))


async def bad_request(_: Request, error: RequestError) -> Response:
    answer = refused(error.status, error.message, error.code, error.param)
    if error.status in (408, 413):  # the rest of the body is not read
        answer.headers["connection"] = "close"
    return answer


async def internal_error(_: Request, __: Exception) -> Response:
    return refused(500, "internal error")  # Guarded says on the terminal what it was


async def no_such_address(_: Request, error: HTTPException) -> Response:
    words = {404: "no such address", 405: "this address takes another method"}
    return refused(error.status_code, words.get(error.status_code, "the request cannot be answered"))


def verdict(text: str) -> dict[str, Any]:
    """What CPython's compiler says of a text, which is not run."""
    found = compiled(text, 0)
    if isinstance(found, CodeType):
        return {"valid": True, "unfinished": False, "message": None, "line": None, "column": None}
    return {
        "valid": False,
        "unfinished": is_viable(text, 0),
        "message": str(found.msg),
        "line": found.lineno,
        "column": found.offset,
    }
