"""What evidence is worth for users whom a log does not have, beside popularity: NDCG@10 of what they had.

    python -m scripts.bench_cold_start dataset=ml-100k [dataset.archive=FILE] [data_dir=DIR]

Users are parted into ten; of each part nothing is counted. `profile`: the user's own attributes. `attributes`: the
value of the first item attribute that the user has most, beyond its popularity, in one half of the events after the
first ten, drawn at random: it stands for what somebody says they like. `category`: the attributes of the first event's
item, taken for an unknown one. To be found are the user's first ten events, or those of the other half.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import leave_last, training_counts
from seqrec_cli.serving.attribute_values import Value
from seqrec_cli.serving.cold_start import Priors

PARTS, TOP, FIRST = 10, 10, 10


def liked(priors: Priors, log: PackedLog, items_N: np.ndarray) -> np.ndarray:
    """Scores by the favourite of these events."""
    name = priors.items.names[0]
    codes_VW, size = priors.items.codes(name), priors.items.size(name)
    counts_V = training_counts(log)
    overall_A = np.bincount(codes_VW.ravel(), np.repeat(counts_V, codes_VW.shape[1]), size) / counts_V.sum()
    excess_A = np.bincount(codes_VW[items_N].ravel(), minlength=size) / len(items_N) - overall_A
    return priors.scores([Value("item", name, 1 + int(np.argmax(excess_A[1:])))])


def ndcg(scores_V: np.ndarray, wanted: np.ndarray) -> float:
    best = np.argsort(-scores_V[1:], kind="stable")[:TOP] + 1
    discounts = 1 / np.log2(2 + np.arange(TOP))
    return float(discounts[np.isin(best, wanted)].sum() / discounts[: len(wanted)].sum())


def measure(log: PackedLog) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """NDCG of each evidence and of popularity on each part of the events, of every user with enough of them."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    offsets_U1 = np.asarray(log.offsets_U1)
    for part in range(PARTS):
        train_U = offsets_U1[1:].copy()
        train_U[part::PARTS] = offsets_U1[:-1][part::PARTS]
        without = replace(log, view=replace(leave_last(offsets_U1), train_U=train_U))
        priors, popularity_V = Priors(without), training_counts(without).astype(np.float32)
        for row in range(part, log.num_users, PARTS):
            items_N = np.asarray(log.items_N[offsets_U1[row] : offsets_U1[row + 1]], np.int64)
            first, later = items_N[:FIRST], np.random.default_rng(row).permutation(items_N[FIRST:])
            tells, later = later[: len(later) // 2], later[len(later) // 2 :]
            if not len(tells):
                continue
            liked_V = liked(priors, without, tells)
            category_V = priors.scores(priors.items.of_row(int(items_N[0])), had=True)
            profile_V = priors.scores(priors.users.of_row(row + 1))
            for name, scores_V, wanted in (
                ("profile", profile_V, first),
                ("attributes", liked_V, first),
                ("category", category_V, first[1:]),
                ("profile", profile_V, later),
                ("attributes", liked_V, later),
                ("category", category_V, later),
            ):
                of = "later events" if wanted is later else "first ten"
                found.setdefault((name, of), []).append((ndcg(scores_V, wanted), ndcg(popularity_V, wanted)))
    return found


def main() -> None:
    cfg = validate("train", compose("train", sys.argv[1:]))
    assert isinstance(cfg, TrainConfig)
    log = prepare(cfg.dataset, Path(cfg.data_dir), lambda line: None)
    priors = Priors(replace(log, view=leave_last(np.asarray(log.offsets_U1))))
    for values in (priors.items, priors.users):
        for name in values.names:
            print(f"{values.side}.{name}: mu {priors.strength(values.side, name):,.0f} events")
    for (name, of), pairs in measure(log).items():
        evidence, popular = np.array(pairs).T
        gain, half = (evidence - popular).mean(), 1.96 * (evidence - popular).std() / len(pairs) ** 0.5
        print(
            f"{name}, {of}: NDCG@{TOP} {evidence.mean():.4f}, popularity {popular.mean():.4f}, "
            f"gain {gain:+.4f} (95 % {gain - half:+.4f} to {gain + half:+.4f}), {len(pairs)} users"
        )


if __name__ == "__main__":
    main()
