"""A corpus -> its tokens in data.cache/, made once: in one piece, or in parts by several processes.

A corpus of several shards, or a data.txt of more than 512 MB, is encoded part by part. The parts are shared
out: among the processes of torchrun, wherever they run, and in each of them among the cores it has. Each part
is whole or absent, so after a kill only unfinished parts are made again. Then one process joins what is small
(token_file.join_parts); the tokens themselves stay where they were written, and no process reads all of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property, lru_cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from data_loading.encoding import Progress, TextEncoder, encode_part, meta_of, remove_abandoned
from data_loading.source_files import SPLITS, Part, plan_parts
from data_loading.token_file import FORMAT, TokenDataset, join_parts, load_tokens, read_meta, write_json
from model_cli import UserError
from pretrained.corpus_files import check_corpus, digest_of, state_of

PROCESS_BYTES = 100_000_000  # of lines: what a process would encode while another one starts
MOST_PROCESSES = 16  # of one machine: each takes half a gigabyte, and beyond that a disk is no faster

Task = tuple[Part, Path, dict[str, Any]]  # a part, its folder, what its meta.json says


def encode_corpus(
    data: Path,
    tokenizer: Path,
    cache: Path,
    *,
    threads: int,
    end_of_text_id: int | None = None,
    identified: Mapping[str, Any] | None = None,
) -> TokenDataset:
    """The documents of a corpus as ids of the tokenizer in that folder; from the cache if they are there.

    The cache is found by size and mtime of the data first, then by its content. A killed process leaves
    nothing that counts. Several processes may call this at once, but each would encode: let one go first.

    end_of_text_id: the token that closes a document, if it is not <|endoftext|>.
    identified: sha256, size and mtime_ns of the data, if the caller knows them: saves reading it for a hash.

    Raises: UserError if data or tokenizer are missing or damaged.
    """
    corpus = CorpusTokens(data, tokenizer, cache, threads, end_of_text_id, identified)
    return corpus.find() or corpus.finish()


@dataclass
class CorpusTokens:
    """The tokens of a corpus in the cache, or what is to be done until they are there."""

    data: Path
    tokenizer: Path
    cache: Path
    threads: int
    end_of_text_id: int | None = None
    identified: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.encoder = TextEncoder(self.tokenizer, self.end_of_text_id)
        check_corpus(self.data)
        self.state = {"path": str(self.data.resolve()), **state_of(self.data)}

    @cached_property
    def data_sha256(self) -> str:
        known = self.identified
        if known and all(known[name] == self.state[name] for name in ("size", "mtime_ns")):
            return str(known["sha256"])
        return digest_of(self.data)

    @cached_property
    def folder(self) -> Path:
        made_of = f"{FORMAT} {self.data_sha256} {self.encoder.sha256} {self.encoder.end_of_text_id}"
        return self.cache / f"tokens-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"

    @cached_property
    def parts(self) -> list[Part]:
        return plan_parts(self.data)

    @property
    def _made_of(self) -> dict[str, Any]:
        """What every meta.json says: what the tokens were made of."""
        return {"data_sha256": self.data_sha256, "tokenizer_sha256": self.encoder.sha256}

    def find(self) -> TokenDataset | None:
        """The tokens, if they are in the cache."""
        same = {"tokenizer_sha256": self.encoder.sha256, "end_of_text_id": self.encoder.end_of_text_id}
        same["state"] = self.state
        for folder in sorted(self.cache.glob("tokens-*")):
            meta = read_meta(folder)
            if meta and all(meta.get(name) == value for name, value in same.items()):
                return load_tokens(folder, meta)
        meta = read_meta(self.folder)
        if meta is None:
            return None
        if meta["state"] != self.state:  # the same content, touched or moved: next time its state will do
            meta["state"] = self.state
            write_json(self.folder / "meta.json", meta)
        return load_tokens(self.folder, meta)

    @cached_property
    def progress(self) -> Progress:
        return Progress(self.data, sum(part.size for part in self.parts))

    def finish(self) -> TokenDataset:
        """Encode what is left, and join it."""
        remove_abandoned(self.cache)
        meta = {"state": self.state, **self._made_of}
        if len(self.parts) == 1:
            meta = encode_part(self.parts[0], self.folder, self.encoder, self.threads, meta, self.progress)
            self.progress.end()
            return load_tokens(self.folder, meta)
        if (self.folder / "train.tokens").exists():  # made of the same corpus when parts were larger
            shutil.rmtree(self.folder)
        self.encode_share()
        folders = [folder for _, folder, _ in self._tasks()]
        metas = [read_meta(folder) or {} for folder in folders]
        join_parts(self.folder, folders)
        documents = {split: [each["documents"][split] for each in metas] for split in SPLITS}
        meta |= {**meta_of(self.encoder, self.folder), "documents": documents}
        meta["parts"] = [folder.name for folder in folders]
        write_json(self.folder / "meta.json", meta)
        counts = zip(*(each["counts"] for each in metas), strict=True)
        self.progress.files, self.progress.tokens, self.progress.text_bytes = map(sum, counts)
        self.progress.end()
        return load_tokens(self.folder, meta)

    def _tasks(self) -> list[Task]:
        return [
            (part, self.folder / f"part-{number:05d}", {**self._made_of, "part": part.name})
            for number, part in enumerate(self.parts)
        ]

    def encode_share(self, rank: int = 0, world_size: int = 1) -> None:
        """Encode what is not there yet of this process's share of the parts; a single part is left to finish.

        Raises: UserError if a part is damaged, or a process dies of it.
        """
        if len(self.parts) == 1:
            return
        tasks = [task for task in self._tasks()[rank::world_size] if not _is_done(task)]
        size = sum(part.size for part, _, _ in tasks)
        processes = min(len(tasks), self.threads, MOST_PROCESSES, size // PROCESS_BYTES)
        if processes > 1:
            threads = max(1, self.threads // processes)
            arguments = self.tokenizer, self.encoder.end_of_text_id, threads
            for counts in _in_processes(tasks, arguments, processes):
                self.progress.add(*counts)
            return
        for part, folder, meta in tasks:
            encode_part(part, folder, self.encoder, self.threads, meta, self.progress)


def _is_done(task: Task) -> bool:
    _, folder, made_of = task
    meta = read_meta(folder)
    return meta is not None and all(meta.get(name) == value for name, value in made_of.items())


def _in_processes(
    tasks: Sequence[Task], arguments: tuple[Path, int, int], processes: int
) -> Iterator[list[int]]:
    """Encode parts in processes of this machine; what each of them counted, as soon as it is done."""
    context = get_context("spawn")  # a fork would copy locks and threads in whatever state they are
    ends_with_us, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _end_with_parent, (ends_with_us,))
    try:
        waiting = [pool.submit(_encode_in_process, task, *arguments) for task in tasks]
        for future in as_completed(waiting):
            yield future.result()
    except BaseException as error:
        ours.close()  # ends what still works
        if not isinstance(error, BrokenProcessPool):
            raise
        raise UserError(
            f"a process that encodes was ended, perhaps for want of memory: {tasks[0][1].parent}:"
            " the same command continues; --threads 1 starts fewer of them"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent(connection: Connection) -> None:
    """Let this process end when the one that started it closes its end of a pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the process that gives out the parts

    def watch() -> None:
        try:
            connection.recv()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=1)
def _encoder(tokenizer: Path, end_of_text_id: int) -> TextEncoder:
    return TextEncoder(tokenizer, end_of_text_id)


def _encode_in_process(task: Task, tokenizer: Path, end_of_text_id: int, threads: int) -> list[int]:
    part, folder, made_of = task
    progress = Progress(part.path, part.size, silent=True)
    encode_part(part, folder, _encoder(tokenizer, end_of_text_id), threads, made_of, progress)
    return progress.counts
