"""format=embeddings: the items' vectors, an index of them, and a program that makes a history's vector.

For models whose scores are inner products. Where a model adds a bias an item, the bias is one more number of the
vector, and the history's vector ends with 1, so that one inner product is the score.

Legend: B rows, D width, V items (V + 1 rows, row 0 is padding), K neighbours.
"""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import titles, vocabulary
from seqrec_cli.export.half import DTYPES
from seqrec_cli.export.options import Index, Options
from seqrec_cli.export.scoring import Scoring, Sizes, with_an_event
from seqrec_cli.export.tracing import at_any_length, trace
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.training.checkpoint import remembering

VECTORS, TABLE, QUERY, INDEX = "item_vectors.safetensors", "item_vectors.parquet", "query.pt2", "index.faiss"
TOP, ASKED = 10, 256  # recall is of the top 10 of so many histories
LINKS = 32  # of an item in HNSW's graph
CONSTRUCTION, SEARCHED = 200, 128  # HNSW's beams
POINTS = 39  # a cluster of k-means, below which FAISS warns


class Query(Scoring):
    """The history's vector [B, D], or [B, D + 1] where items have a bias."""

    def __init__(self, model: Recommender, log: PackedLog, max_length: int) -> None:
        refuse_no_product(model)
        super().__init__(model, log, max_length)
        self.output = "vectors_BD"

    def _answer(self, batch: Batch, candidates_BC: Tensor | None) -> Tensor:
        assert isinstance(self.model, SequenceEncoder)
        last_BD = self.model.last(batch).float()
        if self.model.item_bias() is None:
            return last_BD
        return torch.cat([last_BD, torch.ones_like(last_BD[:, :1])], dim=1)


def refuse_no_product(model: Recommender) -> None:
    """Raises SeqrecError for a model whose scores are no inner products."""
    if not isinstance(model, SequenceEncoder) or not model.scores_by_product:
        raise SeqrecError(
            "format=embeddings: this model's scores are no inner products of a history and an item, so it has no item "
            "vectors; take format=torch or onnx, or an encoder (sasrec)"
        )


def item_vectors(model: Recommender) -> Tensor:
    """The vectors [V + 1, D] whose inner products with a `Query`'s answer are scores."""
    assert isinstance(model, SequenceEncoder)
    with torch.inference_mode():
        table_VD, bias_V = model.item_table().float(), model.item_bias()
        return (table_VD if bias_V is None else torch.cat([table_VD, bias_V[:, None].float()], dim=1)).clone()


class Embeddings:
    """Writes and loads the vectors and the query program; the index is measured by `index_facts`."""

    packages: tuple[str, ...] = ("safetensors",)
    quantizes: tuple[str, ...] = ("fp16", "bf16")
    shortest = 0
    loading = (
        f'query = torch.export.load("{QUERY}").module()',
        f'scores, rows = faiss.read_index("{INDEX}").search(query(**inputs).numpy(), 10)  # row 0 is item index 1',
    )

    def lacking(self) -> str | None:
        return None

    def write(self, scoring: Scoring, log: PackedLog, folder: Path, *, options: Options) -> dict[str, int | None]:
        from safetensors.torch import save_file

        check_index(options.index)
        query = Query(scoring.model, log, scoring.max_length)
        program, axes = at_any_length(query, "torch.export", lambda dynamic: trace(query, log, dynamic))
        with remembering(folder / QUERY) as file:
            torch.export.save(program, file)
        vectors_VD = item_vectors(scoring.model).to(DTYPES.get(options.quantize or "", torch.float32))
        save_file({"items": vectors_VD[1:].contiguous()}, folder / VECTORS)
        rounded_VD = vectors_VD[1:].float().contiguous().numpy()
        _write_table(rounded_VD, log, folder / TABLE)
        if options.index is not None:
            import faiss

            faiss.write_index(build_index(rounded_VD, options.index), str(folder / INDEX))
        return axes

    def load(self, folder: Path) -> Callable[[dict[str, Tensor]], Tensor]:
        """Exact scores: the query program's answers times the stored vectors."""
        from safetensors.torch import load_file

        module = torch.export.load(folder / QUERY).module()
        items_VD = load_file(folder / VECTORS)["items"].float()

        def run(inputs: dict[str, Tensor]) -> Tensor:
            scores_BV = module(**inputs) @ items_VD.T
            return torch.nn.functional.pad(scores_BV, (1, 0))

        return run


def check_index(index: Index | None) -> None:
    """Raises SeqrecError where FAISS is asked for and is not here."""
    if index is not None and importlib.util.find_spec("faiss") is None:
        raise SeqrecError(f"index={index} needs what is not installed here: pip install faiss-cpu; or index=null")


def _write_table(vectors_VD: np.ndarray, log: PackedLog, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from seqrec_cli.data.arrow import from_numpy

    assert log.folder is not None
    columns: dict[str, Any] = {"id": from_numpy(vocabulary(log.folder, "items"))}
    if (names := titles(log.folder)) is not None:
        columns["title"] = pa.array(names)
    numbers = pa.array(vectors_VD.reshape(-1))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(numbers, vectors_VD.shape[1])
    pq.write_table(pa.table(columns), path)


def build_index(vectors_VD: np.ndarray, kind: Index) -> Any:
    """A FAISS index of inner products; row v is the item of index v + 1."""
    import faiss

    V, D = vectors_VD.shape
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        index: Any = faiss.IndexFlatIP(D)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(D, LINKS, product)
        index.hnsw.efConstruction, index.hnsw.efSearch = CONSTRUCTION, SEARCHED
    else:
        bits = min(8, (V // POINTS).bit_length() - 1)
        if bits < 4:
            raise SeqrecError(f"index=ivfpq learns its codes from the items, and {V:,} are too few; take flat or hnsw")
        lists = max(1, min(int(4 * V**0.5), V // POINTS))
        parts = next(count for count in range(max(1, D // 2), 0, -1) if D % count == 0)
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(D), D, lists, parts, bits, product)
        index.train(vectors_VD)
        index.nprobe = max(1, lists // 8)
    index.add(vectors_VD)
    return index


def index_facts(folder: Path, scoring: Scoring, log: PackedLog) -> dict[str, Any]:
    """What the index in the folder finds of the exact top 10, and how long a search of one takes."""
    import faiss
    from safetensors.torch import load_file

    index, items_VD = faiss.read_index(str(folder / INDEX)), load_file(folder / VECTORS)["items"].float()
    query = Query(scoring.model, log, scoring.max_length)
    batch = Batch(**query.sample(log, Sizes(ASKED, None, 1)))
    with torch.inference_mode():
        queries_BD = query._answer(with_an_event(batch), None)
    count = min(TOP, len(items_VD))
    exact_BK = (queries_BD @ items_VD.T).topk(count, dim=1).indices.numpy()
    queries = queries_BD.numpy()
    found_BK = index.search(queries, count)[1]
    common = [len(np.intersect1d(*pair)) for pair in zip(exact_BK, found_BK, strict=True)]
    began = time.perf_counter()
    for row in queries[:32]:
        index.search(row[None], count)
    each = 1000 * (time.perf_counter() - began) / min(32, len(queries))
    return {"recall10": float(np.sum(common) / exact_BK.size), "search_ms": each}
