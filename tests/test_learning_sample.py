"""A sample of a large corpus: whole files, from all over it, within the limit, always the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import Document, document_line
from learning_sample import LearningSample


def write(path: Path, files: int) -> int:
    """A data.txt of so many files of two pieces of 500 bytes, one in ten held out; its size."""
    lines = []
    for number in range(files):
        split = "held_out" if number % 10 == 0 else "train"
        for piece in range(2):
            text = f"x = {number:06d}_{piece}\n".ljust(500, "#")
            lines.append(
                document_line(
                    Document(text, f"owner/{number // 20}", f"{number}.py", "", "", piece, 2, split)
                )
            )
    path.write_bytes(b"".join(lines))
    return path.stat().st_size


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "data.txt"
    write(path, 2000)
    return path


def taken(data: Path, max_bytes: int) -> tuple[LearningSample, list[str]]:
    sample = LearningSample.of(data.stat().st_size, max_bytes)
    return sample, list(sample.train_documents(data))


def test_a_corpus_within_the_limit_is_taken_whole(data: Path) -> None:
    sample, texts = taken(data, 10_000_000)
    assert len(texts) == sample.documents == 3600
    assert sample.left_out == 0


def test_no_limit_takes_everything(data: Path) -> None:
    assert len(taken(data, 0)[1]) == 3600


@pytest.mark.parametrize("limit", [10_000, 100_000, 400_000])
def test_a_sample_is_nearly_as_large_as_the_limit_and_never_larger(data: Path, limit: int) -> None:
    sample, texts = taken(data, limit)
    assert sum(len(text.encode()) for text in texts) == sample.text_bytes <= limit
    assert sample.documents + sample.left_out == 3600
    if limit >= 100_000:
        assert sample.text_bytes > 0.6 * limit


def test_both_pieces_of_a_file_are_taken_or_left(data: Path) -> None:
    _, texts = taken(data, 400_000)
    files = [text.split("_")[0] for text in texts]
    assert all(files.count(file) == 2 for file in set(files))


def test_a_sample_comes_from_all_over_the_corpus_and_is_the_same_each_time(data: Path) -> None:
    sample, texts = taken(data, 400_000)
    assert len(sample.repositories) > 90
    assert texts == taken(data, 400_000)[1]


def test_held_out_documents_are_counted_and_kept_apart(data: Path) -> None:
    sample, texts = taken(data, 100_000)
    assert sample.held_out_documents == 400 == len(sample.held_out)
    assert set(sample.held_out) & set(texts) == set()
