"""A leak would show here: trained on labels that say nothing, a click model must rank clicks no better than chance."""

import dataclasses
from pathlib import Path

import pytest
import torch

import seqrec_cli
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.loader import PrefixRows

RUN = [
    "model=bst",
    "dataset.users=400",
    "dataset.items=80",
    "dataset.max_events=30",
    "dataset.predictability=0.9",
    "model.max_length=10",
    "model.embed_dim=16",
    "trainer.batch_size=128",
    "trainer.max_epochs=6",
    "trainer.lr=1e-2",
    "evaluation.baselines=false",
]


def test_shuffled_labels_fall_to_one_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = [*RUN, f"data_dir={tmp_path / 'data'}"]
    honest = seqrec_cli.run("train", [*start, f"run_dir={tmp_path / 'honest'}"])

    make = PrefixRows._batch

    def shuffled(self, picked_B, rng) -> Batch:
        batch = make(self, picked_B, rng)
        flat = batch.labels_BC.flatten()
        mixed_BC = flat[torch.from_numpy(rng.permutation(len(flat)))].view_as(batch.labels_BC)
        return dataclasses.replace(batch, labels_BC=mixed_BC)

    monkeypatch.setattr(PrefixRows, "_batch", shuffled)
    chance = seqrec_cli.run("train", [*start, f"run_dir={tmp_path / 'chance'}"])
    assert honest["test"]["auc"] > 0.6
    assert abs(chance["test"]["auc"] - 0.5) < 0.06  # four standard errors of 400 users
