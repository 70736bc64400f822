"""Which past events a score rests on: each is left out in turn, and the score asked for again (leave-one-out).

Li, Monroe and Jurafsky, "Understanding Neural Networks through Representation Erasure" (2016), equation 1, with the
score in place of its log-likelihood and without the division: the contribution of event e to item i is
score(i | history) - score(i | history without e). It holds for every model, whatever is in it; contributions need not
add up to the score.

Legend: E events left out, N events of a history, C candidates, R histories.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqrec_cli.data.histories import Histories
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId

Score = Callable[[Histories], Awaitable[np.ndarray]]  # the candidates' scores [C] after one history


def leave_one_out(asked: Histories, events_E: np.ndarray) -> list[Histories]:
    """One history, without each of these events (positions from 0): its request's time, user and context stay.

    Of a single event nothing is left: a history of none, of which the model is asked all the same.
    """
    own = asked.own()
    if len(own) != 1:
        raise ValueError("one history is needed")
    ends_R = own.ends_R - 1

    def without(values_N: np.ndarray | None, event: int) -> np.ndarray | None:
        return None if values_N is None else np.delete(values_N, event, axis=0)

    return [
        replace(
            own,
            items_N=np.delete(own.items_N, event),
            ends_R=ends_R,
            times_N=without(own.times_N, event),
            context_NF=without(own.context_NF, event),
        )
        for event in events_E.tolist()
    ]


@dataclass(frozen=True)
class Contributions:
    """What the latest events of one history do to some items' scores."""

    scores_C: np.ndarray  # after the whole history
    events_E: np.ndarray  # positions among the events that the data know, from 0
    items_E: np.ndarray  # of these events, from 1
    contributions_EC: np.ndarray

    def by_item(self, recommending: Recommending, told: Sequence[RawId] | None) -> list[list[dict[str, Any]]]:
        """In the data's own ids, for each candidate the heaviest event first. `told` is the request's own history:
        positions count the items in it that the data do not know."""
        positions_E = self.events_E if told is None else recommending.known_positions(told)[self.events_E]
        raw_E = recommending.named(self.items_E)[0]
        found = []
        for contributions_E in self.contributions_EC.T:
            order = np.argsort(-np.abs(contributions_E), kind="stable").tolist()
            found.append(
                [
                    {"position": int(positions_E[e]), "item_id": raw_E[e], "contribution": float(contributions_E[e])}
                    for e in order
                ]
            )
        return found


async def contributions(asked: Histories, score: Score, *, read: int, most: int) -> Contributions:
    """Of the latest events of one history: as many as the model reads (`read`), for the others' is 0, and at most
    `most`. What the model reads is asked about as it is: no older event takes the place of the one left out, as in
    `attribution.removal`. `score` is called for all histories at once."""
    own, older = latest(asked, read)
    length = len(own.items_N)
    events_E = np.arange(max(length - most, 0), length)
    histories = [own, *(leave_one_out(own, events_E) if len(events_E) else ())]
    scores_RC = np.stack(await asyncio.gather(*map(score, histories)))
    return Contributions(scores_RC[0], events_E + older, own.items_N[events_E], scores_RC[:1] - scores_RC[1:])


def latest(asked: Histories, read: int) -> tuple[Histories, int]:
    """One history cut to its latest events, and how many older ones are left out."""
    own = asked.own()
    older = max(len(own.items_N) - read, 0)

    def cut(values_N: np.ndarray | None) -> np.ndarray | None:
        return None if values_N is None else values_N[older:]

    items_N, times_N, context_NF = own.items_N[older:], cut(own.times_N), cut(own.context_NF)
    return replace(own, items_N=items_N, ends_R=own.ends_R - older, times_N=times_N, context_NF=context_NF), older
