"""The rules of the house: where things lie, who may import whom, and what every command line promises."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import bpe.vocabulary_size
import gpt2.device
from bpe.vocabulary_size import CPU_MINUTES, GPU_MINUTES
from project import BESIDE_THE_JOURNEY, PROJECT, SCRIPTS, run_script, succeed

# The packages of each folder: a package imports only those before it, a script any of its folder.
PACKAGES = {
    "data_collector": "collection search cloning sources collecting".split(),
    "preprocess": "documents corpus executors bpe".split(),
    "model": (
        "gpt2 pretrained data_loading inference python_syntax attribution generation evaluation training"
        " exporting serving terminal"
    ).split(),
}
NEVER_IMPORTS = {"training": {"generation", "python_syntax"}}  # learning needs no judge of Python
NO_TORCH_AT_THE_TOP = ("pretrained", "inference")
MAY_IMPORT_TORCH = ("inference/torch_engine.py",)
HEAVY = ("torch", "transformers", "datasets", "github", "git", "ray", "starlette", "uvicorn", "pygls")

MOST_MODULES = {"data_collector": 32, "preprocess": 35, "model": 86}
MOST_MODULES_IN_A_PACKAGE = 14
MOST_LINES = 400
MOST_LINES_OF_A_CLASS = 200
SMALL_MODULE = 60  # lines; one with a single importer says in its docstring why it is a file

FOLDERS = tuple(PACKAGES)
PACKAGE_FOLDERS = [(folder, package) for folder in FOLDERS for package in PACKAGES[folder]]
MODULES = {folder: sorted((PROJECT / folder).rglob("*.py")) for folder in FOLDERS}
EVERY_MODULE = [file for files in MODULES.values() for file in files]
EVERY_SCRIPT = (*SCRIPTS, *BESIDE_THE_JOURNEY)
SCRIPT_NAMES = {Path(script).stem for script in EVERY_SCRIPT}


def is_package(file: Path) -> bool:
    return file.name == "__init__.py"


def name_of(file: Path) -> str:
    """How others import a module: model/gpt2/network.py -> "gpt2.network"."""
    parts = file.relative_to(PROJECT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, at_the_top: bool = False) -> set[str]:
    """The full names of all modules that a file imports, wherever in it, or when it is imported itself.

    imports(Path("preprocess/data_preprocess.py")) -> {"argparse", "corpus.assembly", ...}
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body if at_the_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: modules are imported by full name, not relatively"
            module = node.module or ""
            known = {name_of(other) for other in EVERY_MODULE}
            names |= {
                f"{module}.{alias.name}" if f"{module}.{alias.name}" in known else module
                for alias in node.names
            }
    return names


def importers() -> Counter[str]:
    return Counter(name for file in EVERY_MODULE for name in imports(file))


