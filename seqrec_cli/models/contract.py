"""What every recommender does, whatever is inside: it scores candidates, and it scores the corpus.

Legend: B rows, L history events, C candidates, D width, V items. `score_corpus` has V + 1 columns: column 0 is
padding, never a recommendation.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.config.dataset import TIME_CONTEXT
from seqrec_cli.data.batch import Batch, count_targets
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.saying import Say, silent

if TYPE_CHECKING:
    from seqrec_cli.models.layers.row_shard import RowShard

CORPUS_CHUNK = 1024  # candidates scored at once by the default `score_corpus`


def full_precision(device: torch.device) -> torch.autocast:
    """A region outside autocast: scores are fp32, or bf16's eight bits would tie items that differ."""
    return torch.autocast(device.type, enabled=False)


def corpus_scores(last_BD: Tensor, table_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    """Inner products with every item, and the items' bias where there is one, [B, V + 1] in fp32."""
    if bias_V is None:
        return last_BD.float() @ table_VD.float().T
    return torch.addmm(bias_V.float(), last_BD.float(), table_VD.float().T)


class Recommender(nn.Module):
    """A model of behaviour sequences. Subclasses are called `Model` and are built as `Model(cfg, catalog)`."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self.num_items = catalog.num_items
        self.num_users = catalog.num_users
        if self.reads_context and any(a.name in TIME_CONTEXT for a in catalog.context_attributes):
            self.sees_target_time = True

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        """Logits [B, C] of each row's candidates as its next event; padded candidates (0) get any finite value."""
        raise NotImplementedError

    def score_corpus(self, batch: Batch) -> Tensor:
        """Logits [B, V + 1] of every item; by default in chunks of `score`."""
        items_V = torch.arange(self.num_items + 1, device=batch.items_BL.device)
        chunks = [self.score(batch, chunk.expand(len(batch), -1)) for chunk in items_V.split(CORPUS_CHUNK)]
        return torch.cat(chunks, dim=1)

    shortlist: int | None = None  # items of a row that are ranked closely, where the others only stand behind them

    def score_corpus_without(self, batch: Batch, hidden_M: Tensor, top: int | None = None) -> Tensor:
        """`score_corpus` for an answer without the items at these positions of the flattened [B, V + 1], whose scores
        mean nothing: a model with a `shortlist` has to know them before it makes one.

        `top`: so many of the best are asked for, and the others may stand in any order; None: the order of all.
        """
        return self.score_corpus(batch)

    def score_positions(self, batch: Batch, items_BC: Tensor, ends_BC: Tensor) -> Tensor:
        """Logits [B, C], each candidate's after its own part of the row: event `ends_BC` and later ones are unseen.

        Equal to `score` of a row a candidate that ends there, cut to the model's latest max_length events; the row
        itself may be longer, unless the settings have `recurrent`. For models whose settings have `all_positions`. An
        end of 0 marks padding.
        """
        raise NotImplementedError

    def attention(self, batch: Batch, items_BC: Tensor) -> Tensor | None:
        """How much each event weighed in each candidate's score, [B, L, C]; None for a model without attention."""
        return None

    def prepare(self, item_counts_V: Tensor, user_counts_U: Tensor) -> None:
        """Called once before training with the training events of every item and user, int64 [V + 1] and [U + 1]."""

    @property
    def shard(self) -> "RowShard | None":
        """Which rows of the item table are this process's, where others have the others; None where all are."""
        return None

    hashed_tables: frozenset[str] = frozenset()  # parameters read by hashes of indices: of no use in another log
    sparse_rows = False  # gradients of item and user tables hold the rows a step used, and no others
    reads_context = False  # reads `Batch.context_BF`, and `context_BCF` in `score_positions`
    scores_are_weights = False  # scores are counts or shares, none below 0, and not logits
    attention_is_shares = False  # `attention` is a softmax over the history, and maybe the candidate: shares of one
    embeds_events = False  # reads its events as vectors, of which it heeds `Batch.presence_BL`
    places_of_no_event = 0  # of max_length: a row of so many events leaves out its first ones (BERT4Rec's mask)
    sees_target_time = False  # reads the time of the event it predicts: a different protocol

    def trainable_models(self) -> "tuple[Recommender, ...]":
        """The models that the objective trains: this one, none (closed form), or each member of an ensemble."""
        return (self,)

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        """Fit what is counted, not taught, before training: each history int64 [n], one user's events in order. Of long
        work `tell` hears how far it is."""

    def closed_form_bytes(self, events: int) -> int:
        """What `fit_closed_form` of so many events needs at its height where that is much, else 0."""
        return 0

    def closed_form_cheaper(self) -> str:
        """What else takes less of it, as the end of a sentence: settings, or another model."""
        return ""

    def closed_form_flops(self, events: int) -> float:
        """Its operations where products of matrices make up its time; 0 where it grows with the events alone."""
        return 0.0

    def auxiliary_loss(self) -> Tensor | None:
        """A loss of the model's own from the last `score` in training mode (DIEN), added by the objective: a mean over
        what `auxiliary_count` counts."""
        return None

    def auxiliary_count(self, batch: Batch) -> int:
        """How many terms `auxiliary_loss` is the mean of; the counts of a batch's parts add up to the batch's."""
        return count_targets(batch)

    def penalty(self, batch: Batch) -> Tensor | None:
        """A term of the loss that a training batch has once, as a whole, and not by the row: its rows' parts would not
        add up (L2 of the distinct items and users in it). None in evaluation."""
        return None


class SequenceEncoder(Recommender):
    """A model whose history becomes a vector, scored against items by inner product and, maybe, a bias of their own."""

    causal = True  # position l sees events up to l only

    @property
    def scores_by_product(self) -> bool:
        """Whether its scores are inner products of `last` and `item_table`, and a bias."""
        return type(self).score_corpus is SequenceEncoder.score_corpus

    @property
    def reads_what_it_scores(self) -> bool:
        """Whether an item of a history is read by the vector that it is scored by, or one of its direction, and by
        nothing else, so that `use_item_table` can bring items that training never saw."""
        return False

    def use_item_table(self, table_RD: Tensor) -> None:
        """Read histories from now on by the catalog's items as they were trained and by others, any number of them,
        whose output vectors stand behind those of the catalog; for models that `reads_what_it_scores`. For inference:
        the table does not learn. What the catalog's items are scored by stays."""
        raise NotImplementedError

    def encode(self, batch: Batch) -> Tensor:
        """Hidden states [B, L, D]; state l stands after event l. Padded positions hold anything finite."""
        raise NotImplementedError

    def item_table(self) -> Tensor:
        """Output vectors [V + 1, D], row 0 for padding; of a sharded table the rows of `shard`."""
        raise NotImplementedError

    def encode_targets(self, batch: Batch) -> Tensor:
        """The states [N, D] of `encode` where the batch has targets; a model may save itself the others."""
        # `index_select`, for its backward on a CPU is ten times as fast as that of `hidden[positions]`.
        return self.encode(batch).flatten(0, 1).index_select(0, batch.target_positions())

    def encode_packed(self, batch: Batch) -> Tensor:
        """`encode_targets` of a batch whose rows are laid end to end, for models whose settings have `packs`: no layer
        reads padding."""
        raise NotImplementedError

    def item_bias(self) -> Tensor | None:
        """What is added to the inner products, [V + 1]; None for nothing."""
        return None

    def item_vectors(self, items: Tensor) -> Tensor:
        """Output vectors [..., D] of items [...]: row-sparse gradients where the model has them, none for padding."""
        return F.embedding(items, self.item_table(), padding_idx=0, sparse=self.sparse_rows)

    def last(self, batch: Batch) -> Tensor:
        """The hidden state [B, D] after each row's last event (an empty history reads position 0)."""
        hidden_BLD = self.encode(batch)
        rows_B = torch.arange(hidden_BLD.shape[0], device=hidden_BLD.device)
        return hidden_BLD[rows_B, (batch.lengths_B - 1).clamp(min=0)]

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        last_BD = self.last(batch)
        with full_precision(last_BD.device):
            scores_BC = torch.einsum("bd,bcd->bc", last_BD.float(), self.item_vectors(items_BC).float())
            bias_V = self.item_bias()
            return scores_BC if bias_V is None else scores_BC + F.embedding(items_BC, bias_V[:, None])[..., 0]

    def score_corpus(self, batch: Batch) -> Tensor:
        last_BD = self.last(batch)
        with full_precision(last_BD.device):
            return corpus_scores(last_BD, self.item_table(), self.item_bias())


class ClosedFormModel(Recommender):
    """A model of counts in tables as large as what was counted (most popular, Markov)."""

    def trainable_models(self) -> tuple[Recommender, ...]:
        return ()

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        return self.score_corpus(batch).gather(1, items_BC)

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:  # type: ignore[no-untyped-def]
        # Counts have the size of what was counted: take the checkpoint's size before loading.
        for name, buffer in list(self._buffers.items()):
            stored = state_dict.get(prefix + name)
            if buffer is not None and stored is not None and stored.shape != buffer.shape:
                self._buffers[name] = torch.empty_like(stored, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)
