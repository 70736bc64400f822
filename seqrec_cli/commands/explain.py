"""`seqrec explain`: which past events carried a user's scores, from the attention of a trained model.

Legend: L history events, C explained items.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import ON_CPU, Restored, folder_of, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import ExplainConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.histories import logged_histories
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.models.contract import Recommender
from seqrec_cli.reporting.explanation import Explained, draw_explanation, explanation_table
from seqrec_cli.reporting.tables import print_table


def main(cfg: ExplainConfig) -> dict[str, Any]:
    """Print a table an item and draw them all; the items, their scores and their events' weights."""
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=ON_CPU)
    explanations, events = explained(run, cfg.user, cfg.item, top=cfg.top, events=cfg.events)
    for each in explanations:
        print_table(explanation_table(str(cfg.user), each, events))
    png = folder_of(cfg.ckpt) / f"explain_{cfg.user}.png" if cfg.out is None else Path(cfg.out).expanduser()
    draw_explanation(str(cfg.user), explanations, png)
    say(str(png))
    return {"user": str(cfg.user), "items": [vars(each) for each in explanations], "picture": str(png)}


def explained(
    run: Restored, user: str | int, item: str | int | None, *, top: int, events: int
) -> tuple[list[Explained], int]:
    """The item, or the `top` best for a user, each with the `events` past events that weighed most; and how many events
    the model read. Raises SeqrecError for unknown ids, and for a model without attention."""
    assert run.log.folder is not None
    user_ids, item_ids = (vocabulary(run.log.folder, name) for name in ("users", "items"))
    row = _row(user, user_ids, "user")
    batch = logged_histories(run.log, np.array([row])).batch(np.array([0]), run.cfg.model.max_length)
    on_device, model = batch.to(run.precision.device), run.model.eval()
    with torch.inference_mode():
        scores_V = model.score_corpus(on_device)[0].float().cpu()
        items_C = [1 + _row(item, item_ids, "item")] if item is not None else _best(scores_V, run.log, row, top=top)
        weights_LC = _attention(model, on_device, items_C, name=run.cfg.model.name)
    events_L = batch.items_BL[0].tolist()
    times_L = None if batch.times_BL is None else batch.times_BL[0].tolist()
    explanations = []
    for nth, index in enumerate(items_C):
        order = np.argsort(-np.abs(weights_LC[:, nth]), kind="stable")[:events].tolist()
        explanations.append(
            Explained(
                str(item_ids[index - 1]),
                float(scores_V[index]),
                [str(item_ids[events_L[event] - 1]) for event in order],
                None if times_L is None else [times_L[event] for event in order],
                [float(weights_LC[event, nth]) for event in order],
            )
        )
    return explanations, len(events_L)


def _row(raw_id: str | int, ids: np.ndarray, kind: str) -> int:
    rows = np.flatnonzero(ids.astype(str) == str(raw_id))
    if not len(rows):
        raise SeqrecError(f"{kind}={raw_id}: the data has no such {kind} (ids such as {ids[0]}, {ids[-1]})")
    return int(rows[0])


def _best(scores_V: torch.Tensor, log: PackedLog, row: int, *, top: int) -> list[int]:
    """The highest scores among the items that the run's protocol ranks: those the user has not seen, or all."""
    seen = np.unique(log.items_N[log.offsets_U1[row] : log.offsets_U1[row + 1]])
    seen = seen[:0] if view_of(log).seen == "keep" else seen
    left_V = scores_V.clone()
    left_V[torch.from_numpy(np.append(seen, 0).astype(np.int64))] = -torch.inf
    best: list[int] = left_V.topk(min(top, log.num_items - len(seen))).indices.tolist()
    return best


def _attention(model: Recommender, batch: Batch, items_C: list[int], *, name: str) -> np.ndarray:
    weights_BLC = model.attention(batch, torch.tensor([items_C], device=batch.items_BL.device))
    if weights_BLC is None:
        raise SeqrecError(
            f"model={name} has no attention over a history's events to show; train din, dien, dsin or bst to explain"
        )
    return weights_BLC[0].float().cpu().numpy()
