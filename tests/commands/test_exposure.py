"""`seqrec exposure` end to end: from a run of a log with owners to a curve, prices, and a run that has them."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import seqrec_cli
from seqrec_cli.commands.exposure import _refuse_to_keep
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.owner_exposure import Prices
from seqrec_cli.training.checkpoint import checkpoint_file, load_checkpoint
from tests.models import toy

TINY = [
    "dataset=synthetic",
    "dataset.users=50",
    "dataset.items=60",
    "dataset.max_events=15",
    "evaluation.baselines=false",
]
FAST = ["model=sasrec", "model.embed_dim=8", "trainer.max_epochs=1", "hardware.threads=1", "hardware.precision=fp32"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base: Path = tmp_path_factory.mktemp("exposure")
    owned = [*TINY, "dataset.owners=true", f"data_dir={base / 'data'}"]
    seqrec_cli.run("train", [*owned, *FAST, f"run_dir={base / 'sasrec'}"])
    seqrec_cli.run("train", [*owned, "model=popular", f"run_dir={base / 'popular'}"])
    seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", "model=popular", f"run_dir={base / 'unowned'}"])
    return base


def test_a_curve_its_files_and_a_run_with_the_prices(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = base / "fair"
    words = [f"ckpt={base / 'sasrec'}", "strengths=[0,0.5,2]", "rounds=30", "keep=2", f"run_dir={out}"]
    found = seqrec_cli.run("exposure", words)
    assert json.loads((out / "exposure.json").read_text()) == json.loads(json.dumps(found))
    assert (out / "exposure.png").read_bytes().startswith(b"\x89PNG")
    rows = found["rows"]
    # Strength 0 is the run itself, and prices bring exposure nearer to its target.
    before = json.loads((base / "sasrec" / "metrics.json").read_text())["val"]
    assert {name: rows[0][name] for name in ("hr@10", "ndcg@10", "mrr@10")} == {
        name: before[name] for name in ("hr@10", "ndcg@10", "mrr@10")
    }
    assert rows[2]["distance"] < rows[1]["distance"] < rows[0]["distance"]
    assert f"{rows[2]['distance']:.4f}" in capsys.readouterr().out
    prices = pq.read_table(out / "exposure.parquet").to_pandas()
    assert prices["target"].sum() == pytest.approx(1)
    assert not prices["price_0"].any()
    assert prices["price_2"].abs().max() <= 2 * found["unit"] + 1e-9
    # The run that has the prices gives what the curve says, and lists by them.
    after = seqrec_cli.run("evaluate", [f"ckpt={out}", "split=val", "beyond_accuracy=true"])["val"]
    assert after["ndcg@10"] == pytest.approx(rows[2]["ndcg@10"], abs=1e-9)
    plain = seqrec_cli.run("evaluate", [f"ckpt={base / 'sasrec'}", "split=val", "beyond_accuracy=true"])["val"]
    assert after["owner_imbalance@10"] < plain["owner_imbalance@10"]
    assert seqrec_cli.run("recommend", [f"ckpt={out}", "history=[i1,i2]"])["items"]


def test_a_model_without_vectors_has_a_curve_and_keeps_no_prices(base: Path) -> None:
    found = seqrec_cli.run("exposure", [f"ckpt={base / 'popular'}", "strengths=[0,20]", "rounds=20", "users=30"])
    assert found["rows"][1]["distance"] < found["rows"][0]["distance"]
    with pytest.raises(SeqrecError, match="model=popular has no item bias"):
        seqrec_cli.run("exposure", [f"ckpt={base / 'popular'}", "keep=1", f"run_dir={base / 'none'}"])


def test_a_bias_of_codes_is_none_of_items() -> None:
    """The run with its prices could not be loaded, once all of them are learned."""
    cfg = toy.small_config("semantic", item_bias=True)
    for name, model in (
        ("semantic", toy.build_model(cfg, toy.toy_catalog(), 0)),
        ("gru4rec", toy.toy_model("gru4rec")),
    ):
        run: Any = SimpleNamespace(cfg=SimpleNamespace(model=SimpleNamespace(name=name)), model=model)
        with pytest.raises(SeqrecError, match="semantic has no item bias") if name == "semantic" else nullcontext():
            _refuse_to_keep(run)


def test_prices_are_learned_on_validation_whatever_is_told(base: Path) -> None:
    words = [f"ckpt={base / 'popular'}", "strengths=[0]"]
    val, test = (seqrec_cli.run("exposure", [*words, f"split={split}"]) for split in ("val", "test"))
    assert val["unit"] == test["unit"]
    assert val["rows"] != test["rows"]


def test_histories_and_rounds_of_prices_are_as_many_as_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, float, int]] = []

    def learn(self: Prices, strength: float, rounds: int) -> np.ndarray:
        told.append((len(self.scores_RV), strength, rounds))
        return self.price_O

    monkeypatch.setattr(Prices, "learn", learn)
    seqrec_cli.run("exposure", [f"ckpt={base / 'popular'}", "strengths=[0,2]", "rounds=3", "users=7"])
    assert told == [(7, 0.0, 3), (7, 2.0, 3)]


@pytest.mark.parametrize(
    ("run", "words", "told"),
    [
        ("unowned", [], r"belong to nobody; train with .* both with dataset\.predict=items$"),
        ("popular", ["strengths=[1,0]"], "ascending order"),
        ("popular", ["keep=3", "run_dir=x"], "none of strengths"),
        ("popular", ["keep=1"], "give run_dir=FOLDER"),
    ],
)
def test_bad_input_gets_a_line(base: Path, run: str, words: list[str], told: str) -> None:
    with pytest.raises(SeqrecError, match=told):
        seqrec_cli.run("exposure", [f"ckpt={base / run}", *words])


def test_training_with_owners_in_the_loss_and_without_owners(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    owned = [*TINY, "dataset.owners=true", f"data_dir={base / 'data'}", *FAST, "model.item_bias=true"]
    owned.append("objective.owner_weight=5")
    seqrec_cli.run("train", [*owned, "trainer.max_epochs=3", f"run_dir={base / 'taught'}"])
    plain = [*owned[:-1], "trainer.max_epochs=3", f"run_dir={base / 'plain'}"]
    seqrec_cli.run("train", plain)
    kept = ["strengths=[0,1]", "rounds=5", "keep=1", f"run_dir={base / 'kept'}"]
    shown = [
        seqrec_cli.run("exposure", [f"ckpt={base / name}", *words])["rows"][0]["distance"]
        for name, words in (("taught", ["strengths=[0]"]), ("plain", kept))
    ]
    assert shown[0] < shown[1]
    # Of a run that has prices, other ones would be beyond the strength that is told.
    with pytest.raises(SeqrecError, match=r"prices of strength 1 .*ckpt=.*plain"):
        seqrec_cli.run("exposure", [f"ckpt={base / 'kept'}", *kept[:-1], f"run_dir={base / 'twice'}"])
    assert not (base / "twice").exists()
    seqrec_cli.run("exposure", [f"ckpt={base / 'kept'}", "strengths=[0]"])
    assert "has prices of strength 1 in it" in capsys.readouterr().out
    # Prices come on top of what the run has learned of its items.
    learned, priced = (load_checkpoint(checkpoint_file(base / name)) for name in ("plain", "kept"))
    learned_V, priced_V = learned["model"]["bias_V"], priced["model"]["bias_V"]
    assert learned["epoch"] == priced["epoch"] > 0
    assert learned_V[1:].abs().min() > 0
    prices = pq.read_table(base / "kept" / "exposure.parquet").to_pandas()["price_1"]
    added_V = (priced_V - learned_V)[1:].numpy()
    of_nobody_too = np.array([0.0, *prices])
    np.testing.assert_allclose(np.abs(added_V[:, None] - of_nobody_too).min(1), 0, atol=1e-5)
    np.testing.assert_allclose(np.abs(prices.to_numpy()[:, None] - added_V).min(1), 0, atol=1e-5)
    with pytest.raises(SeqrecError, match=r"belong to nobody; .*, or objective\.owner_weight=0$"):
        seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", *FAST, "objective.owner_weight=1"])
