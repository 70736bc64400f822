"""From an item to its users and back, again and again: how far a model's answers drift.

"If you have ever tried machine translators to convert the text between two languages back and forth to see how the
outputs gradually out of control, that is what I mean by the need of consistency and robustness" (Huang, critique of
SASRec, section 4.4). A user here is the state q_u that the model makes of the history before a held-out event. One turn
takes an item v to a vector made of users, and that to the item that it fits best, by its score or by its angle alone
(scores lean to items with long vectors or a large bias, which are the popular ones):

    x_v = mean of q_u over the users of v,    f(v) = argmax_w (x_v . e_w + b_w)  or  argmax_w cos(x_v, e_w)

Which users are v's, and in which state, is read three ways:

- `before`: all with v among their training events, in their states before they had it, in windows as training has them
  (of causal encoders alone): "the sequence of user embeddings".
- `now`: the same users in their states at validation, which have read v.
- `shown`: the USERS users who take it most likely, by log softmax_w(q_u . e_w + b_w)[v]; whom the model would show it.
  A score itself tells nothing between users, whose scores of all items may be high; those who have had it are not left
  out.

A turn depends on the item alone, so all is told by f. After every turn: the share of starts that are back where they
began, the mean cosine of the vectors of the item reached and of the start, the share of the start's NEIGHBOURS nearest
items (by cosine) that are as near to the item reached, how many different items are left, and their mean percentile of
popularity. Beside them, the mean cosine of any two items: in a narrow cone all cosines are high. Starts are items with
training events, those of quarters by their number too.

Legend: R users asked, S starts, V items, D width, n turns, C items at once.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.blocks import user_blocks
from seqrec_cli.data.devices import widest_float
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.loader import request_batches, target_batches, windows
from seqrec_cli.data.splits import held_out, subsample, train_ends, training_counts
from seqrec_cli.evaluation.audit.finding import Finding, percent
from seqrec_cli.evaluation.audit.perturbed import Measuring
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.rollouts.measure import popularity_percentiles
from seqrec_cli.models.contract import Recommender, SequenceEncoder, corpus_scores

USERS, NEIGHBOURS = 10, 10
QUARTERS = 4
HOME = 0.5  # of items that are back after one turn; under it, users of most items stand for others
FP32_BYTES = 4
COPIES = 4  # of a block of scores: it, and what is made of it
Way = Literal["before", "now", "shown"]
Fit = Literal["score", "cosine"]
SHOWN: Way = "shown"
FITS: tuple[Fit, ...] = ("score", "cosine")


def refuse_without_vectors(name: str, model: Recommender, turns: int) -> None:
    """Raises SeqrecError for a model whose scores are no inner products of users' and items' vectors."""
    if turns and not (isinstance(model, SequenceEncoder) and model.scores_by_product):
        raise SeqrecError(
            f"drift={turns}: model={name} scores without vectors of users and items, so there is no way back from "
            "users to an item; use an encoder (model=sasrec), or drift=0"
        )


def drift(given: tuple[str, Recommender], log: PackedLog, *, turns: int, most: int, how: Measuring) -> Finding:
    """Every way, of at most `most` starts, drawn at random: users are those of validation requests (`ranked_users`),
    and starts are items that one of them had in training."""
    name, model = given
    assert isinstance(model, SequenceEncoder)  # see `refuse_without_vectors`
    with measuring(model, how.precision):
        space, counts_V = Space.of(model, log, how), training_counts(log)
    with torch.inference_mode():  # outside of the run's number format
        known = np.flatnonzero(space.had_V.cpu().numpy())
        starts_S = np.sort(np.random.default_rng([how.seed, 5]).permutation(known)[:most])
        ways = [
            _turned(space, starts_S, counts_V, way=way, fit=fit, turns=turns)
            for way in (*space.of_log, SHOWN)
            for fit in FITS
        ]
        numbers = {
            "users": len(space.states_RD),
            "starts": len(starts_S),
            "shown_to": min(USERS, len(space.states_RD)),
            "neighbours": NEIGHBOURS,
            "cosine_of_any_two": space.cosine_of_any_two(known),
            "ways": ways,
        }
    of_ways = [(found["way"], found["fit"], found["turns"]) for found in ways]
    text = "; ".join(
        f"{way}: {percent(found[0]['back'])} back after one turn, {percent(found[-1]['back'])} after {turns} (cosine "
        f"{found[-1]['cosine']:.2f}, {found[-1]['different']:,} different items)"
        for way, fit, found in of_ways
        if fit == "score"
    )
    question = f"item to users to item ({name})"
    if min(found[0]["back"] for _, _, found in of_ways) >= HOME:
        return Finding("drift", question, "ok", text, numbers=numbers)
    advice = "the users of most items stand for others (objective=dual draws the two together)"
    return Finding("drift", question, "look", text, advice, numbers)


@dataclass(frozen=True)
class Space:
    """A model's vectors of users and items."""

    states_RD: Tensor
    table_VD: Tensor  # [V + 1, D] in fp32
    bias_V: Tensor | None
    of_log: dict[Way, Tensor]  # the mean states [V + 1, D] of those who had each item in training
    had_V: Tensor  # whether anybody had it
    memory_mb: int

    @classmethod
    def of(cls, model: SequenceEncoder, log: PackedLog, how: Measuring) -> "Space":
        device, cfg = how.precision.device, how.evaluation
        targets = subsample(held_out(log, "val"), cfg.ranked_users)
        rows_R, firsts = np.unique(targets.rows_R, return_index=True)
        targets, length = targets.at(firsts), how.max_length
        if not len(rows_R):
            raise SeqrecError("drift: nobody has a validation request, whose history would be a user's state")
        table_VD, bias_V = model.item_table().float(), model.item_bias()
        states_RD = table_VD.new_zeros(len(rows_R), table_VD.shape[1])
        for picked_B, batch in target_batches(log, targets, max_length=length, batch_size=cfg.batch_size):
            states_RD[torch.from_numpy(picked_B).to(device)] = model.last(batch.to(device)).float()
        if not torch.isfinite(states_RD).all():
            raise SeqrecError("the model gives states that are NaN or infinite; its training has diverged")
        now_VD, had_V = _means_now(log, rows_R, states_RD, size=len(table_VD))
        of_log: dict[Way, Tensor] = {"now": now_VD}
        if model.causal:
            of_log = {"before": _means_before(model, log, rows_R, now_VD=now_VD, how=how), **of_log}
        bias_V = None if bias_V is None else bias_V.float()
        return cls(states_RD, table_VD, bias_V, of_log, had_V, cfg.memory_mb)

    def blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Items or users in blocks whose scores, of all users or items, fit the memory."""
        columns = max(len(self.table_VD), len(self.states_RD))
        return rows.split(max(1, self.memory_mb * 2**20 // (COPIES * FP32_BYTES * columns)))

    @cached_property
    def unit_VD(self) -> Tensor:
        """The items' vectors, each of length 1."""
        return F.normalize(self.table_VD, dim=1)

    @cached_property
    def likelihoods_R(self) -> Tensor:
        """The log of the sum over items of each user's exponentiated scores."""
        parts = []
        for rows in self.blocks(torch.arange(len(self.states_RD), device=self.states_RD.device)):
            parts.append(corpus_scores(self.states_RD[rows], self.table_VD, self.bias_V)[:, 1:].logsumexp(1))
        return torch.cat(parts)

    def made(self, items: Tensor, way: Way) -> Tensor:
        """The vectors made of the items' users, [C, D]; zero for an item that none of them had."""
        if way != SHOWN:
            return self.of_log[way][items]
        scores_CR = self.table_VD[items] @ self.states_RD.T - self.likelihoods_R  # an item's bias is the same for all
        best_CM = scores_CR.topk(min(USERS, len(self.states_RD)), dim=1).indices
        return self.states_RD[best_CM].mean(1)

    @cached_property
    def _near(self) -> tuple[Tensor, Tensor]:
        """Neighbours [V + 1, K] of items that were asked about, and whether each was, [V + 1]."""
        size, device = len(self.table_VD), self.table_VD.device
        near_VK = torch.zeros((size, min(NEIGHBOURS, size - 2)), dtype=torch.int64, device=device)
        return near_VK, torch.zeros(size, dtype=torch.bool, device=device)

    def neighbours(self, items: Tensor) -> Tensor:
        """The nearest items by cosine, without the item itself, [S, K]; each item's are looked for once."""
        near_VK, asked_V = self._near
        new = items.unique()
        for items_C in self.blocks(new[~asked_V[new]]):
            cosines_CV = self.unit_VD[items_C] @ self.unit_VD.T
            cosines_CV[:, 0] = -torch.inf
            cosines_CV.scatter_(1, items_C[:, None], -torch.inf)
            near_VK[items_C] = cosines_CV.topk(near_VK.shape[1], dim=1).indices
        asked_V[new] = True
        return near_VK[items]

    def cosine_of_any_two(self, items: np.ndarray) -> float | None:
        """The mean over pairs of different items."""
        if len(items) < 2:
            return None
        device = self.table_VD.device
        unit_VD = self.unit_VD[torch.from_numpy(items).to(device)].to(widest_float(device))
        total, own = unit_VD.sum(0).square().sum(), unit_VD.square().sum()
        return float((total - own) / (len(items) * (len(items) - 1)))


