"""What is measured: models as their folders have them, and held-out texts with what these cost compressors.

The texts are the sample that train.py draws. The same bytes cost a compressor something too. A compressor
predicts, and writes down what it did not foresee. xz copies what was there before. PPMd predicts each byte
from the eight before it: it is the n-gram model of this comparison. Alone it has read nothing but the file;
after ten megabytes of the training text it is what a model has to beat.
Source of PPMd: Shkarin 2002, "PPM: One Step to Practicality", variant H as 7-Zip has it (package pyppmd).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.bits_per_byte import IN_TURN, HeldOutSample, draw_in_turn, excerpt_tokens
from evaluation.scoring import SampledText, Spellings
from evaluation.token_classes import Labels, label
from model_cli import UserError
from pretrained.provenance import read_provenance, sha256_of_files

if TYPE_CHECKING:
    from data_loading.token_file import TokenDataset, TokenSplit
    from gpt2.device import Machine
    from gpt2.network import GPT2
    from pretrained.load import Pretrained

USUAL_BYTES = 256_000
ORDER = 8
MEMORY = 16 << 20  # for a file alone
READ_MEMORY = 256 << 20  # enough for what ten megabytes teach
READ_BYTES = 10_000_000  # of the training text
SEED = 0
REQUIREMENT = "pyppmd==1.3.1"

GUESSING, FREQUENCIES, XZ_ALONE, PPMD_ALONE = "guessing", "frequencies of bytes", "xz -9e", "PPMd"


@dataclass(frozen=True)
class Evaluated:
    """A model on its way through the parts: what was read of its folder, and by which name it is shown."""

    name: str
    pretrained: Pretrained
    weights: str  # sha256
    tokenizer: str  # sha256 of tokenizer.json
    spellings: Spellings

    @property
    def end_id(self) -> int:
        """The token that closes a text, which in GPT-2 also begins one."""
        ends = self.pretrained.vocabulary.end_ids
        return min(ends) if ends else 0

    @property
    def begin_id(self) -> int:
        begin = self.pretrained.vocabulary.begin_id
        return self.end_id if begin is None else begin

    @property
    def record(self) -> dict[str, Any]:
        config = self.pretrained.config
        return {
            "name": self.name,
            "weights_sha256": self.weights,
            "tokenizer_sha256": self.tokenizer,
            "parameters": config.parameters,
            "layers": config.n_layer,
            "width": config.n_embd,
            "context": config.block_size,
            "vocabulary": config.vocab_size,
        }


def names_of(folders: list[Path]) -> list[str]:
    """How the models are called: as they were typed, or by the last parts of a path that tell them apart.

    names_of([Path("/a/x/GPyT"), Path("/a/y/GPyT")]) -> ["x/GPyT", "y/GPyT"]
    """
    if not any(folder.is_absolute() or ".." in folder.parts for folder in folders):
        return [str(folder) if folder.name else folder.resolve().name for folder in folders]
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while len({each[-length:] for each in parts}) < len(set(parts)):
        length += 1
    return ["/".join(each[-length:]) for each in parts]


def open_model(folder: Path, name: str) -> Evaluated:
    """The parts of a model's folder, checked. Raises UserError if they do not fit each other."""
    from pretrained.load import read_pretrained

    pretrained = read_pretrained(folder)
    weights = sha256_of_files(pretrained.weight_files)
    tokenizer = sha256_of_files([folder / "tokenizer.json"])
    return Evaluated(name, pretrained, weights, tokenizer, Spellings(pretrained.vocabulary.token_bytes))


def load_network(model: Evaluated, machine: Machine) -> GPT2:
    """The network in float32, whatever its weights are stored in, so figures of all machines compare."""
    import torch

    from gpt2.network import GPT2
    from pretrained.load import load_tensors

    pretrained = model.pretrained
    weights = load_tensors(pretrained.weight_files, pretrained.config, torch.device("cpu"), torch.float32)
    network = GPT2(pretrained.config, torch.float32)
    network.load_state_dict(
        {name if name.startswith("lm_head") else f"transformer.{name}": w for name, w in weights.items()}
    )
    return network.to(machine.device)


