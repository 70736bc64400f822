"""RePlay: SasRec with the full cross-entropy, trained and validated by Lightning on RePlay's own Parquet batches.

`replay-buckets` wraps the encoder in RePlay's LengthBucketedQueryEncoder, which its authors offer but do not switch on.
"""

import warnings
from pathlib import Path
from typing import Any

from peer_timing import Clock, evaluation_answer, give, now, read_histories, read_request

request = read_request()

import lightning  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from replay.data import FeatureHint, FeatureSource, FeatureType  # noqa: E402
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema  # noqa: E402
from replay.nn.lightning import LightningModule  # noqa: E402
from replay.nn.lightning.callback import ComputeMetricsCallback  # noqa: E402
from replay.nn.lightning.postprocessor import SeenItemsFilter  # noqa: E402
from replay.nn.sequential import SasRec  # noqa: E402
from replay.nn.transform.template import make_default_sasrec_transforms  # noqa: E402

BUCKET_ROWS = 16  # of replay-buckets


class Watch(lightning.Callback):
    """Tells the clock of every step and ends the fit."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: dict, batch_idx: int) -> None:
        real = batch["target_padding_mask"]
        self.clock.step(int(real.sum()), len(real))
        trainer.should_stop = self.clock.done


def schema_of(items: int, width: int) -> TensorSchema:
    source = TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")
    feature = TensorFeatureInfo(
        "item_id",
        is_seq=True,
        feature_type=FeatureType.CATEGORICAL,
        embedding_dim=width,
        padding_value=items,
        cardinality=items,
        feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[source],
    )
    return TensorSchema([feature])


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    histories = [[item - 1 for item in history] for history in read_histories(request)]  # RePlay counts from 0
    items, length, scratch = request["items"], request["max_length"], Path(request["scratch"])
    frames = {
        "train": pd.DataFrame({"item_id": [h[:-2] for h in histories if len(h) > 3]}),
        "validate": pd.DataFrame(
            {
                "item_id": [h[:-1] for h in histories],
                "ground_truth": [h[-1:] for h in histories],
                "seen_ids": [h[:-1] for h in histories],
            }
        ),
    }
    for name, frame in frames.items():
        frame.to_parquet(scratch / f"{name}.parquet")
    sequence = {"item_id": {"shape": length + 1, "padding": items}}
    known = {
        "item_id": {"shape": length, "padding": items},
        "ground_truth": {"shape": 1, "padding": -1},
        "seen_ids": {"shape": max(map(len, histories)), "padding": -2},
    }
    schema = schema_of(items, request["embed_dim"])
    transforms = make_default_sasrec_transforms(schema)
    data = ParquetModule(
        batch_size={"train": request["batch_size"], "validate": request["eval_batch_size"]},
        metadata={"train": sequence, "validate": known},
        transforms={name: transforms[name] for name in ("train", "validate")},
        train_path=str(scratch / "train.parquet"),
        validate_path=str(scratch / "validate.parquet"),
    )
    model = SasRec.from_params(
        schema,
        embedding_dim=request["embed_dim"],
        num_heads=request["heads"],
        num_blocks=request["blocks"],
        max_sequence_length=length,
        dropout=request["dropout"],
        hidden_dim=request["ffn_dim"],
    )
    if request["peer"] == "replay-buckets":
        from replay.nn.sequential.length_bucket import LengthBucketedQueryEncoder

        model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, BUCKET_ROWS)
    module = LightningModule(model)
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "auto",
        "devices": 1,
        "precision": {"fp32": "32-true", "bf16": "bf16-mixed"}[request["precision"]],
        "default_root_dir": str(scratch),
    }
    train = evaluate = None
    if "train" in request["parts"]:
        clock = Clock(request)
        trainer = lightning.Trainer(
            max_steps=clock.total, max_epochs=-1, min_epochs=0, limit_val_batches=0, callbacks=[Watch(clock)], **quiet
        )
        trainer.fit(module, data)
        train = clock.answer("Lightning fit of replay.nn SasRec, loss CE over all items, real targets of timed steps")
    if "evaluate" in request["parts"]:
        callback = ComputeMetricsCallback(
            metrics=["ndcg", "recall"],
            ks=[5, 10, 20],
            postprocessors=[SeenItemsFilter(items)],
            item_count=items,
            verbose=False,
        )
        began = now()
        lightning.Trainer(callbacks=[callback], **quiet).validate(module, data, verbose=False)
        seconds = now() - began
        what = "Lightning validate with ComputeMetricsCallback and SeenItemsFilter, top 20 of all items"
        evaluate = evaluation_answer(what, len(histories), items, seconds, seen_removed=True)
    shape = f"replay.nn.sequential.SasRec.from_params, hidden_dim={request['ffn_dim']}, {request['heads']} heads"
    give(request, request["peer"], "replay-rec", shape, train=train, evaluate=evaluate)


if __name__ == "__main__":
    main()
