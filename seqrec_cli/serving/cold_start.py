"""What to recommend where the model has nothing to read: item popularity given what is known of the user's taste.

Evidence is a set of attribute values v, each with a distribution over the items that is smoothed towards overall
popularity p by a Dirichlet prior of strength mu (as in language models: Zhai & Lafferty 2004, TOIS 22(2), eq. 6):

    P(i | v) = (n(v, i) + mu p(i)) / (n(v) + mu)

For a value of an item attribute (a genre), n(v, i) are the training events of item i where it has v, else 0; for one of
a user attribute (an age group), those of users with v. Values are combined as naive Bayes does, as if they were
independent given the item:

    score(i) = log p(i) + sum over v of w(v) log(P(i | v) / p(i))

with w = 1, but for values of several unknown items the share of them that have v. mu is chosen for each attribute by
the likelihood of training events that were not counted: of half of the users for user attributes; for item attributes
of the second half of histories, given the value that the first half had most beyond its popularity. An attribute that
says little gets a large mu, and its values hardly move the order.

Legend: V items (column 0 is padding), N events, U users, S sampled users, A values of an attribute, G strengths tried.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import train_ends, training_counts
from seqrec_cli.serving.attribute_values import AttributeValues, Given, Side, Value

# The others where nothing is known that the model could read: the attributes of the request, those of the user in the
# data, those of the history's unknown items, and nothing at all.
AnsweredBy = Literal["model", "attributes", "profile", "category", "popularity"]
# Strengths tried: events for user attributes; for item attributes shares of all events, for all that have not the
# value are left with a share of mu / (N + mu).
EVENTS_G = 10.0 ** np.arange(1, 7)
SHARES_G = 2.0 ** np.arange(-6, 7)
SAMPLED = 5_000  # users whose histories choose a strength
KEPT = 256  # values whose distributions are kept


class Priors:
    """Scores of all items by attribute values, counted from a log's training events when first asked for."""

    def __init__(self, log: PackedLog) -> None:
        self._log = log
        self.items, self.users = AttributeValues(log, "item"), AttributeValues(log, "user")
        self._strengths: dict[tuple[Side, str], float] = {}
        self._kept: dict[Value, np.ndarray] = {}

    def best(self, told: Given, user: int | None, described: Sequence[Given]) -> tuple[AnsweredBy, np.ndarray] | None:
        """The best evidence there is and every item's score by it: the request's attributes, those of a user of the
        data (from 1), those of unknown items; None where there is none."""
        evidence: dict[AnsweredBy, Mapping[Value, float]] = {
            "attributes": dict.fromkeys(self.read(told), 1.0),
            "profile": {} if user is None else dict.fromkeys(self.users.of_row(user), 1.0),
            "category": self._shares([self.items.read(given, "item_attributes") for given in described]),
        }
        return next(((by, self.scores(weights)) for by, weights in evidence.items() if weights), None)

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

    def scores(self, weights: Mapping[Value, float]) -> np.ndarray:
        """Every item's log-probability but for a constant, float32 [V + 1]."""
        log_p_V = np.log(self._popularity_V)
        lifts = (weight * (np.log(self._given_V(value)) - log_p_V) for value, weight in weights.items())
        return sum(lifts, start=log_p_V).astype(np.float32)

    @staticmethod
    def _shares(described: Iterable[Iterable[Value]]) -> dict[Value, float]:
        """Items' values, each with the share of the items that have it, of those that have any."""
        each = [set(values) for values in described if values]
        return {value: times / len(each) for value, times in Counter(v for some in each for v in some).items()}

    def strength(self, side: Side, attribute: str) -> float:
        """mu of an attribute, in events."""
        if (side, attribute) not in self._strengths:
            chosen = self._chosen_for_items if side == "item" else self._chosen_for_users
            self._strengths[side, attribute] = chosen(attribute)
        return self._strengths[side, attribute]

    @cached_property
    def _counts_V(self) -> np.ndarray:
        return training_counts(self._log).astype(np.float64)

    @cached_property
    def _popularity_V(self) -> np.ndarray:
        """p: items without training events have what one more event, spread over all, would give them."""
        counts_V = self._counts_V + 1 / self._log.num_items
        counts_V[0] = 1 / self._log.num_items  # padding: any finite value
        return counts_V / counts_V[1:].sum()

    def _given_V(self, value: Value) -> np.ndarray:
        """P(i | v), [V + 1]."""
        if value not in self._kept:
            side = self.items if value.side == "item" else self.users
            having_R = (side.codes(value.attribute) == value.code).any(axis=1)
            if value.side == "item":
                counts_V = np.where(having_R, self._counts_V, 0.0)
            else:
                items_N, _ = self._events(np.flatnonzero(having_R[1 : self._log.num_users + 1]))
                counts_V = np.bincount(items_N, minlength=self._log.num_items + 1).astype(np.float64)
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            mu = self.strength(value.side, value.attribute)
            self._kept[value] = (counts_V + mu * self._popularity_V) / (counts_V.sum() + mu)
        return self._kept[value]

    def _events(self, rows_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items of these users' training events, and which of the users had each, [N] both."""
        starts_U, ends_U = np.asarray(self._log.offsets_U1)[rows_U], train_ends(self._log)[rows_U]
        lengths_U = ends_U - starts_U
        items_N = np.asarray(self._log.items_N[ragged_ranges(starts_U, lengths_U)], np.int64)
        return items_N, np.repeat(np.arange(len(rows_U)), lengths_U)

    def _sampled(self, first: int, step: int) -> np.ndarray:
        rows_U = np.arange(first, self._log.num_users, step)
        return rows_U[np.random.default_rng(0).permutation(len(rows_U))[:SAMPLED]]

    def _chosen_for_users(self, attribute: str) -> float:
        """The strength under which one half of the users explains the other half's events best."""
        codes_RW = self.users.codes(attribute)[1:]
        columns = self._log.num_items + 1
        counted, of_user = self._events(np.arange(0, self._log.num_users, 2))
        popularity_V = (np.bincount(counted, minlength=columns) + 1 / columns) / (len(counted) + 1)
        pairs, times = np.unique(_paired(codes_RW[::2][of_user], counted, columns), return_counts=True)
        totals_A = np.bincount(pairs // columns, times, self.users.size(attribute))
        rows_S = self._sampled(1, 2)
        held, of_user = self._events(rows_S)
        asked = _paired(codes_RW[rows_S][of_user], held, columns)
        if not len(asked) or not len(pairs):
            return float(EVENTS_G[-1])
        at = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
        found = np.where(pairs[at] == asked, times[at], 0)
        p, totals = popularity_V[asked % columns], totals_A[asked // columns]
        likelihood_G = [np.log((found + mu * p) / (totals + mu)).sum() for mu in EVENTS_G]
        return float(EVENTS_G[int(np.argmax(likelihood_G))])

    def _chosen_for_items(self, attribute: str) -> float:
        """The strength under which what a history had most at first explains best what it had later."""
        codes_RW, events = self.items.codes(attribute), self._counts_V.sum()
        share_A = np.bincount(
            codes_RW.ravel(), np.repeat(self._counts_V, codes_RW.shape[1]), self.items.size(attribute)
        ) / max(events, 1)
        items_N, of_user_N = self._events(self._sampled(0, 1))
        lengths_S = np.bincount(of_user_N)
        nth_N = np.arange(len(of_user_N)) - np.repeat(np.cumsum(lengths_S) - lengths_S, lengths_S)
        first_N = nth_N < lengths_S[of_user_N] // 2
        size = len(share_A)
        pairs, times = np.unique(
            _paired(codes_RW[items_N[first_N]], of_user_N[first_N], size, flipped=True), return_counts=True
        )
        users, values = pairs // size, pairs % size
        excess = times / np.maximum(lengths_S[users] // 2, 1) - share_A[values]
        order = np.lexsort([excess, users])
        best_S = np.zeros(len(lengths_S), np.int64)
        best_S[users[order]] = values[order]  # the last of a user's has the largest excess
        later_N = ~first_N & (best_S[of_user_N] > 0)
        liked_N = best_S[of_user_N[later_N]]
        has_N = (codes_RW[items_N[later_N]] == liked_N[:, None]).any(axis=1)
        shares_N = share_A[liked_N]
        if not len(has_N):
            return float(SHARES_G[-1] * max(events, 1))
        likelihood_G = [
            np.where(has_N, np.log((1 + g) / (shares_N + g)), np.log(g / (shares_N + g))).sum() for g in SHARES_G
        ]
        return float(SHARES_G[int(np.argmax(likelihood_G))] * events)


def _paired(codes_NW: np.ndarray, others_N: np.ndarray, size: int, *, flipped: bool = False) -> np.ndarray:
    """Each event's value and item (or user) in one number, of values that are there: code * size + other, or the other
    way round."""
    others_NW = np.broadcast_to(others_N[:, None], codes_NW.shape)
    known_NW = codes_NW > 0
    codes, others = codes_NW[known_NW].astype(np.int64), others_NW[known_NW].astype(np.int64)
    return others * size + codes if flipped else codes * size + others
