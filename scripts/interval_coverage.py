"""Do 95 % intervals hold the truth 95 times in a hundred? Counted on simulated ranks and scores; nothing is trained.

    python -m scripts.interval_coverage [--repetitions 1000] [--users 1000] [--resamples 2000]

Two models are simulated for a population of users, so that the true metrics and differences are known: those of the
population. Each repetition draws users from it with replacement and asks whether the intervals that `seqrec compare`
gives (and those of a run's own metrics) hold the truth. Users differ in how easy they are, and have several
requests, so that requests of one user are alike. Candidates of one user share an intercept. For DeLong's interval,
which takes candidates as independent, a population of single candidates is drawn too. Rows marked `contrast` show what
goes wrong otherwise: requests resampled as if each were a user of its own (too narrow), DeLong with several candidates
a user, and intervals that do not pair the runs (both too wide here).

Legend: P users of the population, U drawn users, T requests, N candidates.
"""

import argparse
from dataclasses import dataclass, replace

import numpy as np

from seqrec_cli.data.interactions import ragged_ranges
from seqrec_cli.evaluation.delong import placements
from seqrec_cli.evaluation.intervals import bootstrap, normal_interval, percentile_interval, user_interval
from seqrec_cli.evaluation.stored import StoredClicks, StoredRanks
from seqrec_cli.evaluation.user_sums import standard_error

RANKED, MOST_REQUESTS, NEGATIVES = 500, 6, 4
METRICS = ("ndcg@10", "hr@10", "mrr", "auc", "gauc", "logloss")
Run = StoredRanks | StoredClicks


@dataclass(frozen=True)
class Population:
    """Ranks and click scores of two models for every user; rows are ordered by user."""

    ranks: tuple[StoredRanks, StoredRanks]
    clicks: tuple[StoredClicks, StoredClicks]
    independent: bool  # one request a user, and no candidate like another
    requests_P1: np.ndarray  # where each user's requests begin; candidates are 1 + NEGATIVES a request

    def runs(self, metric: str) -> tuple[Run, Run]:
        return self.clicks if metric in METRICS[3:] else self.ranks

    def drawn(self, users_U: np.ndarray) -> "Population":
        """The users of these rows, each under a number of its own, however often drawn."""
        counts_U = np.diff(self.requests_P1)[users_U]
        rows_T = ragged_ranges(self.requests_P1[users_U], counts_U)
        each = 1 + NEGATIVES
        rows_N = (rows_T[:, None] * each + np.arange(each)).ravel()
        numbers_T = np.repeat(np.arange(len(users_U)), counts_U)
        ranks = [replace(run.where(rows_T), users_T=numbers_T) for run in self.ranks]
        clicks = [replace(run.where(rows_N), users_N=np.repeat(numbers_T, each)) for run in self.clicks]
        first_U1 = np.concatenate([[0], np.cumsum(counts_U)])
        return Population((ranks[0], ranks[1]), (clicks[0], clicks[1]), self.independent, first_U1)


def population(users: int, *, seed: int, single: bool = False) -> Population:
    """`single`: one request a user and nothing that candidates share, so that they are independent."""
    rng = np.random.default_rng(seed)
    counts_P = np.ones(users, np.int64) if single else 1 + rng.binomial(MOST_REQUESTS - 1, 0.3, users)
    owners_T = np.repeat(np.arange(users), counts_P)
    requests = len(owners_T)
    shared = 0.0 if single else 1.5  # how much users differ
    ease_T = shared * rng.normal(size=users)[owners_T] + rng.normal(size=requests)
    ranks = []
    for skill in (3.0, 3.15):
        below_T = 1 / (1 + np.exp(skill + ease_T + 0.7 * rng.normal(size=requests)))
        ranks_T = 1.0 + rng.binomial(RANKED - 1, below_T)
        same_T = np.full(requests, 1)
        ranks.append(StoredRanks(owners_T, np.arange(requests), same_T, ranks_T, RANKED * same_T, same_T))
    each = 1 + NEGATIVES
    rows = requests * each
    labels_N, owners_N = (np.arange(rows) % each == 0).astype(np.int8), np.repeat(owners_T, each)
    noise_N, clicks = rng.normal(size=rows) + shared * rng.normal(size=users)[owners_N], []
    for skill in (1.0, 1.1):
        intercept_N = shared * 0.7 * rng.normal(size=users)[owners_N]
        logits_N = skill * labels_N - 2 + 0.8 * noise_N + intercept_N + 0.6 * rng.normal(size=rows)
        number_N, same_N = np.repeat(np.arange(requests), each), np.ones(rows, np.int64)
        clicks.append(StoredClicks(owners_N, number_N, same_N, same_N, labels_N, logits_N))
    first_P1 = np.concatenate([[0], np.cumsum(counts_P)])
    return Population((ranks[0], ranks[1]), (clicks[0], clicks[1]), single, first_P1)


