"""Memory, bytes sent and time of a step where tables are replicated or sharded over processes of this machine.

    python -m scripts.bench_sharded_tables --items 200000 1000000 --processes 2 --json sharded.json

Steps are those of `seqrec train` (`training/loop.py`) on random batches, SASRec of one block, fp32, gloo. For each
number of items and objective (the full softmax in 32 MiB of scratch; 512 sampled items with row-sparse tables) the
processes train with replicated tables, then with sharded ones. Reported for a rank: tensors that it holds in a step
(weights, gradients, AdamW's averages), peak of its resident memory in steps over that before the model, bytes that it
sends in a step, and seconds of a step, by the clock and of its CPU: on a busy machine the latter can be compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OBJECTIVES = {
    "softmax": ["objective.chunk_mb=32"],
    "sampled": [
        *("objective=sampled_softmax", "objective.negatives=512", "objective.shared=batch"),
        "hardware.embedding=sparse",
    ],
}
MIB = 2**20


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[200_000, 1_000_000], metavar="V")
    parser.add_argument("--dim", type=int, default=64, metavar="D")
    parser.add_argument("--processes", type=int, default=2, metavar="W")
    parser.add_argument("--rows", type=int, default=16, help="of a batch (default: %(default)s)")
    parser.add_argument("--length", type=int, default=32, help="events of a row (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="timed, after one (default: %(default)s)")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    found = []
    print(
        f"{'items':>10} {'objective':>9} {'tables':>10} {'tensors':>9} {'peak':>9} {'sent':>11} {'s':>7} {'CPU s':>6}"
    )
    for items in given.items:
        for objective in given.objectives:
            for table in ("replicated", "sharded"):
                asked = {**vars(given), "json": None, "items": items, "objective": objective, "table": table}
                ranks = _group(asked)
                row = {key: max(rank[key] for rank in ranks) for key in ranks[0]}
                found.append({"items": items, "objective": objective, "table": table, **row})
                print(
                    f"{items:>10,} {objective:>9} {table:>10} {row['tensors'] / MIB:>5,.0f} MiB "
                    f"{row['peak'] / MIB:>5,.0f} MiB "
                    f"{row['sent'] / MIB:>7,.2f} MiB {row['seconds']:>7.2f} {row['cpu']:>6.2f}",
                    flush=True,
                )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _group(asked: dict[str, Any]) -> list[dict[str, float]]:
    """What each rank measures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-c",
            "from scripts.bench_sharded_tables import rank; rank()",
            json.dumps(asked),
            folder,
        ]
        started = [
            subprocess.Popen([*command, str(nth)], env={**os.environ, "OMP_NUM_THREADS": "1"})
            for nth in range(asked["processes"])
        ]
        if sum(process.wait() != 0 for process in started):
            raise SystemExit("a process failed")
        return [json.loads((Path(folder) / f"{nth}.json").read_text()) for nth in range(asked["processes"])]


