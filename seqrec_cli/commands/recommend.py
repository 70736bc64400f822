"""`seqrec recommend`: what a trained model recommends to a user of the data, or after a history, as a table.

Of a file of them it writes a file of answers (`recommend_file.py`).
"""

from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import Restored
from seqrec_cli.commands.stages import asked_run, on_newer
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import RecommendConfig
from seqrec_cli.reporting.tables import print_table, recommendations_table
from seqrec_cli.saying import Say
from seqrec_cli.serving.cold_start import AnsweredBy
from seqrec_cli.serving.diversity import likeness
from seqrec_cli.serving.item_filters import filters_of, hidden_items, listed_items
from seqrec_cli.serving.lists import Mmr, Wanted, answer_with
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import Request

OF_ONE = ("user", "history", "times", "asked_at", "context")
TOLD_OF_ONE = ("attributes", "item_attributes")
OF_MANY = ("output", "explain")
BYTES_A_SCORE = 32  # a float32 score, a copy of it, and what a filter that hides it takes
SHOWN = 5  # unknown ids named in a line

EVIDENCE: dict[AnsweredBy, str] = {
    "model": "the history alone",
    "attributes": "the attributes given",
    "profile": "the user's attributes in the data",
    "category": "the attributes of the history's items",
    "popularity": "popularity",
}


def main(cfg: RecommendConfig) -> dict[str, Any]:
    """Print the table; items, scores and what of the request was read. Of a file: write its answers."""
    if cfg.input is not None:
        from seqrec_cli.commands.recommend_file import recommend_file

        for name in OF_ONE:
            if getattr(cfg, name) is not None:
                raise SeqrecError(f"{name} is of one request; with input=FILE it is a column of the file")
        for name in TOLD_OF_ONE:
            if getattr(cfg, name) is not None:
                raise SeqrecError(f"{name} is of one request; with input=FILE leave it out")
        return recommend_file(cfg)
    for name in OF_MANY:
        if getattr(cfg, name):
            raise SeqrecError(
                f"{name} goes with input=FILE; leave it out"
                + ("; for one user: seqrec explain" if name == "explain" else "")
            )
    run = asked_run(cfg, cfg.hardware)
    recommending = recommending_of(run, cfg.newer, cfg.length, setting="length")
    context = {name: str(value) for name, value in (cfg.context or {}).items()}
    request = Request(
        cfg.user,
        cfg.history,
        cfg.times,
        cfg.asked_at,
        context,
        cfg.top,
        cfg.repeats,
        cfg.attributes or {},
        cfg.item_attributes or {},
    )
    answer = answer_with(recommending, request, wanted_of(recommending, cfg))
    if not answer.items:
        say("no item is left: none passes the filters and is not in the history already")
    print_table(recommendations_table(answer.items, answer.titles, answer.scores))
    if answer.unknown_items:
        say(f"left out, for the data do not have them: {', '.join(map(str, answer.unknown_items))}")
    if cfg.user is not None and not answer.known_user:
        say(f"user {cfg.user} is unknown to the data: recommended by {EVIDENCE[answer.answered_by]}")
    elif answer.answered_by != "model":
        say(f"nothing of the history is known: recommended by {EVIDENCE[answer.answered_by]}")
    return vars(answer)


def recommending_of(
    run: Restored, newer: str | None = None, history: int | None = None, *, setting: str = "history"
) -> Recommending:
    """A restored run, ready to answer; `newer` is a later file that users and histories are taken from, `history` how
    many events are read at most where that is fewer than the model could (of the `setting` that messages name)."""
    longest = run.cfg.model.max_length
    if history is not None and history > longest:
        raise SeqrecError(f"{setting}={history}: the model was trained on {longest} events; give at most {longest}")
    run, left_out = (run, None) if newer is None else on_newer(run, newer)
    return Recommending(
        run.model,
        run.log,
        name=run.cfg.model.name,
        max_length=longest if history is None else history,
        precision=run.precision,
        left_out=left_out,
    )


def wanted_of(recommending: Recommending, cfg: RecommendConfig, tell: Say = say) -> Wanted:
    """What every list is to be; `tell` hears of ids of `allow` and `deny` that the data do not have.

    Raises SeqrecError for a file, an attribute or a value that is not there, and for a model without what `mmr` needs.
    """
    allow, deny = (listed_items(getattr(cfg, name), name) for name in ("allow", "deny"))
    hidden_V1, unknown = hidden_items(recommending, filters_of(allow, deny, cfg.where))
    if unknown:
        more = f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else ""
        tell(f"of allow and deny the data do not have: {', '.join(map(str, unknown[:SHOWN]))}{more}")
    mmr = None if cfg.mmr is None else Mmr(cfg.mmr, cfg.mmr_pool, likeness(recommending, cfg.mmr_by))
    return Wanted(cfg.top, cfg.repeats, hidden_V1, mmr)


def rows_at_once(run: Restored) -> int:
    """Histories of a batch, as `evaluate` has them."""
    cfg = run.cfg.evaluation
    return max(1, min(cfg.batch_size, cfg.memory_mb * 2**20 // (BYTES_A_SCORE * (run.log.num_items + 1))))
