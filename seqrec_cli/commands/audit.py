"""`seqrec audit`: what a log, and a protocol's view of it, hide from a table of metrics."""

from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import Restored, restore
from seqrec_cli.config.audit import AuditConfig
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.evaluation.audit.drift import refuse_without_vectors
from seqrec_cli.evaluation.audit.order import Burst
from seqrec_cli.evaluation.audit.perturbed import Measuring
from seqrec_cli.evaluation.audit.report import audit
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.reporting.audit_report import audit_table, changes_of, changes_table, draw_audit, language_table
from seqrec_cli.reporting.drift_table import drift_table
from seqrec_cli.reporting.run_folder import RunFolder, to_json
from seqrec_cli.reporting.tables import print_table
from seqrec_cli.training.precision import resolve_precision

# Of a ranking, of which an audit makes a dozen and more: of a large corpus fewer requests are ranked.
MOST_SCORES = 2**28
LEAST_RANKED = 500


def main(cfg: AuditConfig) -> dict[str, Any]:
    """Print a verdict a question, and what other orders of the events change; JSON and a picture with `run_dir`."""
    run: Restored | None = None
    if cfg.ckpt is not None:
        run = restore(cfg.ckpt, None, None, hardware=cfg.hardware)
        dataset, protocol, log, precision = run.cfg.dataset, run.cfg.protocol, run.log, run.precision
    else:
        assert cfg.dataset is not None
        precision = resolve_precision(cfg.hardware)
        dataset, protocol = cfg.dataset, cfg.protocol
        log = with_view(prepare(dataset, Path(cfg.data_dir), say), protocol, say)
    folder = None if cfg.run_dir is None else RunFolder.allocate(cfg.run_dir, "audit")
    affordable = max(LEAST_RANKED, MOST_SCORES // (log.num_items + 1))
    evaluation = cfg.evaluation.model_copy(update={"ranked_users": min(cfg.requests, affordable)})
    length = cfg.max_length if run is None else run.cfg.model.max_length
    how = Measuring(evaluation, precision, length, cfg.metrics, cfg.repetitions, cfg.seed)
    given = None if run is None else (run.cfg.model.name, run.model)
    if given is not None:
        refuse_without_vectors(*given, cfg.drift)
    burst = Burst(cfg.burst_seconds, cfg.burst_events)
    found = audit(
        log,
        cfg.split,
        burst=burst,
        events=cfg.events,
        requests=cfg.requests,
        tokens=cfg.tokens,
        how=how,
        given=given,
        endings=cfg.endings,
        turns=cfg.drift,
    )

    title = f"{dataset.name} {log.fingerprint[:12]}, protocol {protocol.name}, {cfg.split} requests"
    facts = {"dataset": dataset.name, "fingerprint": log.fingerprint, "protocol": protocol.name, "split": cfg.split}
    result = facts | found.plain()
    print_table(audit_table(title, result))
    if changes := changes_of(result):
        print_table(changes_table(changes))
    if turned := result["findings"].get("drift", {}).get("numbers"):
        print_table(drift_table(turned))
    if corpora := result["findings"].get("language", {}).get("numbers"):
        print_table(language_table(corpora))
    if folder is not None:
        (folder.path / "audit.json").write_text(to_json(result, "audit.json", indent=2) + "\n", encoding="utf-8")
        draw_audit(folder.path / "audit.png", title, log=log, found=result)
        folder.mark_done()
        say(str(folder.path))
    return result
