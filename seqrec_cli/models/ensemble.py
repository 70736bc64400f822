"""Several encoders as one: each learns by itself and their scores are averaged, or they are one network's towers.

The mean of inner products is one inner product of joined vectors, so an ensemble is evaluated, served and exported
like any encoder. A member with a smaller `max_length` reads the latest events of a row (`windows.py`). For members
trained by a softmax over the corpus it ranks by the product of their probabilities (their geometric mean, a product
of experts: Hinton 2002), because a member's log-normaliser is the same for all items.

`trained=together` is Wide & Deep's way (Cheng et al. 2016, arXiv 1606.07792, its equation 3: one logit, the sum of a
linear part's and of a network's, by one loss) for next items: scores are added, each member's with a weight exp(w_m)
that learns, and the loss is that of the sum. With EASE as a member it is the wide part, the weights of all pairs of
items; deviations: they are solved in closed form, not by FTRL, and before the encoder learns what they leave.

Legend: B rows, L history events, N targets, M members, D joined width, V items.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from seqrec_cli.config.model.ensemble import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.build import model_of
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.models.windows import Windowed
from seqrec_cli.saying import Say, silent


class Model(SequenceEncoder):
    """The members' vectors side by side."""

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        members = {key: model_of(member, catalog) for key, member in cfg.members.items()}
        self.members = nn.ModuleDict(members)
        encoders = [member for member in members.values() if isinstance(member, SequenceEncoder)]
        lengths = [cfg.members[key].max_length for key in members]
        # Not modules of this one, whose weights have one name each; a member as long as the whole needs no cutting.
        self._read_by = tuple(
            Windowed(encoder, length) if length < cfg.max_length else encoder
            for encoder, length in zip(encoders, lengths, strict=True)
        )
        self.log_weights_M = nn.Parameter(torch.zeros(len(members))) if cfg.trained == "together" else None
        self.embeds_events = all(member.embeds_events for member in members.values())
        self.sees_target_time = any(member.sees_target_time for member in members.values())

    def prepare(self, item_counts_V: Tensor, user_counts_U: Tensor) -> None:
        for member in self.members.values():
            member.prepare(item_counts_V, user_counts_U)  # type: ignore[operator]

    def trainable_models(self) -> tuple[Recommender, ...]:
        if self.log_weights_M is not None:
            return (self,)
        return tuple(trainable for member in self._members() for trainable in member.trainable_models())

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        kept = list(histories)
        for member in self.members.values():
            member.fit_closed_form(kept, tell)  # type: ignore[operator]

    def closed_form_bytes(self, events: int) -> int:
        return max(member.closed_form_bytes(events) for member in self.members.values())  # type: ignore[operator]

    def _members(self) -> tuple[SequenceEncoder, ...]:
        return self._read_by

    def encode(self, batch: Batch) -> Tensor:
        return self.joined([member.encode(batch) for member in self._members()])

    def encode_targets(self, batch: Batch) -> Tensor:
        return self.joined([member.encode_targets(batch) for member in self._members()])

    def last(self, batch: Batch) -> Tensor:
        return self.joined([member.last(batch) for member in self._members()])

    def joined(self, each: Sequence[Tensor]) -> Tensor:
        """The members' states [..., D] side by side, each times its weight, in the members' order."""
        states = [state.float() * weight for state, weight in zip(each, self._weights(), strict=True)]
        return torch.cat(states, dim=-1)

    def _weights(self) -> Sequence[Tensor | float]:
        """What the members' scores are multiplied by, in their order."""
        if self.log_weights_M is None:
            return [1 / len(self.members)] * len(self.members)
        return self.log_weights_M.exp().unbind()

    def item_table(self) -> Tensor:
        return torch.cat([member.item_table() for member in self._members()], dim=-1)

    def item_vectors(self, items: Tensor) -> Tensor:
        return torch.cat([member.item_vectors(items) for member in self._members()], dim=-1)

    def item_bias(self) -> Tensor | None:
        found = ((member.item_bias(), weight) for member, weight in zip(self._members(), self._weights(), strict=True))
        biases = [weight * bias_V for bias_V, weight in found if bias_V is not None]
        return torch.stack(biases).sum(0) if biases else None
