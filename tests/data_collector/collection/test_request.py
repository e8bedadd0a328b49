"""What the options ask for becomes GitHub's words, and numbers that can be cut."""

from __future__ import annotations

import pytest

from collection.request import PERMISSIVE, QueryError, SearchQuery, Span, build_queries, parse_licenses


def words(*arguments: str, **options: object) -> list[str]:
    return [str(query) for query in build_queries(*arguments, **options)]  # type: ignore[arg-type]


def test_without_options_all_of_python_is_asked_for() -> None:
    assert words() == ["language:Python"]


def test_options_are_githubs_qualifiers() -> None:
    assert words(min_stars=5, max_repo_mb=2.5, include_forks=True) == [
        "language:Python fork:true stars:5..* size:0..2500"
    ]


def test_free_words_and_any_qualifier_are_passed_on() -> None:
    text = 'parser "real time" topic:cli -topic:game user:psf pushed:>2024-01-01 in:readme archived:false'
    assert words(text) == [f"language:Python {text}"]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("stars:7", Span(7, 7)),
        ("stars:>7", Span(8, 100_000_000)),
        ("stars:>=7", Span(7, 100_000_000)),
        ("stars:<7", Span(0, 6)),
        ("stars:<=7", Span(0, 7)),
        ("stars:3..7", Span(3, 7)),
        ("stars:*..7", Span(0, 7)),
        ("stars:3..*", Span(3, 100_000_000)),
    ],
)
def test_stars_and_size_in_the_query_become_numbers_that_a_crowded_second_is_cut_by(
    text: str, span: Span
) -> None:
    assert build_queries(text) == (SearchQuery("language:Python", stars=span),)
    assert build_queries(text.replace("stars", "size")) == (SearchQuery("language:Python", size=span),)


def test_an_option_and_the_query_together_ask_for_what_both_do() -> None:
    assert words("stars:0..50", min_stars=10) == ["language:Python stars:10..50"]


@pytest.mark.parametrize(
    "text",
    [
        "created:>2024-01-01",
        "-created:2024-01-01",
        "language:C",
        "sort:stars",
        "stars:many",
        "stars:9..3",
        'a "quote',
        "two\nlines",
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(QueryError):
        build_queries(text)


def test_numbers_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(QueryError):
        build_queries("stars:<5", min_stars=10)


def test_each_licence_is_a_search_of_its_own() -> None:
    assert words(licenses="MIT,apache-2.0") == [
        "language:Python license:mit",
        "language:Python license:apache-2.0",
    ]


def test_licences_are_spdx_names_or_all_permissive_ones_each_once() -> None:
    assert parse_licenses("GPL-3.0-or-later, MIT mit") == ["gpl-3.0", "mit"]
    assert parse_licenses("permissive,mit") == PERMISSIVE


@pytest.mark.parametrize("text", ["apache2", "mit,,", "license:mit"])
def test_a_licence_that_github_does_not_know_is_refused_instead_of_finding_nothing(text: str) -> None:
    with pytest.raises(QueryError, match="no licence"):
        parse_licenses(text)
