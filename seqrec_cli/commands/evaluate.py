"""`seqrec evaluate`: a run's numbers again, from its checkpoint; with `history`, at shorter histories too."""

import time
from typing import Any

from seqrec_cli.commands.measure import Measured, measured, rules_of, validated, validation_loss
from seqrec_cli.commands.restore import folder_of, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import EvaluateConfig
from seqrec_cli.evaluation.evaluate import Evaluation
from seqrec_cli.reporting.history import draw_history, history_table
from seqrec_cli.reporting.openings import count_opening, new_opening, opened_words
from seqrec_cli.reporting.reliability import draw_reliability
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.tables import print_table, protocol_line, results_table


def main(cfg: EvaluateConfig) -> dict[str, Any]:
    """Measure one split; with `run_dir`, also write metrics.json, the users' ranks and plots there.

    Raises SeqrecError for a history that is longer than the model's.
    """
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware)
    length, of = run.cfg.model.max_length, (run.cfg, run.model, run.log, run.precision)
    longer = [each for each in cfg.history or () if each > length]
    if longer:
        raise SeqrecError(f"history: {longer[0]} events are more than the model reads (model.max_length={length})")
    folder = RunFolder.allocate(cfg.run_dir, "evaluate") if cfg.run_dir is not None else None
    opened: dict[str, int | None] = {}
    if cfg.split == "test":
        opened = {"test_opened": count_opening(run.log, "evaluate", opening=new_opening(), run=_folder(cfg.ckpt))}
        evaluation = measured(of, "test", length)
    else:
        evaluation = validated(of, validation_loss(of))
    metrics: dict[str, Any] = {cfg.split: evaluation.metrics, "protocol": rules_of(of, cfg.split), **opened}
    line = protocol_line(metrics["protocol"])
    line += f"; {opened_words(opened['test_opened'])}" if opened else ""
    print_table(results_table(run.cfg.model.name, evaluation.metrics, {}, title=f"{cfg.split} metrics", protocol=line))
    if cfg.history is not None:
        metrics["history"] = _at_lengths(of, cfg)
        print_table(history_table(metrics["history"], f"{cfg.split} metrics by the latest events read"))
    if folder is not None:
        _write(folder, cfg, evaluation, metrics)
    return metrics


def _at_lengths(of: Measured, cfg: EvaluateConfig) -> list[dict[str, float]]:
    """A row a history length: `history`, `ms_a_user` and the metrics.

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


def _write(folder: RunFolder, cfg: EvaluateConfig, evaluation: Evaluation, metrics: dict[str, Any]) -> None:
    evaluation.save_ranks(folder.ranks(cfg.split))
    draw_reliability(folder.reliability_png(cfg.split), evaluation.reliability)
    if "history" in metrics:
        draw_history(folder.history_png, metrics["history"])
    folder.write_metrics(metrics)
    folder.write_manifest({"ckpt": cfg.ckpt})
    folder.mark_done()


def _folder(ckpt: str) -> RunFolder:
    return RunFolder(folder_of(ckpt))
