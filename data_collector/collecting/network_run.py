"""Runs that clone, from the command line: what is announced, done and reported of a search or a list."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from cloning.clone import PARTIAL_CLONE_KB
from collecting.github_run import GitHubRun, ListRun, Options, RankedRun, Run
from collecting.report import duration, github_report, list_plan_report, missing_report, plan_report
from collection.record import Collection
from collection.request import DateRange, Request, SearchQuery
from collection.search_record import LISTED
from collector_cli import DONE, GAPS, UserError, first_lines, plural, printable, show, warn
from search.access_token import NEW_TOKEN, AccessToken
from search.github_api import TokenError
from sources.repository_list import STANDARD_INPUT, parse_list, read_list, web_address


@dataclass(frozen=True)
class NetworkSetting:
    """The options of a run that clones. limit: repositories to fetch, 0 = all."""

    repos: Path
    api_url: str
    token: AccessToken
    jobs: int
    limit: int
    is_by_stars: bool  # the limit takes the most starred, not the first that were made
    refresh: bool
    is_plan: bool
    retry_failed: bool
    next_command: str


def run_search(setting: NetworkSetting, request: Request, span: DateRange) -> int:
    """Search and fetch what was made in a range of dates; GAPS if something is missing."""
    count = setting.limit if setting.is_by_stars else 0
    queries = request.queries
    if count:
        ranked = SearchQuery(f"{' | '.join(map(str, queries))} sort:stars limit:{count}")
        request = replace(request, queries=(ranked,))
    options = Options(setting.jobs, 0 if count else setting.limit, setting.refresh, setting.is_plan)
    with Collection(setting.repos) as collection:
        if setting.refresh:
            collection.searches.forget(request)
        if setting.retry_failed:
            collection.retry_failures(request)
        run: Run = GitHubRun(collection, request, options)
        if count:
            run = RankedRun(collection, request, options)
            run.searching.queries, run.searching.count = queries, count
        if not run.is_up_to_date():
            warn(f"collecting repositories made from {span} into {setting.repos}")
            if run.searching.is_needed():
                _announce_search(request, setting.token)
        missing = _carry_out(run, collection, request, setting, f"made {span}")
    return _report_gaps(missing)


def run_list(setting: NetworkSetting, path: Path) -> int:
    """Fetch what a list names; GAPS if something of it is missing."""
    web_url = web_address(setting.api_url)
    listed = parse_list(read_list(path), web_url)
    if not listed.repositories:
        where = "standard input" if path == STANDARD_INPUT else path.absolute()
        first = f" ({listed.refused[0]})" if listed.refused else ""
        raise UserError(f"the list names no repository{first}: {where}: write owner/name, one a line")
    if setting.limit:
        del listed.repositories[setting.limit :]
    request = listed.request()
    with Collection(setting.repos) as collection:
        options = Options(setting.jobs, 0, setting.refresh, setting.is_plan)
        run = ListRun(collection, request, options, listed, web_url)
        run.searching.enter_known(listed.repositories, is_asking=setting.token.value is not None)
        if setting.retry_failed:
            collection.retry_failures(request)
        if not run.is_up_to_date():
            count = plural(len(listed.repositories), "repository", "repositories")
            warn(f"collecting {count} of a list into {setting.repos}")
        missing = _carry_out(run, collection, request, setting, "of this list")
    for line in run.moved:
        show(f"renamed: {printable(line)}")
    if listed.repeated:
        show(f"{plural(listed.repeated, 'line names', 'lines name')} a repository again")
    return _report_gaps([*missing, *(f"not taken: {line}" for line in first_lines(listed.refused))])


def _announce_search(request: Request, token: AccessToken) -> None:
    """Say what is about to happen, before it does."""
    more = f" and {len(request.queries) - 1} more licences" if len(request.queries) > 1 else ""
    warn(f"searching for {request.queries[0]}{more}")
    if token.value is None:
        warn("no token: GitHub allows 10 searches a minute instead of 30 (see token.txt.example)")
    else:
        warn(f"with the token of {token.origin}")


def _report_gaps(missing: list[str]) -> int:
    """Print what is missing; the exit code."""
    for line in missing:
        warn(line)
    return GAPS if missing else DONE


def _carry_out(
    run: Run, collection: Collection, request: Request, setting: NetworkSetting, what: str
) -> list[str]:
    """Do what is left of a run and report its result; a line for each thing that is missing."""
    if not run.is_up_to_date():
        _search_and_fetch(run, collection, request, setting)
    elif not setting.is_plan:
        count = _fetched(collection, request)
        show(f"up to date: {setting.repos} ({count} {what}; --refresh searches again)")
        show(f"next: {setting.next_command}")
    if setting.is_plan:
        _show_plan(collection, request, setting)
    return missing_report(collection, request)


def _search_and_fetch(run: Run, collection: Collection, request: Request, setting: NetworkSetting) -> None:
    """Do the run and, unless it is a plan, report its result."""
    started = time.monotonic()
    try:
        run.run(setting.api_url, setting.token.value)
    except TokenError as error:
        where = setting.token.origin or "anonymous"
        raise UserError(f"{error}: {where}: {NEW_TOKEN}, or remove it to search without one") from None
    if setting.is_plan and run.requests and request.source != LISTED:
        count = plural(run.requests, "search", "searches")
        warn(f"{count} in {duration(time.monotonic() - started)}")
    if not setting.is_plan:
        show(github_report(collection, request, run.requests, time.monotonic() - started))
        show(f"\nwritten to {setting.repos}")
        show(f"next: {setting.next_command}")


def _show_plan(collection: Collection, request: Request, setting: NetworkSetting) -> None:
    """What waits to be fetched, and the command that fetches it."""
    days = collection.outstanding(request).planned(PARTIAL_CLONE_KB)
    if not days:
        show("nothing is left to fetch")
    elif request.source == LISTED:
        show(list_plan_report(days, setting.jobs))
    else:
        show(plan_report(days, setting.jobs, sys.stdout.encoding))
    show(f"\nrecorded in {setting.repos}")
    before = f"{_fetched(collection, request)} fetched before"
    show("next: the same command without --plan" if days else before)


def _fetched(collection: Collection, request: Request) -> str:
    """ "1,200 repositories" """
    return plural(collection.tally.count(request, "fetched"), "repository", "repositories")