def _means_now(log: PackedLog, rows_R: np.ndarray, states_RD: Tensor, *, size: int) -> tuple[Tensor, Tensor]:
    """The mean state of the users who had each item in training, [V + 1, D], and whether anybody had it, [V + 1]."""
    sums_VD, counts_V = states_RD.new_zeros(size, states_RD.shape[1]), states_RD.new_zeros(size)
    starts_R, ends_R = np.asarray(log.offsets_U1)[rows_R], train_ends(log)[rows_R]
    offsets_R1 = np.concatenate([[0], np.cumsum(ends_R - starts_R)])
    for users, _ in user_blocks(offsets_R1):
        lengths = (ends_R - starts_R)[users]
        rows_N = np.repeat(np.arange(users.start, users.stop), lengths)
        pairs_N = np.unique(np.stack([rows_N, log.items_N[ragged_ranges(starts_R[users], lengths)]]), axis=1)
        rows, items = (torch.from_numpy(each.astype(np.int64)).to(states_RD.device) for each in pairs_N)
        sums_VD.index_add_(0, items, states_RD[rows])
        counts_V.index_add_(0, items, torch.ones_like(items, dtype=counts_V.dtype))
    return sums_VD / counts_V.clamp(min=1)[:, None], counts_V > 0


def _means_before(
    model: SequenceEncoder, log: PackedLog, rows_R: np.ndarray, *, now_VD: Tensor, how: Measuring
) -> Tensor:
    """The mean of the states before each item's training events, [V + 1, D]; for an item that was only ever a user's
    first, those of `now_VD`."""
    device, length = now_VD.device, how.max_length
    sums_VD, counts_V = torch.zeros_like(now_VD), torch.zeros_like(now_VD[:, 0])
    offsets_U1 = np.asarray(log.offsets_U1)
    rows_W, starts_W, lengths_W = windows(offsets_U1, train_ends(log), length, kind="sliding", stride=None)
    asked_W = np.isin(rows_W, rows_R)
    rows_W, ends_W = rows_W[asked_W], (starts_W + lengths_W - 1)[asked_W]
    of_size = how.evaluation.batch_size
    for picked_B, batch in request_batches(log, rows_W, ends_W, max_length=length, batch_size=of_size):
        states_BLD = model.encode(batch.to(device)).float()
        read_BL = batch.mask_BL.numpy()
        starts_B1 = (ends_W[picked_B] - read_BL.sum(1))[:, None]
        next_BL = starts_B1 + 1 + np.arange(read_BL.shape[1])
        items = torch.from_numpy(np.asarray(log.items_N[next_BL[read_BL]], np.int64)).to(device)
        sums_VD.index_add_(0, items, states_BLD[batch.mask_BL.to(device)])
        counts_V.index_add_(0, items, torch.ones_like(items, dtype=counts_V.dtype))
    return torch.where(counts_V[:, None] > 0, sums_VD / counts_V.clamp(min=1)[:, None], now_VD)


