"""What is held out: whole repositories, about 5 % of the bytes, never nothing and never everything."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from corpus.held_out_split import choose_held_out

FILES = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.text("xyz", min_size=1), st.integers(0, 10_000)),
    max_size=60,
    unique_by=lambda file: file[:2],
)


def sized(**sizes: int) -> list[tuple[str, str, int]]:
    """Repositories of one file each."""
    return [(name, "a.py", size) for name, size in sizes.items()]


def held_out_files(files: list[tuple[str, str, int]]) -> set[int]:
    """The positions of the files that are held out."""
    chosen = choose_held_out(files)
    return {number for number, (repo, path, _) in enumerate(files) if chosen.has(repo, path)}


@given(FILES)
def test_something_is_held_out_whenever_something_is_left_to_train_on(
    files: list[tuple[str, str, int]],
) -> None:
    assert (0 < len(held_out_files(files)) < len(files)) or len(files) < 2


@given(FILES)
def test_the_order_of_the_files_does_not_matter(files: list[tuple[str, str, int]]) -> None:
    chosen = {files[number][:2] for number in held_out_files(files)}
    backwards = files[::-1]
    assert {backwards[number][:2] for number in held_out_files(backwards)} == chosen


def test_of_many_repositories_about_5_percent_are_held_out_whole() -> None:
    files = [(f"owner/{number}", f"{file}.py", 100) for number in range(400) for file in range(3)]
    counts = Counter(files[number][0] for number in held_out_files(files))
    assert set(counts.values()) == {3}
    assert 0.05 <= counts.total() * 100 / (len(files) * 100) <= 0.06


def test_one_that_holds_more_than_5_percent_is_never_held_out() -> None:
    files = [("big", f"{number}.py", 1000) for number in range(9)] + sized(a=400, b=300, c=300)
    assert {files[number][0] for number in held_out_files(files)} <= {"a", "b", "c"}


@given(FILES, st.sampled_from("abcdefgh"))
def test_what_is_to_be_trained_on_is_not_held_out_if_anything_else_can_be(
    files: list[tuple[str, str, int]], own: str
) -> None:
    chosen = choose_held_out(files, [own])
    held_out = [file for file in files if chosen.has(file[0], file[1])]
    assert bool(held_out) or len(files) < 2
    if any(repo != own for repo, _, _ in files):
        assert own not in {repo for repo, _, _ in held_out}


def test_more_repositories_leave_the_small_ones_where_they_were() -> None:
    few = [(f"owner/{number}", "a.py", 100) for number in range(1000)]
    more = few + [(f"other/{number}", "a.py", 100) for number in range(100)]
    before = {few[number][0] for number in held_out_files(few)}
    after = {more[number][0] for number in held_out_files(more)}
    assert len(before - after) <= 5


def test_small_repositories_join_a_few_large_ones_until_there_are_twelve() -> None:
    files = [(f"large/{number}", "a.py", 400_000) for number in range(60)]
    before = {files[number][0] for number in held_out_files(files)}
    assert len(before) == 3
    files += [(f"small/{number}", "a.py", 10_000) for number in range(60)]
    after = {files[number][0] for number in held_out_files(files)}
    assert len(after) == 12
    assert sum(size for name, _, size in files if name in after) <= 0.06 * sum(size for _, _, size in files)


def test_those_that_join_are_neither_tiny_nor_more_than_a_quarter_of_all() -> None:
    files = [(f"large/{number}", "a.py", 400_000) for number in range(20)]
    tiny = [(f"tiny/{number}", "a.py", 100) for number in range(60)]
    few = [(f"small/{number}", "a.py", 9_000) for number in range(12)]
    held_out = {(files + tiny)[number][0] for number in held_out_files(files + tiny)}
    assert sum(name.startswith("large") for name in held_out) == 1
    held_out = {(files + few)[number][0] for number in held_out_files(files + few)}
    assert len(held_out) == 8


def test_by_file_where_there_are_fewer_than_three_repositories() -> None:
    files = [("only/one", f"{number}.py", 100) for number in range(100)]
    assert len(held_out_files(files)) == 5


def test_by_file_where_every_repository_is_too_large() -> None:
    files = [(f"owner/{number % 4}", f"{number}.py", 100) for number in range(100)]
    assert len(held_out_files(files)) == 5


def test_of_two_files_the_smaller_is_held_out() -> None:
    assert held_out_files(sized(a=10, b=9)) == {1}
