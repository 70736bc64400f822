"""What to recommend where the model has nothing to read: item popularity given what is known of the user's taste.

Evidence is a set of attribute values v, each with a distribution over the items that is smoothed towards another one,
P0, by a Dirichlet prior of strength mu (as in language models: Zhai & Lafferty 2004, TOIS 22(2), eq. 6):

    P(i | v) = (n(v, i) + mu P0(i | v)) / (n(v) + mu)

n(v, i) are training events of item i, and P0 overall popularity p:
- of users with v, for a value of a user attribute (an age group);
- of users whose favourite is v, for a value of an item attribute that is liked (a genre): a user's favourite is the
  value whose share of their events exceeds its share of all events most. P0 is here the popularity of the items with v,
  smoothed towards p with mu = g N of N events in all;
- of all users, each weighed with their share of events with v, for a value of an unknown item that somebody had.

Values are combined as naive Bayes does, as if attributes were independent given the item, and several values of one
attribute (which are not) as their geometric mean:

    score(i) = log p(i) + sum over v of w(v) log(P(i | v) / p(i))

with w(v) one over the number of values of v's attribute. mu and g are chosen for each attribute by the likelihood of
training events that were not counted: of half of the users; for item attributes, of the second halves of their
histories given the favourite of the first halves. An attribute that says little gets a large mu, and its values hardly
move the order.

That popular items of a liked genre are liked by whoever likes the genre is what one would think, and is not so on
MovieLens: P0 alone ranks below popularity there, and what its fans had above (docs/cold-start.md).

Legend: V items (column 0 is padding), N events, U users, W values a row, A values of an attribute, G strengths tried.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts
from seqrec_cli.serving.attribute_values import AttributeValues, Given, Side, Value
from seqrec_cli.serving.sampled_events import Events, paired

# The others where nothing is known that the model could read: the attributes of the request, those of the user in the
# data, those of the history's unknown items, and nothing at all.
AnsweredBy = Literal["model", "attributes", "profile", "category", "popularity"]
Use = Literal["liked", "had", "is"]  # of a value: of items that are liked, of items of the history, of the user
# Strengths tried, in events, and those of `liked` values towards popularity, in shares of all events.
EVENTS_G = 10.0 ** np.arange(1, 7)
SHARES_G = 2.0 ** np.arange(-6, 7)
KEPT = 256  # distributions


class Priors:
    """Scores of all items by attribute values, counted from a log's training events when first asked for."""

    def __init__(self, log: PackedLog) -> None:
        self._log = log
        self.items, self.users = AttributeValues(log, "item"), AttributeValues(log, "user")
        self._strengths: dict[tuple[Side, str], float] = {}
        self._favourite: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._lift: dict[str, np.ndarray] = {}
        self._kept: dict[tuple[Value, Use], np.ndarray] = {}

    def best(self, told: Given, user: int | None, described: Sequence[Given]) -> tuple[AnsweredBy, np.ndarray] | None:
        """The best evidence there is and every item's score by it: the request's attributes, those of a user of the
        data (from 1), those of unknown items; None where there is none."""
        profile = [] if user is None else self.users.of_row(user)
        of_items = [value for given in described for value in self.items.read(given, "item_attributes")]
        by: AnsweredBy
        for by, values, use in (
            ("attributes", self.read(told), "liked"),
            ("profile", profile, "is"),
            ("category", of_items, "had"),
        ):
            if values:
                return by, self.scores(values, had=use == "had")
        return None

    def check(self, told: Given, of_items: Mapping[str, Given]) -> None:
        """Raises SeqrecError on an attribute or a value that the data do not have."""
        self.read(told)
        for item, given in of_items.items():
            self.items.read(given, f"item_attributes.{item}")

    def read(self, given: Given) -> list[Value]:
        """Values of item attributes (liked ones) and of user attributes (what somebody is). A name that items and users
        both have is told apart as `item.NAME` or `user.NAME`. Raises SeqrecError on unknown names and values."""
        found = []
        for name, told in given.items():
            side, _, rest = name.partition(".")
            sides = {"item": self.items, "user": self.users}
            if side in sides and rest:
                found += sides[side].read({rest: told}, f"attributes.{side}")
                continue
            having = [each for each in sides.values() if name in each.names]
            if len(having) > 1:
                raise SeqrecError(f"attributes.{name}: items and users have it; say item.{name} or user.{name}")
            if not having:
                names = [*self.items.names, *self.users.names]
                have = ", ".join(names) or "none"
                raise SeqrecError(
                    f"attributes.{name}: the data have no such attribute{nearest(name, names)} (have: {have})"
                )
            found += having[0].read({name: told}, "attributes")
        return found

    def scores(self, values: Sequence[Value], *, had: bool = False) -> np.ndarray:
        """Every item's log-probability but for a constant, float32 [V + 1]; item values are liked ones, or those of
        items that somebody `had`, where one may stand several times."""
        log_p_V = scores_V = np.log(self._popularity_V)
        several = Counter((value.side, value.attribute) for value in values)
        for value in values:
            use: Use = "is" if value.side == "user" else "had" if had else "liked"
            lift_V = np.log(self._given_V(value, use)) - log_p_V
            scores_V = scores_V + lift_V / several[value.side, value.attribute]
        return scores_V.astype(np.float32)

    def strength(self, side: Side, attribute: str) -> float:
        """mu of an attribute, in events."""
        if (side, attribute) not in self._strengths:
            self._strengths[side, attribute] = self._chosen(side, attribute)
        return self._strengths[side, attribute]

    @cached_property
    def _counts_V(self) -> np.ndarray:
        return training_counts(self._log).astype(np.float64)

    @cached_property
    def _popularity_V(self) -> np.ndarray:
        """p: items without training events have what one more event, spread over all, would give them."""
        counts_V = self._counts_V + 1 / self._log.num_items
        return counts_V / counts_V[1:].sum()  # that of padding is finite, and nobody's

    @cached_property
    def _events(self) -> Events:
        return Events.of(self._log)

    def _given_V(self, value: Value, use: Use) -> np.ndarray:
        """P(i | v), [V + 1]."""
        if (value, use) not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            events, prior_V = self._events, self._popularity_V
            if use == "is":
                weights_U = (self.users.codes(value.attribute)[1:][events.rows_U] == value.code).any(axis=1) * 1.0
            elif use == "liked":
                weights_U = (self._favourites(value.attribute)[0] == value.code) * 1.0
                prior_V = prior_V * self._lifts(value.attribute)[:, value.code][self._having(value).astype(int)]
            else:
                had_U = np.bincount(events.users_N, self._having(value)[events.items_N], len(events.rows_U))
                weights_U = had_U / np.maximum(events.lengths_U, 1)
            counts_V = np.bincount(events.items_N, weights_U[events.users_N], len(prior_V))
            mu = self.strength(value.side, value.attribute)
            self._kept[value, use] = (counts_V + mu * prior_V) / (counts_V.sum() + mu)
        return self._kept[value, use]

    def _having(self, value: Value) -> np.ndarray:
        having_V: np.ndarray = (self.items.codes(value.attribute) == value.code).any(axis=1)
        return having_V

    def _shares(self, attribute: str) -> np.ndarray:
        """The share of events with each value of an item attribute, [A]."""
        codes_VW = self.items.codes(attribute)
        counts_A = np.bincount(
            codes_VW.ravel(), np.repeat(self._counts_V, codes_VW.shape[1]), self.items.size(attribute)
        )
        return counts_A / max(self._counts_V.sum(), 1)

    def _favourites(self, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        """Every user's favourite value (0: none) by all training events, and by the first half of them, [U] each."""
        if attribute not in self._favourite:
            events, shares_A = self._events, self._shares(attribute)
            every_N = np.ones(len(events.items_N), bool)
            codes_VW = self.items.codes(attribute)
            self._favourite[attribute] = (
                events.favourites(codes_VW, shares_A, every_N),
                events.favourites(codes_VW, shares_A, events.first_half_N),
            )
        return self._favourite[attribute]

    def _lifts(self, attribute: str) -> np.ndarray:
        """P0(i | v) / p(i) of items without and with each value, [2, A], with the g that explains best what users had
        later given what they had most at first."""
        if attribute not in self._lift:
            events, codes_VW, shares_A = self._events, self.items.codes(attribute), self._shares(attribute)
            likes_N = self._favourites(attribute)[1][events.users_N]
            later_N = ~events.first_half_N & (likes_N > 0)
            has_N = (codes_VW[events.items_N[later_N]] == likes_N[later_N][:, None]).any(axis=1)
            lifts_G2A = np.log(
                np.stack([np.tile(SHARES_G[:, None], len(shares_A)), 1 + SHARES_G[:, None] + 0 * shares_A], 1)
            )
            lifts_G2A -= np.log(shares_A + SHARES_G[:, None])[:, None]
            likelihood_G = lifts_G2A[:, has_N.astype(int), likes_N[later_N]].sum(1)
            self._lift[attribute] = np.exp(lifts_G2A[int(np.argmax(likelihood_G)) if len(has_N) else -1])
        return self._lift[attribute]

    def _chosen(self, side: Side, attribute: str) -> float:
        """The strength under which one half of the users explains the other half's events best."""
        events, columns, popularity_V = self._events, self._log.num_items + 1, self._popularity_V
        counted_N = events.users_N % 2 == 0
        if side == "user":
            counted_UW = asked_UW = self.users.codes(attribute)[1:][events.rows_U]
            asked_N = ~counted_N
        else:
            counted_UW, asked_UW = (codes_U[:, None] for codes_U in self._favourites(attribute))
            asked_N = ~counted_N & ~events.first_half_N
        pairs, times = np.unique(
            paired(counted_UW[events.users_N[counted_N]], events.items_N[counted_N], columns), return_counts=True
        )
        asked = paired(asked_UW[events.users_N[asked_N]], events.items_N[asked_N], columns)
        if not len(asked) or not len(pairs):
            return float(EVENTS_G[-1])
        values, items = asked // columns, asked % columns
        totals = np.bincount(pairs // columns, times, values.max() + 1)[values]
        at = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
        found, prior = np.where(pairs[at] == asked, times[at], 0), popularity_V[items]
        if side == "item":
            has = (self.items.codes(attribute)[items] == values[:, None]).any(axis=1)
            prior = prior * self._lifts(attribute)[has.astype(int), values]
        likelihood_G = [np.log((found + mu * prior) / (totals + mu)).sum() for mu in EVENTS_G]
        return float(EVENTS_G[int(np.argmax(likelihood_G))])


def highest(scores_V: np.ndarray, top: int, left_out: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(items, scores) of the best of one row of scores, without these items and padding; equals by index."""
    allowed_V = scores_V.astype(np.float64)
    allowed_V[[0, *left_out]] = -np.inf
    first = np.argpartition(-allowed_V, min(top, len(allowed_V) - 1))[:top]
    items_K = first[np.lexsort([first, -allowed_V[first]])]
    items_K = items_K[np.isfinite(allowed_V[items_K])]
    return items_K, scores_V[items_K]
