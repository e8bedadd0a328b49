"""What a request is answered with: the worker's events in the shapes of OpenAI's and of llama.cpp's API.

An Answer takes the events of a request one by one. `take` says what a stream sends at each, and `whole` what
is sent if nothing was streamed. Fields that neither API has are ours: docs/serving.md lists them.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Protocol

from serving.worker import End, Event, Finish, Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generation.trace import Refusal, TracedToken
    from serving.question import Question

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
JSON = dict[str, Any]


def error_body(message: str, status: int, param: str | None = None, code: str | None = None) -> JSON:
    """An error in OpenAI's form."""
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Answer(Protocol):
    """The answer to a request while its events come in."""

    def opening(self) -> list[JSON]:
        """What a stream sends before the first event."""
        ...

    def take(self, number: int, event: Event) -> list[JSON]:
        """What a stream sends for an event of one of the tasks."""
        ...

    def closing(self) -> list[JSON | str]:
        """What a stream sends after the last one."""
        ...

    def whole(self) -> JSON | list[JSON]:
        """The answer, once all events are in."""
        ...


class Written:
    """All that is known of one sample."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens: list[TracedToken] = []
        self.refusals: list[Refusal] = []
        self.end: End | None = None

    def take(self, event: Piece | End) -> None:
        if isinstance(event, End):
            self.end = event
        else:
            self.text += event.text
            self.tokens += event.tokens
            self.refusals += event.refusals


class OpenAIAnswer:
    """POST /v1/completions."""

    def __init__(self, question: Question, model: str) -> None:
        self.question = question
        self.head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self.written = [[Written() for _ in range(task.decoding.samples)] for task in question.tasks]
        self.finishes: list[Finish] = []

    def opening(self) -> list[JSON]:
        if not self.question.echo:
            return []
        return [
            self.chunk(self.index(number, sample), task.prompt)
            for number, task in enumerate(self.question.tasks)
            for sample in range(task.decoding.samples)
        ]

    def take(self, number: int, event: Event) -> list[JSON]:
        if isinstance(event, Finish):
            self.finishes.append(event)
            return []
        if not isinstance(event, Piece | End):
            return []
        self.written[number][event.sample].take(event)
        if not self.question.is_streamed:
            return []
        index = self.index(number, event.sample)
        if isinstance(event, End):
            return [self.chunk(index, "", None, (), **self.ending(number, event))]
        tokens = self.logprobs(number, event.tokens)
        return [self.chunk(index, event.text, tokens, self.refused(number, event.refusals))]

    def closing(self) -> list[JSON | str]:
        end: list[JSON | str] = []
        if note := self.note:
            end.append({**self.head, "choices": [], "note": note})
        if self.question.with_usage:
            end.append({**self.head, "choices": [], "usage": self.usage()})
        return [*end, "[DONE]"]

    def whole(self) -> JSON:
        choices = []
        for number, (task, samples) in enumerate(zip(self.question.tasks, self.written, strict=True)):
            in_order = samples
            if task.best:
                in_order = sorted(samples, key=lambda sample: (sample.end and sample.end.rank) or 0)
            for place, sample in enumerate(in_order[: self.question.kept]):
                assert sample.end, "all events are in"
                text = task.prompt * self.question.echo + sample.text
                logprobs = self.logprobs(number, sample.tokens)
                refused = self.refused(number, sample.refusals) if task.rejected else None
                end = self.ending(number, sample.end)
                choices.append(self.choice(self.index(number, place), text, logprobs, refused, **end))
        note = {"note": self.note} if self.note else {}
        return {**self.head, "choices": choices, "usage": self.usage(), **note}

    @property
    def note(self) -> str:
        return next((finish.note for finish in self.finishes if finish.note), "")

    def index(self, number: int, sample: int) -> int:
        return number * self.question.kept + sample

    def offset(self, number: int) -> int:
        """Where a completion begins in the text that is sent for it."""
        return len(self.question.tasks[number].prompt) if self.question.echo else 0

    def chunk(
        self, index: int, text: str, logprobs: JSON | None = None, refused: Sequence[JSON] = (), **end: Any
    ) -> JSON:
        return {**self.head, "choices": [self.choice(index, text, logprobs, refused, **end)]}

    def choice(
        self, index: int, text: str, logprobs: JSON | None, refused: Sequence[JSON] | None, **end: Any
    ) -> JSON:
        rejected = {} if refused is None else {"rejected": list(refused)}
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None, **rejected, **end}

    def ending(self, number: int, end: End) -> JSON:
        """What the last chunk of an index says."""
        shown: JSON = {"finish_reason": end.reason, "valid": end.valid, "score": end.score}
        if self.question.tasks[number].sources:
            base = self.offset(number)
            copies = end.sources
            shown["sources"] = copies and [{**copy, "offset": copy["offset"] + base} for copy in copies]
        if end.rank is not None:
            shown["rank"] = end.rank
        return shown

    def logprobs(self, number: int, tokens: list[TracedToken]) -> JSON | None:
        if self.question.tasks[number].logprobs is None:
            return None
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.log_probability for token in tokens],
            "top_logprobs": [token.top for token in tokens],
            "text_offset": [token.offset + self.offset(number) for token in tokens],
        }

    def refused(self, number: int, refusals: list[Refusal]) -> list[JSON]:
        base = self.offset(number)
        return [
            {"offset": refusal.offset + base, "text": refusal.text, "reason": refusal.reason}
            for refusal in refusals
        ]

    def usage(self) -> JSON:
        read = sum(finish.prompt_tokens for finish in self.finishes)
        written = sum(finish.tokens for finish in self.finishes)
        known = sum(finish.known_tokens for finish in self.finishes)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": known},
        }


class LlamaAnswer:
    """POST /completion and /infill."""

    def __init__(self, question: Question, model: str, context: int) -> None:
        self.question = question
        self.model = model
        self.context = context
        [self.task] = question.tasks
        self.written = [Written() for _ in range(self.task.decoding.samples)]
        self.finished: Finish | None = None

    def opening(self) -> list[JSON]:
        return []

    def take(self, number: int, event: Event) -> list[JSON]:
        if isinstance(event, Finish):
            self.finished = event
        elif isinstance(event, Piece | End):
            self.written[event.sample].take(event)
            if isinstance(event, Piece) and not self.task.warms:
                return [{"index": event.sample, "content": event.text, "tokens": [], "stop": False}]
        return []

    def closing(self) -> list[JSON | str]:
        return [{**self.final(sample), "content": ""} for sample in range(len(self.written))]

    def whole(self) -> JSON | list[JSON]:
        answers = [self.chosen(self.final(sample)) for sample in range(len(self.written))]
        return answers if len(answers) > 1 else answers[0]

    def final(self, index: int) -> JSON:
        sample, finished = self.written[index], self.finished
        assert sample.end and finished, "all events are in"
        is_full = sample.end.reason == "length"
        read = finished.prompt_tokens - finished.known_tokens
        return {
            "index": index,
            "content": "" if self.task.warms else sample.text,
            "tokens": [],
            "id_slot": 0,
            "stop": True,
            "model": self.model,
            "tokens_predicted": sample.end.tokens,
            "tokens_evaluated": finished.prompt_tokens,
            "tokens_cached": finished.prompt_tokens,
            "truncated": False,
            "has_new_line": "\n" in sample.text,
            "stop_type": "word" if sample.end.word else "limit" if is_full else "eos",
            "stopping_word": sample.end.word,
            "generation_settings": {"n_ctx": self.context, "n_predict": self.task.decoding.max_new_tokens},
            "timings": {
                "cache_n": finished.known_tokens,
                **timings("prompt", read, finished.read_seconds),
                **timings("predicted", finished.tokens, finished.write_seconds),
            },
            "valid": sample.end.valid,
            **({"note": finished.note} if finished.note else {}),
        }

    def chosen(self, answer: JSON) -> JSON:
        """The fields that were asked for, by their paths: {"timings/prompt_n": 3}"""
        if self.question.fields is None:
            return answer
        found = {}
        for path in self.question.fields:
            value: Any = answer
            for name in path.split("/"):
                value = value.get(name) if isinstance(value, dict) else None
            if value is not None:
                found[path] = value
        return found


def timings(name: str, tokens: int, seconds: float) -> JSON:
    seconds = max(seconds, 1e-6)
    return {
        f"{name}_n": tokens,
        f"{name}_ms": 1000 * seconds,
        f"{name}_per_token_ms": 1000 * seconds / max(1, tokens),
        f"{name}_per_second": tokens / seconds,
    }
