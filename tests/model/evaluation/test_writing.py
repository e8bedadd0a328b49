"""Writing at places in held-out files: where, how alike, how far it is Python, and whose it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attribution.copies import Source, SourceNotes
from attribution.index import SPAN
from evaluation.scoring import SampledText
from evaluation.writing import (
    Place,
    Writing,
    choose_gaps,
    choose_places,
    count_names,
    gap_figures,
    good_bytes,
    likeness,
    longest_that_compiles,
    summary,
)
from generation.completer import Completer, load_completer
from pretrained.load import read_pretrained
from project import STDLIB
from tiny_index import index_texts
from tiny_model import save_tiny_model

CODE = (STDLIB / "json/decoder.py").read_text("utf-8")
TEXTS = [
    SampledText("installed/json", file.name, file.read_bytes(), np.zeros(0, np.int64), True)
    for file in sorted((STDLIB / "json").glob("*.py"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def completer(folder: Path) -> Completer:
    return load_completer(read_pretrained(folder), "cpu")


def writing(folder: Path, completer: Completer) -> Writing:
    return Writing(completer, SourceNotes(folder, completer.vocabulary), tokens=20, seed=3)


def test_places_are_line_ends_before_a_line_with_something_on_it() -> None:
    places = choose_places(TEXTS, 60)
    assert len(places) == 60
    whole = {text.path: text.text.decode() for text in TEXTS}
    for place in places:
        assert place.prompt + place.rest == whole[place.path]
        assert place.prompt.endswith("\n") and place.prompt.count("\n") >= 10
        assert place.rest.splitlines()[0].strip()


def test_places_are_the_same_each_time_and_of_each_file_in_turn() -> None:
    places = choose_places(TEXTS, 10)
    assert places == choose_places(TEXTS, 10) == choose_places(TEXTS, 40)[:10]
    assert choose_places(TEXTS, 10, seed=1) != places
    long = [text for text in TEXTS if text.text.count(b"\n") > 20]
    assert len({place.path for place in choose_places(TEXTS, len(long))}) == len(long)


def test_a_file_that_is_too_short_has_no_place() -> None:
    short = SampledText("a", "b", b"x = 1\n" * 10, np.zeros(0, np.int64), True)
    assert choose_places([short], 5) == []


@pytest.mark.parametrize(
    ("line", "expected", "is_exact", "similarity", "names_f1"),
    [
        ("    return x", "\treturn x ", True, 1.0, 1.0),
        ("return x", "return y", False, 1 - 1 / 8, 0.0),
        ("f(a, b)", "f(a, c)", False, 1 - 1 / 7, 2 / 3),
        ("", "pass", False, 0.0, 1.0),  # no names here or there
        ("kitten", "sitting", False, 1 - 3 / 7, 0.0),
    ],
)
def test_how_alike_two_lines_are(
    line: str, expected: str, is_exact: bool, similarity: float, names_f1: float
) -> None:
    found = likeness(line, expected)
    assert found["is_exact"] is is_exact
    assert (found["similarity"], found["names_f1"]) == pytest.approx((similarity, names_f1))


@pytest.mark.parametrize(
    ("prompt", "text", "good"),
    [
        ("", "x = 1\ny = = 2\nz = 3\n", "x = 1\n"),
        ("def f():\n", "return 1\n", ""),
        ("def f():\n", "    return 1\n\nclass", "    return 1\n\nclass"),
        ("x = '''\n", "anything = = goes\nhere\n", "anything = = goes\nhere\n"),
        ("", "x = (1,\n  2\n", "x = (1,\n  2\n"),
        ("", ")\n" + "x = 1\n" * 50, ""),
        ("", "", ""),
    ],
)
def test_how_far_a_text_may_become_a_program(prompt: str, text: str, good: str) -> None:
    assert good_bytes(prompt, text) == len(good.encode())


def test_peoples_continuation_is_cut_where_it_compiles() -> None:
    rest = "    if x:\n        return 1\n    return 2\n\n\nclass A:\n    pass\n"
    assert longest_that_compiles("def f(x):\n", rest, 30) == "    if x:\n        return 1"
    assert longest_that_compiles("def f(x):\n", rest, 3) == "    if x:\n        return 1"
    assert longest_that_compiles("def f(x):\n", rest, 999) == rest.rstrip("\n")
    assert longest_that_compiles("x = (\n", "1,\n2,\n", 99) == ""


def test_names_are_counted_in_the_new_code_alone() -> None:
    assert count_names("import os\nx = 1\n", "y = os.path.join(x, len(x))") == 5  # y os x len x


def test_what_is_written_at_a_place_compiles_and_is_the_same_each_time(
    folder: Path, completer: Completer
) -> None:
    places = choose_places(TEXTS, 4)
    rows = writing(folder, completer).run(places, [], lambda _: None)
    for row, place in zip(rows, places, strict=True):
        assert row["is_judged"] and row["is_valid"]
        compile(place.prompt + row["text"] + "\n", "text", "exec")
        assert "\n" not in row["line"]
        assert row["passes"] + 1 >= row["tokens"] > 0  # the prompt's pass gives the first
        assert row["people"]["undefined"] <= row["people"]["names"]
        assert 0 <= row["good_bytes"] <= row["free_bytes"]
    assert writing(folder, completer).run(places, rows[:2], lambda _: None) == rows
    figures = summary(rows, places)
    assert figures["judged_is_valid"]["value"] == 1.0 and len(figures["examples"]) == 4


def test_a_copy_is_counted_and_its_source_named(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path)
    index_texts(folder, {Source("octo/cat", "decoder.py", "", "MIT"): CODE})
    trial = writing(folder, load_completer(read_pretrained(folder), "cpu"))
    learnt = CODE[2000:2600]
    measured = trial.measured("import re\n", learnt)
    assert measured["copied"] >= measured["tokens"] - SPAN
    assert measured["longest"]["repo"] == "octo/cat" and measured["longest"]["path"] == "decoder.py"
    fresh = trial.measured("import re\n", "zq = 17 * 23\n")
    assert fresh["copied"] == 0 and "longest" not in fresh


def test_loops_and_undefined_names_are_counted(folder: Path, completer: Completer) -> None:
    trial = writing(folder, completer)
    looping = trial.measured("", "x = 1\n" * 40)
    assert looping["new_grams"] < looping["grams"] / 5
    assert "copied" not in looping, "without an index nobody knows"
    assert trial.measured("import os\n", "print(os.path, missing, gone)")["undefined"] == 2


def test_hidden_lines_are_the_lines_of_the_files() -> None:
    whole = [text.text.decode() for text in TEXTS]
    for before, line, after in choose_gaps(TEXTS, 30):
        assert line == line.strip() != "" and (after.startswith("\n") or not after)
        assert any(text.startswith(before + line) and text.endswith(after) for text in whole)


def test_hidden_lines_that_were_found_are_counted() -> None:
    figures = gap_figures([("return x", "return x"), ("return y", "return x")])
    assert figures["gaps"] == 2 and figures["exact"]["value"] == 0.5
    assert figures["similarity"] == pytest.approx((1 + 7 / 8) / 2)


def test_a_line_is_filled_in_between_two_parts(folder: Path, completer: Completer) -> None:
    line = writing(folder, completer).fill("def f(x):\n    ", "\n\n\nprint(f(2))\n")
    assert "\n" not in line


def test_figures_of_rows_are_means_with_intervals() -> None:
    row = {
        "line": "a", "expected": "a", "is_exact": True, "similarity": 1.0, "names_f1": 1.0,
        "free_bytes": 9, "good_bytes": 9, "is_free_python": True, "text": "x", "is_judged": True,
        "is_valid": True, "tokens": 10, "rejected": 2, "passes": 12,
        "model": {"tokens": 10, "names": 4, "undefined": 1, "grams": 7, "new_grams": 7, "copied": 5},
        "people": {"tokens": 10, "names": 4, "undefined": 0, "grams": 7, "new_grams": 7, "copied": 0},
    }  # fmt: skip
    other = {**row, "is_exact": False, "similarity": 0.5, "rejected": 0}
    places = [Place(n, "r", "p", "", "") for n in range(2)]
    figures = summary([row, other], places)
    assert figures["next_line_exact"]["value"] == 0.5 and figures["next_line_similarity"]["value"] == 0.75
    low, high = figures["next_line_similarity"]["interval"]
    assert low < 0.75 < high
    assert figures["tokens_kept"] == pytest.approx(20 / 22) and figures["passes_a_token"] == 1.2
    assert figures["model"] == {"undefined_in_100_names": 25.0, "copied": 0.5, "new_grams": 1.0, "tokens": 20}
