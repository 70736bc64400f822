"""How fast a device trains, and what share of its products in bf16 that is: the table of the check.

Rates count real work (targets learned from, labelled candidates of clicks), and wait for the device at both ends. The
operations are those that the timed batches could not do without, their padding left out (`bench_own.useful_flops`).
"""

import functools
import itertools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from scripts.bench_ceiling import gemm_rate, synchronize
from scripts.bench_own import Setup, useful_flops
from scripts.gpu_log import made_log
from scripts.gpu_loop import Work, config, forget, loop_of, peak_bytes
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.batch import Batch, count_targets
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.training.loop import Loop

WARM_UP, SECONDS = 5, 1.5  # steps before the clock, and how long it runs
# Of compiled steps: every width of a batch is compiled, or recorded, before the clock; seconds, at most.
WARM_UP_COMPILED, WARM_UP_SECONDS = 40, 12.0
EPOCHS, EPOCH_SECONDS = 6, 12.0  # of BERT4Rec, at most
# Seconds of that epoch: a public system's on an RTX PRO 6000, ours to reach, and ours to aim at.
PUBLIC, TO_REACH, AIM = 1.2, 0.3, 0.15
# Dense bf16 peaks by their makers, FLOP/s; a device that is not here has the fraction of the measured product alone.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12, "RTX PRO 6000": 504e12}


@functools.cache
def _bf16_rate(device: torch.device) -> float:
    """FLOP/s of the fastest product of large matrices here."""
    return gemm_rate(device, torch.bfloat16)[0]


def epochs(loop: Loop) -> Iterator[Batch]:
    """Batches of one epoch after another."""
    for epoch in itertools.count():
        loop.progress.epoch, loop.progress.start = epoch, 0
        yield from loop.rows.epoch(epoch)


def timed(loop: Loop, seconds: float, warm_up: int = WARM_UP, warm_up_seconds: float | None = None) -> dict[str, Any]:
    """Steps, targets and seconds, after so many steps to warm up, or so many seconds of them; `before` is how many
    there were. The host waits for the device after the first step and at both ends of the clock."""
    device, targets, steps, before = loop.precision.device, 0, 0, 0
    synchronize(device)
    first = start = began = time.perf_counter()
    warm = False
    for batch in epochs(loop):
        loop.run_step(batch)
        if warm:
            steps, targets = steps + 1, targets + count_targets(batch)
            if time.perf_counter() - began > seconds:
                break
            continue
        before += 1
        if before == 1:
            synchronize(device)
            first = time.perf_counter()
        warm = before >= warm_up or (warm_up_seconds is not None and time.perf_counter() - start > warm_up_seconds)
        if warm:
            synchronize(device)
            began = time.perf_counter()
    synchronize(device)
    spent = time.perf_counter() - began
    return {
        "before": before,
        "steps": steps,
        "first_step_seconds": first - start,
        "warm_up_seconds": began - start,
        "seconds": spent,
        "ms_a_step": 1e3 * spent / steps,
        "targets_a_second": targets / spent,
    }


def rates(cfg: TrainConfig, log: PackedLog, device: torch.device, seconds: float) -> dict[str, Any]:
    """Rate, memory and share of the device's products in bf16, of the timed batches' operations in their time."""
    forget(device)
    loop = loop_of(cfg, log, device)
    found = {"events": len(log.items_N), "items": log.num_items, **timed(loop, seconds)}
    found["peak_bytes"] = peak_bytes(device)
    setup = Setup(cfg, log, loop.precision, loop.objective, loop.rows)  # type: ignore[arg-type]
    flops = useful_flops(setup, loop.model, found["steps"], first=found["before"])
    rate = sum(flops.values()) / found["seconds"]
    found |= {"flops": flops, "flops_a_second": rate}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        found["of_measured_bf16"] = rate / _bf16_rate(device)
        found["of_named_bf16"] = next((rate / peak for key, peak in PEAKS.items() if key in name), None)
    del found["seconds"]  # a result has its own, of everything
    return found


