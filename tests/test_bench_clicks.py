"""Click benchmarks: samples reach every side unchanged, a peer answers, and AUC differences have the errors they say.

The peer here is one in miniature, run by this Python; nothing is installed.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts import bench_clicks, bench_peers, click_peers, click_samples, parity_clicks
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.catalog import Catalog
from tests.toylog import packed, random_histories

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SMALL = [
    "dataset=synthetic",
    "dataset.users=40",
    "dataset.items=30",
    "dataset.categories=5",
    "dataset.min_events=4",
    "dataset.max_events=9",
]
CPU = ["hardware=cpu", "hardware.threads=1", "hardware.precision=fp32"]

MINIATURE = """
import sys
sys.path.insert(0, {folder!r})
from peer_timing import read_request
request = read_request()
import numpy as np
import torch
from click_task import run

class Mini:
    shape = "a bias an item"
    def __init__(self, items, categories):
        self.model = torch.nn.Embedding(items, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.05)
    def train(self, table):
        for rows in torch.randperm(len(table)).split(request["batch_size"]):
            logits = self.model(torch.from_numpy(table.target_S)[rows])[:, 0]
            labels = torch.from_numpy(table.label_S)[rows]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
    def predict(self, table):
        print("noise")
        with torch.no_grad():
            return self.model(torch.from_numpy(table.target_S))[:, 0].numpy()

run(request, "mini", "torch", Mini)
"""


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A peer that has DIN alone."""
    folder = tmp_path / "peers"
    folder.mkdir()
    (folder / "mini.py").write_text(MINIATURE.format(folder=str(SCRIPTS / "peers")), encoding="utf-8")
    monkeypatch.setattr(bench_peers, "SCRIPTS", folder)
    peer = click_peers.ClickPeer(bench_peers.Peer("", (), "torch", "mini.py", "ranker"), ("din",))
    monkeypatch.setitem(click_peers.PEERS, "mini", peer)
    return "mini"


