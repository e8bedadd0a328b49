"""Searches of the stand-in, and how long they would wait."""

from __future__ import annotations

import random
import time

from collection.request import SearchQuery, Span
from collection.search_record import FoundRepository
from github_stand_in import GitHubStandIn, moment, stamp
from search.date_windows import Searched, search
from search.github_api import GitHub, Hooks

DAY = moment("2024-03-01T00:00:00Z")

QUERY = SearchQuery("language:Python")


class Waits:
    """The waits that a search asks for; long ones are only noted."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []

    def __call__(self, seconds: float, reason: str) -> None:
        self.asked.append((seconds, reason))
        is_short = seconds <= 2.5 and reason in ("GitHub's rate limit", "GitHub asks for a pause")
        time.sleep(seconds if is_short else 0)


def scatter(stand_in: GitHubStandIn, count: int, first: int, seconds: int, seed: int = 0) -> None:
    """Make count repositories at random moments."""
    chance = random.Random(seed)
    for number in range(count):
        stand_in.add(f"o/{seed}-{number}", stamp(first + chance.randrange(seconds)))


def find(
    stand_in: GitHubStandIn, first: int, last: int, wait: Waits | None = None, token: str | None = None
) -> tuple[set[str], list[Searched]]:
    """The names that a search of a range of seconds finds, and its finished windows."""
    names: set[str] = set()

    def on_page(repositories: list[FoundRepository]) -> None:
        names.update(repository.full_name for repository in repositories)

    github = GitHub(stand_in.url, token, Hooks(wait or Waits()))
    return names, list(search(github, QUERY, Span(first, last), on_page))


def everything(stand_in: GitHubStandIn) -> set[str]:
    return {repository["full_name"] for repository in stand_in.repositories}
