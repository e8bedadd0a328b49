"""Collect Python repositories into repos/: from GitHub by date of creation, or from this machine.

Reads GitHub's search API and clones what it finds, or copies what --local names; writes the Python files into
repos/<owner>/<name>/ and the record of what was asked, found, fetched and refused into repos/collection.db.

    python data_collector/data_collector.py --local
    python data_collector/data_collector.py --local ~/src ~/downloads/service.zip
    python data_collector/data_collector.py --start-date 2024-03-01 --end-date 2024-03-02
    python data_collector/data_collector.py --start-date 2024-03-01 --end-date 2024-03-31 --plan
    python data_collector/data_collector.py --start-date 2024-03-01 --end-date 2024-03-31 --license permissive

The first takes the Python that is on every machine, the standard library and the installed packages, up to
40 MB: 3,300 files in 3 seconds, with no token and no network. The others take folders, git repositories and
archives, and what GitHub shows of the given days, whole days in UTC. --plan finds and records it and says how
much there is to download; without it a later run goes on from there. GitHub allows 30 searches a minute with
a token and 10 without; the token needs no permissions: https://github.com/settings/personal-access-tokens

Interrupted at any moment, the same command goes on where it was; what is finished is never asked for again.
Nothing that is collected is ever run.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from collecting_progress import plural, printable
from collector_error import CollectorError

if TYPE_CHECKING:
    from access_token import AccessToken
    from collection import Collection
    from collection_format import Request
    from date_range import DateRange
    from github_collecting import GitHubCollecting

PROJECT = Path(__file__).resolve().parent.parent
GITHUB_API = "https://api.github.com"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The docstring as it stands, and each option with its default, unless its own words say it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_its_own = action.nargs == 0 or "default" in (action.help or "")
        return action.help if has_its_own else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    github = parser.add_argument_group("from GitHub")
    github.add_argument(
        "--start-date", metavar="DATE", help="first day, or second: 2024-03-01T12:00:00Z (default: asked for)"
    )
    github.add_argument(
        "--end-date", metavar="DATE", help="last day, included, or last second (default: asked for)"
    )
    github.add_argument(
        "--query",
        default="",
        metavar="WORDS",
        help="free words and GitHub's qualifiers, e.g. 'parser topic:cli user:psf' (default: all of Python)",
    )
    github.add_argument(
        "--min-stars", type=count, default=0, metavar="N", help="stars that a repository has at least"
    )
    github.add_argument(
        "--max-repo-mb",
        type=megabyte_count,
        default=0.0,
        metavar="MB",
        help="size that a repository has at most, its history included, 0 = any",
    )
    github.add_argument("--include-forks", action="store_true", help="forks too")
    github.add_argument(
        "--license",
        default="",
        metavar="LIST",
        help="SPDX names, e.g. mit,apache-2.0, or permissive (default: any, and none)",
    )
    github.add_argument(
        "--plan", action="store_true", help="find and record, fetch nothing: how much, how large, how long"
    )
    github.add_argument(
        "--limit", type=count, default=0, metavar="N", help="repositories of these days to fetch, 0 = all"
    )
    github.add_argument("--jobs", type=positive, default=8, metavar="N", help="clones at the same time")
    github.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the token (default: token.txt here, else the variable GITHUB_TOKEN, else anonymous)",
    )
    github.add_argument(
        "--api-url", default=GITHUB_API, metavar="URL", help="another server, e.g. https://HOST/api/v3"
    )
    github.add_argument("--retry-failed", action="store_true", help="try again what could not be fetched")
    local = parser.add_argument_group("from this machine")
    local.add_argument(
        "--local",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="folders, git repositories, archives; without PATH the installed Python (default: GitHub)",
    )
    local.add_argument(
        "--max-mb",
        type=megabyte_count,
        default=40.0,
        metavar="MB",
        help="of the installed Python, the largest packages are cut first, 0 = all",
    )
    parser.add_argument(
        "--repos", type=Path, default=Path("repos"), metavar="FOLDER", help="where everything goes"
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="search finished days and take what was pushed to since; take unchanged local sources again",
    )
    return parser


def count(text: str) -> int:
    """A whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if (number := count(text)) == 0:
        raise ValueError
    return number


