"""tokenizer.py by its command line: what a person types, what they get."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tokenizer
from bpe.learning import SPECIAL_TOKENS
from bpe.tokenizer_folder import load_tokenizer
from preprocess_cli import UserError, next_stage, plural
from project import PROJECT, run_script, succeed

FILES = ("provenance.json", "tokenizer.json", "tokenizer_config.json")


def train(data: Path, folder: Path, *options: str) -> int:
    return tokenizer.main(["-t", "--data", str(data), "--tokenizer", str(folder), *options])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def write_documents(path: Path, *documents: dict[str, Any]) -> Path:
    """A data.txt of these documents, each completed by the contract's other keys."""
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        for i, document in enumerate(documents):
            whole: dict[str, Any] = {
                "text": "",
                "repo": "a/b",
                "path": f"{i:04}.py",
                "commit": "",
                "license": "",
            }
            whole |= {"piece": 0, "pieces": 1, "split": "train", **document}
            lines.write(json.dumps(whole) + "\n")
    return path


# -t ----------------------------------------------------------------------------------------------


def test_the_folder_holds_the_tokenizer_its_configuration_and_where_it_came_from(
    tokenizer_folder: Path, data_txt: Path
) -> None:
    assert tuple(contents(tokenizer_folder)) == FILES
    provenance = json.loads((tokenizer_folder / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["data"]["size"] == data_txt.stat().st_size
    assert provenance["data"]["mtime_ns"] == data_txt.stat().st_mtime_ns
    assert provenance["options"]["vocab_size"] == 1024
    assert str(data_txt.parent) not in json.dumps(provenance), (
        "a published model must not tell whose disk it was"
    )


def test_the_special_tokens_have_the_ids_of_the_contract(tokenizer_folder: Path) -> None:
    loaded = load_tokenizer(tokenizer_folder)
    names = ["<|endoftext|>", "<|pad|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    assert [loaded.token_to_id(name) for name in names] == [0, 1, 2, 3, 4]
    assert loaded.get_vocab_size() == 1024


def test_the_same_data_and_options_give_the_same_bytes(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    assert train(data_txt, tmp_path / "again", "--vocab-size", "1024") == 0
    assert contents(tmp_path / "again") == contents(tokenizer_folder)


def test_held_out_documents_are_not_learnt_from(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    lines = data_txt.read_text(encoding="utf-8").split("\n")
    changed = [line.replace("def ", "klfgarb ") if '"split": "held_out"' in line else line for line in lines]
    assert changed != lines
    (tmp_path / "data.txt").write_text("\n".join(changed), encoding="utf-8", newline="\n")
    assert train(tmp_path / "data.txt", tmp_path / "tokenizer", "--vocab-size", "1024") == 0
    assert contents(tmp_path / "tokenizer")["tokenizer.json"] == contents(tokenizer_folder)["tokenizer.json"]


def test_a_run_ends_with_what_it_learnt_from_what_it_wrote_and_the_next_command(
    data_txt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(data_txt, "data.txt")
    assert tokenizer.main(["-t", "--vocab-size", "600"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"600 entries: 5 special tokens, 256 bytes,\n +339 merges, ", out)
    assert re.search(r"held out +\d\.\d\d bytes per token, \d+\.\d\d tokens per line", out)
    assert re.search(r"beside +\d\.\d\d bytes per token, .*\n +for ByteLevelBPETokenizer's defaults: \d", out)
    assert re.search(r"339 merges, \d+\.\d% of them blank", out)
    for name in FILES:
        assert f"{tmp_path / 'tokenizer' / name}\n" in out
    assert out.endswith(f"next: python {PROJECT / 'model/train.py'}\n")


def test_a_vocabulary_that_the_corpus_cannot_fill_is_cut_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_documents(tmp_path / "data.txt", {"text": "import os\nimport sys\n"})
    assert train(data, tmp_path / "tokenizer", "--vocab-size", "5000") == 0
    size = load_tokenizer(tmp_path / "tokenizer").get_vocab_size()
    out = capsys.readouterr().out
    assert 261 < size < 300
    assert f"{size} entries" in out
    assert "instead of 5,000" in out
    assert "no held-out documents" in out


def test_what_changed_after_a_stage_is_named_by_the_next_with_the_command_that_makes_it_fresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "repos" / "ann" / "tool" / "a.py"
    source.parent.mkdir(parents=True)
    source.write_text("def f(values):\n    return sum(values) / len(values)\n" * 20, encoding="utf-8")
    succeed(run_script("preprocess/data_preprocess.py", cwd=tmp_path))
    data, folder = tmp_path / "data.txt", tmp_path / "tokenizer"
    learn = ("--vocab-size", "280")
    assert train(data, folder, *learn) == 0
    assert "changed since" not in (said := capsys.readouterr().err) and "changed after" not in said

    data.write_bytes(data.read_bytes().replace(b"sum", b"max"))
    assert train(data, folder, *learn) == 0
    said = capsys.readouterr().err
    again = next_stage("preprocess/data_preprocess.py", output=data)
    assert f"warning: changed after data_preprocess.py wrote it: {data}: to make it again: {again}\n" in said
    assert f"changed since this tokenizer was learnt: {data}\n" in said

    file = folder / "tokenizer.json"
    file.write_bytes(file.read_bytes() + b" ")
    assert tokenizer.main(["-e", "x", "--tokenizer", str(folder)]) == 0
    again = next_stage("preprocess/tokenizer.py", "-t", tokenizer=folder)
    said = capsys.readouterr().err
    assert said == f"warning: changed after it was learnt: {folder}: to learn it again: {again}\n"
    assert train(data, folder, *learn) == 0
    assert f"changed after it was learnt, so learnt again: {folder}\n" in capsys.readouterr().err
    assert tokenizer.main(["-e", "x", "--tokenizer", str(folder)]) == 0
    assert capsys.readouterr().err == ""


def test_the_same_command_again_says_up_to_date_and_touches_nothing(
    data_txt: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tokenizer_folder.iterdir()}
    assert train(data_txt, tokenizer_folder, "--vocab-size", "1024") == 0
    assert capsys.readouterr().out.startswith(f"up to date: {tokenizer_folder} (1,024 entries")
    assert {path: path.stat().st_mtime_ns for path in tokenizer_folder.iterdir()} == before


@pytest.mark.parametrize(
    "options", [["--vocab-size", "400"], ["--vocab-size", "300", "--pretokenizer", "python"]]
)
def test_other_options_replace_the_tokenizer(data_txt: Path, tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "tokenizer"
    assert train(data_txt, folder, "--vocab-size", "300") == 0
    before = contents(folder)
    assert train(data_txt, folder, *options) == 0
    assert contents(folder)["tokenizer.json"] != before["tokenizer.json"]


def test_other_data_replaces_the_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    assert train(write_documents(tmp_path / "data.txt", {"text": "import os\n" * 9}), folder) == 0
    before = contents(folder)
    assert train(write_documents(tmp_path / "data.txt", {"text": "return self\n" * 9}), folder) == 0
    assert contents(folder)["tokenizer.json"] != before["tokenizer.json"]


@pytest.mark.parametrize("name", FILES[1:])
def test_a_damaged_folder_is_made_again(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    assert train(data_txt, folder, "--vocab-size", "1024") == 0
    assert contents(folder) == contents(tokenizer_folder)


def test_a_folder_that_something_else_filled_is_refused_and_untouched(
    data_txt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work", encoding="utf-8")
    assert train(data_txt, folder) == 1
    assert contents(folder) == {"thesis.tex": b"years of work"}
    assert re.fullmatch(rf"error: .*: {folder}: move it away.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no such file"),
        (b"", "it is empty"),
        (b'{"text": "a', "line 1 is not a document"),
        (b"PK\x03\x04\xff\xfe", "line 1 is not a document"),
    ],
    ids=["missing", "empty", "truncated", "foreign"],
)
def test_data_that_cannot_be_read_is_one_line_and_leaves_the_old_tokenizer(
    content: bytes | None,
    says: str,
    tokenizer_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    if content is not None:
        (tmp_path / "data.txt").write_bytes(content)
    assert train(tmp_path / "data.txt", folder) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert says in error[0]
    assert f"{tmp_path / 'data.txt'}: " in error[0]
    assert error[0].endswith("python preprocess/data_preprocess.py")
    assert contents(folder) == contents(tokenizer_folder)
    assert not (tmp_path / ".tokenizer.partial").exists()


def test_data_without_train_documents_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_documents(tmp_path / "data.txt", {"text": "import os\n", "split": "held_out"})
    assert train(data, tmp_path / "tokenizer") == 1
    assert "error: no train documents" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data.txt"]


def test_a_vocabulary_without_room_for_the_bytes_is_a_usage_error(
    data_txt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        tokenizer.main(["-t", "--data", str(data_txt), "--vocab-size", "260"])
    assert exit_.value.code == 2
    assert "at least 261" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "number"), [("124M", 124e6), ("5.3m", 5.3e6), ("7e6", 7e6), ("900k", 9e5)])
def test_sizes_of_models_are_written_as_people_write_them(text: str, number: float) -> None:
    assert tokenizer.count(text) == pytest.approx(number)


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="large"):
        tokenizer.count("large")


@pytest.fixture(scope="module")
def long_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough text that learning from it takes seconds: numbers, so that each is another word."""
    texts = [" ".join(f"name{(i * 7919 + j) ** 3}" for j in range(2000)) for i in range(600)]
    return write_documents(tmp_path_factory.mktemp("long") / "data.txt", *({"text": text} for text in texts))


def start_training(data: Path, folder: Path, until: str) -> subprocess.Popen[str]:
    """A run that has just said that."""
    command = [sys.executable, str(PROJECT / "preprocess/tokenizer.py"), "-t", "--vocab-size", "8000"]
    process = subprocess.Popen(
        [*command, "--data", str(data), "--tokenizer", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith(until):
        assert process.poll() is None
    time.sleep(0.1)
    return process


@pytest.mark.parametrize("until", ["learning from", "merging"])
def test_control_c_ends_it_at_once_and_leaves_the_old_tokenizer(
    until: str, long_data: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    process = start_training(long_data, folder, until)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 130, errors
    assert errors.endswith("interrupted: run the same command again\n")
    assert contents(folder) == contents(tokenizer_folder)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


def test_a_kill_leaves_the_old_tokenizer_and_a_rerun_finishes(
    long_data: Path, data_txt: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    process = start_training(long_data, folder, "learning from")
    process.kill()
    process.communicate(timeout=60)
    assert contents(folder) == contents(tokenizer_folder)
    assert train(data_txt, folder, "--vocab-size", "300") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]
    assert load_tokenizer(folder).get_vocab_size() == 300


def test_a_kill_between_two_files_is_put_right_by_the_same_command(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    replace, moved = Path.replace, []

    def killed_at_the_second(self: Path, target: Path) -> Path:
        if target.parent == folder:
            moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at_the_second)
        assert train(data_txt, folder, "--vocab-size", "300") == 130
    assert load_tokenizer(folder).get_vocab_size() == 300
    assert train(data_txt, folder, "--vocab-size", "1024") == 0
    assert contents(folder) == contents(tokenizer_folder)


def test_a_folder_that_cannot_be_made_is_one_line_before_anything_is_read(
    data_txt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert train(data_txt, tmp_path / "file" / "tokenizer") == 1
    assert re.fullmatch(rf"error: .*: {tmp_path}/file/.*\n", capsys.readouterr().err)


# -e ----------------------------------------------------------------------------------------------

TEXTS = {
    "code": "def area(r):\n    return 3.14 * r ** 2\n",
    "other scripts": "naïve = '日本語 🐍'\n",
    "line ends": "a\r\nb\rc\x0b\x0c\u2028d\x85",
    "nul": "\x00",
    "special": "x = '<|endoftext|><|pad|><|fim_prefix|>'",
    "blanks": " \t  \n\n\n    ",
    "byte order mark": "\ufeffimport os",
    "empty": "",
}


def ids_of(output: str) -> list[int]:
    return [int(line.split("\t")[0]) for line in output.splitlines()[:-1]]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_text_from_a_file_gives_a_line_per_token_and_its_ids_decode_to_it(
    text: str, tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_bytes(text.encode())
    assert tokenizer.main(["-e", "--file", str(tmp_path / "text"), "--tokenizer", str(tokenizer_folder)]) == 0
    out = capsys.readouterr().out
    ids = ids_of(out)
    assert load_tokenizer(tokenizer_folder).decode(ids, skip_special_tokens=False) == text
    assert not set(ids) & set(range(len(SPECIAL_TOKENS))), "text has become a special token"
    assert out.splitlines()[-1].startswith(
        f"{plural(len(ids), 'token')} for {plural(len(text.encode()), 'byte')}"
    )


def test_argument_standard_input_and_file_give_the_same(tokenizer_folder: Path, tmp_path: Path) -> None:
    text = "import os\nprint('é')\n"
    (tmp_path / "text.py").write_text(text, encoding="utf-8", newline="\n")
    folder = ("--tokenizer", tokenizer_folder)
    argument = succeed(run_script("preprocess/tokenizer.py", "-e", text, *folder))
    file = succeed(run_script("preprocess/tokenizer.py", "-e", "--file", tmp_path / "text.py", *folder))
    pipe = succeed(run_script("preprocess/tokenizer.py", "-e", *folder, stdin=text))
    assert argument.stdout == file.stdout == pipe.stdout
    assert argument.stderr == file.stderr == pipe.stderr == ""
    assert argument.stdout.splitlines()[0].endswith("\t'import'")
    assert "\x1b" not in argument.stdout


def test_parts_of_a_character_are_shown_as_bytes(
    tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokenizer.main(["-e", "🐍", "--tokenizer", str(tokenizer_folder)]) == 0
    tokens = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert tokens == ["b'\\xf0'", "b'\\x9f'", "b'\\x90'", "b'\\x8d'"]


def test_ids_give_their_text_and_no_newline(tokenizer_folder: Path) -> None:
    folder = ("--tokenizer", tokenizer_folder)
    text = "def f(x):\n    return 'é'"
    encoded = json.loads(succeed(run_script("preprocess/tokenizer.py", "-e", text, "--json", *folder)).stdout)
    ids = ", ".join(map(str, encoded["ids"]))
    assert succeed(run_script("preprocess/tokenizer.py", "-e", "--ids", ids, *folder)).stdout == text
    assert encoded["count"] == len(encoded["ids"]) == len(encoded["tokens"])
    assert encoded["bytes"] == len(text.encode())
    assert "".join(map(ast.literal_eval, encoded["tokens"][:4])) == text[: len("def f(x")]


def test_an_id_that_is_not_there_is_one_line(
    tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokenizer.main(["-e", "--ids", "300 1024", "--tokenizer", str(tokenizer_folder)]) == 1
    assert capsys.readouterr().err == "error: no such id: 1024: the vocabulary has ids from 0 to 1,023\n"


def test_half_a_surrogate_pair_is_refused_by_its_place() -> None:
    assert tokenizer.checked("🐍", "a test") == "🐍"
    with pytest.raises(UserError, match=r"U\+DC8D.* at character 2: a test: "):
        tokenizer.checked("ab\udc8d", "a test")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a\ud800b"], "half a surrogate pair (U+D800)"),
        (["--file", "latin1.py"], "not UTF-8 at byte 1"),
        (["--file", "absent.py"], "no such file"),
    ],
)
def test_a_text_that_is_none_gets_one_line(
    arguments: list[str],
    says: str,
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin1.py").write_bytes(b"a\xe9")
    assert tokenizer.main(["-e", *arguments, "--tokenizer", str(tokenizer_folder)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"error: .*\n", captured.err)
    assert says in captured.err


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"\xff"], ids=["missing", "empty", "foreign", "binary"]
)
def test_without_a_tokenizer_it_says_how_to_make_one(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    assert tokenizer.main(["-e", "x", "--tokenizer", str(tmp_path)]) == 1
    assert re.fullmatch(
        rf"error: .*: {tmp_path}/tokenizer.json: .*python preprocess/tokenizer.py -t\n",
        capsys.readouterr().err,
    )


def on_a_terminal(
    *arguments: str | Path, typed: bytes = b"", environment: dict[str, str] | None = None
) -> str:
    """What the script shows on a terminal when this is typed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"TERM": "xterm", **(environment or {})})
        os.execv(
            sys.executable, [sys.executable, str(PROJECT / "preprocess/tokenizer.py"), *map(str, arguments)]
        )
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
            if typed and b"Ctrl-D" in shown:
                os.write(terminal, typed)
                typed = b""
    except OSError:  # the other side is closed
        pass
    assert os.waitpid(pid, 0)[1] == 0, shown.decode()
    os.close(terminal)
    return shown.decode().replace("\r\n", "\n")


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_on_a_terminal_tokens_stand_in_place_in_two_colours_with_visible_blanks(
    tokenizer_folder: Path,
) -> None:
    shown = on_a_terminal("-e", "if x:\n\treturn y\n", "--tokenizer", tokenizer_folder)
    assert COLOUR.sub("", shown).startswith("if·x:⏎\n→return·y⏎\n")
    colours = [colour for colour in COLOUR.findall(shown) if colour != "\x1b[0m"]
    assert len(set(colours)) == 2


def test_on_a_terminal_nothing_in_a_text_is_obeyed(tokenizer_folder: Path) -> None:
    shown = on_a_terminal("-e", "a\x1b[2J\x07\x9b\u202e", "--tokenizer", tokenizer_folder)
    text = COLOUR.sub("", shown)
    assert text.isprintable() or all(c == "\n" or c.isprintable() for c in text)
    assert "\\x1b[2J\\x07" in text


def test_at_a_prompt_any_number_of_lines_can_be_typed(tokenizer_folder: Path) -> None:
    shown = on_a_terminal("-e", "--tokenizer", tokenizer_folder, typed=b"if x:\n    y\n\x04")
    assert "if·x:⏎\n····y⏎\n" in COLOUR.sub("", shown)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_gets_the_plain_lines(
    tokenizer_folder: Path, environment: dict[str, str]
) -> None:
    shown = on_a_terminal("-e", "import os", "--tokenizer", tokenizer_folder, environment=environment)
    assert "\x1b" not in shown
    assert "\t'import'\n" in shown


def test_a_reader_that_stops_early_gets_no_traceback(tokenizer_folder: Path) -> None:
    command = (
        f"{sys.executable} {PROJECT}/preprocess/tokenizer.py -e --tokenizer {tokenizer_folder} | head -1"
    )
    ended = subprocess.run(
        ["bash", "-c", command], input="x = 1\n" * 50_000, capture_output=True, text=True, check=False
    )
    assert ended.stdout.count("\n") == 1
    assert ended.stderr == ""


# What other programs make of it -----------------------------------------------------------------


LOADING = """
import json, sys, warnings
warnings.simplefilter("error")
from transformers import AutoTokenizer
loaded = AutoTokenizer.from_pretrained(sys.argv[1])
texts = json.load(sys.stdin)
print(json.dumps({
    "ids": [loaded(text)["input_ids"] for text in texts],
    "decoded": [loaded.decode(loaded.encode(text)) for text in texts],
    "keys": sorted(loaded("x")),
    "length": len(loaded),
    "special": [loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id, loaded.pad_token_id],
    "all_special": loaded.all_special_ids,
    "pre_tokenizer": json.loads(loaded.backend_tokenizer.to_str())["pre_tokenizer"],
}))
"""


def check_loading(python: Path, folder: Path, data_txt: Path) -> str:
    """Assert that this interpreter's transformers loads the folder with equal ids; what else it said."""
    lines = data_txt.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines[::7]] + list(TEXTS.values())
    ended = subprocess.run(
        [str(python), "-c", LOADING, str(folder)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    got = json.loads(ended.stdout)
    raw = load_tokenizer(folder)
    assert got["ids"] == [raw.encode(text).ids for text in texts]
    assert got["decoded"] == texts
    assert got["keys"] == ["attention_mask", "input_ids"]
    assert got["length"] == raw.get_vocab_size()
    assert got["special"] == [0, 0, 0, 1]
    assert sorted(got["all_special"]) == [0, 1, 2, 3, 4]
    assert got["pre_tokenizer"] == json.loads(raw.to_str())["pre_tokenizer"]
    return ended.stderr


def test_transformers_loads_it_with_equal_ids_without_a_warning(
    tokenizer_folder: Path, data_txt: Path
) -> None:
    assert check_loading(Path(sys.executable), tokenizer_folder, data_txt) == ""


@pytest.mark.full
@pytest.mark.parametrize("name", ["gpt2", "cl100k", "python"])
def test_version_4_of_transformers_loads_every_rule_with_equal_ids(
    name: str, data_txt: Path, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "transformers==4.57.6"], check=True)
    assert train(data_txt, tmp_path / "tokenizer", "--vocab-size", "1024", "--pretokenizer", name) == 0
    check_loading(python, tmp_path / "tokenizer", data_txt)
