"""torch-rechub: its DIN, DIEN (with its auxiliary loss) and BST, by its own CTRTrainer, on exported click samples.

Its models refuse to be without a feature of the user: they get one that is the same for all. Histories end at the last
place for BST, which adds the candidate behind them. BST's layers are 2,048 wide inside, with no setting for it: they
are replaced by the same ones in the width asked for. DIEN's softmax attention and loss weight (.2) are its own.

Legend: S samples, L history places.
"""

from typing import Any

from peer_timing import read_request

request = read_request()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from click_task import LR, Table, run  # noqa: E402
from torch_rechub.basic.features import SequenceFeature, SparseFeature  # noqa: E402
from torch_rechub.models.ranking import BST, DIEN, DIN  # noqa: E402
from torch_rechub.trainers import CTRTrainer  # noqa: E402
from torch_rechub.utils.data import DataGenerator  # noqa: E402


class Rechub:
    """One of its models and its trainer."""

    def __init__(self, items: int, categories: int) -> None:
        width, dims = request["width"], request["mlp"]
        sizes = {"item": items, "category": categories}
        user = [SparseFeature("one", vocab_size=1, embed_dim=width)]
        target = [SparseFeature(name, vocab_size=rows, embed_dim=width, padding_idx=0) for name, rows in sizes.items()]

        def sequences(kind: str) -> list[Any]:
            return [
                SequenceFeature(f"{kind}_{name}", rows, width, pooling="concat", shared_with=name, padding_idx=0)
                for name, rows in sizes.items()
            ]

        history = sequences("hist")
        self.name = request["model"]
        if self.name == "din":
            unit = {"dims": request["unit"], "activation": "dice", "use_softmax": False}
            self.model: torch.nn.Module = DIN(user, history, target, {"dims": dims}, unit)
        elif self.name == "dien-aux":
            self.model = DIEN(user, history, sequences("neg"), target, {"dims": dims})
        else:
            drop = request["dropout"]
            mlp = {"dims": dims, "activation": "leakyrelu", "dropout": drop}
            length, heads = request["max_length"] + 1, request["heads"]
            self.model = BST(user, history, target, mlp, nhead=heads, dropout=drop, max_seq_len=length)
            layer = torch.nn.TransformerEncoderLayer(
                2 * width, heads, request["ffn_dim"], drop, torch.nn.LeakyReLU(), batch_first=True
            )
            self.model.transformer_layers = torch.nn.TransformerEncoder(layer, num_layers=1)
        parameters = {"lr": LR, "weight_decay": 1e-5}  # its defaults
        self.trainer = CTRTrainer(
            self.model,
            optimizer_params=parameters,
            loss_mode=self.name != "dien-aux",
            device="cuda:0" if torch.cuda.is_available() else "cpu",
            model_path=request["scratch"],
        )
        self.optimizer = self.trainer.optimizer
        self.shape = f"{type(self.model).__name__}, mlp={dims}"

    def _loader(self, table: Table, shuffled: bool) -> Any:
        if self.name == "bst":
            table = table.padded_left()
        x = {"one": np.zeros(len(table), np.int64), "item": table.target_S}
        x |= {"category": table.category_V[table.target_S], "hist_item": table.history_SL}
        x |= {"hist_category": table.category_V[table.history_SL]}
        if self.name == "dien-aux":
            negatives_SL = table.negatives(np.random.default_rng(request["seed"]))
            x |= {"neg_item": negatives_SL, "neg_category": table.category_V[negatives_SL]}
        loaders = DataGenerator(x, table.label_S).generate_dataloader(
            x_val=x, y_val=table.label_S, x_test=x, y_test=table.label_S, batch_size=request["batch_size"]
        )
        return loaders[0] if shuffled else loaders[2]

    def train(self, table: Table) -> None:
        self.trainer.train_one_epoch(self._loader(table, shuffled=True))

    def predict(self, table: Table) -> np.ndarray:
        return np.array(self.trainer.predict(self.model, self._loader(table, shuffled=False)))


if __name__ == "__main__":
    run(request, "torch-rechub", "torch-rechub", Rechub)
