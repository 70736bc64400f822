"""`seqrec explain`: which past events carried a score, and whether leaving them out shows that they did."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.commands.console import say
from seqrec_cli.commands.recommend import recommending_of
from seqrec_cli.commands.restore import ON_CPU, folder_of, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.explain import ExplainConfig
from seqrec_cli.data.histories import Histories, held_out_histories
from seqrec_cli.data.splits import held_out, view_of
from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.explanation import (
    WEIGHT,
    Shown,
    deletion_table,
    draw_explanation,
    explanation_table,
)
from seqrec_cli.reporting.run_folder import to_json
from seqrec_cli.reporting.tables import print_table
from seqrec_cli.serving.attribution.deletion import Deletion, Faithfulness, delete_events, faithfulness
from seqrec_cli.serving.attribution.gradients import Path as GradientPath
from seqrec_cli.serving.attribution.mattering import Mattered, history_of, mattered
from seqrec_cli.serving.attribution.methods import How
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId, Request


def main(cfg: ExplainConfig) -> dict[str, Any]:
    """Print a table an item, draw them all and write all weights; what was written."""
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=ON_CPU)
    recommending = recommending_of(run, cfg.newer)
    context = {name: str(value) for name, value in (cfg.context or {}).items()}
    png = _picture(cfg)
    request = Request(cfg.user, cfg.history, cfg.times, cfg.asked_at, context, cfg.top, None)
    how = How(cfg.method, GradientPath(cfg.gap, cfg.points))
    asked, found = explained(recommending, request, cfg.item, top=cfg.top, how=how)
    _, unknown = recommending.known_indices(cfg.history or ())
    if unknown:
        say(f"left out, for the data do not have them: {', '.join(map(str, unknown))}")
    shown = [_shown(each, cfg) for each in found]
    whose = "the history" if cfg.user is None else f"user {cfg.user}"
    for each in shown:
        print_table(explanation_table(whose, each, cfg.order))
    if cfg.item is not None and _was_seen(recommending, asked, cfg.item):
        say(f"item {cfg.item} is in the history already: this run recommends no item twice (protocol.seen=remove)")
    checked = {}
    if cfg.check:  # a later file has no held-out events
        validating = recommending if cfg.newer is None else recommending_of(run)
        checked = _checked(recommending, asked, found, cfg=cfg, how=how, validating=validating)
    draw_explanation(whose, shown, png)
    told = {"user": None if cfg.user is None else str(cfg.user), "model": run.cfg.model.name, **checked}
    told |= {"method": found[0].method, "scale": found[0].scale}
    weights = png.with_suffix(".json")
    all_of_it = {**told, "items": [asdict(each) for each in found]}
    write_atomically(weights, to_json(all_of_it, weights.name, indent=2) + "\n")
    for path in (png, weights):
        say(str(path))
    items = [vars(each) | {"gap": of.gap, "baseline": of.baseline} for each, of in zip(shown, found, strict=True)]
    return {**told, "items": items, "picture": str(png), "weights": str(weights)}


def explained(
    recommending: Recommending, request: Request, item: RawId | None, *, top: int, how: How
) -> tuple[Histories, list[Mattered]]:
    """The history, and the item, or the `top` best that the run's protocol ranks, with what each event weighed in them.

    Raises SeqrecError for unknown ids, and for a method that the model does not bear.
    """
    asked = history_of(recommending, request)
    if item is None:
        _, items_C, _ = recommending.best(asked, top, repeats=None, rows_at_once=1)
        if not len(items_C):
            raise SeqrecError("the history holds every item of the data, so there is nothing left to recommend")
    else:
        items_C = recommending.indices([item])
        if recommending.left_out is not None and int(items_C[0]) in recommending.left_out.tolist():
            raise SeqrecError(f"item={item}: training never saw it, so its score rests on nothing; take another")
    return asked, mattered(recommending, asked, items_C.tolist(), how=how)


def _was_seen(recommending: Recommending, asked: Histories, item: RawId) -> bool:
    if view_of(recommending.log).seen == "keep":
        return False
    return bool(np.isin(recommending.indices([item]), asked.seen(np.zeros(1, np.int64))[1]).any())


def _shown(found: Mattered, cfg: ExplainConfig) -> Shown:
    events = found.shown(cfg.events, cfg.order)
    note = WEIGHT[(found.method, found.scale)]
    if found.baseline is not None:
        total = sum(event.weight for event in found.events)
        note += f" ({total:+.4f} of {found.score - found.baseline:+.4f}, the baseline's being {found.baseline:.4f})"
    titles = [str(event.title) for event in events] if found.title is not None else None
    times = [event.time for event in events if event.time is not None]
    return Shown(
        item=str(found.item),
        score=found.score,
        events=[str(event.item) for event in events],
        titles=titles,
        times=times if len(times) == len(events) else None,
        weights=[event.weight for event in events],
        read=len(found.events),
        note=note,
    )


def _picture(cfg: ExplainConfig) -> Path:
    if cfg.out is not None:
        png = Path(cfg.out).expanduser()
        png = png if png.suffix else png.with_suffix(".png")
        if png.suffix.lower() == ".json":
            raise SeqrecError(f"out={cfg.out}: the picture's file (.png, .svg or .pdf); weights are written beside it")
        return png
    name = "history" if cfg.user is None else re.sub(r"[^\w.+-]+", "-", str(cfg.user))
    return folder_of(cfg.ckpt) / f"explain_{name}.png"


def _checked(
    recommending: Recommending,
    asked: Histories,
    found: list[Mattered],
    *,
    cfg: ExplainConfig,
    how: How,
    validating: Recommending,
) -> dict[str, Any]:
    """The deletion test of this history and of the validation requests of another log, printed."""
    settings, rows = cfg.deletion, []
    rng = np.random.default_rng(settings.seed)
    own: list[Deletion | None] = []
    for each in found:
        one = delete_events(
            recommending,
            asked,
            int(recommending.indices([each.item])[0]),
            weights_L=np.array([event.weight for event in each.events]),
            removed=settings.removed,
            draws=settings.draws,
            rng=rng,
        )
        own.append(one)
        if one is not None:
            rows.append((f"item {each.item}", one.named, one.random, one.least))
    short = f"fewer than {2 * settings.removed} events"
    if None in own:
        say(f"the history has {short}: nothing is left out of it (deletion.removed={settings.removed})")
    validation = _on_validation(validating, cfg, how=how)
    if validation is not None:
        label = f"mean of {validation.histories} validation requests"
        rows.append((label, validation.named, validation.random, validation.least))
    if rows:
        print_table(deletion_table(rows, settings.removed, settings.draws))
    if validation is None:
        say(f"all validation requests drawn have {short}; lower deletion.removed")
    else:
        say(_verdict(validation))
        if validation.too_short:
            say(f"{validation.too_short} validation requests have {short}, and are left out")
    plain = [None if one is None else asdict(one) for one in own]
    return {"check": {"items": plain, "validation": None if validation is None else asdict(validation)}}


def _on_validation(recommending: Recommending, cfg: ExplainConfig, *, how: How) -> Faithfulness | None:
    settings, targets = cfg.deletion, held_out(recommending.log, "val")
    drawn = np.random.default_rng(settings.seed).permutation(len(targets.rows_R))[: settings.users]
    histories = held_out_histories(recommending.log, targets.at(np.sort(drawn)))
    return faithfulness(
        recommending, histories, how=how, removed=settings.removed, draws=settings.draws, seed=settings.seed
    )


def _verdict(found: Faithfulness) -> str:
    low, high = found.interval or (found.above_random, found.above_random)
    between = "" if found.interval is None else f" [{low:+.4f}, {high:+.4f}]"
    line = (
        f"named less random {found.above_random:+.4f}{between}; the named ones changed the score more than random ones "
        f"in {found.beats_random:.0%} of the histories, more than the least in {found.beats_least:.0%}"
    )
    if low > 0:
        return f"faithful: {line}"
    return f"WARNING: not shown to be faithful: {line}"
