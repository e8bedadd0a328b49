"""Collect Python into repos/: from GitHub by date, a list, a package index, a dataset, or this machine.

Clones what GitHub's search API finds or a list names, downloads and unpacks what --pypi names, reads the rows
of a dataset, or copies what --local names; writes the Python files into repos/<owner>/<name>/ and the record
of what was asked, found, fetched and refused into repos/collection.db.

    python data_collector/data_collector.py --local
    python data_collector/data_collector.py --local ~/src ~/downloads/service.zip
    python data_collector/data_collector.py --from list.txt
    python data_collector/data_collector.py --pypi requests flask --with-dependencies
    python data_collector/data_collector.py --dataset codeparrot/codeparrot-clean --limit 20000
    python data_collector/data_collector.py --start-date 2024-03-01 --end-date 2024-03-02
    python data_collector/data_collector.py --start-date 2024-03-01 --end-date 2024-03-31 --plan
    python data_collector/data_collector.py --start-date 2024-03-01 --end-date 2024-03-31 --license permissive
    python data_collector/data_collector.py --query "org:psf topic:cli"
    python data_collector/data_collector.py --sort stars --limit 500

The first takes the Python of this machine, its standard library and installed packages, up to 40 MB: 3,300
files in 3 seconds, without token or network. The others take folders, git repositories and archives; what a
list names (owner/name, or any https address of a git server, a line; @commit or @tag after it); packages of
the indexes that pip is set up for; a dataset of the hub or of this machine; or what GitHub shows of the given
days, whole days in UTC, of all days if a query or --sort narrows the search. --plan tells how much there is
to download, and what it searched is recorded; the same command without it continues from there. GitHub allows
30 searches a minute with a token and 10 without; the token needs no permissions:
https://github.com/settings/personal-access-tokens

Interrupt it at any moment: the same command continues, and no finished search or clone is repeated.
Collected code is never run.
"""

from __future__ import annotations

from collector_cli import (
    count,
    end,
    megabyte_count,
    next_command,
    part,
    positive,
    run_collector,
    script_parser,
)

# isort: split
import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collecting.network_run import NetworkSetting
    from collection.request import DateRange, Request

