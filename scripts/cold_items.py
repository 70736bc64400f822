"""How well items that training never saw are ranked: a log that holds items out, and the table of runs on it.

    python -m scripts.cold_items hold-out --out FOLDER dataset=ml-100k [dataset.archive=FILE] [data_dir=DIR]
    python -m scripts.cold_items table outputs/RUN [outputs/RUN ...]

`hold-out` draws a tenth of the items that have five events or more (`--share`, `--least`, `--seed`). None of their
events trains or validates: they test, all of a user's at once, beside the last event of the user's others; the one
before that validates. FOLDER gets log.csv and items.csv (titles and attributes), for `dataset=csv protocol=given`;
the settings are printed.

`table` (Markdown) ranks each held-out target, by the user's history of training events, among the whole corpus and
among the held-out items alone, without the items of the history and the request's other targets; equal scores share
their places. Beside each run of ids stand estimates of the held-out items' vectors by ridge regression from their
texts or attributes, as `PUT /items/{id}` makes them, and popularity, to which they are all alike. Half of a 95 %
interval is given, by how much users differ.

Legend: R requests, T targets, V items, D width, Y = D or D + 1 (with the bias), L events, W width of text vectors.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from scripts.refusing import exit_code
from seqrec_cli.commands.restore import AS_TRAINED, Restored, restore
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch, padded_rows
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import training_counts, view_of
from seqrec_cli.data.view import Targets
from seqrec_cli.data.vocabulary import titles, vocabulary
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.saying import silent
from seqrec_cli.serving.attribute_values import AttributeValues
from seqrec_cli.serving.item_estimates import AttributeFeatures, Estimator, TextFeatures

TOP, SEPARATOR = 10, "|"
TRAIN, VALID, TEST = "train", "valid", "test"


def held_out_items(counts_V: np.ndarray, *, share: float, least: int, seed: int) -> np.ndarray:
    """True for the items that are held out, [V + 1]."""
    enough = np.flatnonzero(counts_V >= least)
    drawn = np.random.default_rng(seed).permutation(enough)[: round(share * len(enough))]
    held_V = np.zeros(len(counts_V), bool)
    held_V[drawn] = True
    return held_V


def parts(items_L: np.ndarray, held_V: np.ndarray) -> list[str]:
    """Of one user's events in order: which train, validate and test."""
    warm = np.flatnonzero(~held_V[items_L])
    found = [TEST if held_V[item] else TRAIN for item in items_L]
    if len(warm) >= 3:
        found[warm[-2]], found[warm[-1]] = VALID, TEST
    return found


def write_log(log: PackedLog, folder: Path, held_V: np.ndarray) -> None:
    """log.csv and items.csv."""
    assert log.folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    ids, users, names = vocabulary(log.folder, "items"), vocabulary(log.folder, "users"), titles(log.folder)
    with (folder / "log.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "time", "part"])
        for user, (first, last) in enumerate(zip(log.offsets_U1[:-1], log.offsets_U1[1:], strict=True)):
            items_L = np.asarray(log.items_N[first:last])
            for place, (item, part) in enumerate(zip(items_L, parts(items_L, held_V), strict=True)):
                time = place if log.times_N is None else log.times_N[first + place]
                rows.writerow([users[user], ids[item - 1], time, part])
    texts = log.manifest.get("item_attribute_values", {})
    with (folder / "items.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item", *(["title"] if names else []), *texts])
        for item in range(1, log.num_items + 1):
            values = (
                SEPARATOR.join(texts[name][code - 1] for code in log.catalog.item_values[name][item] if code)
                for name in texts
            )
            rows.writerow([ids[item - 1], *([names[item - 1]] if names else []), *values])


class Found(NamedTuple):
    """Of a kind of targets: each user's means."""

    hits_R: np.ndarray
    ndcg_R: np.ndarray
    auc_R: np.ndarray

    def row(self) -> str:
        each = ((values.mean(), 1.96 * values.std() / max(len(values), 1) ** 0.5) for values in self)
        return " | ".join(f"{mean:.4f} ± {half:.4f}" for mean, half in each)


