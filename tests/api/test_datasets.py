"""Frames become datasets: the same data in any library and type, the refusals of `dataset=csv`, runs that restore."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import seqrec_cli
from seqrec_cli import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from tests.api.conftest import TINY

SMALL = {key: value for key, value in TINY.items() if not key.startswith(("dataset.", "protocol."))}
LEAVE_LAST = {"name": "leave_last", "click_negatives": 2}


def log(users: int = 12, events: int = 6) -> pd.DataFrame:
    """Users u0, u1, ... of some distinct items each, an hour apart, in the order of time."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "who": [f"u{user}" for user in range(users) for _ in range(events)],
            "what": np.concatenate([rng.permutation(20)[:events] for _ in range(users)]),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(users * events), unit="h"),
        }
    )
    return frame.assign(genre=["even" if item % 2 == 0 else "odd" for item in frame["what"]])


def made(frame: Any, tmp_path: Path, **changes: Any) -> "seqrec_cli.Dataset":
    told = {"user": "who", "item": "what", "time": "when", "protocol": LEAVE_LAST, "data_dir": tmp_path / "data"}
    return seqrec_cli.dataset(frame, **(told | changes))


def test_a_run_on_a_frame_restores_in_python_and_on_the_command_line(tmp_path: Path) -> None:
    data = made(log(), tmp_path, name="mine", item_attributes=["genre"])
    assert (data.name, data.num_users, data.num_items, data.num_events) == ("mine", 12, 20, 72)
    run = seqrec_cli.train(SMALL, dataset=data, run_dir=tmp_path / "run", verbose=False)
    assert run.protocol["fingerprint"] == data.fingerprint
    assert run.users.tolist() == sorted(log()["who"].unique())
    again = seqrec_cli.run("evaluate", [f"ckpt={tmp_path / 'run'}", "split=val"])
    assert again["val"] == run.metrics["val"] == seqrec_cli.load(tmp_path / "run").evaluate("val")
    other = seqrec_cli.train(run.config, verbose=False, run_dir=tmp_path / "twin")
    assert {**other.metrics, "test_opened": 1} == run.metrics
    # A frame of events speaks of columns as the run's data do.
    assert run.recommend(log()[:3], top=1)["user"].tolist() == ["u0"]
    assert run.recommend(histories=log()[:3], top=1)["user"].tolist() == ["u0"]


def test_a_frame_turned_around_has_items_for_users_and_is_asked_by_the_same_columns(tmp_path: Path) -> None:
    data = made(log(), tmp_path, predict="users")
    assert (data.num_users, data.num_items) == (20, 12)
    run = seqrec_cli.train(SMALL, dataset=data, run_dir=tmp_path / "run", verbose=False)
    asked = log()[:2]
    answer = run.recommend(asked, top=1)
    assert answer["user"].tolist() == asked["what"].tolist()
    assert {*answer["item"]} <= {*log()["who"]}
    assert {*run.recommend(histories=log()[:3], top=1)["user"]} == {*log()[:3]["what"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.astype({"who": "category", "what": "Int64"}),
        lambda frame: frame.astype({"who": object, "what": "int16", "when": "datetime64[ns]"}),
        lambda frame: frame.astype({"what": "category"}).set_index(frame.index + 5),
        lambda frame: frame.assign(more=[1, "mixed"] * 36),
        "polars",
        "lazy",
        "arrow",
    ],
    ids=["categories", "objects", "integer categories", "other columns", "polars", "lazy", "arrow"],
)
def test_the_same_values_are_the_same_data_in_any_type(change: Any, tmp_path: Path) -> None:
    if isinstance(change, str):
        polars = pytest.importorskip("polars", reason="the development extras bring polars")
        frame = polars.DataFrame({name: column.tolist() for name, column in log().items()})
        frame = frame.with_columns(
            polars.col("who").cast(polars.Categorical), polars.col("when").cast(polars.Datetime("ns"))
        )
        other = {"polars": frame, "lazy": frame.lazy(), "arrow": frame.to_arrow()}[change]
    else:
        other = change(log())
    assert made(other, tmp_path) == made(log(), tmp_path)


