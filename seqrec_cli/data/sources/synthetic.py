"""Sequences from a known process, and its oracle: the exact probability of every next item, the best score there is.

With probability `predictability` an event follows from a recent one: a lag j is drawn from `lag_weights` (as many as
the history is long), and the event is one of the few successors of the item at that lag, most of them shared by the
item's category. Else it is drawn from the popularity of items in the user's segment. A user never repeats an item:
the draw is conditional on unseen items, so it is proportional to this mixture restricted to them. Lags beyond the
first are what a Markov chain cannot see.

Legend: U users, T steps, A users drawn together, J lags, S successors, V items (raw ids 1..V; 0 is none).
"""

import functools
import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.raw import AttributeTable, RawLog
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.machine import GIB, memory_left

START = 1_704_067_200  # seconds: the first sessions begin within START_DAYS of 2024-01-01
START_DAYS = 30
DAY, HOUR = 86_400, 3_600
LIKED = 0.25  # part of the categories a segment likes
LEAST_CHANCE = 1e-9  # of items that the settings rule out, but a user may need who has seen nearly all others
ROUNDS = 12  # rejected draws before a user's next item is drawn from the exact restricted mixture
ARRAYS = 4  # of users x max_events numbers at once: items, gaps, times, and one on the way
EXACT_ROWS = 256  # such users drawn together: [EXACT_ROWS, V] float64


