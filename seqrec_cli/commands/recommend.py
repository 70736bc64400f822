"""`seqrec recommend`: what a trained model recommends to a user of the data, or after a history, as a table."""

from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import Restored
from seqrec_cli.commands.stages import asked_run, on_newer
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import RecommendConfig
from seqrec_cli.reporting.tables import print_table, recommendations_table
from seqrec_cli.serving.recommending import Recommending, Request


def main(cfg: RecommendConfig) -> dict[str, Any]:
    """Print the table; items, scores and what of the request was read."""
    recommending = recommending_of(asked_run(cfg, cfg.hardware), cfg.newer)
    context = {name: str(value) for name, value in (cfg.context or {}).items()}
    request = Request(cfg.user, cfg.history, cfg.times, cfg.asked_at, context, cfg.top, cfg.repeats)
    answer = recommending.answer(request)
    print_table(recommendations_table(answer.items, answer.titles, answer.scores))
    if answer.unknown_items:
        say(f"left out, for the data do not have them: {', '.join(map(str, answer.unknown_items))}")
    if cfg.user is not None and not answer.known_user:
        by = "popularity" if answer.answered_by == "popularity" else "the history alone"
        say(f"user {cfg.user} is unknown to the data: recommended by {by}")
    elif answer.answered_by == "popularity":
        say("nothing of the history is known: recommended by popularity")
    return vars(answer)


def recommending_of(run: Restored, newer: str | None = None, history: int | None = None) -> Recommending:
    """A restored run, ready to answer; `newer` is a later file that users and histories are taken from, `history` how
    many events are read at most where that is fewer than the model could."""
    run, left_out = (run, None) if newer is None else on_newer(run, newer)
    longest = run.cfg.model.max_length
    if history is not None and history > longest:
        raise SeqrecError(f"history={history}: the model was trained on {longest} events; give at most {longest}")
    return Recommending(
        run.model,
        run.log,
        name=run.cfg.model.name,
        max_length=longest if history is None else history,
        precision=run.precision,
        left_out=left_out,
    )
