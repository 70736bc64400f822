"""How fast a device trains and scores, how much memory that takes, and how near `plan` comes: the table of the check.

Rates count real work (targets learned from, samples of clicks), and wait for the device at both ends. Memory is
torch's own count of what tensors took at their peak; on a CPU it is not counted.
"""

import functools
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch

from scripts.bench_ceiling import gemm_rate, synchronize
from scripts.gpu_log import made_log
from seqrec_cli.commands.measure import measured
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import count_targets
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.training.fitting import Listener
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.memory import available_memory, largest_part, measured_memory
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.step_cost import count_flops

Work = tuple[str, Callable[[], dict[str, Any]]]
WARM_UP, SECONDS = 5, 2.0  # steps before the clock, and how long it runs
FLOPS_ROWS = 8
# Dense bf16 peaks by their makers, FLOP/s; a device that is not here has the fraction of the measured product alone.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12, "RTX PRO 6000": 504e12}


def config(words: list[str], device: torch.device, tiny: bool) -> TrainConfig:
    """The settings of `seqrec train`, in bf16 on a GPU unless they say otherwise."""
    chosen = [
        f"hardware.device={device}",
        "hardware.precision=fp32" if device.type == "cpu" else "hardware.precision=bf16",
    ]
    small = ["model.max_length=12", "trainer.batch_size=8"] if tiny else []
    return cast(TrainConfig, validate("train", compose("train", [*chosen, *words, *small])))


