"""POST /infill and /completion as llama.vim and llama.vscode ask them, GET /health and /props."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from project import STDLIB
from python_syntax.compiler import is_complete
from server_process import ServerProcess

TEXT = (STDLIB / "json" / "decoder.py").read_text(encoding="utf-8")
PLACE = TEXT.index("    def raw_decode")


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx2.Client]:
    with server.client() as asking:
        yield asking


def vim_request(prefix: str, line: str, suffix: str, **others: Any) -> dict[str, Any]:
    """What llama.vim sends (its autoload/llama.vim of January 2026)."""
    fields = (
        "content timings/prompt_n timings/prompt_ms timings/prompt_per_token_ms timings/prompt_per_second"
    )
    fields += " timings/predicted_n timings/predicted_ms timings/predicted_per_token_ms"
    fields += " timings/predicted_per_second truncated tokens_cached"
    return {
        "id_slot": 0,
        "input_prefix": prefix,
        "input_suffix": suffix,
        "input_extra": [{"text": "x = 1\n", "time": 1.5, "filename": "other.py"}],
        "prompt": line,
        "n_predict": 24,
        "stop": [],
        "n_indent": len(line) - len(line.lstrip()),
        "top_k": 40,
        "top_p": 0.90,
        "samplers": ["top_k", "top_p", "infill"],
        "stream": False,
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 1000,
        "response_fields": fields.split(),
        **others,
    }


def test_llama_vim_gets_the_fields_that_it_reads(client: httpx2.Client) -> None:
    request = vim_request(TEXT[:PLACE], "    def decode_all", "\n" + TEXT[PLACE:] + "\n")
    answer = client.post("/infill", json=request)
    assert answer.status_code == 200
    found = answer.json()
    assert set(found) == set(request["response_fields"])
    assert isinstance(found["content"], str) and found["truncated"] is False
    assert all(isinstance(found[f"timings/{name}"], int | float) for name in ("prompt_ms", "predicted_n"))
    assert '"content":"' in answer.text.replace(" ", ""), "by which llama.vim knows an answer"


def test_what_an_editor_inserts_leaves_the_file_valid(client: httpx2.Client) -> None:
    for line in ("    def decode_all", "        ", "    x = [1, ", "    def f(self, s):\n        return s."):
        request = vim_request(TEXT[:PLACE], line, "\n\n" + TEXT[PLACE:], response_fields=None, n_indent=0)
        found = client.post("/infill", json=request).json()
        assert found["valid"] is True
        assert is_complete(TEXT[:PLACE] + line + found["content"] + "\n\n" + TEXT[PLACE:], 0)


def test_a_window_that_begins_and_ends_within_methods_is_judged(client: httpx2.Client) -> None:
    lines = TEXT.split("\n")
    first = next(i for i, line in enumerate(lines) if "self.object_hook = " in line)
    place = next(i for i, line in enumerate(lines) if "def raw_decode" in line)
    prefix, suffix = "\n".join(lines[first:place]) + "\n", "\n".join(lines[place : place + 4])
    request = vim_request(prefix, "    def decode_all(self", "\n" + suffix, response_fields=None)
    found = client.post("/infill", json=request).json()
    assert found["valid"] is True and "note" not in found
    assert is_complete(TEXT[:PLACE] + "    def decode_all(self" + found["content"] + "\n" + TEXT[PLACE:], 0)


def test_a_request_that_warms_the_cache_writes_nothing(client: httpx2.Client) -> None:
    request = vim_request("import os\n\n\ndef walk_all(", "", "", n_predict=0, response_fields=[""])
    assert client.post("/infill", json=request).json() == {}
    again = vim_request("import os\n\n\ndef walk_all(", "", "", response_fields=None)
    assert client.post("/infill", json=again).json()["timings"]["cache_n"] >= 5


def test_llama_vscode_gets_several_completions_as_a_list(client: httpx2.Client) -> None:
    """Its src/llama-server.ts of August 2026; it reads `content` of one object or of each in a list."""
    request = vim_request("import os\n", "def f(", ")\n", n_cmpl=3, response_fields=None, top_p=0.99)
    found = client.post("/infill", json=request).json()
    assert len(found) == 3 and all(isinstance(each["content"], str) for each in found)
    assert [each["index"] for each in found] == [0, 1, 2]


def test_writing_stops_at_a_line_that_is_indented_less(client: httpx2.Client) -> None:
    line = "        self."
    for seed in range(4):
        request = vim_request(TEXT[:PLACE], line, "\n\n" + TEXT[PLACE:], n_predict=60, seed=seed)
        lines = client.post("/infill", json=request).json()["content"].split("\n")
        assert all(not later.strip() or later.startswith(" " * 8) for later in lines[1:])


def test_a_completion_is_streamed_with_its_figures_at_the_end(client: httpx2.Client) -> None:
    prompt = "def area(width, height):\n"  # which cannot be the end
    request = {"prompt": prompt, "n_predict": 12, "stream": True, "seed": -1}
    chunks = client.post("/completion", json=request).text.strip().split("\n\n")
    *pieces, last = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
    assert pieces and all(piece["stop"] is False and piece["content"] for piece in pieces)
    assert last["stop"] is True and last["content"] == ""
    assert last["timings"]["predicted_n"] == last["tokens_predicted"]
    assert last["stop_type"] in ("eos", "limit")


def test_a_seed_gives_the_same_completion(client: httpx2.Client) -> None:
    request = {"prompt": "import os\n", "n_predict": 12, "seed": 4}
    first, second = (client.post("/completion", json=request).json()["content"] for _ in range(2))
    assert first == second


def test_the_stop_string_is_named(client: httpx2.Client) -> None:
    request = {"prompt": "import ", "n_predict": 40, "stop": ["\n"], "seed": 1, "valid": False}
    found = client.post("/completion", json=request).json()
    if found["stop_type"] == "word":
        assert found["stopping_word"] == "\n" and "\n" not in found["content"]
    else:
        assert found["tokens_predicted"] == 40 or found["stop_type"] == "eos"


def test_health_and_properties_are_llama_cpps(client: httpx2.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    properties = client.get("/props").json()
    assert properties["default_generation_settings"]["n_ctx"] == 128
    assert properties["model_path"] == "GPyT", "a name, not a path of this machine"


@pytest.mark.parametrize(
    "wrong",
    [{"input_prefix": 5}, {"input_suffix": []}, {"input_extra": "x"}, {"n_predict": "x"}, {"n_predict": 1.5},
     {"t_max_predict_ms": "x"}, {"n_indent": None, "prompt": 5}, {"prompt": ["a", "b"]}, {"n_cmpl": 0},
     {"n_cmpl": 100}, {"seed": "x"}, {"stream": 1}, {"response_fields": "content"},
     {"response_fields": [1]}],
)  # fmt: skip
def test_a_wrong_value_is_an_error(client: httpx2.Client, wrong: dict[str, Any]) -> None:
    answer = client.post("/infill", json=vim_request("x", "", "", **wrong))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in wrong
