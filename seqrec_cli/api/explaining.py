"""What the events of a history weighed, as a frame."""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from seqrec_cli.commands.explain import explained
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.serving.attribution.mattering import AS_USUAL, Order
from seqrec_cli.serving.attribution.methods import Method
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId, Request

if TYPE_CHECKING:
    import pandas as pd


def explained_frame(
    recommending: Recommending,
    request: Request,
    item: RawId | None,
    *,
    events: int | None,
    method: Method,
    order: Order,
) -> "pd.DataFrame":
    """A row an item and event; `Trained.explain` says of what."""
    import pandas as pd

    for name, value, known in (("method", method, get_args(Method)), ("order", order, get_args(Order))):
        if value not in known:
            raise SeqrecError(f"{name}={value}: expected one of {', '.join(known)}{nearest(value, known)}")
    _, unknown = recommending.known_indices(request.history or ())
    if unknown:
        line = f"left out, for the data do not have them: {', '.join(map(str, unknown))}"
        warnings.warn(line, UserWarning, stacklevel=3)
    how = replace(AS_USUAL, method=method)
    _, found = explained(recommending, request, item, top=request.top, how=how)
    timed = found[0].events[0].time is not None
    rows = [
        {
            "item": each.item,
            "score": each.score,
            "event": event.item,
            **({"time": pd.Timestamp(event.time, unit="s", tz="UTC")} if event.time is not None else {}),
            "weight": event.weight,
        }
        for each in found
        for event in each.shown(len(each.events) if events is None else events, order)
    ]
    frame = pd.DataFrame(rows, columns=["item", "score", "event", *(["time"] if timed else []), "weight"])
    frame.attrs |= {"method": found[0].method, "scale": found[0].scale}
    return frame
