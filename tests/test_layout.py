"""The rules of the house: where things lie, who may import whom, and what every command line promises."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BESIDE_THE_JOURNEY, PROJECT, SCRIPTS

FOLDERS = ("data_collector", "preprocess", "model")
HEAVY = ("torch", "transformers", "datasets", "github", "git")

MODULES = {folder: sorted((PROJECT / folder).glob("*.py")) for folder in FOLDERS}
EVERY_SCRIPT = (*SCRIPTS, *BESIDE_THE_JOURNEY)
SCRIPT_NAMES = {Path(script).stem for script in EVERY_SCRIPT}


def imported_names(file: Path) -> set[str]:
    """The top-level names of all modules that a file imports, wherever in it.

    >>> imported_names(Path("preprocess/data_preprocess.py"))  # doctest: +SKIP
    {'argparse', 'comments', 'corpus', ...}
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: siblings are imported by bare name, not relatively"
            names.add((node.module or "").split(".")[0])
    return names


def parser_of(script: str) -> argparse.ArgumentParser:
    parser = importlib.import_module(Path(script).stem).build_parser()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def default_of(script: str, option: str) -> str:
    return str(parser_of(script).get_default(option))


def test_the_six_scripts_are_where_the_readme_says() -> None:
    assert [script for script in SCRIPTS if not (PROJECT / script).is_file()] == []


def test_folders_hold_no_init_file() -> None:
    assert [str(path) for folder in FOLDERS for path in (PROJECT / folder).rglob("__init__.py")] == []


def test_module_names_are_unique_and_shadow_nothing_of_the_standard_library() -> None:
    names = [file.stem for files in MODULES.values() for file in files]
    names += [file.stem for folder in ("tests", "benchmarks") for file in (PROJECT / folder).glob("*.py")]
    assert sorted(names) == sorted(set(names))
    assert set(names) & sys.stdlib_module_names == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_its_own_siblings(folder: str) -> None:
    elsewhere = {file.stem for other in FOLDERS if other != folder for file in MODULES[other]} | set(FOLDERS)
    own = {file.stem for file in MODULES[folder]}
    for file in MODULES[folder]:
        assert imported_names(file) & (elsewhere - own) == set(), f"{file} reaches into another folder"


def test_nobody_imports_a_script() -> None:
    for files in MODULES.values():
        for file in files:
            assert imported_names(file) & SCRIPT_NAMES == set(), f"{file} imports a script"


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
    text = parser.format_help()
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
def test_an_unknown_option_is_a_usage_error(script: str) -> None:
    command = [sys.executable, str(PROJECT / script), "--no-such-option"]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
