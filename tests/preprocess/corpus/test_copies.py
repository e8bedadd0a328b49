"""Copies in a whole corpus: on disk and in memory as by the rule itself, written down in a few lines."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import copies
from corpus.copies import EQUAL, find_copies
from corpus.inventory import Inventory, Repository, SourceFile, SourceFiles
from corpus.near_duplicates import near_duplicates
from corpus.partitioned_duplicates import Means, run_here
from corpus.selection import Choice, Findings, name_of, select
from corpus.shards import Outcome, Shard, ShardPlan, outcomes_in, prepare_shard
from documents.fingerprints import PERMUTATIONS, content_digest, jaccard, shingles, signature
from documents.prepare import Rules
from preprocess_cli import UserError

RULES = Rules(thresholds={})
MEANS = Means(run_here, memory=1 << 24, here=1 << 24)
LICENSES = ("MIT", "GPL-3.0-only", "")


def source(family: int, variant: int) -> str:
    """A file of some family: variants of a digit differ in blanks alone, others in a word of fifty."""
    rng = random.Random(family)
    words = [f"name_{rng.randrange(500)}" for _ in range(150)]
    other = random.Random(f"{family} {variant // 2}")
    for _ in range(variant // 2):
        words[other.randrange(len(words))] = f"changed_{other.randrange(500)}"
    lines = [" = ".join(words[at : at + 3]) for at in range(0, len(words), 3)]
    return ("\n\n" if variant % 2 else "\n").join(lines) + "\n"


def corpus(folder: Path, files: Sequence[tuple[int, int, int]]) -> tuple[Inventory, ShardPlan]:
    """An inventory, prepared, of files (repository, family, variant)."""
    inventory = Inventory(files=SourceFiles(most=7))
    for number, (repository, family, variant) in enumerate(files):
        repo = f"o/r{repository}"
        stars, license_name = repository * 7 % 5, LICENSES[repository % 3]
        inventory.repositories[repo] = Repository(repo, "", license_name, stars)
        path = folder / "repos" / repo / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source(family, variant), encoding="utf-8")
        inventory.files.append(
            SourceFile(repo, path.name, f"{repo}/{path.name}", path.stat().st_size, number)
        )
    inventory.files.sort()
    (folder / "prepared").mkdir(exist_ok=True)
    plan = ShardPlan(inventory.files, folder / "prepared", "digest")
    for shard in plan.missing():
        prepare_shard(shard, folder / "repos", RULES)
    return inventory, plan


def by_the_rule(inventory: Inventory, folder: Path) -> dict[str, tuple[str, float]]:
    """Name of each copy -> (what is kept, similarity or 0), with everything in memory."""
    texts = [(folder / "repos" / file.location).read_text("utf-8") for file in inventory.files]
    files = list(inventory.files)

    def rank(number: int) -> tuple[object, ...]:
        repository = inventory.repositories[files[number].repo]
        return LICENSES.index(repository.license), *repository.rank(), number

    best_first = sorted(range(len(files)), key=rank)
    kept: dict[str, int] = {}
    equals = {}
    for number in best_first:
        best = kept.setdefault(content_digest(texts[number]), number)
        if best != number:
            equals[number] = best
    signed = [number for number in sorted(kept.values()) if signature(texts[number])]
    rows = {number: row for row, number in enumerate(signed)}
    blob = b"".join(signature(texts[number]) for number in signed)
    sets = [shingles(texts[number]) for number in signed]
    near = near_duplicates(
        np.frombuffer(blob, "<u4").reshape(-1, PERMUTATIONS),
        [rows[number] for number in best_first if number in rows],
        0.7,
        lambda one, other: jaccard(sets[one], sets[other]),
    )
    found = {signed[row]: (signed[each.winner], each.similarity) for row, each in near.items()}
    found |= {number: found.get(best, (best, EQUAL)) for number, best in equals.items()}
    return {name_of(files[n]): (name_of(files[best]), similarity) for n, (best, similarity) in found.items()}


@pytest.mark.parametrize("memory_of_a_file", [2200, 1 << 40])
@settings(max_examples=25, deadline=None)
@given(
    files=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=40
    )
)
def test_copies_are_those_of_the_rule_in_memory_and_on_disk(
    memory_of_a_file: int, files: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    inventory, plan = corpus(folder, files)
    (folder / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "MEMORY_OF_A_FILE", memory_of_a_file)
        findings = select_in(folder, inventory, plan)
    outcomes = [outcome for shard in plan for outcome in outcomes_in(shard)]
    found = list(findings.of(zip(inventory.files, outcomes, strict=True)))
    expected = by_the_rule(inventory, folder)
    named = {name_of(file): finding for file, finding in zip(inventory.files, found, strict=True)}
    assert {name: finding.detail for name, finding in named.items() if finding} == {
        name: winner for name, (winner, _) in expected.items()
    }
    for name, (_, similarity) in expected.items():
        finding = named[name]
        assert finding is not None
        if similarity == EQUAL:
            assert (finding.rule, finding.value) == ("duplicate", None)
        else:
            assert (finding.rule, finding.value) == ("near_duplicate", round(similarity, 4))
    assert {path.name for path in (folder / "work").iterdir()} == {"copies"}


def select_in(folder: Path, inventory: Inventory, plan: ShardPlan) -> Findings:
    return select(inventory, plan, Choice(), folder / "prepared", folder / "work", MEANS)


def test_a_file_that_is_dropped_by_itself_is_nobodys_better_copy(tmp_path: Path) -> None:
    _, plan = corpus(tmp_path, [(0, 1, 0), (1, 1, 0), (2, 1, 1)])
    (tmp_path / "work").mkdir()

    def rank(shard: Shard, position: int, outcome: Outcome) -> int | None:
        return None if shard.numbers[position] == 0 else shard.numbers[position]

    arguments = tmp_path / "prepared", tmp_path / "work", 0.7, MEANS
    assert list(find_copies(plan, rank, *arguments)) == [(2, 1, EQUAL)]


def test_a_result_that_is_gone_is_named(tmp_path: Path) -> None:
    inventory, plan = corpus(tmp_path, [(0, 1, 0)])
    (tmp_path / "work").mkdir()
    for shard in plan:
        shard.result.unlink()
    with pytest.raises(UserError, match=r"this was changed during the run: .*: run it again"):
        select_in(tmp_path, inventory, plan)
