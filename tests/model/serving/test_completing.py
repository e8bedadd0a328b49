"""A completer that keeps what it has read: what it reads, how little of it anew, and around a gap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from generation.completer import load_engine
from inference.cpu_engine import CpuEngine
from inference.decoding import Decoding
from inference.language_model import Array, KeyValueCache
from pretrained.load import read_pretrained
from project import STDLIB
from serving.completing import Begun, ServingCompleter
from serving.prompt_cache import PromptCache
from tiny_model import save_tiny_model

TEXT = (STDLIB / "json" / "decoder.py").read_text(encoding="utf-8")


class CountingEngine:
    """An engine that counts the tokens which it reads."""

    def __init__(self, engine: CpuEngine) -> None:
        self.engine, self.config, self.read = engine, engine.config, 0
        self.new_cache = engine.new_cache

    def next_logits(self, ids: Sequence[Sequence[int]], cache: KeyValueCache) -> Array:
        self.read += sum(map(len, ids))
        return self.engine.next_logits(ids, cache)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), n_positions=256)


def load(folder: Path, *, fills_in: bool = True, cache: int = 1 << 26) -> ServingCompleter:
    pretrained = read_pretrained(folder)
    engine = load_engine(pretrained, "cpu")
    assert isinstance(engine, CpuEngine)
    return ServingCompleter(
        CountingEngine(engine), pretrained.vocabulary, PromptCache(cache), fills_in=fills_in
    )


def complete(
    completer: ServingCompleter, prompt: str, suffix: str = "", **options: object
) -> tuple[Begun, int]:
    """Complete a prompt -> what had begun, and how many tokens were read of the prompt."""
    settings = {"max_new_tokens": 6, "seed": 1, "valid": False, "scores": True, **options}
    decoding = Decoding(**settings)  # type: ignore[arg-type]
    begun = completer.begin(prompt, suffix, decoding, lambda: None)
    before = completer.model.read  # type: ignore[attr-defined]
    for _ in completer.write(begun.samples, decoding):
        continue
    read = completer.model.read - before  # type: ignore[attr-defined]
    return begun, read - sum(sample.window.passes for sample in begun.samples)


def test_a_keystroke_costs_its_own_tokens(folder: Path) -> None:
    completer = load(folder)
    _, first = complete(completer, TEXT[:400])
    later = [complete(completer, TEXT[:end])[1] for end in range(401, 440)]
    assert first > 60
    assert max(later) <= 8 and sum(later) / len(later) < 5


def test_a_keystroke_in_a_text_longer_than_the_context_mostly_costs_its_own_tokens(folder: Path) -> None:
    completer = load(folder)
    complete(completer, TEXT[:6000])
    later = sorted(complete(completer, TEXT[:end])[1] for end in range(6001, 6060))
    assert later[len(later) * 3 // 4] <= 10


def test_before_a_suffix_too(folder: Path) -> None:
    completer = load(folder)
    _, first = complete(completer, TEXT[:400], TEXT[440:])
    later = [complete(completer, TEXT[:end], TEXT[440:])[1] for end in range(401, 440)]
    assert first > 60
    assert max(later) <= 8


def test_what_was_written_is_known_when_it_is_continued(folder: Path) -> None:
    completer = load(folder)
    begun, _ = complete(completer, TEXT[:300], max_new_tokens=20)
    ids = begun.samples[0].ids
    assert completer.prompts.load(ids, completer.model.new_cache(1, 256), 0) == len(ids) - 1


@pytest.mark.parametrize("suffix", ["", "\n    return x\n"])
def test_known_keys_and_values_change_no_choice(folder: Path, suffix: str) -> None:
    completer, fresh = load(folder), load(folder, cache=0)
    for end in range(300, 340, 7):
        begun, _ = complete(completer, TEXT[:end], suffix, temperature=0)
        expected, _ = complete(fresh, TEXT[:end], suffix, temperature=0)
        assert begun.samples[0].text == expected.samples[0].text


def test_samples_of_a_known_prompt_are_those_of_an_unknown_one(folder: Path) -> None:
    completer = load(folder)
    first, second = (complete(completer, TEXT[:300], samples=3) for _ in range(2))
    assert [s.text for s in first[0].samples] == [s.text for s in second[0].samples]
    assert second[1] < first[1] / 3


def test_samples_that_were_put_away_go_on_as_if_nothing_had_been(folder: Path) -> None:
    from generation.completer import Writing

    completer = load(folder)
    decoding = Decoding(max_new_tokens=40, seed=3, samples=3, valid=True, scores=True)
    expected = completer.begin("import os\nx = ", "", decoding, lambda: None).samples
    for _ in completer.write(expected, decoding):
        continue
    samples = completer.begin("import os\nx = ", "", decoding, lambda: None).samples
    while any(not sample.finished for sample in samples):
        writing = Writing(completer, samples, decoding)
        for _ in range(5):
            if writing.unfinished:
                writing.step()
                writing.drop_finished()
        writing.leave()
    assert [sample.text for sample in samples] == [sample.text for sample in expected]


def test_the_suffix_is_read_before_the_prefix(folder: Path) -> None:
    completer = load(folder)
    ids, pending = completer.reader.read_gap("def f(x):\n    retu", "\n    y = 1\n")
    id_of = completer.vocabulary.tokenizer.token_to_id
    marks = [ids.index(id_of(f"<|fim_{name}|>") or -1) for name in ("prefix", "suffix", "middle")]
    assert marks[0] + 1 == marks[1] < marks[2]
    spelt = b"".join(completer.vocabulary.token_bytes[i] for i in ids[marks[2] + 1 :]) + pending
    assert spelt == b"def f(x):\n    retu" and pending
    after = b"".join(completer.vocabulary.token_bytes[i] for i in ids[marks[1] + 1 : marks[2]])
    assert after == b"\n    y = 1\n"


def test_of_long_surroundings_half_of_the_context_is_left_free(folder: Path) -> None:
    completer = load(folder)
    ids, _ = completer.reader.read_gap(TEXT[:6000], TEXT[6000:])
    assert 64 < len(ids) <= 128


def test_a_long_prompt_leaves_room_for_what_is_written(folder: Path) -> None:
    completer = load(folder)
    for end in range(3000, 6000, 111):
        ids, _ = completer.reader.read_prompt(TEXT[:end], 100)
        assert 256 - 100 - 20 - 32 <= len(ids) <= 256 - 100


def test_a_gap_in_valid_code_is_filled_with_valid_code(folder: Path) -> None:
    for fills_in in (True, False):
        completer = load(folder, fills_in=fills_in)
        for seed in range(4):
            prefix, suffix = "def f(x):\n    y = (x", ")\n    return y\n"
            begun, _ = complete(completer, prefix, suffix, valid=True, seed=seed, max_new_tokens=20)
            [sample] = begun.samples
            assert sample.guaranteed
            compile(prefix + sample.text + suffix, "", "exec")


def test_the_line_ends_of_windows_are_read_as_python_does(folder: Path) -> None:
    completer = load(folder)
    with_returns, _ = complete(completer, "import os\r\nx = 1\r\n")
    plain, _ = complete(completer, "import os\nx = 1\n")
    assert with_returns.samples[0].ids == plain.samples[0].ids


def test_weights_that_are_no_numbers_are_an_error(folder: Path) -> None:
    from model_cli import UserError

    completer = load(folder)
    completer.model.engine.weights["wte.weight"][:] = np.nan  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="not finite numbers"):
        complete(completer, "x = 1")