def lines_of(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def parser_of(script: str) -> argparse.ArgumentParser:
    parser = importlib.import_module(Path(script).stem).build_parser()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def default_of(script: str, option: str) -> str:
    return str(parser_of(script).get_default(option))


# Where things lie


def test_the_six_scripts_are_where_the_readme_says() -> None:
    assert [script for script in SCRIPTS if not (PROJECT / script).is_file()] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_holds_its_scripts_and_the_packages_of_the_table(folder: str) -> None:
    assert not (PROJECT / folder / "__init__.py").exists(), "a folder on sys.path is no package"
    found = {path.parent.name for path in (PROJECT / folder).glob("*/*.py")}
    assert found == set(PACKAGES[folder])


@pytest.mark.parametrize(("folder", "package"), PACKAGE_FOLDERS)
def test_a_package_says_what_it_is_for_and_which_file_to_read_first(folder: str, package: str) -> None:
    tree = ast.parse((PROJECT / folder / package / "__init__.py").read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree) or ""
    assert len(tree.body) == 1, "an __init__.py is its docstring alone"
    assert 3 <= len(docstring.splitlines()) <= 8
    first = re.search(r"Read (\w+\.py) first", docstring)
    assert first and (PROJECT / folder / package / first[1]).is_file()


def test_names_are_unique_and_shadow_neither_the_standard_library_nor_a_distribution() -> None:
    """Names that end on sys.path: those of scripts, of packages, and of what tests and benchmarks share."""
    names = [name_of(file) for file in EVERY_MODULE if "." not in name_of(file)]
    names += [file.stem for folder in ("tests", "benchmarks") for file in (PROJECT / folder).glob("*.py")]
    assert sorted(names) == sorted(set(names))
    assert set(names) & sys.stdlib_module_names == set()
    assert set(names) & set(importlib.metadata.packages_distributions()) == set()


def test_tests_follow_the_tree() -> None:
    for test in (PROJECT / "tests").glob("*/*/test_*.py"):
        folder, package = test.relative_to(PROJECT / "tests").parts[:2]
        if folder in FOLDERS:
            assert package in PACKAGES[folder], test


# Sizes


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_and_its_packages_stay_small_enough_to_find_ones_way(folder: str) -> None:
    modules = [file for file in MODULES[folder] if not is_package(file)]
    assert len(modules) <= MOST_MODULES[folder]
    sizes = Counter(file.parent.name for file in modules)
    assert max(sizes[package] for package in PACKAGES[folder]) <= MOST_MODULES_IN_A_PACKAGE


def test_no_module_and_no_class_is_too_long_for_one_sitting() -> None:
    assert {str(file): lines_of(file) for file in EVERY_MODULE if lines_of(file) > MOST_LINES} == {}
    classes = {
        f"{file}: {node.name}": node.end_lineno - node.lineno + 1
        for file in EVERY_MODULE
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.end_lineno is not None
    }
    assert {name: lines for name, lines in classes.items() if lines > MOST_LINES_OF_A_CLASS} == {}


def test_a_small_module_with_one_importer_says_why_it_is_a_file() -> None:
    counts = importers()
    for file in EVERY_MODULE:
        name = name_of(file)
        if is_package(file) or name in SCRIPT_NAMES or lines_of(file) >= SMALL_MODULE:
            continue
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        assert counts[name] > 1 or "A file of its own" in docstring, file


# Who imports whom


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_its_own_packages(folder: str) -> None:
    elsewhere = {
        name_of(file).split(".")[0] for other in FOLDERS if other != folder for file in MODULES[other]
    }
    own = {name_of(file).split(".")[0] for file in MODULES[folder]}
    for file in MODULES[folder]:
        used = {name.split(".")[0] for name in imports(file)}
        assert used & ((elsewhere | set(FOLDERS)) - own) == set(), f"{file} reaches into another folder"


def test_nobody_imports_a_script() -> None:
    for file in EVERY_MODULE:
        assert imports(file) & SCRIPT_NAMES == set(), f"{file} imports a script"


@pytest.mark.parametrize(("folder", "package"), PACKAGE_FOLDERS)
def test_a_package_imports_only_those_before_it(folder: str, package: str) -> None:
    order = PACKAGES[folder]
    allowed = set(order[: order.index(package) + 1]) - NEVER_IMPORTS.get(package, set())
    for file in (PROJECT / folder / package).glob("*.py"):
        used = {name.split(".")[0] for name in imports(file)} & set(order)
        assert used <= allowed, f"{file} imports {sorted(used - allowed)}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_all_scripts_of_a_folder_share_imports_nothing_of_ours(folder: str) -> None:
    """model_cli and its like: the bottom layer, which every package may therefore import."""
    own = {name_of(file) for file in MODULES[folder]}
    for file in (PROJECT / folder).glob("*_cli.py"):
        assert imports(file) & own == set(), file


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_modules_import_each_other_in_a_circle(folder: str) -> None:
    graph = {name_of(file): imports(file) for file in MODULES[folder]}
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        if name not in finished:
            for imported in sorted(graph[name] & graph.keys()):
                visit(imported, (*path, name))
            finished.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("package", NO_TORCH_AT_THE_TOP)
def test_what_writes_code_on_a_cpu_imports_no_torch(package: str) -> None:
    for file in (PROJECT / "model" / package).glob("*.py"):
        if str(file.relative_to(PROJECT / "model")) not in MAY_IMPORT_TORCH:
            used = {name.split(".")[0] for name in imports(file, at_the_top=True)}
            assert "torch" not in used, file


def test_the_training_side_loads_no_judge_of_python_and_no_generator() -> None:
    modules = [name_of(file) for file in MODULES["model"] if file.parent.name == "training"]
    code = (
        f"import importlib, sys\nfor name in {modules!r}:\n    importlib.import_module(name)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'generation', 'python_syntax'}))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "model")}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=120).stdout
    assert output.strip() == ""


# What folders say alike, as none may import another


def definitions(file: Path) -> dict[str, str]:
    """The functions, classes and constants of a module, by name, as code."""
    found: dict[str, str] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.unparse(node)
        elif isinstance(node, ast.Assign):
            found[ast.unparse(node.targets[0])] = ast.unparse(node.value)
    return found


def test_the_command_lines_of_the_folders_share_the_same_definitions() -> None:
    files = [next((PROJECT / folder).glob("*_cli.py")) for folder in FOLDERS]
    found = [definitions(file) for file in files]
    uses = Counter(name for each in found for name in each)
    shared = {name for name, number in uses.items() if number > 1}
    assert shared >= {"UserError", "HelpFormatter", "script_parser", "run_script", "warn", "next_command"}
    for name in sorted(shared):
        assert len({each.get(name) for each in found}) == 1, (
            f"{name}: change all three of {[f'{file.parent.name}/{file.name}' for file in files]}"
        )


def test_the_tokenizer_is_chosen_for_the_minutes_that_training_takes_by_default() -> None:
    found = Counter(
        (target.id, ast.literal_eval(node.value))
        for file in MODULES["model"]
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("CPU_MINUTES", "GPU_MINUTES")
    )
    assert found == {("CPU_MINUTES", CPU_MINUTES): 1, ("GPU_MINUTES", GPU_MINUTES): 1}


@pytest.mark.parametrize(
    ("names", "is_there"),
    [
        ("", False),
        ("null nvme0 nvidia-uvm nvidia-caps nvidia-modeset", False),
        ("nvidia0 nvidiactl", True),
        ("nvidia1", True),
        ("nvidia12", True),
        ("nvidiactl", True),
    ],
)
def test_both_sides_see_a_gpu_by_the_same_device_files(tmp_path: Path, names: str, is_there: bool) -> None:
    for name in names.split():
        (tmp_path / name).touch()
    assert gpt2.device.has_gpu(tmp_path) is bpe.vocabulary_size.has_gpu(tmp_path) is is_there


# Command lines


def test_the_default_input_of_each_stage_is_the_default_output_of_the_one_before() -> None:
    repos = default_of("data_collector/data_collector.py", "repos")
    assert default_of("preprocess/data_cleaner.py", "repos") == repos == "repos"
    assert default_of("preprocess/data_preprocess.py", "repos") == repos
    data = default_of("preprocess/data_preprocess.py", "output")
    assert default_of("preprocess/tokenizer.py", "data") == data == "data.txt"
    assert default_of("model/train.py", "data") == data
    tokenizer = default_of("preprocess/tokenizer.py", "tokenizer")
    assert default_of("model/train.py", "tokenizer") == tokenizer == "tokenizer"
    assert default_of("model/code_generator.py", "model") == default_of("model/train.py", "output") == "GPyT"
    assert default_of("model/export.py", "model") == "GPyT"


@pytest.mark.parametrize("script", EVERY_SCRIPT)
def test_help_imports_nothing_heavy(script: str) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as exit:\n    assert exit.code == 0, exit.code\n"
        f"print('imported:', *sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(PROJECT / script)]
    env = {**os.environ, "PYTHONPATH": str((PROJECT / script).parent)}
    output = subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=60).stdout
    assert output.splitlines()[-1].strip() == "imported:"


@pytest.mark.parametrize("script", EVERY_SCRIPT)
def test_help_is_the_docstring_and_shows_every_option_with_its_default(script: str) -> None:
    parser = parser_of(script)
    text = " ".join(parser.format_help().split())
    first_line = (importlib.import_module(Path(script).stem).__doc__ or "").strip().splitlines()[0]
    assert first_line in text
    modes = [
        mode for group in parser._mutually_exclusive_groups if group.required for mode in group._group_actions
    ]
    for action in parser._actions:
        if action.dest == "help" or action in modes:
            continue
        assert action.help and action.help != argparse.SUPPRESS, f"{script}: {action.dest} is not explained"
        shown = parser._get_formatter()._expand_help(action)
        is_switch = action.nargs == 0
        assert is_switch or action.required or "default" in shown, f"{script}: {action.dest}: {shown}"


@pytest.mark.parametrize("script", EVERY_SCRIPT)
def test_help_shows_commands_that_the_script_itself_accepts(script: str) -> None:
    docstring = importlib.import_module(Path(script).stem).__doc__ or ""
    commands = re.findall(rf"python {re.escape(script)}([^|>\n`]*)", docstring)
    assert commands, f"{script}: its docstring shows no command to paste"
    for arguments in commands:
        parser_of(script).parse_args(shlex.split(arguments, comments=True))


@pytest.mark.parametrize("script", EVERY_SCRIPT)
@pytest.mark.parametrize("columns", [40, 80, 110, 200])
def test_help_fits_the_terminal_and_its_commands_can_be_pasted(script: str, columns: int) -> None:
    text = help_in(script, columns)
    too_long = [line for line in text.splitlines() if len(line) > min(columns, 112)]
    unbroken = [line for line in too_long if not re.fullmatch(r" *(--\S+ )?\S+( \\)?", line)]
    assert unbroken == [], "only a single word, or an option with its choices, may be longer"
    assert "(default: None)" not in text and "exit codes: 0 done" in " ".join(text.split())
    joined = [line.split() for line in text.replace("\\\n", " ").splitlines()]
    for command in (importlib.import_module(Path(script).stem).__doc__ or "").splitlines():
        if command.startswith("    python "):
            assert command.partition("  #")[0].split() in [
                line[: line.index("#")] if "#" in line else line for line in joined
            ]


def help_in(script: str, columns: int) -> str:
    return succeed(run_script(script, "--help", env={"COLUMNS": str(columns)})).stdout


@pytest.mark.parametrize("script", EVERY_SCRIPT)
def test_version_is_that_of_the_file(script: str) -> None:
    shown = succeed(run_script(script, "--version")).stdout
    assert shown == f"GPyT {(PROJECT / 'VERSION').read_text('utf-8')}"


@pytest.mark.parametrize("script", EVERY_SCRIPT)
@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("--versoin", "error: unknown option --versoin: did you mean --version? (see --help)\n"),
        ("--versoin=1", "error: unknown option --versoin: did you mean --version? (see --help)\n"),
        ("--qqq", "error: unknown option --qqq (see --help)\n"),
        ("words", "error: not an option: words (see --help)\n"),
    ],
)
def test_a_wrong_command_is_answered_with_one_line(script: str, given: str, answer: str) -> None:
    if given == "words" and script == "model/evaluate.py":
        pytest.skip("its words are folders of models")
    required = {"preprocess/tokenizer.py": ["-t"], "model/export.py": ["--format", "gguf"]}
    result = run_script(script, *required.get(script, []), given)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", answer)


@pytest.mark.parametrize("script", EVERY_SCRIPT)
def test_help_that_is_not_read_to_its_end_is_no_error(script: str) -> None:
    shell = f"{shlex.quote(sys.executable)} {shlex.quote(str(PROJECT / script))} --help 2>&1 | head -n 1"
    result = subprocess.run(
        ["bash", "-c", f"{shell}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.count("\n"), result.stderr) == (0, 1, "")