def ranked(
    scores_RV: np.ndarray, log: PackedLog, targets: Targets, *, wanted_V: np.ndarray, among_V: np.ndarray
) -> Found:
    """The targets that are `wanted`, each among the items of `among` and itself, without the history and the request's
    other targets."""
    found: list[tuple[float, float, float]] = []
    starts_U = np.asarray(log.offsets_U1)
    for r, row in enumerate(targets.rows_R):
        positions = targets.positions_T[targets.offsets_R1[r] : targets.offsets_R1[r + 1]]
        items_T = np.asarray(log.items_N[positions])
        asked_T = items_T[wanted_V[items_T]]
        if not len(asked_T):
            continue
        against_V = among_V.copy()
        against_V[np.asarray(log.items_N[starts_U[row] : targets.ends_R[r]])] = False
        against_V[items_T] = against_V[0] = False
        others = scores_RV[r, against_V]
        if not len(others):
            continue
        own_T = scores_RV[r, asked_T][:, None]
        ranks_T = 1 + (others > own_T).sum(1) + (others == own_T).sum(1) / 2
        ndcg_T = np.where(ranks_T <= TOP, 1 / np.log2(1 + ranks_T), 0)
        auc_T = 1 - (ranks_T - 1) / len(others)
        found.append(((ranks_T <= TOP).mean(), ndcg_T.mean(), auc_T.mean()))
    return Found(*np.array(found).reshape(-1, 3).T)


@torch.inference_mode()
def queries(run: Restored, targets: Targets, rows: int = 128) -> np.ndarray:
    """[R, Y]: what item vectors are multiplied with, after each request's history."""
    assert isinstance(run.model, SequenceEncoder)
    starts_R = np.maximum(np.asarray(run.log.offsets_U1)[targets.rows_R], targets.ends_R - run.cfg.model.max_length)
    parts = []
    for first in range(0, len(starts_R), rows):
        some = slice(first, first + rows)
        lengths_B = targets.ends_R[some] - starts_R[some]
        batch = Batch(
            torch.from_numpy(targets.rows_R[some] + 1),
            padded_rows(np.asarray(run.log.items_N), starts_R[some], lengths_B),
            torch.from_numpy(lengths_B),
        )
        parts.append(run.model.last(batch).float())
    last_RD = torch.cat(parts).numpy()
    return last_RD if run.model.item_bias() is None else np.pad(last_RD, ((0, 0), (0, 1)), constant_values=1.0)


@torch.inference_mode()
def table_of(run: Restored) -> np.ndarray:
    """[V + 1, Y]."""
    assert isinstance(run.model, SequenceEncoder)
    table_VD, bias_V = run.model.item_table().float(), run.model.item_bias()
    return (table_VD if bias_V is None else torch.cat([table_VD, bias_V[:, None]], dim=1)).numpy()


