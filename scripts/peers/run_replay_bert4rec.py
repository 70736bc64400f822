"""RePlay: Bert4Rec of `replay.models.nn`, trained by Lightning on RePlay's own dataset, the head tied to the items.

Of its losses over all items the quicker one is taken, CE_restricted, which makes logits at hidden places alone. Its
blocks have a feed-forward width of four times the embedding's. It trains on a user's last events; evaluation is left.
"""

import warnings
from typing import Any

from peer_timing import Clock, give, read_histories, read_request

request = read_request()

import lightning  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from replay.data import FeatureHint, FeatureSource, FeatureType  # noqa: E402
from replay.data.nn import PandasSequentialDataset, TensorFeatureInfo, TensorFeatureSource, TensorSchema  # noqa: E402
from replay.models.nn.sequential.bert4rec import Bert4Rec, Bert4RecTrainingDataset  # noqa: E402

MASKED = 0.2  # of the events, as ours


class Watch(lightning.Callback):
    """Tells the clock of every step and ends the fit."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: dict, batch_idx: int) -> None:
        hidden_BL = batch["pad_mask"] & ~batch["token_mask"]
        self.clock.step(int(hidden_BL.sum()), len(hidden_BL))
        trainer.should_stop = self.clock.done


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    histories = [[item - 1 for item in history[:-2]] for history in read_histories(request)]  # RePlay counts from 0
    items, length = request["items"], request["max_length"]
    feature = TensorFeatureInfo(
        "item_id",
        is_seq=True,
        feature_type=FeatureType.CATEGORICAL,
        embedding_dim=request["embed_dim"],
        padding_value=0,  # its table has no row for padding, which a mask keeps apart from item 0
        cardinality=items,
        feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
    )
    schema = TensorSchema([feature])
    frame = pd.DataFrame(
        {"query_id": np.arange(len(histories)), "item_id": [np.array(history) for history in histories]}
    )
    dataset = Bert4RecTrainingDataset(
        PandasSequentialDataset(schema, "query_id", "item_id", frame), max_sequence_length=length, mask_prob=MASKED
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=request["batch_size"], shuffle=True)
    model = Bert4Rec(
        schema,
        block_count=request["blocks"],
        head_count=request["heads"],
        hidden_size=request["embed_dim"],
        max_seq_len=length,
        dropout_rate=request["dropout"],
        enable_embedding_tying=True,
        loss_type="CE_restricted",
    )
    clock = Clock(request)
    trainer = lightning.Trainer(
        max_steps=clock.total,
        max_epochs=-1,
        min_epochs=0,
        callbacks=[Watch(clock)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="auto",
        devices=1,
        precision={"fp32": "32-true", "bf16": "bf16-mixed"}[request["precision"]],
        default_root_dir=request["scratch"],
    )
    trainer.fit(model, loader)
    train = clock.answer("Lightning fit of Bert4Rec, loss CE_restricted over all items, real targets of timed steps")
    shape = f"replay.models.nn Bert4Rec, ffn_dim={4 * request['embed_dim']}, {request['heads']} heads"
    give(request, request["peer"], "replay-rec", shape, train=train)


if __name__ == "__main__":
    main()
