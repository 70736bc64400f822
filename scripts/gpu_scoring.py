"""How long a device takes to score all items for a few requests, and what that takes of its memory."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from scripts.gpu_log import made_log
from scripts.gpu_loop import Work, config, forget, peak_bytes
from seqrec_cli.commands.training_setup import fresh_model
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import held_out
from seqrec_cli.training.precision import Precision


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
    forget(device)
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
        "peak_bytes": peak_bytes(device),
    }
