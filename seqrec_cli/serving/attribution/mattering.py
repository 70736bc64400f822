"""The past events that mattered for a recommendation, in the data's own ids: for `explain`, and for whoever shows them.

Legend: L events that the model read, C items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.histories import Histories
from seqrec_cli.serving.attribution.gradients import Path
from seqrec_cli.serving.attribution.methods import Attribution, How, Method, Scale, attribute, read_of
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId, Request

Order = Literal["weight", "time"]
AS_USUAL = How("auto", Path(gap=0.01, points=512))


@dataclass(frozen=True)
class Event:
    """A past event and what it weighed."""

    item: RawId
    title: str | None
    time: int | None  # seconds since 1970
    place: int  # 0 is the oldest event that the model read
    weight: float


@dataclass(frozen=True)
class Mattered:
    """An item's score and what each event that the model read weighed in it, oldest first. See `Attribution`."""

    item: RawId
    title: str | None
    score: float
    method: Method
    scale: Scale
    events: list[Event]
    baseline: float | None
    gap: float | None

    def shown(self, events: int, order: Order = "weight") -> list[Event]:
        """So many of the events that weighed most: the heaviest first, or the oldest."""
        heaviest = sorted(self.events, key=lambda event: -abs(event.weight))[:events]
        return heaviest if order == "weight" else sorted(heaviest, key=lambda event: event.place)


def which_events_mattered(
    recommending: Recommending, request: Request, items: Sequence[RawId], *, how: How = AS_USUAL
) -> list[Mattered]:
    """What each past event of one request weighed in the scores of these items, all in raw ids.

    By attention where the model has it, else by leaving events out, unless `how` names a method. Raises SeqrecError for
    unknown items, and where nothing of the request is known: it is then answered by popularity, and no event matters.
    """
    asked = history_of(recommending, request)
    return mattered(recommending, asked, recommending.indices(items).tolist(), how=how)


def history_of(recommending: Recommending, request: Request) -> Histories:
    """The history that a request is about. Raises SeqrecError where the model would have none to read."""
    if request.history is None and request.user is not None:
        recommending.logged([request.user])  # refuses an unknown one
    asked, _ = recommending.known(request)
    if asked is None:
        raise SeqrecError(
            "no item of the history is in the data, so popularity answers and no event mattered; give items such as "
            f"{recommending.items[0]}, {recommending.items[-1]}"
        )
    return asked


def mattered(
    recommending: Recommending, asked: Histories, items_C: Sequence[int], *, how: How = AS_USUAL
) -> list[Mattered]:
    """The same of a history of one row and items by index, as `Recommending.known` and `best` give them."""
    return told(recommending, asked, items_C, found=attribute(recommending, asked, items_C, how=how))


def told(recommending: Recommending, asked: Histories, items_C: Sequence[int], *, found: Attribution) -> list[Mattered]:
    """Weights in the data's own ids."""
    batch = read_of(recommending, asked)
    ids_L, titles_L = recommending.named(batch.items_BL[0].cpu().numpy())
    times_L = None if batch.times_BL is None else batch.times_BL[0].tolist()
    ids_C, titles_C = recommending.named(np.asarray(items_C))
    return [
        Mattered(
            ids_C[nth],
            None if titles_C is None else titles_C[nth],
            float(found.scores_C[nth]),
            found.method,
            found.scale,
            [
                Event(
                    ids_L[place],
                    None if titles_L is None else titles_L[place],
                    None if times_L is None else times_L[place],
                    place,
                    float(found.weights_LC[place, nth]),
                )
                for place in range(len(ids_L))
            ],
            None if found.baselines_C is None else float(found.baselines_C[nth]),
            None if found.gaps_C is None else float(found.gaps_C[nth]),
        )
        for nth in range(len(ids_C))
    ]
