"""How near the memory that `seqrec plan` prints comes to what steps take."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from scripts.bench_ceiling import synchronize
from scripts.gpu_log import made_log
from scripts.gpu_loop import Work, config, forget, loop_of, peak_bytes
from seqrec_cli.commands.plan import by_use
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.training.log_place import bytes_on_device
from seqrec_cli.training.memory import available_memory, largest_part, measured_memory

NEAR = 0.15  # of the peak


def plan(device: torch.device, tiny: bool) -> Iterator[Work]:
    """The total that `seqrec plan` prints, beside the peak of steps of the largest batch."""
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
    forget(device)
    _fetch_libraries(device)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    held = bytes_on_device(cfg.hardware.log, log, device)
    loop = loop_of(cfg, log, device)
    largest, available = largest_part(loop.rows.largest(), cfg.trainer), available_memory(device)
    memory = measured_memory(loop.model, loop.objective, largest, precision=loop.precision, available=available)
    planned = by_use(memory, held, available)
    forget(device)
    for _ in range(3):
        loop.run_step(largest)
    synchronize(device)
    peak = peak_bytes(device)
    found = {"planned_bytes": planned["total"], "planned": planned, "held_by_libraries_bytes": before}
    return found | beside_peak(planned["total"], None if peak is None else peak - before)


def beside_peak(planned: int, peak: int | None) -> dict[str, Any]:
    """Whether the plan is within 15 % of what steps took at their peak; nothing is compared where nobody counts it."""
    if peak is None:
        return {"peak_bytes": None}
    ratio = planned / max(peak, 1)
    return {"peak_bytes": peak, "planned_by_measured": ratio, "ok": abs(ratio - 1) <= NEAR}


def _fetch_libraries(device: torch.device) -> None:
    """What cuBLAS takes for itself, in the thread of the forward pass and in that of backward, is there before anything
    is counted: `seqrec plan` counts tensors."""
    if device.type != "cuda":
        return
    layer, x = nn.Linear(64, 64, device=device), torch.randn(64, 64, device=device)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            layer(x).float().sum().backward()
    synchronize(device)
