"""Choices of learning that are made before the trainer: its data, its schedule, its functions.

They set constants of model/ and replace functions that have no other handle: each trial has a process of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from data_loading import batches
from data_loading.batches import FillInTheMiddle, FimIds
from data_loading.document_choice import choose_documents, repeated, surprises, up_to
from data_loading.document_choice import likeness as likeness_to
from gpt2 import initial_weights
from gpt2 import network as gpt2
from gpt2.operations import Candidates
from training import optimizers, schedule
from training.plan import LENGTH_WARMUP

if TYPE_CHECKING:
    from data_loading.token_file import Ids, TokenDataset, TokenSplit

STEP_TOKENS = 2048
LONGEST_WAVE = [10_000.0]  # of sinusoids, over 2 pi (Vaswani et al. 2017); a list, because a choice sets it
LIKENESS = [1.0]  # correlation of the keys' first weights with the queries'
FIM_IDS = FimIds(prefix=2, suffix=3, middle=4)  # the ids that every tokenizer of the project gives them

# Amsel et al. 2025, "The Polar Express", section 3.3: a polynomial for each round instead of one for all
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845749493, 0.4188073119525673),
)


@dataclass
class Preparation:
    """What the trainer of a trial will be made of."""

    dataset: TokenDataset
    context: int
    tokens: int  # of the run: choices of rows and context change its steps
    rows: int = 0  # 0: as many as make STEP_TOKENS
    seed: int = 0
    length_warmup: float = LENGTH_WARMUP
    fim: FillInTheMiddle | None = None
    inner: int | None = None  # width of the MLP
    own: NDArray[np.int64] | None = None  # documents of the repository that the model is for


def context(made_of: Preparation, value: float) -> None:
    """Tokens of a row; as many fewer rows a step."""
    made_of.context = int(value)


def rows(made_of: Preparation, value: float) -> None:
    """Rows of a step; as many fewer steps."""
    made_of.rows = int(value)


def epochs(made_of: Preparation, value: float) -> None:
    """Keep so few documents that the run reads each of them this many times: the cost of repetition."""
    train = made_of.dataset.train
    order = np.random.default_rng(made_of.seed).permutation(len(train.lengths))
    enough = int(np.searchsorted(np.cumsum(train.lengths[order]), made_of.tokens / value)) + 1
    made_of.dataset = replace(made_of.dataset, train=train.keep(np.sort(order[:enough])))


def inner(made_of: Preparation, value: float) -> None:
    """Width between the two layers of the MLP, instead of four times the model's."""
    made_of.inner = int(value)


def hardest(made_of: Preparation, value: float) -> None:
    """Leave out this share of the tokens: documents that the pairs of the corpus predict worst."""
    keep_by_difficulty(made_of, 0.0, 1 - value)


def easiest(made_of: Preparation, value: float) -> None:
    """Leave out this share of the tokens: documents that the pairs of the corpus predict best."""
    keep_by_difficulty(made_of, value, 1.0)


def keep_by_difficulty(made_of: Preparation, low: float, high: float) -> None:
    """Keep the documents from one share of the tokens to the other, the easiest first."""
    dataset, train = made_of.dataset, made_of.dataset.train
    everything = np.arange(len(train.lengths))
    order = np.argsort(surprises(train, everything, dataset.vocab_size), kind="stable")
    place = np.cumsum(train.lengths[order]) / train.size
    made_of.dataset = replace(dataset, train=train.keep(np.sort(order[(place > low) & (place <= high)])))


def own(made_of: Preparation, value: float) -> None:
    """The model is for one repository, the value-th by size from 0: every second file of it is scored.

    The others are learnt from, with as many documents of other repositories as the run has time for.
    """
    dataset, train = made_of.dataset, made_of.dataset.train
    sizes = np.bincount(train.repository, weights=np.diff(train.offsets))
    mine = np.flatnonzero(train.repository == np.argsort(-sizes, kind="stable")[int(value)])
    made_of.dataset = replace(dataset, held_out=documents_of(train, mine[1::2]))
    made_of.own = mine[::2]
    draw_others(made_of, np.flatnonzero(train.repository != train.repository[mine[0]]))


