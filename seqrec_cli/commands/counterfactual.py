"""`seqrec counterfactual`: what a run's order of logged lists would have earned, though another one was shown."""

from typing import Any

import numpy as np

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import Restored, folder_of, restore
from seqrec_cli.config.counterfactual import CounterfactualConfig
from seqrec_cli.config.errors import SeqrecError, of_a_run
from seqrec_cli.evaluation.evaluate import measuring, score_clicks
from seqrec_cli.evaluation.logged.estimators import Shown, as_plain, estimates, places_of, worths
from seqrec_cli.evaluation.logged.position_bias import click_rates, propensities
from seqrec_cli.evaluation.stored import StoredClicks
from seqrec_cli.reporting.counterfactual_report import counterfactual_tables
from seqrec_cli.reporting.openings import count_opening, new_opening, opened_words
from seqrec_cli.reporting.run_folder import RunFolder, to_json
from seqrec_cli.reporting.tables import print_table


def main(cfg: CounterfactualConfig) -> dict[str, Any]:
    """Print the estimates of each metric, and the chances they rest on; with `run_dir`, also write them as JSON."""
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware)
    if not run.cfg.protocol.needs_impressions:
        raise SeqrecError(
            f"ckpt={cfg.ckpt}: protocol={run.cfg.protocol.name} has no lists that were shown; train with "
            "protocol=impressions or impressions_by_user on a log that has them"
        )
    folder = None if cfg.run_dir is None else RunFolder.allocate(cfg.run_dir, "counterfactual")
    trained = run.log.clicks["train"]
    looked_K = propensities(trained, cfg.propensities)
    if cfg.split == "test":
        opened = count_opening(run.log, "counterfactual", opening=new_opening(), run=RunFolder(folder_of(cfg.ckpt)))
        say(opened_words(opened))
    clicks = _scored(run, cfg)
    outcome = None if cfg.outcome is None else _outcome(cfg.outcome, cfg, run)
    places_N = places_of(clicks.requests_N)
    shown = Shown(
        clicks.users_N,
        clicks.requests_N,
        clicks.labels_N,
        looked_K[np.minimum(places_N, len(looked_K)) - 1],
        clicks.logits_N,
        None if outcome is None else 1 / (1 + np.exp(-outcome.logits_N)),
        cfg.clip,
    )
    found = {metric: estimates(shown, worth) for metric, worth in worths(cfg.cutoffs).items()}
    result: dict[str, Any] = {
        "model": run.cfg.model.name,
        "dataset": run.cfg.dataset.name,
        "fingerprint": run.log.fingerprint,
        "protocol": run.cfg.protocol.name,
        "split": cfg.split,
        "requests": len(shown.starts_R),
        "clicks": int((shown.clicks_N > 0).sum()),
        "effective_clicks": shown.effective_clicks,
        "clip": cfg.clip,
        "clipped_clicks": int(((shown.clicks_N > 0) & (shown.looked_N * cfg.clip < 1)).sum()),
        "outcome": cfg.outcome,
        "propensities": looked_K.tolist(),
        "click_rates": click_rates(trained).tolist(),
        "estimates": as_plain(found),
    }
    for table in counterfactual_tables(result):
        print_table(table)
    if folder is not None:
        path = folder.path / "counterfactual.json"
        path.write_text(to_json(result, path.name, indent=2) + "\n", encoding="utf-8")
        folder.mark_done()
        say(str(folder.path))
    return result


def _scored(run: Restored, cfg: CounterfactualConfig) -> StoredClicks:
    """The shown items of the split and the run's logits, ordered by user and request."""
    with measuring(run.model, run.precision):
        return score_clicks(
            run.model,
            run.log,
            cfg.split,
            cfg=run.cfg.evaluation,
            max_length=run.cfg.model.max_length,
            device=run.precision.device,
        )


def _outcome(ckpt: str, cfg: CounterfactualConfig, run: Restored) -> StoredClicks:
    try:
        outcome = restore(ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware)
    except SeqrecError as error:
        raise of_a_run(error, "outcome", ckpt) from error
    if outcome.log.fingerprint != run.log.fingerprint:
        raise SeqrecError(f"outcome={ckpt}: that run has other data or another protocol than ckpt={cfg.ckpt}")
    return _scored(outcome, cfg)
