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
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware)
    length = run.cfg.model.max_length
    evaluation = evaluate(run.model, run.log, cfg.split, run.cfg.evaluation, length, run.precision)
    monitor, ranked = run.cfg.trainer.monitor, run.cfg.evaluation.ranked_users
    rules = protocol(run.log, cfg.split, length, monitor, run.model.sees_target_time, ranked)
    metrics = {cfg.split: evaluation.metrics, "protocol": rules}
    if cfg.run_dir is not None:
        folder = RunFolder.allocate(cfg.run_dir, "evaluate")
        evaluation.save_ranks(folder.ranks(cfg.split))
        draw_reliability(folder.reliability_png(cfg.split), evaluation.reliability)
        folder.write_metrics(metrics)
        folder.write_manifest({"ckpt": cfg.ckpt})
        folder.mark_done()
    dataset = run.cfg.dataset
    line = protocol_line(
        dataset.name,
        run.log.fingerprint,
        cfg.split,
        num_items=run.log.num_items,
        max_length=length,
        protocol=dataset.protocol,
    )
    print_table(results_table(run.cfg.model.name, evaluation.metrics, {}, title=f"{cfg.split} metrics", protocol=line))
    return metrics
