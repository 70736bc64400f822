"""`seqrec evaluate`: a run's numbers again, from its checkpoint; with `history`, at shorter histories too."""

import time
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.measure import Measured, keep, measured, print_parts, rules_of, validated, validation_loss
from seqrec_cli.commands.restore import Restored, folder_of
from seqrec_cli.commands.stages import TwoRuns, asked_run, stages_alone
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import EvaluateConfig
from seqrec_cli.data.splits import view_of
from seqrec_cli.evaluation.candidates import among
from seqrec_cli.evaluation.cold import cold_parts
from seqrec_cli.evaluation.evaluate import Evaluation
from seqrec_cli.evaluation.top_lists import not_measured
from seqrec_cli.protocols.view.build import with_candidates
from seqrec_cli.reporting.history import draw_history, history_table
from seqrec_cli.reporting.lists_table import print_lists
from seqrec_cli.reporting.openings import count_opening, new_opening, opened_words
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.sampled_table import candidates_table
from seqrec_cli.reporting.stages_table import stages_table
from seqrec_cli.reporting.tables import print_table, protocol_line, results_table


def main(cfg: EvaluateConfig) -> dict[str, Any]:
    """Measure one split; with `run_dir`, also write metrics.json, the users' ranks and plots there.

    Raises SeqrecError for a history that is longer than the model's.
    """
    run = asked_run(cfg, cfg.hardware)
    for each, ckpt in zip(run.parts, cfg.parts, strict=True):
        if (unfinished := RunFolder(folder_of(ckpt))).config_yaml.is_file() and not unfinished.is_done:
            best = f"the run is not finished; measured is its best checkpoint so far, epoch {each.epoch}"
            say(f"{unfinished.path}: {best}")
    longer = [length for length in cfg.history or () if length > run.cfg.model.max_length]
    if longer:
        raise SeqrecError(
            f"history: {longer[0]} events are more than the model reads (model.max_length={run.cfg.model.max_length})"
        )
    folder = RunFolder.allocate(cfg.run_dir, "evaluate") if cfg.run_dir is not None else None
    kinds = cfg.candidates or (view_of(run.log).candidates,)
    if isinstance(run, TwoRuns) and kinds != ("full",):
        raise SeqrecError(
            f"candidates: the runs' protocol has {kinds[0]}, but sampled items are given, not retrieved; two stages "
            "are measured on the whole corpus alone: give candidates=full"
        )
    of = _asked(run, cfg, kinds[0])
    opened = _opened(of, cfg)
    evaluation = validated(of, validation_loss(of)) if cfg.split == "val" else measured(of, "test")
    metrics: dict[str, Any] = {cfg.split: evaluation.metrics, "intervals": {cfg.split: evaluation.intervals}}
    metrics |= {"parts": {cfg.split: cold_parts(evaluation, of[2])}, "protocol": rules_of(of, cfg.split), **opened}
    if kinds != ("full",):
        metrics["candidates"] = _among(of, cfg, kinds=kinds, first=evaluation)
    if cfg.history is not None:
        metrics["history"] = _at_lengths(of, cfg)
    if isinstance(run, TwoRuns):
        metrics["stages"] = stages_alone(run, of, cfg.split, ranker=cfg.ranker_alone)
    if folder is not None:
        keep(evaluation, folder, cfg.split)
        if cfg.history is not None:
            draw_history(folder.history_png, metrics["history"])
        folder.write_metrics(metrics)
        folder.write_manifest({"ckpt": cfg.ckpt} if cfg.ckpt is not None else cfg.two)
        folder.mark_done()
    _print(of, cfg, metrics)
    return metrics


def _asked(run: Restored, cfg: EvaluateConfig, candidates: str) -> Measured:
    """The run with what is to be measured otherwise than at its end."""
    evaluation = run.cfg.evaluation.changed(cfg.cutoffs, cfg.beyond_accuracy)
    changed = run.cfg.model_copy(update={"evaluation": evaluation})
    return changed, run.model, with_candidates(run.log, candidates), run.precision


def _opened(of: Measured, cfg: EvaluateConfig) -> dict[str, int | None]:
    """How often the test set was opened, with this time, which has everything that is asked of it here."""
    if cfg.split != "test":
        return {}
    _, _, log, _ = of
    opening, times = new_opening(), None  # one of both runs' where there are two
    for ckpt in cfg.parts:
        times = count_opening(log, "evaluate", opening=opening, run=RunFolder(folder_of(ckpt)))
    return {"test_opened": times}


def _among(of: Measured, cfg: EvaluateConfig, *, kinds: tuple[str, ...], first: Evaluation) -> Any:
    run_cfg, model, log, precision = of
    length = run_cfg.model.max_length
    return among(
        model,
        log,
        cfg.split,
        kinds=kinds,
        first=first.ranks,
        cfg=run_cfg.evaluation,
        max_length=length,
        precision=precision,
    )


def _at_lengths(of: Measured, cfg: EvaluateConfig) -> list[dict[str, float]]:
    """A row a history length: `history`, `ms_a_user` (a request) and the metrics.

    A model sees windows of that length as it would see the histories of users who have no more events; seen items are
    those of the whole history all the same. The time is that of all that `evaluate` does.
    """
    rows = []
    for length in sorted(set(cfg.history or ())):
        began = time.perf_counter()
        evaluation = measured(of, cfg.split, length)
        seconds = time.perf_counter() - began
        requests = len(evaluation.ranks.rows_R)
        rows.append({"history": length, "ms_a_user": round(1000 * seconds / requests, 4), **evaluation.metrics})
    return rows


def _print(of: Measured, cfg: EvaluateConfig, metrics: dict[str, Any]) -> None:
    run_cfg, _, log, _ = of
    name, split = run_cfg.model.name, cfg.split
    line = protocol_line(metrics["protocol"])
    if "test_opened" in metrics:
        line += f"; {opened_words(metrics['test_opened'])}"
    intervals = metrics["intervals"]
    print_table(
        results_table(name, metrics[split], {}, title=f"{split} metrics", protocol=line, intervals=intervals[split])
    )
    print_parts(metrics, split)
    print_lists(name, metrics[split], {}, absent=not_measured(log))
    if "candidates" in metrics:
        print_table(candidates_table(metrics["candidates"], f"{split} metrics by what targets are ranked among"))
    if "stages" in metrics:
        print_table(stages_table(metrics["stages"], name, metrics[split], title=f"{split} metrics of the stages"))
    if "history" in metrics:
        print_table(history_table(metrics["history"], f"{split} metrics by the latest events read"))
