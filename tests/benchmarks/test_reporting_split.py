"""What a comparison reports on: no contender sees it, nor a near copy of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from reporting_split import set_apart


def text_of(seed: int, words: int = 400) -> str:
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(5000)}" for _ in range(words)) + "\n"


def write_data(path: Path, files: dict[tuple[str, str, str], str]) -> None:
    """files: (split, repository, path) -> text, in two documents each."""
    with path.open("w", encoding="utf-8") as data:
        for (split, repo, name), text in files.items():
            for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
                document = {"text": piece, "repo": repo, "path": name, "split": split}
                data.write(json.dumps(document) + "\n")


def repositories(path: Path) -> set[str]:
    return {json.loads(line)["repo"] for line in path.read_text(encoding="utf-8").splitlines()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Held-out repositories of 4, 3, 2 and 1 files, and one file that hardly differs from a training file."""
    files = {("train", f"train/{n}", "a.py"): text_of(n) for n in range(5)}
    for count, repo in ((4, "out/large"), (3, "out/second"), (2, "out/third"), (1, "out/small")):
        for n in range(count):
            files["held_out", repo, f"{n}.py"] = text_of(100 * count + n)
    files["held_out", "out/second", "0.py"] = text_of(3) + "one more line\n"
    write_data(tmp_path / "data.txt", files)
    return tmp_path / "data.txt"


def test_every_second_held_out_repository_is_reported_on_and_seen_by_nobody(data: Path) -> None:
    parts = set_apart(data, data.parent / "work")
    assert repositories(parts.reported) == {"out/second", "out/small"}
    assert repositories(parts.seen) == {f"train/{n}" for n in range(5)} | {"out/large", "out/third"}
    lines = data.read_text(encoding="utf-8").splitlines()
    divided = [part.read_text(encoding="utf-8").splitlines() for part in (parts.seen, parts.reported)]
    assert [line for line in lines if line in divided[0]] == divided[0]  # byte for byte, in their order
    assert len(divided[0]) + len(divided[1]) == len(lines) - 2


def test_a_near_copy_of_what_is_seen_is_left_out_and_counted(data: Path) -> None:
    parts = set_apart(data, data.parent / "work")
    assert (parts.repositories, parts.files, parts.dropped) == (2, 3, 1)
    assert "word" in parts.reported.read_text(encoding="utf-8")
    assert '"path": "0.py"' not in "".join(
        line for line in parts.reported.read_text(encoding="utf-8").splitlines() if "out/second" in line
    )
    assert "1 near-duplicates" in str(parts)


def test_what_was_divided_is_found_again_and_other_data_are_divided_anew(data: Path) -> None:
    parts = set_apart(data, data.parent / "work")
    made = parts.seen.stat().st_mtime_ns
    assert set_apart(data, data.parent / "work") == parts
    assert parts.seen.stat().st_mtime_ns == made
    with data.open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"text": "x = 1\n", "repo": "train/9", "path": "b.py", "split": "train"}) + "\n"
        )
    assert set_apart(data, data.parent / "work").seen != parts.seen


def test_one_held_out_repository_cannot_be_divided(tmp_path: Path) -> None:
    write_data(tmp_path / "data.txt", {("train", "a/a", "a.py"): "x\n", ("held_out", "b/b", "b.py"): "y\n"})
    with pytest.raises(SystemExit, match="fewer than two held-out repositories"):
        set_apart(tmp_path / "data.txt", tmp_path / "work")
