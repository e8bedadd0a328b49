"""What a model has read is used again, by the longest beginning that two prompts share."""

from __future__ import annotations

import numpy as np
import pytest

from inference.language_model import KeyValueCache
from serving.prompt_cache import MOST_PROMPTS, PromptCache

SHAPE = (2, 2, 1, 3, 16, 4)  # layers, keys and values, rows, heads, capacity, head size
TOKEN = 2 * 2 * 3 * 4 * 4 + 8  # bytes of a token and its id


def filled(ids: list[int]) -> KeyValueCache:
    """A cache that holds at each position nothing but its token's id."""
    cache = KeyValueCache(np.zeros(SHAPE, np.float32))
    for place, token_id in enumerate(ids):
        cache.memory[..., place, :] = token_id
    cache.lengths = [len(ids)]
    return cache


def known(prompts: PromptCache, ids: list[int]) -> list[int]:
    """The tokens of a prompt whose keys and values are there, by what lies in the cache."""
    cache = KeyValueCache(np.zeros(SHAPE, np.float32))
    length = prompts.load(ids, cache, 0)
    assert cache.lengths == [length]
    found: list[int] = cache.memory[0, 0, 0, 0, :length, 0].astype(int).tolist()
    return found


def keep(prompts: PromptCache, ids: list[int]) -> None:
    prompts.keep(ids, filled(ids), 0)


def test_a_prompt_that_goes_on_finds_what_was_read() -> None:
    prompts = PromptCache(1 << 20)
    keep(prompts, [5, 6, 7])
    assert known(prompts, [5, 6, 7, 8, 9]) == [5, 6, 7]


def test_the_last_token_is_read_even_if_it_is_known() -> None:
    prompts = PromptCache(1 << 20)
    keep(prompts, [5, 6, 7])
    assert known(prompts, [5, 6, 7]) == [5, 6]
    assert known(prompts, [5]) == []


@pytest.mark.parametrize(("ids", "shared"), [([5, 6, 1, 8], [5, 6]), ([1, 6, 7], []), ([5, 6], [5])])
def test_another_prompt_shares_its_beginning_alone(ids: list[int], shared: list[int]) -> None:
    prompts = PromptCache(1 << 20)
    keep(prompts, [5, 6, 7])
    assert known(prompts, ids) == shared


def test_of_several_the_nearest_is_used() -> None:
    prompts = PromptCache(1 << 20)
    for ids in ([1, 2], [1, 2, 3, 4], [1, 9]):
        keep(prompts, ids)
    assert known(prompts, [1, 2, 3, 5, 6]) == [1, 2, 3]


def test_a_longer_prompt_takes_the_place_of_its_beginning() -> None:
    prompts = PromptCache(1 << 20)
    keep(prompts, [1, 2])
    keep(prompts, [1, 2, 3])
    keep(prompts, [1])
    assert len(prompts.prompts) == 1
    assert prompts.bytes == 3 * TOKEN


def test_what_was_not_used_for_longest_is_given_up_first() -> None:
    prompts = PromptCache(3 * 2 * TOKEN)
    for ids in ([1, 2], [3, 4], [5, 6]):
        keep(prompts, ids)
    known(prompts, [1, 2, 9])
    keep(prompts, [7, 8])
    assert known(prompts, [3, 4, 9]) == []
    assert known(prompts, [1, 2, 9]) == [1, 2]
    assert prompts.bytes == 3 * 2 * TOKEN


def test_it_never_takes_more_than_its_bytes() -> None:
    prompts = PromptCache(10 * TOKEN)
    random = np.random.default_rng(0)
    for _ in range(200):
        keep(prompts, random.integers(0, 3, random.integers(1, 12)).tolist())
        assert prompts.bytes <= 10 * TOKEN
        assert prompts.bytes == sum(prompt.bytes for prompt in prompts.prompts.values())


def test_a_prompt_larger_than_all_of_it_is_not_kept() -> None:
    prompts = PromptCache(TOKEN)
    keep(prompts, [1, 2])
    assert not prompts.prompts
    assert PromptCache(0).load([1, 2], filled([]), 0) == 0


def test_small_prompts_are_bounded_in_number() -> None:
    prompts = PromptCache(1 << 30)
    for number in range(MOST_PROMPTS + 10):
        keep(prompts, [number])
    assert len(prompts.prompts) == MOST_PROMPTS


def test_what_is_kept_does_not_change_with_the_cache_it_came_from() -> None:
    prompts, cache = PromptCache(1 << 20), filled([1, 2, 3])
    prompts.keep([1, 2, 3], cache, 0)
    cache.memory[:] = 99
    assert known(prompts, [1, 2, 3, 4]) == [1, 2, 3]


def test_nothing_is_kept_of_an_empty_row() -> None:
    prompts = PromptCache(1 << 20)
    prompts.keep([], filled([]), 0)
    assert known(prompts, [1, 2]) == []
