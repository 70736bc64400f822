"""The table of a ladder of click rankers, from the folder its sweep wrote, as Markdown on standard output.

    python -m scripts.ladder_table outputs/sweeps/2026-01-31_12-00-00 [--data-dir DIR]

A rung's AUC and GAUC are means over its seeds. The interval of GAUC is of users: each user's own AUC, averaged over the
seeds, has a standard error, and 1.96 of them are given. The difference to the rung that it is built on is taken user by
user, and its interval is smaller because both rungs were asked about the same candidates.

Legend: S seeds, R users with candidates of both classes, N labelled candidates.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.refusing import exit_code
from seqrec_cli.commands.restore import restore
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.evaluation.delong import placements
from seqrec_cli.evaluation.evaluate import measuring, score_clicks

BUILT_ON = {
    "widedeep": "avgpool",
    "din": "avgpool",
    "din-dice": "din",
    "din-l2": "din-dice",
    "din-clip": "din-l2",
    "din-softmax": "din-clip",
    "dien-no-auxiliary": "din-clip",
    "dien": "dien-no-auxiliary",
    "dsin": "din-clip",
    "bst": "din-clip",
}
AS_TRAINED = HardwareConfig(**dict.fromkeys(HardwareConfig.model_fields))


class Rung(NamedTuple):
    name: str
    aucs_S: np.ndarray
    seconds: float  # of a seed's training
    users_R: np.ndarray  # each user's own AUC, the mean over seeds


def user_aucs(rows_N: np.ndarray, labels_N: np.ndarray, logits_N: np.ndarray) -> np.ndarray:
    """[R], ordered by user: the share of pairs of a positive and a negative that stand in the right order."""
    bounds = np.flatnonzero(np.diff(rows_N)) + 1
    parts = zip(np.split(labels_N, bounds), np.split(logits_N, bounds), strict=True)
    return np.array([placements(labels, logits).auc for labels, logits in parts if 0 < labels.sum() < len(labels)])


def read_rung(job: dict[str, str], folder: Path, data_dir: str | None) -> Rung:
    """Every seed's best checkpoint scores the fixed candidates of the test users again."""
    aucs, users, seconds = [], [], []
    for seed in sorted(folder.glob("seed_*")) or [folder]:
        run = restore(str(seed), None, data_dir, hardware=AS_TRAINED)
        with measuring(run.model, run.precision):
            length, device = run.cfg.model.max_length, run.precision.device
            scored = score_clicks(run.model, run.log, "test", cfg=run.cfg.evaluation, max_length=length, device=device)
        users.append(user_aucs(scored.users_N, scored.labels_N, scored.logits_N))
        aucs.append(json.loads((seed / "metrics.json").read_text(encoding="utf-8"))["test"]["auc"])
        seconds.append(json.loads((seed / "manifest.json").read_text(encoding="utf-8"))["fit"]["seconds"])
    return Rung(job["rung"], np.array(aucs), float(np.median(seconds)), np.mean(users, axis=0))


def plus_minus(values_R: np.ndarray) -> tuple[float, float]:
    return float(values_R.mean()), float(1.96 * values_R.std(ddof=1) / np.sqrt(len(values_R)))


def lines(rungs: list[Rung]) -> list[str]:
    """A line a rung, in the sweep's order."""
    found = ["| `rung=` | AUC (seeds) | GAUC | beside | difference | s a seed |", "|---|---|---|---|---|---|"]
    by_name = {rung.name: rung for rung in rungs}
    for rung in rungs:
        spread = f" ({rung.aucs_S.std(ddof=1):.4f})" if len(rung.aucs_S) > 1 else ""
        mean, width = plus_minus(rung.users_R)
        below = by_name.get(BUILT_ON.get(rung.name, ""))
        step = " | "
        if below is not None:
            step = f"`{below.name}` | " + "{:+.4f} ± {:.4f}".format(*plus_minus(rung.users_R - below.users_R))
        cells = f"`{rung.name}` | {rung.aucs_S.mean():.4f}{spread} | {mean:.4f} ± {width:.4f} | {step}"
        found.append(f"| {cells} | {rung.seconds:.0f} |")
    return found


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="the folder that the sweep printed last")
    parser.add_argument("--data-dir", help="where the preprocessed data lie, if no longer where the run found them")
    asked = parser.parse_args()
    jobs = [json.loads(line) for line in (asked.sweep / "jobs.jsonl").read_text(encoding="utf-8").splitlines()]
    with contextlib.redirect_stdout(sys.stderr):  # what is said of the data
        rungs = [
            read_rung(dict(text.split("=", 1) for text in job["overrides"]), Path(job["run_dir"]), asked.data_dir)
            for job in jobs
            if not job["error"]
        ]
    print("\n".join(lines(rungs)))


if __name__ == "__main__":
    sys.exit(exit_code(main))