def loop_of(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Loop:
    """The loop of `seqrec train` in the settings' number format, before its first step."""
    precision = Precision(device, cfg.hardware.precision)  # type: ignore[arg-type]
    model, objective = fresh_model(cfg, log, device), objective_for(cfg, log, device)
    model.train()
    return Loop(
        model,
        objective,
        training_rows(cfg, objective, log, device=device),
        cfg=cfg.trainer,
        precision=precision,
        validate=dict,
        header={},
        folder=Path(),
        listener=Listener(),
    )


@functools.cache
def _bf16_rate(device: torch.device) -> float:
    """FLOP/s of the fastest product of large matrices here."""
    return gemm_rate(device, torch.bfloat16)[0]


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _timed(loop: Loop, seconds: float) -> dict[str, Any]:
    """Steps, targets and seconds, from a step after the warm-up on; epoch after epoch where they are short."""
    device, targets, steps, taken, began = loop.precision.device, 0, 0, 0, 0.0
    while True:
        for batch in loop.rows.epoch(loop.progress.epoch):
            loop.run_step(batch)
            taken += 1
            if taken == WARM_UP:
                synchronize(device)
                began = time.perf_counter()
            elif taken > WARM_UP:
                steps, targets = steps + 1, targets + count_targets(batch)
                if time.perf_counter() - began > seconds:
                    break
        else:
            loop.progress.epoch, loop.progress.start = loop.progress.epoch + 1, 0
            continue
        break
    synchronize(device)
    spent = time.perf_counter() - began
    return {"steps": steps, "ms_a_step": 1e3 * spent / steps, "targets_a_second": targets / spent}


def _rates(cfg: TrainConfig, log: PackedLog, device: torch.device, seconds: float) -> dict[str, Any]:
    """Rate, memory and share of the device's products in bf16."""
    _forget(device)
    loop = loop_of(cfg, log, device)
    found = {"events": len(log.items_N), "items": log.num_items, **_timed(loop, seconds)}
    found["peak_bytes"] = _peak(device)
    batch = next(iter(loop.rows.epoch(0)))
    few = batch.part(0, min(FLOPS_ROWS, len(batch)))
    flops = count_flops(loop.model, loop.objective, few, precision=loop.precision) / few.items_BL.numel()
    rate = flops * batch.items_BL.numel() / (found["ms_a_step"] / 1e3)
    found["flops_a_second"] = rate
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        found["of_measured_bf16"] = rate / _bf16_rate(device)
        found["of_named_bf16"] = next((rate / peak for key, peak in PEAKS.items() if key in name), None)
    return found


def bert4rec(device: torch.device, tiny: bool) -> Iterator[Work]:
    """An epoch of BERT4Rec of width 256 as a public system trains it, over a log of MovieLens-1M's size."""
    log = made_log(40, 50, 12, 20) if tiny else made_log(6040, 3706, 165, 2300)
    words = ["experiment=ml-1m-raw_bert4rec-latest", "trainer.micro_batch_tokens=null"]
    words += ["model.embed_dim=16", "model.ffn_dim=16", "model.blocks=1"] if tiny else []

    def epoch() -> dict[str, Any]:
        _forget(device)
        loop = loop_of(config(words, device, tiny), log, device)
        seconds = []
        for nth in range(2 if tiny else 6):
            synchronize(device)
            began = time.perf_counter()
            for batch in loop.rows.epoch(nth):
                loop.run_step(batch)
            synchronize(device)
            seconds.append(time.perf_counter() - began)
        return {
            "steps": loop.rows.steps,
            "first_epoch_seconds": seconds[0],
            "epoch_seconds": statistics.median(seconds[1:]),
            "epochs": seconds,
            "peak_bytes": _peak(device),
        }

    yield "bert4rec epoch", epoch


def sasrec(device: torch.device, tiny: bool) -> Iterator[Work]:
    """SASRec with a softmax over the whole corpus up to 100 thousand items, beyond with sampled items as well."""
    sizes = (30,) if tiny else (3_400, 100_000, 1_000_000)
    for items in sizes:
        log = made_log(40, items, 12, 20) if tiny else made_log(20_000, items, 120, 1000)
        for width in (16,) if tiny else (64, 256):
            for objective in ("next_item", "sampled_softmax") if items == sizes[-1] else ("next_item",):
                words = ["model=sasrec", f"objective={objective}", f"model.embed_dim={width}"]
                words += [] if tiny else ["model.max_length=200", "trainer.batch_size=128"]
                yield (
                    f"sasrec d {width}, {items:,} items, {objective}",
                    lambda w=words, of=log: _rates(config(w, device, tiny), of, device, 0.05 if tiny else SECONDS),
                )


def clicks(device: torch.device, tiny: bool) -> Iterator[Work]:
    """The click models; a target is a positive sample, beside the negatives that objective=click draws."""
    log = made_log(40, 50, 12, 20) if tiny else made_log(20_000, 60_000, 60, 400)
    for model in ("din", "bst") if tiny else ("din", "dien", "dsin", "bst"):
        words = [f"model={model}", *([] if tiny else ["model.max_length=50", "trainer.batch_size=1024"])]
        yield model, lambda w=words: _rates(config(w, device, tiny), log, device, 0.05 if tiny else SECONDS)


def scoring(device: torch.device, tiny: bool) -> Iterator[Work]:
    """All items scored for 1, 64 and 256 requests at once, the ten best chosen and brought to the host."""
    sizes = (30,) if tiny else (3_400, 100_000)
    for items in sizes:
        log = made_log(300, items, 12, 20) if tiny else made_log(2_000, items, 120, 1000)
        for model in ("sasrec", "din"):
            if model == "din" and items > 3_400:
                continue
            for requests in (64,) if tiny else (1, 64, 256):
                words = [
                    f"model={model}",
                    *([] if tiny else ["model.max_length=200" if model == "sasrec" else "model.max_length=50"]),
                ]
                yield (
                    f"{model}, {items:,} items, {requests} at once",
                    lambda w=words, of=log, n=requests: _scored(config(w, device, tiny), of, device, n, tiny),
                )


def _scored(cfg: TrainConfig, log: PackedLog, device: torch.device, requests: int, tiny: bool) -> dict[str, Any]:
    from seqrec_cli.data.loader import target_batches
    from seqrec_cli.data.splits import held_out

    _forget(device)
    model = fresh_model(cfg, log, device).eval()
    precision = Precision(device, cfg.hardware.precision)  # type: ignore[arg-type]
    batches = target_batches(log, held_out(log, "test"), max_length=cfg.model.max_length, batch_size=requests)
    _, batch = next(iter(batches))
    taken: list[float] = []
    with torch.inference_mode(), precision.autocast():
        began = time.perf_counter()
        while len(taken) < 3 or (time.perf_counter() - began < (0.02 if tiny else 1.0)):
            start = time.perf_counter()
            model.score_corpus(batch.to(device)).topk(10).indices.cpu()
            taken.append(time.perf_counter() - start)
    return {
        "requests": len(batch),
        "milliseconds": 1e3 * statistics.median(taken[1:]),
        "requests_a_second": len(batch) / statistics.median(taken[1:]),
        "peak_bytes": _peak(device),
    }


def plan(device: torch.device, tiny: bool) -> Iterator[Work]:
    """The memory that `seqrec plan` foretells, beside the peak of steps of the largest batch."""
    log = made_log(40, 60, 12, 20) if tiny else made_log(5_000, 50_000, 120, 1000)
    shapes = [
        ["model=sasrec"],
        ["model=din"],
        ["model=bert4rec", "model.embed_dim=256"],
        ["model=sasrec", "objective=sampled_softmax"],
        ["model=dien"],
        ["model=bst"],
    ]
    for words in shapes[:2] if tiny else shapes:
        size = [] if tiny else ["model.max_length=100", "trainer.batch_size=256"]
        given = [*words, *size]
        yield " ".join(words), lambda w=given: _planned(config(w, device, tiny), log, device)


def _planned(cfg: TrainConfig, log: PackedLog, device: torch.device) -> dict[str, Any]:
    _forget(device)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    loop = loop_of(cfg, log, device)
    on_device = torch.cuda.memory_allocated(device) - before if device.type == "cuda" else None  # the log's too
    largest = largest_part(loop.rows.largest(), cfg.trainer)
    memory = measured_memory(
        loop.model, loop.objective, largest, precision=loop.precision, available=available_memory(device)
    )
    _forget(device)
    for _ in range(3):
        loop.run_step(largest)
    synchronize(device)
    found: dict[str, Any] = {
        "planned_bytes": memory.total,
        "before_steps_bytes": on_device,
        "peak_bytes": _peak(device),
    }
    if device.type == "cuda":
        log_bytes = (on_device or 0) - memory.model
        found["planned_by_measured"] = (memory.total + max(log_bytes, 0)) / found["peak_bytes"]
        found["within_15_percent"] = abs(found["planned_by_measured"] - 1) <= 0.15
    return found


def formats(device: torch.device, tiny: bool) -> Iterator[Work]:
    """The same short training in fp32 and in 16 bits, measured alike. The log is made: no figure of MovieLens."""
    log = made_log(60, 40, 12, 20) if tiny else made_log(6_000, 3_400, 60, 400)
    names = ("fp32",) if device.type == "cpu" else ("fp32", "bf16", "fp16")
    for words in (["model=sasrec"],) if tiny else (["model=sasrec"], ["model=din"]):
        for name in names:
            given = [*words, f"hardware.precision={name}", "trainer.max_epochs=4", "trainer.warmup_steps=10"]
            given += (
                []
                if tiny
                else [
                    "model.max_length=50",
                    "trainer.batch_size=512" if words == ["model=din"] else "trainer.batch_size=128",
                ]
            )
            yield f"{words[0]} {name}", lambda w=given: _quality(config(w, device, tiny), log, device, tiny)


def _quality(cfg: TrainConfig, log: PackedLog, device: torch.device, tiny: bool) -> dict[str, Any]:
    loop, steps = loop_of(cfg, log, device), 0
    for epoch in range(cfg.trainer.max_epochs):
        for batch in loop.rows.epoch(epoch):
            if steps >= (3 if tiny else 300):
                break
            loop.run_step(batch)
            steps += 1
    metrics = measured((cfg, loop.model, log, loop.precision), "val").metrics
    return {"steps": steps, "metrics": {name: metrics[name] for name in ("ndcg@10", "hr@10", "auc") if name in metrics}}