def rank() -> None:
    """One of the processes."""
    asked, folder, nth = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    import torch
    import torch.distributed as dist

    from seqrec_cli.processes import Processes, together

    torch.set_num_threads(1)
    world = asked["processes"]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=nth, world_size=world)
    with together(Processes(nth, world, nth, world)):
        found = _measured(asked, folder)
    (folder / f"{nth}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def _measured(asked: dict[str, Any], folder: Path) -> dict[str, float]:
    import torch
    import torch.distributed as dist

    from seqrec_cli.config.compose import compose
    from seqrec_cli.config.validate import validate
    from seqrec_cli.data.batch import Batch
    from seqrec_cli.data.catalog import Catalog
    from seqrec_cli.models.build import build_model, build_sharded
    from seqrec_cli.models.layers.embedding import use_sparse_rows
    from seqrec_cli.objectives.contract import build_objective
    from seqrec_cli.training.fitting import Listener
    from seqrec_cli.training.loop import Loop
    from seqrec_cli.training.precision import Precision

    V, B, L = asked["items"], asked["rows"], asked["length"]
    cfg: Any = validate(
        "train",
        compose(
            "train",
            [
                *("model=sasrec", f"model.embed_dim={asked['dim']}", "model.blocks=1", f"model.max_length={L}"),
                *("trainer.max_epochs=1", "trainer.batch_size=16", f"hardware.table={asked['table']}"),
                *OBJECTIVES[asked["objective"]],
            ],
        ),
    )

    class Rows:
        steps = asked["steps"] + 1

        def epoch(self, epoch: int, start: int = 0) -> Any:
            raise NotImplementedError

    generator = torch.Generator().manual_seed(0)

    def batch(items_V: int) -> Batch:
        items = 1 + (torch.rand(B, L + 1, generator=generator).square() * items_V).long().clamp(max=items_V - 1)
        return Batch(torch.ones(B, dtype=torch.int64), items[:, :-1], torch.full((B,), L), targets_BL=items[:, 1:])

    def begun(items: int) -> Loop:
        build = build_sharded if asked["table"] == "sharded" else build_model
        model = build(cfg.model, Catalog(1, items), 0)
        if cfg.hardware.embedding == "sparse":
            use_sparse_rows(model)
        objective = build_objective(cfg.objective)
        objective.prepare(torch.ones(items + 1, dtype=torch.int64))
        model.train()
        return Loop(
            model,
            objective,
            Rows(),
            cfg=cfg.trainer,
            precision=Precision(torch.device("cpu"), "fp32"),
            validate=dict,
            header={},
            folder=folder,
            listener=Listener(),
        )

    begun(100).run_step(batch(100))  # what is imported at a first step is not the tables'
    before = _resident("VmRSS:")
    loop = begun(V)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on: steps, not the first weights
    loop.run_step(batch(V))
    sent = _counting_sent(dist)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(asked["steps"]):
        loop.run_step(batch(V))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = _resident("VmHWM:") - before
    moments = [value for of in loop.optimizer.state.values() for value in of.values()]
    held = [*loop.model.parameters(), *moments]
    if cfg.hardware.embedding != "sparse":  # of a step; freed at its end
        held += list(loop.model.parameters())
    return {
        "tensors": sum(tensor.numel() * tensor.element_size() for tensor in held),
        "peak": peak,
        "sent": sent[0] / asked["steps"],
        "seconds": wall / asked["steps"],
        "cpu": cpu / asked["steps"],
    }


def _resident(kind: str) -> int:
    """Bytes of this process's resident memory, as Linux tells them."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def _counting_sent(dist: Any) -> list[int]:
    """Bytes that this rank sends from here on: a ring's 2 (W - 1) / W of what is summed, what all-to-all sends to
    others, and of a gather what the others get."""
    sent, world, me = [0], dist.get_world_size(), dist.get_rank()
    reduce, to_all, gather = dist.all_reduce, dist.all_to_all_single, dist.all_gather

    def all_reduce(tensor: Any, *rest: Any, **named: Any) -> Any:
        sent[0] += 2 * (world - 1) * tensor.numel() * tensor.element_size() // world
        return reduce(tensor, *rest, **named)

    def all_to_all_single(output: Any, given: Any, received: Any = None, counts: Any = None) -> Any:
        own = counts[me] if counts else len(given) // world
        sent[0] += (len(given) - own) * (given[:1].numel() or 1) * given.element_size() if len(given) else 0
        return to_all(output, given, received, counts)

    def all_gather(outputs: Any, given: Any, *rest: Any, **named: Any) -> Any:
        sent[0] += (world - 1) * given.numel() * given.element_size()
        return gather(outputs, given, *rest, **named)

    dist.all_reduce, dist.all_to_all_single, dist.all_gather = all_reduce, all_to_all_single, all_gather
    return sent


if __name__ == "__main__":
    main()
