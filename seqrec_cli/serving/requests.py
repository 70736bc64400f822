"""What a request says, and what it is answered, in the data's own ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seqrec_cli.serving.attribute_values import Given
from seqrec_cli.serving.cold_start import AnsweredBy

RawId = str | int


@dataclass(frozen=True)
class Request:
    """For whom, knowing what. Times are seconds since 1970, UTC."""

    user: RawId | None  # None, or one the data do not know: nobody in particular
    history: Sequence[RawId] | None  # items, the latest last; None: the user's events in the log
    times: Sequence[int] | None  # one an event of `history`
    asked_at: int | None  # None: at the latest event's time
    context: Mapping[str, str]  # by attribute
    top: int
    repeats: bool | None  # items of the history may come back; None: as the run ranked them
    # Read where the model has nothing to read (`cold_start.py`): of items that are liked and of the user,
    attributes: Given = field(default_factory=dict)
    # and of items of the history that the data do not have, by their ids as text.
    item_attributes: Mapping[str, Given] = field(default_factory=dict)


@dataclass(frozen=True)
class Recommended:
    """Items, the best first, and what of the request was read."""

    items: list[RawId]
    titles: list[str] | None
    scores: list[float]
    events_read: int  # the latest of the history, as many as the model takes
    unknown_items: list[RawId]  # of the history, which the data do not know: left out
    known_user: bool
    answered_by: AnsweredBy
