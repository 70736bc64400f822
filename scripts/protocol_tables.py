"""Six models under leave-last-out and under a cut in time, each choice of its targets: the tables of docs/protocols.md.

    python -m scripts.protocol_tables --archive ml-100k=ml-100k.zip --archive ml-latest-small=ratings.csv

Every model is trained once for each split, validated by that split (under the cut: successive targets), and the one
checkpoint is measured under each choice of targets. The table has NDCG@10 with its 95 % interval over users, Kendall's
tau between the models' orders, which pairs change places, and the seconds of each evaluation. Runs that are finished
are not trained again. At most 2,000 requests of a protocol are ranked, the same ones for every model.

Legend: R requests, U users.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.refusing import exit_code
from seqrec_cli.commands.restore import Restored, restore
from seqrec_cli.commands.train import main as train
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import HardwareConfig, TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.evaluation.candidates import kendall_tau, orders
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.ranks import rank_held_out
from seqrec_cli.evaluation.user_sums import request_sums, standard_error
from seqrec_cli.metrics.table import request_metric
from seqrec_cli.protocols.view.build import with_view

METRIC = "ndcg@10"
RANKED = 2000  # requests
WINDOWS = ["model.max_length=50", "objective.window=sliding", "trainer.batch_size=32", "trainer.warmup_steps=50"]
MODELS = {
    "sasrec": ["model=sasrec", *WINDOWS, "trainer.max_epochs=30", "trainer.patience=4"],
    "lrurec": ["model=lrurec", *WINDOWS, "trainer.max_epochs=30", "trainer.patience=4"],
    "bert4rec": ["model=bert4rec", *WINDOWS, "trainer.max_epochs=80", "trainer.patience=8"],
    "din": ["model=din", "trainer.max_epochs=6", "evaluation.ranked_users=50"],  # chosen by the AUC of clicks
    "ease": ["model=ease"],
    "markov": ["model=markov"],
}
DATASETS = {
    "ml-100k": ["dataset=ml-100k"],
    "ml-latest-small": [
        "dataset=csv",
        "dataset.name=ml-latest-small",
        "dataset.user_column=userId",
        "dataset.item_column=movieId",
        "dataset.time_column=timestamp",
        "dataset.rating_column=rating",
        "dataset.item_core=5",
    ],
}
# A tenth of the events, the default, leaves few users that have events on both sides of the cut.
SPLITS = {"leave_last": ["protocol=leave_last"], "global_time": ["protocol=global_time", "protocol.cut=0.8"]}
CHOICES = ("last", "first", "random", "successive", "all")
AS_TRAINED = HardwareConfig(**dict.fromkeys(HardwareConfig.model_fields))


class Measured(NamedTuple):
    mean: float
    width: float  # half the 95 % interval over users
    requests: int
    users: int
    seconds: float


def trained(folder: Path, overrides: list[str]) -> Restored:
    """The run in the folder, trained first unless it is there."""
    if not (folder / "metrics.json").is_file():
        cfg = validate("train", compose("train", [*overrides, f"run_dir={folder}", "evaluation.baselines=false"]))
        assert isinstance(cfg, TrainConfig)
        train(cfg)
    return restore(str(folder), None, None, hardware=AS_TRAINED)


def measured(run: Restored, choice: str | None) -> Measured:
    """The test requests of the run's own protocol, or of the same cut with another choice of targets."""
    protocol = run.cfg.protocol if choice is None else run.cfg.protocol.model_copy(update={"targets": choice})
    log = with_view(run.log, protocol, lambda line: None)
    cfg, length = run.cfg.evaluation.model_copy(update={"ranked_users": RANKED}), run.cfg.model.max_length
    began = time.perf_counter()
    with measuring(run.model, run.precision):
        ranks, _ = rank_held_out(run.model, log, "test", cfg=cfg, max_length=length, device=run.precision.device)
    seconds = time.perf_counter() - began
    values_R = request_metric(METRIC, ranks)
    return Measured(*over_users(values_R, ranks.rows_R), seconds)


def over_users(values_R: np.ndarray, rows_R: np.ndarray) -> tuple[float, float, int, int]:
    """Mean over requests, half its 95 % interval where users are drawn with all their requests, requests and users."""
    order_R = np.argsort(rows_R, kind="stable")
    error = standard_error(request_sums(values_R[order_R], rows_R[order_R]).influences_U)
    return float(values_R.mean()), 1.96 * error, len(values_R), len(np.unique(rows_R))


def lines(dataset: str, found: Mapping[str, Mapping[str, Measured]]) -> list[str]:
    """Markdown of one dataset: `found[protocol][model]`, the protocol that the others are compared with first."""
    models = list(next(iter(found.values())))
    columns = {protocol: {model: row[model].mean for model in models} for protocol, row in found.items()}
    changed = orders(columns)
    text = [
        f"| {dataset}, NDCG@10 | {' | '.join(f'`{model}`' for model in models)} | requests (users) | tau | s |",
        f"|---|{'---|' * len(models)}---|---|---|",
    ]
    for protocol, row in found.items():
        best = max(each.mean for each in row.values())
        cells = [f"{_bold(each.mean, best)} ± {_number(each.width)}" for each in row.values()]
        one, seconds = next(iter(row.values())), sum(each.seconds for each in row.values())
        cells += [f"{one.requests:,} ({one.users:,})", f"{changed[protocol].tau:.2f}", f"{seconds:.0f}"]
        text.append(f"| {protocol} | {' | '.join(cells)} |")
    text += [
        "",
        f"| {dataset} | order, the best first | ahead here, behind under {next(iter(found))} |",
        "|---|---|---|",
    ]
    for protocol, order in changed.items():
        pairs = ", ".join(f"{a} of {b}" for a, b in order.changed)
        text.append(f"| {protocol} | {', '.join(order.models)} | {pairs or 'none'} |")
    cuts = [protocol for protocol in found if protocol != next(iter(found))]
    taus = [kendall_tau([columns[a][m] for m in models], [columns[b][m] for m in models]) for a in cuts for b in cuts]
    if len(cuts) > 1:
        others = np.array(taus).reshape(len(cuts), -1)[~np.eye(len(cuts), dtype=bool)]
        least, most = np.nanmin(others), np.nanmax(others)
        text += ["", f"Between the choices of targets tau is {least:.2f} to {most:.2f}."]
    return [*text, ""]


def _number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _bold(value: float, best: float) -> str:
    return f"**{_number(value)}**" if value == best else _number(value)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", action="append", default=[], help="DATASET=FILE, once for each dataset")
    parser.add_argument("--runs", type=Path, default=Path("outputs/protocol_tables"), help="where the runs lie")
    parser.add_argument("--data-dir", help="where the preprocessed data lie")
    asked = parser.parse_args()
    place = [] if asked.data_dir is None else [f"data_dir={asked.data_dir}"]
    for dataset, archive in (each.split("=", 1) for each in asked.archive):
        found: dict[str, dict[str, Measured]] = {}
        for split, protocol in SPLITS.items():
            for model, settings in MODELS.items():
                overrides = [*DATASETS[dataset], f"dataset.archive={archive}", *protocol, *settings, *place]
                with contextlib.redirect_stdout(sys.stderr):
                    run = trained(asked.runs / f"{dataset}_{split}_{model}", overrides)
                    for choice in CHOICES if split == "global_time" else (None,):
                        name = split if choice is None else f"{split}, {choice}"
                        found.setdefault(name, {})[model] = measured(run, choice)
        print("\n".join(lines(dataset, found)), flush=True)


if __name__ == "__main__":
    sys.exit(exit_code(main))
