"""Learn a tokenizer from data.txt (-t: data.txt -> tokenizer/), or show a text as its tokens (-e).

    python preprocess/tokenizer.py -t
    python preprocess/tokenizer.py -t --for-minutes 600
    python preprocess/tokenizer.py -t --vocab-size 8192 --pretokenizer python
    python preprocess/tokenizer.py -e "import os"
    python preprocess/tokenizer.py -e --file model/train.py | less
    python preprocess/tokenizer.py -e --ids "281 437"

-t learns byte-level BPE from the train documents of data.txt: 40 MB in 7 s on 2 cores, 170 MB in 30 s, and
as long again for the tokenizer that it is compared with. Vocabulary and pre-tokenizer are chosen for the
budget that training will have, unless they are given: held-out bits per byte at equal training compute
decide, not bytes per token. It ends with the vocabulary reached, how it packs held-out documents and the
next command.

-e prints the tokens, their ids, their number and bytes per token, and checks that they decode to the same
text: on a terminal coloured in place, in a pipe a line `id<TAB>token` each. Without TEXT it reads --file or a
pipe, or asks.

AutoTokenizer.from_pretrained("tokenizer") loads the result with the same ids. A program that loads it with
tokenizers.Tokenizer must set `encode_special_tokens = True` after each load: only then is "<|endoftext|>" in
a source file ordinary text.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byte_pair_encoding import (
    RECIPE,
    SMALLEST_VOCABULARY,
    SPECIAL_TOKENS,
    DataFile,
    TokenizerError,
    TokenizerFolder,
    check_text,
    is_whole,
    load_tokenizer,
    read_provenance,
    train_bpe,
)
from corpus import CorpusError
from learning_sample import LearningSample, with_progress
from next_stage import next_stage
from pretokenizers import PRETOKENIZERS
from token_view import coloured_view, plain_view, tokens_of
from tokenizer_report import json_view, measure, report, written_to
from vocabulary_choice import CPU_MINUTES, GPU_FACTOR, GPU_MINUTES, choose, count, has_gpu

if TYPE_CHECKING:
    from tokenizers import Tokenizer

AUTO = "auto"
ASK = object()  # -e without a text


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows every default that is a value, and keeps the line breaks of the description."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("-t", "--train", action="store_true", help="learn a tokenizer from data.txt")
    task.add_argument(
        "-e",
        "--encode",
        nargs="?",
        metavar="TEXT",
        const=ASK,
        help="show TEXT as tokens; without TEXT: --file, standard input or a prompt",
    )
    parser.add_argument(
        "--tokenizer", type=Path, default=Path("tokenizer"), metavar="FOLDER", help="its folder"
    )
    training = parser.add_argument_group("options of -t")
    training.add_argument(
        "--data",
        type=Path,
        default=Path("data.txt"),
        help="what to learn from: the output of data_preprocess.py",
    )
    training.add_argument(
        "--vocab-size",
        type=entries_or_auto,
        default=AUTO,
        metavar="N",
        help=f"entries at most, the {len(SPECIAL_TOKENS)} special tokens and 256 bytes included; "
        "auto: by the size of the corpus and the budget that training will have",
    )
    training.add_argument(
        "--pretokenizer",
        choices=(AUTO, *PRETOKENIZERS),
        default=AUTO,
        help="how text is cut into words first; gpt2 and cl100k can be exported to llama.cpp; python packs "
        "10 to 20 %% more bytes into a token than gpt2; auto: by the budget",
    )
    training.add_argument(
        "--for-minutes",
        type=minutes,
        metavar="M",
        help="the budget: minutes that train.py will have (default: its own, "
        f"{CPU_MINUTES:g}, with a GPU {GPU_MINUTES:g})",
    )
    training.add_argument(
        "--for-parameters",
        type=parameters,
        metavar="P",
        help="the budget: size of the model, e.g. 124M (default: by the minutes)",
    )
    training.add_argument(
        "--max-bytes",
        type=sample_bytes,
        default=1_000_000_000,
        metavar="BYTES",
        help="learn from a sample of whole files of at most this size (60M), always the same; 0 = everything",
    )
    encoding = parser.add_argument_group("options of -e")
    encoding.add_argument("--file", type=Path, help="the text to encode, instead of TEXT (default: none)")
    encoding.add_argument("--json", action="store_true", help="one JSON object: ids, tokens, count, bytes")
    encoding.add_argument(
        "--ids", type=id_list, metavar="IDS", help='decode these: "281 437 9" (default: encode a text)'
    )
    return parser


def entries_or_auto(text: str) -> int | str:
    """ "8192" -> 8192, "auto" -> "auto"; at least as many as bytes and special tokens."""
    if text == AUTO:
        return AUTO
    entries = int(text)
    if entries < SMALLEST_VOCABULARY:
        raise argparse.ArgumentTypeError(
            f"{entries}: at least {SMALLEST_VOCABULARY} (256 bytes and {len(SPECIAL_TOKENS)} special tokens)"
        )
    return entries


def minutes(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def parameters(text: str) -> float:
    """ "124M" -> 124e6"""
    return count(text)


def sample_bytes(text: str) -> int:
    """A whole number of bytes of at least 0: "60M" -> 60_000_000"""
    return int(count(text))


def id_list(text: str) -> list[int]:
    """ "281, 437" -> [281, 437]"""
    return [int(word) for word in text.replace(",", " ").split()]


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.file and arguments.encode is not ASK:
        parser.error("--file goes with -e alone: it takes the place of TEXT")
    if arguments.ids is not None and (arguments.encode is not ASK or arguments.file):
        parser.error("--ids goes with -e alone: it takes the place of TEXT")
    try:
        return train(arguments) if arguments.train else encode(arguments)
    except (CorpusError, TokenizerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        path = Path(error.filename).absolute() if error.filename else arguments.tokenizer.absolute()
        print(
            f"error: {error.strerror}: {path}: check the path, its permissions and the disk", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: run the same command again", file=sys.stderr)
        return 130


# -t ----------------------------------------------------------------------------------------------


def train(arguments: argparse.Namespace) -> int:
    folder, started = arguments.tokenizer, time.monotonic()
    if not arguments.data.is_file():
        raise CorpusError(
            f"there is no such file: {arguments.data.absolute()}: make it first: "
            "python preprocess/data_preprocess.py"
        )
    provenance = read_provenance(folder)
    data = DataFile.of(arguments.data)
    vocab_size, pretokenizer, reason = chosen(arguments, data.size)
    options = {"vocab_size": vocab_size, "pretokenizer": pretokenizer, "max_bytes": arguments.max_bytes}
    options |= RECIPE
    if provenance and is_up_to_date(folder, provenance, data, options):
        entries = provenance["figures"]["vocabulary"]
        print(f"up to date: {folder.absolute()} ({entries:,} entries, from {arguments.data.absolute()})")
        print(f"next: {next_command(arguments)}")
        return 0
    sample = LearningSample.of(data.size, arguments.max_bytes)
    with TokenizerFolder(folder) as output:
        print(f"{vocab_size:,} entries, pre-tokenizer {pretokenizer}{reason}", file=sys.stderr)
        tokenizer = train_bpe(with_progress(sample, arguments.data, data.size), vocab_size, pretokenizer)
        if not sample.documents:
            raise CorpusError(
                f"no train documents: {arguments.data.absolute()}: collect more Python files, "
                "then run: python preprocess/data_preprocess.py"
            )
        again = LearningSample(sample.share, sample.max_bytes)
        figures = measure(tokenizer, sample, lambda: again.train_documents(arguments.data))
        if DataFile.of(arguments.data) != data:
            raise CorpusError(
                f"changed while it was read: {arguments.data.absolute()}: run the same command again"
            )
        output.write(tokenizer, data, options, figures.as_json())
    print(report(tokenizer, sample, figures, vocab_size))
    print(written_to(folder))
    print(f"took          {time.monotonic() - started:.1f} s")
    print(f"next: {next_command(arguments)}")
    return 0


def chosen(arguments: argparse.Namespace, corpus_bytes: int) -> tuple[int, str, str]:
    """Entries and rule, as given or as the budget suggests, and in words what they were chosen for."""
    on_gpu = has_gpu()
    minutes: float = arguments.for_minutes or (GPU_MINUTES if on_gpu else CPU_MINUTES)
    budget = f"{minutes:g} minutes of training" + " on a GPU" * on_gpu
    minutes *= GPU_FACTOR if on_gpu else 1
    if arguments.for_parameters:
        budget = f"a model of {arguments.for_parameters / 1e6:g} M parameters"
    choice = choose(corpus_bytes, minutes, arguments.for_parameters)
    vocab_size = choice.vocab_size if arguments.vocab_size == AUTO else arguments.vocab_size
    rule = choice.pretokenizer if arguments.pretokenizer == AUTO else arguments.pretokenizer
    is_chosen = AUTO in (arguments.vocab_size, arguments.pretokenizer)
    reason = f", chosen for {budget} on {corpus_bytes / 1e6:,.1f} MB" if is_chosen else ""
    return vocab_size, rule, reason


def is_up_to_date(folder: Path, provenance: dict[str, Any], data: DataFile, options: dict[str, Any]) -> bool:
    same_data = provenance["data"]["sha256"] == data.sha256
    return same_data and provenance["options"] == options and is_whole(folder, provenance)


def next_command(arguments: argparse.Namespace) -> str:
    """The command that trains a model with this tokenizer."""
    minutes = ["--minutes", f"{arguments.for_minutes:g}"] if arguments.for_minutes else []
    return next_stage("model/train.py", *minutes, data=arguments.data, tokenizer=arguments.tokenizer)


# -e ----------------------------------------------------------------------------------------------


def encode(arguments: argparse.Namespace) -> int:
    tokenizer = load_tokenizer(arguments.tokenizer)
    if arguments.ids is not None:
        sys.stdout.buffer.write(text_of_ids(tokenizer, arguments.ids).encode())
        return 0
    text = read_text(arguments)
    encoding = tokenizer.encode(text)
    if tokenizer.decode(encoding.ids, skip_special_tokens=False) != text:
        raise TokenizerError(
            f"the tokens do not give the text back: {arguments.tokenizer.absolute()}: "
            "run: python preprocess/tokenizer.py -t"
        )
    tokens = tokens_of(encoding.ids, encoding.tokens)
    size = len(text.encode())
    if arguments.json:
        print(json_view(text, tokens))
        return 0
    if shows_colours():
        print(coloured_view(tokens, os.get_terminal_size(sys.stdout.fileno()).columns))
    else:
        sys.stdout.write(plain_view(tokens))
    ratio = f", {size / len(tokens):.2f} bytes per token" if tokens else ""
    count = "1 token" if len(tokens) == 1 else f"{len(tokens):,} tokens"
    print(f"{count} for {size:,} bytes{ratio}; decoded, the same text again")
    return 0


def text_of_ids(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text that these ids spell. Raises: TokenizerError for an id that the vocabulary does not have."""
    entries = tokenizer.get_vocab_size()
    if strange := [i for i in ids if not 0 <= i < entries]:
        raise TokenizerError(f"no such id: {strange[0]}: the vocabulary has ids from 0 to {entries - 1:,}")
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text


def shows_colours() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def read_text(arguments: argparse.Namespace) -> str:
    """The text to encode, to the character: no newline is translated and none is added."""
    if arguments.encode is not ASK:
        return check_text(arguments.encode, "the text of -e")
    if arguments.file:
        if not arguments.file.is_file():
            raise TokenizerError(f"no such file: {arguments.file.absolute()}: give another with --file")
        return decoded(arguments.file.read_bytes(), str(arguments.file.absolute()))
    if sys.stdin.isatty():
        print("Text to encode (any number of lines; end with Ctrl-D on a line of its own):", file=sys.stderr)
    return decoded(sys.stdin.buffer.read(), "standard input")


def decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise TokenizerError(f"not UTF-8 at byte {error.start}: {where}: convert it to UTF-8 first") from None


if __name__ == "__main__":
    raise SystemExit(main())