def own_times(made_of: Preparation, value: float) -> None:
    """After own, before closest: read the own files so many times."""
    made_of.own = np.tile(own_files(made_of), int(value))


def closest(made_of: Preparation, value: float) -> None:
    """After own: draw the others from this share of the tokens, the documents most like the own files.

    Source: Moore and Lewis 2010, "Intelligent Selection of Language Model Training Data", with pairs.
    """
    dataset, mine = made_of.dataset, own_files(made_of)
    train = replace(dataset.train, kept=None)
    others = np.flatnonzero(train.repository != train.repository[mine[0]])
    order = others[np.argsort(-likeness_to(train, mine, others, dataset.vocab_size), kind="stable")]
    within = np.cumsum(train.lengths[order]) <= value * train.lengths[others].sum()
    made_of.dataset = replace(dataset, train=train)
    draw_others(made_of, order[within])


def like(made_of: Preparation, _: float) -> None:
    """After own: choose as train.py --like does."""
    dataset, mine = made_of.dataset, own_files(made_of)
    repository = dataset.train.repository
    whole = np.flatnonzero(repository == repository[mine[0]])
    seen = np.setdiff1d(np.arange(len(repository)), np.setdiff1d(whole, mine))
    dataset = replace(dataset, train=replace(dataset.train, kept=seen))
    name = dataset.train.repositories[repository[mine[0]]]
    made_of.dataset = choose_documents(dataset, made_of.tokens, made_of.seed, [name])


def draw_others(made_of: Preparation, others: NDArray[np.int64]) -> None:
    """Learn from the own files and from as many of these documents as there is time for."""
    train, mine = made_of.dataset.train, own_files(made_of)
    drawn = np.random.default_rng(made_of.seed).permutation(others)
    drawn = up_to(drawn, train, made_of.tokens - train.lengths[mine].sum())
    made_of.dataset = replace(made_of.dataset, train=train.keep(repeated(mine, 1, drawn)))


def own_files(made_of: Preparation) -> NDArray[np.int64]:
    """The documents that `own` chose. Raises: ValueError if it does not stand before this choice."""
    if made_of.own is None:
        raise ValueError("the choices own-times, closest and like come after own")
    return made_of.own


def documents_of(split: TokenSplit, places: NDArray[np.int64]) -> TokenSplit:
    """These documents as a split of their own."""
    spans = [split.tokens[int(split.offsets[n]) : int(split.offsets[n + 1])] for n in places]
    return replace(
        split,
        tokens=cast("Ids", np.concatenate(spans)),
        offsets=np.concatenate([[0], np.cumsum([len(span) for span in spans])]),
        text_bytes=split.text_bytes[places],
        repository=split.repository[places],
        paths_from=[split.paths[n] for n in places],
        origin=None,
    )


def easy_first(made_of: Preparation, value: float) -> None:
    """Whole rows of easy documents come first, of hard ones last; value: how much chance there is in it."""
    from data_loading.batches import Epoch, PackedRows

    shuffle = PackedRows._shuffle

    def ordered(rows: PackedRows, number: int) -> Epoch:
        epoch = shuffle(rows, number)
        dataset = made_of.dataset
        everything = np.arange(len(dataset.train.lengths))
        by_document = surprises(dataset.train, everything, dataset.vocab_size)
        middles = (np.arange(rows.rows_per_epoch) + 0.5) * rows.block_size
        places = np.minimum(np.searchsorted(epoch.ends, middles), len(epoch.ends) - 1)
        rank = np.argsort(np.argsort(by_document[epoch.documents[places]])) / rows.rows_per_epoch
        random = np.random.default_rng([rows.seed, number, 1])
        epoch.rows.first = np.argsort(rank + value * random.random(len(rank)), kind="stable")
        return epoch

    PackedRows._shuffle = ordered  # type: ignore[assignment,method-assign]


def fim(made_of: Preparation, value: float) -> None:
    """The share of documents whose middle comes last."""
    made_of.fim = FillInTheMiddle(value, FIM_IDS)


def seed(made_of: Preparation, value: float) -> None:
    """Other first weights and another order: how much two runs of the same choices differ."""
    made_of.seed = int(value)


