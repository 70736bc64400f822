"""`seqrec explain`: what past events weighed, as a table, a picture and a file; and whether it names the right ones."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError

TINY = [
    "dataset=synthetic",
    "dataset.users=60",
    "dataset.items=40",
    "dataset.max_events=12",
    "trainer.max_epochs=1",
    "trainer.batch_size=64",
    "evaluation.baselines=false",
    "model.max_length=8",
    "model.embed_dim=8",
]
READ = pytest.mark.parametrize("name", ["bst", "dien", "din", "dsin"])


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("explain")


def trained(base: Path, name: str) -> str:
    folder = base / name
    if not folder.exists():
        seqrec_cli.run("train", [*TINY, f"model={name}", f"data_dir={base / 'data'}", f"run_dir={folder}"])
    return str(folder)


@READ
def test_the_heaviest_events_of_the_best_items_come_first(base, name: str, capsys) -> None:
    folder = trained(base, name)
    result = seqrec_cli.run("explain", [f"ckpt={folder}", "user=3", "events=4", "top=2"])
    assert len(result["items"]) == 2
    assert result["items"][0]["score"] >= result["items"][1]["score"]
    for found in result["items"]:
        weights = [abs(weight) for weight in found["weights"]]
        assert len(weights) == len(found["events"]) == len(found["times"]) == 4
        assert weights == sorted(weights, reverse=True)
    assert Path(result["picture"]).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert f"user 3, item {result['items'][0]['item']}" in printed
    assert f"{result['items'][0]['weights'][0]:.4f}" in printed


def test_items_of_a_history_that_the_data_do_not_have_are_named(base, capsys) -> None:
    seqrec_cli.run("explain", [f"ckpt={trained(base, 'din')}", "history=[1,zzz,2]", "top=1"])
    assert "left out, for the data do not have them: zzz" in capsys.readouterr().out


def test_a_picture_is_not_written_over_by_its_weights(base, tmp_path) -> None:
    with pytest.raises(SeqrecError, match=r"out=.*x\.json: the picture's file"):
        seqrec_cli.run("explain", [f"ckpt={trained(base, 'din')}", "user=1", f"out={tmp_path / 'x.json'}"])


def test_a_given_item_is_explained(base) -> None:
    found = seqrec_cli.run("explain", [f"ckpt={trained(base, 'din')}", "user=3", "item=7", f"out={base / 'x.png'}"])
    assert [each["item"] for each in found["items"]] == ["7"]
    assert (base / "x.png").is_file()


def asked(folder: str, *overrides: str) -> dict[str, Any]:
    with mock.patch("seqrec_cli.commands.explain.draw_explanation"):
        return seqrec_cli.run("explain", [f"ckpt={folder}", *overrides])


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("din", ["user=nobody"], r"user=nobody: the data have no such user \(ids such as"),
        ("din", ["user=3", "item=9999"], "item=9999: the data have no such item"),
        ("avgpool", ["user=3", "method=attention"], "model=avgpool has no attention .* method=leave_one_out asks any"),
        ("widedeep", ["user=3", "method=integrated_gradients"], "model=widedeep does not read its events as vectors"),
        ("din", [], r"whose scores\? give user=ID, or history="),
        ("din", ["history=[nothing]"], "no item of the history is in the data, so popularity answers"),
        ("din", ["user=3", "times=[1]"], "times goes with a history"),
        ("din", ["user=3", "method=shap"], "method"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(base, name: str, overrides: list[str], says: str) -> None:
    with pytest.raises(SeqrecError, match=says) as refusal:
        seqrec_cli.run("explain", [f"ckpt={trained(base, name)}", *overrides])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "method"), [("avgpool", "leave_one_out"), ("din", "attention"), ("dien", "attention")]
)
def test_auto_takes_what_the_model_has_and_says_what_a_weight_is(base, name: str, method: str, capsys) -> None:
    found = asked(trained(base, name), "user=3", "top=1")
    assert found["method"] == method
    assert found["scale"] == ("normalised" if name == "dien" else "raw")
    printed = " ".join(capsys.readouterr().out.split())
    words = {
        "avgpool": "raw: the score less",
        "din": "attention, raw",
        "dien": "attention, normalised over this history",
    }
    assert words[name] in printed


def test_the_file_has_every_event_and_the_table_as_many_as_asked_for(base, tmp_path) -> None:
    folder = trained(base, "avgpool")
    found = asked(folder, "user=3", "top=2", "events=2", "order=time", f"out={tmp_path / 'x.png'}")
    told = json.loads((tmp_path / "x.json").read_text())
    assert found["weights"] == str(tmp_path / "x.json")
    assert (told["method"], told["scale"], told["user"], told["model"]) == ("leave_one_out", "raw", "3", "avgpool")
    for shown, whole in zip(found["items"], told["items"], strict=True):
        weights = [event["weight"] for event in whole["events"]]
        assert len(weights) == shown["read"] == 8
        heaviest = sorted(np.argsort(-np.abs(weights), kind="stable")[:2])
        assert shown["weights"] == [weights[place] for place in heaviest]  # along the history
        assert [str(whole["events"][place]["item"]) for place in heaviest] == shown["events"]
        assert shown["times"] == sorted(shown["times"])
    by_weight = asked(folder, "user=3", "top=1", "events=2", f"out={tmp_path / 'x.png'}")["items"][0]
    assert set(by_weight["events"]) == set(found["items"][0]["events"])


def test_a_history_is_explained_as_its_user_s_own(base, tmp_path) -> None:
    folder = trained(base, "avgpool")
    ids = [str(event["item"]) for event in _all_events(folder, tmp_path, "user=5")]
    given = asked(folder, f"history=[{','.join(ids)}]", "item=7", f"out={tmp_path / 'h.png'}")
    own = asked(folder, "user=5", "item=7", f"out={tmp_path / 'u.png'}")
    assert given["user"] is None
    assert sorted(given["items"][0]["events"]) == sorted(own["items"][0]["events"])
    assert asked(folder, "history=[1,2]", "top=1")["weights"].endswith("explain_history.json")


def _all_events(folder: str, tmp_path: Path, *overrides: str) -> list[dict[str, Any]]:
    asked(folder, *overrides, "item=7", f"out={tmp_path / 'x.png'}")
    found: list[dict[str, Any]] = json.loads((tmp_path / "x.json").read_text())["items"][0]["events"]
    return found


def test_a_score_less_its_baseline_is_the_sum_of_integrated_gradients(base, tmp_path, capsys) -> None:
    overrides = ["user=3", "item=7", "method=integrated_gradients", f"out={tmp_path / 'x.png'}"]
    found = asked(trained(base, "din"), *overrides)["items"][0]
    events = json.loads((tmp_path / "x.json").read_text())["items"][0]["events"]
    total = sum(event["weight"] for event in events)
    assert found["gap"] <= 0.01
    assert total == pytest.approx(found["score"] - found["baseline"], abs=0.011 * sum(abs(e["weight"]) for e in events))
    assert "add up to the score less its baseline" in " ".join(capsys.readouterr().out.split())


def test_every_setting_reaches_what_it_is_for(base, tmp_path) -> None:
    folder = trained(base, "din")
    path = "seqrec_cli.commands.explain."
    names = {"gap": "0.2", "points": "40", "method": "integrated_gradients", "check": "true", "top": "1"}
    test = {"deletion.removed": "2", "deletion.users": "7", "deletion.draws": "3", "deletion.seed": "5"}
    given = [f"{key}={value}" for key, value in {**names, **test}.items()]
    with (
        mock.patch(path + "faithfulness", return_value=None) as sample,
        mock.patch(path + "delete_events", return_value=None) as own,
    ):
        asked(folder, "user=3", *given, f"out={tmp_path / 'x.png'}")
    how = sample.call_args.kwargs["how"]
    assert (how.method, how.path.gap, how.path.points) == ("integrated_gradients", 0.2, 40)
    assert {key: sample.call_args.kwargs[key] for key in ("removed", "draws", "seed")} == {
        "removed": 2,
        "draws": 3,
        "seed": 5,
    }
    assert len(sample.call_args.args[1]) == 7
    assert (own.call_args.kwargs["removed"], own.call_args.kwargs["draws"]) == (2, 3)
    with pytest.raises(SeqrecError, match="miss the score minus its baseline"):
        asked(folder, "user=3", "method=integrated_gradients", "points=1", "gap=1e-9")


# A log in which one past event decides what comes.

KEYS, FILLERS, LENGTH, START = 3, 6, 5, 1_700_000_000


def sequences() -> list[list[str]]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        length = int(rng.integers(3, LENGTH + 3))  # which says little of when it comes
        key, events = rng.integers(KEYS), [f"f{rng.integers(FILLERS)}" for _ in range(length - 1)]
        events.insert(int(rng.integers(length)), f"key{key}")
        found.append([*events, f"won{key}", "end", "end"])
    return found


@pytest.fixture(scope="module")
def planted(base) -> dict[str, str]:
    log = base / "planted.csv"
    rows = [f"u{u},{item},{START + 60 * t}" for u, items in enumerate(sequences()) for t, item in enumerate(items)]
    log.write_text("user,item,time\n" + "\n".join(rows) + "\n")
    data = [
        "dataset=csv",
        f"dataset.archive={log}",
        "dataset.duplicates=keep",
        "protocol.seen=keep",
        f"data_dir={base / 'data'}",
        "evaluation.baselines=false",
        "evaluation.test=none",
        f"model.max_length={LENGTH + 5}",
    ]
    steps = [
        "model.dropout=0",
        "model.embed_dim=24",
        "trainer=next_item",
        "trainer.lr=0.01",
        "trainer.batch_size=32",
        "trainer.max_epochs=15",
        "trainer.monitor=loss",
        "trainer.patience=15",
        "hardware.precision=fp32",
    ]
    for name, more in (("gru4rec", steps), ("ease", ["model.half_life=100"])):
        seqrec_cli.run("train", [*data, *more, f"model={name}", f"run_dir={base / 'planted' / name}"])
    # Of most users validation asks for what never trained, so that it does not say which epoch learned the rule.
    return {name: str(base / "planted" / name / "last.pt") for name in ("gru4rec", "ease")}


def histories() -> list[tuple[int, int, str]]:
    """(key, its place, the history) of every key at every place among the same other events."""
    return [
        (key, place, ",".join([f"f{n}" for n in range(place)] + [f"key{key}"] + [f"f{n}" for n in range(place, 4)]))
        for key in range(KEYS)
        for place in range(LENGTH)
    ]


@pytest.mark.parametrize(
    ("name", "method"), [("gru4rec", "leave_one_out"), ("ease", "leave_one_out"), ("ease", "integrated_gradients")]
)
def test_the_event_that_decides_is_named(planted: dict[str, str], name: str, method: str, tmp_path) -> None:
    named, raised = 0, 0
    for key, _, history in histories():
        found = asked(
            planted[name], f"history=[{history}]", f"item=won{key}", f"method={method}", f"out={tmp_path / 'x.png'}"
        )["items"][0]
        named += found["events"][0] == f"key{key}"
        raised += found["weights"][0] > 0
    assert named >= len(histories()) - 1
    assert raised >= len(histories()) - 1


def test_leaving_the_deciding_event_out_changes_the_score_most(planted: dict[str, str], capsys) -> None:
    told = asked(planted["gru4rec"], "history=[f1,key2,f3,f4,f0]", "item=won2", "check=true", "deletion.removed=1")
    (own,), sample = told["check"]["items"], told["check"]["validation"]
    assert own["named"] > 3 * own["random"]
    assert own["named"] > 3 * own["least"]
    assert sample["histories"] == 200
    assert sample["interval"][0] > 0
    assert sample["beats_random"] > 0.7
    printed = capsys.readouterr().out
    assert "faithful: named less random" in printed
    assert "mean of 200 validation requests" in printed


def test_weights_that_name_the_wrong_events_fail_the_test(planted: dict[str, str], capsys) -> None:
    """With the order of the weights turned around nothing is faithful, and a warning says so."""
    from seqrec_cli.serving.attribution import methods

    honest = methods.leave_one_out

    def upside_down(*arguments: Any, **named: Any) -> Any:
        weights_LC, scores_C = honest(*arguments, **named)
        return 1 / (weights_LC.abs() + 1e-6), scores_C

    with mock.patch.object(methods, "leave_one_out", upside_down):
        told = asked(planted["gru4rec"], "history=[f1,key2,f3,f4,f0]", "item=won2", "check=true", "deletion.removed=1")
    assert told["check"]["validation"]["above_random"] < 0
    assert "WARNING: not shown to be faithful" in capsys.readouterr().out
