"""POST /v1/completions and GET /v1/models, asked by OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from python_syntax.compiler import is_complete
from server_process import ServerProcess

PROMPT = "import asyncio\n\n\nclass Stack:\n    def __init__(self):\n        "


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as asking:
        yield asking


def ask(client: openai.OpenAI, prompt: Any = PROMPT, **options: Any) -> Any:
    known = {"suffix", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "logprobs", "echo",
             "best_of", "stream", "stream_options"}  # fmt: skip
    ours = {name: value for name, value in options.items() if name not in known}
    theirs = {name: value for name, value in options.items() if name in known}
    given: dict[str, Any] = {"model": "any", "prompt": prompt, "seed": 1, "max_tokens": 24, **theirs}
    return client.completions.create(**given, extra_body=ours)


def test_the_model_is_listed_under_the_name_of_its_folder(client: openai.OpenAI) -> None:
    [model] = client.models.list().data
    assert (model.id, model.object) == ("GPyT", "model")
    assert client.models.retrieve("GPyT") == model


def test_a_model_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_a_completion_compiles_and_says_so(client: openai.OpenAI) -> None:
    [choice] = ask(client).choices
    assert choice.text and is_complete(PROMPT + choice.text + "\n", 0)
    assert choice.valid is True
    assert choice.finish_reason in ("length", "stop")


def test_the_usage_counts_what_was_read_and_written(client: openai.OpenAI) -> None:
    usage = ask(client, "x = 1\n", max_tokens=7, valid=False).usage
    assert usage.completion_tokens <= 7
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens >= 3


def test_without_a_number_of_tokens_sixteen_are_written(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="m", prompt="x = [", temperature=0, extra_body={"valid": False})
    assert answer.usage and answer.usage.completion_tokens <= 16


def test_the_same_seed_writes_the_same_text(client: openai.OpenAI) -> None:
    assert ask(client, seed=5).choices[0].text == ask(client, seed=5).choices[0].text
    texts = {ask(client, seed=seed, valid=False).choices[0].text for seed in range(6)}
    assert len(texts) > 1


def test_without_the_judge_nothing_is_said_about_validity(client: openai.OpenAI) -> None:
    [choice] = ask(client, valid=False).choices
    assert choice.valid is None


def test_a_prompt_that_is_no_python_is_completed_and_a_note_says_so(client: openai.OpenAI) -> None:
    answer = ask(client, "This is a sentence.\n")
    assert answer.choices[0].valid is None
    assert "your prompt is not Python" in answer.note


def test_a_stream_is_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    whole = ask(client).choices[0]
    chunks = list(ask(client, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.text
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    last = chunks[-1].choices[0]
    assert (last.finish_reason, last.valid, last.text) == (whole.finish_reason, True, "")


def test_a_stream_ends_with_done(server: ServerProcess) -> None:
    with server.client() as client:
        body = client.post("/v1/completions", json={"prompt": "x", "stream": True, "max_tokens": 2}).text
    lines = body.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(line.removeprefix("data: "))["object"] == "text_completion" for line in lines[:-2])


def test_the_usage_of_a_stream_is_sent_if_it_is_asked_for(client: openai.OpenAI) -> None:
    *_, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage.completion_tokens > 0


def test_several_samples_of_several_prompts_are_numbered_prompt_by_prompt(client: openai.OpenAI) -> None:
    answer = ask(client, ["x = ", "y = "], n=2, echo=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text[0] for choice in answer.choices] == ["x", "x", "y", "y"]


def test_a_sample_is_the_same_however_many_there_are(client: openai.OpenAI) -> None:
    [alone] = ask(client, seed=3).choices
    assert ask(client, seed=3, n=3).choices[0].text == alone.text


def test_samples_stream_side_by_side(client: openai.OpenAI) -> None:
    texts = {0: "", 1: ""}
    for chunk in ask(client, stream=True, n=2, valid=False):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert [choice.text for choice in ask(client, n=2, valid=False).choices] == [texts[0], texts[1]]


def test_the_best_comes_first(client: openai.OpenAI) -> None:
    ranked = ask(client, n=4, best=True).choices
    assert [choice.rank for choice in ranked] == [0, 1, 2, 3]
    assert {choice.text for choice in ranked} == {choice.text for choice in ask(client, n=4).choices}
    [best] = ask(client, best_of=4).choices
    assert best.text == ranked[0].text


def test_ranks_are_said_at_the_end_of_a_stream(client: openai.OpenAI) -> None:
    chunks = list(ask(client, n=3, best=True, stream=True))
    ends = [chunk.choices[0] for chunk in chunks if chunk.choices[0].finish_reason]
    assert [end.rank for end in ends] == [0, 1, 2] and sorted(end.index for end in ends) == [0, 1, 2]
    assert chunks[-3:] == [chunk for chunk in chunks if chunk.choices[0].finish_reason]


@pytest.fixture
def unjudged(client: openai.OpenAI) -> dict[str, Any]:
    """A question after which the model writes more than some characters."""
    for seed in range(1, 20):
        options: dict[str, Any] = {
            "prompt": "import os\nx = ",
            "valid": False,
            "max_tokens": 40,
            "seed": seed,
        }
        if len(ask(client, **options).choices[0].text.strip()) > 8:
            return options
    raise AssertionError("this model writes nothing")


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI, unjudged: dict[str, Any]) -> None:
    whole = ask(client, **unjudged).choices[0].text
    word = whole.strip()[2:5]
    cut = ask(client, **unjudged, stop=[word, "never"]).choices[0]
    assert cut.text == whole[: whole.index(word)]
    assert cut.finish_reason == "stop"


def test_of_a_stop_string_nothing_is_streamed(client: openai.OpenAI, unjudged: dict[str, Any]) -> None:
    whole = ask(client, **unjudged).choices[0].text
    word = whole.strip()[1:8]
    chunks = list(ask(client, **unjudged, stop=word, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole[: whole.index(word)]


def test_a_text_that_a_stop_string_leaves_open_is_not_called_valid(client: openai.OpenAI) -> None:
    [choice] = ask(client, "x = foo(\n1", stop="\n", max_tokens=60).choices
    assert choice.valid is is_complete(f"x = foo(\n1{choice.text}\n", 0)
    [choice] = ask(client, "class A", temperature=0, stop="\n").choices
    assert "\n" not in choice.text
    assert choice.valid is is_complete(f"class A{choice.text}\n", 0)


def test_the_log_probabilities_lead_through_the_text(client: openai.OpenAI) -> None:
    [choice] = ask(client, logprobs=3, max_tokens=40).choices
    found = choice.logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(found.text_offset)
    for token, offset in zip(found.tokens, found.text_offset, strict=True):
        assert token.startswith("bytes:") or choice.text[offset:].startswith(
            token[: len(choice.text) - offset]
        )
    assert all(-50 < value <= 0 for value in found.token_logprobs)
    assert all(len(top) == 3 for top in found.top_logprobs)
    assert all(list(top.values()) == sorted(top.values(), reverse=True) for top in found.top_logprobs)


def test_streamed_tokens_join_to_the_streamed_text(client: openai.OpenAI, unjudged: dict[str, Any]) -> None:
    chunks = [chunk.choices[0] for chunk in ask(client, **unjudged, logprobs=0, stream=True)]
    pieces = [chunk for chunk in chunks if chunk.finish_reason is None]
    tokens = [token for piece in pieces for token in piece.logprobs.tokens]
    text = "".join(piece.text for piece in pieces)
    assert "".join(tokens).startswith(text) or "bytes:" in "".join(tokens)
    offsets = [offset for piece in pieces for offset in piece.logprobs.text_offset]
    assert offsets == sorted(offsets) and offsets[0] == 0


def test_at_temperature_zero_each_token_is_the_likeliest(client: openai.OpenAI) -> None:
    options = {"temperature": 0, "logprobs": 1, "valid": False, "loop_penalty": 0, "max_tokens": 13}
    [choice] = ask(client, "import asyncio\n", **options).choices
    found = choice.logprobs
    likeliest = [next(iter(top.values())) for top in found.top_logprobs]
    assert found.token_logprobs[1:] == likeliest[1:]  # the first begins with the end of the prompt


def test_what_the_judge_refused_is_said_where_it_would_have_stood(client: openai.OpenAI) -> None:
    found = []
    for seed in range(4):
        [choice] = ask(client, rejected=True, max_tokens=48, temperature=1.5, seed=seed).choices
        assert all(0 <= refusal["offset"] <= len(choice.text) + 200 for refusal in choice.rejected)
        found += choice.rejected
    assert found and all(refusal["text"] and refusal["reason"] for refusal in found)


def test_the_prompt_is_repeated_if_that_is_asked_for(client: openai.OpenAI) -> None:
    plain, echoed = ask(client).choices[0].text, ask(client, echo=True).choices[0].text
    assert echoed == PROMPT + plain
    streamed = "".join(chunk.choices[0].text for chunk in ask(client, echo=True, stream=True))
    assert streamed == echoed


def test_token_ids_are_a_prompt_too(client: openai.OpenAI) -> None:
    answer = ask(client, [10, 20, 30], echo=True, valid=False)
    assert len(answer.choices) == 1
    assert len(ask(client, [[10, 20, 30], [40]], valid=False).choices) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": -1}, {"max_tokens": "5"}, {"max_tokens": 1.5}, {"temperature": "hot"},
        {"temperature": -1}, {"temperature": True}, {"top_p": 2}, {"top_k": -1}, {"n": 0}, {"n": 33},
        {"seed": 1.5}, {"seed": 1 << 64}, {"seed": -(1 << 63) - 1}, {"seed": True}, {"seed": "1"},
        {"stream_options": True}, {"max_tokens": 1 << 40}, {"temperature": 10**300},
        {"stop": [1]}, {"stop": ["x"] * 17}, {"stop": "x" * 300}, {"suffix": ["x"]}, {"logprobs": 50},
        {"logprobs": True}, {"echo": "yes"}, {"echo": True, "logprobs": 1}, {"valid": 1}, {"rejected": "x"},
        {"logit_bias": {"5": 1}}, {"presence_penalty": 1}, {"repetition_penalty": 0}, {"stop_at": "line"},
        {"best_of": 3, "stream": True}, {"stream": "true"},
    ],
)  # fmt: skip
def test_a_wrong_value_is_answered_in_the_form_of_the_api(
    client: openai.OpenAI, wrong: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **wrong)
    body: Any = caught.value.body
    assert body["type"] == "invalid_request_error" and body["code"] is None
    assert body["param"] in wrong and body["param"] in body["message"].replace(
        "log probabilities", "logprobs"
    )


@pytest.mark.parametrize("prompt", [5, None, {}, [None], ["x", 5], [10**9], [[-1]], [True], []])
def test_a_prompt_that_is_no_text_is_refused(server: ServerProcess, prompt: Any) -> None:
    with server.client() as client:
        answer = client.post("/v1/completions", json={"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"null", b"[" * 100_000, b"{" * 9, b'{"a":' + b"9" * 5000 + b"}", b"\xff\xfe"]
)
def test_what_is_no_json_object_is_refused(server: ServerProcess, body: bytes) -> None:
    with server.client() as client:
        answer = client.post("/v1/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("the body is not")


def test_half_of_a_surrogate_pair_is_refused(server: ServerProcess) -> None:
    with server.client() as client:
        answer = client.post("/v1/completions", content=b'{"prompt": "\\ud800"}')
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")


def test_nul_bytes_and_foreign_scripts_are_completed(client: openai.OpenAI) -> None:
    for prompt in ("x = '\0", "# ümläut 🐍\nx = ", "\ufeffimport os\r\n", "\x1b[31m"):
        assert ask(client, prompt, max_tokens=4).choices


@pytest.mark.parametrize("seed", [-1, -(1 << 63), (1 << 63) - 1, 1 << 32, 7.0])
def test_any_seed_of_64_bits_is_one(client: openai.OpenAI, seed: Any) -> None:
    assert ask(client, seed=seed).choices[0].text == ask(client, seed=seed).choices[0].text


def test_a_temperature_next_to_zero_is_zero(client: openai.OpenAI) -> None:
    cold, coldest = (ask(client, temperature=value).choices[0].text for value in (0, 1e-320))
    assert cold == coldest


def test_an_error_repeats_neither_megabytes_nor_what_no_terminal_shows(server: ServerProcess) -> None:
    with server.client() as client:
        for value in ("\\ud800", "\\u001b[31m", "x" * 100_000, "9" * 400):
            for name in ("stop_at", "temperature", "n"):
                quoted = value if value[0] == "9" and name != "stop_at" else f'"{value}"'
                answer = client.post("/v1/completions", content=f'{{"prompt": "x", "{name}": {quoted}}}')
                message = answer.json()["error"]["message"]
                assert answer.status_code == 400 and len(message) < 200 and message.isprintable()


def test_a_number_that_is_too_large_is_said_to_be_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="max_tokens is not a whole number from 0 to 2,147,"):
        ask(client, max_tokens=1 << 40)
    with pytest.raises(openai.BadRequestError, match=r"top_k: 1099511627776 is not .* from 0 to 2147483647"):
        ask(client, top_k=1 << 40)