GITHUB_API = "https://api.github.com"
MOST_SORTED = 5_000  # some 60 searches, recorded when all are done


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    github = parser.add_argument_group("from GitHub")
    github.add_argument(
        "--start-date", metavar="DATE", help="first day, or second: 2024-03-01T12:00:00Z (default: asked for)"
    )
    github.add_argument(
        "--end-date", metavar="DATE", help="last day, included, or last second (default: asked for)"
    )
    github.add_argument(
        "--part",
        type=part,
        metavar="K/N",
        help="only the K-th of N equal parts of these days, for N collectors, each with its own --repos and,"
        " if it can be, its own token (default: all of them)",
    )
    github.add_argument(
        "--query",
        default="",
        metavar="WORDS",
        help="free words and GitHub's qualifiers, e.g. 'parser topic:cli user:psf'; makes the dates optional"
        " (default: all of Python)",
    )
    github.add_argument(
        "--sort",
        choices=["stars"],
        help="with --limit N: the N with the most stars (default: those that were made first)",
    )
    github.add_argument(
        "--min-stars", type=count, default=0, metavar="N", help="only repositories with at least N stars"
    )
    github.add_argument(
        "--max-repo-mb",
        type=megabyte_count,
        default=0.0,
        metavar="MB",
        help="only repositories of at most this many MB, history included, 0 = any",
    )
    github.add_argument("--include-forks", action="store_true", help="collect forks too")
    github.add_argument(
        "--license",
        default="",
        metavar="LIST",
        help="SPDX names, e.g. mit,apache-2.0, or permissive (default: any, and none)",
    )
    lists = parser.add_argument_group("from a list")
    lists.add_argument(
        "--from",
        dest="from_list",
        type=Path,
        metavar="FILE",
        help="a repository a line: owner/name or an https address of a git server, with @commit or @tag if"
        " you like; - reads standard input (default: none)",
    )
    servers = parser.add_argument_group("from GitHub and lists")
    servers.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the token (default: token.txt here, else the variable GITHUB_TOKEN, else anonymous)",
    )
    servers.add_argument(
        "--api-url", default=GITHUB_API, metavar="URL", help="of another server, e.g. https://HOST/api/v3"
    )
    servers.add_argument("--retry-failed", action="store_true", help="try again what could not be fetched")
    index = parser.add_argument_group("from package indexes")
    index.add_argument(
        "--pypi",
        nargs="+",
        metavar="NAME",
        help="packages, e.g. requests 'flask>=3': their source distributions, else wheels (default: none)",
    )
    index.add_argument(
        "--pypi-file",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="requirements files, as pip install -r takes them (default: none)",
    )
    index.add_argument("--with-dependencies", action="store_true", help="take what the packages need too")
    rows = parser.add_argument_group("from a dataset")
    rows.add_argument(
        "--dataset",
        metavar="NAME",
        help="of the Hugging Face hub, or a .parquet, .jsonl or .arrow file, or a folder (default: none)",
    )
    rows.add_argument(
        "--columns",
        default="",
        metavar="LIST",
        help="e.g. content=code,repo=project,path=file,license=terms (default: by their usual names)",
    )
    rows.add_argument("--split", default="train", metavar="NAME", help="part of a dataset of the hub")
    rows.add_argument(
        "--config", default="", metavar="NAME", help="configuration of the hub's dataset (default: its own)"
    )
    local = parser.add_argument_group("from this machine")
    local.add_argument(
        "--local",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="folders, git repositories (tracked files; of bare ones the default branch), archives;"
        " without PATH the installed Python (default: GitHub)",
    )
    local.add_argument(
        "--max-mb",
        type=megabyte_count,
        default=40.0,
        metavar="MB",
        help="installed Python to take at most, the largest packages are cut first, 0 = all",
    )
    parser.add_argument(
        "--repos", type=Path, default=Path("repos"), metavar="FOLDER", help="folder to collect into"
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="fetch nothing: tell how many there are, how large, how long it takes (not with --local)",
    )
    parser.add_argument(
        "--limit",
        type=count,
        default=0,
        metavar="N",
        help="repositories to fetch, or Python files of a dataset, 0 = all (not with --pypi, --local)",
    )
    parser.add_argument(
        "--jobs", type=positive, default=8, metavar="N", help="clones at the same time, or packages, up to 4"
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="search finished days again, fetch repositories with newer pushes, take local sources again",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    check_options(arguments, parser)
    return run_collector(
        lambda: collect(arguments, parser),
        interrupted="what was collected is kept, the same command continues from here",
        place=arguments.repos,
        remedy="make room there, or give --repos FOLDER",
    )


def collect(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Collect from the source that is asked for."""
    if arguments.local is not None:
        return collect_local(arguments)
    if arguments.pypi or arguments.pypi_file:
        return collect_packages(arguments)
    if arguments.dataset:
        return collect_dataset(arguments)
    return collect_list(arguments) if arguments.from_list else collect_github(arguments, parser)


# The options that not every source takes, and the sources that take some of them.
SPECIAL = (
    "start_date end_date part query sort min_stars max_repo_mb include_forks license plan limit retry_failed"
    " with_dependencies columns split config"
).split()
TAKEN = {
    "--local": "",
    "--from": "plan limit retry_failed",
    "--pypi": "plan with_dependencies",
    "--dataset": "plan limit columns split config",
}


def check_options(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """A usage error for two sources at once, and for options that a source does not have."""
    packages = arguments.pypi or arguments.pypi_file
    sources = {
        "--local": arguments.local,
        "--from": arguments.from_list,
        "--pypi": packages or None,
        "--dataset": arguments.dataset,
    }
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        parser.error(f"{' and '.join(given)} are two sources: run once with each")
    for source in given:
        wrong = [
            f"--{name.replace('_', '-')}"
            for name in SPECIAL
            if name not in TAKEN[source].split() and getattr(arguments, name) != parser.get_default(name)
        ]
        if wrong:
            parser.error(f"{source} takes no {', '.join(wrong)}: run once with {source} and once without")
    if arguments.with_dependencies and not packages:
        parser.error("--with-dependencies belongs to --pypi and --pypi-file: name packages too")
    if (arguments.columns or arguments.config) and not arguments.dataset:
        parser.error("--columns and --config belong to --dataset: name one too")
    if arguments.part and (arguments.sort or not (arguments.start_date and arguments.end_date)):
        parser.error("--part takes both dates, which all collectors must cut alike, and no --sort")
    if arguments.sort and not 0 < arguments.limit <= MOST_SORTED:
        parser.error(
            f"--sort needs a --limit of at most {MOST_SORTED:,}; --min-stars N takes all beyond N stars"
        )
    if arguments.plan and arguments.limit and not (arguments.dataset or arguments.sort):
        parser.error("--plan counts everything: leave --limit to the run that fetches")


def cleaner_command(repos: Path) -> str:
    """The command of the next stage: "python preprocess/data_cleaner.py"."""
    given = [] if repos == Path("repos") else ["--repos", str(repos)]
    return next_command("preprocess/data_cleaner.py", *given)


def collect_local(arguments: argparse.Namespace) -> int:
    """Take the sources of this machine."""
    from collecting.local_run import LocalOptions, run_local

    options = LocalOptions(arguments.local, arguments.max_mb, arguments.refresh)
    return run_local(arguments.repos.absolute(), options, cleaner_command(arguments.repos))


def collect_dataset(arguments: argparse.Namespace) -> int:
    """Take the rows of a dataset."""
    from collecting.local_run import DatasetOptions, run_dataset

    options = DatasetOptions(
        name=arguments.dataset,
        split=arguments.split,
        config=arguments.config,
        columns=arguments.columns,
        limit=arguments.limit,
        refresh=arguments.refresh,
        is_plan=arguments.plan,
    )
    return run_dataset(arguments.repos.absolute(), options, cleaner_command(arguments.repos))


def collect_packages(arguments: argparse.Namespace) -> int:
    """Take packages of an index, through pip."""
    from cloning.git_environment import withhold_from_children
    from collecting.package_run import PackageOptions, run_packages

    withhold_from_children()
    options = PackageOptions(
        names=arguments.pypi or [],
        files=arguments.pypi_file or [],
        with_dependencies=arguments.with_dependencies,
        jobs=arguments.jobs,
        refresh=arguments.refresh,
        is_plan=arguments.plan,
    )
    return run_packages(arguments.repos.absolute(), options, cleaner_command(arguments.repos))


def collect_github(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Search and fetch what was made in a range of dates."""
    from collection.request import DateRangeError, QueryError, ask_range
    from sources.repository_list import check_api_url

    check_api_url(arguments.api_url)
    try:
        is_narrow = bool(arguments.query or arguments.sort)
        span = ask_range(arguments.start_date, arguments.end_date, is_narrow=is_narrow)
        if arguments.part:
            span = span.part(*arguments.part)
        request = request_for(span, arguments)
    except (DateRangeError, QueryError) as error:
        parser.error(str(error))
    setting = network_setting(arguments)
    from collecting.network_run import run_search

    return run_search(setting, request, span)


def collect_list(arguments: argparse.Namespace) -> int:
    """Fetch what a list names."""
    setting = network_setting(arguments)
    from collecting.network_run import run_list

    return run_list(setting, arguments.from_list)


def network_setting(arguments: argparse.Namespace) -> NetworkSetting:
    """The options of a run that clones, once all that it needs is there; no child will inherit the token."""
    from cloning.git_environment import check_git, withhold_from_children
    from search.access_token import read_token
    from sources.repository_list import check_api_url

    check_api_url(arguments.api_url)
    token = read_token(arguments.token_file)
    withhold_from_children()
    check_git()

    from collecting.network_run import NetworkSetting

    return NetworkSetting(
        repos=arguments.repos.absolute(),
        api_url=arguments.api_url,
        token=token,
        jobs=arguments.jobs,
        limit=arguments.limit,
        is_by_stars=arguments.sort == "stars",
        refresh=arguments.refresh,
        is_plan=arguments.plan,
        retry_failed=arguments.retry_failed,
        next_command=cleaner_command(arguments.repos),
    )


def request_for(span: DateRange, arguments: argparse.Namespace) -> Request:
    """What is asked for, up to this second: a later run finds the rest of today."""
    from collection.request import Request, build_queries, timestamp

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


if __name__ == "__main__":
    end(main())
