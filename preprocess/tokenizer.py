"""Learn a tokenizer from data.txt (-t: data.txt -> tokenizer/), or show a text as its tokens (-e).

    python preprocess/tokenizer.py -t
    python preprocess/tokenizer.py -t --for-minutes 600
    python preprocess/tokenizer.py -t --vocab-size 8192 --pretokenizer python
    python preprocess/tokenizer.py -e "import os"
    python preprocess/tokenizer.py -e --file model/train.py | less
    python preprocess/tokenizer.py -e --ids "281 437"

-t learns byte-level BPE from the train documents of data.txt: 40 MB in 11 s on 2 cores, half of it for the
tokenizer that it is compared with. Unless they are given, vocabulary size and pre-tokenizer are chosen for
the training budget: by held-out bits per byte at equal training compute, not by bytes per token. A run ends
with the size reached, the compression of held-out documents and the next command.

-e prints the tokens, their ids, their number and bytes per token, and checks that they decode to the same
text: on a terminal coloured in place, in a pipe as lines of `id<TAB>token`. Without TEXT it reads --file or a
pipe, or asks.

AutoTokenizer.from_pretrained("tokenizer") loads the result with the same ids. A program that loads it with
tokenizers.Tokenizer must set `encode_special_tokens = True` after each load: only then is "<|endoftext|>" in
a source file ordinary text.
"""

from __future__ import annotations

from preprocess_cli import (
    DONE,
    PROGRESS_BAR,
    UserError,
    next_stage,
    plural,
    run_script,
    script_parser,
    size_of,
)

# isort: split
import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpe.compression import measure, report
from bpe.learning import PRETOKENIZERS, RECIPE, SMALLEST_VOCABULARY, SPECIAL_TOKENS, TrainingSample, train_bpe
from bpe.token_view import coloured_view, json_view, plain_view, tokens_of
from bpe.tokenizer_folder import (
    FILES,
    DataFingerprint,
    TokenizerFolder,
    is_intact,
    load_tokenizer,
    read_provenance,
)
from bpe.vocabulary_size import CPU_MINUTES, GPU_FACTOR, GPU_MINUTES, choose, has_gpu
from corpus.data_file import shard_paths
from corpus.output_files import Outputs, last_summary, lines_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

