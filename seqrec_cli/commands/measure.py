"""The end of a run: both splits measured once, with the baselines, written to its folder and printed."""

from typing import Any

from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.baselines import baselines
from seqrec_cli.evaluation.compare import protocol
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.evaluation.top_lists import not_measured
from seqrec_cli.models.contract import Recommender
from seqrec_cli.reporting.lists_table import print_lists
from seqrec_cli.reporting.reliability import draw_reliability
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.tables import print_table, protocol_line, results_table
from seqrec_cli.training.precision import Precision


def measure_run(
    cfg: TrainConfig, model: Recommender, log: PackedLog, *, precision: Precision, folder: RunFolder
) -> dict[str, Any]:
    """Both splits with the chosen weights; test is read here and nowhere before. Writes numbers and plots."""
    length = cfg.model.max_length
    metrics_of, intervals = {}, {}
    for split in ("val", "test"):
        evaluation = evaluate(model, log, split, cfg=cfg.evaluation, max_length=length, precision=precision)
        evaluation.save_ranks(folder.ranks(split))
        evaluation.clicks.save(folder.clicks(split))
        draw_reliability(folder.reliability_png(split), evaluation.reliability)
        metrics_of[split], intervals[split] = evaluation.metrics, evaluation.intervals
    of_baselines: dict[str, dict[str, float]] = {}
    if cfg.evaluation.baselines:
        of_baselines = baselines(log, "test", cfg=cfg.evaluation, precision=precision, max_length=length)
    rules = protocol(
        log,
        "test",
        max_length=length,
        monitor=cfg.trainer.monitor,
        sees_target_time=model.sees_target_time,
        ranked_users=cfg.evaluation.ranked_users,
    )
    metrics = {**metrics_of, "intervals": intervals, "baselines": of_baselines, "protocol": rules}
    folder.write_metrics(metrics)
    line = protocol_line(rules)
    print_table(
        results_table(
            cfg.model.name,
            metrics_of["test"],
            of_baselines,
            title="test metrics",
            protocol=line,
            intervals=intervals["test"],
            validation=metrics_of["val"],
        )
    )
    print_lists(cfg.model.name, metrics_of["test"], of_baselines, absent=not_measured(log))
    return metrics
