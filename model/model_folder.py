"""GPyT/: the finished model as `transformers` loads it, and the record of how it came about."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whole_files import as_json, partial, write_whole

if TYPE_CHECKING:
    from gpt2 import Shape
    from tokenizers import Tokenizer
    from torch import Tensor

PROJECT = Path(__file__).resolve().parent.parent
PROGRAM = "GPyT model/train.py"  # provenance.json says so in every folder that this program made
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "safetensors")
END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Identity:
    """What makes two runs the same run: data, tokenizer and options."""

    data: dict[str, Any]  # path, sha256, size, mtime_ns
    tokenizer: dict[str, Any]  # path, sha256
    options: dict[str, Any]
    init_from: dict[str, Any] | None = None  # path, sha256 of the weights that the run goes on from

    @property
    def key(self) -> dict[str, Any]:
        """The same for a checkpoint: without the paths and times of the inputs."""
        digests = {"data": self.data["sha256"], "tokenizer": self.tokenizer["sha256"]}
        if self.init_from is not None:
            digests["init_from"] = self.init_from["sha256"]
        return {**digests, "options": self.options}

    def differences(self, provenance: dict[str, Any]) -> list[str]:
        """What this run has otherwise than the recorded one, in words for the user."""
        found = [
            f"other {kind}"
            for kind, mine in (("data", self.data), ("tokenizer", self.tokenizer))
            if mine["sha256"] != provenance[kind]["sha256"]
        ]
        first, recorded_first = self.init_from or {}, provenance.get("init_from") or {}
        if first.get("sha256") != recorded_first.get("sha256"):
            found.append("another --init-from" if first and recorded_first else
                         "no --init-from" if recorded_first else "--init-from")  # fmt: skip
        recorded = provenance["options"]
        for name, value in self.options.items():
            if recorded.get(name) != value:
                option = "--" + name.replace("_", "-")
                found.append(f"{option} {_shown(recorded.get(name))} there, {_shown(value)} now")
        return found


def _shown(value: object) -> str:
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """The record of a folder that this program made; None if it made none or the folder is not there."""
    try:
        record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("program") == PROGRAM else None


def prompt_command(folder: Path) -> str:
    """The command that asks a folder's model for code, as it can be typed here."""
    script = "model/code_generator.py"
    words = ["python", script if Path.cwd() == PROJECT else str(PROJECT / script)]
    return shlex.join(words if folder == Path("GPyT") else [*words, "--model", str(folder)])


def is_foreign(folder: Path) -> bool:
    """Whether something is there that this program did not make."""
    if not folder.is_dir():
        return folder.exists() or folder.is_symlink()
    return read_provenance(folder) is None and any(folder.iterdir())


