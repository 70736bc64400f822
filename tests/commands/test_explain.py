"""`seqrec explain`: attention of every model that has one, as a table and a picture."""

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


def test_a_given_item_is_explained(base) -> None:
    found = seqrec_cli.run("explain", [f"ckpt={trained(base, 'din')}", "user=3", "item=7", f"out={base / 'x.png'}"])
    assert [each["item"] for each in found["items"]] == ["7"]
    assert (base / "x.png").is_file()


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("din", ["user=nobody"], r"user=nobody: the data has no such user \(ids such as"),
        ("din", ["user=3", "item=9999"], "item=9999: the data has no such item"),
        ("avgpool", ["user=3"], "model=avgpool has no attention"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(base, name: str, overrides: list[str], says: str) -> None:
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.run("explain", [f"ckpt={trained(base, name)}", *overrides])
