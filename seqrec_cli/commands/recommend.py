"""`seqrec recommend`: what a trained model recommends to a user of the data, or after a history, as a table."""

from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import Restored, restore
from seqrec_cli.config.records import RecommendConfig
from seqrec_cli.reporting.tables import print_table, recommendations_table
from seqrec_cli.serving.recommending import Recommending, Request


def main(cfg: RecommendConfig) -> dict[str, Any]:
    """Print the table; items, scores and what of the request was read."""
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, cfg.hardware)
    request = Request(cfg.user, cfg.history, cfg.times, cfg.asked_at, cfg.context, cfg.top, cfg.repeats)
    found = recommending_of(run).answer(request)
    print_table(recommendations_table(found.items, found.titles, found.scores))
    if found.unknown_items:
        say(f"left out, for the data do not have them: {', '.join(map(str, found.unknown_items))}")
    if cfg.user is not None and not found.known_user:
        say(f"user {cfg.user} is unknown to the data: recommended by the history alone")
    return vars(found)


def recommending_of(run: Restored) -> Recommending:
    """A restored run, ready to answer."""
    return Recommending(run.model, run.cfg.model.name, run.log, run.cfg.model.max_length, run.precision)
