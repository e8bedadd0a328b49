"""A request's JSON -> the tasks that it asks for, every value checked.

Two languages: OpenAI's (POST /v1/completions) and llama.cpp's (POST /completion and /infill). Both have
fields for what only this program does; docs/serving.md says what each means.
Sources: https://platform.openai.com/docs/api-reference/completions/create; llama.cpp, tools/server/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from inference.decoding import LARGEST, SETTINGS, Decoding
from model_cli import printable
from serving.stops import Stops
from serving.worker import Task

if TYPE_CHECKING:
    from pretrained.vocabulary import Vocabulary

T = TypeVar("T")

MOST_PROMPT = 1 << 20  # characters of a prompt or a suffix: no file that people write is longer
MOST_PROMPTS = 32  # in one request
MOST_ROWS = 32  # completions in one request
MOST_TOKENS = 4096  # of a completion: five seconds at 5 M parameters, so that nobody waits for long
MOST_STOPS = 16
LONGEST_STOP = 200  # characters
MOST_LOGPROBS = 20
DEFAULT_TOKENS = 16  # OpenAI's
SEEDS = 1 << 64  # OpenAI's are signed, llama.cpp's are not
LLAMA_ANY_SEED = (-1, 0xFFFFFFFF)
LONGEST_VALUE = 40  # characters of a wrong value that an error repeats
UNSUPPORTED = {"logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0}  # but as they mean nothing


class RequestError(Exception):
    """A request that cannot be answered, as the API says it."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None):
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Question:
    """What a request asks for: tasks, and how the answers are to be sent."""

    tasks: list[Task]
    is_streamed: bool = False
    echo: bool = False
    with_usage: bool = False  # at the end of a stream
    kept: int = 1  # completions of each prompt, if more are written than are sent
    fields: tuple[str, ...] | None = None  # of the answer, by llama.cpp's response_fields


