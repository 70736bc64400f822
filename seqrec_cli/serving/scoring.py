"""What a model is asked by a service, many questions at once: the best of the corpus, candidates' scores, like items.

What every question would compute anew is kept: the encoder's table of items and their unit vectors. Work is cut so that
memory stays flat whatever is asked.

Legend: B rows, C candidates, D width, K answers, M seen events, V items.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.histories import Histories, joined
from seqrec_cli.data.sizes import padded_length
from seqrec_cli.data.splits import view_of
from seqrec_cli.models.contract import SequenceEncoder, corpus_scores, full_precision
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import Request
from seqrec_cli.serving.scores import hide, refuse_no_numbers
from seqrec_cli.serving.user_vectors import UserVectors

NUMBERS = 1 << 24  # of the largest array that is made for a batch: 64 MB of fp32
# Pairs that a model without vectors scores together: rows beyond these make an answer later and none sooner.
PAIRS = 1 << 13
OF_EVENTS = ("items_BL", "times_BL", "context_BLF")


@dataclass(frozen=True)
class Question:
    """One history (of its own events alone), and what is asked about it."""

    asked: Histories
    candidates_C: np.ndarray | None = None  # from 1; None: the best of the corpus
    top: int = 0
    repeats: bool | None = None  # as in `Request`
    hidden_V1: np.ndarray | None = None  # bool [V + 1], True: not recommended
    user: int = 0  # whose logged history it is, from 1; 0: a history of a request's own
    exact: bool = False  # in fp32, whatever the run computes in: for scores that are subtracted from each other

    @property
    def kind(self) -> tuple[object, ...]:
        """Questions of one kind can be answered together: they have the same inputs, and candidates of like number."""
        size = None if self.candidates_C is None else _up_to_power(len(self.candidates_C))
        return size, self.exact, *(getattr(self.asked, f.name) is None for f in fields(self.asked))


class Scoring:
    """Answers questions with a trained model. One thread at a time."""

    def __init__(self, recommending: Recommending) -> None:
        self.recommending, self.model = recommending, recommending.model
        self._keeps_seen = view_of(recommending.log).seen == "keep"
        self._table_VD: Tensor | None = None
        self._bias_V: Tensor | None = None
        self._users = UserVectors()
        if isinstance(self.model, SequenceEncoder):
            with torch.inference_mode(), recommending.precision.autocast():
                self._table_VD, self._bias_V = self.model.item_table().float(), self.model.item_bias()

    def question(
        self,
        recommending: Recommending,
        request: Request,
        asked: Histories,
        *,
        candidates_C: np.ndarray | None = None,
        top: int = 0,
        hidden_V1: np.ndarray | None = None,
    ) -> Question:
        """What a request, whose history is `asked`, asks of the model."""
        return Question(asked, candidates_C, top, request.repeats, hidden_V1, whose_log(request, asked))

    def rows_of(self, question: Question) -> int:
        """How many of its kind are best answered at once."""
        columns = self.model.num_items + 1
        if question.candidates_C is not None:
            columns = _up_to_power(len(question.candidates_C))
            if self._table_VD is not None:
                return max(NUMBERS // (columns * self._table_VD.shape[1]), 1)
        elif self.model.shortlist is not None:  # the retriever's scores of all items, and the ranker's of these
            return max(min(PAIRS // self.model.shortlist, NUMBERS // columns), 1)
        return max((PAIRS if self._table_VD is None else NUMBERS) // columns, 1)

    @torch.inference_mode()
    def answer(self, questions: Sequence[Question]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(items, scores) of each, all of one kind: candidates in their order, or the best first.

        Raises SeqrecError where the model's scores are not numbers.
        """
        asked = joined([question.asked for question in questions])
        device = self.recommending.precision.device
        with full_precision(device) if questions[0].exact else self.recommending.precision.autocast():
            if questions[0].candidates_C is None:
                return self._best(questions, asked)
            return self._candidates(questions, asked)

    def _best(self, questions: Sequence[Question], asked: Histories) -> list[tuple[np.ndarray, np.ndarray]]:
        hides = [not (self._keeps_seen if each.repeats is None else each.repeats) for each in questions]
        hidden_M = self.recommending.hidden(
            asked,
            np.arange(len(questions)),
            without_seen=np.flatnonzero(hides),
            hidden_BV1=[each.hidden_V1 for each in questions],
        )
        top = max(each.top for each in questions)
        scores_BV = self._corpus(questions, asked, hidden_M=hidden_M, top=top)
        refuse_no_numbers(scores_BV)
        hide(scores_BV, hidden_M)
        best = scores_BV.topk(min(top, scores_BV.shape[1]), dim=1)
        items_BK, scores_BK = best.indices.cpu().numpy(), best.values.cpu().numpy()
        found = []
        for question, items_K, scores_K in zip(questions, items_BK, scores_BK, strict=True):
            left = min(int(np.isfinite(scores_K).sum()), question.top)  # those that are hidden come last
            found.append((items_K[:left], scores_K[:left]))
        return found

    def _corpus(self, questions: Sequence[Question], asked: Histories, *, hidden_M: Tensor, top: int) -> Tensor:
        if self._table_VD is None:
            batch = self._batch(asked, np.arange(len(asked)))
            return self.model.score_corpus_without(batch, hidden_M, top).float().clone()
        last_BD = self._last(questions, asked)
        with full_precision(last_BD.device):
            return corpus_scores(last_BD, self._table_VD, self._bias_V)

    def _candidates(self, questions: Sequence[Question], asked: Histories) -> list[tuple[np.ndarray, np.ndarray]]:
        candidates = [question.candidates_C for question in questions if question.candidates_C is not None]
        items_BC = np.zeros((len(candidates), _up_to_power(max(map(len, candidates)))), np.int64)
        for row, candidates_C in enumerate(candidates):
            items_BC[row, : len(candidates_C)] = candidates_C
            items_BC[row, len(candidates_C) :] = candidates_C[0]  # scored, and left out of the answer
        items = torch.from_numpy(items_BC).to(self.recommending.precision.device)
        if self._table_VD is None:
            scores_BC = self.model.score(self._batch(asked, np.arange(len(asked))), items)
        else:
            last_BD = self._last(questions, asked)
            with full_precision(last_BD.device):
                scores_BC = torch.bmm(F.embedding(items, self._table_VD), last_BD.float()[..., None])[..., 0]
                if self._bias_V is not None:
                    scores_BC = scores_BC + self._bias_V[items]
        refuse_no_numbers(scores_BC, first=0)
        rows = scores_BC.float().cpu().numpy()
        return [(each, row[: len(each)]) for each, row in zip(candidates, rows, strict=True)]

    def _last(self, questions: Sequence[Question], asked: Histories) -> Tensor:
        """The histories' vectors [B, D]; those of users' logs are kept for the next time."""
        model = self.model
        assert isinstance(model, SequenceEncoder)
        return self._users.of([each.user for each in questions], lambda rows_M: model.last(self._batch(asked, rows_M)))

    def _batch(self, asked: Histories, rows_B: np.ndarray) -> Batch:
        most = self.recommending.max_length
        return _padded(asked.batch(rows_B, most), most).to(self.recommending.precision.device)


def whose_log(request: Request, asked: Histories) -> int:
    """The user (from 1) whose events in the data a request is about; 0 where it brings its own."""
    return int(asked.users_R[0]) if request.history is None else 0


def _padded(batch: Batch, most: int) -> Batch:
    """As long as one of a few lengths, which kernels are prepared for once each."""
    missing = padded_length(batch.items_BL.shape[1], most) - batch.items_BL.shape[1]
    if missing <= 0:
        return batch
    wider = {}
    for name in OF_EVENTS:
        tensor = getattr(batch, name)
        if tensor is not None:
            wider[name] = F.pad(tensor, (0, missing) if tensor.dim() == 2 else (0, 0, 0, missing))
    return replace(batch, **wider)


def _up_to_power(count: int) -> int:
    """The next power of two, from 8 on."""
    return max(8, 1 << (count - 1).bit_length())
