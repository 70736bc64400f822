"""FuxiCTR: DIN and DIEN of its package, by `train_epoch` and `predict` of its BaseModel, on exported click samples.

Its package leaves BST out, which its repository has: that model is written anew here on its BaseModel, embeddings and
MLP (places joined to the events, one block of post-norm attention over history and candidate, the mean of all places).
Batches are cut by whole-array index, which is faster than its loader for histories, which looks items up in pandas.

Legend: B rows, S samples, L history places, T = L + 1 with the candidate, D width of the block.
"""

import logging
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from peer_timing import read_request

request = read_request()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from click_task import LR, Table, run  # noqa: E402
from fuxictr.features import FeatureMap  # noqa: E402
from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block  # noqa: E402
from fuxictr.pytorch.models import BaseModel  # noqa: E402
from model_zoo.LongCTR.DIEN.DIEN import DIEN  # noqa: E402
from model_zoo.LongCTR.DIN.DIN import DIN  # noqa: E402
from torch import Tensor, nn  # noqa: E402

Inputs = tuple[dict[str, Tensor], dict[str, Tensor], Tensor]  # label; item and category [B, T]; mask [B, L]


class Bst(BaseModel):
    """FuxiCTR's BST, whose every place reads all places that are there, and itself."""

    def __init__(self, feature_map: FeatureMap, embedding_dim: int, heads: int, mlp: list[int], **more: Any) -> None:
        super().__init__(feature_map, model_id="BST", **more)
        self.heads, self.joined = heads, 2 * embedding_dim
        D = 3 * embedding_dim
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.places = nn.Parameter(torch.randn(request["max_length"] + 1, embedding_dim))
        self.attention = nn.MultiheadAttention(D, heads, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(D, D), nn.LeakyReLU(), nn.Linear(D, D))
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(D), nn.LayerNorm(D)
        self.dnn = MLP_Block(D + self.joined, mlp, output_dim=1, output_activation=self.output_activation)
        self.compile(more["optimizer"], more["loss"], LR)
        self.reset_parameters()
        self.model_to_device()

    def get_labels(self, inputs: Inputs) -> Tensor:
        return inputs[0]["label"].to(self.device).view(-1, 1)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        items, mask_BL = {name: ids.to(self.device) for name, ids in inputs[1].items()}, inputs[2].to(self.device)
        joined_BTF = self.embedding_layer(items, flatten_emb=True)
        B, T = joined_BTF.shape[:2]
        there_BT = torch.cat([mask_BL > 0, mask_BL.new_ones(B, 1) > 0], dim=1)
        x_BTD = torch.cat([joined_BTF, self.places.expand(B, -1, -1)], dim=-1)
        hidden_TT = ~torch.eye(T, dtype=torch.bool, device=self.device)
        hidden = (~there_BT[:, None] & hidden_TT).repeat_interleave(self.heads, dim=0)
        x_BTD = self.norm_attention(x_BTD + self.attention(x_BTD, x_BTD, x_BTD, attn_mask=hidden)[0])
        x_BTD = self.norm_feed_forward(x_BTD + self.feed_forward(x_BTD))
        mean_BD = (x_BTD * there_BT[..., None]).sum(1) / there_BT.sum(1, keepdim=True)
        return {"y_pred": self.dnn(torch.cat([joined_BTF[:, -1], mean_BD], dim=-1))}


class Loader:
    """Batches of a table; in a random order for training."""

    def __init__(self, table: Table, shuffled: bool) -> None:
        items_ST = torch.from_numpy(np.concatenate([table.history_SL, table.target_S[:, None]], axis=1))
        self.items_ST, self.labels_S = items_ST, torch.from_numpy(table.label_S)
        self.category_V, self.shuffled = torch.from_numpy(table.category_V), shuffled

    def __iter__(self) -> Iterator[Inputs]:
        count = len(self.labels_S)
        order_S = torch.randperm(count) if self.shuffled else torch.arange(count)
        for rows_B in order_S.split(request["batch_size"]):
            items_BT = self.items_ST[rows_B]
            items = {"item": items_BT, "category": self.category_V[items_BT]}
            yield {"label": self.labels_S[rows_B]}, items, (items_BT[:, :-1] > 0).float()


class Fuxi:
    """One of its models."""

    def __init__(self, items: int, categories: int) -> None:
        logging.disable(logging.INFO)
        width, mlp = request["width"], request["mlp"]
        features = FeatureMap("clicks", request["scratch"])
        features.labels, features.default_emb_dim = ["label"], width
        features.features = OrderedDict(
            (name, {"source": "item", "type": "categorical", "vocab_size": rows, "padding_idx": 0})
            for name, rows in (("item", items), ("category", categories))
        )
        shared = {
            "embedding_dim": width,
            "gpu": 0 if torch.cuda.is_available() else -1,
            "optimizer": "adam",
            "loss": "binary_crossentropy",
            "metrics": ["AUC"],
            "verbose": 0,
            "model_root": request["scratch"],
        }
        if request["model"] == "din":
            self.model: BaseModel = DIN(
                features, dnn_hidden_units=mlp, attention_hidden_units=request["unit"], learning_rate=LR, **shared
            )
        elif request["model"] == "dien":
            self.model = DIEN(features, dnn_hidden_units=mlp, learning_rate=LR, **shared)
        else:
            self.model = Bst(features, heads=request["heads"], mlp=mlp, **shared)
        self.model._max_gradient_norm, self.model._eval_steps = 10.0, sys.maxsize  # as `fit` would set them
        self.model._total_steps, self.model._stop_training = 0, False
        self.optimizer = self.model.optimizer
        self.shape = f"{type(self.model).__name__}, mlp={mlp}"

    def _table(self, table: Table) -> Table:
        return table.padded_left() if request["model"] == "bst" else table

    def train(self, table: Table) -> None:
        self.model.train_epoch(Loader(self._table(table), shuffled=True))

    def predict(self, table: Table) -> np.ndarray:
        found: np.ndarray = self.model.predict(Loader(self._table(table), shuffled=False))
        return found


if __name__ == "__main__":
    run(request, "fuxictr", "fuxictr", Fuxi)
