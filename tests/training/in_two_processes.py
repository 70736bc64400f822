"""What `test_many_processes.py` trains, in one process and in several."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from configured import config
from toylog import packed, random_histories
from training_toys import CPU, Recorder

from seqrec_cli.commands.measure import measured, validated
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.processes import ALONE, Processes, current, together
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.stopping import StopRequest
from seqrec_cli.training.validation_loss import ValidationLoss

LOG = packed(random_histories(40, 30, 20), 30, click_negatives=3)
SMALL = ["trainer.batch_size=15", "trainer.max_epochs=2", "trainer.warmup_steps=1", "trainer.lr=0.01"]
SMALL += ["evaluation.batch_size=7", "trainer.patience=null"]
ENCODER = ["model.embed_dim=8", "model.heads=2", "model.blocks=1", "model.dropout=0", *SMALL]
RANKER = ["model.embed_dim=6", "model.mlp=[8]", *SMALL]
CASES = {
    "sasrec": ["model=sasrec", "objective.negatives=null", "trainer.clip_norm=0.05", "trainer.ema=0.5", *ENCODER],
    "micro": ["model=sasrec", "objective.negatives=9", "trainer.micro_batch_tokens=60", *ENCODER],
    "sparse": ["model=sasrec", "objective=bce", "objective.sampling=uniform", "hardware.embedding=sparse", *ENCODER],
    "cloze": ["model=bert4rec", "objective.negatives=null", "trainer.swa_epochs=2", *ENCODER],
    "dice": ["model=din", "model.l2=0.1", "evaluation.beyond_accuracy=true", *RANKER],
    "norm": ["model=din", "model.activation=prelu", "model.batch_norm=true", *RANKER],
    "auxiliary": ["model=dien", "model.activation=prelu", "model.hidden=5", *RANKER],
}


def trained(name: str, folder: Path) -> dict[str, Any]:
    """Losses, weights and metrics of a case; `folder` is written by the first process alone."""
    cfg = cast(TrainConfig, config(CASES[name]))
    model, objective = fresh_model(cfg, LOG, CPU.device), objective_for(cfg, LOG, CPU.device)
    rows, told, of = training_rows(cfg, objective, LOG, device=CPU.device), Recorder(), (cfg, model, LOG, CPU)
    loss = ValidationLoss(cfg, objective, LOG, device=CPU.device)
    loop = Loop(
        model,
        objective,
        rows,
        cfg=cfg.trainer,
        precision=CPU,
        validate=lambda: validated(of, loss).metrics,
        header={"config": {}, "facts": {}, "fingerprint": ""},
        folder=folder,
        listener=told,
    )
    reason = loop.run(StopRequest())
    evaluation = measured(of, "test")
    with together(ALONE):
        alone = measured(of, "test")
    return {
        "alone": alone.metrics,
        "same_ranks": bool((alone.ranks.ranks_T == evaluation.ranks.ranks_T).all()),
        "reason": reason,
        "losses": [row["train_loss"] for row in told.rows],
        "targets": [targets for *_, targets in told.steps],
        "rows": [{key: value for key, value in row.items() if key not in ("seconds", "split")} for row in told.rows],
        "weights": {key: value.double().tolist() for key, value in model.state_dict().items()},
        "test": evaluation.metrics,
    }


def main(meeting: str, rank: int, count: int) -> None:
    """One of `count` processes: every case, its result as a file of the rank."""
    torch.set_num_threads(1)
    where, processes = Path(meeting), Processes(rank, count, rank, count)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{where}/meeting",
        rank=processes.rank,
        world_size=processes.count,
        timeout=timedelta(seconds=60),
    )
    with together(processes):
        summed = current().sum_array(np.arange(3) * (1 + processes.rank))
        found: dict[str, Any] = {"sum": summed.tolist(), "gathered": current().gather(processes.rank)}
        for name in CASES:
            folder = where / name
            folder.mkdir(exist_ok=True)
            found[name] = trained(name, folder)
    (where / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()
