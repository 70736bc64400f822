"""`export`: the program answers as the model does, at any batch, and a folder appears only then."""

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export import formats
from seqrec_cli.export.torch_program import TorchProgram
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from tests.export.exporting import export

MAX_LENGTH = 8


class Encoder(SequenceEncoder):
    """An average so far, with the user's vector; no times."""

    def __init__(self, log: PackedLog, fixed_length: bool = False) -> None:
        super().__init__(log.catalog)
        torch.manual_seed(0)
        self.items = torch.nn.Embedding(log.num_items + 1, 6)
        self.users = torch.nn.Embedding(log.num_users + 1, 6)
        self.drop = torch.nn.Dropout(0.5)
        self.mix = torch.nn.Linear(MAX_LENGTH, MAX_LENGTH) if fixed_length else None

    def encode(self, batch: Batch) -> torch.Tensor:
        x_BLD = self.items(batch.items_BL)
        if self.mix is not None:
            x_BLD = self.mix(x_BLD.mT).mT
        steps_L = torch.arange(1, batch.items_BL.shape[1] + 1)
        hidden_BLD = x_BLD.cumsum(1) / steps_L[:, None] + self.users(batch.users_B)[:, None]
        return self.drop(hidden_BLD)

    def item_table(self) -> torch.Tensor:
        return self.items.weight