def test_a_lazy_frame_is_worked_out_once(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="the development extras bring polars")
    times = []
    frame = polars.DataFrame(log().to_dict("list")).lazy()
    lazy = frame.map_batches(lambda part: times.append(1) or part, validate_output_schema=False)
    with pytest.warns(UserWarning, match="no time is named"):
        made(lazy.rename({"when": "timestamp"}), tmp_path, time=None)
    assert len(times) == 1


def test_times_are_datetimes_seconds_or_text(tmp_path: Path) -> None:
    seconds = log()["when"].astype("datetime64[s]").astype("int64")
    units = [{"time_unit": "ms"}, {}, {}]
    columns = [seconds * 1000, seconds, log()["when"].dt.strftime("%Y-%m-%dT%H:%M:%S")]
    orders = set()
    for told, column in zip(units, columns, strict=True):
        data = made(log().assign(when=column)[::-1], tmp_path, **told)
        packed = PackedLog.open(next((tmp_path / "data").glob("frame-*")))
        assert len(packed.items_N) == data.num_events
        orders.add((tuple(packed.items_N.tolist()), tuple(packed.times_N.tolist())))
        shutil.rmtree(tmp_path / "data")
    assert len(orders) == 1  # by time, whatever it is written in


def test_order_labels_and_weights_are_columns_of_a_frame(tmp_path: Path) -> None:
    frame = log().assign(
        day=log()["when"].dt.floor("D"), nth=range(72, 0, -1), clicked=[True, False] * 36, worth=range(1, 73)
    )
    made(frame, tmp_path, time="day", order=["nth"], label="clicked", weight="worth", protocol="impressions")
    packed = PackedLog.open(next((tmp_path / "data").glob("frame-*")))
    assert len(packed.items_N) == 36
    assert packed.weights_N is not None
    assert packed.weights_N[:3].tolist() == [5, 3, 1]  # the clicks of one day, by `nth`
    assert packed.requests is not None
    assert packed.requests.labels_RC[:6, 0].tolist() == [0, 1, 0, 1, 0, 1]


def test_without_times_the_rows_are_in_order(tmp_path: Path) -> None:
    forth = made(log(), tmp_path, time=None)
    back = made(log()[::-1], tmp_path, time=None)
    assert forth.fingerprint != back.fingerprint
    assert (forth.num_events, back.num_events) == (72, 72)


