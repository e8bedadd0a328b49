"""llama.cpp's own server in this process, asked over loopback as any program would ask it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any


class LlamaServer:
    """A model in llama.cpp, with a cache of keys and values in float32; ends with its last reference."""

    def __init__(self, gguf: Path, batch: int | None = None) -> None:
        """batch: llama-server's -b, the most tokens that /infill reads around a gap."""
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(gguf)
        parameters.n_gpu_layers = 0
        parameters.warmup = False
        parameters.n_parallel = 1
        if batch is not None:
            parameters.n_batch = batch
        parameters.cpuparams.n_threads = 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.server = xllamacpp.Server(parameters)

    def ask(self, path: str, **question: Any) -> Any:
        """The answer to a question, both as JSON."""
        body = json.dumps(question).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.server.listening_address + path, body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tokens_of(self, text: str) -> list[int]:
        """The ids of a text in which nothing is special."""
        ids: list[int] = self.ask("/tokenize", content=text, parse_special=False, add_special=False)["tokens"]
        return ids

    def greedy(self, context: list[int], new_tokens: int) -> list[int]:
        """The likeliest ids after these, the end of the text not among them."""
        answer = self.ask(
            "/completion", prompt=context, n_predict=new_tokens, temperature=0, return_tokens=True
        )
        ids: list[int] = answer["tokens"]
        return ids
