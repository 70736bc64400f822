"""The validation loss: what it is, by hand from the scores; that it is the same one every time; what it chooses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import held_out, training_counts, view_of
from seqrec_cli.data.validation_rows import ValidationRows
from seqrec_cli.data.view import Targets
from seqrec_cli.evaluation.evaluate import evaluate, measuring
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import build_objective
from seqrec_cli.training import validation_loss as module
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.validation_loss import ValidationLoss
from tests.toylog import packed, random_histories
from tests.training.configured import config

CPU = Precision(torch.device("cpu"), "fp32")
LOG = packed(random_histories(40, 60, 25), 60, click_negatives=4)
SMALL = ["model.max_length=9", "trainer.batch_size=8"]


def made(overrides: list[str], log: PackedLog = LOG) -> tuple[Recommender, ValidationLoss]:
    """A model whose weights are large enough for its scores to differ, and the loss of its run."""
    cfg = config([*SMALL, *overrides])
    objective = build_objective(cfg.objective)
    objective.prepare(torch.from_numpy(training_counts(log)))
    model = build_model(cfg.model, log.catalog, 0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)))
    return model, ValidationLoss(cfg, objective, log, device=CPU.device)


def value(model: Recommender, loss: ValidationLoss, log: PackedLog = LOG) -> float:
    cfg = config(SMALL)
    found = evaluate(model, log, "val", cfg=cfg.evaluation, max_length=9, precision=CPU)
    with measuring(model, CPU):
        result = loss(model, found.clicks.labels_N, found.clicks.logits_N)
    assert result is not None
    return result


def cross_entropy_of_scores(model: Recommender, log: PackedLog = LOG) -> float:
    """-log softmax of the target among all items, by the scores that rank it."""
    losses = []
    with measuring(model, CPU):
        for row, end in zip(held_out(log, "val").rows_R, held_out(log, "val").ends_R, strict=True):
            start = max(log.offsets_U1[row], end - 9)
            items_BL = torch.from_numpy(log.items_N[start:end].astype(np.int64))[None]
            batch = Batch(torch.tensor([row + 1]), items_BL, torch.tensor([end - start]))
            target_B = torch.tensor([int(log.items_N[end]) - 1])
            losses.append(F.cross_entropy(model.score_corpus(batch)[:, 1:], target_B).item())
    return float(np.mean(losses))


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=sasrec"],
        ["model=sasrec", "model.item_bias=true", "objective=all_action"],
        ["model=gru4rec"],
        ["model=bert4rec"],
        ["model=bert4rec", "objective.last=0.5", "objective.keep=0.3"],
    ],
    ids=" ".join,
)
def test_softmax_objectives_cost_what_the_scores_say(overrides: list[str]) -> None:
    """Cloze too: of the targets' rows the last event alone is hidden, whatever share is hidden in training."""
    model, loss = made(overrides)
    assert value(model, loss) == pytest.approx(cross_entropy_of_scores(model), rel=1e-4)


def test_what_is_read_in_training_alone_is_no_part_of_it() -> None:
    model, plain = made(["model=sasrec"])
    _, scheduled = made(["model=sasrec", "objective.scheduled_sampling=linear", "objective.scheduled_least=0"])
    _, known = made(["model=sasrec", "objective.known=running"])
    assert value(model, scheduled) == value(model, known) == value(model, plain)


def test_an_ensemble_costs_the_mean_of_its_members() -> None:
    model, loss = made(["model=ensemble"])
    each = [value(member, loss) for member in model.trainable_models()]
    assert len(each) > 1
    assert value(model, loss) == pytest.approx(np.mean(each), rel=1e-6)


def test_click_costs_its_candidates_as_training_weighs_them() -> None:
    """One negative a positive in training, four in validation; three in training; and a smoothed label."""
    for more, negatives, smoothing in (
        (["objective.negatives=1"], 1, 0.0),
        (["objective.negatives=3", "objective.smoothing=0.2"], 3, 0.2),
    ):
        model, loss = made(["model=din", *more])
        found = evaluate(model, LOG, "val", cfg=config(SMALL).evaluation, max_length=9, precision=CPU)
        labels_N = found.clicks.labels_N * (1 - smoothing) + smoothing / 2
        chance_N = 1 / (1 + np.exp(-found.clicks.logits_N))
        losses_N = -(labels_N * np.log(chance_N) + (1 - labels_N) * np.log(1 - chance_N))
        clicked_N = found.clicks.labels_N > 0
        expected = (losses_N[clicked_N].mean() + negatives * losses_N[~clicked_N].mean()) / (1 + negatives)
        assert value(model, loss) == pytest.approx(expected, rel=1e-5)


