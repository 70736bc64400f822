"""DeepCTR-Torch: its DIN and DIEN (AUGRU, with or without its auxiliary loss), fitted and asked by their own methods.

Legend: S samples, L history places.
"""

import os

from peer_timing import read_request

request = read_request()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from click_task import LR, Table, run  # noqa: E402
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat  # noqa: E402
from deepctr_torch.models import DIEN, DIN  # noqa: E402

FIELDS = ["item", "category"]


class DeepCtr:
    """One of its models."""

    def __init__(self, items: int, categories: int) -> None:
        width, length, self.auxiliary = request["width"], request["max_length"], request["model"] == "dien-aux"
        sizes = dict(zip(FIELDS, (items, categories), strict=True))
        columns = [SparseFeat(name, rows, width) for name, rows in sizes.items()]
        for kind in ["hist", "neg_hist"] if self.auxiliary else ["hist"]:
            columns += [
                VarLenSparseFeat(
                    SparseFeat(f"{kind}_{name}", rows, width, embedding_name=name), length, length_name="seq_length"
                )
                for name, rows in sizes.items()
            ]
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        shared = {"dnn_hidden_units": tuple(request["mlp"]), "seed": request["seed"], "device": device}
        if request["model"] == "din":
            self.model = DIN(columns, FIELDS, att_hidden_size=tuple(request["unit"]), att_activation="Dice", **shared)
        else:
            self.model = DIEN(columns, FIELDS, gru_type="AUGRU", use_negsampling=self.auxiliary, **shared)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)
        self.model.compile(self.optimizer, "binary_crossentropy")
        self.shape = f"{type(self.model).__name__}, mlp={request['mlp']}"

    def _inputs(self, table: Table) -> dict[str, np.ndarray]:
        x = {"item": table.target_S, "category": table.category_V[table.target_S], "seq_length": table.lengths_S}
        x |= {"hist_item": table.history_SL, "hist_category": table.category_V[table.history_SL]}
        if self.auxiliary:
            negatives_SL = table.negatives(np.random.default_rng(request["seed"]))
            x |= {"neg_hist_item": negatives_SL, "neg_hist_category": table.category_V[negatives_SL]}
        return x

    def train(self, table: Table) -> None:
        self.model.fit(self._inputs(table), table.label_S, batch_size=request["batch_size"], epochs=1, verbose=0)

    def predict(self, table: Table) -> np.ndarray:
        found: np.ndarray = self.model.predict(self._inputs(table), request["batch_size"])
        return found[:, 0]


if __name__ == "__main__":
    run(request, "deepctr", "deepctr-torch", DeepCtr)
    os._exit(0)  # its thread that asks the network for its newest version may take minutes