# The sample


def load_dataset(data: Path, model: Evaluated, machine: Machine) -> TokenDataset:
    """data.txt in the tokens of a model, from data.cache/ if train.py has left it there."""
    from data_loading.corpus_tokens import encode_corpus
    from pretrained.corpus_files import cache_of

    ends = model.pretrained.vocabulary.end_ids
    return encode_corpus(
        data,
        model.pretrained.folder,
        cache_of(data),
        threads=machine.threads,
        end_of_text_id=model.end_id if ends else None,
    )


def sample_limit(kilobytes: int | None, model: Evaluated) -> int:
    """The bytes to measure on: those asked for, or USUAL_BYTES, or train.py's sample if it is little larger.

    So in the usual case a model has one figure: that of train.py and of the model card.
    """
    if kilobytes is not None:
        return kilobytes * 1000 or 1 << 62
    drawn = read_provenance(model.pretrained.folder).get("held_out_sample") or {}
    size = drawn.get("bytes", 0) if drawn.get("rule") == IN_TURN else 0
    return size if USUAL_BYTES < size <= 1.25 * USUAL_BYTES else USUAL_BYTES


def sample_of(data_file: Path, limit_bytes: int, dataset: TokenDataset, model: Evaluated) -> Sample:
    """The sample. Raises UserError if nothing is held out."""
    if not len(dataset.held_out.text_bytes):
        raise UserError(
            f"no file is held out to measure on: {data_file.absolute()}: collect more repositories, then"
            " run: python preprocess/data_preprocess.py"
        )
    data = {"name": data_file.name, "sha256": dataset.data_sha256}
    return draw_sample(dataset.held_out, limit_bytes, model.spellings, data, model.tokenizer)


def find_tokens(
    wanted: str, data: Path, model: Evaluated, machine: Machine, tell: Callable[[str], None]
) -> NDArray[np.int64]:
    """The tokens of a file: owner/repository/path of data.txt, or a path on this machine. tell: which one.

    Raises:
        UserError: there is neither.
    """
    dataset = load_dataset(data, model, machine)
    for split, remark in ((dataset.held_out, ""), (dataset.train, "the model may have learnt from it")):
        for document, path in enumerate(split.paths):
            name = f"{split.repositories[split.repository[document]]}/{path}"
            if name == wanted or name.endswith(f"/{wanted}"):
                tell(f"{name}{': ' if remark else ''}{remark}")
                first, last = int(split.offsets[document]), int(split.offsets[document + 1])
                return np.asarray(split.tokens[first:last], np.int64)
    try:
        ids = model.pretrained.vocabulary.encode(Path(wanted).read_bytes().decode())
    except (OSError, UnicodeError):
        raise UserError(
            f"neither a document of {data.absolute()} nor a text file: {wanted}: name it as"
            " owner/repository/path/to/file.py"
        ) from None
    return np.array([*ids, model.end_id], np.int64)


