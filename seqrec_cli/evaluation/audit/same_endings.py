"""Whether users with the same last k events get different answers: how personal a model is.

The critique of SASRec says that whoever interacted with the same items is told the same item next. Counted are users
whose ten best items are not those of another user with the same last k events, in any order:

- `natural`: the users of a log who happen to share their last k events, each beside the next of them (the last beside
  the first). They are few, and what they share is what is popular.
- `planted`: the last k events of some users, put behind the whole history of every one of some others, each beside the
  next of them. As `history` the same rows ask for an unknown user, so that the earlier events alone speak; as `user`
  the rows are the k events alone and the known users, so that nothing but who they are can speak.

Of the ending itself no item is in a list where a protocol removes what was seen; earlier events stay candidates, or
lists would differ by them alone. A planted event happens as in a rollout, a median gap of the history after the last.

Legend: R requests, B rows, K items a list, k events of an ending, V items.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.view import HeldOut
from seqrec_cli.evaluation.audit.finding import Finding, percent
from seqrec_cli.evaluation.audit.perturbed import Measuring
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.rollouts.continuations import Continuations, Growing
from seqrec_cli.evaluation.top_lists import top_items
from seqrec_cli.models.contract import Recommender

TOP = 10
BYTES_A_SCORE = 16  # scores, and what is kept beside them to find the best
DONORS, USERS = 8, 64  # of planted endings, and of users under whose histories each is put
PERSONAL = 0.5  # planted lists that differ; under it the last events speak nearly alone


@dataclass(frozen=True)
class Compared:
    """Lists compared: the users that have a partner, the share whose list is another, and the mean items in common."""

    users: int
    differ: float | None
    common: float | None

    @classmethod
    def of(cls, lists_BK: np.ndarray, groups_B: np.ndarray) -> "Compared":
        """Each row beside the next of its group; rows of a group stand together."""
        firsts = np.flatnonzero(np.diff(groups_B, prepend=-1))
        next_B = np.arange(1, len(groups_B) + 1)
        lasts = np.append(firsts[1:], len(groups_B)) - 1 if len(groups_B) else firsts
        next_B[lasts] = firsts
        paired_B = next_B != np.arange(len(groups_B))
        if not paired_B.any():
            return cls(0, None, None)
        mine_PK, other_PK = lists_BK[paired_B], lists_BK[next_B[paired_B]]
        common_P = ((mine_PK[:, :, None] == other_PK[:, None]) & (mine_PK[:, :, None] > 0)).sum((1, 2))
        whole_P = np.maximum((mine_PK > 0).sum(1), (other_PK > 0).sum(1))
        return cls(int(paired_B.sum()), float((common_P < whole_P).mean()), float(common_P.mean()))


def same_endings(
    given: tuple[str, Recommender], log: PackedLog, split: HeldOut, *, endings: tuple[int, ...], how: Measuring
) -> Finding:
    """For every k of `endings`: natural groups of at most `ranked_users` users, and planted ones."""
    asker = _Asker(given[1], log, split, how=how)
    question = f"same last events ({given[0]})"
    found = [{"events": k, **asker.natural(k), **asker.planted(k)} for k in sorted(set(endings)) if asker.has(k)]
    if not found:
        return Finding("same_endings", question, "unknown", f"nobody has {min(endings)} events before a request")
    text, numbers = "; ".join(_words(row) for row in found), {"endings": found}
    if max(row["planted"]["differ"] or 0.0 for row in found) >= PERSONAL:
        return Finding("same_endings", question, "ok", text, numbers=numbers)
    advice = "who the user is, and what came before, hardly counts (model.user_dim, a longer model.max_length)"
    return Finding("same_endings", question, "look", text, advice, numbers)


def _words(row: dict[str, Any]) -> str:
    def share(kind: str) -> str:
        return "-" if row[kind]["differ"] is None else percent(row[kind]["differ"])

    return (
        f"{row['events']}: {share('natural')} of {row['natural']['users']:,} users who share them get other lists; "
        f"planted {share('planted')}, by history alone {share('history')}, by user alone {share('user')}"
    )


class _Asker:
    """Groups of rows with one ending, and the model's lists for them."""

    def __init__(self, model: Recommender, log: PackedLog, split: HeldOut, *, how: Measuring) -> None:
        self._model, self._log, self._how = model, log, how
        self._removes = view_of(log).seen == "remove"
        targets = view_of(log).targets(split)
        self._rows_R, firsts = np.unique(targets.rows_R, return_index=True)
        self._ends_R = np.asarray(targets.ends_R)[firsts]
        self._lengths_R = self._ends_R - np.asarray(log.offsets_U1)[self._rows_R]

    def has(self, k: int) -> bool:
        """Whether anybody has so many events."""
        return bool((self._lengths_R >= k).any())

    def natural(self, k: int) -> dict[str, Any]:
        long_R = np.flatnonzero(self._lengths_R >= k)
        endings_Rk = self._endings(long_R, k)
        _, group_R, counts = np.unique(endings_Rk, axis=0, return_inverse=True, return_counts=True)
        group_R = group_R.reshape(-1)
        shared = np.flatnonzero(counts[group_R] > 1)
        if (most := self._how.evaluation.ranked_users) is not None and len(shared) > most:
            drawn = np.random.default_rng([self._how.seed, k]).permutation(len(counts))  # whole groups
            kept = drawn[np.cumsum(np.where(counts > 1, counts, 0)[drawn]) <= most]
            shared = shared[np.isin(group_R[shared], kept)]
        order = shared[np.argsort(group_R[shared], kind="stable")]
        asked = self._asked(long_R[order], k, whole=True)
        lists_BK = self._lists(asked, endings_Rk[order], planted=False, unknown=False)
        return {"groups": len(np.unique(group_R[order])), "natural": vars(Compared.of(lists_BK, group_R[order]))}

    def planted(self, k: int) -> dict[str, Any]:
        """Endings of some users behind the histories of others, as they are, without a user, and without a history."""
        rng = np.random.default_rng([self._how.seed, 1, k])
        long_R = rng.permutation(np.flatnonzero(self._lengths_R >= k))
        donors, under = long_R[:DONORS], rng.permutation(len(self._rows_R))[:USERS]
        rows = np.tile(under, len(donors))
        endings_Bk = np.repeat(self._endings(donors, k), len(under), axis=0)
        groups_B = np.repeat(np.arange(len(donors)), len(under))
        found = {}
        for form in ("planted", "history", "user"):
            asked = self._asked(rows, k, whole=form != "user")
            lists_BK = self._lists(asked, endings_Bk, planted=True, unknown=form == "history")
            found[form] = vars(Compared.of(lists_BK, groups_B))
        return found

    def _endings(self, which: np.ndarray, k: int) -> np.ndarray:
        return np.asarray(self._log.items_N[self._ends_R[which][:, None] - k + np.arange(k)], np.int64)

    def _asked(self, which: np.ndarray, k: int, *, whole: bool) -> Continuations:
        """Histories as they are, or none of them."""
        rows = self._rows_R[which]
        ends = self._ends_R[which] if whole else np.asarray(self._log.offsets_U1)[rows]
        return Continuations(rows, ends, np.zeros((len(which), k), np.int64))

    def _lists(self, asked: Continuations, endings_Bk: np.ndarray, *, planted: bool, unknown: bool) -> np.ndarray:
        """The ten best items [B, K] of every row."""
        lists, (memory_mb, V) = [], (self._how.evaluation.memory_mb, self._log.num_items)
        block = max(1, memory_mb * 2**20 // (BYTES_A_SCORE * (V + 1)))
        with measuring(self._model, self._how.precision):
            for first in range(0, len(asked.rows_R), block):
                part = np.arange(first, min(first + block, len(asked.rows_R)))
                batch = self._batch(asked.at(part), endings_Bk[part] if planted else endings_Bk[part, :0])
                if unknown:
                    batch = replace(batch, users_B=torch.zeros_like(batch.users_B))
                scores_BV = self._model.score_corpus(batch).float().clone()
                scores_BV[:, 0] = -torch.inf
                if not scores_BV.amax() < torch.inf:
                    raise SeqrecError("the model gives scores that are NaN or infinite; its training has diverged")
                if self._removes:
                    scores_BV.scatter_(1, torch.from_numpy(endings_Bk[part]).to(scores_BV.device), -torch.inf)
                lists.append(top_items(scores_BV, TOP).cpu().numpy())
        return np.concatenate(lists) if lists else np.zeros((0, TOP), np.int64)

    def _batch(self, asked: Continuations, planted_Bk: np.ndarray) -> Batch:
        length, device = self._how.max_length, self._how.precision.device
        growing = Growing.of(self._log, asked, max_length=length, steps=planted_Bk.shape[1], device=device)
        for items_B in planted_Bk.T:
            growing.append(torch.from_numpy(items_B.copy()).to(device))
        if planted_Bk.shape[1] and growing.context_BF is not None:  # a device's, say, which is nobody's own here
            growing.context_BF = growing.context_BF[:1].expand_as(growing.context_BF).clone()
        return growing.batch(length)
