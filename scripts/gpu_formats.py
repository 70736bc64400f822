"""The same training in fp32 and in 16 bits, measured alike by its validation: of SASRec on a log of yours (`--data`),
as long as there is time for, or, without one, a short one on a made log, which is no figure of MovieLens.

Every format takes as many steps, which the pace of fp32 decides, with a learning rate that falls to its end.
"""

import contextlib
import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from scripts.bench_ceiling import synchronize
from scripts.bench_own import Setup, set_up
from scripts.gpu_check import quoted
from scripts.gpu_log import made_log
from scripts.gpu_loop import Work, config, loop_of
from seqrec_cli.commands.measure import measured
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog

SHOWN = ("ndcg@10", "hr@10", "auc")
PACED = 30  # steps of fp32, the first of which are not timed
BEGUN = 10
OVERHEAD = 25.0  # seconds of a part for its start, the log and validations
MADE = "made on the spot: no figure of MovieLens; --data FILE trains SASRec on a log of sequences"


def formats(device: torch.device, tiny: bool, data: Path | None, seconds: float) -> Iterator[Work]:
    """Each format's validation. `data`: a file of sequences, a line `user item` an event; `seconds` of the part."""
    names = ("fp32", "bf16") if device.type == "cpu" else ("fp32", "bf16", "fp16")
    if data is not None:
        yield from _of_a_file(data, names, device, tiny, max(seconds - OVERHEAD, 1.0) / (len(names) + 1))
    log = made_log(60, 40, 12, 20) if tiny else made_log(6_000, 3_400, 60, 400)
    for model in ("din",) if data is not None else ("sasrec", "din")[: 1 if tiny else 2]:
        for name in names:
            words = [f"model={model}", f"hardware.precision={name}", "trainer.max_epochs=4", "trainer.warmup_steps=10"]
            words += [f"trainer.max_steps={3 if tiny else 300}"]
            if not tiny:
                words += ["model.max_length=50", f"trainer.batch_size={512 if model == 'din' else 128}"]
            yield f"{model} {name}", lambda w=words: {"data": MADE, **trained(config(w, device, tiny), log, device)}


def _of_a_file(data: Path, names: tuple[str, ...], device: torch.device, tiny: bool, seconds: float) -> Iterator[Work]:
    """SASRec as `experiment=ml-1m_sasrec` has it, for as many epochs as fp32 does in `seconds`."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["experiment=ml-1m_sasrec", f"dataset.archive={quoted(data)}", f"data_dir={quoted(Path(folder))}"]
        words += ["model.embed_dim=16", "model.ffn_dim=16", "objective.stride=6"] if tiny else []

        def setup(name: str) -> Setup:
            return set_up(config([*words, f"hardware.precision={name}"], device, tiny), lambda _: None)

        @functools.cache
        def length() -> dict[str, int]:
            return {"max_epochs": 1, "max_steps": 3} if tiny else _length(setup("fp32"), seconds)

        for name in names:

            def trains(name: str = name) -> dict[str, Any]:
                of = setup(name)
                trainer = of.cfg.trainer.model_copy(update=length())
                found = trained(of.cfg.model_copy(update={"trainer": trainer}), of.log, device)
                shown = {"of_epochs": of.cfg.trainer.max_epochs, "users": of.log.num_users, "items": of.log.num_items}
                return {"data": data.name, **found, **shown, **length()}

            yield f"sasrec on {data.name}, {name}", trains


def _length(setup: Setup, seconds: float) -> dict[str, int]:
    """Epochs, and steps where not even one is whole, that take so many seconds at the pace of the first steps."""
    loop, device, began, taken = loop_of(setup.cfg, setup.log, setup.precision.device), setup.precision.device, 0.0, 0
    for batch in loop.rows.epoch(0):
        loop.run_step(batch)
        taken += 1
        if taken == BEGUN:
            synchronize(device)
            began = time.perf_counter()
        if taken == PACED:
            break
    synchronize(device)
    if taken <= BEGUN:  # a tiny log
        return {"max_epochs": setup.cfg.trainer.max_epochs}
    steps = int(seconds * (taken - BEGUN) / max(time.perf_counter() - began, 1e-9))
    epochs = max(1, min(setup.cfg.trainer.max_epochs, steps // loop.rows.steps))
    return {"max_epochs": epochs, "max_steps": max(1, min(steps, epochs * loop.rows.steps))}


def trained(cfg: TrainConfig, log: PackedLog, device: torch.device) -> dict[str, Any]:
    """A run to its last step, and its last weights' validation (their average's, where it keeps one)."""
    loop = loop_of(cfg, log, device)
    synchronize(device)
    began = time.perf_counter()
    while loop.progress.step < loop.total_steps:
        loop.run_epoch()
        loop.progress.epoch, loop.progress.start = loop.progress.epoch + 1, 0
    lost = loop.loss_sum.item() / loop.progress.step
    spent = time.perf_counter() - began
    with contextlib.nullcontext() if loop.average is None else loop.average.applied():
        evaluation = measured((cfg, loop.model, log, loop.precision), "val")
    return {
        "steps": loop.progress.step,
        "training_seconds": spent,
        "mean_loss": lost,
        "metrics": {name: evaluation.metrics[name] for name in SHOWN if name in evaluation.metrics},
        "intervals": {name: evaluation.intervals[name] for name in SHOWN if name in evaluation.intervals},
    }