def identify(data: Path, tokenizer: Path, options: dict[str, Any], output: Path) -> Identity:
    """Hash the inputs, unless an earlier record knows a data file of this size and time already."""
    status = data.stat()
    known = [(read_provenance(output) or {}).get("data", {}), _summary_of(data), *_encoded_from(data)]
    digest = None
    for record in known:
        if (record.get("size"), record.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
            digest = record.get("sha256")
    return Identity(
        data={
            "path": str(data.absolute()),
            "sha256": digest or _sha256(data),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        },
        tokenizer={"path": str(tokenizer.absolute()), "sha256": _sha256(tokenizer / "tokenizer.json")},
        options=options,
    )


def _summary_of(data: Path) -> dict[str, Any]:
    """The data file's entry in the summary that preprocessing wrote beside it, or nothing."""
    try:
        summary = json.loads(data.with_name(f"{data.stem}.summary.json").read_text(encoding="utf-8"))
        entry = summary["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return entry if isinstance(entry, dict) else {}


def cache_of(data: Path) -> Path:
    """The folder beside a data file that keeps its encoded tokens."""
    return data.with_name(f"{data.stem}.cache")


def _encoded_from(data: Path) -> list[dict[str, Any]]:
    """The data files that the tokens in the cache beside the data were made of."""
    records = []
    for path in sorted(cache_of(data).glob("tokens-*/meta.json")):
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            records.append({**meta["state"], "sha256": meta["data_sha256"]})
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return records


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class SpecialIds:
    """The ids that begin, end and fill a text: <|endoftext|> and <|pad|> of this project's tokenizers."""

    begin: int = 0
    end: int = 0
    pad: int = 1

    @property
    def record(self) -> dict[str, int]:
        return {"bos_token_id": self.begin, "eos_token_id": self.end, "pad_token_id": self.pad}


def model_config(shape: Shape, ids: SpecialIds = SpecialIds()) -> dict[str, Any]:
    """config.json: every value that has a default of its own in transformers is written out."""
    variant = shape.variant
    return {
        "activation_function": variant.activation_function,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,  # no dropout: trained without, and further training should start likewise
        "dtype": "float32",
        "embd_pdrop": 0.0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": variant.layer_norm_epsilon,
        "model_type": "gpt2",
        "n_ctx": shape.block_size,  # llama.cpp's converter reads this name
        "n_embd": shape.n_embd,
        "n_head": shape.n_head,
        "n_inner": variant.n_inner,
        "n_layer": shape.n_layer,
        "n_positions": shape.block_size,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": variant.scale_attn_by_inverse_layer_idx,
        "scale_attn_weights": variant.scale_attn_weights,
        "tie_word_embeddings": variant.tie_word_embeddings,
        "transformers_version": version("transformers"),
        "use_cache": True,
        "vocab_size": shape.vocab_size,
        **ids.record,  # transformers would assume 50256 for all three
    }


def generation_config(ids: SpecialIds = SpecialIds()) -> dict[str, Any]:
    """generation_config.json: where generation starts and stops."""
    return {**ids.record, "transformers_version": version("transformers")}


class ModelFolder:
    """The output folder of one run: absent until its first save, loadable at every moment after it."""

    def __init__(
        self,
        path: Path,
        shape: Shape,
        tokenizer: Path,
        identity: Identity,
        ids: SpecialIds = SpecialIds(),
        held_out: dict[str, Any] | None = None,
    ) -> None:
        """held_out: the names of what nobody may learn from who goes on from this model."""
        self.ids = ids
        self.held_out = held_out or {}
        self.path = path
        self.shape = shape
        self.tokenizer = tokenizer
        self.identity = identity
        self.record: dict[str, Any] = {}
        self.begun = False  # whether path holds this run, and not nothing or an earlier one

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        return self.path / "training_log.jsonl"

    def describe(self, plan: dict[str, Any], figures: dict[str, Any], *, finished: bool) -> None:
        """Set what provenance.json will say from the next save on."""
        self.record = {
            "program": PROGRAM,
            "finished": finished,
            "data": self.identity.data,
            "tokenizer": self.identity.tokenizer,
            "options": self.identity.options,
            **({"init_from": self.identity.init_from} if self.identity.init_from else {}),
            "held_out": self.held_out,
            "plan": plan,
            "figures": figures,
            "versions": {name: version(name) for name in PACKAGES},
        }

    def save(self, weights: dict[str, Tensor]) -> None:
        """Write the weights: the first time with everything around them, in a folder that is renamed."""
        from checkpoint import write_tensors  # torch: late, because "up to date" is said without it

        if self.begun:
            write_tensors(self.path / "model.safetensors", weights, {"format": "pt"})
        else:
            self._begin(weights)

    def save_best(self, weights: dict[str, Tensor], bits_per_byte: float, step: int) -> None:
        """Write weights that were measured; a resumed run finds what they have to be beaten by."""
        self.save(weights)
        # Not in the file of the weights: safetensors writes more than one remark in any order.
        self.checkpoints.mkdir(exist_ok=True)
        record = {"bits_per_byte": bits_per_byte, "step": step}
        write_whole(self.checkpoints / "best.json", as_json(record))

    def saved_best(self) -> tuple[float, int] | None:
        """Bits per byte and step of the weights that are here, None where they were not measured."""
        try:
            record = json.loads((self.checkpoints / "best.json").read_text(encoding="utf-8"))
            return float(record["bits_per_byte"]), int(record["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def read_tokenizer(self) -> Tokenizer:
        """The tokenizer of this model."""
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.tokenizer / "tokenizer.json"))

    def write(self, name: str, content: bytes) -> None:
        write_whole(self.path / name, content)

    def write_provenance(self) -> None:
        self.write("provenance.json", as_json(self.record))

    def remove_checkpoints(self) -> None:
        """Drop what only an unfinished run needs: three times the size of the model."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _begin(self, weights: dict[str, Tensor]) -> None:
        beside = partial(self.path)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            self._fill(beside, weights)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)  # a full disk gets its room back
            raise
        self._take_place(beside)
        self.begun = True

    def _fill(self, beside: Path, weights: dict[str, Tensor]) -> None:
        from checkpoint import write_tensors

        for name in TOKENIZER_FILES:
            if (self.tokenizer / name).is_file():
                shutil.copyfile(self.tokenizer / name, beside / name)
        _name_tokenizer_class(beside / "tokenizer_config.json")
        (beside / "config.json").write_bytes(as_json(model_config(self.shape, self.ids)))
        (beside / "generation_config.json").write_bytes(as_json(generation_config(self.ids)))
        (beside / "provenance.json").write_bytes(as_json(self.record))
        write_tensors(beside / "model.safetensors", weights, {"format": "pt"})

    def _take_place(self, beside: Path) -> None:
        """Put the finished folder where an earlier model of this program, or nothing, was."""
        previous = self.path.with_name(f".{self.path.name}.previous")
        if self.path.exists():
            shutil.rmtree(previous, ignore_errors=True)
            self.path.rename(previous)
        beside.rename(self.path)
        shutil.rmtree(previous, ignore_errors=True)


def recover(path: Path) -> None:
    """Undo a replacement that was killed between its two renamings: the earlier model comes back."""
    previous = path.with_name(f".{path.name}.previous")
    if previous.is_dir() and not path.exists():
        previous.rename(path)


def _name_tokenizer_class(config: Path) -> None:
    """Make sure that both generations of transformers load the tokenizer.json as it is.

    Version 5 writes TokenizersBackend, which version 4 does not know; GPT2Tokenizer, or no configuration at
    all, would replace the pre-tokenizer by GPT-2's own without a word.
    """
    record = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    record["tokenizer_class"] = "PreTrainedTokenizerFast"
    record.setdefault("split_special_tokens", True)
    for role in ("bos_token", "eos_token", "unk_token"):  # GPT-2's own class knew them by heart
        record.setdefault(role, END_OF_TEXT)
    config.write_bytes(as_json(record))
