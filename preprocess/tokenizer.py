"""Learn a tokenizer from data.txt (-t: data.txt -> tokenizer/), or show a text as its tokens (-e).

    python preprocess/tokenizer.py -t
    python preprocess/tokenizer.py -t --vocab-size 8192 --pretokenizer python
    python preprocess/tokenizer.py -e "import os"
    python preprocess/tokenizer.py -e --file model/train.py | less

-t learns byte-level BPE from the train documents of data.txt: 40 MB in 7 s on 2 cores, 170 MB in 30 s. It
ends with the vocabulary reached, bytes per token on held-out documents and the next command.

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
from collections.abc import Iterator
from dataclasses import dataclass, field
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
from corpus import CorpusError, iter_documents
from next_stage import next_stage
from pretokenizers import PRETOKENIZERS
from token_view import coloured_view, plain_view, tokens_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Held-out bits per byte of a 5 M parameter model after 3 minutes on 2 cores. By entries (gpt2): 2,048 1.883,
# 4,096 1.793, 8,192 1.844. By rule, at 8,192: gpt2 1.844, cl100k 1.904, python 1.918, although python packs
# a tenth more bytes into each token. Coarse tokens are harder to learn for a small model.
DEFAULT_VOCABULARY = 4096
DEFAULT_PRETOKENIZER = "gpt2"

HELD_OUT_SAMPLE = 4_000_000  # bytes: bytes per token has settled to three digits, and it takes a second
SECONDS_BETWEEN_LINES = 10  # of progress, where nobody sees a bar move

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
        type=int,
        default=DEFAULT_VOCABULARY,
        metavar="N",
        help=f"entries at most, the {len(SPECIAL_TOKENS)} special tokens and 256 bytes included",
    )
    training.add_argument(
        "--pretokenizer",
        choices=PRETOKENIZERS,
        default=DEFAULT_PRETOKENIZER,
        help="how text is cut into words first; llama.cpp knows gpt2 and cl100k; python packs 8 to 23 %% "
        "more bytes into a token than gpt2, the more the larger the vocabulary",
    )
    encoding = parser.add_argument_group("options of -e")
    encoding.add_argument("--file", type=Path, help="the text to encode, instead of TEXT (default: none)")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.train and arguments.vocab_size < SMALLEST_VOCABULARY:
        parser.error(
            f"--vocab-size {arguments.vocab_size}: at least {SMALLEST_VOCABULARY} "
            f"(256 bytes and {len(SPECIAL_TOKENS)} special tokens)"
        )
    if arguments.file and arguments.encode is not ASK:
        parser.error("--file goes with -e alone: it takes the place of TEXT")
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


@dataclass
class Reading:
    """What has been read of data.txt: counts of the train documents, and a sample of the held-out ones."""

    documents: int = 0
    text_bytes: int = 0
    repositories: set[str] = field(default_factory=set)
    held_out_documents: int = 0
    held_out_bytes: int = 0
    held_out_sample: list[str] = field(default_factory=list)
    sampled_bytes: int = 0

    def train_documents(self, data: Path) -> Iterator[str]:
        """The text of each train document of data.txt, whole and in order."""
        for document in iter_documents(data):
            size = len(document.text.encode())
            if document.split == "train":
                self.documents += 1
                self.text_bytes += size
                self.repositories.add(document.repo)
                yield document.text
            else:
                self.held_out_documents += 1
                self.held_out_bytes += size
                if self.sampled_bytes < HELD_OUT_SAMPLE:
                    self.held_out_sample.append(document.text)
                    self.sampled_bytes += size


def train(arguments: argparse.Namespace) -> int:
    folder, started = arguments.tokenizer, time.monotonic()
    options = {"vocab_size": arguments.vocab_size, "pretokenizer": arguments.pretokenizer, **RECIPE}
    if not arguments.data.is_file():
        raise CorpusError(
            f"there is no such file: {arguments.data.absolute()}: make it first: "
            "python preprocess/data_preprocess.py"
        )
    provenance = read_provenance(folder)
    data = DataFile.of(arguments.data)
    if provenance and is_up_to_date(folder, provenance, data, options):
        entries = provenance["figures"]["vocabulary"]
        print(f"up to date: {folder.absolute()} ({entries:,} entries, from {arguments.data.absolute()})")
        print(f"next: {next_command(arguments)}")
        return 0
    reading = Reading()
    with TokenizerFolder(folder) as output:
        documents = with_progress(reading, arguments.data, data.size)
        tokenizer = train_bpe(documents, arguments.vocab_size, arguments.pretokenizer)
        if not reading.documents:
            raise CorpusError(
                f"no train documents: {arguments.data.absolute()}: collect more Python files, "
                "then run: python preprocess/data_preprocess.py"
            )
        if DataFile.of(arguments.data) != data:
            raise CorpusError(
                f"changed while it was read: {arguments.data.absolute()}: run the same command again"
            )
        figures = measure(tokenizer, reading)
        output.write(tokenizer, data, options, figures)
    report(arguments, tokenizer, reading, figures, time.monotonic() - started)
    return 0


def is_up_to_date(folder: Path, provenance: dict[str, Any], data: DataFile, options: dict[str, Any]) -> bool:
    same_data = provenance["data"]["sha256"] == data.sha256
    return same_data and provenance["options"] == options and is_whole(folder, provenance)


def with_progress(reading: Reading, data: Path, size: int) -> Iterator[str]:
    """The train documents of data.txt, telling on standard error how far it is."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    print(f"learning from {data.absolute()} ({size / 1e6:,.1f} MB)", file=sys.stderr, flush=True)
    told = time.monotonic()
    with tqdm(total=size, unit="B", unit_scale=True, desc="reading", disable=quiet, leave=False) as bar:
        for text in reading.train_documents(data):
            # Bytes of text against bytes of the file, which holds names and escapes too: a little behind.
            bar.update(reading.text_bytes + reading.held_out_bytes - bar.n)
            if quiet and time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                read = reading.text_bytes + reading.held_out_bytes
                print(f"reading: {read / 1e6:,.0f} of {size / 1e6:,.0f} MB", file=sys.stderr, flush=True)
            yield text
    print(
        f"merging the most frequent pairs of {reading.text_bytes / 1e6:,.1f} MB", file=sys.stderr, flush=True
    )


