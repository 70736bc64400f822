"""`seqrec recommend` on a trained run."""

from pathlib import Path

import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError

TINY = [
    "dataset=synthetic",
    "dataset.users=60",
    "dataset.items=40",
    "dataset.max_events=12",
    "trainer.max_epochs=1",
    "evaluation.baselines=false",
    "model.max_length=8",
    "model.embed_dim=8",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    base: Path = tmp_path_factory.mktemp("recommend")
    seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={base / 'run'}"])
    return str(base / "run")


def test_a_user_s_table_is_printed_and_returned(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = seqrec_cli.run("recommend", [f"ckpt={run}", "user=3", "top=4"])
    assert len(set(found["items"])) == 4
    assert found["scores"] == sorted(found["scores"], reverse=True)
    printed = capsys.readouterr().out
    assert all(f"{score:.4f}" in printed for score in found["scores"])


def test_a_history_may_hold_what_the_data_do_not_know(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = seqrec_cli.run("recommend", [f"ckpt={run}", "history=[3,7,nothing]", "user=nobody"])
    assert found["events_read"] == 2
    assert not {3, 7} & set(found["items"])
    printed = capsys.readouterr().out
    assert "left out, for the data do not have them: nothing" in printed
    assert "user nobody is unknown to the data" in printed


def test_of_whom_nothing_is_known_hears_so(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    for asked, says in (
        ("user=nobody", "user nobody is unknown to the data: recommended by popularity"),
        ("history=[]", "nothing of the history is known: recommended by popularity"),
    ):
        found = seqrec_cli.run("recommend", [f"ckpt={run}", asked, "top=3"])
        assert (len(found["items"]), found["answered_by"]) == (3, "popularity")
        assert says in capsys.readouterr().out


def test_attributes_answer_where_the_history_does_not(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    popular = seqrec_cli.run("recommend", [f"ckpt={run}", "history=[]", "top=40"])
    for asked, by, says in (
        (["user=nobody", "attributes={category: [category-03, category-05]}"], "attributes", "the attributes given"),
        (
            ["history=[new]", "item_attributes={new: {category: category-03}}"],
            "category",
            "attributes of the history's",
        ),
        (["history=[]", "user=3"], "profile", "the user's attributes in the data"),
    ):
        found = seqrec_cli.run("recommend", [f"ckpt={run}", "top=40", *asked])
        assert found["answered_by"] == by
        assert found["items"] != popular["items"]
        assert sorted(found["items"]) == sorted(popular["items"])
        assert says in capsys.readouterr().out
    with pytest.raises(SeqrecError, match=r"attributes\.category=category-x: no such value"):
        seqrec_cli.run("recommend", [f"ckpt={run}", "attributes={category: category-x}"])


def test_a_list_that_nothing_passes_is_told(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = seqrec_cli.run("recommend", [f"ckpt={run}", "history=[1,2]", "allow=[5,6]", "deny=[5,6]"])
    assert found["items"] == []
    assert "no item is left: none passes the filters" in capsys.readouterr().out
    with pytest.raises(SeqrecError, match=r"^output goes with input=FILE; leave it out$"):
        seqrec_cli.run("recommend", [f"ckpt={run}", "history=[1,2]", "output=x.csv"])


def test_generated_data_have_no_later_file(run: str) -> None:
    with pytest.raises(SeqrecError, match=r"newer=later\.csv: dataset=synthetic is generated and reads no file"):
        seqrec_cli.run("recommend", [f"ckpt={run}", "user=3", "newer=later.csv"])
