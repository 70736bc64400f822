"""`seqrec evaluate`: a run's numbers again, from its checkpoint."""

from typing import Any

from seqrec_cli.commands.restore import restore
from seqrec_cli.config.records import EvaluateConfig
from seqrec_cli.data.splits import view_of
from seqrec_cli.evaluation.candidates import among
from seqrec_cli.evaluation.compare import protocol
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.evaluation.top_lists import not_measured
from seqrec_cli.protocols.view.build import with_candidates
from seqrec_cli.reporting.lists_table import print_lists
from seqrec_cli.reporting.reliability import draw_reliability
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.sampled_table import candidates_table
from seqrec_cli.reporting.tables import print_table, protocol_line, results_table


def main(cfg: EvaluateConfig) -> dict[str, Any]:
    """Measure one split; with `run_dir`, also write metrics.json and the users' ranks there."""
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware)
    length = run.cfg.model.max_length
    measured = run.cfg.evaluation.changed(cfg.cutoffs, cfg.beyond_accuracy)
    kinds = cfg.candidates or (view_of(run.log).candidates,)
    log = with_candidates(run.log, kinds[0])
    evaluation = evaluate(run.model, log, cfg.split, cfg=measured, max_length=length, precision=run.precision)
    rules = protocol(
        log,
        cfg.split,
        max_length=length,
        monitor=run.cfg.trainer.monitor,
        sees_target_time=run.model.sees_target_time,
        ranked_users=measured.ranked_users,
    )
    intervals = evaluation.intervals
    metrics: dict[str, Any] = {cfg.split: evaluation.metrics, "intervals": {cfg.split: intervals}, "protocol": rules}
    if kinds != ("full",):
        metrics["candidates"] = among(
            run.model,
            log,
            cfg.split,
            kinds=kinds,
            first=evaluation.ranks,
            cfg=measured,
            max_length=length,
            precision=run.precision,
        )
    if cfg.run_dir is not None:
        folder = RunFolder.allocate(cfg.run_dir, "evaluate")
        evaluation.save_ranks(folder.ranks(cfg.split))
        evaluation.clicks.save(folder.clicks(cfg.split))
        draw_reliability(folder.reliability_png(cfg.split), evaluation.reliability)
        folder.write_metrics(metrics)
        folder.write_manifest({"ckpt": cfg.ckpt})
        folder.mark_done()
    line = protocol_line(rules)
    title = f"{cfg.split} metrics"
    print_table(
        results_table(run.cfg.model.name, evaluation.metrics, {}, title=title, protocol=line, intervals=intervals)
    )
    print_lists(run.cfg.model.name, evaluation.metrics, {}, absent=not_measured(run.log))
    if kinds != ("full",):
        print_table(candidates_table(metrics["candidates"], f"{cfg.split} metrics by what targets are ranked among"))
    return metrics