def test_exported_samples_are_those_seqrec_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training position once, its history before it, its positive the event, its negative unseen."""
    monkeypatch.syspath_prepend(str(SCRIPTS / "peers"))  # a peer's script has its own folder on the path, and no more
    import click_task

    histories = random_histories(users=12, num_items=20, longest=9, seed=1)
    log = click_samples.one_category(packed(histories, 20, click_negatives=1))
    found = click_samples.training_samples(click_samples.settings("din", 4, [*SMALL, *CPU]), log)
    assert len(found) == 2 * sum(len(h) - 3 for h in histories)
    wanted = sorted((u + 1, tuple(h[:end]), h[end]) for u, h in enumerate(histories) for end in range(1, len(h) - 2))
    lengths_R = np.count_nonzero(found.history_RL, axis=1)
    rows = zip(found.users_R, found.history_RL, lengths_R, found.candidates_RC, strict=True)
    assert sorted((int(u), tuple(h[:length].tolist()), int(c[0])) for u, h, length, c in rows) == wanted
    assert found.labels_RC.tolist() == [[1, 0]] * len(wanted)
    for user, negative in zip(found.users_R, found.candidates_RC[:, 1], strict=True):
        assert negative not in histories[user - 1][:-2]

    found.save(tmp_path / "train.npz", log)
    table = click_task.Table.read(str(tmp_path / "train.npz"))
    assert np.array_equal(table.history_SL, np.repeat(found.history_RL, 2, axis=0))
    assert np.array_equal(table.target_S, found.candidates_RC.ravel())
    assert table.label_S.tolist() == [1, 0] * len(wanted)
    color_V = log.catalog.item_values["category"][:, 0]
    assert np.array_equal(table.category_V, color_V)
    assert len(click_task.Table.read(str(tmp_path / "train.npz"), multiple=7)) == len(found) // 7 * 7

    left = table.padded_left()
    for before, after, length in zip(table.history_SL, left.history_SL, table.lengths_S, strict=True):
        assert after.tolist() == [0] * (50 - length) + before[:length].tolist()

    batches = list(found.batches(8))
    assert sum(len(batch) for batch in batches) == len(wanted)
    assert all(int(batch.lengths_B.max()) == batch.items_BL.shape[1] for batch in batches)


def test_all_sides_have_the_same_shape() -> None:
    for model in click_samples.SHAPES:
        cfg = click_samples.settings(model, 16, [*SMALL, *CPU])
        assert cfg.trainer.batch_size * 2 == click_samples.BATCH == 1024
        request = click_peers.request_of("torch-rechub", model, 16, cfg, True, epochs=None, train="t.npz")
        assert (request["width"], request["mlp"], request["max_length"]) == (16, [256, 128], 50)
        assert request["batch_size"] == 1024
        json.dumps(request)
    assert request["heads"] == cfg.model.heads  # bst comes last
    assert cfg.model.embed_dim == 32  # an item's and its category's vector side by side
    assert click_samples.settings("dien", 16, CPU).model.history_negatives == 0
    assert click_samples.settings("dien-aux", 16, CPU).model.history_negatives == 1
    for peer in click_peers.PEERS.values():
        assert set(peer.models) <= set(click_samples.SHAPES)
        assert (SCRIPTS / "peers" / peer.tool.script).exists()


def test_rates_of_both_sides(mini: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--steps", "2", "--rounds", "1", "--peer-steps", "2", "--scored", "100", "--json", "c.json"]
    monkeypatch.setattr(bench_clicks, "SCORING_SECONDS", 0.01)
    for module in (bench_clicks, click_samples, click_peers):
        monkeypatch.setattr(module, "BATCH", 32)
    batch = ["trainer.batch_size=16"]
    assert bench_clicks.main([*SMALL, *CPU, *batch, "--models", "din,bst", "--vs", mini, *few]) == 0
    result = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    (turn,) = result["models"]["din"]["rounds"]
    peer, own = turn["mini"], turn["seqrec"]
    assert peer["train"]["steps"] == 2
    assert peer["train"]["targets"] == 2 * 32
    assert peer["evaluate"]["scores_s"] * peer["evaluate"]["seconds"] == pytest.approx(100)
    assert own["evaluate"]["scores_s"] * own["evaluate"]["seconds"] == pytest.approx(100)
    ratio = result["models"]["din"]["ratios"]["mini"]
    assert ratio["train"]["median"] == pytest.approx(own["train"]["targets_s"] / peer["train"]["targets_s"])
    assert ratio["evaluate"]["median"] == pytest.approx(own["evaluate"]["scores_s"] / peer["evaluate"]["scores_s"])
    assert result["models"]["bst"]["ratios"] == {}  # it has none


def test_parity_goes_on_where_it_was_stopped(
    mini: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (click_samples, click_peers):
        monkeypatch.setattr(module, "BATCH", 32)
    asked = [*SMALL, *CPU, "model.mlp=[8]", "--models", "din", "--vs", mini, "--out", "runs", "--epochs", "2"]
    assert parity_clicks.main([*asked, "--seeds", "1", "--samples", "150"]) == 0
    (row,) = json.loads((tmp_path / "runs" / "parity.json").read_text(encoding="utf-8"))
    progress = (tmp_path / "runs" / "progress.txt").read_text(encoding="utf-8")
    assert progress.count("validation auc") == 2 * 2  # sides, epochs
    with np.load(tmp_path / "runs" / "din_mini_0.npz") as file:
        theirs = dict(file)
    with np.load(tmp_path / "runs" / "din_seqrec_0.npz") as file:
        ours = dict(file)
    assert np.array_equal(ours["labels_S"], theirs["labels_S"])
    assert len(theirs["val_auc"]) == len(ours["val_auc"]) == 2
    assert row["difference"] == pytest.approx(row["auc"] - row["peer_auc"])
    users = json.loads((tmp_path / "runs" / "settings.json").read_text(encoding="utf-8"))["users"]
    assert users < 40
    assert len(ours["labels_S"]) == 2 * users
    assert "mini" in capsys.readouterr().out

    (tmp_path / "runs" / "din_seqrec_0.npz").unlink()
    assert parity_clicks.main([*asked, "--seeds", "1", "--samples", "150"]) == 0
    again = (tmp_path / "runs" / "progress.txt").read_text(encoding="utf-8")
    assert again.count("validation auc") == 4 + 2  # the one that was gone
    assert parity_clicks.main([*asked, "--samples", "60"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vs", "fuxi"], "--vs fuxi: there is none"),
        (["--models", "dim"], "did you mean 'din'?"),
        (["--models", "bst", "--vs", "deepctr"], "has none of --models bst"),
        (["--steps", "0"], "expected a whole number from 1"),
        (["dataset=sequences"], "dataset.archive"),
    ],
)
def test_refusals_are_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_clicks.main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_dataset_without_item_attributes_is_refused() -> None:
    log = packed([[1, 2, 3, 4]], 5)
    bare = replace(log, catalog=Catalog(1, 5))
    with pytest.raises(SeqrecError, match="no item attributes"):
        click_samples.one_category(bare)