def megabyte_count(text: str) -> float:
    """A number of at least 0."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.local is not None and (names := given_for_github(arguments, parser)):
        parser.error(
            f"--local takes no {names}: run it once with --local and once with --start-date and --end-date"
        )
    if arguments.plan and arguments.limit:
        parser.error("--plan counts everything: leave --limit to the run that fetches")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as tidily as Ctrl-C
    try:
        return collect_github(arguments, parser) if arguments.local is None else collect_local(arguments)
    except KeyboardInterrupt:
        print(
            "\ninterrupted: what was collected is kept, the same command goes on from here", file=sys.stderr
        )
        return 130
    except CollectorError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    except (OSError, sqlite3.OperationalError) as error:
        where = getattr(error, "filename", None) or arguments.repos
        reason = getattr(error, "strerror", None) or error
        print(
            f"error: {reason}: {Path(where).absolute()}: make room there, or give --repos FOLDER",
            file=sys.stderr,
        )
        return 1


def command(script: str, arguments: argparse.Namespace) -> str:
    """A command of the next stage, as it can be typed here."""
    path = script if Path.cwd() == PROJECT else str(PROJECT / script)
    repos = "" if arguments.repos == Path("repos") else f" --repos {shlex.quote(str(arguments.repos))}"
    return f"python {shlex.quote(path)}{repos}"


def given_for_github(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """The options given that only a search has: "--start-date, --query"."""
    names = "start_date end_date query min_stars max_repo_mb include_forks license plan limit retry_failed"
    given = [name for name in names.split() if getattr(arguments, name) != parser.get_default(name)]
    return ", ".join(f"--{name.replace('_', '-')}" for name in given)


def collect_local(arguments: argparse.Namespace) -> int:
    """Take the sources of this machine."""
    from local_collecting import LocalOptions
    from local_collecting import collect_local as collect

    options = LocalOptions(arguments.local, arguments.max_mb, arguments.refresh)
    return collect(arguments.repos.absolute(), options, command("preprocess/data_cleaner.py", arguments))


def collect_github(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Search and fetch what was made in a range of days; 3 when something is missing."""
    from access_token import read_token
    from collecting_report import missing_report
    from collection import Collection
    from date_range import DateRangeError, ask_range
    from github_collecting import GitHubCollecting, Options
    from safe_git import check_git, withhold_from_children
    from search_query import QueryError

    try:
        span = ask_range(arguments.start_date, arguments.end_date)
        request = request_for(span, arguments)
    except (DateRangeError, QueryError) as error:
        parser.error(str(error))
    check_api_url(arguments.api_url)
    token = read_token(arguments.token_file)
    withhold_from_children()
    check_git()
    repos = arguments.repos.absolute()
    options = Options(arguments.jobs, arguments.limit, arguments.refresh, arguments.plan)
    with Collection(repos) as collection:
        if arguments.refresh:
            collection.forget_windows(request)
        if arguments.retry_failed:
            collection.retry_failures(request)
        run = GitHubCollecting(collection, request, options)
        if not run.is_up_to_date():
            announce(span, request, repos, token, is_searching=run.has_to_search())
            search_and_fetch(run, collection, request, arguments, token)
        elif not arguments.plan:
            count = kept(collection, request)
            print(f"up to date: {repos} ({count} made {span}; --refresh searches again)")
            print(f"next: {command('preprocess/data_cleaner.py', arguments)}")
        if arguments.plan:
            show_plan(collection, request, arguments)
        missing = missing_report(collection, request)
    for line in missing:
        print(line, file=sys.stderr)
    return 3 if missing else 0


def search_and_fetch(
    run: GitHubCollecting,
    collection: Collection,
    request: Request,
    arguments: argparse.Namespace,
    token: AccessToken,
) -> None:
    """Do what is asked for and, unless it is a plan, say what came of it."""
    from access_token import NEW_TOKEN
    from collecting_report import github_report
    from github_api import TokenError

    started = time.monotonic()
    try:
        run.run(arguments.api_url, token.value)
    except TokenError as error:
        where = token.origin or "anonymous"
        raise CollectorError(f"{error}: {where}: {NEW_TOKEN}, or take it away to go on without") from None
    if not arguments.plan:
        print(github_report(collection, request, run.requests, time.monotonic() - started))
        print(f"\nwritten to {arguments.repos.absolute()}")
        print(f"next: {command('preprocess/data_cleaner.py', arguments)}")


def show_plan(collection: Collection, request: Request, arguments: argparse.Namespace) -> None:
    """What waits to be fetched, and the command that fetches it."""
    from collecting_plan import plan_report
    from repo_cloning import PARTIAL_CLONE_KB

    days = collection.planned(request, PARTIAL_CLONE_KB)
    if days:
        print(plan_report(days, arguments.jobs, sys.stdout.encoding))
    else:
        print("nothing waits to be fetched")
    print(f"\nrecorded in {arguments.repos.absolute()}")
    print("next: the same command without --plan" if days else f"{kept(collection, request)} fetched before")


def request_for(span: DateRange, arguments: argparse.Namespace) -> Request:
    """What is asked for, up to this second: the rest of today is a later run's."""
    from collection_format import Request, timestamp
    from search_query import build_queries

    queries = build_queries(
        arguments.query,
        min_stars=arguments.min_stars,
        max_repo_mb=arguments.max_repo_mb,
        include_forks=arguments.include_forks,
        licenses=arguments.license,
    )
    last = min(span.last.timestamp(), time.time())
    source = urlsplit(arguments.api_url).netloc
    return Request(source, queries, timestamp(span.first.timestamp()), timestamp(last))


def kept(collection: Collection, request: Request) -> str:
    """ "1,200 repositories" """
    tally = collection.tally(request).get("fetched")
    return plural(tally.repositories if tally else 0, "repository", "repositories")


def announce(
    span: DateRange, request: Request, repos: Path, token: AccessToken, *, is_searching: bool
) -> None:
    """Say what is about to happen, before it does."""
    print(f"collecting repositories made from {span} into {repos}", file=sys.stderr)
    if not is_searching:
        return
    more = f" and {len(request.queries) - 1} more licences" if len(request.queries) > 1 else ""
    print(f"searching for {request.queries[0]}{more}", file=sys.stderr)
    if token.value is None:
        print(
            "no token: GitHub allows 10 searches a minute instead of 30 (see token.txt.example)",
            file=sys.stderr,
        )
    else:
        print(f"with the token of {token.origin}", file=sys.stderr)


def check_api_url(url: str) -> None:
    """The token travels to this address: https, or http to this machine, and no password in it."""
    from bare_repository import is_loopback

    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    if not is_safe or not parts.hostname or "@" in parts.netloc:
        raise CollectorError(f"no https address: {url}: give --api-url {GITHUB_API} or https://HOST/api/v3")


if __name__ == "__main__":
    raise SystemExit(main())
