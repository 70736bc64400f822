"""An encoder that reads fewer events than its rows have: members of an ensemble differ in `max_length`.

Legend: B rows, L events of a row, M events the encoder reads, P parts of a row, D width, F context attributes.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender, SequenceEncoder


class Windowed(SequenceEncoder):
    """The encoder on rows of any length. A row's last state follows its latest `length` events; for the states of all
    positions the row is cut, from its end on, into parts of so many events, each read by itself."""

    def __init__(self, encoder: SequenceEncoder, length: int) -> None:
        nn.Module.__init__(self)
        self.encoder, self.length = encoder, length
        self.num_items, self.num_users = encoder.num_items, encoder.num_users
        self.causal, self.sees_target_time = encoder.causal, encoder.sees_target_time
        self.embeds_events, self.places_of_no_event = encoder.embeds_events, encoder.places_of_no_event

    @property
    def sparse_rows(self) -> bool:  # type: ignore[override]
        return self.encoder.sparse_rows

    def encode(self, batch: Batch) -> Tensor:
        if batch.items_BL.shape[1] <= self.length:
            return self.encoder.encode(batch)
        B, L = batch.items_BL.shape
        parts = -(-L // self.length)
        # Part p of a row ends `parts - 1 - p` whole parts before the row does; the first ones may hold nothing.
        after_P = torch.arange(parts - 1, -1, -1, device=batch.items_BL.device) * self.length
        ends_BP = (batch.lengths_B[:, None] - after_P).clamp(min=0)
        starts_BP = (ends_BP - self.length).clamp(min=0)
        states_XMD = self.encoder.encode(_cut(batch, self.length, starts_BP=starts_BP, ends_BP=ends_BP))
        places_L = torch.arange(L, device=batch.items_BL.device)
        part_BL = parts - 1 - (batch.lengths_B[:, None] - 1 - places_L).div(self.length, rounding_mode="floor")
        part_BL = part_BL.clamp(0, parts - 1)
        inside_BL = (places_L - starts_BP.gather(1, part_BL)).clamp(0, self.length - 1)
        wanted_BL = part_BL * self.length + inside_BL
        states_BND = states_XMD.reshape(B, parts * self.length, -1)
        return states_BND.gather(1, wanted_BL[..., None].expand(-1, -1, states_BND.shape[-1]))

    def last(self, batch: Batch) -> Tensor:
        return self.encoder.last(latest_events(batch, self.length))

    def item_table(self) -> Tensor:
        return self.encoder.item_table()

    def item_bias(self) -> Tensor | None:
        return self.encoder.item_bias()

    def item_vectors(self, items: Tensor) -> Tensor:
        return self.encoder.item_vectors(items)

    def trainable_models(self) -> tuple[Recommender, ...]:
        return (self,) if self.encoder.trainable_models() else ()

    def auxiliary_loss(self) -> Tensor | None:
        return self.encoder.auxiliary_loss()

    def auxiliary_count(self, batch: Batch) -> int:
        return self.encoder.auxiliary_count(batch)

    def penalty(self, batch: Batch) -> Tensor | None:
        return self.encoder.penalty(batch)


def latest_events(batch: Batch, length: int) -> Batch:
    """The batch with each row's latest `length` events alone."""
    if not torch.compiler.is_exporting() and batch.items_BL.shape[1] <= length:
        return batch
    ends_B1 = batch.lengths_B[:, None]
    return _cut(batch, length, starts_BP=(ends_B1 - length).clamp(min=0), ends_BP=ends_B1)


def _cut(batch: Batch, length: int, *, starts_BP: Tensor, ends_BP: Tensor) -> Batch:
    """A row of `length` places for each part of each row, [B * P] in all."""
    L, parts = batch.items_BL.shape[1], starts_BP.shape[1]
    places_BPM = starts_BP[..., None] + torch.arange(length, device=starts_BP.device)
    real_BM = (places_BPM < ends_BP[..., None]).flatten(1)
    flat_BM = places_BPM.flatten(1).clamp(max=L - 1)
    # What a batch is asked for by name counts as read (`reading.py`); whether the encoder does, shows.
    given = vars(batch)
    times_BL, request_times_B = given["times_BL"], given["request_times_B"]
    context_BLF, context_BF = given["context_BLF"], given["context_BF"]

    def parts_of(values_BL: Tensor) -> Tensor:
        return (_at(values_BL, flat_BM) * _like(real_BM, values_BL)).reshape(-1, length, *values_BL.shape[2:])

    def asked_after(request_B: Tensor, values_BL: Tensor | None) -> Tensor:
        """What is asked after a part: the row's following event, and after its last one the request."""
        if values_BL is None:
            return request_B.repeat_interleave(parts, 0)
        following_BP = _at(values_BL, ends_BP.clamp(max=L - 1))
        last_BP = _like(ends_BP >= batch.lengths_B[:, None], values_BL)
        return torch.where(last_BP, request_B[:, None], following_BP).flatten(0, 1)

    cut: dict[str, Tensor | None] = {"items_BL": parts_of(batch.items_BL)}
    cut["times_BL"] = None if times_BL is None else parts_of(times_BL)
    cut["presence_BL"] = None if batch.presence_BL is None else parts_of(batch.presence_BL)
    cut["context_BLF"] = None if context_BLF is None else parts_of(context_BLF)
    cut["request_times_B"] = None if request_times_B is None else asked_after(request_times_B, times_BL)
    cut["context_BF"] = None if context_BF is None else asked_after(context_BF, context_BLF)
    none = dict.fromkeys(("targets_BL", "positions_N", "masked_BM", "negatives_BLK", "candidates_BC", "labels_BC"))
    none |= dict.fromkeys(("soft_items_BLK", "soft_shares_BLK"))
    hosts = dict.fromkeys(("ends_BC", "weights_BL", "weights_BC", "context_BCF", "host_lengths_B", "host_taught_B"))
    return replace(
        batch,
        users_B=batch.users_B.repeat_interleave(parts),
        lengths_B=(ends_BP - starts_BP).flatten(),
        **none,  # type: ignore[arg-type]
        **hosts,  # type: ignore[arg-type]
        **cut,  # type: ignore[arg-type]
    )


def _at(values_BL: Tensor, places_BM: Tensor) -> Tensor:
    """What stands at places of each row, [B, M] or, of several values an event, [B, M, F]."""
    return values_BL.gather(1, _like(places_BM, values_BL).expand(-1, -1, *values_BL.shape[2:]))


def _like(each_BM: Tensor, values_BL: Tensor) -> Tensor:
    """[B, M] as many dimensions as the values have."""
    return each_BM.reshape(*each_BM.shape, *([1] * (values_BL.ndim - 2)))
