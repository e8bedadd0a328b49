"""The pages that people read: every command runs or is accepted, every link leads somewhere, figures agree.

Each command of a ```bash block is taken in one of four ways (WAYS, the first that matches): it is run, it is
run against the stand-in for GitHub, it is read by the script's own parser, or it is another program's and a
reason says what is checked instead. A command that no way matches fails, so nothing is passed over silently.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from git_stand_in import make_repository
from github_stand_in import GitHubStandIn
from pages import LINK, LOG, PAGES, Block, anchors, blocks, commands, name_of_page, prose, six_commands
from project import BESIDE_THE_JOURNEY, PROJECT, SCRIPTS, STDLIB, run_script, succeed
from test_layout import PACKAGES

EVERY_SCRIPT = (*SCRIPTS, *BESIDE_THE_JOURNEY)
README = PROJECT / "README.md"
README_LINES = 250
LONGEST_SENTENCE = 35  # words
LANGUAGES = {"bash", "python", "text", "json", "vim", "lua", "yaml"}

# Options that make a stage small; they come last, where they win.
SMALL_RUN = "--steps 2 --device cpu --any-tokenizer --restart"
SMALL_EVALUATION = "--kilobytes 10 --samples 2 --max-new-tokens 8 --threads 1"
SMALL_SHAPE = "--n-layer 1 --n-head 1 --n-embd 16 --block-size 64"
CALL = re.compile(
    rf"""python[ ](?:~/GPyT/)?(?P<script>{"|".join(map(re.escape, EVERY_SCRIPT))})
         (?P<arguments>(?:\s+(?:"[^"]*"|'[^']*'|[^\s|<>&;"']+))*)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Way:
    """How commands that match are held: how ("run", "github", "parse" or "told") and why that way."""

    pattern: str
    how: str
    why: str


WAYS = (
    Way(r"^python (benchmarks|docs)/\w+\.py", "told", "minutes to hours; their options are looked up"),
    Way(
        r"^python data_collector/data_collector\.py .*--(start-date|from|query|sort) ",
        "github",
        "a stand-in plays GitHub",
    ),
    Way(r"data_collector\.py --pypi", "parse", "test_from_index.py: a stand-in plays the package index"),
    Way(r"data_collector\.py --dataset", "parse", "test_from_dataset.py; the hub is not reachable"),
    Way(r"^python preprocess/\w+\.py --repos repos-1 ", "parse", "test_several_collectors.py reads several"),
    Way(r"^cat list\.txt \| ", "parse", "test_from_list.py reads such a list"),
    Way(r"model/train\.py.* --init-from", "run", "the shape comes from the model"),
    Way(r"^torchrun .*model/train\.py", "parse", "tests of ranks start several processes"),
    Way(r"model/train\.py.* --(minutes|device|fim-rate)", "parse", "test_train.py runs such options"),
    Way(r"model/train\.py", "run", ""),
    Way(r"^python model/code_generator\.py$", "parse", "the prompt on a terminal: test_prompt_session.py"),
    Way(r"^python model/serve\.py", "parse", "test_serve.py starts it"),
    Way(r"^chmod ", "told", "test_serve.py checks what the mode of the key has to be"),
    Way(r"model/evaluate\.py.* --humaneval", "parse", "test_evaluate.py lets a model solve problems"),
    Way(r"data_preprocess\.py.* --ray", "parse", "test_ray_cluster.py runs it on three nodes"),
    Way(
        r"^(RAY_AUTH_MODE=token )?(ray|kubectl) ",
        "told",
        "a cluster's; test_ray_cluster.py starts such nodes",
    ),
    Way(r"^(cat \S+ \| )?python (~/GPyT/)?[a-z_]+/[a-z_]+\.py", "run", ""),
    Way(r"^python -c |^head |^mkdir |^cd |^cp token\.txt\.example ", "run", ""),
    Way(r"^git clone <address of this repository> GPyT$", "told", "a place to fill in"),
    Way(r"^bash quickstart\.sh", "told", "test_pipeline.py runs it whole, in an environment that is there"),
    Way(r"^bash run_tests\.sh", "told", "it is what runs this; its options are read here"),
    Way(r"^python -m pytest", "told", "run_tests.sh does that; the named files must exist"),
    Way(r"^(python3 -m venv \.venv && )?\. \.venv/bin/activate$", "told", "quickstart's test makes one"),
    Way(r"^(uv |pip |pre-commit |ruff |mypy )", "told", "from a package index; pins must be ours"),
    Way(r"^(transformers|curl|llama-server|ollama|hf) ", "told", "other programs; the paths must be ours"),
)


def way_of(command: str) -> Way:
    """The way in which a command is held; a command that none matches is not held at all."""
    for way in WAYS:
        if re.search(way.pattern, command):
            return way
    raise AssertionError(f"no test holds this command: {command}: run it, or say in WAYS why not")


def bash_commands() -> list[tuple[str, str]]:
    """(page, command) for every line of every ```bash block."""
    found = [block for page in PAGES for block in blocks(page, "bash")]
    return [(block.page, command) for block in found for command in commands(block)]


def made_small(command: str) -> str:
    """A command with the options that make it small behind those of each script in it."""

    def small(call: re.Match[str]) -> str:
        if call["script"] == "model/train.py":
            shape = "" if "--init-from" in call["arguments"] else SMALL_SHAPE
            return f"{call[0]} {SMALL_RUN} {shape}"
        if call["script"] == "model/evaluate.py":
            return f"{call[0]} {SMALL_EVALUATION}"
        if call["script"] == "model/code_generator.py":
            return f"{call[0]} --max-new-tokens 8"
        if call["arguments"].strip() == "--local":
            return f"{call[0]} --max-mb 1"
        return call[0]

    made = CALL.sub(small, command)
    return made.replace("installed/python/json/", "local/json/").replace("local/shop", "local/email")


def parse(command: str) -> None:
    """Let the script's own parser read its options: an unknown one raises SystemExit."""
    if launcher := re.match(r"torchrun (.*?)(?=model/train\.py)", command):
        from torch.distributed.run import get_args_parser

        get_args_parser().parse_args([*shlex.split(launcher[1]), "model/train.py"])
        command = f"python {command[launcher.end() :]}"
    calls = list(CALL.finditer(command))
    assert calls, command
    for call in calls:
        parser = importlib.import_module(Path(call["script"]).stem).build_parser()
        parser.parse_args(shlex.split(call["arguments"], comments=True))


def look_up(command: str) -> None:
    """A benchmark, a picture's or a shell script must exist and name each long option in its source."""
    command, dashes, of_training = command.partition(" -- ")
    words = shlex.split(command)
    if words[1:3] == ["-m", "pytest"]:
        return
    if dashes:  # a benchmark hands these on
        parse(f"python model/train.py {of_training}")
    source = (PROJECT / words[1]).read_text("utf-8")
    if words[1] == "run_tests.sh":
        source += (PROJECT / "tests/conftest.py").read_text("utf-8")
    options = [word for word in words if word.startswith("--")]
    assert [option for option in options if not re.search(rf"{option}\b", source)] == [], command


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of all stages, made from three small packages of the standard library."""
    folder = tmp_path_factory.mktemp("pages") / "work"
    folder.mkdir()
    sources = [tmp_path_factory.mktemp("sources") / name for name in ("json", "email", "http", "logging")]
    for source in sources:
        shutil.copytree(STDLIB / source.name, source, ignore=shutil.ignore_patterns("__pycache__"))
        (source / "pyproject.toml").write_text('[project]\nname = "x"\nlicense = "MIT"\n', encoding="utf-8")
    shape = "--n-layer 2 --n-head 2 --n-embd 32 --block-size 64"
    succeed(run_script("data_collector/data_collector.py", "--local", *sources, cwd=folder))
    succeed(run_script("preprocess/data_preprocess.py", cwd=folder))
    succeed(run_script("preprocess/tokenizer.py", "-t", "--vocab-size", "512", cwd=folder))
    succeed(run_script("model/train.py", *f"--steps 8 {shape} --device cpu".split(), cwd=folder))
    return folder


@pytest.fixture
def workplace(journey: Path, tmp_path: Path) -> Path:
    """A copy of the journey's folder with what the pages' commands name: in it, and in a home of its own."""
    work, home = tmp_path / "work", tmp_path / "home"
    shutil.copytree(journey, work)
    for name in ("data_collector", "preprocess", "model", "token.txt.example"):
        (work / name).symlink_to(PROJECT / name)
    (work / "half_a_file.py").write_text("import os\n\n\ndef f(x):\n", encoding="utf-8")
    (work / "asked.txt").write_text("ann\n", encoding="utf-8")
    shutil.copytree(work / "GPyT", work / "old/GPyT")
    (work / "mine").mkdir()
    shutil.copy(work / "data.txt", work / "mine/data.txt")
    (home / "downloads").mkdir(parents=True)
    (home / "GPyT").symlink_to(PROJECT)
    (work / "GPyT" / "README.md").touch()
    for name in ("shop", "src", "work"):
        shutil.copytree(STDLIB / "json", home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.make_archive(str(home / "downloads/service"), "zip", home / "src")
    return work


def in_shell(command: str, workplace: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a page as bash would, `python` being the one that runs this test."""
    binaries = workplace.parent / "bin"
    binaries.mkdir(exist_ok=True)
    python = binaries / "python"
    python.unlink(missing_ok=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(workplace.parent / "home"),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(workplace.parent / "hf"),
        "MPLBACKEND": "agg",
        **env,
    }
    return subprocess.run(
        ["bash", "-c", command],
        cwd=workplace,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# Commands


def test_every_command_is_held_in_some_way() -> None:
    for _, command in bash_commands():
        way_of(command)


def test_every_way_is_there_for_some_command() -> None:
    used = {way_of(command) for _, command in bash_commands()}
    assert [way.pattern for way in WAYS if way not in used] == []


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Commands that need not run again: those of test_pipeline.py, and those that stand on several pages."""
    return set(six_commands())


@pytest.mark.parametrize("page", [name_of_page(page) for page in PAGES])
def test_the_commands_of_a_page_run(page: str, workplace: Path, done: set[str]) -> None:
    """In their order, each in a shell of its own, small; a `cd` counts for those that follow in its block."""
    for block in blocks(PROJECT / page, "bash"):
        before = ""
        for command in commands(block):
            if way_of(command).how != "run" or command in done:
                continue
            if re.match(r"cd |mkdir ", command):
                before = "" if command == "cd GPyT" else f"{command} && "
                continue
            done.add(command)
            result = in_shell(before + made_small(command), workplace)
            assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubStandIn]:
    """Two repositories of the first day that the pages ask for."""
    root = tmp_path_factory.mktemp("github")
    with GitHubStandIn(root) as server:
        for name in ("ann/tool", "ben/parser"):
            make_repository(root / f"{name}.git", {"a.py": b"a = 1\n"})
            server.add(name, "2024-03-01T10:00:00Z", stargazers_count=9)
        yield server


def test_the_commands_that_ask_github_are_understood_by_its_stand_in(
    github: GitHubStandIn, tmp_path: Path
) -> None:
    asking = {command for _, command in bash_commands() if way_of(command).how == "github"}
    assert asking
    (tmp_path / "list.txt").write_text("ann/tool\n", encoding="utf-8")
    for command in sorted(asking):
        words = shlex.split(command)[2:]
        result = run_script(
            SCRIPTS[0], *words, "--api-url", github.url, cwd=tmp_path, env={"GITHUB_TOKEN": "github_pat_x"}
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    assert github.violations == []


def test_commands_within_sentences_and_tables_are_accepted() -> None:
    """`python model/train.py --minutes 30`: its options are read; of a benchmark they are looked up."""
    checked = 0
    texts = [page.read_text("utf-8") for page in PAGES]
    texts.append(LOG.read_text("utf-8").partition("## Contents")[0])  # what holds today
    for text in texts:
        for command in re.findall(r"`((?:python|bash) [^`]+)`", text):
            if CALL.search(command):
                if not command.endswith("--version"):
                    parse(command)
            else:
                look_up(command)
            checked += 1
    assert checked > 20


def test_the_options_of_commands_that_are_not_run_are_those_of_the_scripts() -> None:
    parsed = [command for _, command in bash_commands() if way_of(command).how == "parse"]
    assert parsed
    for command in parsed:
        parse(command)


def test_what_is_installed_is_what_the_requirements_pin() -> None:
    pins = {
        line.split("#")[0].strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (PROJECT / name).read_text("utf-8").splitlines()
    }
    named = [word for _, command in bash_commands() for word in command.split() if "==" in word]
    assert named
    assert [pin for pin in named if pin not in pins] == []


def test_files_and_options_in_other_programs_commands_are_ours() -> None:
    """bash scripts know their options, benchmarks and tests exist, exports have their default names."""
    for page, command in bash_commands():
        if way_of(command).how != "told":
            continue
        words = shlex.split(command, comments=True)
        for word in words:
            if re.fullmatch(r"(docs|benchmarks|tests)/\S+\.py|\w+\.sh|requirements\S*\.txt", word):
                assert (PROJECT / word).is_file(), (page, command)
        if words[0] in ("bash", "python"):
            look_up(command)
        if words[0] == "llama-server":
            assert words[words.index("-m") + 1] == "GPyT/gpyt.gguf"


def test_the_model_that_ollama_reads_is_the_one_that_export_writes() -> None:
    texts = [block for page in PAGES for block in blocks(page, "text")]
    [modelfile] = [block for block in texts if block.text.startswith("FROM ")]
    assert modelfile.text.splitlines()[0] == "FROM ./GPyT/gpyt.gguf"


def test_the_hub_command_is_one_that_its_program_knows(workplace: Path) -> None:
    program = Path(sys.executable).with_name("hf")
    for _, command in bash_commands():
        if command.startswith("hf "):
            result = in_shell(f"{program} {command[3:]}", workplace)  # offline, so it gets no further
            assert result.returncode != 2 and "offline mode" in result.stderr, result.stderr


PYTHON_BLOCKS = [block for page in PAGES for block in blocks(page, "python")]
# Uploads are called with the real signatures and go nowhere.
NO_UPLOADS = """
from unittest import mock
import huggingface_hub
for name in ("create_repo", "upload_folder"):
    method = getattr(huggingface_hub.HfApi, name)
    setattr(huggingface_hub.HfApi, name, mock.create_autospec(method))
"""


@pytest.fixture(scope="module")
def exported(journey: Path) -> Path:
    """The journey with the exports and the folder of shards that some Python of the pages reads."""
    pytest.importorskip("ctranslate2")
    succeed(run_script("preprocess/data_preprocess.py", "--output", "data/", cwd=journey))
    succeed(run_script("model/export.py", "--format", "ctranslate2", cwd=journey))
    return journey


def test_the_python_of_the_pages_runs(exported: Path, tmp_path: Path) -> None:
    """All of it in one process, each block with names of its own."""
    work = tmp_path / "work"
    shutil.copytree(exported, work)
    program = ["import builtins", NO_UPLOADS]
    for block in PYTHON_BLOCKS:
        program.append(f"exec(compile({block.text!r}, {block.page!r}, 'exec'), {{'__name__': 'page'}})")
    (tmp_path / "pages.py").write_text("\n".join(program), encoding="utf-8")
    result = in_shell(f"python {tmp_path}/pages.py", work)
    assert result.returncode == 0, result.stderr
    assert (work / "curve.png").is_file()
    assert {path.name for path in (work / "dataset").iterdir()} == {
        "train.parquet",
        "held_out.parquet",
        "README.md",
    }


@pytest.mark.parametrize("script", EVERY_SCRIPT)
def test_every_script_knows_its_version(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        importlib.import_module(Path(script).stem).build_parser().parse_args(["--version"])
    assert end.value.code == 0
    changelog = (PROJECT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert newest and capsys.readouterr().out == f"GPyT {newest[1]}\n"


# Words


def test_the_readme_stays_a_way_in() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("page", [name_of_page(page) for page in PAGES])
def test_no_sentence_is_too_long_to_say(page: str) -> None:
    sentences = prose(PROJECT / page)
    assert [sentence for sentence in sentences if len(sentence.split()) > LONGEST_SENTENCE] == []


@pytest.mark.parametrize("page", [name_of_page(page) for page in PAGES])
def test_every_block_says_what_it_is_written_in(page: str) -> None:
    assert {block.language for block in blocks(PROJECT / page)} <= LANGUAGES


@pytest.mark.parametrize("page", [name_of_page(page) for page in (*PAGES, LOG, PROJECT / "CHANGELOG.md")])
def test_every_link_leads_somewhere(page: str) -> None:
    for match in LINK.finditer((PROJECT / page).read_text("utf-8")):
        path, _, anchor = match["target"].partition("#")
        if path.startswith("https://"):
            continue
        target = (PROJECT / page).parent / path if path else PROJECT / page
        assert target.exists(), match[0]
        if anchor:
            assert anchor in anchors(target), match[0]


@pytest.mark.parametrize("page", [name_of_page(page) for page in PAGES])
def test_files_that_a_page_names_are_there(page: str) -> None:
    text = (PROJECT / page).read_text("utf-8")
    places = re.findall(r"`((?:data_collector|preprocess|model|tests|benchmarks|docs)/[\w./]*)`", text)
    assert [place for place in places if not (PROJECT / place).exists()] == []


def defined_names(file: Path) -> set[str]:
    """Functions and classes of a module, methods as Class.method."""
    names: set[str] = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (inner.name for inner in node.body if isinstance(inner, ast.FunctionDef))
            names |= {f"{node.name}.{method}" for method in methods}
    return names


def test_the_functions_of_the_journeys_are_there() -> None:
    """`training.trainer.Trainer.step`: a module below a folder, and what is defined in it."""
    text = (PROJECT / "docs/architecture.md").read_text("utf-8")
    modules = {}
    for folder in ("data_collector", "preprocess", "model"):
        for file in (PROJECT / folder).rglob("*.py"):
            modules[".".join(file.relative_to(PROJECT / folder).with_suffix("").parts)] = file
    checked = 0
    for name in re.findall(r"`([a-z_0-9]+(?:\.[A-Za-z_0-9]+)+)`", text):
        if Path(name).suffix in (".py", ".txt", ".db", ".json") or name.startswith("torch."):
            continue
        parts = name.split(".")
        prefixes = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
        module = next((prefix for prefix in prefixes if prefix in modules), "")
        assert module, f"no module holds {name}"
        assert name[len(module) + 1 :] in defined_names(modules[module]), name
        checked += 1
    everything = set[str]().union(*map(defined_names, modules.values()))
    for name in re.findall(r"`([A-Z]\w+\.[a-z]\w+)`", text):
        assert name in everything, name
    assert checked > 12


def test_the_packages_on_the_page_are_those_of_the_folders() -> None:
    """In their order, which is who may import whom."""
    text = (PROJECT / "docs/architecture.md").read_text("utf-8").partition("## What lies between")[0]
    shown = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert shown == [package for packages in PACKAGES.values() for package in packages]


def test_the_recorded_session_is_a_small_picture_without_a_script() -> None:
    picture = PROJECT / "docs/terminal.svg"
    assert picture.stat().st_size < 150_000
    names = {element.tag.rpartition("}")[2] for element in ElementTree.parse(picture).iter()}
    assert names <= {"svg", "title", "rect", "g", "text", "tspan", "animate"}
    texts = [
        "".join(element.itertext())
        for element in ElementTree.parse(picture).iter()
        if element.tag.endswith("text")
    ]
    assert any(text.startswith("#\N{NO-BREAK SPACE}80") and "tokens" in text for text in texts)
    # Browsers drop ordinary spaces where a line of a picture begins, and with them Python's indentation.
    assert any(text.startswith(4 * "\N{NO-BREAK SPACE}") for text in texts)
    assert not any(" " in text for text in texts)


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {README}
    while new:
        page = new.pop()
        reached.add(page)
        targets = {match["target"].partition("#")[0] for match in LINK.finditer(page.read_text("utf-8"))}
        paths = {(page.parent / target).resolve() for target in targets if target.endswith(".md")}
        new |= {path for path in paths if path in PAGES} - reached
    assert set(PAGES) - reached == set()


# Figures that stand in several places


def needs() -> dict[str, str]:
    """What quickstart needs, by the README's table: {"disk": "4 GB", "time": "7 minutes", ...}"""
    row = re.compile(r"^\| (disk|memory|time) \| (\d+(?:\.\d+)? (?:GB|minutes))", re.MULTILINE)
    found = dict(row.findall(README.read_text("utf-8")))
    assert set(found) == {"disk", "memory", "time"}
    return found


def test_quickstart_says_what_the_readme_says_that_it_needs() -> None:
    text = (PROJECT / "quickstart.sh").read_text("utf-8")
    needed = needs()
    assert f"{needed['disk']} of disk" in text
    assert f"{needed['memory']} of free memory" in text
    assert f"{needed['time'].split()[0]} minutes in all" in text


def test_the_pages_say_of_quickstart_what_the_readme_says() -> None:
    """Where a page names what the journey needs, it names the README's figure."""
    needed = needs()
    for page in PAGES:
        text = page.read_text("utf-8")
        for amount, what in re.findall(r"(\d+ GB) of (disk|free memory)", text):
            assert amount == needed[what.split()[-1]], (name_of_page(page), amount, what)


def test_the_rules_on_the_page_are_those_of_the_program() -> None:
    """Rule and threshold of each row of docs/data.md, as --help lists them."""
    shown = succeed(run_script("preprocess/data_preprocess.py", "--help")).stdout
    program = dict(re.findall(r"^  (\w+)\s+((?:at most|at least|<) [\d.,]+)", shown, re.MULTILINE))
    page = (PROJECT / "docs/data.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ((?:at most|at least|<) [\d.,]+)", page, re.MULTILINE)
    assert dict(rows) == program


def test_the_hooks_are_the_commands_of_the_test_run() -> None:
    """What .pre-commit-config.yaml runs is what run_tests.sh runs, from the project's own environment."""
    import yaml  # type: ignore[import-untyped]  # arrives with huggingface_hub

    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    entries = [hook["entry"] for hook in hooks[0]["hooks"]]
    script = (PROJECT / "run_tests.sh").read_text("utf-8")
    steps = re.findall(r"^ *step (ruff .*|mypy .*)$", script, re.MULTILINE)
    assert entries == steps
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks[0]["hooks"])


def test_a_quotation_over_several_lines_is_one_command() -> None:
    block = Block("", "bash", "cd a\n# then\npython b.py 'c\nd'\n")
    assert commands(block) == ["cd a", "python b.py 'c\nd'"]
