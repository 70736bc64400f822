"""`seqrec export`: a run's model as a program that needs no seqrec, proved by loading it again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.commands.card import subject_of
from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import ON_CPU, Restored, folder_of, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.export import ExportConfig
from seqrec_cli.data.splits import view_of
from seqrec_cli.evaluation.evaluate import measuring, rank, score_clicks
from seqrec_cli.export.beside import loading_lines, proof_lines, words_of_format, words_of_loading
from seqrec_cli.export.formats import WriteCard, check_format, export
from seqrec_cli.export.gate import Measure
from seqrec_cli.export.options import Options
from seqrec_cli.metrics.kinds import ClickMetric
from seqrec_cli.metrics.table import LOSS, compute_metrics, is_list_metric, parse_metric
from seqrec_cli.models.contract import Recommender
from seqrec_cli.reporting.model_card import Section, fenced, sections_of, title_of, write_card
from seqrec_cli.reporting.run_folder import RunFolder

SLOWER = 1.1  # times as long: more is said


def main(cfg: ExportConfig) -> dict[str, Any]:
    """Write the program and what belongs to it; what was written and how it compares with the checkpoint."""
    options = Options(cfg.quantize, cfg.index if cfg.format == "embeddings" else None)
    check_format(cfg.format, options)
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=ON_CPU)
    trained = run.cfg.model.max_length
    if cfg.history is not None and cfg.history > trained:
        raise SeqrecError(f"history: {cfg.history} events are more than the model reads (model.max_length={trained})")
    length = trained if cfg.history is None else cfg.history
    folder = folder_of(cfg.ckpt) / "export" if cfg.out is None else Path(cfg.out).expanduser()
    metric = _metric(run)
    written = export(
        run.model,
        run.log,
        length,
        format=cfg.format,
        folder=folder,
        tolerance=cfg.tolerance,
        options=options,
        measure=_measure(run, metric, users=cfg.users, length=length),
        metric=metric,
        card=_card(run, RunFolder(folder_of(cfg.ckpt))),
        tell=say,
    )
    _report(written)
    return written


def _metric(run: Restored) -> str:
    """The metric that chose the run's weights, or, where no single model has it, its first one of ranks."""
    monitor = run.cfg.trainer.monitor
    if monitor == LOSS or is_list_metric(monitor):
        return f"ndcg@{run.cfg.evaluation.cutoffs[-1]}"
    return monitor


def _measure(run: Restored, metric: str, *, users: int, length: int) -> Measure:
    """The metric of a model on at most so many validation requests; of a click metric, on as many labelled rows."""
    cfg, device = run.cfg.evaluation, run.precision.device
    cfg = cfg.model_copy(update={"ranked_users": min(users, cfg.ranked_users or users)})
    entry = parse_metric(metric)[0]
    log = run.log
    if isinstance(entry, ClickMetric) and len(log.clicks["val"].rows_R) > users:
        clicks = log.clicks["val"]
        picked = np.sort(np.random.default_rng(0).permutation(len(clicks.rows_R))[:users])
        log = replace(log, view=replace(view_of(log), clicks={**log.clicks, "val": clicks.at(picked)}))

    def measure(model: Recommender) -> float:
        with measuring(model, run.precision):
            if isinstance(entry, ClickMetric):
                scored = score_clicks(model, log, "val", cfg=cfg, max_length=length, device=device)
                return float(entry.of(scored.labels_N, scored.logits_N, scored.users_N))
            ranks = rank(model, log, "val", cfg=cfg, max_length=length, device=device)
        return compute_metrics(cfg.cutoffs, ranks=ranks)[metric]

    return measure


def _card(run: Restored, folder: RunFolder) -> WriteCard:
    """The run's card, with what the program adds to it."""
    subject = subject_of(run, folder)

    def write(into: Path, facts: dict[str, Any], loading: tuple[str, str]) -> None:
        head, *rest = sections_of(subject)
        code = fenced("\n".join(loading_lines(facts, loading)), "python")
        added = [
            Section("How it compares with the checkpoint", proof_lines(facts["proof"])),
            Section("Loading", [*code, "", *words_of_loading(facts)]),
        ]
        sections = [Section("", [*head.lines, "", *words_of_format(facts)]), *rest, *added]
        write_card(into, title_of(subject), sections)

    return write


def _report(written: dict[str, Any]) -> None:
    ms, own = written["ms"], written["ms_checkpoint"]
    say(
        f"scores of the reloaded program differ by at most {written['max_difference']:.2g}; of its top 10, "
        f"{written['top10']:.1%} are the checkpoint's"
    )
    say(f"{written['metric']} on validation: {written['metric_now']:.4f}, the checkpoint {written['metric_was']:.4f}")
    say(
        f"one request {ms['one']:.2g} ms, 256 together {ms['many']:.3g} ms; the checkpoint {own['one']:.2g} and "
        f"{own['many']:.3g} ms"
    )
    if "recall10" in written:
        say(
            f"the index finds {written['recall10']:.1%} of the exact top 10, in {written['search_ms']:.2g} ms a request"
        )
    if "fp32" in written:
        plain = written["fp32"]
        say(
            f"quantize={written['quantize']}: {_mb(written['bytes'])}, the metric changes by "
            f"{written['metric_now'] - written['metric_was']:+.4f}; fp32: {_mb(plain['bytes'])}, one request "
            f"{plain['ms']['one']:.2g} ms, 256 together {plain['ms']['many']:.3g} ms"
        )
        slower = [name for name in ("one", "many") if ms[name] > SLOWER * plain["ms"][name]]
        if slower:
            words = " and ".join({"one": "one request", "many": "256 together"}[name] for name in slower)
            say(f"warning: quantize={written['quantize']} is slower here than fp32 for {words}; it only saves space")
    say(written["folder"])


def _mb(size: int) -> str:
    return f"{size / 2**20:,.2f} MB"
