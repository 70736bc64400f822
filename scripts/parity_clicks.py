"""Whether seqrec's click models learn as well as other tools' on the same samples: test AUC with standard errors.

    python -m scripts.parity_clicks dataset=ml-1m --vs torch-rechub,fuxictr --epochs 3 --seeds 3 --out outputs/parity

The samples are those of `bench_clicks.py`, all vectors 32 wide (item and category each), trained on for the same
number of epochs in batches of 1,024 by Adam at a constant 1e-3; the best epoch by validation AUC scores the test
samples, once. --samples takes the first users alone, about as many as have that many training samples. Every finished
run is kept under --out and progress is written there: the same command goes on where it was stopped, and ends with the
table.

A difference is seqrec's mean AUC over the seeds less the peer's; its standard error is DeLong's, of paired samples.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from scripts.bench import Parser, _count, _listed
from scripts.click_peers import PEERS, answer, known_pairs, pythons, request_of
from scripts.click_samples import SHAPES, click_log, held_out_samples, set_up, settings, training_samples
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.sample import of_users
from seqrec_cli.data.splits import HeldOut, held_out
from seqrec_cli.evaluation.delong import mean, placements
from seqrec_cli.evaluation.evaluate import measuring, score_clicks
from seqrec_cli.metrics.clicks import auc
from seqrec_cli.training.loop import fit

WIDTH = 32  # of an item's vector and of its category's
PROGRESS = "progress.txt"
# As the peers train: Adam at one rate from the first step to the last. A cosine over three epochs would end, with lower
# figures, where the others are still rising.
SAME = ("trainer.patience=null", "trainer.schedule=constant", "trainer.warmup_steps=0", "trainer.weight_decay=0")


def arguments(argv: list[str]) -> argparse.Namespace:
    assert __doc__
    parser = Parser(
        prog="parity_clicks.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for seqrec train: dataset=ml-1m ...")
    parser.add_argument("--models", default=",".join(SHAPES), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--vs", required=True, metavar="PEER,...", help=f"of: {', '.join(PEERS)}")
    parser.add_argument("--seeds", type=_count, default=3, help="runs of each side (default: %(default)s)")
    parser.add_argument("--epochs", type=_count, default=3, help="of each run (default: %(default)s)")
    parser.add_argument("--samples", type=_count, help="training samples, about (default: all)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="finished runs and progress")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/seqrec/peers"), help="the peers' environments")
    asked = parser.parse_intermixed_args(argv)
    asked.models, asked.vs = _listed(asked.models), _listed(asked.vs)
    known_pairs(asked.models, asked.vs)
    return asked


def first_users(log: PackedLog, samples: int | None) -> PackedLog:
    """The first users that have about so many training samples between them."""
    if samples is None:
        return log
    totals_U = np.cumsum(2 * np.maximum(np.diff(log.offsets_U1) - 3, 0))
    count = int(np.searchsorted(totals_U, samples)) + 1
    return of_users(log, np.arange(min(count, log.num_users)))


@dataclass
class Listener:
    """Writes a line an epoch."""

    out: Path
    began: float = field(default_factory=time.perf_counter)
    val_auc: list[float] = field(default_factory=list)

    def on_start(self, total_steps: int, first_step: int) -> None: ...

    def on_step(self, step: int, loss: float | None, *, lr: float, targets: int) -> None: ...

    def gives_up(self) -> bool:
        return False

    def on_validation(self, row: dict[str, Any]) -> None:
        self.val_auc.append(float(row["auc"]))
        seconds = time.perf_counter() - self.began
        note(self.out, f"epoch {len(self.val_auc)}: validation auc {self.val_auc[-1]:.4f}, {seconds:.0f} s")

    def on_end(self) -> None: ...


def note(out: Path, line: str) -> None:
    with (out / PROGRESS).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def own_run(cfg: TrainConfig, log: PackedLog, out: Path) -> dict[str, Any]:
    """seqrec's run: the labels and scores of the test samples, ordered by user, and how validation went."""
    setup = set_up(cfg, log)
    model, device, listener = setup.model(), setup.precision.device, Listener(out)

    def scores(split: HeldOut) -> tuple[np.ndarray, np.ndarray]:
        with measuring(model, setup.precision):
            length = cfg.model.max_length
            scored = score_clicks(model, log, split, cfg=cfg.evaluation, max_length=length, device=device)
        return scored.labels_N, scored.logits_N

    header = {"config": {}, "facts": {}, "fingerprint": log.fingerprint}
    trainer = cfg.trainer.model_copy(update={"monitor": "auc"})
    with tempfile.TemporaryDirectory() as folder:
        fit(
            model=model,
            objective=setup.objective,
            rows=setup.rows,
            cfg=trainer,
            precision=setup.precision,
            validate=lambda: {"auc": auc(*scores("val"))},
            header=header,
            folder=Path(folder),
            listener=listener,
            resume_from=None,
        )
    labels_S, scores_S = scores("test")
    seconds = time.perf_counter() - listener.began
    return {"labels_S": labels_S, "scores_S": scores_S, "val_auc": listener.val_auc, "seconds": seconds}


