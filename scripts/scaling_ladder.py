"""A ladder of depth and width at equal compute: the commands of its runs, or the runs themselves.

    python -m scripts.scaling_ladder --models sasrec esasrec hstu --dims 16 32 64 128 --blocks 1 2 4 \\
        --flops 2e10 1e11 --out outputs/ladder experiment=synthetic_scaling > ladder.sh

What a step of each model computes is counted on its own batches (matrix products forward and backward, padding
included, as `seqrec plan` does); `trainer.max_steps` is the budget over it, so that all runs of a budget compute the
same and each has its whole schedule. Feed-forward layers are four times as wide as the model, heads 32 wide. A model
of which fewer than `--least` steps fit is left out, and said. With `--run` the runs are made here, one after another;
those that are finished stay as they are. `python -m scripts.scaling_law outputs/ladder/*` fits the law.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import seqrec_cli
from scripts.refusing import exit_code
from seqrec_cli.commands.plan import parameters_by_part
from seqrec_cli.commands.settle import settle
from seqrec_cli.commands.training_setup import fresh_model, objective_for, sketched_model, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import user_training_counts
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.saying import silent
from seqrec_cli.training.precision import resolve_precision
from seqrec_cli.training.step_cost import epoch_flops

HEAD = 32
TABLES = ("item_table", "positions")


@dataclass(frozen=True)
class Cost:
    """Of a configuration."""

    flops_a_step: float
    steps_an_epoch: int
    parameters: int
    layers: int  # parameters without those of tables of items and positions
    events: int  # that train


def cost(cfg: TrainConfig) -> Cost:
    """Counted on the run's own data; nothing is trained."""
    precision = resolve_precision(cfg.hardware)
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    cfg = settle(cfg, log, "plan")
    model, objective = fresh_model(cfg, log, precision.device), objective_for(cfg, log, precision.device)
    rows = training_rows(cfg, objective, log, device=precision.device)
    flops, sizes = (
        epoch_flops(model, objective, rows, precision=precision),
        parameters_by_part(sketched_model(cfg, log)),
    )
    layers, events = sizes["total"] - sum(sizes[part] for part in TABLES), int(user_training_counts(log).sum())
    return Cost(flops / rows.steps, rows.steps, sizes["total"], layers, events)


def shape(model: str, dim: int, blocks: int) -> list[str]:
    """The overrides of a rung."""
    found = {"embed_dim": dim, "blocks": blocks, "heads": max(1, dim // HEAD), "ffn_dim": 4 * dim}
    known = config_class("model", model).model_fields
    return [f"model={model}", *(f"model.{name}={value}" for name, value in found.items() if name in known)]


def rungs(given: argparse.Namespace) -> Iterator[list[str]]:
    """The overrides of each run of the ladder."""
    for model in given.models:
        for dim in given.dims:
            for blocks in given.blocks:
                rung = [*given.overrides, *shape(model, dim, blocks)]
                cfg = validate("train", compose("train", rung))
                assert isinstance(cfg, TrainConfig)
                found = cost(cfg)
                for budget in given.flops:
                    steps = round(budget / found.flops_a_step)
                    name = f"{model}_{cfg.dataset.name}_d{dim}_b{blocks}_{budget:.6g}"
                    if steps < given.least:
                        print(f"{name}: {steps} steps fit, so it is left out", file=sys.stderr)
                        continue
                    epochs = -(-steps // found.steps_an_epoch)
                    yield [
                        *rung,
                        f"trainer.max_steps={steps}",
                        f"trainer.max_epochs={epochs}",
                        f"trainer.evaluate_every={max(1, epochs // given.validations)}",
                        f"trainer.warmup_steps={max(1, steps // 20)}",
                        f"run_dir={Path(given.out) / name}",
                    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["sasrec", "esasrec", "hstu"])
    parser.add_argument("--dims", nargs="+", type=int, default=[16, 32, 64, 128])
    parser.add_argument("--blocks", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--flops", nargs="+", type=float, required=True)
    parser.add_argument("--least", type=int, default=30)
    parser.add_argument("--validations", type=int, default=4)
    parser.add_argument("--out", default="outputs/ladder")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    for overrides in rungs(given):
        folder = Path(overrides[-1].partition("=")[2])
        if not given.run:
            print(shlex.join(["seqrec", "train", *overrides]), flush=True)
        elif not (folder / "DONE").exists():
            seqrec_cli.run("train", overrides)


if __name__ == "__main__":
    sys.exit(exit_code(main))
