"""The contenders of benchmarks/generate.py: each runs in a process of its own and writes when asked.

    python benchmarks/contenders.py transformers --model GPyT --threads 1     # generate.py does this

Reads one JSON object a line, {"prompt": "import os\n", "tokens": 200}, and answers each with another: the
ids of the greedy tokens, how many of them stay in the text, CPU seconds, seconds on the clock, milliseconds
to the first token and to the first text that is shown, and the peak of the process's memory so far, in bytes.
Only the whole generator stops at the end-of-text token.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey import PROJECT, HelpFormatter

sys.path.insert(0, str(PROJECT / "model"))

if TYPE_CHECKING:
    from inference.language_model import LanguageModel
    from pretrained.load import Pretrained

# Our engines, by the bits of a weight; the others are compared with the first, torch in float32.
PRECISIONS = {"fp32": 32, "int16": 16, "int8": 8}


def load_in(pretrained: Pretrained, bits: int) -> LanguageModel:
    """The model with so many bits a weight."""
    if bits == 32:
        import torch

        from inference.torch_engine import TorchEngine
        from pretrained.load import load_tensors

        return TorchEngine(
            pretrained.config,
            load_tensors(pretrained.weight_files, pretrained.config, torch.device("cpu"), torch.float32),
        )
    from inference.cpu_engine import CpuEngine
    from pretrained.load import load_weights

    return CpuEngine(pretrained.config, load_weights(pretrained), bits)


@dataclasses.dataclass(frozen=True)
class Export:
    """What model/export.py must have written for a contender, and the package that reads it."""

    package: str
    format: str
    dtype: str


EXPORTS = {
    "CTranslate2 fp32": Export("ctranslate2", "ctranslate2", "f32"),
    "CTranslate2 int8": Export("ctranslate2", "ctranslate2", "int8"),
    "llama.cpp F16": Export("llama_cpp", "gguf", "f16"),
    "llama.cpp Q8_0": Export("llama_cpp", "gguf", "int8"),
}

Ids = list[int]


class Writer:
    """What a contender does with a prompt; `write` is what is timed."""

    def __init__(self, folder: Path, threads: int) -> None:
        from pretrained.load import read_pretrained

        self.pretrained = read_pretrained(folder)
        self.vocabulary = self.pretrained.vocabulary
        self.threads = threads

    def context(self, prompt: str) -> Ids:
        return [self.vocabulary.begin_id or 0, *self.vocabulary.encode(prompt)]

    def read(self, prompt: str) -> Any:
        """What `write` takes: here the ids."""
        return self.context(prompt)

    def write(self, prompt: Any, tokens: int) -> Any:
        """Greedy tokens after the prompt, as many as asked for."""
        raise NotImplementedError

    def ids(self, written: Any) -> Ids:
        answer: Ids = written
        return answer

    def kept(self, written: Any) -> int:
        return len(written)

    def milliseconds_to_text(self, prompt: Any, tokens: int) -> float | None:
        """Until the first text can be shown; None if that is the first token."""
        return None


class Transformers(Writer):
    """GPT2LMHeadModel.generate in float32 with its cache and the attention that it chooses itself."""

    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__(folder, threads)
        import torch
        from transformers import GPT2LMHeadModel, logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.set_num_threads(threads)
        self.model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)  # in eval mode
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = self.vocabulary.never_written[0]

    def write(self, prompt: Ids, tokens: int) -> Ids:
        import torch

        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        written = self.model.generate(
            ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, use_cache=True
        )
        answer: Ids = written[0, len(prompt) :].tolist()
        return answer


class OurPass(Writer):
    """Our forward pass and the likeliest token, without the text."""

    def __init__(self, folder: Path, threads: int, bits: int) -> None:
        super().__init__(folder, threads)
        if bits == 32:
            import torch

            torch.set_num_threads(threads)
        self.model = load_in(self.pretrained, bits)

    def write(self, prompt: Ids, tokens: int) -> Ids:
        cache = self.model.new_cache(1, len(prompt) + tokens)
        written: Ids = []
        while len(written) < tokens:
            logits = self.model.next_logits([written[-1:] or prompt], cache)
            written.append(int(logits.argmax()))
        return written


class Generator(Writer):
    """All that code_generator.py does, loaded in the same way; stops at the end-of-text token."""

    def __init__(self, folder: Path, threads: int, *, valid: bool) -> None:
        super().__init__(folder, threads)
        from generation.completer import load_completer

        self.completer = load_completer(self.pretrained, "cpu")
        self.valid = valid

    def read(self, prompt: str) -> str:
        return prompt

    def pieces(self, prompt: str, tokens: int) -> tuple[Any, Iterator[tuple[int, str]]]:
        from inference.decoding import Decoding

        decoding = Decoding(max_new_tokens=tokens, temperature=0, loop_penalty=0, valid=self.valid)
        [sample] = samples = self.completer.start(prompt, decoding)
        return sample, self.completer.write(samples, decoding)

    def write(self, prompt: str, tokens: int) -> Any:
        sample, pieces = self.pieces(prompt, tokens)
        for _ in pieces:
            pass
        return sample

    def ids(self, written: Any) -> Ids:
        """None: the text counts, whose tokens differ where the prompt's last token is written again."""
        return []

    def kept(self, written: Any) -> int:
        """How many tokens of what the model wrote are printed."""
        stays = os.path.commonprefix([written.raw, written.text])  # noqa: RUF071 (of characters)
        return len(self.vocabulary.encode(stays))

    def milliseconds_to_text(self, prompt: str, tokens: int) -> float:
        started = time.perf_counter()
        next(self.pieces(prompt, tokens)[1], None)
        return 1000 * (time.perf_counter() - started)