AUTO = "auto"
ASK = object()  # -e without a text
SECONDS_BETWEEN_LINES = 10  # of progress, if there is no terminal


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
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
        help="what to learn from: the output of data_preprocess.py, a file or a folder",
    )
    training.add_argument(
        "--vocab-size",
        type=entries_or_auto,
        default=AUTO,
        metavar="N",
        help=f"entries at most, the {len(SPECIAL_TOKENS)} special tokens and 256 bytes included; "
        "auto: by the size of the corpus and the budget of training",
    )
    training.add_argument(
        "--pretokenizer",
        choices=(AUTO, *PRETOKENIZERS),
        default=AUTO,
        help="how text is first cut into words; gpt2 and cl100k can be exported to llama.cpp; python has "
        "10 to 20 %% more bytes in a token than gpt2; auto: by the budget",
    )
    training.add_argument(
        "--for-minutes",
        type=minutes,
        metavar="M",
        help="the budget: minutes of train.py (default: its own, "
        f"{CPU_MINUTES:g}, with a GPU {GPU_MINUTES:g})",
    )
    training.add_argument(
        "--for-parameters",
        type=count,
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
    encoding.add_argument("--file", type=Path, help="the text to encode, instead of TEXT (by default: TEXT)")
    encoding.add_argument("--json", action="store_true", help="one JSON object: ids, tokens, count, bytes")
    encoding.add_argument(
        "--ids", type=id_list, metavar="IDS", help='decode these: "281 437 9" (by default: encode a text)'
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


def count(text: str) -> float:
    """A number with a suffix: "124M" -> 124e6, "5.3m", "7e6"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([kmb]?)", text.strip().lower())
    if match is None:
        raise ValueError(text)
    return float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[match[2]]


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
        parser.error("--file goes with -e alone: it replaces TEXT")
    if arguments.ids is not None and (arguments.encode is not ASK or arguments.file):
        parser.error("--ids goes with -e alone: it replaces TEXT")
    return run_script(
        lambda: train(arguments) if arguments.train else encode(arguments),
        interrupted="run the same command again",
        place=arguments.tokenizer,
        remedy="check the path, its permissions and the disk, then run it again",
    )


# -t ----------------------------------------------------------------------------------------------


def train(arguments: argparse.Namespace) -> int:
    folder, started = arguments.tokenizer, time.monotonic()
    if not arguments.data.is_file() and not arguments.data.is_dir():
        raise UserError(
            f"there is no such file: {arguments.data.absolute()}: make it first: "
            "python preprocess/data_preprocess.py"
        )
    provenance = read_provenance(folder)
    data = DataFingerprint.of(arguments.data)
    warn_if_edited(arguments.data, data)
    size = lines_bytes(arguments.data)
    vocab_size, pretokenizer, reason = chosen(arguments, size)
    options = {"vocab_size": vocab_size, "pretokenizer": pretokenizer, "max_bytes": arguments.max_bytes}
    options |= RECIPE
    if provenance and is_up_to_date(folder, provenance, data, options):
        entries = provenance["figures"]["vocabulary"]
        print(f"up to date: {folder.absolute()} ({entries:,} entries, from {arguments.data.absolute()})")
        print(f"next: {training_command(arguments)}")
        return DONE
    if provenance and provenance["data"]["sha256"] != data.sha256:
        print(f"changed since this tokenizer was learnt: {arguments.data.absolute()}", file=sys.stderr)
    if provenance and not is_intact(folder, provenance):
        print(f"changed after it was learnt, so learnt again: {folder.absolute()}", file=sys.stderr)
    shards = len(shard_paths(arguments.data)) if arguments.data.is_dir() else 1
    sample = TrainingSample.of(size, arguments.max_bytes, shards)
    with TokenizerFolder(folder) as output:
        print(f"{vocab_size:,} entries, pre-tokenizer {pretokenizer}{reason}", file=sys.stderr)
        tokenizer = train_bpe(with_progress(sample, arguments.data, size), vocab_size, pretokenizer)
        if not sample.documents:
            raise UserError(
                f"no train documents: {arguments.data.absolute()}: collect more Python files, "
                "then run: python preprocess/data_preprocess.py"
            )
        figures = measure(tokenizer, sample, lambda: sample.again().train_documents(arguments.data))
        if DataFingerprint.of(arguments.data) != data:
            raise UserError(
                f"changed while it was read: {arguments.data.absolute()}: run the same command again"
            )
        output.write(tokenizer, data, options, asdict(figures))
    print(report(tokenizer, sample, figures, vocab_size))
    for name in FILES:
        print(f"wrote         {(folder / name).absolute()}")
    print(f"took          {time.monotonic() - started:.1f} s")
    print(f"next: {training_command(arguments)}")
    return DONE


def warn_if_edited(path: Path, data: DataFingerprint) -> None:
    """Say so if data.txt is not what its summary says that data_preprocess.py wrote; it may be on purpose."""
    summary = last_summary(Outputs.named(str(path)))
    if summary and summary["data"].get("sha256") != data.sha256:
        again = next_stage("preprocess/data_preprocess.py", output=path)
        print(
            f"warning: changed after data_preprocess.py wrote it: {path.absolute()}: "
            f"to make it again: {again}",
            file=sys.stderr,
        )


def with_progress(sample: TrainingSample, data: Path, size: int) -> Iterator[str]:
    """The train documents of the sample, with progress on standard error."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    print(f"learning from {data.absolute()} ({size_of(size)})", file=sys.stderr, flush=True)
    shown = time.monotonic()
    with tqdm(
        total=size,
        unit_scale=True,
        desc="reading",
        bar_format=PROGRESS_BAR,
        dynamic_ncols=True,
        disable=quiet,
        leave=False,
    ) as bar:
        for text in sample.train_documents(data):
            # Bytes of text against bytes of the file, which has names and escapes too: a little behind.
            bar.update(sample.read_bytes - bar.n)
            if quiet and time.monotonic() - shown > SECONDS_BETWEEN_LINES:
                shown = time.monotonic()
                read = f"{sample.read_bytes / 1e6:,.0f} of {size / 1e6:,.0f} MB"
                print(f"reading: {read}", file=sys.stderr, flush=True)
            yield text
    print(f"merging the most frequent pairs of {size_of(sample.text_bytes)}", file=sys.stderr, flush=True)


def chosen(arguments: argparse.Namespace, corpus_bytes: int) -> tuple[int, str, str]:
    """Vocabulary size and pre-tokenizer, given or chosen by the budget, and in words for which budget."""
    on_gpu = has_gpu()
    minutes: float = arguments.for_minutes or (GPU_MINUTES if on_gpu else CPU_MINUTES)
    budget = f"{minutes:g} {'minute' if minutes == 1 else 'minutes'} of training" + " on a GPU" * on_gpu
    minutes *= GPU_FACTOR if on_gpu else 1
    if arguments.for_parameters:
        budget = f"a model of {arguments.for_parameters / 1e6:g} M parameters"
    choice = choose(corpus_bytes, minutes, arguments.for_parameters)
    vocab_size = choice.vocab_size if arguments.vocab_size == AUTO else arguments.vocab_size
    rule = choice.pretokenizer if arguments.pretokenizer == AUTO else arguments.pretokenizer
    is_chosen = AUTO in (arguments.vocab_size, arguments.pretokenizer)
    reason = f", chosen for {budget} on {size_of(corpus_bytes)}" if is_chosen else ""
    return vocab_size, rule, reason


def is_up_to_date(
    folder: Path, provenance: dict[str, Any], data: DataFingerprint, options: dict[str, Any]
) -> bool:
    same_data = provenance["data"]["sha256"] == data.sha256
    return same_data and provenance["options"] == options and is_intact(folder, provenance)


def training_command(arguments: argparse.Namespace) -> str:
    """The command that trains a model with this tokenizer."""
    minutes = ["--minutes", f"{arguments.for_minutes:g}"] if arguments.for_minutes else []
    return next_stage("model/train.py", *minutes, data=arguments.data, tokenizer=arguments.tokenizer)


# -e ----------------------------------------------------------------------------------------------


def encode(arguments: argparse.Namespace) -> int:
    tokenizer = load_tokenizer(arguments.tokenizer)
    warn_if_replaced(arguments.tokenizer)
    if arguments.ids is not None:
        sys.stdout.buffer.write(text_of_ids(tokenizer, arguments.ids).encode())
        return DONE
    text = read_text(arguments)
    encoding = tokenizer.encode(text)
    if tokenizer.decode(encoding.ids, skip_special_tokens=False) != text:
        raise UserError(
            f"the tokens do not decode to the text: {arguments.tokenizer.absolute()}: "
            "run: python preprocess/tokenizer.py -t"
        )
    tokens = tokens_of(encoding.ids, encoding.tokens)
    size = len(text.encode())
    if arguments.json:
        print(json_view(text, tokens))
        return DONE
    if shows_colours():
        print(coloured_view(tokens, os.get_terminal_size(sys.stdout.fileno()).columns))
    else:
        sys.stdout.write(plain_view(tokens))
    ratio = f", {size / len(tokens):.2f} bytes per token" if tokens else ""
    count = plural(len(tokens), "token")
    print(f"{count} for {plural(size, 'byte')}{ratio}; decoded, the same text again")
    return DONE


def warn_if_replaced(folder: Path) -> None:
    """Say so if the folder's files are not those that -t wrote. A tokenizer from elsewhere has no record."""
    try:
        provenance = read_provenance(folder)
    except UserError:
        return
    if provenance and not is_intact(folder, provenance):
        again = next_stage("preprocess/tokenizer.py", "-t", tokenizer=folder)
        print(
            f"warning: changed after it was learnt: {folder.absolute()}: to learn it again: {again}",
            file=sys.stderr,
        )


def text_of_ids(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of these ids. Raises UserError for an id that is not in the vocabulary."""
    entries = tokenizer.get_vocab_size()
    if strange := [i for i in ids if not 0 <= i < entries]:
        raise UserError(f"no such id: {strange[0]}: the vocabulary has ids from 0 to {entries - 1:,}")
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text


def shows_colours() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def read_text(arguments: argparse.Namespace) -> str:
    """The text to encode, exactly: no newline is translated and none is added."""
    if arguments.encode is not ASK:
        return checked(arguments.encode, "the text of -e")
    if arguments.file:
        if not arguments.file.is_file():
            raise UserError(f"no such file: {arguments.file.absolute()}: give another with --file")
        return decoded(arguments.file.read_bytes(), str(arguments.file.absolute()))
    if sys.stdin.isatty():
        print("Text to encode (any number of lines; end with Ctrl-D on a line of its own):", file=sys.stderr)
    return decoded(sys.stdin.buffer.read(), "standard input")


def checked(text: str, where: str) -> str:
    """The text itself. Raises UserError if it has half a surrogate pair, which no UTF-8 file can have."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"half a surrogate pair (U+{ord(text[error.start]):04X}), which UTF-8 cannot encode, "
            f"at character {error.start}: {where}: remove that character"
        ) from None
    return text


def decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}: {where}: convert it to UTF-8 first") from None


if __name__ == "__main__":
    raise SystemExit(main())