class Ranker(Recommender):
    """A candidate against the masked mean of the history, fresher requests scoring higher."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log.catalog)
        torch.manual_seed(0)
        self.items = torch.nn.Embedding(log.num_items + 1, 6)

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        assert batch.request_times_B is not None
        mask_BL1 = batch.mask_BL[..., None].float()
        mean_BD = (self.items(batch.items_BL) * mask_BL1).sum(1) / mask_BL1.sum(1).clamp(min=1)
        late_B1 = (batch.request_times_B % 7)[:, None].float()
        return torch.einsum("bd,bcd->bc", mean_BD, self.items(items_BC)) + late_B1


def load(folder: Path) -> torch.nn.Module:
    return torch.export.load(folder / "model.pt2").module()


def test_an_encoder_scores_the_corpus_at_any_batch_and_length(saved_log, tmp_path):
    model = Encoder(saved_log)  # in training mode: the program must be of evaluation mode
    written = export(model, saved_log, MAX_LENGTH, format="torch", folder=tmp_path / "out")
    assert written["max_difference"] <= 1e-5
    assert written["files"] == ["items.parquet", "model.pt2", "preprocessing.json", "signature.json", "users.parquet"]
    assert model.training
    model.eval()
    program = load(tmp_path / "out")
    for rows, length in ((1, 1), (4, 5), (9, MAX_LENGTH)):
        users_B, lengths_B = torch.arange(rows), torch.randint(1, length + 1, (rows,))
        items_BL = torch.randint(1, 26, (rows, length)) * (torch.arange(length) < lengths_B[:, None])
        answered = program(users_B=users_B, items_BL=items_BL, lengths_B=lengths_B)
        assert answered.shape == (rows, 26)
        with torch.no_grad():
            expected = model.score_corpus(Batch(users_B, items_BL, lengths_B))
        torch.testing.assert_close(answered, expected)
    signature = json.loads((tmp_path / "out" / "signature.json").read_text())
    assert [(i["name"], i["dtype"], i["shape"]) for i in signature["inputs"]] == [
        ("users_B", "int64", ["batch"]),
        ("items_BL", "int64", ["batch", "length"]),
        ("lengths_B", "int64", ["batch"]),
    ]
    assert signature["output"]["shape"] == ["batch", 26]
    assert (signature["output"]["padding_column"], signature["max_length"]) == (0, MAX_LENGTH)
    assert signature["fingerprint"] == "abc"
    assert signature["versions"]["torch"] == torch.__version__
    ids = pq.read_table(tmp_path / "out" / "items.parquet")["id"].to_pylist()
    assert ids == list(range(100, 125))


def test_a_ranker_scores_candidates_and_names_the_times_it_reads(saved_log, tmp_path):
    model = Ranker(saved_log).eval()
    export(model, saved_log, MAX_LENGTH, format="torch", folder=tmp_path / "out")
    signature = json.loads((tmp_path / "out" / "signature.json").read_text())
    names = [given["name"] for given in signature["inputs"]]
    assert names == ["users_B", "items_BL", "lengths_B", "request_times_B", "candidates_BC"]
    inputs = {
        "users_B": torch.tensor([1]),
        "items_BL": torch.tensor([[3, 4, 0]]),
        "lengths_B": torch.tensor([2]),
        "request_times_B": torch.tensor([12]),
    }
    candidates_BC = torch.tensor([[1, 2, 3, 9, 25, 7]])
    with torch.no_grad():
        expected = model.score(Batch(**inputs), candidates_BC)
    answered = load(tmp_path / "out")(**inputs, candidates_BC=candidates_BC)
    torch.testing.assert_close(answered, expected)


def test_a_model_of_one_length_is_exported_at_that_length(saved_log, tmp_path):
    export(Encoder(saved_log, fixed_length=True), saved_log, MAX_LENGTH, format="torch", folder=tmp_path / "out")
    signature = json.loads((tmp_path / "out" / "signature.json").read_text())
    assert signature["inputs"][1]["shape"] == ["batch", MAX_LENGTH]


class Broken:
    """Writes something, loads something else."""

    packages: tuple[str, ...] = ()
    quantizes: tuple[str, ...] = ("fp16",)
    shortest = 0

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def lacking(self):
        return None

    def write(self, scoring, log, folder, *, options):
        (folder / "program").write_text("x")
        self.scoring = scoring
        return {"batch": None, "length": None}

    def load(self, folder):
        return lambda inputs: self.scoring(**inputs) + self.offset


@pytest.mark.parametrize("offset", [1e-3, float("nan")])
def test_scores_that_do_not_agree_leave_nothing_behind(saved_log, tmp_path, monkeypatch, offset):
    monkeypatch.setitem(formats.FORMATS, "broken", Broken(offset))
    with pytest.raises(SeqrecError, match="differs from the model"):
        export(Encoder(saved_log), saved_log, MAX_LENGTH, format="broken", folder=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_but_nothing_else(saved_log, tmp_path, monkeypatch):
    monkeypatch.setitem(formats.FORMATS, "exact", Broken(0.0))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(SeqrecError, match="no earlier export"):
        export(Encoder(saved_log), saved_log, MAX_LENGTH, format="exact", folder=mine)
    assert (mine / "thesis.txt").read_text() == "years of work"
    out = tmp_path / "out"
    export(Encoder(saved_log), saved_log, MAX_LENGTH, format="exact", folder=out)
    (out / "stale").write_text("")
    written = export(Encoder(saved_log), saved_log, MAX_LENGTH, format="exact", folder=out)
    assert "stale" not in written["files"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out"]


def test_warnings_of_the_exporter_are_not_for_people_its_errors_are(saved_log, tmp_path, monkeypatch, recwarn, caplog):
    class Talkative(TorchProgram):
        def write(self, scoring, log, folder, *, options):
            warnings.warn("isinstance(treespec, LeafSpec) is deprecated", FutureWarning, stacklevel=2)
            logging.getLogger("torch.onnx").warning("torchvision is not installed")
            logging.getLogger("torch.export").error("an error")
            return super().write(scoring, log, folder, options=options)

    monkeypatch.setitem(formats.FORMATS, "torch", Talkative())
    level = logging.getLogger("torch.onnx").level
    export(Encoder(saved_log), saved_log, MAX_LENGTH, format="torch", folder=tmp_path / "out")
    assert not [each for each in recwarn if "treespec" in str(each.message)]
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == ["an error"]
    assert logging.getLogger("torch.onnx").level == level


def test_an_unknown_format_names_the_nearest(saved_log, tmp_path):
    with pytest.raises(SeqrecError, match="did you mean 'torch'"):
        export(Encoder(saved_log), saved_log, MAX_LENGTH, format="torhc", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_format_says_what_it_needs_before_anything_is_read(saved_log, tmp_path, monkeypatch):
    monkeypatch.setattr(formats.FORMATS["onnx"], "packages", ("json", "onnxmissing", "ortmissing"), raising=False)
    with pytest.raises(SeqrecError, match=r"format=onnx needs .*: pip install onnxmissing ortmissing$"):
        export(Encoder(saved_log), saved_log, MAX_LENGTH, format="onnx", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_log_without_vocabularies_is_refused(saved_log, tmp_path):
    bare = PackedLog(saved_log.offsets_U1, np.asarray(saved_log.items_N), None, None, saved_log.catalog)
    with pytest.raises(SeqrecError, match="vocabularies"):
        export(Encoder(saved_log), bare, MAX_LENGTH, format="torch", folder=tmp_path / "out")
