"""The record knows what a request asks for, and its running counts are those of a fresh count."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from collected_folder import rows_in
from collection.record import Collection
from collection.request import Request, SearchQuery, timestamp
from collection.search_record import FoundRepository
from collection.status import Tally

MIT, APACHE = SearchQuery("language:Python license:mit"), SearchQuery("language:Python license:apache-2.0")


def found(number: int, **more: object) -> FoundRepository:
    values: dict[str, object] = {
        "id": f"host/{number}",
        "full_name": f"ann/r{number}",
        "source": "host",
        "clone_url": f"https://host/ann/r{number}",
        "license": "",
        "stars": 0,
        "forks": 0,
        "is_fork": False,
        "created_at": timestamp(number),
        "pushed_at": timestamp(number),
        "size_kb": 1,
    }
    return FoundRepository(**{**values, **more})  # type: ignore[arg-type]


def request_for(*queries: SearchQuery, first: int = 0, last: int = 99, source: str = "host") -> Request:
    return Request(source, queries, timestamp(first), timestamp(last))


def pending(collection: Collection, request: Request) -> list[str]:
    return [repository.full_name for repository in collection.pending(request, 1000)]


def test_a_request_is_what_its_queries_found_in_its_time_at_its_source(tmp_path: Path) -> None:
    with Collection(tmp_path) as collection:
        everything = request_for(MIT, APACHE)
        collection.searches.record_page([found(1), found(2), found(3)], everything, MIT)
        collection.searches.record_page([found(3), found(4)], everything, APACHE)
        assert pending(collection, everything) == ["ann/r1", "ann/r2", "ann/r3", "ann/r4"]
        assert pending(collection, request_for(APACHE)) == ["ann/r3", "ann/r4"]
        assert pending(collection, request_for(MIT, first=2, last=2)) == ["ann/r2"]
        assert pending(collection, request_for(MIT, source="elsewhere")) == []
        assert pending(collection, request_for(SearchQuery("language:Python"))) == []


def test_the_running_tally_is_that_of_a_fresh_count(tmp_path: Path) -> None:
    chance = random.Random(1)
    request = request_for(MIT, last=19)
    with Collection(tmp_path) as collection:
        assert collection.tally.of(request) == {}
        for _ in range(300):
            number = chance.randrange(25)  # some lie outside the request
            id_ = f"host/{number}"
            match chance.randrange(5):
                case 0:
                    pushed = timestamp(chance.randrange(100))
                    page = [found(number, pushed_at=pushed), found((number + 7) % 25)]
                    collection.searches.record_page(page, request, chance.choice([MIT, APACHE]), refetch=True)
                case 1:
                    collection.record_fetched(id_, "c" * 40, "MIT", chance.randrange(3), 100)
                case 2:
                    collection.record_failure(id_, chance.choice(["gone", "failed", "found"]), "why")
                case 3:  # another repository gets its name
                    collection.searches.record_page(
                        [found(chance.randrange(25), full_name=f"ann/r{number}")], request, MIT
                    )
                case _:
                    running = collection.tally.of(request)
                    collection.tally.forget()
                    assert collection.tally.of(request) == running


def test_a_page_that_cannot_be_recorded_leaves_no_trace(tmp_path: Path) -> None:
    request = request_for(MIT)
    broken = found(3, stars=[])  # no value of a database
    with Collection(tmp_path) as collection:
        collection.searches.record_page([found(1)], request, MIT)
        assert collection.tally.of(request) == {"found": Tally(1)}
        with pytest.raises(Exception, match="type"):
            collection.searches.record_page([found(2), broken], request, MIT)
        assert collection.tally.of(request) == {"found": Tally(1)}
        assert pending(collection, request) == ["ann/r1"]


def test_what_is_forgotten_and_tried_again_is_the_requests_own(tmp_path: Path) -> None:
    mine, other = request_for(MIT, last=49), request_for(APACHE)
    with Collection(tmp_path) as collection:
        searches = collection.searches
        searches.record_page([found(1), found(60)], mine, MIT)
        searches.record_page([found(2)], other, APACHE)
        for request, query, number in ((mine, MIT, 0), (mine, MIT, 50), (other, APACHE, 0)):
            span = timestamp(number), timestamp(number + 49)
            searches.record_window(request, query, span, (2, 1, number == 50))
        for number in (1, 2, 60):
            collection.record_failure(f"host/{number}", "failed", "why")
        collection.retry_failures(mine)
        assert pending(collection, request_for(MIT, APACHE)) == ["ann/r1"]
        assert list(searches.searched(request_for(MIT))) == [(timestamp(50), timestamp(99))]
        assert list(searches.searched(other)) == [(timestamp(0), timestamp(49))]
        searches.forget(other)
        assert list(searches.searched(other)) == []


@pytest.mark.parametrize("table", ["pauses", "paths"])
def test_a_record_from_before_a_table_was_kept_is_used(tmp_path: Path, table: str) -> None:
    with Collection(tmp_path) as collection:
        collection.searches.record_page([found(1)], request_for(MIT), MIT)
    database = sqlite3.connect(tmp_path / "collection.db")
    database.execute(f"DROP TABLE {table}")
    database.close()
    with Collection(tmp_path) as collection:
        assert pending(collection, request_for(MIT)) == ["ann/r1"]
        assert collection.searches.pause_left("host") == 0
        collection.record_fetched("host/1", "", "", 1, 1, renamed={"a%3A.py": "a:.py"})
    assert rows_in(tmp_path, "*", "paths") == [("host/1", "a%3A.py", "a:.py")]


def test_true_paths_are_those_of_the_copy_that_is_there(tmp_path: Path) -> None:
    with Collection(tmp_path) as collection:
        collection.searches.record_page([found(1), found(2)], request_for(MIT), MIT)
        for renamed in ({"a%3A.py": "a:.py", "b%3F.py": "b?.py"}, {"a%3A.py": "a:.py"}):
            collection.record_fetched("host/1", "", "", 2, 2, renamed=renamed)
        collection.record_fetched("host/2", "", "", 2, 2)
    assert rows_in(tmp_path, "*", "paths") == [("host/1", "a%3A.py", "a:.py")]
