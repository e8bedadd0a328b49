"""Collecting what a list names: from GitHub's stand-in and other git servers, with and without a token."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from collected_folder import COLLECTOR, files_in, rows_in
from collector_runs import DAY, NO_TOKEN, TOKEN, WITH_TOKEN, add_repository, kill_at_random, states
from git_stand_in import Tree, git, make_repository
from github_answers import license_named
from github_stand_in import Fault, GitHubStandIn
from project import STDLIB, run_script, succeed


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubStandIn]:
    """Four repositories that the API knows too."""
    with GitHubStandIn(tmp_path / "git") as server:
        for number in range(4):
            more = {"stargazers_count": number, "license": license_named("MIT")}
            tree: Tree = {"a.py": f"a = {number}\n".encode()}
            add_repository(server, f"ann/r{number}", f"2024-03-01T10:00:0{number}Z", tree, **more)
        yield server


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[GitHubStandIn]:
    """Another git server, of which no API tells anything."""
    make_repository(tmp_path / "elsewhere/group/sub/tool.git", {"t.py": b"t = 1\n", "LICENSE": b"?"})
    with GitHubStandIn(tmp_path / "elsewhere") as server:
        yield server


def collect(
    github: GitHubStandIn, work: Path, text: str, *options: str, env: dict[str, str] = NO_TOKEN
) -> subprocess.CompletedProcess[str]:
    (work / "list.txt").write_text(text, encoding="utf-8")
    command = ("--from", "list.txt", "--api-url", github.url, *options)
    return run_script(COLLECTOR, *command, cwd=work, env=env)


def test_names_and_addresses_become_repositories_without_a_request_to_the_api(
    github: GitHubStandIn, elsewhere: GitHubStandIn, work: Path
) -> None:
    text = f"# mine\nann/r1\n\nANN/R1\n{elsewhere.url}/group/sub/tool.git   # theirs\n"
    result = succeed(collect(github, work, text))
    host = elsewhere.url.removeprefix("http://")
    folder = f"{host.replace(':', '_')}/group_sub_tool"
    assert files_in(work / "repos") == {"ann/r1/a.py": b"a = 1\n", f"{folder}/t.py": b"t = 1\n"}
    columns = "full_name, source, clone_url, folder, state, length(commit_sha)"
    assert sorted(map(str, rows_in(work / "repos", columns))) == sorted(
        map(
            str,
            [
                ("ann/r1", "git", f"{github.url}/ann/r1.git", "ann/r1", "fetched", 40),
                (
                    f"{host}/group/sub/tool",
                    "git",
                    f"{elsewhere.url}/group/sub/tool.git",
                    folder,
                    "fetched",
                    40,
                ),
            ],
        )
    )
    assert github.received == [] and "listed     2 repositories" in result.stdout
    assert "1 line names a repository again" in result.stdout


def test_a_second_run_asks_nobody(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "ann/r0\nann/r1\n", env=WITH_TOKEN))
    before = len(github.git_requests), len(github.received)
    result = succeed(collect(github, work, "# other words\nann/r1\nann/r0\n", env=WITH_TOKEN))
    assert result.stdout.startswith("up to date: ")
    assert (len(github.git_requests), len(github.received)) == before


def test_a_longer_list_fetches_only_what_is_new(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "ann/r0\nann/r1\n"))
    github.git_requests.clear()
    succeed(collect(github, work, "ann/r0\nann/r1\nann/r2\n"))
    assert {request.path.split(".git/")[0] for request in github.git_requests} == {"/ann/r2"}


def test_a_list_comes_from_standard_input_too(github: GitHubStandIn, work: Path) -> None:
    command = ("--from", "-", "--api-url", github.url)
    succeed(run_script(COLLECTOR, *command, cwd=work, stdin="ann/r2\n", env=NO_TOKEN))
    assert files_in(work / "repos") == {"ann/r2/a.py": b"a = 2\n"}


@pytest.mark.parametrize("kind", ["commit", "tag", "annotated tag", "branch"])
def test_a_commit_tag_or_branch_is_what_is_fetched(github: GitHubStandIn, work: Path, kind: str) -> None:
    path = github.git_root / "ann/r1.git"
    old = (path / "refs/heads/main").read_text("utf-8").strip()
    if kind == "tag":
        git(path, "tag", "v1", old)
    elif kind == "annotated tag":
        git(path, "tag", "--annotate", "--message=x", "v1", old)
    elif kind == "branch":
        git(path, "branch", "v1", old)
    make_repository(path, {"a.py": b"a = 'new'\n"}, parent=old)
    succeed(collect(github, work, f"ann/r1@{old if kind == 'commit' else 'v1'}\n"))
    assert files_in(work / "repos") == {"ann/r1/a.py": b"a = 1\n"}
    assert rows_in(work / "repos", "commit_sha") == [(old,)]


def test_another_commit_than_before_is_fetched_in_its_place(github: GitHubStandIn, work: Path) -> None:
    path = github.git_root / "ann/r1.git"
    old = (path / "refs/heads/main").read_text("utf-8").strip()
    new = make_repository(path, {"a.py": b"a = 'new'\n"}, parent=old)
    succeed(collect(github, work, f"ann/r1@{old}\n"))
    succeed(collect(github, work, "ann/r1\n"))
    assert files_in(work / "repos") == {"ann/r1/a.py": b"a = 'new'\n"}
    assert rows_in(work / "repos", "commit_sha") == [(new,)]


def test_refresh_takes_what_changed_and_leaves_commits_alone(github: GitHubStandIn, work: Path) -> None:
    commits = {}
    for name in ("r1", "r2"):
        path = github.git_root / f"ann/{name}.git"
        commits[name] = (path / "refs/heads/main").read_text("utf-8").strip()
    text = f"ann/r1@{commits['r1']}\nann/r2\n"
    succeed(collect(github, work, text))
    make_repository(github.git_root / "ann/r2.git", {"a.py": b"new\n"}, parent=commits["r2"])
    github.git_requests.clear()
    succeed(collect(github, work, text, "--refresh"))
    assert files_in(work / "repos") == {"ann/r1/a.py": b"a = 1\n", "ann/r2/a.py": b"new\n"}
    assert {request.path.split(".git/")[0] for request in github.git_requests} == {"/ann/r2"}


def test_what_is_not_there_is_named_and_the_others_are_taken(github: GitHubStandIn, work: Path) -> None:
    text = f"ann/r1@v9\nann/r2@abc1234\nann/none\nann/r3\nnonsense\n{github.url}/\n"
    for _ in range(2):
        result = collect(github, work, text)
        assert result.returncode == 3 and "Traceback" not in result.stderr
        assert "ann/r1: no such commit, tag or branch: v9" in result.stderr
        assert "ann/r2: no such commit, tag or branch: abc1234 (a commit needs all of" in result.stderr
        assert "ann/none: not found" in result.stderr
        assert "not taken: line 5: neither owner/name nor an https address: nonsense" in result.stderr
        assert "not taken: line 6: " in result.stderr
        assert files_in(work / "repos") == {"ann/r3/a.py": b"a = 3\n"}


def test_what_could_not_be_had_is_tried_again_when_asked(github: GitHubStandIn, work: Path) -> None:
    assert collect(github, work, "ann/none\n").returncode == 3
    make_repository(github.git_root / "ann/none.git", {"x.py": b"x = 1\n"})
    assert collect(github, work, "ann/none\n").returncode == 3
    succeed(collect(github, work, "ann/none\n", "--retry-failed"))
    assert files_in(work / "repos") == {"ann/none/x.py": b"x = 1\n"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "\x00\x01\x02binary\x03\n", "one two three\n"])
def test_a_list_that_names_nothing_is_one_line(github: GitHubStandIn, work: Path, text: str) -> None:
    result = collect(github, work, text)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert str(work / "list.txt") in result.stderr and not (work / "repos").exists()


# With a token


def test_with_a_token_github_tells_licence_stars_and_date(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "ann/r3\nann/r1\n", env=WITH_TOKEN))
    columns = "full_name, source, license, stars, created_at"
    host = github.url.removeprefix("http://")
    assert rows_in(work / "repos", columns) == [
        ("ann/r1", host, "MIT", 1, "2024-03-01T10:00:01Z"),
        ("ann/r3", host, "MIT", 3, "2024-03-01T10:00:03Z"),
    ]
    assert len(github.received) == 2 and github.violations == []


def test_with_a_token_only_githubs_own_are_asked_for(
    github: GitHubStandIn, elsewhere: GitHubStandIn, work: Path
) -> None:
    succeed(collect(github, work, f"{elsewhere.url}/group/sub/tool.git\n", env=WITH_TOKEN))
    assert github.received == [] and elsewhere.received == []
    assert all("authorization" not in request.headers for request in elsewhere.git_requests)


def test_limits_are_waited_out_while_repositories_are_asked_for(github: GitHubStandIn, work: Path) -> None:
    github.faults = [Fault(429, {"retry-after": "1"}, "Too many requests"), Fault(502)]
    succeed(collect(github, work, "ann/r0\nann/r1\n", env=WITH_TOKEN))
    assert states(work) == {"ann/r0": "fetched", "ann/r1": "fetched"}


def test_one_that_the_api_does_not_show_is_named_and_not_cloned(github: GitHubStandIn, work: Path) -> None:
    result = collect(github, work, "ann/none\nann/r1\n", env=WITH_TOKEN)
    assert result.returncode == 3 and "ann/none: not found: deleted, renamed or private" in result.stderr
    assert {request.path.split(".git/")[0] for request in github.git_requests} == {"/ann/r1"}


def test_a_wrong_token_is_one_line(github: GitHubStandIn, work: Path) -> None:
    github.faults = [Fault(401, {}, "Bad credentials")]
    result = collect(github, work, "ann/r1\n", env=WITH_TOKEN)
    assert result.returncode == 1 and "refused the token" in result.stderr
    assert TOKEN not in result.stderr


def test_a_plan_tells_sizes_where_github_does(
    github: GitHubStandIn, elsewhere: GitHubStandIn, work: Path
) -> None:
    text = f"ann/r0\n{elsewhere.url}/group/sub/tool.git\n"
    plan = succeed(collect(github, work, text, "--plan", env=WITH_TOKEN)).stdout
    assert "2 repositories wait" in plan and "10 kB to download" in plan
    assert "the size of 1 repository is not known" in plan
    assert github.git_requests == [] and elsewhere.git_requests == []
    succeed(collect(github, work, text))
    assert set(states(work).values()) == {"fetched"}
    assert "nothing is left to fetch" in succeed(collect(github, work, text, "--plan")).stdout


# One repository under several names


def test_a_renamed_repository_is_taken_once_under_its_new_name(github: GitHubStandIn, work: Path) -> None:
    make_repository(github.git_root / "ann/new.git", {"n.py": b"n = 1\n"})
    location = f"{github.url}/ann/new.git/info/refs?service=git-upload-pack"
    github.before_git = lambda path: (
        Fault(301, {"Location": location}, "moved") if path.startswith("/ann/old") else None
    )
    result = succeed(collect(github, work, "ann/old\n"))
    assert "renamed: ann/old is ann/new now" in result.stdout
    assert states(work) == {"ann/new": "fetched"}
    succeed(collect(github, work, "ann/new\nann/old\n"))
    assert states(work) == {"ann/new": "fetched"}
    assert list(files_in(work / "repos").values()) == [b"n = 1\n"]
    github.git_requests.clear()
    succeed(collect(github, work, "ann/old\nann/new\n"))
    assert github.git_requests == []


def test_two_names_of_one_repository_in_a_list_become_one(github: GitHubStandIn, work: Path) -> None:
    location = f"{github.url}/ann/r1.git/info/refs?service=git-upload-pack"
    github.before_git = lambda path: (
        Fault(301, {"Location": location}, "moved") if path.startswith("/ann/old") else None
    )
    for _ in range(2):
        succeed(collect(github, work, "ann/old\nann/r1\n"))
        assert states(work) == {"ann/r1": "fetched"}
        assert files_in(work / "repos") == {"ann/r1/a.py": b"a = 1\n"}


def test_the_api_tells_of_a_renamed_repository_before_it_is_cloned(github: GitHubStandIn, work: Path) -> None:
    github.renamed["ann/old"] = 2
    for _ in range(2):
        succeed(collect(github, work, "ann/old\nann/r1\n", env=WITH_TOKEN))
        assert states(work) == {"ann/r1": "fetched"}
        assert files_in(work / "repos") == {"ann/r1/a.py": b"a = 1\n"}


def test_what_a_search_has_found_is_not_fetched_again_by_a_list(github: GitHubStandIn, work: Path) -> None:
    everything = ("--api-url", github.url, *DAY)
    succeed(run_script(COLLECTOR, *everything, cwd=work, env=NO_TOKEN))
    github.git_requests.clear()
    succeed(collect(github, work, "Ann/R1\nann/r2\n"))
    assert github.git_requests == [] and len(states(work)) == 4


def test_what_a_list_has_fetched_is_not_fetched_again_by_a_search(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "ann/r1\nann/r2\n"))
    github.git_requests.clear()
    everything = ("--api-url", github.url, *DAY)
    succeed(run_script(COLLECTOR, *everything, cwd=work, env=NO_TOKEN))
    fetched = {request.path.split(".git/")[0] for request in github.git_requests}
    assert fetched == {"/ann/r0", "/ann/r3"}
    assert rows_in(work / "repos", "full_name, stars, license")[2] == ("ann/r2", 2, "MIT")
    assert succeed(collect(github, work, "ann/r1\nann/r2\n")).stdout.startswith("up to date: ")


# Servers


@pytest.fixture
def web_server() -> Iterator[str]:
    """A server that answers every address with a page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_no_git_server_is_named(github: GitHubStandIn, work: Path, web_server: str) -> None:
    result = collect(github, work, f"{web_server}/a/b\nann/r1\n")
    assert result.returncode == 3 and "a/b: no git server answers at this address" in result.stderr
    assert files_in(work / "repos") == {"ann/r1/a.py": b"a = 1\n"}


