"""Taobao's UserBehavior.csv: user, item, category, behaviour, time (seconds), no header; also zipped.

Zhu et al., "Learning Tree-based Deep Model for Recommender Systems", KDD 2018. 2017-11-25 to 2017-12-03, Chinese time;
a few rows are dated outside those days.
"""

from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.archive import read_members
from seqrec_cli.data.columns import Columns
from seqrec_cli.data.raw import AttributeTable, RawLog
from seqrec_cli.data.vocabulary import factorize, first_rows

NAME = "UserBehavior.csv"
NAMES = ("user", "item", "category", "behaviour", "time")
BEHAVIOURS = ("pv", "cart", "fav", "buy")


class Config(DatasetConfig):
    """Which events count."""

    behaviours: tuple[Literal["pv", "cart", "fav", "buy"], ...] = Field(
        min_length=1, description="events that count: page view, cart, favourite, purchase"
    )
    outliers: Literal["keep", "drop"] = Field(description="events before first_time or after last_time")
    first_time: int = Field(description="seconds: the first of the published days begins")
    last_time: int = Field(description="seconds: the last of the published days ends")

    @model_validator(mode="after")
    def _times_rise(self) -> Self:
        if self.first_time >= self.last_time:
            raise ValueError("dataset.first_time must lie before dataset.last_time")
        return self


def read(cfg: Config, path: Path) -> RawLog:
    """Events of the wanted behaviours; an item's category is that of its first row."""
    data = read_members(path, NAME)[0] if path.suffix.lower() == ".zip" else path
    columns = Columns.parse(data, path.name, delimiter=",", columns=NAMES, names=NAMES)
    codes_N, found = columns.texts("behaviour")
    foreign = sorted(set(found) - set(BEHAVIOURS))
    if foreign or (codes_N < 0).any():
        shown = f"'{foreign[0]}'" if foreign else "empty"
        raise SeqrecError(f"{path.name}: a behaviour is {shown}, not one of {', '.join(BEHAVIOURS)}; is it {NAME}?")
    users_N, items_N, (times_N, ticks) = columns.ids("user"), columns.ids("item"), columns.times("time", "s")
    wanted_N = np.array([text in cfg.behaviours for text in found], bool)[codes_N]
    outside_N = wanted_N & ((times_N < cfg.first_time) | (times_N > cfg.last_time))
    notes = []
    if not wanted_N.all():
        notes.append(f"{int((~wanted_N).sum())} events of other behaviours than {', '.join(cfg.behaviours)} left out")
    if outside_N.any():
        verb = "kept" if cfg.outliers == "keep" else "left out"
        notes.append(f"{int(outside_N.sum())} events dated outside the published days {verb}")
    kept_N = wanted_N & ~outside_N if cfg.outliers == "drop" else wanted_N
    categories_N, names = columns.texts("category")
    owners, owners_N = factorize(items_N)
    first = categories_N[first_rows(owners_N, len(owners))]
    return RawLog(
        users_N[kept_N],
        items_N[kept_N],
        times_N[kept_N],
        None,
        {"category": AttributeTable(owners, [(names[code],) if code >= 0 else () for code in first])},
        notes=tuple(notes),
        ticks_per_second=ticks,
    )