def peer_run(
    name: str, python: Path, model: str, cfg: TrainConfig, epochs: int, files: dict[str, Path], out: Path
) -> dict[str, Any]:
    """The same of a peer."""
    with tempfile.TemporaryDirectory() as folder:
        scores = Path(folder) / "scores.npz"
        task = {split: str(path) for split, path in files.items()}
        task |= {"scores": str(scores), "progress": str((out / PROGRESS).absolute())}
        request = request_of(name, model, WIDTH, cfg, tuned=True, epochs=epochs, **task)
        request["threads"] = torch.get_num_threads()
        fitted = answer(python, request)["fit"]
        with np.load(scores) as file:
            return fitted | {"labels_S": file["labels_S"], "scores_S": file["scores_S"]}


def keep(path: Path, run: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"partial_{path.name}")
    np.savez(partial, **run)
    os.replace(partial, path)


def compare(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The runs that are not there yet, then a row for each model and peer."""
    fixed = [*SAME, f"trainer.max_epochs={asked.epochs}"]

    def config(model: str, seed: int) -> TrainConfig:
        return settings(model, WIDTH, [*fixed, *asked.overrides, f"trainer.seed={seed}"])

    config(asked.models[0], 0)  # refuses what cannot be, before anything is written
    environments = pythons(asked.cache, asked.vs)
    log = first_users(click_log(config("din", 0)), asked.samples)
    asked.out.mkdir(parents=True, exist_ok=True)
    told = {"overrides": asked.overrides, "epochs": asked.epochs, "users": log.num_users, "data": log.fingerprint}
    settled = asked.out / "settings.json"
    if settled.exists() and json.loads(settled.read_text(encoding="utf-8")) != told:
        raise SeqrecError(f"--out {asked.out} holds runs of other settings; name another folder")
    files = {split: asked.out / f"{split}.npz" for split in ("train", "val", "test")}
    if not settled.exists():
        training_samples(config("din", 0), log).save(files["train"], log)
        held_out_samples(log, "val").save(files["val"], log)
        held_out_samples(log, "test").save(files["test"], log)
        settled.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    note(asked.out, f"{log.num_users:,} users, {len(held_out(log, 'test').rows_R):,} tested")
    models = [model for model in asked.models if any(model in PEERS[name].models for name in asked.vs)]
    for seed in range(asked.seeds):
        for model in models:
            for side in ("seqrec", *(name for name in asked.vs if model in PEERS[name].models)):
                path = asked.out / f"{model}_{side}_{seed}.npz"
                if path.exists():
                    continue
                note(asked.out, f"{model}, {side}, seed {seed}")
                cfg = config(model, seed)
                if side == "seqrec":
                    keep(path, own_run(cfg, log, asked.out))
                else:
                    keep(path, peer_run(side, environments[side], model, cfg, asked.epochs, files, asked.out))
    return rows(asked.out, models, asked.vs, asked.seeds)


def rows(out: Path, models: list[str], peers: list[str], seeds: int) -> list[dict[str, Any]]:
    """Each model beside each peer that has it, from the runs kept."""

    def runs(model: str, side: str) -> list[dict[str, np.ndarray]]:
        found = []
        for seed in range(seeds):
            with np.load(out / f"{model}_{side}_{seed}.npz") as file:
                found.append(dict(file))
        return found

    table = []
    for model in models:
        for name in (name for name in peers if model in PEERS[name].models):
            ours, theirs = runs(model, "seqrec"), runs(model, name)
            if not np.array_equal(ours[0]["labels_S"], theirs[0]["labels_S"]):
                raise SeqrecError(f"{out}: {model} of seqrec and of {name} were tested on different samples")
            own, other = ([placements(run["labels_S"], run["scores_S"]) for run in side] for side in (ours, theirs))
            difference = mean(own).minus(mean(other))
            table.append(
                {
                    "model": model,
                    "peer": name,
                    "auc": mean(own).auc,
                    "error": mean(own).error,
                    "spread": float(np.std([run.auc for run in own])),
                    "peer_auc": mean(other).auc,
                    "peer_error": mean(other).error,
                    "peer_spread": float(np.std([run.auc for run in other])),
                    "difference": difference.auc,
                    "difference_error": difference.error,
                    "epochs": [int(np.argmax(run["val_auc"])) + 1 for run in ours],
                    "peer_epochs": [int(np.argmax(run["val_auc"])) + 1 for run in theirs],
                }
            )
    return table


def show(table: list[dict[str, Any]], seeds: int) -> None:
    """Seeds' spread in brackets; the last column says whether seqrec is equal or better within one standard error."""
    shown = Table(title=f"test AUC, mean of {seeds} seeds, standard error (spread of seeds)", title_justify="left")
    for name in ("model", "seqrec", "peer", "", "difference", ""):
        shown.add_column(name)
    for row in table:
        shown.add_row(
            row["model"],
            f"{row['auc']:.4f} ± {row['error']:.4f} ({row['spread']:.4f})",
            row["peer"],
            f"{row['peer_auc']:.4f} ± {row['peer_error']:.4f} ({row['peer_spread']:.4f})",
            f"{row['difference']:+.4f} ± {row['difference_error']:.4f}",
            "no worse" if row["difference"] >= -row["difference_error"] else "worse",
        )
    Console().print(shown)


def main(argv: list[str] | None = None) -> int:
    try:
        asked = arguments(sys.argv[1:] if argv is None else argv)
        table = compare(asked)
    except SeqrecError as error:
        print(f"parity_clicks.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    (asked.out / "parity.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    show(table, asked.seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
