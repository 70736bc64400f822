"""Clicks drawn by a known policy from known preferences: how far estimates and trained orders are from the truth.

    python -m scripts.logged_policy estimate [--logs 200] [--requests 2000]
    python -m scripts.logged_policy write FOLDER [--requests 8000] [--seed 0]
    python -m scripts.logged_policy truth FOLDER RUN [RUN ...]

Every user has forty candidates. A baseline shows ten by what is popular, with noise (Plackett-Luce), the user looks at
place k with chance k^-0.8 and clicks what is looked at and liked. `estimate` orders the candidates by noisy preferences
and compares the estimates of `evaluation/logged` with the true value over many logs. `write` makes a log of lists with
one click in the form of trivago's, to train on; `truth` tells how well runs order its test lists by true preferences.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.refusing import exit_code
from seqrec_cli.evaluation.intervals import user_interval
from seqrec_cli.evaluation.logged.estimators import ESTIMATES, Shown, expected_worth, values, worths
from seqrec_cli.evaluation.stored import StoredClicks

USERS, ITEMS, CANDIDATES, PLACES, WIDTH = 600, 300, 40, 10, 6
CLIP = 50.0
ORDERS = 2000  # drawn for each user, to know how often the baseline lets an item be looked at
LOOKED_K = np.arange(1, PLACES + 1) ** -0.8
HEADER = (
    "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices"
)
METRIC = "dcg"


class World(NamedTuple):
    """Chances that a user who looks at an item clicks it, how the baseline sees the items, and each user's candidates.

    Legend: U users, V items, C candidates, R requests, K places.
    """

    liked_UV: np.ndarray
    popular_V: np.ndarray
    candidates_UC: np.ndarray

    @classmethod
    def of(cls, seed: int) -> "World":
        rng = np.random.default_rng([seed, 0])
        tastes_UD, traits_VD = rng.normal(size=(USERS, WIDTH)), rng.normal(size=(ITEMS, WIDTH))
        quality_V = rng.normal(size=ITEMS)
        logits_UV = tastes_UD @ traits_VD.T / np.sqrt(WIDTH) * 1.2 + quality_V - 3
        drawn_UV = rng.random((USERS, ITEMS))
        return cls(1 / (1 + np.exp(-logits_UV)), quality_V, np.argpartition(drawn_UV, CANDIDATES)[:, :CANDIDATES])

    def shown(self, users_R: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Which candidates the baseline shows, and in which order, int64 [R, K]."""
        seen_RC = self.popular_V[self.candidates_UC[users_R]] + rng.gumbel(size=(len(users_R), CANDIDATES))
        found: np.ndarray = np.argsort(-seen_RC, axis=1)[:, :PLACES]
        return found

    def exposures(self, rng: np.random.Generator) -> np.ndarray:
        """How often each candidate is looked at, over the baseline's orders, float64 [U, C]."""
        found_UC, rows_U1 = np.zeros((USERS, CANDIDATES)), np.arange(USERS)[:, None]
        for _ in range(ORDERS):
            found_UC[rows_U1, self.shown(np.arange(USERS), rng)] += LOOKED_K / ORDERS
        return np.maximum(found_UC, LOOKED_K[-1] / ORDERS)


class Lists(NamedTuple):
    """What the baseline showed, and what was clicked."""

    users_R: np.ndarray
    columns_RK: np.ndarray  # among the user's candidates
    items_RK: np.ndarray
    clicks_RK: np.ndarray


def draw(world: World, requests: int, rng: np.random.Generator) -> Lists:
    """Requests of users in order."""
    users_R = np.sort(rng.integers(USERS, size=requests))
    columns_RK = world.shown(users_R, rng)
    items_RK = np.take_along_axis(world.candidates_UC[users_R], columns_RK, axis=1)
    liked_RK = world.liked_UV[users_R[:, None], items_RK]
    return Lists(users_R, columns_RK, items_RK, rng.random(items_RK.shape) < LOOKED_K * liked_RK)


def as_shown(world: World, lists: Lists, exposure_UC: np.ndarray, rng: np.random.Generator) -> tuple[Shown, np.ndarray]:
    """The candidates as the estimators read them, the shown ones first, with a noisy order and an outcome model that is
    wrong by a factor of two and by noise; and the true relevance of each item."""
    requests = len(lists.users_R)
    users_R1 = lists.users_R[:, None]
    shown_RC = np.zeros((requests, CANDIDATES), bool)
    np.put_along_axis(shown_RC, lists.columns_RK, True, axis=1)
    rest_RC = np.argsort(shown_RC, axis=1, kind="stable")[:, : CANDIDATES - PLACES]
    columns_RC = np.concatenate([lists.columns_RK, rest_RC], axis=1)
    liked_N = world.liked_UV[users_R1, world.candidates_UC[users_R1, columns_RC]].ravel()
    unseen = (0, CANDIDATES - PLACES)
    shown = Shown(
        np.repeat(lists.users_R, CANDIDATES),
        np.repeat(np.arange(requests), CANDIDATES),
        np.pad(lists.clicks_RK.astype(np.float64), ((0, 0), unseen)).ravel(),
        np.tile(np.pad(LOOKED_K, unseen), requests),
        np.log(liked_N) + rng.normal(size=len(liked_N)),
        np.clip(0.5 * liked_N * np.exp(0.5 * rng.normal(size=len(liked_N))), 0, 1),
        CLIP,
        exposure_UC[users_R1, columns_RC].ravel(),
    )
    return shown, liked_N


