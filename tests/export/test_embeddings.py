"""format=embeddings: inner products of vectors are the scores, an index finds them; without them, a refusal."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.export import embeddings
from seqrec_cli.export.embeddings import build_index
from seqrec_cli.export.options import Options
from seqrec_cli.models.contract import SequenceEncoder
from tests.export.exporting import export, learnt

LENGTH = 8


class Biased(SequenceEncoder):
    """The last item's vector, and a bias an item."""

    def __init__(self, log) -> None:
        super().__init__(log.catalog)
        torch.manual_seed(0)
        self.items = torch.nn.Embedding(log.num_items + 1, 6)
        self.bias = torch.nn.Parameter(torch.randn(log.num_items + 1))

    def encode(self, batch: Batch) -> torch.Tensor:
        return self.items(batch.items_BL)

    def item_table(self) -> torch.Tensor:
        return self.items.weight

    def item_bias(self) -> torch.Tensor:
        return self.bias


def test_a_query_times_the_vectors_are_the_scores_and_the_index_finds_the_best(saved_log, tmp_path) -> None:
    faiss, safetensors = pytest.importorskip("faiss"), pytest.importorskip("safetensors.numpy")
    model = Biased(saved_log).eval()
    found = export(
        model, saved_log, LENGTH, format="embeddings", folder=tmp_path / "out", options=Options(None, "flat")
    )
    assert found["recall10"] == 1.0
    vectors_VD = safetensors.load_file(tmp_path / "out/item_vectors.safetensors")["items"]
    assert vectors_VD.shape == (25, 7)  # six numbers and the bias
    table = pq.read_table(tmp_path / "out/item_vectors.parquet")
    assert table["id"].to_pylist() == list(range(100, 125))
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), vectors_VD)
    inputs = {
        "users_B": torch.tensor([1, 2]),
        "items_BL": torch.tensor([[3, 4], [9, 0]]),
        "lengths_B": torch.tensor([2, 1]),
    }
    queries_BD = torch.export.load(tmp_path / "out/query.pt2").module()(**inputs)
    with torch.no_grad():
        expected_BV = model.score_corpus(Batch(**inputs))[:, 1:]
    np.testing.assert_allclose(queries_BD.numpy() @ vectors_VD.T, expected_BV, atol=1e-5)
    _, rows_BK = faiss.read_index(str(tmp_path / "out/index.faiss")).search(queries_BD.numpy(), 3)
    np.testing.assert_array_equal(rows_BK, expected_BV.topk(3).indices)


@pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("hnsw", 0.95), ("ivfpq", 0.3)])
def test_each_index_finds_what_it_can(kind, least) -> None:
    pytest.importorskip("faiss")
    vectors_VD = np.random.default_rng(0).standard_normal((1000, 16)).astype(np.float32)
    index = build_index(vectors_VD, kind)
    queries_BD = vectors_VD[:50] + 0.1
    exact_BK = np.argsort(-queries_BD @ vectors_VD.T)[:, :10]
    found_BK = index.search(queries_BD, 10)[1]
    share = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(exact_BK, found_BK, strict=True)])
    assert share >= least


def test_too_few_items_for_codes_are_said() -> None:
    pytest.importorskip("faiss")
    with pytest.raises(SeqrecError, match="25 are too few; take flat or hnsw"):
        build_index(np.zeros((25, 8), np.float32), "ivfpq")


@pytest.mark.parametrize("name", ["din", "markov", "auto"])
def test_a_model_without_inner_products_is_refused(saved_log, tmp_path, name) -> None:
    pytest.importorskip("safetensors")
    with pytest.raises(SeqrecError, match="no inner products"):
        export(learnt(name, saved_log), saved_log, LENGTH, format="embeddings", folder=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_faiss_is_asked_for_by_name(monkeypatch) -> None:
    monkeypatch.setattr(embeddings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SeqrecError, match="pip install faiss-cpu; or index=null"):
        embeddings.check_index("flat")