def parse_json(body: bytes) -> dict[str, Any]:
    """Raises: RequestError if it is no JSON object."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise RequestError("the body is not a JSON object")
    return content


def openai_question(content: dict[str, Any], vocabulary: Vocabulary) -> Question:
    """POST /v1/completions. Raises: RequestError."""
    for name, neutral in UNSUPPORTED.items():
        if content.get(name) not in (None, neutral):
            raise RequestError(f"{name} is not supported", name)
    prompts = read_prompts(content.get("prompt", ""), vocabulary)
    suffix = text_of(content.get("suffix"), "suffix")
    samples = setting(content, "n", "samples", 1)
    written = max(samples, setting(content, "best_of", "samples", samples))
    if written * len(prompts) > MOST_ROWS:
        raise RequestError(f"more than {MOST_ROWS} completions in one request", "n")
    echo = flag(content, "echo", False)
    logprobs = whole(content, "logprobs", None, MOST_LOGPROBS)
    if echo and logprobs is not None:
        raise RequestError("log probabilities of the prompt are not given: leave out echo", "logprobs")
    if suffix and len(prompts) > 1:
        raise RequestError("a suffix belongs to one prompt", "suffix")
    is_streamed = flag(content, "stream", False)
    if is_streamed and written > samples:
        raise RequestError("best_of cannot be streamed: what is best is known at the end", "best_of")
    tokens = min(whole(content, "max_tokens", DEFAULT_TOKENS, LARGEST), MOST_TOKENS)
    decoding = read_decoding(content, written, tokens)
    options = content.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise RequestError("stream_options is not an object", "stream_options")
    stops = stop_strings(content)
    tasks = [
        Task(
            prompt,
            decoding,
            suffix,
            Stops(stops, follows=suffix, begins_line=prompt.endswith("\n") or not prompt)
            if suffix or stops
            else None,
            logprobs,
            flag(content, "rejected", False),
            flag(content, "sources", False),
            flag(content, "best", False) or written > samples,
        )
        for prompt in prompts
    ]
    return Question(
        tasks,
        is_streamed,
        echo,
        flag(options or {}, "include_usage", False),
        samples,
    )


def llama_question(
    content: dict[str, Any], vocabulary: Vocabulary, *, is_infill: bool, context: int
) -> Question:
    """POST /completion and /infill. Raises: RequestError."""
    prefix = suffix = ""
    prompt = read_prompts(content.get("prompt", ""), vocabulary)
    if len(prompt) > 1:
        raise RequestError("one prompt at a time", "prompt")
    if is_infill:
        prefix, suffix = (text_of(content.get(name), name) for name in ("input_prefix", "input_suffix"))
        suffix = suffix if suffix.strip() else ""
    extra = content.get("input_extra")  # of other files: the model has not learnt to read them
    if extra is not None and not isinstance(extra, list):
        raise RequestError("input_extra is not a list", "input_extra")
    asked = content.get("n_predict", content.get("max_tokens", -1))
    tokens = context if asked in (None, -1, -2) else whole({"n_predict": asked}, "n_predict", 0, LARGEST)
    samples = setting(content, "n_cmpl", "samples", 1)
    if samples > MOST_ROWS:
        raise RequestError(f"more than {MOST_ROWS} completions in one request", "n_cmpl")
    milliseconds = number(content, "t_max_predict_ms", -1)
    seeded = {**content, "seed": None} if content.get("seed") in LLAMA_ANY_SEED else content
    text = prefix + prompt[0]
    stops = Stops(
        stop_strings(content),
        max(0, int(number(content, "n_indent", 0))),
        milliseconds if milliseconds > 0 else None,
        suffix,
        text.endswith("\n") or not text,
    )
    fields = content.get("response_fields")
    is_list = isinstance(fields, list) and all(isinstance(name, str) for name in fields)
    if fields is not None and not is_list:
        raise RequestError("response_fields is not a list of texts", "response_fields")
    decoding = read_decoding(seeded, samples, min(tokens, MOST_TOKENS))
    task = Task(text, decoding, suffix, stops, warms=tokens == 0)
    return Question([task], flag(content, "stream", False), fields=tuple(fields) if fields else None)


def read_decoding(content: dict[str, Any], samples: int, max_tokens: int) -> Decoding:
    """The settings by their names; `stop` is called stop_at, as both APIs mean something else by it."""
    given: dict[str, Any] = {}
    for field in dataclasses.fields(Decoding):
        name = "stop_at" if field.name == "stop" else field.name
        if (
            field.name not in ("max_new_tokens", "samples", "scores", "valid", "seed")
            and content.get(name) is not None
        ):
            given[field.name] = setting(content, name, field.name, field.default)
    valid = flag(content, "valid", True)
    return Decoding(
        **given,
        samples=samples,
        max_new_tokens=max_tokens,
        seed=seed_of(content),
        valid=valid,
        scores=True,
    )


def seed_of(content: dict[str, Any]) -> int | None:
    """Any whole number of 64 bits: programs draw theirs from all of them."""
    value = content.get("seed")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (type(value) is not int or not -SEEDS // 2 <= value < SEEDS):
        raise RequestError("seed is not a whole number of 64 bits", "seed")
    return None if value is None else value % SEEDS


def setting(content: dict[str, Any], name: str, known_as: str, default: Any) -> Any:
    """A value that --help explains too, within the same bounds."""
    value = content.get(name)
    if value is None:
        return default
    parse: Callable[[str], Any] = SETTINGS[known_as][0]
    if isinstance(value, bool) or not isinstance(value, str if known_as == "stop" else int | float):
        raise RequestError(f"{name} is not a {'string' if known_as == 'stop' else 'number'}", name)
    if not isinstance(value, str) and abs(value) < LARGEST and value == int(value):
        value = int(value)  # 16.0 is a whole number to JSON
    text = str(value)
    try:
        return parse(text)
    except argparse.ArgumentTypeError as error:
        short = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
        raise RequestError(f"{name}: {printable(str(error).replace(text, short, 1))}", name) from None


def read_prompts(value: Any, vocabulary: Vocabulary) -> list[str]:
    """A text, a list of texts, token ids or a list of lists of these -> texts."""
    if isinstance(value, str):
        return [text_of(value, "prompt")]
    if not isinstance(value, list) or not value:
        raise RequestError("prompt is neither a text nor a list", "prompt")
    if all(isinstance(part, int) and not isinstance(part, bool) for part in value):
        value = [value]
    if len(value) > MOST_PROMPTS:
        raise RequestError(f"more than {MOST_PROMPTS} prompts in one request", "prompt")
    return [
        text_of_ids(part, vocabulary) if isinstance(part, list) else text_of(part, "prompt", or_null=False)
        for part in value
    ]


def text_of_ids(ids: list[Any], vocabulary: Vocabulary) -> str:
    spellings = vocabulary.token_bytes
    if len(ids) > MOST_PROMPT or not all(type(i) is int and 0 <= i < len(spellings) for i in ids):
        raise RequestError("prompt holds a number that is no token of this model", "prompt")
    return text_of(b"".join(spellings[i] for i in ids).decode(errors="replace"), "prompt")


def text_of(value: Any, name: str, most: int = MOST_PROMPT, *, or_null: bool = True) -> str:
    if value is None and or_null:
        return ""
    if not isinstance(value, str):
        raise RequestError(f"{name} is not a text", name)
    if len(value) > most:
        raise RequestError(
            f"{name} has {len(value):,} characters, more than {most:,}",
            name,
            413,
            "context_length_exceeded",
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{name} holds half of a surrogate pair, which is no text", name) from None
    return value


def stop_strings(content: dict[str, Any]) -> tuple[str, ...]:
    value = content.get("stop")
    strings = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
        raise RequestError("stop is neither a text nor a list of texts", "stop")
    if len(strings) > MOST_STOPS or any(len(string) > LONGEST_STOP for string in strings):
        raise RequestError(f"stop: more than {MOST_STOPS}, or longer than {LONGEST_STOP} characters", "stop")
    return tuple(string for string in strings if string)


def flag(content: dict[str, Any], name: str, default: bool) -> bool:
    value = content.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestError(f"{name} is neither true nor false", name)
    return value


def number(content: dict[str, Any], name: str, default: float) -> float:
    value = content.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise RequestError(f"{name} is not a number", name)
    return value


def whole(content: dict[str, Any], name: str, default: Any, most: int) -> Any:
    """A whole number from 0 to `most`."""
    value = content.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{name} is not a number", name)
    if not 0 <= value <= most or value != int(value):
        raise RequestError(f"{name} is not a whole number from 0 to {most:,}", name)
    return int(value)
