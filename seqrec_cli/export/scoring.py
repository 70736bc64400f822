"""What is exported, whatever the format: a model's scoring as a function of plain tensors.

Encoders, generators and counting models answer with the whole corpus, click rankers with the candidates they are given.

Legend: B rows, L history events, C candidates, F context attributes, V items (V + 1 columns, column 0 is padding).
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch, padded_rows
from seqrec_cli.data.context import contexts
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.models.contract import ClosedFormModel, Generator, Recommender, SequenceEncoder
from seqrec_cli.models.layers.text_items import as_tables
from seqrec_cli.models.reading import optional_inputs

AXES = {"B": "batch", "L": "length", "C": "candidates"}


class Scoring(nn.Module):
    """A model in evaluation mode, fp32, on the CPU, called with named tensors.

    `inputs` are the names in order: users_B, items_BL, lengths_B, the times and context the model reads, and
    candidates_BC for a click ranker. Users count from 1 (0: unknown), items from 1 (0: padding, on the right). The
    answer is logits [B, V + 1] of the corpus, or [B, C] of the candidates.
    """

    def __init__(self, model: Recommender, log: PackedLog, max_length: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        as_tables(self.model)
        self.over_corpus = isinstance(model, SequenceEncoder | Generator | ClosedFormModel)
        self.max_length = max_length
        self.num_items = log.num_items
        self.spare_place = (
            False  # traced with a place more than events, for compilers that take 0 to be out of question
        )
        optional = self._read(log)
        self.output = "logits_BV" if self.over_corpus else "logits_BC"
        self.inputs = ("users_B", "items_BL", "lengths_B", *optional, *(() if self.over_corpus else ("candidates_BC",)))

    def forward(
        self,
        users_B: Tensor,
        items_BL: Tensor,
        lengths_B: Tensor,
        *,
        times_BL: Tensor | None = None,
        request_times_B: Tensor | None = None,
        context_BF: Tensor | None = None,
        context_BLF: Tensor | None = None,
        candidates_BC: Tensor | None = None,
    ) -> Tensor:
        given = {"times_BL": times_BL, "request_times_B": request_times_B}
        context = {"context_BF": context_BF, "context_BLF": context_BLF}
        batch = Batch(users_B, items_BL, lengths_B, **given, **context)
        return self._answer(with_an_event(batch), candidates_BC)

    def _answer(self, batch: Batch, candidates_BC: Tensor | None) -> Tensor:
        if isinstance(self.model, ClosedFormModel):  # `score_corpus` may gather as many counts as each row has
            every_V = torch.arange(self.num_items + 1)
            return self.model.score(batch, every_V.expand(batch.items_BL.shape[0], -1))
        if self.over_corpus:
            return self.model.score_corpus(batch)
        assert candidates_BC is not None
        return self.model.score(batch, candidates_BC)

    def live(self, inputs: dict[str, Tensor]) -> Tensor:
        """What the model itself answers, through its contract alone."""
        given = dict(inputs)
        candidates_BC = given.pop("candidates_BC", None)
        batch = with_an_event(Batch(**given))
        with torch.inference_mode():
            return self.model.score_corpus(batch) if candidates_BC is None else self.model.score(batch, candidates_BC)

    def _read(self, log: PackedLog) -> list[str]:
        sample = sample_tensors(log, self.max_length, Sizes(rows=2, length=None, candidates=2))
        candidates_BC = sample.pop("candidates_BC")
        return optional_inputs(lambda batch: self._answer(batch, candidates_BC), Batch(**sample))

    def sample(self, log: PackedLog, sizes: "Sizes") -> dict[str, Tensor]:
        """This model's inputs, drawn from the log."""
        tensors = sample_tensors(log, self.max_length, sizes)
        return {name: tensors[name] for name in self.inputs}


def pad_events(values_BL: Tensor, places: int) -> Tensor:
    """More places for events, of zeros."""
    return nn.functional.pad(values_BL, (0, 0) * (values_BL.dim() - 2) + (0, places))


def with_an_event(batch: Batch) -> Batch:
    """The batch with a place for an event where it has none: no operator of a graph has to bear a length of 0."""
    missing = torch.sym_max(1 - batch.items_BL.shape[1], 0)
    padded = {
        name: pad_events(values, missing)
        for name in ("items_BL", "times_BL", "context_BLF")
        if (values := vars(batch)[name]) is not None
    }
    return replace(batch, **padded)


@dataclass(frozen=True)
class Sizes:
    """Of one call: rows, padded history length (None: that of the longest), candidates a row."""

    rows: int
    length: int | None
    candidates: int


def sample_tensors(log: PackedLog, max_length: int, sizes: Sizes) -> dict[str, Tensor]:
    """Every input a model may read: real histories from the shortest to the longest, cut to the length asked for."""
    if not len(log.items_N):
        raise SeqrecError("the dataset has no events to prove an export on; run preprocess again")
    events_U = np.diff(log.offsets_U1)
    by_length_U = np.argsort(events_U, kind="stable")
    by_length_U = by_length_U[events_U[by_length_U] > 0]
    positions = np.linspace(0, len(by_length_U) - 1, sizes.rows).round().astype(np.int64)
    rows_B = by_length_U[positions]
    ends_B = log.offsets_U1[rows_B + 1]
    lengths_B = np.minimum(events_U[rows_B], max_length if sizes.length is None else sizes.length)
    draw = np.random.default_rng(0)
    tensors = {
        "users_B": torch.from_numpy(rows_B + 1),
        "items_BL": _padded(padded_rows(log.items_N, ends_B - lengths_B, lengths_B), sizes.length),
        "lengths_B": torch.from_numpy(lengths_B),
        "candidates_BC": torch.from_numpy(draw.integers(1, log.num_items + 1, (sizes.rows, sizes.candidates))),
    }
    if log.times_N is not None:
        tensors["times_BL"] = _padded(padded_rows(log.times_N, ends_B - lengths_B, lengths_B), sizes.length)
        tensors["request_times_B"] = torch.from_numpy(log.times_N[ends_B - 1].astype(np.int64))
    context_BF = contexts(log, ends_B - 1)
    if context_BF is not None:
        tensors["context_BF"] = torch.from_numpy(context_BF)
        events_BL = np.minimum((ends_B - lengths_B)[:, None] + np.arange(lengths_B.max()), ends_B[:, None] - 1)
        context_BLF = contexts(log, events_BL)
        assert context_BLF is not None
        context_BLF[np.arange(lengths_B.max()) >= lengths_B[:, None]] = 0
        tensors["context_BLF"] = _padded(torch.from_numpy(context_BLF), sizes.length)
    return tensors


def _padded(rows_BL: Tensor, length: int | None) -> Tensor:
    return pad_events(rows_BL, 0 if length is None else length - rows_BL.shape[1])
