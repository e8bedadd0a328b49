"""The requests of llama.vscode and Continue, as their sources have them; those of llama.vim are elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from server_process import ServerProcess


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx2.Client]:
    with server.client() as asking:
        yield asking


def vscode_request(**others: Any) -> dict[str, Any]:
    """llama.vscode, src/llama-server.ts and completion.ts of August 2026."""
    return {
        "id_slot": 0,
        "input_prefix": "import os\n\n\ndef walk(path):\n",
        "input_suffix": "\n\nx = 1\n",
        "input_extra": [{"text": "y = 1\n", "time": 1764500000000, "filename": "file:///home/you/y.py"}],
        "prompt": "    return ",
        "n_predict": 24,
        "n_cmpl": 3,
        "top_k": 40,
        "top_p": 0.99,
        "stream": False,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True,
        "n_indent": 4,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 500,
        **others,
    }


def test_llama_vscode_gets_three_completions(client: httpx2.Client) -> None:
    answer = client.post("/infill", json=vscode_request(), headers={"user-agent": "axios/1.8"})
    found = answer.json()
    assert answer.status_code == 200 and [each["index"] for each in found] == [0, 1, 2]
    assert all(isinstance(each["content"], str) and each["timings"]["predicted_ms"] >= 0 for each in found)


def test_llama_vscode_prepares_the_next_request_with_other_files(client: httpx2.Client) -> None:
    request = vscode_request(
        input_prefix="", input_suffix="", prompt="", n_predict=0, samplers=[], t_max_predict_ms=1
    )
    for name in ("n_cmpl", "top_k", "top_p", "stream", "n_indent"):
        del request[name]
    assert client.post("/infill", json=request).json()["content"] == ""


def continue_request(prompt: str) -> dict[str, Any]:
    """Continue, core/llm/llms/LlamaCpp.ts of June 2026, with the template of docs/integrations.md."""
    return {
        "model": "GPyT",
        "prompt": prompt,
        "stream": True,
        "n_predict": 64,
        "stop": ["/src/", "#- coding: utf-8", "```"],
        "temperature": 0.01,
    }


def test_continue_gets_a_stream_whose_pieces_have_content(client: httpx2.Client) -> None:
    snippets = "# Path: other.py\n# def f():\n#     pass\n# Path: this.py\n"
    prompt = f"{snippets}import os\n\n\ndef walk(path):\n    x = "
    answer = client.post(
        "/completion", json=continue_request(prompt), headers={"authorization": "Bearer undefined"}
    )
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert answer.status_code == 200 and events[-1]["stop"] is True
    assert "".join(event["content"] for event in events).strip()


def test_continue_may_leave_after_the_first_line(client: httpx2.Client) -> None:
    for _ in range(3):
        with client.stream("POST", "/completion", json=continue_request("import os\n")) as answer:
            assert next(answer.iter_lines()).startswith("data: {")
    assert client.get("/health").json() == {"status": "ok"}
