"""The scaling law of finished runs: their validation loss by size and compute, with its error.

    python -m scripts.scaling_law outputs/ladder/* [--terms layers flops] [--draws 200]

A law L = E + A (size / size_0)^-alpha + B (compute / compute_0)^-beta is fitted to the runs of each model and dataset
(`power_law.py`); size_0 and compute_0 are the runs' geometric means. Terms are `layers` (parameters without tables),
`parameters` (all), `flops` (of the run's steps, counted as by `scaling_ladder`) and `events` (training events of the
log: for runs on logs of growing size). Markdown on standard output: the runs, the best shape of each budget, the law
with 95 % intervals of the bootstrap, its error on runs that are left out, beside a constant's, and for each term
whether it can be told from a constant (permutations, p at most 0.05). A law that a constant predicts as well is no
law, and is called so.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts.power_law import Law, Trust, fit, trust
from scripts.refusing import exit_code
from scripts.scaling_ladder import cost
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import migrated
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.training.checkpoint import load_checkpoint

TERMS = ("layers", "parameters", "flops", "events")
SIGNIFICANT = 0.05


class Run(NamedTuple):
    model: str
    dataset: str
    dim: int
    blocks: int
    layers: int
    parameters: int
    flops: float
    events: int
    loss: float
    metrics: dict[str, float]
    seconds: float


def read(path: Path) -> Run:
    """A finished run, its compute counted again. Raises SeqrecError where it is none, or has no validation loss."""
    folder = RunFolder.open(path)
    metrics, manifest = folder.read_metrics(), folder.read_manifest()
    if "loss" not in metrics.get("val", {}):
        raise SeqrecError(f"{path}: no validation loss; is the run finished, and not in closed form?")
    cfg: Any = validate_plain("train", migrated(load_checkpoint(folder.best)["config"]))
    assert isinstance(cfg, TrainConfig)
    found, model, fitted = cost(cfg), cfg.model, manifest["fit"]
    return Run(
        model.name,
        cfg.dataset.name,
        model.embed_dim,  # type: ignore[attr-defined]
        getattr(model, "blocks", 0),
        found.layers,
        found.parameters,
        found.flops_a_step * fitted["steps"],
        found.events,
        metrics["val"]["loss"],
        metrics["val"],
        fitted["seconds"],
    )


def runs_table(runs: Sequence[Run]) -> Iterator[str]:
    yield "| model | data | events | d | blocks | layers | parameters | FLOPs | val. loss | val. NDCG@10 | s |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for run in sorted(
        runs, key=lambda run: (run.model, run.dataset, run.events, round(np.log10(run.flops), 1), run.loss)
    ):
        ndcg = run.metrics.get("ndcg@10", float("nan"))
        yield (
            f"| {run.model} | {run.dataset} | {run.events:,} | {run.dim} | {run.blocks} | {run.layers:,} | "
            f"{run.parameters:,} | {run.flops:.2e} | {run.loss:.4f} | {ndcg:.4f} | {run.seconds:.0f} |"
        )


def best_shapes(runs: Sequence[Run]) -> Iterator[str]:
    """The best run of each budget; runs of a budget compute the same to a tenth."""
    budgets: dict[tuple[str, str, int, int], list[Run]] = defaultdict(list)
    for run in runs:
        budgets[run.model, run.dataset, run.events, round(10 * np.log10(run.flops))].append(run)
    for (model, dataset, events, _), each in sorted(budgets.items()):
        best = min(each, key=lambda run: run.loss)
        worst = max(run.loss for run in each)
        yield (
            f"- {model}, {dataset} ({events:,} events), {best.flops:.1e} FLOPs: d {best.dim}, {best.blocks} blocks, "
            f"{best.loss:.4f} (of {len(each)} shapes; the worst {worst:.4f})"
        )


def stated(title: str, terms: Sequence[str], law: Law, *, error: Trust, runs: int) -> Iterator[str]:
    """The law in a line, and each term in one."""
    parts = " + ".join(
        f"{amplitude:.4f} ({name} / {centre:.3g})^-{exponent:.3f}"
        for name, amplitude, centre, exponent in zip(
            terms, law.amplitudes_K, law.centre_K, law.exponents_K, strict=True
        )
    )
    yield f"**{title}**, {runs} runs: L = {law.floor:.4f} + {parts}"
    yield ""
    yield f"- E {law.floor:.4f} ({error.floor[0]:.4f} to {error.floor[1]:.4f})"
    for k, name in enumerate(terms):
        told = (
            f"p = {error.p_values[k]:.3f}"
            if error.p_values[k] <= SIGNIFICANT
            else f"p = {error.p_values[k]:.2f}: cannot be told from a constant"
        )
        low, high = error.exponents[k]
        yield (
            f"- {name}: exponent {law.exponents_K[k]:.3f} ({low:.3f} to {high:.3f}), falls by "
            f"{error.falls[k][0]:.4f} to {error.falls[k][1]:.4f} over these runs; {told}"
        )
    worse = "" if error.left_out < error.constant else ": no law, a constant predicts as well"
    missed = f"- a run that is left out is missed by {error.left_out:.4f} on average"
    yield f"{missed}, by a constant by {error.constant:.4f}{worse}"


def laws(runs: Sequence[Run], terms: Sequence[str], *, draws: int) -> Iterator[str]:
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[f"{run.model} on {run.dataset}"].append(run)
    for title, each in sorted(groups.items()):
        x_RK = np.array([[getattr(run, name) for name in terms] for run in each], float)
        varied = [k for k in range(len(terms)) if len(np.unique(x_RK[:, k])) > 2]
        used, loss_R = [terms[k] for k in varied], np.array([run.loss for run in each])
        yield ""
        if not varied or len(each) < 2 * len(varied) + 2:
            yield f"**{title}**: {len(each)} runs of {len(used)} terms with three values or more: too few for a law"
            continue
        if len(used) < len(terms):
            yield f"({title}: {', '.join(set(terms) - set(used))} has fewer than three values, and no term)"
        law = fit(x_RK[:, varied], loss_R)
        yield from stated(title, used, law, error=trust(x_RK[:, varied], loss_R, law, draws=draws), runs=len(each))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--terms", nargs="+", choices=TERMS, default=["layers", "flops"])
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    runs = [read(path) for path in given.runs]
    for line in (*runs_table(runs), "", *best_shapes(runs), *laws(runs, given.terms, draws=given.draws)):
        print(line)


if __name__ == "__main__":
    sys.exit(exit_code(main))
