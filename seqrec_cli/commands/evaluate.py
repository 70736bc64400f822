"""`seqrec evaluate`: a run's numbers again, from its checkpoint."""

from typing import Any

from seqrec_cli.commands.restore import restore
from seqrec_cli.config.records import EvaluateConfig
from seqrec_cli.evaluation.compare import protocol
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.reporting.reliability import draw_reliability
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.tables import print_table, protocol_line, results_table


def main(cfg: EvaluateConfig) -> dict[str, Any]:
    """Measure one split; with `run_dir`, also write metrics.json and the users' ranks there."""
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, cfg.hardware)
    length = run.cfg.model.max_length
    evaluation = evaluate(
        run.model, run.log, cfg.split, cfg=run.cfg.evaluation, max_length=length, precision=run.precision
    )
    rules = protocol(
        run.log,
        cfg.split,
        max_length=length,
        monitor=run.cfg.trainer.monitor,
        sees_target_time=run.model.sees_target_time,
        ranked_users=run.cfg.evaluation.ranked_users,
    )
    metrics = {cfg.split: evaluation.metrics, "protocol": rules}
    if cfg.run_dir is not None:
        folder = RunFolder.allocate(cfg.run_dir, "evaluate")
        evaluation.save_ranks(folder.ranks(cfg.split))
        draw_reliability(folder.reliability_png(cfg.split), evaluation.reliability)
        folder.write_metrics(metrics)
        folder.write_manifest({"ckpt": cfg.ckpt})
        folder.mark_done()
    dataset = run.cfg.dataset
    line = protocol_line(dataset.name, run.log.fingerprint, cfg.split, run.log.num_items, length, run.cfg.protocol.name)
    print_table(results_table(run.cfg.model.name, evaluation.metrics, {}, f"{cfg.split} metrics", line))
    return metrics