def test_a_certificate_that_nobody_vouches_for_is_named(
    github: GitHubStandIn, work: Path, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    result = collect(github, work, f"https://127.0.0.1:{server.server_port}/a/b\nann/r1\n")
    server.shutdown()
    server.server_close()
    assert result.returncode == 3 and "the certificate of its server is not valid here" in result.stderr
    assert files_in(work / "repos") == {"ann/r1/a.py": b"a = 1\n"}


def test_a_server_that_knows_no_filters_gives_its_python_files_too(
    github: GitHubStandIn, work: Path, tmp_path: Path
) -> None:
    path = github.git_root / "bob/plain.git"
    make_repository(path, {"a.py": b"a = 1\n", "b/c.py": b"c = 1\n", "x.bin": b"\0" * 1000})
    (path / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n", encoding="utf-8")
    github.add("bob/plain", "2024-03-01T10:00:00Z", size=5000)
    succeed(collect(github, work, "bob/plain\n", env=WITH_TOKEN))
    assert files_in(work / "repos") == {"bob/plain/a.py": b"a = 1\n", "bob/plain/b/c.py": b"c = 1\n"}


# Interruptions and options


def test_a_run_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    github: GitHubStandIn, work: Path
) -> None:
    text = "ann/none\n"
    for number in range(12):
        tree: Tree = {"b.py": f"b = {number}\n".encode()}
        add_repository(github, f"bob/r{number}", "2024-03-01T10:00:00Z", tree)
        text += f"bob/r{number}\n"
    (work / "list.txt").write_text(text, encoding="utf-8")
    github.before_git = lambda _: time.sleep(0.02)
    kill_at_random(
        work,
        *("--from", "list.txt", "--jobs", "2", "--api-url", github.url),
        env=WITH_TOKEN,
        progress=lambda: len(github.received) + len(github.git_requests),
        kills=4,
        seconds=0.5,
        seed=5,
    )
    assert collect(github, work, text, env=WITH_TOKEN).returncode == 3
    assert files_in(work / "repos") == {
        f"bob/r{number}/b.py": f"b = {number}\n".encode() for number in range(12)
    }
    assert states(work)["ann/none"] == "gone" and len(states(work)) == 13


def test_one_server_that_is_down_does_not_keep_others_from_being_asked(
    github: GitHubStandIn, elsewhere: GitHubStandIn, work: Path
) -> None:
    github.before_git = lambda _: Fault(404)
    text = "".join(f"ann/gone{number}\n" for number in range(25)) + f"{elsewhere.url}/group/sub/tool.git\n"
    result = collect(github, work, text)
    assert result.returncode == 3 and "25 cannot be fetched" in result.stdout
    assert list(files_in(work / "repos").values()) == [b"t = 1\n"]


def test_a_limit_takes_the_first_of_a_list(github: GitHubStandIn, work: Path) -> None:
    succeed(collect(github, work, "ann/r3\nann/r1\nann/r2\n", "--limit", "2"))
    assert set(states(work)) == {"ann/r3", "ann/r1"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--local",), "--local and --from are two sources"),
        (("--query", "x"), "--from takes no --query"),
        (DAY, "--from takes no --start-date, --end-date"),
        (("--plan", "--limit", "2"), "--plan counts everything"),
    ],
)
def test_options_that_a_list_does_not_have_are_refused(
    github: GitHubStandIn, work: Path, options: tuple[str, ...], words: str
) -> None:
    result = collect(github, work, "ann/r1\n", *options)
    assert result.returncode == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert github.git_requests == []