SAMPLED = [
    ["objective=bce"],
    ["objective=bce", "objective.shared=sequence"],
    ["objective=bpr"],
    ["objective=gbce"],
    ["objective=sampled_softmax"],
    ["objective=sampled_all_action"],
]


@pytest.mark.parametrize("overrides", SAMPLED, ids=" ".join)
def test_negatives_are_the_same_ones_every_time(overrides: list[str]) -> None:
    """Of another seed, and after other random numbers, whose state is left as it was."""
    model, loss = made(overrides)
    torch.manual_seed(5)
    first = value(model, loss)
    state = torch.get_rng_state()
    assert value(model, loss) == first
    assert torch.equal(torch.get_rng_state(), state)
    _, other = made([*overrides, "trainer.seed=7"])
    torch.manual_seed(99)
    assert value(model, other) == first
    with torch.no_grad():
        next(iter(model.parameters())).mul_(3)
    assert value(model, loss) != first


def test_unseen_negatives_are_unseen() -> None:
    rows = ValidationRows.of(LOG, None)
    seen = module.SeenItems.in_training(LOG)
    how = {"masked": False, "negatives": 5, "draws_by_row": False, "seen": seen, "device": CPU.device}
    found = 0
    for batch in rows.batches(9, 8, **how):  # type: ignore[arg-type]
        rows_B, last_B = batch.users_B.numpy() - 1, batch.lengths_B.numpy() - 1
        negatives_BK = batch.negatives_BLK[np.arange(len(batch)), last_B].numpy()  # type: ignore[index]
        assert not seen.contains(rows_B[:, None], negatives_BK).any()
        targets_B = batch.targets_BL[np.arange(len(batch)), last_B].numpy()  # type: ignore[index]
        ends_B = dict(zip(rows.rows_R, rows.ends_R, strict=True))
        assert targets_B.tolist() == [LOG.items_N[ends_B[row]] for row in rows_B]
        found += len(batch)
    assert found == len(held_out(LOG, "val").rows_R)


def test_what_a_user_will_meet_may_be_drawn() -> None:
    """As in training: seen is what trains, so that the target itself is unseen."""
    for overrides in (["objective=bce"], ["objective=bpr"]):
        seen = made(overrides)[1]._seen
        assert seen is not None
        assert np.array_equal(seen.keys_N, module.SeenItems.in_training(LOG).keys_N)


def test_a_sample_is_measured_unless_the_loss_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 3)
    sizes = [len(made(words)[1]._rows) for words in ([], ["trainer.monitor=loss"])]
    every = len(held_out(LOG, "val").rows_R)
    assert sizes == [max(3, every // module.SHARE), every]
    few = ValidationRows.of(LOG, 5)
    assert np.array_equal(few.rows_R, ValidationRows.of(LOG, 5).rows_R)


TINY = ["dataset.users=60", "dataset.items=40", "dataset.max_events=12", "model.max_length=10", "model.embed_dim=8"]


def test_the_loss_is_in_every_file_and_chooses(tmp_path: Path) -> None:
    words = [*TINY, "trainer.max_epochs=6", "trainer.lr=3e-2", "evaluation.baselines=false", "trainer.batch_size=16"]
    folder = tmp_path / "run"
    places = [f"data_dir={tmp_path / 'data'}", f"run_dir={folder}"]
    result = seqrec_cli.run("train", [*words, "trainer.monitor=loss", *places])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lowest = min(rows, key=lambda row: row["loss"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["fit"]["best_epoch"] == lowest["epoch"]
    assert result["val"]["loss"] == lowest["loss"]
    assert result["protocol"]["chosen_by"] == "loss"
    again = seqrec_cli.run("evaluate", [f"ckpt={folder}", "split=val"])
    assert again["val"] == result["val"]
    assert "loss" not in result["test"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("val/loss")] == pytest.approx([row["loss"] for row in rows])


def test_several_targets_of_a_request_have_a_row_each() -> None:
    targets = held_out(LOG, "val")
    two = Targets(targets.rows_R, targets.ends_R, np.repeat(targets.positions_T, 2), targets.offsets_R1 * 2)
    two.positions_T[1::2] += 1  # the test event too
    rows = ValidationRows.of(replace(LOG, view=replace(view_of(LOG), val=two)), None)
    assert len(rows) == 2 * len(targets.rows_R)
    assert np.array_equal(rows.ends_R, np.repeat(targets.ends_R, 2))
    assert np.array_equal(rows.items_R[1::2], LOG.items_N[targets.ends_R + 1])


def test_what_has_no_loss_is_not_chosen_by_it() -> None:
    with pytest.raises(SeqrecError, match=r"trainer.monitor=loss: model=popular is fitted in closed form and has no"):
        config(["model=popular", "trainer.monitor=loss"])
    with pytest.raises(SeqrecError, match=r"trainer.monitor: lost is no metric"):
        config(["trainer.monitor=lost"])
