"""What the trials of the learning benchmark change, and that they change nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import learning_preparations
import learning_variants
from data_loading.batches import PackedRows
from data_loading.token_file import TokenDataset
from gpt2 import network as gpt2
from gpt2.config import GPT2Config
from gpt2.device import Machine
from gpt2.network import GPT2
from learning_choices import VARIANTS, Trained, main, table
from learning_preparations import PREPARING, Preparation
from learning_variants import ADAPTING, Trial, parse_variant
from numbered_documents import split_of
from tiny_model import save_tiny_model
from training.base_model import read_base_model
from training.plan import Plan
from training.schedule import Schedule
from training.trainer import Trainer

MACHINE = Machine(torch.device("cpu"), torch.float32, threads=1)
DATASET = TokenDataset(split_of([40] * 10), split_of([20] * 4), 512, 0, "d", "t")


def trial_of(steps: int = 20) -> Trial:
    plan = Plan(GPT2Config(1, 2, 16, 16, 512), 4, 4, steps, None, seconds_per_step=0.0, memory=0.0)
    rows = PackedRows(DATASET.train, 16, 0)
    return Trial(Trainer(plan, MACHINE, rows, Schedule(steps), 0), DATASET)


def test_choices_are_read_with_their_values_and_unknown_ones_refused() -> None:
    assert parse_variant("base") == {}
    assert parse_variant("momentum=0.9+normuon") == {"momentum": 0.9, "normuon": 1.0}
    for wrong in ("momentun=0.9", "normuon+base", "momentum=nan", "sampled=0.18+z-loss"):
        with pytest.raises(ValueError):
            parse_variant(wrong)


def test_every_choice_says_in_a_line_what_it_is() -> None:
    assert not set(PREPARING) & set(ADAPTING)
    assert all((choice.__doc__ or "").strip() for choice in (*PREPARING.values(), *ADAPTING.values()))


def test_normuon_moves_all_neurons_equally_and_the_matrix_as_far_as_muon() -> None:
    trial = trial_of()
    muon = trial.trainer.optimizers[0]
    updates = [torch.randn(16, 64, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 65)]
    before = muon._steps(updates)
    ADAPTING["normuon"](trial, 1)
    after = muon._steps(updates)[0]  # the first step: the second moment is this update's own
    of_neurons = after.norm(dim=0)
    assert float(of_neurons.max() / of_neurons.min()) == pytest.approx(1, abs=1e-3)
    assert float(after.norm()) == pytest.approx(float(before.norm()), rel=1e-4)
    assert not muon._steps([torch.zeros(16, 64)]).any()


def test_with_masks_a_document_is_read_as_if_it_stood_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt2, "causal_attention", vars(gpt2)["causal_attention"])
    trial = trial_of()
    model = trial.trainer.model
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()  # which alone would tell where in the row a document stands
        for name, weight in model.named_parameters():
            if name.endswith("attn.c_proj.weight"):
                weight.normal_()
    row = torch.tensor([[7, 8, 9, 0, 10, 11, 12, 13]])
    unmasked = model.hidden(row)
    alone = model.hidden(row[:, 3:])
    ADAPTING["masks"](trial, 1)
    masked = model.hidden(row)
    assert torch.allclose(masked[:3], unmasked[:3], atol=1e-5)
    assert torch.allclose(masked[3:], alone, atol=1e-5)
    assert not torch.allclose(unmasked[3:], alone, atol=1e-2)


def test_z_loss_adds_the_square_of_the_normaliser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt2, "linear_cross_entropy", vars(gpt2)["linear_cross_entropy"])
    model = trial_of().trainer.model
    tokens = torch.tensor([[0, 1, 2, 3]])
    plain = float(model(tokens, tokens).detach())
    PREPARING["z-loss"](Preparation(DATASET, 16, 100), 0.01)
    normaliser = model.logits(tokens).logsumexp(-1)
    with_z = float(model(tokens, tokens).detach())
    assert with_z == pytest.approx(plain + 0.01 * float(normaliser.square().mean().detach()))


def test_unlearnt_starts_leave_out_what_follows_an_end() -> None:
    trial = trial_of()
    model = trial.trainer.model
    tokens, targets = torch.tensor([[5, 0, 6, 7]]), torch.tensor([[0, 6, 7, 8]])
    each = model.losses(tokens, targets, torch.ones_like(tokens, dtype=torch.bool))
    ADAPTING["unlearnt-starts"](trial, 1)
    learnt = float(model(tokens, targets).detach())
    assert learnt == pytest.approx(float(each[[0, 2, 3]].detach().mean()), rel=1e-5)


def test_a_model_for_one_repository_reads_half_of_it_and_what_is_most_like_it() -> None:
    texts = [
        [5, 6, 7] * 20,
        [5, 6, 7] * 20,
        [5, 6, 7] * 20,
        *[[8, 9, 10 + number] * 20 for number in range(40)],
    ]
    texts[7] = [5, 6, 7] * 20  # of another repository
    documents = [np.array([*text, 0], np.uint16) for text in texts]
    train = replace(
        DATASET.train,
        tokens=np.concatenate(documents),
        offsets=np.concatenate([[0], np.cumsum([len(document) for document in documents])]),
        text_bytes=np.full(len(texts), 99),
        repository=np.array([0, 0, 0, *range(1, len(texts) - 2)], np.int32),
        repositories=[f"r{number}" for number in range(len(texts) - 2)],
        paths_from=[f"{number}.py" for number in range(len(texts))],
    )
    made_of = Preparation(replace(DATASET, train=train), context=16, tokens=3 * 61)
    PREPARING["own"](made_of, 0)
    assert list(made_of.dataset.held_out.paths) == ["1.py"]
    assert made_of.dataset.held_out.tokens.tolist() == [*texts[1], 0]
    kept = made_of.dataset.train.kept
    assert kept is not None
    assert {0, 2} <= set(kept.tolist()) and 1 not in kept
    PREPARING["closest"](made_of, 0.03)  # one of the forty
    kept = made_of.dataset.train.kept
    assert kept is not None
    assert kept.tolist() == [0, 2, 7]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_run_by_default_is_there(variant: str) -> None:
    assert variant == "base" or parse_variant(variant)


def test_a_ramp_uses_every_row_once_in_growing_steps() -> None:
    trial = trial_of()
    ADAPTING["ramp"](trial, 2)
    rows = trial.trainer.rows
    steps = [torch.cat([targets for _, targets in trial.trainer.loader.batches(step)]) for step in range(20)]
    assert torch.cat(steps).tolist() == [rows.row(number)[1:].tolist() for number in range(80)]
    assert len(steps[0]) < 4 < len(steps[-1])
    trial.before[0](19)
    assert trial.trainer.plan.rows == len(steps[-1])


def test_positions_begin_as_sinusoids_whose_products_tell_how_far_apart_they_are() -> None:
    trial = trial_of()
    ADAPTING["sinusoids"](trial, 0.02)
    weight = trial.trainer.model.transformer.wpe.weight.detach()
    assert float(weight.square().mean().sqrt()) == pytest.approx(0.02, rel=1e-4)
    products = weight @ weight.T
    assert torch.allclose(products[0, 1:4], products[5, 6:9], atol=1e-6)


@pytest.mark.parametrize("likeness", [1.0, 0.6])
def test_keys_begin_as_like_the_queries_as_was_asked(
    likeness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_preparations, "LIKENESS", shared := [1.0])
    monkeypatch.setattr(learning_variants, "LIKENESS", shared)
    PREPARING["likeness"](Preparation(DATASET, 16, 100), likeness)
    trial = trial_of()
    ADAPTING["alike"](trial, 3)
    [weight] = [w for name, w in trial.trainer.model.named_parameters() if name.endswith("c_attn.weight")]
    q, k, v = torch.split(weight.detach(), 16, dim=1)
    assert float((q * k).sum() / (q.norm() * k.norm())) == pytest.approx(likeness, abs=0.1)
    assert float(q.std() / v.std()) == pytest.approx(3, rel=0.25)
    assert float(k.std() / v.std()) == pytest.approx(3, rel=0.25)


def test_positions_learn_at_a_multiple_of_the_rate() -> None:
    moved = []
    for factor in (1, 3):
        trial = trial_of()
        weight = trial.trainer.model.transformer.wpe.weight
        first = weight.detach().clone()
        ADAPTING["wpe-rate"](trial, factor)
        trial.before[0](0)
        trial.trainer.step()
        trial.after[0]()
        moved.append(weight.detach() - first)
    assert torch.allclose(moved[1], 3 * moved[0], atol=1e-6)
    assert moved[0].any()


def test_averages_are_those_of_the_weights_after_each_step() -> None:
    for name, value in (("ema", 0.5), ("tail", 0.5)):
        trial = trial_of(steps=4)
        weight = trial.trainer.model.transformer.wte.weight
        seen = [weight.detach().clone()]
        ADAPTING[name](trial, value)
        trial.after.append(partial(lambda seen, weight: seen.append(weight.detach().clone()), seen, weight))
        while not trial.trainer.schedule.done:
            trial.trainer.step()
            for follow in trial.after:
                follow()
        for finish in trial.finally_:
            finish()
        if name == "ema":
            expected = seen[0]
            for later in seen[1:]:
                expected = (expected + later) / 2
        else:
            expected = (seen[-1] + seen[-2]) / 2  # progress beyond a half: after the third and fourth step
        assert torch.allclose(weight, expected, atol=1e-6)


def test_epochs_keep_as_many_documents_as_are_read_so_often() -> None:
    made_of = Preparation(DATASET, 16, tokens=320)
    PREPARING["epochs"](made_of, 4)
    kept = made_of.dataset.train
    assert 80 <= kept.size <= 120
    assert replace(kept, kept=None).size == 400


def test_documents_are_kept_by_how_well_their_pairs_are_known() -> None:
    known = [5, 6] * 20
    texts = [known, known, list(range(7, 47)), known]
    split = replace(split_of([41] * 4), tokens=np.array([[*text, 0] for text in texts], np.uint16).ravel())
    dataset = replace(DATASET, train=split)
    for name, left in (("hardest", [0, 1, 3]), ("easiest", [1, 2, 3])):
        made_of = Preparation(dataset, 16, tokens=320)
        PREPARING[name](made_of, 0.25)
        kept = made_of.dataset.train.kept
        assert kept is not None
        assert kept.tolist() == left


def test_easy_rows_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedRows, "_shuffle", PackedRows._shuffle)
    known, rare = [5, 6] * 20, list(range(7, 47))
    tokens = np.array([[*text, 0] for text in (known, rare) * 5], np.uint16).ravel()
    dataset = replace(DATASET, train=replace(split_of([41] * 10), tokens=tokens))
    PREPARING["easy-first"](Preparation(dataset, 16, tokens=320), 0.0)
    rows = PackedRows(dataset.train, 16, 0)
    hard = [int((rows.row(number)[1:] > 6).sum()) for number in range(rows.rows_per_epoch)]
    assert sum(hard[: len(hard) // 3]) < sum(hard[-len(hard) // 3 :]) / 4
    assert sum(hard) >= 200


def test_cautious_decay_shrinks_only_what_the_step_makes_smaller() -> None:
    trial = trial_of()
    weight = trial.trainer.optimizers[0].param_groups[0]["params"][0]
    with torch.no_grad():
        weight.fill_(2.0)
    ADAPTING["cautious"](trial, 0.5)
    trial.before[0](0)
    trial.trainer.full_rates[0] = 0.1
    trial.trainer.schedule.step, trial.trainer.schedule.progress = 6, 0.3  # where the rate is whole
    with torch.no_grad():
        weight[0], weight[1] = 1.9, 2.1
    trial.after[0]()
    assert torch.allclose(weight[0], torch.tensor(1.8))  # 0.1 * 0.5 * 2 less
    assert torch.allclose(weight[1], torch.tensor(2.1))


def test_the_auxiliary_loss_is_that_of_the_token_after_the_next_and_its_layer_learns() -> None:
    trial = trial_of()
    model = trial.trainer.model
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    targets = torch.roll(tokens, -1, 1)
    later = torch.roll(targets, -1, 1)
    expected = float(model(tokens, targets).detach() + 0.3 * model(tokens, later).detach())
    ADAPTING["auxiliary"](trial, 0.3)
    assert float(model(tokens, targets).detach()) == pytest.approx(expected, rel=1e-6)
    further = trial.trainer.optimizers[1].param_groups[1]["params"][0]
    for step in range(2):
        trial.before[0](step)
        trial.trainer.step()
    assert not torch.equal(further, torch.eye(16))


def test_a_pupil_learns_what_its_teacher_expects(tmp_path: Path) -> None:
    trial = trial_of()
    with pytest.raises(ValueError, match="--teacher"):
        ADAPTING["teacher"](trial, 1.0)
    trial.teacher = save_tiny_model(tmp_path)
    expected = read_base_model(tmp_path, tmp_path)
    teacher = GPT2(expected.config)
    teacher.load_state_dict(expected.weights(64))
    model = trial.trainer.model
    tokens, targets = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[2, 3, 4, 5, 6]])
    of_text = float(model(tokens, targets).detach())
    told = -(teacher.logits(tokens).softmax(-1) * model.logits(tokens).log_softmax(-1)).sum(-1).mean()
    ADAPTING["teacher"](trial, 0.7)
    assert float(model(tokens, targets).detach()) == pytest.approx(
        0.7 * float(told.detach()) + 0.3 * of_text, rel=1e-5
    )


def test_the_table_has_a_row_for_each_variant_and_its_share_of_base() -> None:
    base, other = (
        Trained(name, bits, 4.0, 3.0, 10, 20_480, 2.0) for name, bits in (("base", 2.0), ("normuon", 1.9))
    )
    lines = table([base, other], base).splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["normuon", "1.9000", "0.9500", "4.0000", "3.0000", "10", "2.0", "10,240"]


def test_a_variant_is_run_once_and_then_kept(
    data_txt: Path, tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"--data": data_txt, "--tokenizer": tokenizer_folder, "--cache": tmp_path / "cache"}
    command = [word for option, path in files.items() for word in (option, str(path))]
    command += ["--work", str(tmp_path / "work"), *"--shape 1 1 16 --steps 2 --held-out-kb 1".split()]
    command += ["--variants", "normuon+context=64"]
    assert main(command) == 0
    [kept] = (tmp_path / "work").iterdir()
    finished = kept.read_bytes()
    first = capsys.readouterr().out
    assert [line.split()[0] for line in first.splitlines()[1:]] == ["normuon+context=64"]
    assert main(command) == 0
    assert capsys.readouterr().out == first
    assert kept.read_bytes() == finished