def _turned(
    space: Space, starts_S: np.ndarray, counts_V: np.ndarray, *, way: Way, fit: Fit, turns: int
) -> dict[str, Any]:
    """What every turn does to the starts, and to those of each quarter by training events."""
    device = space.table_VD.device
    unit_VD, start_S = space.unit_VD, torch.from_numpy(starts_S).to(device)
    after_V = torch.zeros(len(space.table_VD), dtype=torch.int64, device=device)  # f; 0: not yet asked
    cosines, ranks = [], []
    at_S, of_turns = start_S, []
    near_SK = space.neighbours(start_S)
    percentiles_V = torch.from_numpy(popularity_percentiles(counts_V)).to(device)
    for turn in range(turns):
        new = at_S.unique()
        for items_C in space.blocks(new[after_V[new] == 0]):
            made_CD = space.made(items_C, way)
            if fit == "score":
                scores_CV = corpus_scores(made_CD, space.table_VD, space.bias_V)
            else:
                scores_CV = F.normalize(made_CD, dim=1) @ unit_VD.T
            scores_CV[:, 0] = -torch.inf
            reached_C = scores_CV.argmax(1)
            if way != SHOWN:  # an item that nobody had stays where it is
                reached_C = torch.where(space.had_V[items_C], reached_C, items_C)
            after_V[items_C] = reached_C
            if turn == 0:
                cosines.append((F.normalize(made_CD, dim=1) * unit_VD[items_C]).sum(1))
                ranks.append(1 + (scores_CV > scores_CV.gather(1, items_C[:, None])).sum(1))
        at_S = after_V[at_S]
        kept_SK = (space.neighbours(at_S)[:, :, None] == near_SK[:, None]).any(1)
        of_turns.append(
            {
                "back": (at_S == start_S).float(),
                "cosine": (unit_VD[at_S] * unit_VD[start_S]).sum(1),
                "neighbours": kept_SK.float().mean(1),
                "popularity": percentiles_V[at_S].float(),
                "at": at_S,
            }
        )
    quarter_S = _quarters(counts_V[starts_S])
    return {
        "way": way,
        "fit": fit,
        "cosine_of_made": float(torch.cat(cosines).mean()),
        "median_rank_of_made": float(torch.cat(ranks).float().median()),
        "turns": [_means(found, slice(None)) for found in of_turns],
        "by_popularity": [
            {
                "items": int(here.sum()),
                "events": [int(counts_V[starts_S[here]].min()), int(counts_V[starts_S[here]].max())],
                "turns": [_means(found, torch.from_numpy(here).to(device)) for found in of_turns],
            }
            for here in (quarter_S == quarter for quarter in range(QUARTERS))
            if here.any()
        ],
    }


def _means(found: dict[str, Tensor], which: Any) -> dict[str, float]:
    means = {name: float(values_S[which].mean()) for name, values_S in found.items() if name != "at"}
    return means | {"different": len(found["at"][which].unique())}


def _quarters(counts_S: np.ndarray) -> np.ndarray:
    """Which quarter each start is in, the rarest in 0; equal counts in one."""
    edges = np.quantile(counts_S, np.arange(1, QUARTERS) / QUARTERS)
    return np.searchsorted(edges, counts_S, side="left")
