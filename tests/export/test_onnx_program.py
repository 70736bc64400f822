"""format=onnx: every model answers in ONNX Runtime as it does here, at any batch and length; and its picture, which is
of the same trace.

By default as many models as have every layer and kernel between them; the others are traced and drawn, and answer in
ONNX Runtime by night.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.module_graph import module_graph
from seqrec_cli.models.contract import ClosedFormModel, Generator, SequenceEncoder
from tests.covering import by_night, covering
from tests.export.exporting import assert_drawn, export, learnt, traced_once
from tests.models.toy import made_of, model_names

onnxruntime = pytest.importorskip("onnxruntime", reason="the development extras bring ONNX Runtime")
pytest.importorskip("onnxscript", reason="the development extras bring ONNX Script")
MAX_LENGTH = 12


# `auto` is an ensemble like any other once training has filled it.
EXPORTED = [*covering([name for name in model_names() if name != "auto"], made_of), by_night("auto")]


@pytest.mark.parametrize("name", [name for name in model_names() if name not in EXPORTED])
def test_the_other_models_are_traced_at_any_length_and_drawn(name: str, saved_log: PackedLog) -> None:
    assert_drawn(name, module_graph(learnt(name, saved_log), saved_log, MAX_LENGTH, depth=2))


@pytest.mark.parametrize("name", EXPORTED)
def test_every_model_is_drawn_and_answers_alike_in_onnx_runtime(
    name: str, saved_log: PackedLog, tmp_path: Path
) -> None:
    model = learnt(name, saved_log)
    with traced_once():
        assert_drawn(name, module_graph(model, saved_log, MAX_LENGTH, depth=2))
        written = export(model, saved_log, MAX_LENGTH, format="onnx", folder=tmp_path / "out")
    assert "model.onnx" in written["files"]
    assert written["top10"] >= 0.99
    signature = json.loads((tmp_path / "out" / "signature.json").read_text())
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [out.name for out in session.get_outputs()] == [signature["output"]["name"]]
    for each in signature["inputs"]:
        assert each["shape"][0] == "batch"
        assert "BL" not in each["name"] or each["shape"][1] == "length", "the model's code depends on a length"
    inputs = {
        "users_B": torch.tensor([1, 2, 0]),
        "items_BL": torch.tensor([[3, 4, 9, 5], [7, 3, 0, 0], [25, 0, 0, 0]]),
        "lengths_B": torch.tensor([4, 2, 1]),
        "times_BL": torch.tensor([[0, 10, 9000, 9010], [5, 6, 0, 0], [1, 0, 0, 0]]),
        "request_times_B": torch.tensor([9020, 7, 9000]),
    }
    candidates_BC = torch.tensor([[1, 2, 3, 9, 25, 7]]).expand(3, -1).contiguous()
    with torch.no_grad():
        if isinstance(model, SequenceEncoder | Generator | ClosedFormModel):
            expected = model.score_corpus(Batch(**inputs))
        else:
            expected = model.score(Batch(**inputs), candidates_BC)
    read = [each["name"] for each in signature["inputs"]]
    assert [each.name for each in session.get_inputs()] == read
    given = {
        name: tensor.numpy() for name, tensor in {**inputs, "candidates_BC": candidates_BC}.items() if name in read
    }
    (answered,) = session.run(None, given)
    np.testing.assert_allclose(answered, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert len(np.unique(answered[0])) > 3


class Sorting(SequenceEncoder):
    """Asks for what no ONNX operator does."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log.catalog)
        self.items = torch.nn.Embedding(log.num_items + 1, 4)

    def encode(self, batch: Batch) -> torch.Tensor:
        return self.items(batch.items_BL).cummax(1).values

    def item_table(self) -> torch.Tensor:
        return self.items.weight


def test_what_onnx_cannot_express_is_said_in_one_line(saved_log: PackedLog, tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"torch\.onnx cannot take this model: .*cummax") as caught:
        export(Sorting(saved_log), saved_log, MAX_LENGTH, format="onnx", folder=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