def warm_up(_: Preparation, value: float) -> None:
    """Share of the run in which the rate rises."""
    schedule.WARM_UP = value


def decay(_: Preparation, value: float) -> None:
    """Share of the run in which the rate falls to zero."""
    schedule.DECAY = value


def std(_: Preparation, value: float) -> None:
    """Standard deviation of the first weights."""
    gpt2.INITIALIZER_RANGE = value


def drawn(_: Preparation, __: float) -> None:
    """All weights are drawn from N(0, 0.02): no heads in place."""
    vars(gpt2)["add_induction_heads"] = lambda trunk, shape: None


def constant_of_heads(name: str, what: str) -> Callable[[Preparation, float], None]:
    """A choice that sets a constant of model/gpt2/initial_weights.py."""

    def choice(_: Preparation, value: float) -> None:
        setattr(initial_weights, name, type(getattr(initial_weights, name))(value))

    choice.__doc__ = what
    return choice


HEADS = {
    "POSITION_RMS": "Root mean square of the first position embeddings, for the heads that look back.",
    "SHARPNESS": "How sharply those heads look at one token.",
    "LOOKING_BACK": "Heads of the first layer that look back: one token, two, ...",
    "WRITTEN": "How large they write down the token that they look at.",
    "MATCHING": "Gain of the queries and keys of the head that looks for matches.",
    "COPIED": "How large the matching head begins by writing down what it finds.",
    "PAIR_RMS": "How large the embeddings from pairs are.",
    "PRIOR": "Pairs of chance that are added to each token's.",
    "LAST_GAIN": "First gain of the last layer norm but for positions.",
    "LAST_GAIN_OF_POSITIONS": "First gain of the last layer norm for positions.",
}


def rounds(_: Preparation, value: float) -> None:
    """Rounds of Newton and Schulz, with Jordan's coefficients."""
    optimizers.NEWTON_SCHULZ_ROUNDS = int(value)


def polar(_: Preparation, value: float) -> None:
    """Rounds of the iteration, with Polar Express' coefficients."""

    def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
        X: Tensor = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) * 1.02 + 1e-7)).to(dtype)
        for a, b, c in POLAR_EXPRESS[: int(value)]:
            A = X @ X.mT
            X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
        return X

    optimizers.orthogonalize = orthogonalize


def unshuffled_rows(made_of: Preparation, _: float) -> None:
    """Rows as they follow each other in the shuffled documents: a long file fills a batch."""
    from data_loading.batches import RowOrder

    RowOrder.__getitem__ = lambda order, number: number  # type: ignore[method-assign]


def longest_wave(_: Preparation, value: float) -> None:
    """Wavelength, over 2 pi, of the slowest of the sinusoids."""
    LONGEST_WAVE[0] = value


def likeness(_: Preparation, value: float) -> None:
    """How far keys that begin alike are the queries: correlation of their weights."""
    LIKENESS[0] = value


def length_warmup(made_of: Preparation, value: float) -> None:
    """Share of the run after which all rows are whole; 0: all are from the start."""
    made_of.length_warmup = value


def short_length(_: Preparation, value: float) -> None:
    """Tokens of the short rows before that."""
    batches.SHORT_LENGTH = int(value)


def z_loss(_: Preparation, value: float) -> None:
    """value * logsumexp(logits) ** 2 on top of the loss (PaLM, section 5), which is reported with it."""

    def with_z(hidden: Tensor, weight: Tensor, targets: Tensor, _: Sequence[Candidates] | None) -> Tensor:
        scores = (hidden @ weight.T).float()
        return F.cross_entropy(scores, targets) + value * scores.logsumexp(-1).square().mean()

    vars(gpt2)["linear_cross_entropy"] = with_z


PREPARING: dict[str, Callable[[Preparation, float], None]] = {
    choice.__name__.replace("_", "-"): choice
    for choice in (
        *(context, rows, epochs, fim, seed, warm_up, decay, std, rounds, polar, unshuffled_rows, z_loss),
        *(longest_wave, likeness, drawn, length_warmup, short_length),
        *(inner, hardest, easiest, easy_first, own, own_times, closest, like),
    )
} | {name.lower().replace("_", "-"): constant_of_heads(name, what) for name, what in HEADS.items()}