def compare(logs: int, requests: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """By each estimate of the noisy order's value: its mean error, root mean square error, and how often its 95 % hold
    the truth. snips is of an average click's value, and so is its truth."""
    world, worth = World.of(seed), worths((1,))[METRIC]
    exposure_UC = world.exposures(np.random.default_rng([seed, 3]))
    errors: dict[str, list[float]] = {name: [] for name in ESTIMATES}
    held: dict[str, list[bool]] = {name: [] for name in ESTIMATES}
    truths = []
    for nth in range(logs):
        rng = np.random.default_rng([seed, 1, nth])
        shown, liked_N = as_shown(world, draw(world, requests, rng), exposure_UC, rng)
        worth_N = expected_worth(shown.requests_N, shown.scores_N, worth)
        truths.append(float(worth_N @ liked_N) / requests)
        for name, found in values(shown, worth_N).items():
            truth = truths[-1] * requests / liked_N.sum() if name == "snips" else truths[-1]
            low, high = user_interval(found)
            errors[name].append(found.value - truth)
            held[name].append(low <= truth <= high)
    by = {
        name: {
            "bias": float(np.mean(each)),
            "rmse": float(np.sqrt(np.mean(np.square(each)))),
            "coverage": float(np.mean(held[name])),
        }
        for name, each in errors.items()
    }
    return by | {"truth": {"mean": float(np.mean(truths))}}


def write(folder: Path, requests: int, seed: int) -> Path:
    """Lists with one click, as trivago's log has them; a session a request, an hour apart."""
    lists = draw(World.of(seed), requests, np.random.default_rng([seed, 2]))
    one_R = lists.clicks_RK.sum(axis=1) == 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER.split(","))
        for nth in np.flatnonzero(one_R):
            items_K, clicked = lists.items_RK[nth] + 1, int(lists.items_RK[nth][lists.clicks_RK[nth]][0]) + 1
            row = [lists.users_R[nth] + 1, nth, 1_541_000_000 + 3600 * int(nth), 1, "clickout item", clicked]
            writer.writerow([*row, "AU", "Sydney", "mobile", "", "|".join(map(str, items_K)), "|".join(["1"] * PLACES)])
    return path


def truth(folder: Path, run: Path, seed: int) -> dict[str, float]:
    """Of the run's test lists: DCG by true preferences, of the run's order and of a random one, over that of the best
    order; and the share of pairs of a list in the true order."""
    import pyarrow.parquet as pq

    from seqrec_cli.reporting.run_folder import RunFolder

    clicks = StoredClicks.read(run / "clicks_test.parquet")
    data = Path(RunFolder(run).read_manifest()["data"]["folder"])
    users, items = (pq.read_table(data / f"{name}.parquet").column(0).to_pylist() for name in ("users", "items"))
    raw_users_N = np.array([int(users[index - 1]) - 1 for index in clicks.users_N])
    raw_items_N = np.array([int(items[index - 1]) - 1 for index in clicks.items_N])
    liked_N = World.of(seed).liked_UV[raw_users_N, raw_items_N]
    worth = worths((1,))[METRIC]
    values = {
        name: float((expected_worth(clicks.requests_N, scores_N, worth) * liked_N).sum())
        for name, scores_N in (("run", clicks.logits_N), ("random", np.zeros(len(liked_N))), ("best", liked_N))
    }
    return {"dcg": values["run"] / values["best"], "random": values["random"] / values["best"]}


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("estimate", "write", "truth"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.part == "estimate":
        for name, each in compare(asked.logs, asked.requests, asked.seed).items():
            print(name, " ".join(f"{key} {value:.4f}" for key, value in each.items()), flush=True)
    elif asked.folder is None:
        parser.error(f"{asked.part}: name a folder")
    elif asked.part == "write":
        print(write(asked.folder, asked.requests, asked.seed))
    else:
        for run in asked.runs:
            found = truth(asked.folder, run, asked.seed)
            print(run, " ".join(f"{key} {value:.4f}" for key, value in found.items()), flush=True)


if __name__ == "__main__":
    sys.exit(exit_code(main))