@pytest.mark.parametrize(
    ("frame", "changes", "says"),
    [
        (log(), {"user": "whom"}, r"^frame has no column 'whom'; did you mean 'who'\? \(have: who, what, when"),
        (log(), {"item": 3}, "^frame: 3 is no column's name; give text$"),
        (log(), {"item": "who"}, "^frame: user, item, time, .* are columns of their own"),
        (log()[:0], {}, "^frame has no rows$"),
        ([1, 2], {}, "^frame: a list is no frame; give one of pandas or polars$"),
        (log().assign(who=[None, *log()["who"][1:]]), {}, r"^frame: of .* \(who: empty 1\), .* row 1;"),
        (log().assign(what=[*log()["what"][:-1], np.nan]), {}, r"^frame: of .* \(what: empty 1\), .* row 72;"),
        (log().assign(what=log()["what"] + 0.5), {}, "^frame: column what is of type double; ids are whole numbers or"),
        (log().assign(what=[1, "a"] * 36), {}, r"^frame: values of mixed kinds or out of range \(column what "),
        (log().assign(when=[*log()["when"][:-1], pd.NaT]), {}, r"^frame: of .* \(when: empty 1\), .* row 72;"),
        (log().assign(when=pd.to_timedelta(1, unit="h")), {}, r"^frame: column when is of type duration\[us\]; take"),
        (log().assign(when="soon"), {}, "^frame: when is 'soon' in row 1, not a time"),
        (pd.concat([log(), log()[:1]]), {}, "^1 rows repeat an earlier row .* the first is row 73;"),
        (log(users=12, events=2), {}, "^no user has 3 events or more, so nobody can"),
        (log(), {"duplicates": "perhaps"}, "^dataset.duplicates=perhaps: "),
        (log(), {"user_core": -1}, "^dataset.user_core=-1: "),
        (log(), {"name": "a b"}, "^dataset.name="),
        (pd.concat([log(), log()[["who"]]], axis=1), {}, "^frame has several columns 'who'"),
    ],
)  # fmt: skip
def test_bad_frames_are_refused_in_one_line_and_leave_nothing(
    frame: Any, changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(SeqrecError, match=says) as refusal:
        made(frame, tmp_path, **changes)
    assert "\n" not in str(refusal.value)
    assert list((tmp_path / "data").rglob("*.parquet")) == []


def test_filters_and_protocols_are_settings(tmp_path: Path) -> None:
    twice = pd.concat([log(), log()[:2]])
    assert made(twice, tmp_path, duplicates="drop").num_events == 72
    assert made(twice, tmp_path, duplicates="keep").num_events == 74
    rated = log().assign(stars=[1, 5, 5] * 24)
    assert made(rated, tmp_path, rating="stars", min_rating=4.0).num_events == 48
    positions = made(log(), tmp_path, protocol="positions")
    assert (positions.protocol["name"], positions.protocol["click_negatives"]) == ("positions", 1)
    run = seqrec_cli.train(SMALL, dataset=positions, run_dir=tmp_path / "asked", verbose=False)
    assert run.protocol["fingerprint"] == positions.fingerprint
    other = seqrec_cli.train(
        {**SMALL, "protocol": "ratio", "protocol.click_negatives": 2},
        dataset=positions,
        run_dir=tmp_path / "other",
        verbose=False,
    )
    assert (other.protocol["name"], other.protocol["settings"]["click_negatives"]) == ("ratio", 2)


def test_context_and_user_attributes_reach_the_model(tmp_path: Path) -> None:
    frame = log().assign(device=["phone", None, "tv"] * 24, age=[int(user[1:]) % 3 for user in log()["who"]])
    data = made(frame, tmp_path, context=["device"], user_attributes=["age"])
    model = {**SMALL, "model": "din"}
    run = seqrec_cli.train(model, dataset=data, run_dir=tmp_path / "run", verbose=False)
    names = run._run.log.catalog
    assert [each.name for each in names.context_attributes] == ["device"]
    assert [each.name for each in names.user_attributes] == ["age"]
    assert len(run.recommend(histories=[[1, 2]], context={"device": "tv"}, times=[[1, 2]], top=2)) == 2
    with pytest.raises(SeqrecError, match=r"context.device=radio: no such value"):
        run.recommend(histories=[[1, 2]], context={"device": "radio"}, times=[[1, 2]])


def test_every_argument_is_its_setting(tmp_path: Path) -> None:
    frame = log().assign(
        stars=[3.0, 5.0] * 36, visit=0, nth=range(72), worth=range(1, 73), tags="a|b", plan="free", place="home"
    )
    frame = frame.assign(name=[f"item {item}" for item in frame["what"]])
    told: dict[str, Any] = {
        "rating": ("rating_column", "stars"),
        "item_attributes": ("item_attribute_columns", ["tags"]),
        "user_attributes": ("user_attribute_columns", ["plan"]),
        "context": ("context_columns", ["place"]),
        "value_separator": ("value_separator", "|"),
        "title": ("title_column", "name"),
        "time_unit": ("time_unit", "s"),
        "min_rating": ("min_rating", 2.0),
        "user_core": ("user_core", 2),
        "item_core": ("item_core", 1),
        "duplicates": ("duplicates", "keep"),
        "missing": ("missing", "drop"),
        "session": ("session_column", "visit"),
        "order": ("order_columns", ["nth"]),
        "weight": ("weight_column", "worth"),
    }
    data = made(frame, tmp_path, **{name: value for name, (_, value) in told.items()})
    assert {key: data.settings[key] for key, _ in told.values()} == dict(told.values())
    frame = frame.assign(part=(["train"] * 4 + ["test", "valid"]) * 12)
    with pytest.raises(SeqrecError, match=r"split_leaks=true"):
        made(frame, tmp_path, split="part")
    data = made(frame, tmp_path, split="part", split_leaks=True)
    assert (data.settings["split_column"], data.settings["split_leaks"]) == ("part", True)


def test_rows_without_an_id_are_refused_or_dropped(tmp_path: Path) -> None:
    frame = log().assign(who=[None, *log()["who"][1:]])
    with pytest.raises(SeqrecError, match=r"of 72 rows, 1 without one of who.*dataset\.missing=drop"):
        made(frame, tmp_path)
    assert made(frame, tmp_path, missing="drop").num_events == 71
