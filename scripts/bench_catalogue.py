"""What a training step costs as the catalogue grows: seconds, and peak memory beyond the table and its optimizer state.

    python -m scripts.bench_catalogue [--items 10000 1000000] [--steps 3] [--json FILE] [overrides as for seqrec train]

SASRec (d 64, scores by dot product) on random histories, 128 of 100 events: 12,800 targets. Two ways: `full`, the
softmax over all items with dense gradients, and `sampled`, the sampled softmax with row-sparse ones. Each case runs
in a fresh process, its first, small step uncounted; seconds are the median of the others. Peak memory on a CPU is the
largest resident set during them less the resident set before, when the model and the optimizer's state are in memory
and all freed memory has been returned; it holds activations, gradients and scratch.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.build import build_model
from seqrec_cli.models.layers.embedding import use_sparse_rows
from seqrec_cli.objectives.contract import build_objective
from seqrec_cli.training.loop import seed_step
from seqrec_cli.training.optim import build_optimizer, update
from seqrec_cli.training.precision import Precision, resolve_precision

ROWS, LENGTH = 128, 100
SHAPE = ["model.embed_dim=64", "model.ffn_dim=256", "model.dropout=0.2", "model.temperature=null"]
CASES = {
    "full": ["objective=next_item", "objective.negatives=null", "hardware.embedding=dense"],
    "sampled": ["objective=sampled_softmax", "hardware.embedding=sparse"],
}


def random_batch(rows: int, items: int, rng: np.random.Generator) -> Batch:
    history_BL = torch.from_numpy(rng.integers(1, items + 1, (rows, LENGTH + 1)))
    return Batch(
        users_B=torch.ones(rows, dtype=torch.int64),
        items_BL=history_BL[:, :-1].contiguous(),
        lengths_B=torch.full((rows,), LENGTH),
        targets_BL=history_BL[:, 1:].contiguous(),
    )


class PeakMemory:
    """Bytes in use at most since `begin`, beyond those in use then."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.before = device, 0

    def begin(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return
        ctypes.CDLL(None).malloc_trim(0)
        self.before = self._status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the largest resident set so far

    def end(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return self._status("VmHWM") - self.before

    @staticmethod
    def _status(key: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def synchronised(precision: Precision) -> float:
    """The time once all work is done."""
    if precision.device.type == "cuda":
        torch.cuda.synchronize(precision.device)
    return time.perf_counter()


def measure(case: str, items: int, steps: int, overrides: list[str]) -> dict[str, Any]:
    """One case in this process."""
    tree = compose("train", ["model=sasrec", f"model.max_length={LENGTH}", *SHAPE, *CASES[case], *overrides])
    cfg = validate("train", tree)
    assert isinstance(cfg, TrainConfig)
    precision = resolve_precision(cfg.hardware)
    model = build_model(cfg.model, Catalog(1, items), 0).to(precision.device).train()
    if cfg.hardware.embedding == "sparse":
        use_sparse_rows(model)
    objective, optimizer = build_objective(cfg.objective), build_optimizer(model, cfg.trainer)
    objective.prepare(torch.ones(items + 1, dtype=torch.int64, device=precision.device))
    scaler, peak, rng = precision.scaler(), PeakMemory(precision.device), np.random.default_rng(0)

    def step(number: int, rows: int) -> float:
        batch = random_batch(rows, items, rng).to(precision.device)
        seed_step(0, number)
        began = synchronised(precision)
        with precision.autocast():
            loss = objective.loss(model, batch)
        scaler.scale(loss).backward()
        update(optimizer, scaler, lr=cfg.trainer.lr, clip_norm=cfg.trainer.clip_norm)
        return synchronised(precision) - began

    step(0, 2)
    kept = [t for state in optimizer.state.values() for t in state.values() if t.numel() > 1]
    for tensor in kept:
        tensor.mul_(1.0)  # state that is still zero is in memory once it was written
    peak.begin()
    seconds = [step(number + 1, ROWS) for number in range(steps)]
    table = [*model.parameters(), *kept]
    return {
        "case": case,
        "items": items,
        "precision": precision.name,
        "device": str(precision.device),
        "seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "peak_mb": peak.end() / 2**20,
        "model_and_state_mb": sum(t.numel() * t.element_size() for t in table) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a training step by size of the catalogue.")
    parser.add_argument("overrides", nargs="*", help="overrides as for seqrec train")
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--case", choices=sorted(CASES), help="one case, in this process, as JSON")
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(measure(asked.case, asked.items[0], asked.steps, asked.overrides)))
        return
    found = []
    print(f"{'':10}{'items':>12}{'seconds':>10}{'ratio':>8}{'peak MB':>10}{'model and state MB':>20}")
    for case in CASES:
        first = None
        for items in asked.items:
            options = ["--case", case, "--items", str(items), "--steps", str(asked.steps)]
            command = [sys.executable, "-m", "scripts.bench_catalogue", *asked.overrides, *options]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = json.loads(output.splitlines()[-1])
            first = first or row["seconds"]
            row["ratio"] = row["seconds"] / first
            found.append(row)
            print(
                f"{case:10}{items:12,}{row['seconds']:10.3f}{row['ratio']:8.2f}{row['peak_mb']:10,.0f}"
                f"{row['model_and_state_mb']:20,.0f}",
                flush=True,
            )
    if asked.json:
        asked.json.write_text(json.dumps({"benchmark": "catalogue", "rows": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