class CTranslate2(Writer):
    """ctranslate2.Generator on a folder that export.py wrote, in the type that it was written in."""

    def __init__(self, folder: Path, threads: int, *, export: Path, kind: str) -> None:
        super().__init__(folder, threads)
        import ctranslate2

        self.generator = ctranslate2.Generator(
            str(export), device="cpu", compute_type=kind, inter_threads=1, intra_threads=threads
        )

    def read(self, prompt: str) -> list[str | None]:
        return [self.vocabulary.tokenizer.id_to_token(token_id) for token_id in self.context(prompt)]

    def write(self, prompt: list[str], tokens: int) -> Ids:
        end = self.vocabulary.never_written[:1]  # an unused special token: it would stop at the real one
        [result] = self.generator.generate_batch(
            [prompt], max_length=tokens, include_prompt_in_result=False, end_token=end
        )
        ids: Ids = result.sequences_ids[0]
        return ids


class LlamaCpp(Writer):
    """llama_cpp.Llama on a GGUF file that export.py wrote; forgets the last prompt."""

    def __init__(self, folder: Path, threads: int, *, export: Path) -> None:
        super().__init__(folder, threads)
        from llama_cpp import Llama

        self.model: Any = Llama(
            str(export),
            n_ctx=self.pretrained.config.block_size,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def write(self, prompt: Ids, tokens: int) -> Ids:
        self.model.reset()
        return list(islice(self.model.generate(prompt, temp=0.0), tokens))


def contenders(folder: Path, exports: Path, threads: int) -> dict[str, Callable[[], Writer]]:
    """How each contender is made, by name, in the table's order; without those whose package is missing."""
    made: dict[str, Callable[[], Writer]] = {"transformers": partial(Transformers, folder, threads)}
    for name, bits in PRECISIONS.items():
        made[f"GPyT {name}, pass alone"] = partial(OurPass, folder, threads, bits)
    made["GPyT, --no-valid"] = partial(Generator, folder, threads, valid=False)
    made["GPyT, judged"] = partial(Generator, folder, threads, valid=True)
    for name, export in EXPORTS.items():
        place = exports / name
        if export.package == "ctranslate2":
            kind = {"f32": "float32", "int8": "int8"}[export.dtype]
            made[name] = partial(CTranslate2, folder, threads, export=place, kind=kind)
        else:
            made[name] = partial(LlamaCpp, folder, threads, export=place)
        if find_spec(export.package) is None:
            del made[name]
    return made


def peak_bytes() -> int:
    """The most memory that this process has had; getrusage would include its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def answer(writer: Writer, prompt: str, tokens: int) -> dict[str, Any]:
    """Write once in full and once a single token."""
    given = writer.read(prompt)
    started, cpu_started = time.perf_counter(), time.process_time()
    written = writer.write(given, tokens)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    started = time.perf_counter()
    writer.write(given, 1)
    first = 1000 * (time.perf_counter() - started)
    return {
        "ids": writer.ids(written),
        "kept": writer.kept(written),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "first": first,
        "shown": writer.milliseconds_to_text(given, tokens),
        "peak": peak_bytes(),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("name", help="which of them")
    parser.add_argument("--model", type=Path, default=Path("GPyT"), help="the model's folder")
    parser.add_argument("--exports", type=Path, default=Path("exports"), help="what export.py wrote")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args(argv)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to standard error
    writer = contenders(arguments.model, arguments.exports, arguments.threads)[arguments.name]()
    for line in sys.stdin:
        print(json.dumps(answer(writer, **json.loads(line))), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