def bert4rec(device: torch.device, tiny: bool) -> Iterator[Work]:
    """An epoch of BERT4Rec of width 256 as a public system trains it, over a log of MovieLens-1M's size."""
    log = made_log(40, 50, 12, 20) if tiny else made_log(6040, 3706, 165, 2300)
    words = ["experiment=ml-1m-raw_bert4rec-latest", "trainer.micro_batch_tokens=null"]
    words += ["model.embed_dim=16", "model.ffn_dim=16", "model.blocks=1"] if tiny else []

    def epoch() -> dict[str, Any]:
        forget(device)
        loop = loop_of(config(words, device, tiny), log, device)
        seconds: list[float] = []
        while len(seconds) < 2 or (len(seconds) < (2 if tiny else EPOCHS) and sum(seconds) < EPOCH_SECONDS):
            synchronize(device)
            began = time.perf_counter()
            for batch in loop.rows.epoch(len(seconds)):
                loop.run_step(batch)
            synchronize(device)
            seconds.append(time.perf_counter() - began)
        return {
            "steps": loop.rows.steps,
            "first_epoch_seconds": seconds[0],
            "epochs": seconds,
            "peak_bytes": peak_bytes(device),
            **beside_aim(statistics.median(seconds[1:]), tiny),
        }

    yield "bert4rec epoch", epoch


def beside_aim(seconds: float, tiny: bool) -> dict[str, Any]:
    """An epoch beside what it is to take. Whether that is reached is told, and no reason to fail: GPUs differ."""
    aims = {"public_seconds_on_rtx_pro_6000": PUBLIC, "to_reach_seconds": TO_REACH, "aim_seconds": AIM}
    return {"epoch_seconds": seconds, **aims, "reached": None if tiny else seconds <= TO_REACH}


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
                    lambda w=words, of=log: rates(config(w, device, tiny), of, device, 0.05 if tiny else SECONDS),
                )


def clicks(device: torch.device, tiny: bool) -> Iterator[Work]:
    """The click models; a target is a labelled candidate: the event to predict, or a negative that is drawn for it."""
    log = made_log(40, 50, 12, 20) if tiny else made_log(20_000, 60_000, 60, 400)
    for model in ("din", "bst") if tiny else ("din", "dien", "dsin", "bst"):
        words = [f"model={model}", *([] if tiny else ["model.max_length=50", "trainer.batch_size=1024"])]
        yield model, lambda w=words: rates(config(w, device, tiny), log, device, 0.05 if tiny else SECONDS)


def compiled(device: torch.device, tiny: bool) -> Iterator[Work]:
    """Steps with `hardware.compile` false, true and graphs. The first step compiles; other widths of a batch may be
    compiled, or recorded, in the rest of `warm_up_seconds`."""
    catalogue = made_log(40, 30, 12, 20) if tiny else made_log(20_000, 3_400, 120, 1000)
    of_clicks = made_log(40, 50, 12, 20) if tiny else made_log(20_000, 60_000, 60, 400)
    encoder = ["model=sasrec", "objective=next_item", f"model.embed_dim={16 if tiny else 64}"]
    shapes = [
        ("sasrec d 64, 3,400 items", catalogue, [*encoder, "model.max_length=200", "trainer.batch_size=128"]),
        ("din", of_clicks, ["model=din", "model.max_length=50", "trainer.batch_size=1024"]),
    ]
    for name, log, words in shapes:
        for how in ("false", "true", "graphs"):
            given = [*words, f"hardware.compile={how}"]
            yield f"{name}, compile {how}", lambda w=given, of=log: _compiled(w, of, device, tiny)


def _compiled(words: list[str], log: PackedLog, device: torch.device, tiny: bool) -> dict[str, Any]:
    if device.type != "cuda" and words[-1] != "hardware.compile=false":
        return {
            "left_out": f"measured on CUDA alone: on {device.type} there are no graphs, and compiling takes minutes"
        }
    forget(device)
    torch.compiler.reset()
    loop = loop_of(config(words, device, tiny), log, device)
    warm_up, seconds = (2, 0.05) if tiny else (WARM_UP_COMPILED, SECONDS)
    found = timed(loop, seconds, warm_up, WARM_UP_SECONDS)
    del found["seconds"]
    return {**found, "peak_bytes": peak_bytes(device)}