@dataclass(frozen=True)
class Sample:
    """The held-out texts that all models are measured on, in the tokens of the first of them."""

    drawn: HeldOutSample
    texts: list[SampledText]
    wholes: list[bytes]  # the whole file of each text
    labels: list[Labels]
    data: dict[str, str]  # name and sha256 of data.txt
    tokenizer: str  # sha256 of the tokenizer.json that the tokens are of

    @property
    def repositories(self) -> list[str]:
        return [text.repository for text in self.texts]

    @property
    def sha256(self) -> str:
        """Of names and bytes of the texts."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(json.dumps([text.repository, text.path, len(text.text)]).encode() + text.text)
        return digest.hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        return {**self.drawn.record, "sha256": self.sha256}


def draw_sample(
    split: TokenSplit, limit_bytes: int, spellings: Spellings, data: dict[str, str], tokenizer: str
) -> Sample:
    """The sample that train.py draws, of so many bytes; a smaller one is the beginning of a larger one."""
    drawn = draw_in_turn(split, limit_bytes, list(spellings.bytes))
    texts, wholes = [], []
    for excerpt in drawn.excerpts:
        tokens = excerpt_tokens(split, excerpt)
        last = int(split.offsets[excerpt.file + 1])
        is_whole = int(split.offsets[excerpt.file]) + excerpt.tokens == last
        names = split.repositories[split.repository[excerpt.file]], split.paths[excerpt.file]
        texts.append(SampledText(*names, spellings.text(tokens.tolist()), tokens, is_whole))
        wholes.append(spellings.text(split.tokens[int(split.offsets[excerpt.file]) : last].tolist()))
    return Sample(drawn, texts, wholes, [label(text.text) for text in texts], data, tokenizer)


def in_tokens_of(model: Evaluated, sample: Sample) -> list[SampledText]:
    """The sample's texts, the same bytes, in the tokens of another model.

    The last token of a text that is cut may reach beyond the cut: it counts by its bytes before it.
    """
    if model.tokenizer == sample.tokenizer:
        return sample.texts
    found = []
    for text, whole in zip(sample.texts, sample.wholes, strict=True):
        ids = np.array(model.pretrained.vocabulary.encode(whole.decode("utf-8", "replace")), np.int64)
        if text.is_whole:
            ids = np.append(ids, model.end_id)
        else:
            ends = np.cumsum(model.spellings.length[ids])
            ids = ids[: int(np.searchsorted(ends, len(text.text))) + 1]
        found.append(SampledText(text.repository, text.path, text.text, ids, text.is_whole))
    return found


# Baselines


def has_ppmd() -> bool:
    from importlib.util import find_spec

    return find_spec("pyppmd") is not None


def measure_baselines(texts: Sequence[bytes], training: Iterator[bytes]) -> dict[str, list[float]]:
    """The bits of each text by baseline, in the order of the ladder; PPMd's only with the package pyppmd.

    xz is counted without its headers. Each text is compressed alone, as the model sees it alone; only the
    last one also sees the texts before.
    """
    counts = Counter(b"".join(texts))
    total = counts.total()
    cost = {byte: -math.log2(count / total) for byte, count in counts.items()}
    found = {
        GUESSING: [8.0 * len(text) for text in texts],
        FREQUENCIES: [sum(cost[byte] * count for byte, count in Counter(text).items()) for text in texts],
        XZ_ALONE: [8.0 * len(xz(text)) for text in texts],
    }
    if has_ppmd():
        import pyppmd

        found[PPMD_ALONE] = [
            8.0 * len(pyppmd.compress(text, max_order=ORDER, mem_size=MEMORY, variant="H")) for text in texts
        ]
        encoder = pyppmd.Ppmd7Encoder(ORDER, READ_MEMORY)
        read = 0
        for text in training:
            encoder.encode(text)
            read += len(text)
        primed = [8.0 * len(encoder.encode(text)) for text in texts]
        primed[-1] += 8.0 * len(encoder.flush())
        found[ppmd_after(read)] = primed
    return found


def ppmd_after(read: int) -> str:
    """The name of PPMd that has read so many bytes before: "PPMd after 10 MB of training text"."""
    megabytes = f"{read / 1e6:.0f}" if read >= 1_000_000 else "<1"  # the table has no room for more
    return f"PPMd after {megabytes} MB of training text"


def xz(text: bytes) -> bytes:
    """What xz -9e makes of a text, without headers. A dictionary larger than the text only costs time."""
    size = max(1 << 12, 1 << len(text).bit_length())
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}]
    return lzma.compress(text, lzma.FORMAT_RAW, filters=filters)


def training_texts(split: TokenSplit, spellings: Sequence[bytes]) -> Iterator[bytes]:
    """Documents of the training split in a fixed random order, READ_BYTES of them."""
    left = READ_BYTES
    for document in np.random.default_rng(SEED).permutation(len(split.text_bytes)):
        first, last = int(split.offsets[document]), int(split.offsets[document + 1])
        text = b"".join(spellings[token] for token in split.tokens[first:last].tolist())
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return