def test_what_lists_name_reaches_the_training_data_by_name_commit_and_licence(
    github: GitHubStandIn, elsewhere: GitHubStandIn, work: Path
) -> None:
    tree: Tree = {
        f"{name}.py": (STDLIB / "json" / f"{name}.py").read_bytes() for name in ("decoder", "scanner")
    }
    make_repository(github.git_root / "ann/code.git", tree)
    github.add("ann/code", "2024-03-01T10:00:00Z", license=license_named("MIT"))
    succeed(collect(github, work, f"ann/code\n{elsewhere.url}/group/sub/tool.git\n", env=WITH_TOKEN))
    host = elsewhere.url.removeprefix("http://")
    (work / "asked.txt").write_text(f"{host}/group\n", encoding="utf-8")
    succeed(run_script("preprocess/data_cleaner.py", cwd=work))
    result = succeed(run_script("preprocess/data_preprocess.py", "--exclude", "asked.txt", cwd=work))
    assert "asked.txt" not in result.stderr
    text = (work / "data.txt").read_text("utf-8")
    commit = (github.git_root / "ann/code.git/refs/heads/main").read_text("utf-8").strip()
    assert '"repo": "ann/code"' in text and commit in text and '"license": "MIT"' in text
    assert host not in text
    ledger = (work / "data.ledger.jsonl").read_text("utf-8").splitlines()
    (left_out,) = [line for line in ledger if f"{host}/group/sub/tool" in line]
    assert '"rule": "excluded"' in left_out
