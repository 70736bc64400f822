"""Numeric attributes: read from columns, ranked, and given to a model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_helpers import build, dataset, protocol
from pydantic import ValidationError

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.context import contexts, told_context
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.numbers import LEVELS, number_levels, rank_features, ranks, training_catalog, vector_features
from seqrec_cli.data.splits import train_ends
from seqrec_cli.protocols.view.build import with_view

ROWS = ["user,item,time,cost,age,price,device"]
ROWS += [
    f"{user},{item},{10 * user + nth},{'' if item == 3 else item * item},{20 + user},{100 * user + nth}.5,"
    f"{'ab'[nth % 2]}"
    for user in range(6)
    for nth, item in enumerate(range(user, user + 5))
]
COLUMNS: dict[str, Any] = {
    "item_attribute_columns": ["cost"],
    "user_attribute_columns": ["age"],
    "context_columns": ["device", "price"],
}
NUMERIC = COLUMNS | {"numeric_columns": ["cost", "age", "price"]}


def read(folder: Path, rows: list[str] = ROWS, **values: Any) -> PackedLog:
    path = folder / "log.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return build(dataset("csv", archive=path, **values), folder / "data")


def test_numbers_are_numbers_and_the_others_stay_categories(tmp_path: Path) -> None:
    log = read(tmp_path, **NUMERIC)
    catalog = log.catalog
    assert not catalog.item_attributes
    assert not catalog.user_attributes
    assert catalog.item_numbers["cost"][1:4].tolist() == [0, 1, 4]
    assert np.isnan(catalog.item_numbers["cost"][[0, 4]]).all()  # padding, and item 3 without a cost
    assert catalog.user_numbers["age"][1:].tolist() == [20, 21, 22, 23, 24, 25]
    assert catalog.context_names == ("device", "price")
    assert log.context_NF is not None
    levels = [float(text) for text in log.manifest["context_values"]["price"]]
    assert levels == sorted(levels)
    assert [levels[code - 1] for code in log.context_NF[5:8, 1]] == [100.5, 101.5, 102.5]
    assert read(tmp_path, **COLUMNS).catalog.item_attributes[0].name == "cost"


def test_ranks_of_events_are_of_the_training_events(tmp_path: Path) -> None:
    log = with_view(read(tmp_path, **NUMERIC), protocol("leave_last"), lambda line: None)
    ranks_A = training_catalog(log).context_ranks["price"]
    assert log.context_NF is not None
    positions = np.arange(len(log.items_N))
    trained = positions < train_ends(log)[np.searchsorted(log.offsets_U1, positions, side="right") - 1]
    codes = log.context_NF[trained, 1]
    np.testing.assert_allclose(np.sort(ranks_A[codes]), (np.arange(18) + 0.5) / 18)
    held = ranks_A[log.context_NF[~trained, 1]]  # each between the training numbers around it, of no weight itself
    assert set(np.round(held * 18).astype(int)) == {3, 6, 9, 12, 15, 18}


def test_a_request_may_tell_a_number_that_the_data_do_not_have(tmp_path: Path) -> None:
    log = read(tmp_path, **NUMERIC)
    expected = contexts(log, np.array([7]))
    assert expected is not None
    told = told_context(log, {"price": "102.7", "device": "a"}, None)
    assert told is not None
    assert told[0, 1] == expected[0, 1]
    assert told_context(log, {"price": "1e9"}, None)[0, 1] == log.catalog.context_attributes[1].size - 1  # type: ignore[index]
    for nothing in ("nan", r"\N", "<NA>"):  # as other tools write it
        assert told_context(log, {"price": nothing}, None)[0, 1] == 0  # type: ignore[index]
    with pytest.raises(SeqrecError, match=r"context.price: 'dear' is no number"):
        told_context(log, {"price": "dear"}, None)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"numeric_columns": ["device"]}, "device: 'a' is no number"),
        (
            {"item_attribute_columns": ["tags"], "numeric_columns": ["tags"], "value_separator": "|"},
            "tags has several values of 0",
        ),
    ],
)
def test_what_is_no_number_is_refused(tmp_path: Path, values: dict[str, Any], why: str) -> None:
    rows = [ROWS[0] + ",tags", *(row + ",1|2" for row in ROWS[1:])]
    with pytest.raises(SeqrecError, match=why):
        read(tmp_path, rows, **COLUMNS | values)


def test_a_number_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="cost is in none of item_attribute_columns"):
        dataset("csv", archive="log.csv", numeric_columns=["cost"])


def test_categories_that_look_like_numbers_are_named(tmp_path: Path) -> None:
    notes = " / ".join(read(tmp_path, **COLUMNS).manifest["notes"])
    assert "price has 30 different numbers, each a category: list it in dataset.numeric_columns" in notes
    assert "cost has" not in notes  # ten: few enough to be categories
    assert "different numbers" not in " / ".join(read(tmp_path, **NUMERIC).manifest["notes"])


def test_many_numbers_of_events_are_kept_as_quantiles() -> None:
    texts = [f"{number}" for number in np.random.default_rng(0).permutation(5000)] + ["NA"]
    codes_N = np.append(np.arange(5001), -1)
    found_N, levels, note = number_levels("price", codes_N, texts)
    assert len(levels) == LEVELS
    assert note is not None
    assert "5,000 different numbers" in note
    assert found_N[-2:].tolist() == [-1, -1]
    assert max(abs(float(levels[found_N[k]]) - float(texts[k])) for k in range(5000)) <= 3


def test_ranks_by_hand() -> None:
    numbers = np.array([np.nan, 10, 20, 20, 1000])
    np.testing.assert_allclose(ranks(numbers), [np.nan, 1 / 8, 4 / 8, 4 / 8, 7 / 8])
    np.testing.assert_allclose(ranks(numbers, np.array([9, 2, 1, 1, 0])), [np.nan, 1 / 4, 3 / 4, 3 / 4, 1])


def test_features_have_mean_0_and_the_deviation_of_each_is_alike() -> None:
    features = rank_features(ranks(np.append(np.nan, np.random.default_rng(0).lognormal(0, 3, 20_000))))
    assert not features[0].any()
    np.testing.assert_allclose(features[1:, :3].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(features[1:, :3].std(0), 0.5, atol=1e-3)
    assert (features[1:, 3] == 0.5).all()


def test_pre_trained_vectors_are_centred_and_of_length_about_one() -> None:
    vectors_VW = np.random.default_rng(0).normal(100, 30, (2001, 15)).astype(np.float32)
    vectors_VW[[0, 5]] = np.nan
    features = vector_features(vectors_VW)
    known = np.delete(features, [0, 5], axis=0)
    assert not features[[0, 5]].any()
    np.testing.assert_allclose(known[:, :-1].mean(0), 0, atol=1e-5)
    assert abs(float((known**2).sum(1).mean()) - 1) < 1e-3