def truth(whole: Population) -> dict[str, list[float]]:
    """The population's metrics of both models."""
    return {metric: [run.sums(metric).value for run in whole.runs(metric)] for metric in METRICS}


def held(interval: tuple[float, float], value: float) -> int:
    return int(interval[0] <= value <= interval[1])


def coverage(whole: Population, *, repetitions: int, users: int, resamples: int, seed: int) -> dict[str, int]:
    """How many of the repetitions' intervals hold the truth, by metric and kind of interval."""
    true, found = truth(whole), dict[str, int]()
    rng = np.random.default_rng(seed)

    def count(name: str, yes: int) -> None:
        found[name] = found.get(name, 0) + yes

    for repetition in range(repetitions):
        part = whole.drawn(rng.integers(len(whole.requests_P1) - 1, size=users))
        sums = {metric: [run.sums(metric) for run in part.runs(metric)] for metric in METRICS}
        values_SB = bootstrap([each for both in sums.values() for each in both], resamples=resamples, seed=repetition)
        for nth, (metric, (first, second)) in enumerate(sums.items()):
            gain = true[metric][1] - true[metric][0]
            resampled_B = values_SB[2 * nth + 1] - values_SB[2 * nth]
            count(f"{metric}, difference, bootstrap", held(percentile_interval(resampled_B), gain))
            count(f"{metric}, one run, normal", held(user_interval(second), true[metric][1]))
            unpaired = np.hypot(standard_error(first.influences_U), standard_error(second.influences_U))
            apart = normal_interval(second.value - first.value, unpaired)
            count(f"contrast: {metric}, difference, unpaired", held(apart, gain))
        first_auc, second_auc = (placements(run.labels_N, run.logits_N) for run in part.clicks)
        better, kind = second_auc.minus(first_auc), "" if whole.independent else "contrast: "
        gain = true["auc"][1] - true["auc"][0]
        count(f"{kind}auc, difference, DeLong", held(normal_interval(better.auc, better.error), gain))
        one_run = normal_interval(second_auc.auc, second_auc.error)
        count(f"{kind}auc, one run, DeLong", held(one_run, true["auc"][1]))
        alone = replace(part.ranks[1], users_T=np.arange(len(part.ranks[1].users_T)))
        if not whole.independent:
            interval = user_interval(alone.sums("ndcg@10"))
            count("contrast: ndcg@10, one run, requests resampled", held(interval, true["ndcg@10"][1]))
    return found


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--population", type=int, default=100_000)
    asked = parser.parse_args()
    size = {"repetitions": asked.repetitions, "users": asked.users, "resamples": asked.resamples}
    for title, single in (("several requests a user, users differ", False), ("independent candidates", True)):
        whole = population(asked.population, seed=1, single=single)
        print(title)
        for metric, (first, second) in truth(whole).items():
            print(f"  true {metric}: {first:.4f} and {second:.4f}")
        found = coverage(whole, seed=2, **size)
        for name in sorted(found, key=lambda name: name.startswith("contrast")):
            print(f"  {found[name]:5d} of {asked.repetitions}  {name}")


if __name__ == "__main__":
    main()