def estimated(run: Restored, table_VY: np.ndarray, cold_V: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Tables with the cold items' vectors estimated, by what."""
    log, values, texts_VW = run.log, AttributeValues(run.log, "item"), run.log.catalog.item_vectors
    warm_V = ~cold_V & (np.arange(len(table_VY)) > 0)
    width = run.model.item_table().shape[1]  # type: ignore[operator]
    val = view_of(log).val
    asked_RY = queries(run, val)
    targets_R = np.asarray(log.items_N[val.positions_T[val.offsets_R1[:-1]]], np.int64)
    starts_R = np.asarray(log.offsets_U1)[val.rows_R]
    lengths_R = val.ends_R - starts_R
    rows_M = np.repeat(np.arange(len(starts_R)), lengths_R)
    places_M = np.arange(lengths_R.sum()) - np.repeat(np.cumsum(lengths_R) - lengths_R, lengths_R)
    seen = rows_M, np.asarray(log.items_N, np.int64)[starts_R[rows_M] + places_M]
    kinds: list[tuple[str, AttributeFeatures | TextFeatures]] = []
    kinds += [("attributes", AttributeFeatures(values))] if values.names else []
    kinds += [("text", TextFeatures(texts_VW))] if texts_VW is not None else []
    for name, features in kinds:
        estimator = Estimator(features, table_VY, warm_V, width=width)
        estimator.quality(asked_RY, targets_R, seen, table_VY=table_VY)  # new items are no favourites by being new
        found_VY, matrix_VF = table_VY.copy(), features.matrix()
        for item in np.flatnonzero(cold_V):
            found_VY[item] = estimator.ridge(matrix_VF[item])
        yield name, found_VY


def lines(run: Restored, name: str) -> Iterator[str]:
    """The rows of a run's table: cold targets in the corpus and among cold items, and warm targets."""
    log, test = run.log, view_of(run.log).test
    cold_V = training_counts(log) == 0
    cold_V[0] = False
    every_V, asked_RY, own_VY = np.ones(len(cold_V), bool), queries(run, test), table_of(run)
    tables = [("", own_VY)]
    if getattr(run.cfg.model, "items", "ids") == "ids":
        tables += [(f", cold by {kind}", table_VY) for kind, table_VY in estimated(run, own_VY, cold_V)]
    scored = [(name + more, asked_RY @ table_VY.T) for more, table_VY in tables]
    counts_RV = np.broadcast_to(training_counts(log).astype(np.float32), scored[0][1].shape)
    for label, scores_RV in (*scored, (f"popularity beside {name}", counts_RV)):
        for what, wanted_V, among_V in (
            ("cold, whole corpus", cold_V, every_V),
            ("cold, among cold", cold_V, cold_V),
            ("warm, whole corpus", ~cold_V, every_V),
        ):
            yield f"| {label} | {what} | {ranked(scores_RV, log, test, wanted_V=wanted_V, among_V=among_V).row()} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    hold = verbs.add_parser("hold-out")
    hold.add_argument("--out", type=Path, required=True)
    hold.add_argument("--share", type=float, default=0.1)
    hold.add_argument("--least", type=int, default=5)
    hold.add_argument("--seed", type=int, default=0)
    hold.add_argument("overrides", nargs="*")
    verbs.add_parser("table").add_argument("runs", nargs="+", type=Path)
    given = parser.parse_args()
    if given.verb == "table":
        print(f"| run | targets | HR@{TOP} | NDCG@{TOP} | AUC |\n|---|---|---|---|---|")
        for path in given.runs:
            run = restore(str(path), None, None, hardware=AS_TRAINED, tell=silent)
            run.model.eval()
            for line in lines(run, path.name):
                print(line)
        return
    cfg = validate("train", compose("train", given.overrides))
    assert isinstance(cfg, TrainConfig)
    log = prepare(cfg.dataset, Path(cfg.data_dir), silent)
    counts_V = np.bincount(np.asarray(log.items_N), minlength=log.num_items + 1)
    held_V = held_out_items(counts_V, share=given.share, least=given.least, seed=given.seed)
    write_log(log, given.out, held_V)
    columns = list(log.manifest.get("item_attribute_values", {}))
    print(f"{int(held_V.sum())} of {log.num_items} items are held out, with {int(counts_V[held_V].sum()):,} events")
    print(
        f"dataset=csv dataset.archive={given.out / 'log.csv'} dataset.split_column=part dataset.split_leaks=true "
        f"dataset.item_file={given.out / 'items.csv'} dataset.title_column=title "
        f"'dataset.item_attribute_columns=[{','.join(columns)}]' dataset.value_separator='|' "
        "protocol=given protocol.targets=all"
    )


if __name__ == "__main__":
    sys.exit(exit_code(main))
