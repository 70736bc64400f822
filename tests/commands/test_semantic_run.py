"""`model=semantic` through the verbs: codes from another run's items, kept with the run; a later log; lists by beam."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.models.code_beam import beam_search
from seqrec_cli.models.semantic import Model
from seqrec_cli.training.checkpoint import load_checkpoint

SMALL = [
    "model.embed_dim=8",
    "model.blocks=1",
    "model.max_length=6",
    "trainer.max_epochs=2",
    "trainer.batch_size=8",
    "trainer.warmup_steps=1",
    "hardware.precision=fp32",
    "hardware.threads=1",
    "evaluation.baselines=false",
]
SEMANTIC = ["model=semantic", "model.codes=5", "model.levels=2", *SMALL]


def lines(users: range, items: range, rng: np.random.Generator) -> list[str]:
    found = []
    for user in users:
        for nth, item in enumerate(rng.permutation(items)[:7]):
            found.append(f"u{user},i{item},{1_600_000_000 + 100 * nth},{'abcd'[item % 4]}")
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, the same with items and users more, and one of other events."""
    folder: Path = tmp_path_factory.mktemp("semantic")
    rng = np.random.default_rng(0)
    first = lines(range(25), range(20, 44), rng)
    later = [line.replace(",160", ",161") for line in lines(range(20, 30), range(14, 50), rng)]
    for name, rows in (("first", first), ("later", first + later), ("other", first[:-7])):
        (folder / f"{name}.csv").write_text("\n".join(["user,item,time,genre", *rows]), encoding="utf-8")
    return folder


def data(base: Path, log: str = "first") -> list[str]:
    archive = f"dataset.archive={base / log}.csv"
    return ["dataset=csv", archive, "dataset.item_attribute_columns=[genre]", f"data_dir={base / 'data'}"]


def train(base: Path, name: str, words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = seqrec_cli.run("train", [*words, f"run_dir={base / name}"])
    return found


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    """A run over the items of an encoder's run, which is gone since."""
    train(base, "encoder", [*data(base), "model=sasrec", *SMALL])
    train(base, "semantic", [*data(base), *SEMANTIC, f"model.vectors={base / 'encoder'}"])
    shutil.rmtree(base / "encoder")
    return base / "semantic"


def tuples(folder: Path) -> torch.Tensor:
    found: torch.Tensor = load_checkpoint(folder)["model"]["tuples_VK"]
    return found


def test_a_run_holds_its_codes_and_needs_no_other(run: Path, base: Path) -> None:
    held = load_checkpoint(run)["model"]
    assert held["quantiser.centroids_SCZ"].shape == (2, 5, 8)  # of the encoder's item table
    assert len({tuple(row) for row in held["tuples_VK"].tolist()}) == 25
    again = seqrec_cli.run("evaluate", [f"ckpt={run}"])
    metrics = seqrec_cli.load(run).metrics
    assert again["test"]["ndcg@10"] == metrics["test"]["ndcg@10"]
    assert metrics["val"]["loss"] > 0
    with pytest.raises(
        SeqrecError, match=r"model\.vectors=.*encoder: neither a run's folder nor histories, attributes"
    ):
        train(base, "gone", [*data(base), *SEMANTIC, f"model.vectors={base / 'encoder'}"])
    assert not (base / "gone").exists()


def test_a_run_goes_on_with_its_codes(run: Path, base: Path) -> None:
    shutil.copytree(run, base / "resumed")
    (base / "resumed" / "DONE").unlink()
    seqrec_cli.run("train", [f"resume={base / 'resumed'}", "trainer.max_epochs=3"])
    assert load_checkpoint(base / "resumed" / "last.pt")["epoch"] == 3
    assert torch.equal(load_checkpoint(base / "resumed" / "last.pt")["model"]["tuples_VK"], tuples(run))


@pytest.mark.parametrize(
    ("log", "model", "refused"),
    [
        ("other", ["model=sasrec"], r"was trained on other data or under another protocol"),
        (
            "first",
            ["model=din", "model.max_length=6"],
            r"its model=din has no item vectors; give the run of an encoder",
        ),
    ],
)
def test_vectors_that_cannot_be_had_are_refused(base: Path, log: str, model: list[str], refused: str) -> None:
    folder = base / f"{log}_{model[0][6:]}"
    few = [text for text in SMALL if "blocks" not in text or model == ["model=sasrec"]]
    train(base, folder.name, [*data(base, log), *few, *model])
    with pytest.raises(SeqrecError, match=refused):
        train(base, "refused", [*data(base), *SEMANTIC, f"model.vectors={folder}"])
    assert not (base / "refused").exists()


def test_a_later_log_keeps_the_codes_and_gives_new_items_theirs(base: Path) -> None:
    train(base, "genres", [*data(base), *SEMANTIC, "model.vectors=attributes"])
    train(
        base, "on", [f"start_from={base / 'genres'}", f"dataset.archive={base / 'later.csv'}", "trainer.max_epochs=1"]
    )
    before, after = (seqrec_cli.load(base / name) for name in ("genres", "on"))
    codes = [
        dict(zip(map(str, each.items), each.model.tuples_VK[1:].tolist(), strict=True))  # type: ignore[operator, index]
        for each in (before, after)
    ]
    new = set(codes[1]) - set(codes[0])
    assert new
    assert {item: codes[1][item] for item in codes[0]} == codes[0]
    for item in new:
        alike = [known for known in codes[0] if int(known[1:]) % 4 == int(item[1:]) % 4]
        assert codes[1][item][0] in {codes[0][known][0] for known in alike}
    assert len({tuple(row) for row in codes[1].values()}) == len(codes[1])


def test_lists_are_found_by_beam_search_where_a_beam_is_set(
    base: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beams: list[int] = []

    def watched(*args: Any, **named: Any) -> torch.Tensor:
        beams.append(named["beam"])
        return beam_search(*args, **named)

    monkeypatch.setattr("seqrec_cli.models.semantic.beam_search", watched)
    exact = seqrec_cli.load(run).recommend(histories=[["i21", "i30"]], top=5)
    assert not beams
    trained = seqrec_cli.load(run)
    model = trained.model
    assert isinstance(model, Model)
    model.cfg = model.cfg.model_copy(update={"beam": 40})
    found = trained.recommend(histories=[["i21", "i30"]], top=5)
    assert beams == [40]
    assert found["item"].tolist() == exact["item"].tolist()
    np.testing.assert_allclose(found["score"], exact["score"], rtol=1e-4)
