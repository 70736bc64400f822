"""A run whose items are read by their texts: measured again, exported, asked for items that were added, begun anew."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import seqrec_cli
from seqrec_cli.commands.recommend import recommending_of
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.numbers import vector_features
from seqrec_cli.saying import silent
from seqrec_cli.serving.item_start import open_items

WORDS = ("red", "blue", "green", "old", "new", "tall")
COLD = 24  # an item whose one event tests


def write_log(path: Path, users: int) -> None:
    rng = np.random.default_rng(0)
    rows = ["user,item,time"]
    for user in range(users):
        items = rng.permutation(COLD)[:7].tolist() + [COLD] * (user == 3)
        rows += [f"{user},{item},{1_700_000_000 + 1000 * user + nth}" for nth, item in enumerate(items)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("texts")
    write_log(folder / "log.csv", 40)
    titles = (f"{item},{WORDS[item % 6]} {WORDS[item % 5]} house" for item in range(COLD + 1))
    (folder / "items.csv").write_text("\n".join(["item,title", *titles]) + "\n", encoding="utf-8")
    return folder


def settings(base: Path, *more: str) -> list[str]:
    return [
        "dataset=csv",
        f"dataset.archive={base / 'log.csv'}",
        f"dataset.item_file={base / 'items.csv'}",
        "dataset.title_column=title",
        "dataset.item_text=tfidf",
        "dataset.text_width=4",
        f"data_dir={base / 'data'}",
        *("model=sasrec", "model.items=both", "model.experts=2", "model.heads=1"),
        *("model.embed_dim=8", "model.max_length=5", "trainer.max_epochs=1"),
        *("evaluation.baselines=false", "hardware.precision=fp32"),
        *more,
    ]


@pytest.fixture(scope="module")
def run(base: Path) -> str:
    seqrec_cli.run("train", settings(base, f"run_dir={base / 'run'}"))
    return str(base / "run")


def test_a_run_is_measured_again_as_it_was_and_asked(run: str) -> None:
    before = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
    found = seqrec_cli.run("evaluate", [f"ckpt={run}", "split=val"])
    assert found.get("val", found)["ndcg@10"] == pytest.approx(before["val"]["ndcg@10"], abs=1e-6)
    assert before["parts"]["test"]["cold targets"]["targets"] == 1
    assert len(seqrec_cli.run("recommend", [f"ckpt={run}", "user=3", "top=4"])["items"]) == 4


def test_the_exported_program_scores_as_the_model_and_holds_no_adaptor(run: str, tmp_path: Path) -> None:
    made = seqrec_cli.run("export", [f"ckpt={run}", "format=torch", f"out={tmp_path / 'out'}"])
    assert made["max_difference"] <= compose("export", ["ckpt=run"]).tolerance.scores
    (program,) = (tmp_path / "out").glob("*.pt2")
    names = torch.export.load(program).state_dict
    assert not [name for name in names if "adaptor" in name or "numbers_RK" in name]


def test_an_added_item_is_scored_by_the_adaptor(run: str, tmp_path: Path) -> None:
    restored = restore(run, None, None, hardware=AS_TRAINED, tell=silent)
    recommending = recommending_of(restored)
    items = open_items(recommending, str(tmp_path), dataset="csv", item_vectors=None, most=5, compact_at=100)
    vectors_VW = restored.log.catalog.item_vectors
    assert vectors_VW is not None
    twin = 5
    items.append({"op": "put", "item": "new", "text_vector": vectors_VW[twin].tolist()})
    items.now()
    told = items.about("new")
    assert told is not None
    vector_D = np.array(told["vector"])
    features_VW = vector_features(vectors_VW)
    assert items.qualities["text_vector"].items == 24
    with torch.inference_mode():
        expected_D = restored.model.vectors_of_texts()(torch.from_numpy(features_VW[twin : twin + 1]))[0]  # type: ignore[operator]
    np.testing.assert_allclose(vector_D, expected_D.numpy(), atol=1e-5)


def test_a_later_log_needs_the_same_vectors(base: Path, run: str, tmp_path: Path) -> None:
    """TF-IDF of other titles is another space, in which the adaptor's weights mean nothing."""
    again = seqrec_cli.run("train", [f"start_from={run}", f"run_dir={tmp_path / 'again'}"])
    assert "val" in again
    titles = (base / "items.csv").read_text(encoding="utf-8").replace("red", "tall old")
    (tmp_path / "items.csv").write_text(titles, encoding="utf-8")
    other = [f"start_from={run}", f"dataset.item_file={tmp_path / 'items.csv'}", f"run_dir={tmp_path / 'other'}"]
    with pytest.raises(SeqrecError, match=r"prepare both logs with one dataset\.item_vectors=FILE"):
        seqrec_cli.run("train", other)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("hardware.embedding=sparse", "hardware.embedding=sparse: model.items=text and both learn an adaptor"),
        ("hardware.table=sharded", "hardware.table=sharded: model.items: vectors made of texts are no table"),
        ("model.tied=false", "model.items=both scores items by their texts; set model.tied=true"),
    ],
)
def test_what_texts_cannot_have_is_refused_before_anything(base: Path, given: str, why: str) -> None:
    more = ("objective=sampled_softmax", "trainer.decay_embeddings=false") if "sparse" in given else ()
    with pytest.raises(SeqrecError, match=why):
        seqrec_cli.run("train", settings(base, given, *more, f"run_dir={base / 'refused'}"))
    assert not (base / "refused").exists()
