"""Scores and like items at a state of the items that the question carries.

Legend: B rows, C candidates, D width, K answers, M seen events, R rows of the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seqrec_cli.data.histories import Histories
from seqrec_cli.models.contract import SequenceEncoder, corpus_scores, full_precision
from seqrec_cli.serving.alike import ItemVectors, LikeItem
from seqrec_cli.serving.item_search import Search
from seqrec_cli.serving.item_state import RecommendingAt, State
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import Request
from seqrec_cli.serving.scores import refuse_no_numbers
from seqrec_cli.serving.scoring import Question, Scoring, whose_log


@dataclass(frozen=True)
class QuestionAt(Question):
    """A question by a state, and the rows that its history keeps from coming back."""

    state: State | None = None
    seen_M: np.ndarray | None = None

    @property
    def kind(self) -> tuple[object, ...]:
        assert self.state is not None
        return *super().kind, self.state.version


@dataclass(frozen=True)
class LikeItemAt(LikeItem):
    """The same of an item's row at a state."""

    state: State | None = None

    @property
    def kind(self) -> tuple[object, ...]:  # type: ignore[override]
        assert self.state is not None
        return "like an item", self.state.version


class ScoringAt(Scoring):
    """Scoring whose table of items is that of the question's state. One thread at a time."""

    def __init__(self, recommending: Recommending, search: Search | None) -> None:
        super().__init__(recommending)
        self._search, self._read_version = search, 0

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
        assert isinstance(recommending, RecommendingAt)
        seen_M = recommending.seen(request, asked) if candidates_C is None else None
        return QuestionAt(
            asked,
            candidates_C,
            top,
            request.repeats,
            hidden_V1,
            whose_log(request, asked),
            state=recommending.state,
            seen_M=seen_M,
        )

    def answer(self, questions: Sequence[Question]) -> list[tuple[np.ndarray, np.ndarray]]:
        state = _state_of(questions[0])
        self._table_VD, self._bias_V = state.table_RD, state.bias_R
        assert isinstance(self.model, SequenceEncoder)
        if state.version > self._read_version and self.model.reads_what_it_scores:
            # Later tables have the rows of earlier ones.
            self.model.use_item_table(state.table_RD)
            self._users.forget()
            self._read_version = state.version
        return super().answer(questions)

    def _best(self, questions: Sequence[Question], asked: Histories) -> list[tuple[np.ndarray, np.ndarray]]:
        state, last_BD = _state_of(questions[0]), self._last(questions, asked)
        hidden = [self._hidden(question) for question in questions]
        top = max(question.top for question in questions)
        if self._search is None or max(map(len, hidden)) > len(state) // 2:  # an index would be asked for nearly all
            return self._exact(last_BD, state, hidden, tops=[question.top for question in questions])
        refuse_no_numbers(last_BD, first=0)
        self._search.bring_to(state)
        count = top + max(map(len, hidden))
        rows_BK, scores_BK = self._search.best(last_BD, count, state)
        found = []
        for nth, (question, hidden_M) in enumerate(zip(questions, hidden, strict=True)):
            left_K = (rows_BK[nth] >= 0) & ~np.isin(rows_BK[nth], hidden_M)
            answer = rows_BK[nth][left_K][: question.top], scores_BK[nth][left_K][: question.top]
            if len(answer[0]) < min(question.top, len(state) - len(state.dead) - len(hidden_M)):
                # The lists that were looked into hold too few: look at all.
                (answer,) = self._exact(last_BD[nth : nth + 1], state, [hidden_M], tops=[question.top])
            found.append(answer)
        return found

    def _exact(
        self, last_BD: torch.Tensor, state: State, hidden: list[np.ndarray], *, tops: list[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        with full_precision(last_BD.device):
            scores_BR = corpus_scores(last_BD, state.table_RD, state.bias_R)
        refuse_no_numbers(scores_BR)
        scores_BR[:, state.dead] = -torch.inf
        positions_M = torch.from_numpy(np.repeat(np.arange(len(hidden)), [len(each) for each in hidden]))
        rows_M = torch.from_numpy(np.concatenate(hidden))
        scores_BR[positions_M.to(scores_BR.device), rows_M.to(scores_BR.device)] = -torch.inf
        best = scores_BR.topk(min(max(tops), scores_BR.shape[1]), dim=1)
        rows_BK, scores_BK = best.indices.cpu().numpy(), best.values.cpu().numpy()
        left_B = [min(int(np.isfinite(row).sum()), top) for row, top in zip(scores_BK, tops, strict=True)]
        return [(rows_BK[nth][:left], scores_BK[nth][:left]) for nth, left in enumerate(left_B)]

    def _hidden(self, question: Question) -> np.ndarray:
        assert isinstance(question, QuestionAt)
        keeps = self._keeps_seen if question.repeats is None else question.repeats
        hidden = [] if keeps or question.seen_M is None else [question.seen_M]
        if question.hidden_V1 is not None:
            hidden.append(np.flatnonzero(question.hidden_V1))
        return np.unique(np.concatenate(hidden)) if hidden else np.empty(0, np.int64)


class ItemVectorsAt(ItemVectors):
    """Like items among those of the question's state."""

    def question(self, recommending: Recommending, item: int, top: int) -> LikeItem:
        assert isinstance(recommending, RecommendingAt)
        return LikeItemAt(item, top, recommending.state)

    def answer(self, questions: Sequence[LikeItem]) -> list[tuple[np.ndarray, np.ndarray]]:
        state = _state_of(questions[0])
        self._units_VD, self._left_out = state.units_RD, state.dead
        return super().answer(questions)


def _state_of(question: object) -> State:
    assert isinstance(question, QuestionAt | LikeItemAt)
    assert question.state is not None
    return question.state
