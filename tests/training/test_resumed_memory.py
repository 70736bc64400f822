"""A run that remembers targets of earlier batches, interrupted: it goes on to the same bits."""

from pathlib import Path
from typing import Any

import torch
from configured import built, config
from training_toys import CPU, HEADER, Recorder

from seqrec_cli.training.checkpoint import LAST, load_checkpoint
from seqrec_cli.training.loop import fit


def test_a_resumed_run_remembers_what_the_whole_one_does(tmp_path: Path) -> None:
    words = ["model=sasrec", "objective=sampled_softmax", "objective.sampling=cross_batch", "objective.negatives=6"]
    words += [
        "objective.memory=50",
        "trainer.max_epochs=2",
        "trainer.patience=null",
        "trainer.schedule=constant",
        "trainer.warmup_steps=0",
    ]

    def trained(folder: Path, *more: str, resume_from: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        model, learned, rows = built([*words, *more])
        fit(
            model,
            learned,
            rows,
            cfg=config([*words, *more]).trainer,
            precision=CPU,
            validate=lambda: {"ndcg@10": 0.5},
            header=HEADER,
            folder=folder,
            listener=Recorder(),
            resume_from=resume_from,
        )
        return load_checkpoint(folder / LAST)["model"]

    whole = trained(tmp_path / "whole")
    trained(tmp_path / "parts", "trainer.max_steps=3")
    stopped = load_checkpoint(tmp_path / "parts" / LAST)
    assert stopped["trainer"]["objective"]["written"] > 0
    resumed = trained(tmp_path / "parts", resume_from=stopped)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    stopped["trainer"]["objective"] = None  # and without its memory it would not be the same run
    forgetful = trained(tmp_path / "parts", resume_from=stopped)
    assert not all(torch.equal(forgetful[name], tensor) for name, tensor in whole.items())
