"""The items of a running service: those that a model was trained with, and what was added, changed and removed since.

Every change is a line of the journal; all processes apply the same lines in the same order, before they answer what
they are asked after. What a line holds is what was told (attributes, ids of like items, a vector), so that a newer
checkpoint makes vectors of its own from it.

Legend: V items of the catalog, R rows, D width, Y = D or D + 1 (with the bias).
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.serving.item_estimates import Estimator, Quality
from seqrec_cli.serving.item_journal import ItemJournal
from seqrec_cli.serving.item_lines import FROM, Change
from seqrec_cli.serving.item_state import RecommendingAt, Row, State
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId
from seqrec_cli.serving.text_estimates import AdaptedTexts

ESTIMATED = ("attributes", "text_vector")


def table_of(recommending: Recommending, why: str) -> tuple[Tensor, Tensor | None]:
    """The model's item vectors [V + 1, D] and biases. Raises SeqrecError where its scores are no inner products."""
    model = recommending.model
    if not isinstance(model, SequenceEncoder) or not model.scores_by_product:
        raise SeqrecError(
            f"{why}: model={recommending.name} scores by no inner product of a history and an item; take an encoder "
            "(sasrec), or leave it out"
        )
    with torch.inference_mode(), recommending.precision.autocast():
        bias_V = model.item_bias()
        return model.item_table().float().clone(), None if bias_V is None else bias_V.float().clone()


