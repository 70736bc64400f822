"""Two stages beside each of them alone, on validation: what is found, and what a request costs.

    python -m scripts.two_stage_table --retriever runs/sasrec --ranker runs/din --retrieved 100 500
    python -m scripts.two_stage_table --folder outputs/stages dataset=ml-100k  # trains both, where they are not there

Markdown on standard output. `recall` is the share of targets that is retrieved. Times are milliseconds of CPU, of one
thread: of a user in the evaluation, of a request that is scored alone, and of one that is scored with others, as by
`serve` (64 that come at once, cut to the batches it takes).
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import seqrec_cli
from scripts.refusing import exit_code
from seqrec_cli.commands.dispatch import share_cores
from seqrec_cli.commands.recommend import recommending_of
from seqrec_cli.commands.restore import Restored, restore
from seqrec_cli.commands.stages import two_runs
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.evaluation.evaluate import Evaluation, evaluate
from seqrec_cli.metrics.table import request_metric
from seqrec_cli.serving.scoring import Question, Scoring

ONE_THREAD = HardwareConfig(**dict.fromkeys(HardwareConfig.model_fields) | {"device": "cpu", "threads": 1})
TRAINED = {"retriever": "sasrec", "ranker": "din"}
METRICS = ("hr@10", "ndcg@10", "mrr")
TOP, AT_ONCE = 10, 64


def cost(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of CPU, and the result."""
    began = time.process_time()
    found = work()
    return 1000 * (time.process_time() - began), found


def measured(run: Restored) -> Evaluation:
    """On validation."""
    length = run.cfg.model.max_length
    return evaluate(run.model, run.log, "val", cfg=run.cfg.evaluation, max_length=length, precision=run.precision)


def latencies(run: Restored, requests: int) -> tuple[float, float]:
    """Milliseconds of a request alone (the median of so many), and of one of many at once (the mean)."""
    scoring = Scoring(recommending_of(run))
    recommending, users = scoring.recommending, np.unique(np.linspace(0, run.log.num_users - 1, requests).astype(int))
    raw = list(recommending._rows)
    questions = [Question(recommending.logged([raw[user]]).own(), top=TOP) for user in users]
    scoring.answer(questions[:1])
    alone = [cost(lambda one=one: scoring.answer([one]))[0] for one in questions]
    at_once = [questions[nth % len(questions)] for nth in range(AT_ONCE)]
    rows = min(scoring.rows_of(questions[0]), AT_ONCE)

    def together() -> None:
        for first in range(0, AT_ONCE, rows):
            scoring.answer(at_once[first : first + rows])

    together()
    return float(np.median(alone)), cost(together)[0] / AT_ONCE


def line(name: str, run: Restored, requests: int, recall: str = "") -> str:
    """A row of the table."""
    spent, found = cost(lambda: measured(run))
    alone, together = latencies(run, requests)
    cells = [name, recall, *(f"{found.metrics[metric]:.4f}".removeprefix("0") for metric in METRICS)]
    cells += [f"{ms:.2f}" for ms in (spent / len(found.ranks.rows_R), alone, together)]
    return f"| {' | '.join(cells)} |"


def table(retriever: Restored, ranker: Restored, retrieved: list[int], requests: int) -> Iterator[str]:
    """Its lines. The requests that are ranked are the ranker's in every row."""
    evaluation = ranker.cfg.evaluation
    retriever = replace(retriever, cfg=retriever.cfg.model_copy(update={"evaluation": evaluation}))
    times = f"ms a user, evaluated | ms a request | ms, of {AT_ONCE} at once"
    yield f"| answers | recall | {' | '.join(METRICS)} | {times} |"
    yield "|---|---|---|---|---|---|---|---|"
    names = [run.cfg.model.name for run in (retriever, ranker)]
    yield line(f"`{names[0]}` alone", retriever, requests)
    ranks = measured(retriever).ranks
    for count in retrieved:
        share = float(request_metric(f"recall@{count}", ranks).mean())
        yield line(f"{count} by `{names[1]}`", two_runs(retriever, ranker, count), requests, f"{share:.3f}")
    yield line(f"`{names[1]}` alone, all {ranker.log.num_items:,}", ranker, requests)


def runs_of(asked: argparse.Namespace) -> list[Restored]:
    """The two runs, trained first where a folder is given that lacks them."""
    found = []
    for stage, model in TRAINED.items():
        path = getattr(asked, stage)
        if path is None:
            path = str(asked.folder / model)
            if not Path(path).exists():
                settings = [*asked.settings, f"model={model}", "evaluation.test=none", "evaluation.baselines=false"]
                seqrec_cli.run("train", [*settings, f"run_dir={path}"])
        found.append(restore(path, None, None, hardware=ONE_THREAD))
    return found


def main() -> None:
    assert __doc__
    share_cores()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--retriever", help="a run folder; without: sasrec, trained into the folder")
    parser.add_argument("--ranker", help="a run folder; without: din, trained into the folder")
    parser.add_argument("--retrieved", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--requests", type=int, default=50, help="users whose requests are timed")
    parser.add_argument("--folder", type=Path, default=Path("outputs/two-stages"))
    parser.add_argument("settings", nargs="*", help="of the trainings, such as dataset=ml-100k")
    asked = parser.parse_args()
    for each in table(*runs_of(asked), asked.retrieved, asked.requests):
        print(each, flush=True)


if __name__ == "__main__":
    sys.exit(exit_code(main))
