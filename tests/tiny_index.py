"""Training data of a few texts, and its index as train.py leaves it in a model's folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from attribution.copies import Source
from attribution.index import INDEX, write_index
from data_loading.token_file import TokenSplit


def split_of(documents: list[list[int]], sources: list[Source]) -> TokenSplit:
    """Documents of token ids, each of its own source, closed by id 0."""
    tokens = np.array([token for document in documents for token in [*document, 0]], np.uint16)
    lengths = np.array([len(document) + 1 for document in documents], np.int64)
    repositories = list(dict.fromkeys(source.repo for source in sources))
    origins = list(dict.fromkeys((source.commit, source.license) for source in sources))
    return TokenSplit(
        tokens=tokens,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        text_bytes=lengths,
        repository=np.array([repositories.index(source.repo) for source in sources], np.int32),
        repositories=repositories,
        paths_from=[source.path for source in sources],
        origin=np.array([origins.index((source.commit, source.license)) for source in sources], np.int32),
        origins=origins,
    )


def index_texts(folder: Path, files: dict[Source, str], **record: object) -> Path:
    """Write an index of these files into a model's folder; its path."""
    content = (folder / "tokenizer.json").read_bytes()
    tokenizer = Tokenizer.from_str(content.decode())
    documents = [tokenizer.encode(text, add_special_tokens=False).ids for text in files.values()]
    known = {"tokenizer_sha256": hashlib.sha256(content).hexdigest(), "data_sha256": "d"}
    write_index(split_of(documents, list(files)), folder / INDEX, {**known, **record})
    return folder / INDEX