def measure(tokenizer: Tokenizer, reading: Reading) -> dict[str, Any]:
    """Vocabulary, and bytes per token and tokens per line on the sample of held-out documents."""
    sample = reading.held_out_sample
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(sample))
    lines = sum(text.count("\n") for text in sample)
    return {
        "vocabulary": tokenizer.get_vocab_size(),
        "train_documents": reading.documents,
        "train_bytes": reading.text_bytes,
        "held_out_bytes_per_token": round(reading.sampled_bytes / tokens, 4) if tokens else None,
        "held_out_tokens_per_line": round(tokens / lines, 3) if lines else None,
    }


def report(
    arguments: argparse.Namespace,
    tokenizer: Tokenizer,
    reading: Reading,
    figures: dict[str, Any],
    seconds: float,
) -> None:
    entries, wanted = figures["vocabulary"], arguments.vocab_size
    print(
        f"learnt from   {reading.documents:,} documents of {len(reading.repositories):,} repositories, "
        f"{reading.text_bytes / 1e6:,.1f} MB\n"
        f"vocabulary    {entries:,} entries: {len(SPECIAL_TOKENS)} special tokens, 256 bytes, "
        f"{entries - SMALLEST_VOCABULARY:,} merges"
    )
    if entries < wanted:
        print(f"              cut from {wanted:,}: no further pair of tokens occurs twice in these documents")
    if figures["held_out_bytes_per_token"]:
        print(
            f"held out      {figures['held_out_bytes_per_token']:.2f} bytes per token, "
            f"{figures['held_out_tokens_per_line']} tokens per line "
            f"({reading.sampled_bytes / 1e6:,.1f} of {reading.held_out_bytes / 1e6:,.1f} MB not learnt from)"
        )
    else:
        print("held out      nothing: data.txt has no held-out documents to measure on")
    if longest := longest_tokens(tokenizer, 5):
        print(f"longest       {'  '.join(longest)}")
    for name in ("tokenizer.json", "tokenizer_config.json", "provenance.json"):
        print(f"wrote         {(arguments.tokenizer / name).absolute()}")
    print(f"took          {seconds:.1f} s")
    print(f"next: {next_command(arguments)}")


def longest_tokens(tokenizer: Tokenizer, count: int) -> list[str]:
    """The longest tokens that say something, as Python literals; of equal ones the first learnt."""
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1])
    ordinary = vocabulary[len(SPECIAL_TOKENS) :]
    tokens = tokens_of([i for _, i in ordinary], [spelling for spelling, _ in ordinary])
    words = [token for token in tokens if b"".join(token.content.split()).isalnum()]  # not rulers of "-"
    return [token.literal() for token in sorted(words, key=lambda token: -len(token.content))[:count]]


def next_command(arguments: argparse.Namespace) -> str:
    """The command that trains a model with this tokenizer."""
    return next_stage("model/train.py", data=arguments.data, tokenizer=arguments.tokenizer)


# -e ----------------------------------------------------------------------------------------------


def encode(arguments: argparse.Namespace) -> int:
    tokenizer = load_tokenizer(arguments.tokenizer)
    text = read_text(arguments)
    encoding = tokenizer.encode(text)
    if tokenizer.decode(encoding.ids, skip_special_tokens=False) != text:
        raise TokenizerError(
            f"the tokens do not give the text back: {arguments.tokenizer.absolute()}: "
            "run: python preprocess/tokenizer.py -t"
        )
    tokens = tokens_of(encoding.ids, encoding.tokens)
    size = len(text.encode())
    if shows_colours():
        print(coloured_view(tokens, os.get_terminal_size(sys.stdout.fileno()).columns))
    else:
        sys.stdout.write(plain_view(tokens))
    ratio = f", {size / len(tokens):.2f} bytes per token" if tokens else ""
    count = "1 token" if len(tokens) == 1 else f"{len(tokens):,} tokens"
    print(f"{count} for {size:,} bytes{ratio}; decoded, the same text again")
    return 0


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