class ItemIndex:
    """The items as they are, and how they change. `now` is for one thread; states are for all."""

    def __init__(
        self,
        recommending: Recommending,
        journal: ItemJournal | None,
        estimators: Mapping[str, Estimator | AdaptedTexts],
        *,
        qualities: Mapping[str, Quality],
        most: int,
    ) -> None:
        """`estimators` by what they estimate from; `most`: items added at most."""
        self._original, self._journal = recommending, journal
        self.estimators, self.qualities, self.most = estimators, qualities, most
        self._table, self._bias = table_of(recommending, "state, index")
        self._units = F.normalize(self._table, dim=1)
        self._rows: list[Row] = []
        self._dead = {0} | set([] if recommending.left_out is None else recommending.left_out.tolist())
        self._never = frozenset(self._dead)
        self._offered: dict[str, int | None] = {}
        self._read_as: dict[str, int] = {}
        self._unusable: dict[str, str] = {}
        self.damage: str | None = None  # of the journal: no change is taken or read any more
        self._version = 0
        lengths_V = torch.linalg.vector_norm(self._table[1:], dim=1)
        self._same_length = float(lengths_V.mean()) if float(lengths_V.max() - lengths_V.min()) < 1e-3 else None
        model = recommending.model
        assert isinstance(model, SequenceEncoder)
        self._read = model.reads_what_it_scores
        self._at = self._frozen()

    @property
    def keeps(self) -> bool:
        """Whether changes are taken."""
        return self._journal is not None

    def now(self) -> RecommendingAt:
        """The items after all changes that were answered, by whichever process; behind a damaged line no more."""
        while self._journal is not None and self.damage is None and self._journal.grown():
            try:
                changes = self._journal.read()
            except SeqrecError as error:
                self.damage = str(error)
                break
            if not changes:  # a line that somebody is writing
                break
            for change in changes:
                self._apply(change)
            self._at = self._frozen()
        return self._at

    def counts(self) -> dict[str, int | str]:
        """For /health."""
        state, known = self.now().state, self._original._index
        return {
            "items_added": sum(raw not in known and row is not None for raw, row in state.offered.items()),
            "items_changed": sum(raw in known and row is not None for raw, row in state.offered.items()),
            "items_removed": sum(
                raw in known and row is None and raw not in state.unusable for raw, row in state.offered.items()
            ),
            "items_unusable": len(state.unusable),
            **({} if self.damage is None else {"items_damaged": self.damage}),
        }

    def check(self, change: Change) -> None:
        """Raises SeqrecError where this cannot be applied."""
        self.check_whole()
        self._vector(change)
        raw = str(change["item"])
        new = raw not in self._original._index and self._at.state.offered.get(raw) is None
        if new and int(self.counts()["items_added"]) >= self.most:
            raise SeqrecError(f"{self.most:,} items are added already (most_added); remove some, or train anew")

    def check_whole(self) -> None:
        """Raises SeqrecError where the journal is damaged."""
        if self.damage is not None:
            raise SeqrecError(f"the service takes no changes of its items: {self.damage}")

    def append(self, change: Change) -> None:
        """Into the journal, from any thread; `now` applies it. Raises OSError."""
        assert self._journal is not None
        self._journal.append(change)

    def raw_of(self, text: str) -> RawId:
        """An id of a path as the data have it: a number where they have numbers."""
        numbers = isinstance(self._original.items[0], int)
        return int(text) if numbers and text.isascii() and text.isdigit() and str(int(text)) == text else text

    def _apply(self, change: Change) -> None:
        raw = str(change["item"])
        former = self._offered.get(raw, self._original._index.get(raw))
        if former is not None:
            self._dead.add(former)
        self._unusable.pop(raw, None)
        self._version += 1
        if change["op"] == "delete":
            self._offered[raw] = None
            return
        origin = self._original._index.get(raw, 0)
        try:
            vector_Y = self._vector(change)
        except (SeqrecError, TypeError, ValueError) as error:  # of another model: its width, its attributes
            self._offered[raw] = None
            self._unusable[raw] = str(error)
            return
        if vector_Y is None:  # the trained one again
            self._offered.pop(raw, None)
            self._read_as.pop(raw, None)
            self._dead -= {origin} - self._never
            return
        (by,) = (name for name in FROM if change.get(name) is not None)
        row = self._add(vector_Y)
        self._rows.append(Row(change["item"], origin, by, change.get("title"), change.get("attributes") or {}))
        self._offered[raw] = row
        if self._read:
            self._read_as[raw] = row

    def _vector(self, change: Change) -> Tensor | None:
        """[Y]; None: the trained one."""
        width, table, bias = self._table.shape[1], self._table, self._bias
        if change["op"] == "delete":
            return None
        if change.get("trained"):
            if str(change["item"]) not in self._original._index:
                raise SeqrecError(f"item={change['item']}: was not trained, so it has no trained vector")
            return None
        for kind in ESTIMATED:
            if change.get(kind) is not None:
                if kind not in self.estimators:
                    raise SeqrecError(f"{kind}: {MISSING[kind]}")
                estimated_Y = torch.from_numpy(self.estimators[kind].estimate(change[kind]))
                return estimated_Y.to(table.device, torch.float32)
        if change.get("like") is not None:
            rows = self._at_or_trained(change["like"])
            vectors_ND = table[rows]
            mean_D = vectors_ND.mean(0)
            length = torch.linalg.vector_norm(vectors_ND, dim=1).mean()
            vector_D = mean_D / torch.linalg.vector_norm(mean_D).clamp(min=1e-12) * length
            return vector_D if bias is None else torch.cat([vector_D, bias[rows].mean()[None]])
        told = change["vector"]
        if len(told) != width:
            raise SeqrecError(f"vector: {len(told)} numbers, the model's items have {width}")
        vector_D = torch.tensor(told, dtype=torch.float32, device=table.device)
        if not torch.linalg.vector_norm(vector_D).isfinite():
            raise SeqrecError("vector: too large for 32 bits")
        if self._same_length is not None:
            vector_D = F.normalize(vector_D, dim=0) * self._same_length
        if bias is None:
            if change.get("bias") is not None:
                raise SeqrecError("bias: the model's items have none")
            return vector_D
        given = change.get("bias")
        mean = bias[1 : len(self._original.items) + 1].mean()
        return torch.cat([vector_D, (mean if given is None else torch.tensor(given, device=table.device))[None]])

    def _at_or_trained(self, items: list[RawId]) -> list[int]:
        """Rows of items as they are; of removed ones as they were trained."""
        rows = []
        for item in items:
            row = self._offered.get(str(item)) or self._original._index.get(str(item))
            if row is None:
                raise SeqrecError(f"like: there is no item {item}")
            rows.append(row)
        return rows

    def _add(self, vector_Y: Tensor) -> int:
        """A new row's number. States made before see none of it: their tables end in front of it."""
        row, width = len(self._original.items) + 1 + len(self._rows), self._table.shape[1]
        if row >= len(self._table):
            more = max(len(self._table) // 8, 64)
            self._table, self._units = (F.pad(each, (0, 0, 0, more)) for each in (self._table, self._units))
            self._bias = None if self._bias is None else F.pad(self._bias, (0, more))
        with torch.inference_mode():
            self._table[row] = vector_Y[:width]
            self._units[row] = F.normalize(vector_Y[:width], dim=0)
            if self._bias is not None:
                self._bias[row] = vector_Y[width]
        return row

    def _frozen(self) -> RecommendingAt:
        rows = len(self._original.items) + 1 + len(self._rows)
        state = State(
            self._version,
            self._table[:rows],
            None if self._bias is None else self._bias[:rows],
            self._units[:rows],
            torch.tensor(sorted(self._dead), device=self._table.device),
            self._rows,
            dict(self._offered),
            dict(self._read_as),
            dict(self._unusable),
        )
        return RecommendingAt(self._original, state)

    def about(self, raw: RawId) -> dict[str, Any] | None:
        """What GET tells of an item; None where there is none."""
        at, text = self._at, str(raw)
        row, V = at._offered.get(text), len(at.items)
        if row is None:
            return None
        about = at.state.rows[row - V - 1] if row > V else None
        found: dict[str, Any] = {
            "item_id": about.raw if about else at.items[row - 1],
            "status": "trained" if about is None else "changed" if about.origin else "added",
            "by": "training" if about is None else about.by,
            "recommended": row not in self._never,
            "vector": at.state.table_RD[row].tolist(),
        }
        if at.state.bias_R is not None:
            found["bias"] = float(at.state.bias_R[row])
        if at.titles is not None:
            found["title"] = at.title(row)
        return found


MISSING = {
    "attributes": "the data have no item attributes to estimate a vector from; give vector or like",
    "text_vector": "no text vectors of the data's items are known; start with item_vectors=FILE, or give vector",
}