class Config(DatasetConfig):
    """How many users, items and events there are, and how predictable the next event is."""

    raw_is_generated: ClassVar[bool] = True
    came_later: ClassVar[frozenset[str]] = frozenset({"owners"})

    seed: int = Field(ge=0, description="seed of the process")
    users: int = Field(ge=1, description="users")
    items: int = Field(ge=3, description="items")
    categories: int = Field(ge=1, description="item categories")
    segments: int = Field(ge=1, description="user segments, each with categories it likes")
    min_events: int = Field(ge=1, description="fewest events of a user")
    max_events: int = Field(ge=1, description="most events of a user")
    predictability: float = Field(ge=0, le=1, description="part of events that follow from a recent one")
    lag_weights: tuple[float, ...] = Field(
        min_length=1, description="how often an event follows from the last, second-last, ... one"
    )
    successors: int = Field(ge=1, description="items that may follow from an item")
    own_successors: float = Field(ge=0, le=1, description="part of them that is the item's own, not its category's")
    successor_decay: float = Field(ge=0, description="Zipf exponent of the successors' weights")
    linked: float = Field(
        ge=0, le=1, description="part of successors drawn from the item's category and the one after it"
    )
    popularity_decay: float = Field(ge=0, description="Zipf exponent of the items' popularity")
    affinity: float = Field(ge=1, description="how much more a segment takes from a category it likes")
    session_events: float = Field(ge=1, description="mean events a session")
    session_gap: float = Field(gt=0, description="mean seconds between events of a session")
    between_hours: tuple[float, float] = Field(description="least and most hours between sessions")
    owners: bool = Field(description="every item belongs to a user, drawn uniformly (for metrics of owners)")

    @model_validator(mode="after")
    def _no_file(self) -> Self:
        for name in ("archive", "url", "checksum"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"dataset.{name}: dataset={self.name} is generated and reads no file; name the reader too, "
                    "dataset=csv, or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.min_events <= self.max_events < self.items:
            raise ValueError(
                "dataset.min_events <= dataset.max_events < dataset.items is needed (no user repeats an item), got "
                f"{self.min_events}, {self.max_events}, {self.items}"
            )
        if 2 * self.successors >= self.items:
            raise ValueError(f"dataset.successors={self.successors} must be below half of dataset.items={self.items}")
        if self.categories > self.items:
            raise ValueError(f"dataset.categories={self.categories} exceeds dataset.items={self.items}")
        if min(self.lag_weights) < 0 or sum(self.lag_weights) <= 0 or self.lag_weights[0] <= 0:
            raise ValueError("dataset.lag_weights must not be negative, and the first must be above 0")
        if not 0 < self.between_hours[0] <= self.between_hours[1]:
            raise ValueError(f"dataset.between_hours must rise from above 0, got {list(self.between_hours)}")
        return self


def _zipf(count: int, exponent: float) -> np.ndarray:
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def _draw_distinct(weights_V: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices drawn by weight without replacement: exponential races (Efraimidis & Spirakis, 2006), int64 [count]."""
    with np.errstate(divide="ignore"):
        races_V = rng.exponential(size=len(weights_V)) / weights_V  # weight 0 arrives last
    drawn: np.ndarray = np.argsort(races_V)[:count]
    return drawn


class SyntheticProcess:
    """The process of one configuration. `generate` draws it; `probabilities` is its law."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        items, categories = cfg.items, cfg.categories
        rng = np.random.default_rng([cfg.seed, 0])
        self.category_V = rng.permutation(np.arange(items) % categories)
        links_C = np.roll(order := rng.permutation(categories), -1)[np.argsort(order)]  # a cycle over all categories
        # A category's items share most successors, as alike things are followed by alike things.
        self.successors_VS = np.zeros((items + 1, cfg.successors), np.int64)
        for category in range(categories):
            near_V = (self.category_V == category) | (self.category_V == links_C[category])
            weights_V = np.where(near_V, cfg.linked / near_V.sum(), (1 - cfg.linked) / max(1, (~near_V).sum()))
            weights_V = np.maximum(weights_V, LEAST_CHANCE)
            shared_S = _draw_distinct(weights_V, cfg.successors, rng)
            for item in np.flatnonzero(self.category_V == category):
                own_S = rng.random(cfg.successors) < cfg.own_successors
                own_S |= shared_S == item  # nothing follows itself
                weights_K = weights_V.copy()
                weights_K[[item, *shared_S]] = 0
                self.successors_VS[item + 1] = (
                    np.where(own_S, _draw_distinct(weights_K, cfg.successors, rng), shared_S) + 1
                )
        self.successor_weights_S = _zipf(cfg.successors, cfg.successor_decay)
        self.lag_weights_J = np.array(cfg.lag_weights)
        popularity_V = rng.permutation(_zipf(items, cfg.popularity_decay))
        liked = max(1, round(LIKED * categories))
        popular_GV = np.empty((cfg.segments, items))
        for segment in range(cfg.segments):
            taste_C = np.ones(categories)
            taste_C[rng.permutation(categories)[:liked]] = cfg.affinity
            popular_GV[segment] = popularity_V * taste_C[self.category_V]
        self.popular_GV = popular_GV / popular_GV.sum(axis=1, keepdims=True)
        self.segment_U = rng.integers(cfg.segments, size=cfg.users)
        self._chance = min(cfg.predictability, 1 - LEAST_CHANCE)

    def probabilities(self, latest_AJ: np.ndarray, segments_A: np.ndarray) -> np.ndarray:
        """P(next item) [A, V], before seen items are removed; column i is raw item i + 1.

        `latest_AJ` are the latest items, the last one first, 0 where a history is shorter.
        """
        weights_AJ = self._lag_chances(latest_AJ)
        chance_A1 = self._chance * weights_AJ.any(axis=1, keepdims=True)
        mixed_AV = self.popular_GV[segments_A] * (1 - chance_A1)
        rows_A1 = np.arange(len(latest_AJ))[:, None]
        for lag in range(latest_AJ.shape[1]):
            known = latest_AJ[:, lag] > 0
            successors_AS = self.successors_VS[latest_AJ[known, lag]]
            added_AS = (self._chance * weights_AJ[known, lag])[:, None] * self.successor_weights_S
            mixed_AV[rows_A1[known], successors_AS - 1] += added_AS  # an item's successors differ, so none is lost
        return mixed_AV

    def next_probabilities(self, history: list[int], segment: int) -> np.ndarray:
        """P(next item) [V] after a history of raw items, before seen items are removed; entry i is raw item i + 1."""
        latest = history[::-1][: len(self.lag_weights_J)]
        latest_1J = np.array([latest + [0] * (len(self.lag_weights_J) - len(latest))], np.int64)
        chances: np.ndarray = self.probabilities(latest_1J, np.array([segment]))[0]
        return chances

    def _lag_chances(self, latest_AJ: np.ndarray) -> np.ndarray:
        weights_AJ = np.where(latest_AJ > 0, self.lag_weights_J, 0)
        return weights_AJ / np.maximum(weights_AJ.sum(axis=1, keepdims=True), np.finfo(float).tiny)

    def _draw(self, latest_AJ: np.ndarray, segments_A: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A draw of the mixture for each row, int64 [A]."""
        lags_A = _pick(np.cumsum(self._lag_chances(latest_AJ), axis=1), rng)
        follows_A = (rng.random(len(latest_AJ)) < self._chance) & (latest_AJ[:, 0] > 0)
        ranks_A = np.searchsorted(np.cumsum(self.successor_weights_S)[:-1], rng.random(len(latest_AJ)), side="right")
        followed_A = self.successors_VS[np.take_along_axis(latest_AJ, lags_A[:, None], axis=1)[:, 0], ranks_A]
        popular_A = np.zeros(len(latest_AJ), np.int64)
        uniform_A = rng.random(len(latest_AJ))
        for segment in range(self.cfg.segments):
            here = segments_A == segment
            bounds_V = np.cumsum(self.popular_GV[segment])[:-1]
            popular_A[here] = np.searchsorted(bounds_V, uniform_A[here], side="right") + 1
        return np.where(follows_A, followed_A, popular_A)

    def _draw_unseen(self, seen_AT: np.ndarray, segments_A: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A draw of the mixture restricted to items not among `seen_AT` (in order, the last one last)."""
        lags = len(self.lag_weights_J)
        latest_AJ = np.zeros((len(seen_AT), lags), np.int64)
        recent_AT = seen_AT[:, ::-1][:, :lags]
        latest_AJ[:, : recent_AT.shape[1]] = recent_AT
        next_A = np.zeros(len(seen_AT), np.int64)
        left = np.arange(len(seen_AT))
        for _ in range(ROUNDS):
            drawn = self._draw(latest_AJ[left], segments_A[left], rng)
            fresh = ~(seen_AT[left] == drawn[:, None]).any(axis=1)
            next_A[left[fresh]] = drawn[fresh]
            left = left[~fresh]
        for first in range(0, len(left), EXACT_ROWS):
            rows = left[first : first + EXACT_ROWS]
            chances_AV = self.probabilities(latest_AJ[rows], segments_A[rows])
            np.put_along_axis(chances_AV, seen_AT[rows] - 1, 0.0, axis=1)
            next_A[rows] = _pick(np.cumsum(chances_AV, axis=1), rng) + 1
        return next_A

    def generate(self) -> RawLog:
        """Every user's events, users in order: raw ids from 1, times in seconds."""
        cfg, rng = self.cfg, np.random.default_rng([self.cfg.seed, 1])
        lengths_U = rng.integers(cfg.min_events, cfg.max_events + 1, cfg.users)
        items_UT = np.zeros((cfg.users, cfg.max_events), np.int64)
        for step in range(cfg.max_events):
            active_A = np.flatnonzero(lengths_U > step)
            items_UT[active_A, step] = self._draw_unseen(items_UT[active_A, :step], self.segment_U[active_A], rng)
        real_UT = np.arange(cfg.max_events) < lengths_U[:, None]
        user_ids, item_ids = np.arange(1, cfg.users + 1), np.arange(1, cfg.items + 1)
        return RawLog(
            users_N=np.repeat(user_ids, lengths_U),
            items_N=items_UT[real_UT],
            times_N=self._times(rng)[real_UT],
            ratings_N=None,
            item_attributes={"category": _labels(item_ids, "category", self.category_V, count=cfg.categories)},
            user_attributes={"segment": _labels(user_ids, "segment", self.segment_U, count=cfg.segments)},
            process=cfg.model_dump(mode="json", exclude={"owners"}),  # which the law does not know
            item_owners=self._owners() if cfg.owners else None,
        )

    def _owners(self) -> AttributeTable:
        """Drawn by a generator of their own, so that the events are those of the log without owners."""
        rng = np.random.default_rng([self.cfg.seed, 2])
        owners_V = rng.integers(1, self.cfg.users + 1, self.cfg.items)
        return AttributeTable(np.arange(1, self.cfg.items + 1), [(str(owner),) for owner in owners_V.tolist()])

    def _times(self, rng: np.random.Generator) -> np.ndarray:
        """Seconds [U, T], strictly rising: short gaps within a session, hours to days between sessions."""
        cfg = self.cfg
        shape = (cfg.users, cfg.max_events)
        short_UT = 1 + rng.exponential(cfg.session_gap, shape)
        low, high = np.log(np.array(cfg.between_hours) * HOUR)
        long_UT = np.exp(rng.uniform(low, high, shape))
        gaps_UT = np.where(rng.random(shape) < 1 / cfg.session_events, long_UT, short_UT)
        gaps_UT[:, 0] = START + rng.uniform(0, START_DAYS * DAY, cfg.users)
        return np.cumsum(np.ceil(gaps_UT), axis=1).astype(np.int64)


def _pick(cumulative_AK: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each row a column, drawn in proportion to the steps of its cumulative weights, int64 [A]."""
    points_A1 = rng.random(len(cumulative_AK))[:, None] * cumulative_AK[:, -1:]
    return np.minimum((cumulative_AK <= points_A1).sum(axis=1), cumulative_AK.shape[1] - 1)


def _labels(ids: np.ndarray, kind: str, codes: np.ndarray, *, count: int) -> AttributeTable:
    digits = len(str(count - 1))
    return AttributeTable(ids, [(f"{kind}-{code:0{digits}d}",) for code in codes.tolist()])


def read(cfg: Config, path: Path | None) -> RawLog:
    """All events of the process; the same for the same settings. Raises SeqrecError where they cannot fit in memory."""
    events, tables = cfg.users * cfg.max_events, cfg.items * (cfg.segments + cfg.successors)
    needed, most = 8 * (ARRAYS * events + tables + cfg.users), memory_left()
    if most is not None and needed > most:
        raise SeqrecError(
            f"no memory for dataset.users={cfg.users}, dataset.max_events={cfg.max_events} and "
            f"dataset.items={cfg.items}: at least {needed / GIB:,.1f} GiB, and {most / GIB:,.1f} GiB can be had; "
            "lower the largest"
        )
    return SyntheticProcess(cfg).generate()


def has_oracle(log: PackedLog) -> bool:
    """True where the log is the whole output of a known process (a filter that removes events hides its histories)."""
    return log.manifest.get("process") is not None


@functools.lru_cache(maxsize=2)
def _process(settings: str) -> SyntheticProcess:
    newer = dict.fromkeys(Config.model_fields)  # settings that an older log's law was written without
    return SyntheticProcess(Config.model_validate_json(json.dumps(newer | json.loads(settings) | {"owners": False})))


def oracle_scores(log: PackedLog, rows_B: np.ndarray, ends_B: np.ndarray) -> np.ndarray:
    """The generating process's probability of every item as the next event, float64 [B, V + 1] by packed index.

    `rows_B` are user rows, `ends_B` absolute log positions the histories end before. Column 0 (padding) is 0. Seen
    items keep their probability; restricted to the unseen ones the order is that of the true law. Raises SeqrecError
    for a log without a known process.
    """
    settings: dict[str, Any] | None = log.manifest.get("process")
    if settings is None or log.folder is None:
        raise SeqrecError("this log comes from no known process, or filters changed its histories: there is no oracle")
    process = _process(json.dumps(settings, sort_keys=True))
    raw_items = np.concatenate([[0], vocabulary(log.folder, "items")])  # raw id by packed index
    segments_B = process.segment_U[vocabulary(log.folder, "users")[rows_B] - 1]
    positions_BJ = ends_B[:, None] - 1 - np.arange(len(process.lag_weights_J))
    known_BJ = positions_BJ >= log.offsets_U1[rows_B][:, None]
    latest_BJ = np.where(known_BJ, raw_items[log.items_N[np.maximum(positions_BJ, 0)]], 0)
    scores_BV = np.zeros((len(rows_B), log.num_items + 1))
    scores_BV[:, 1:] = process.probabilities(latest_BJ, segments_B)[:, raw_items[1:] - 1]
    return scores_BV
