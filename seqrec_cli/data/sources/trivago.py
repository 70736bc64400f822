"""The RecSys Challenge 2019 log of trivago: sessions of hotel search, with the impressions of every click-out.

12 columns with a header; `reference` is the item of item actions and text elsewhere, `impressions` a `|` list. A
history is the user's item actions; a click-out is a request too, its impressions labelled clicked or only shown, and
platform, city and device its context. Knees et al., "RecSys Challenge 2019", RecSys 2019.

Of a folder or zip the log is `train.csv` (the challenge's test.csv hides clicks), and `item_metadata.csv` gives the
items' properties.
"""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.archive import RawFiles
from seqrec_cli.data.columns import Columns
from seqrec_cli.data.raw import AttributeTable, Impressions, RawLog
from seqrec_cli.data.vocabulary import factorize

LOG, PROPERTIES = "train.csv", "item_metadata.csv"
CLICK = "clickout item"
COLUMNS = (
    "user_id",
    "session_id",
    "timestamp",
    "action_type",
    "reference",
    "platform",
    "city",
    "device",
    "impressions",
)


class Config(DatasetConfig):
    """What is a history and what a context."""

    several_files: ClassVar[bool] = True

    actions: tuple[
        Literal[
            "interaction item image",
            "interaction item info",
            "interaction item rating",
            "interaction item deals",
            "search for item",
        ],
        ...,
    ] = Field(description="item actions in a history, beside click-outs")
    collapse: bool = Field(description="an action with the item of the action before it, in one session, is left out")
    context: tuple[Literal["platform", "city", "device"], ...] = Field(description="what of a request is its context")

    @property
    def logs_impressions(self) -> bool:
        return True


def read(cfg: Config, path: Path) -> RawLog:
    """Item actions in the order of the file, and click-outs as requests."""
    files = RawFiles(path)
    columns = _columns(files, _log_name(files), COLUMNS)
    rows = len(columns)
    codes_N, actions = columns.texts("action_type")
    wanted_N = np.array([text in (CLICK, *cfg.actions) for text in actions], bool)[codes_N]
    items_only_N = wanted_N & columns.whole_numbers("reference")
    columns = columns.where(items_only_N)
    if not len(columns):
        raise SeqrecError(f"{path.name} holds no item actions; is it the log of the RecSys Challenge 2019?")
    users_N, items_N, (times_N, ticks) = (
        columns.ids("user_id"),
        columns.ids("reference"),
        columns.times("timestamp", "s"),
    )
    codes_N, actions = columns.texts("action_type")
    clicks_N = np.array([text == CLICK for text in actions], bool)[codes_N]
    notes = [f"{rows - int(wanted_N.sum())} rows of other actions than click-outs and dataset.actions left out"]
    if int(wanted_N.sum()) > len(columns):
        notes.append(f"{int(wanted_N.sum()) - len(columns)} item actions without an item left out")
    kept_N = np.ones(len(columns), bool)
    if cfg.collapse:
        kept_N = clicks_N | ~_repeated(users_N, columns.texts("session_id")[0], items_N, times_N=times_N)
        notes.append(f"{int((~kept_N).sum())} actions with the item of the action before left out (dataset.collapse)")
    impressions = _impressions(columns, items_N, clicks_N, kept_N=kept_N, notes=notes)
    context = {name: columns.texts(name) for name in cfg.context}
    return RawLog(
        users_N[kept_N],
        items_N[kept_N],
        times_N[kept_N],
        None,
        _properties(files),
        context={name: (values_N[kept_N], texts) for name, (values_N, texts) in context.items()},
        impressions=impressions,
        notes=tuple(notes),
        ticks_per_second=ticks,
        sessions_N=columns.texts("session_id")[0][kept_N].astype(np.int32),
    )


def _log_name(files: RawFiles) -> str:
    logs = [name for name in files.names if name.endswith((".csv", ".csv.gz")) and not name.startswith("item_metadata")]
    chosen = logs if len(logs) == 1 else [name for name in logs if name.removesuffix(".gz") == LOG]
    if len(chosen) != 1:
        raise SeqrecError(f"{files.path} holds no {LOG} (has: {', '.join(files.names[:8])})")
    return chosen[0]


def _columns(files: RawFiles, name: str, wanted: tuple[str, ...]) -> Columns:
    if files.path.suffix.lower() != ".zip":
        return Columns.parse(files.path_of(name), name, delimiter=",", columns=wanted, header=True, quoted=True)
    with files.open(name) as file:
        return Columns.parse(file.read(), name, delimiter=",", columns=wanted, header=True, quoted=True)


def _repeated(users_N: np.ndarray, sessions_N: np.ndarray, items_N: np.ndarray, *, times_N: np.ndarray) -> np.ndarray:
    """True where the event before it, of the same user and session, has the same item."""
    user_codes_N = factorize(users_N)[1]
    order_N = np.lexsort((times_N, user_codes_N))  # stable: equal times stay in the order of the file
    same = np.ones(len(order_N) - 1, bool)
    for codes_N in (user_codes_N, sessions_N, items_N):
        same &= codes_N[order_N[1:]] == codes_N[order_N[:-1]]
    found_N = np.zeros(len(order_N), bool)
    found_N[order_N[1:][same]] = True
    return found_N


def _impressions(
    columns: Columns, items_N: np.ndarray, clicks_N: np.ndarray, *, kept_N: np.ndarray, notes: list[str]
) -> Impressions:
    """The click-outs whose item was shown; the others stay in the history alone, and are counted."""
    shown_S, bounds_N1 = columns.lists("impressions", "|")
    counts_N = np.where(clicks_N, np.diff(bounds_N1), 0)
    of_S = np.repeat(np.arange(len(items_N)), np.diff(bounds_N1))
    once_S = np.zeros(len(shown_S), bool)  # an item shown twice counts once
    order_S = np.lexsort((shown_S, of_S))
    new = np.diff(shown_S[order_S], prepend=-1) != 0
    once_S[order_S[new | (np.diff(of_S[order_S], prepend=-1) != 0)]] = True
    hit_N = np.bincount(of_S, weights=(shown_S == items_N[of_S]) & once_S, minlength=len(items_N)) > 0
    asked_N = clicks_N & hit_N & (counts_N > 0)
    if asked_N.sum() < clicks_N.sum():
        notes.append(f"{int(clicks_N.sum() - asked_N.sum())} click-outs whose item was not among the shown ask nothing")
    in_S = once_S & asked_N[of_S]
    sizes_Q = np.bincount(of_S[in_S], minlength=len(items_N))[asked_N]
    positions_N = np.cumsum(kept_N) - 1
    return Impressions(positions_N[asked_N], np.concatenate([[0], np.cumsum(sizes_Q)]).astype(np.int64), shown_S[in_S])


def _properties(files: RawFiles) -> dict[str, AttributeTable]:
    names = [name for name in files.names if name.removesuffix(".gz") == PROPERTIES]
    if not names:
        return {}
    columns = _columns(files, names[0], ("item_id", "properties"))
    codes_N, texts = columns.texts("properties")
    split = [tuple(dict.fromkeys(text.split("|"))) for text in texts]
    return {
        "properties": AttributeTable(columns.ids("item_id"), [split[code] if code >= 0 else () for code in codes_N])
    }
