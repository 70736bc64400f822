"""`evaluate`, the baselines, and what may be compared."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import held_out
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.data.vocabulary import write_vocabulary
from seqrec_cli.evaluation import baselines as baselines_module
from seqrec_cli.evaluation.baselines import Oracle, baselines
from seqrec_cli.evaluation.compare import protocol, same_protocol
from seqrec_cli.evaluation.evaluate import evaluate, score_clicks
from seqrec_cli.metrics.table import lower_is_better, metric_names
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.protocols.view.build import with_view
from tests.shipped import shipped


class Mean(SequenceEncoder):
    """An encoder with dropout inside, one part of it frozen in evaluation mode."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log.catalog)
        torch.manual_seed(0)
        self.items = torch.nn.Embedding(log.num_items + 1, 4)
        self.drop = torch.nn.Dropout(0.5)
        self.frozen = torch.nn.Dropout(0.5).eval()

    def encode(self, batch: Batch) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        return self.drop(self.items(batch.items_BL)).cumsum(1)

    def item_table(self) -> torch.Tensor:
        return self.items.weight


class Pairs(Recommender):
    """A click ranker: each candidate against the last event."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log.catalog)
        torch.manual_seed(1)
        self.items = torch.nn.Embedding(log.num_items + 1, 4)

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        last_B = batch.items_BL.gather(1, (batch.lengths_B - 1).clamp(min=0)[:, None])[:, 0]
        return torch.einsum("bd,bcd->bc", self.items(last_B), self.items(items_BC))


def asked(log: PackedLog, clicks: dict[str, LabelledRows]) -> PackedLog:
    """The log with other click candidates."""
    assert log.view is not None
    return replace(log, view=replace(log.view, clicks=clicks))


@pytest.mark.parametrize("kind", [Mean, Pairs])
@pytest.mark.parametrize("split", ["val", "test"])
def test_both_families_get_both_tables(random_log, cfg, cpu, kind, split):
    model = kind(random_log)
    evaluation = evaluate(model, random_log, split, cfg=cfg, max_length=10, precision=cpu)
    assert tuple(evaluation.metrics) == metric_names(cfg.cutoffs)
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    clicks = random_log.clicks[split]
    model.eval()
    labels, logits = [], []
    for row, end, items_C, labels_C in zip(
        clicks.rows_R, clicks.ends_R, clicks.items_RC, clicks.labels_RC, strict=True
    ):
        start = max(random_log.offsets_U1[row], end - 10)
        events = torch.from_numpy(random_log.items_N[start:end].astype(np.int64))[None]
        batch = Batch(torch.tensor([row + 1]), events, torch.tensor([events.shape[1]]))
        with torch.no_grad():
            logits.append(model.score(batch, torch.from_numpy(items_C.astype(np.int64))[None])[0].numpy())
        labels.append(labels_C)
    y, z = np.concatenate(labels), np.concatenate(logits).astype(np.float64)
    assert evaluation.metrics["auc"] == pytest.approx(roc_auc_score(y, z), abs=1e-6)
    assert evaluation.metrics["logloss"] == pytest.approx(log_loss(y, 1 / (1 + np.exp(-z))), abs=1e-6)
    each = [roc_auc_score(y_C, z_C) for y_C, z_C in zip(labels, logits, strict=True)]
    assert evaluation.metrics["gauc"] == pytest.approx(np.mean(each), abs=1e-6)


def test_click_candidates_of_other_events_are_scored_for_themselves(random_log, cfg, cpu):
    whole = evaluate(Pairs(random_log), random_log, "test", cfg=cfg, max_length=10, precision=cpu)
    c = random_log.clicks["test"]
    order = np.arange(len(c.rows_R))[::-1]  # no longer the ranked events, row for row
    shuffled = LabelledRows(c.rows_R[order], c.ends_R[order], c.items_RC[order], c.labels_RC[order])
    log = asked(random_log, {"test": shuffled})
    assert evaluate(Pairs(log), log, "test", cfg=cfg, max_length=10, precision=cpu).metrics == pytest.approx(
        whole.metrics, abs=1e-6
    )
    half = LabelledRows(c.rows_R[:9], c.ends_R[:9] - 1, c.items_RC[:9], c.labels_RC[:9])  # asked one event earlier
    log = asked(random_log, {"test": half})
    fewer = evaluate(Pairs(log), log, "test", cfg=cfg, max_length=10, precision=cpu)
    assert fewer.metrics["mrr"] == whole.metrics["mrr"]
    assert fewer.metrics["auc"] != pytest.approx(whole.metrics["auc"], abs=1e-3)


def test_a_log_without_click_candidates_is_refused(random_log, cfg, cpu):
    log = asked(random_log, {})
    with pytest.raises(SeqrecError, match="no click candidates for split=val"):
        evaluate(Pairs(log), log, "val", cfg=cfg, max_length=10, precision=cpu)


def test_modes_come_back_and_dropout_is_off(random_log, cfg, cpu):
    model = Mean(random_log).train()
    model.frozen.eval()
    first = evaluate(model, random_log, "test", cfg=cfg, max_length=10, precision=cpu).metrics
    assert model.training
    assert model.drop.training
    assert not model.frozen.training
    assert evaluate(model, random_log, "test", cfg=cfg, max_length=10, precision=cpu).metrics == first


def test_metrics_do_not_depend_on_the_batch_size(random_log, cfg, cpu):
    model = Pairs(random_log)
    first = evaluate(model, random_log, "test", cfg=cfg, max_length=10, precision=cpu).metrics
    again = evaluate(
        model, random_log, "test", cfg=cfg.model_copy(update={"batch_size": 1000}), max_length=10, precision=cpu
    ).metrics
    assert again == pytest.approx(first, abs=1e-6)


def test_modes_come_back_after_an_error(random_log, cfg, cpu):
    model = Mean(random_log).train()
    model.items.weight.data.fill_(float("nan"))
    with pytest.raises(SeqrecError, match="NaN"):
        evaluate(model, random_log, "test", cfg=cfg, max_length=10, precision=cpu)
    assert model.drop.training


def test_candidates_that_are_padding_are_left_out(log_of, cfg, cpu):
    log = log_of([[1, 2, 3], [2, 3, 1, 2]], 5)
    clicks = log.clicks["test"]
    clicks.items_RC[0, 1:] = 0  # one user is left with the positive alone
    evaluation = evaluate(Pairs(log), log, "test", cfg=cfg, max_length=10, precision=cpu)
    assert len(evaluation.clicks.labels_N) == int((clicks.items_RC > 0).sum())


def test_ranks_are_saved_with_raw_ids(random_log, cfg, cpu, tmp_path):
    users = np.array([f"u{row}" for row in range(random_log.num_users)], object)
    write_vocabulary(tmp_path, "users", users)
    write_vocabulary(tmp_path, "items", np.arange(1, random_log.num_items + 1) * 10)
    log = replace(random_log, folder=tmp_path)
    evaluation = evaluate(Mean(log), log, "test", cfg=cfg, max_length=10, precision=cpu)
    evaluation.save_ranks(tmp_path / "run" / "ranks.parquet")
    rows = pq.read_table(tmp_path / "run" / "ranks.parquet").to_pydict()
    targets = held_out(log, "test")
    assert list(rows) == ["user", "item", "user_index", "item_index", "rank", "candidates", "history", "request"]
    assert rows["user_index"] == (targets.rows_R + 1).tolist()
    assert rows["user"] == [f"u{row}" for row in targets.rows_R]
    assert rows["item_index"] == log.items_N[targets.ends_R].tolist()
    assert rows["item"] == [10 * index for index in rows["item_index"]]
    assert np.mean(1 / np.array(rows["rank"])) == pytest.approx(evaluation.metrics["mrr"])
    assert rows["history"] == (np.diff(log.offsets_U1)[targets.rows_R] - 1).tolist()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["ranks.parquet"]
    evaluate(Mean(log), random_log, "test", cfg=cfg, max_length=10, precision=cpu).save_ranks(
        tmp_path / "ranks.parquet"
    )
    assert pq.read_table(tmp_path / "ranks.parquet").column_names[0] == "user_index"


def test_baselines_of_a_chain_rank_markov_first(log_of, cfg, cpu):
    # Items in a ring of 30: the last event tells the next; popularity tells nothing.
    rng = np.random.default_rng(0)
    log = log_of([((first + np.arange(9)) % 30 + 1).tolist() for first in rng.integers(0, 30, 200)], 30)
    found = baselines(log, "test", cfg=cfg, precision=cpu, max_length=10)
    assert list(found) == ["random", "popular", "markov", "itemknn", "graph"]
    assert all(tuple(metrics) == metric_names(cfg.cutoffs) for metrics in found.values())
    assert found["markov"]["mrr"] == 1
    assert found["popular"]["mrr"] < 0.5
    assert found["random"]["hr@10"] == pytest.approx(10 / 22)  # 30 items, 8 of them seen


def test_oracle_is_ranked_by_the_same_code(log_of, cfg, cpu, monkeypatch):
    log = log_of([((first + np.arange(6)) % 8 + 1).tolist() for first in range(40)], 8)
    log.manifest["process"] = {}

    def oracle_scores(log: PackedLog, rows_B: np.ndarray, ends_B: np.ndarray) -> np.ndarray:
        chances_BV = np.full((len(rows_B), 9), 0.02)
        chances_BV[:, 0] = 0
        chances_BV[np.arange(len(rows_B)), log.items_N[ends_B - 1] % 8 + 1] = 0.86
        return chances_BV

    monkeypatch.setattr(baselines_module, "oracle_scores", oracle_scores)
    found = baselines(log, "test", cfg=cfg, precision=cpu, max_length=10)
    assert found["oracle"]["mrr"] == 1
    # User 1 has seen 1 to 5; of 6, 7, 8 the next is 6. Two items stay unseen, and three negatives are drawn.
    logits = Oracle(log, "test").score_corpus(Batch(torch.tensor([1]), torch.tensor([[1]]), torch.tensor([1])))
    assert logits[0, 6].item() == pytest.approx(math.log(0.86 / (2 * 0.02) * 2 / 3))
    assert logits[0, 7].item() == pytest.approx(math.log(0.02 / (0.86 + 0.02) * 2 / 3))
    assert logits[0, 1].item() < -700


def leave_last_log(dataset: Any, folder: Path, click_negatives: int) -> PackedLog:
    settings = shipped("protocol", "leave_last") | {"click_negatives": click_negatives}
    log = prepare(dataset, folder, lambda line: None)
    return with_view(log, config_class("protocol", "leave_last").from_plain(settings), lambda line: None)


def test_no_baseline_beats_the_oracle_of_generated_data(cfg, cpu, tmp_path):
    # As many users as tell the oracle from the next best: of 400, two hits more were chance.
    few = {"users": 1200, "items": 100, "min_events": 5, "max_events": 15}
    dataset = config_class("dataset", "synthetic").from_plain(shipped("dataset", "synthetic") | few)
    log = leave_last_log(dataset, tmp_path, click_negatives=20)
    cfg = cfg.model_copy(update={"cutoffs": (10,), "batch_size": 256})
    for split in ("val", "test"):
        found = baselines(log, split, cfg=cfg, precision=cpu, max_length=10)
        assert list(found) == ["random", "popular", "markov", "itemknn", "graph", "oracle"]
        for name in metric_names(cfg.cutoffs):
            sign = -1 if lower_is_better(name) else 1
            others = [sign * found[baseline][name] for baseline in found if baseline != "oracle"]
            assert sign * found["oracle"][name] > max(others), name
    rules = rules_of(log, "test", 10, None, False, None)
    assert (rules["dataset"], rules["filters"]["user_core"]) == ("synthetic", 0)


def test_oracle_logits_are_calibrated(cfg, cpu, tmp_path):
    """Of candidates with a posterior near q, about a part q are clicks."""
    few = {"users": 1500, "items": 60, "min_events": 5, "max_events": 10}
    dataset = config_class("dataset", "synthetic").from_plain(shipped("dataset", "synthetic") | few)
    log = leave_last_log(dataset, tmp_path, click_negatives=4)
    cfg = cfg.model_copy(update={"cutoffs": (10,), "batch_size": 256})
    scored = score_clicks(Oracle(log, "test"), log, "test", cfg=cfg, max_length=10, device=cpu.device)
    labels_N, logits_N = scored.labels_N, scored.logits_N
    posteriors_N = 1 / (1 + np.exp(-logits_N))
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.8), (0.8, 1)):
        here_N = (posteriors_N >= low) & (posteriors_N <= high)
        spread = 4 * np.sqrt((posteriors_N[here_N] * (1 - posteriors_N[here_N])).sum()) / here_N.sum()
        assert labels_N[here_N].mean() == pytest.approx(posteriors_N[here_N].mean(), abs=spread)


def rules_of(log: PackedLog, split: str, length: int, monitor: str | None, sees: bool, ranked: int | None) -> Any:
    return protocol(log, split, max_length=length, monitor=monitor, sees_target_time=sees, ranked_users=ranked)


def test_rows_of_different_protocols_are_refused(random_log):
    row = {"protocol": rules_of(random_log, "test", 50, "ndcg@10", False, None)}
    same = {"protocol": rules_of(random_log, "test", 50, "ndcg@10", False, None)}
    assert same_protocol([row, same])["candidates"] == "whole corpus"
    changes = {
        "split": rules_of(random_log, "val", 50, "ndcg@10", False, None),
        "max_length": rules_of(random_log, "test", 200, "ndcg@10", False, None),
        "chosen_by": rules_of(random_log, "test", 50, "auc", False, None),
        "sees_target_time": rules_of(random_log, "test", 50, "ndcg@10", True, None),
        "ranked_users": rules_of(random_log, "test", 50, "ndcg@10", False, 100),
        "fingerprint": {**row["protocol"], "fingerprint": "other"},
        "held_out": {**row["protocol"], "held_out": "by user"},
        "clicks": {**row["protocol"], "clicks": "others"},
    }
    for field, other in changes.items():
        with pytest.raises(SeqrecError, match=f"row 1 and metric row 3 differ in {field}"):
            same_protocol([row, same, {"protocol": other}])


def test_rows_without_a_protocol_are_refused():
    with pytest.raises(SeqrecError, match="row 1 carries no protocol"):
        same_protocol([{"hr@10": 0.3}])


def test_fewer_users_are_ranked_and_all_are_clicked_upon(random_log, cfg, cpu):
    model = Pairs(random_log)
    whole = evaluate(model, random_log, "test", cfg=cfg, max_length=10, precision=cpu)
    few = evaluate(
        model, random_log, "test", cfg=cfg.model_copy(update={"ranked_users": 12}), max_length=10, precision=cpu
    )
    assert len(few.ranks.rows_R) == 12 < len(whole.ranks.rows_R)
    picked = np.searchsorted(whole.ranks.rows_R, few.ranks.rows_R)
    np.testing.assert_array_equal(few.ranks.ranks_T, whole.ranks.ranks_T[picked])
    for name in ("auc", "gauc", "logloss", "ece"):
        assert few.metrics[name] == pytest.approx(whole.metrics[name], abs=1e-6)
    again = evaluate(
        model, random_log, "val", cfg=cfg.model_copy(update={"ranked_users": 12}), max_length=10, precision=cpu
    )
    np.testing.assert_array_equal(again.ranks.rows_R, few.ranks.rows_R)
