"""The page that shows where the corpus went: its sums are those of the run, and nothing of it can act."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from project import run_script, succeed

SCRIPT = "preprocess/data_preprocess.py"


class Elements(HTMLParser):
    """The elements of a page, their attributes and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a small corpus, with a name that tries to act, was preprocessed and drawn."""
    folder = tmp_path_factory.mktemp("drawn")
    names = ["ann/tool", "bob/<script>alert(1)<&>", *(f"many/repo{number:02}" for number in range(20))]
    for number, name in enumerate(names):
        repository = folder / "repos" / name
        repository.mkdir(parents=True)
        code = "".join(f"def f{number}_{i}(x):\n    return x + {i * number}\n\n\n" for i in range(4 + number))
        license_line = "# SPDX-License-Identifier: MIT\n" if number % 2 else ""
        (repository / "a.py").write_text(license_line + code, encoding="utf-8")
    (folder / "repos" / "ann" / "tool" / "empty.py").write_text("# nothing\n", encoding="utf-8")
    succeed(run_script(SCRIPT, "--report", cwd=folder))
    return folder


def page(folder: Path) -> Elements:
    elements = Elements()
    elements.feed((folder / "data.report.html").read_text(encoding="utf-8"))
    return elements


def test_it_shows_the_sums_of_the_run(run: Path) -> None:
    summary = json.loads((run / "data.summary.json").read_text(encoding="utf-8"))
    text = page(run).text
    assert f"files read {summary['input']['files']}" in text
    assert (
        f"files kept {summary['kept']['files']} {summary['kept']['files'] / summary['input']['files']:.1%}"
        in text
    )
    train = summary["written"]["train"]
    assert re.search(rf"text to learn from [0-9.]+ kB {train['documents']} documents ", text)
    assert not re.search(r"\b0\.0 [kM]B", text)
    for rule, dropped in summary["dropped"].items():
        assert re.search(rf"{rule}\s+{dropped['files']}\s", text)
    assert summary["data"]["sha256"] in text


def test_licences_and_the_largest_repositories_are_named_the_others_counted(run: Path) -> None:
    text = page(run).text
    assert re.search(r"MIT\s+\d+", text) and re.search(r"unknown\s+\d+", text)
    assert "many/repo19" in text
    assert re.search(r"\d+ smaller ones", text)


def test_a_strangers_name_stays_text_and_nothing_comes_from_elsewhere(run: Path) -> None:
    elements = page(run)
    assert "script" not in elements.tags
    assert "link" not in elements.tags and "img" not in elements.tags
    assert not [name for name, _ in elements.attributes if name in ("src", "href") or name.startswith("on")]
    assert "http" not in (run / "data.report.html").read_text(encoding="utf-8")


def test_it_is_drawn_again_for_a_corpus_that_is_up_to_date(run: Path) -> None:
    (run / "data.report.html").unlink()
    again = succeed(run_script(SCRIPT, "--report", cwd=run))
    assert again.stdout.startswith("up to date")
    assert page(run).text


def test_somebody_elses_page_is_not_replaced(run: Path) -> None:
    mine = run / "data.report.html"
    ours = mine.read_bytes()
    mine.write_text("mine", encoding="utf-8")
    refused = run_script(SCRIPT, "--report", cwd=run)
    assert refused.returncode == 1 and str(mine) in refused.stderr
    assert mine.read_text(encoding="utf-8") == "mine"
    mine.write_bytes(ours)
