"""RecTools: SASRecModel or BERT4RecModel with the softmax over all items, fitted and asked for recommendations by its
own methods.

Its SASRec layer has a feed-forward width equal to the embedding's, BERT4Rec's has four times it; there is no setting
for either.
"""

import warnings
from typing import Any

from peer_timing import Clock, evaluation_answer, give, now, read_histories, read_request

request = read_request()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytorch_lightning as lightning  # noqa: E402
import torch  # noqa: E402
from rectools import Columns  # noqa: E402
from rectools.dataset import Dataset  # noqa: E402
from rectools.metrics import MRR, NDCG, HitRate, calc_metrics  # noqa: E402
from rectools.models import BERT4RecModel, SASRecModel  # noqa: E402

MASKED = 0.2  # of BERT4Rec's events, as ours
CLOCK = Clock(request)  # of the module: RecTools copies its trainer, callbacks and all


class Watch(lightning.Callback):
    """Tells the clock of every step and ends the fit."""

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: dict, batch_idx: int) -> None:
        targets_BL = batch["y"]
        CLOCK.step(int(torch.count_nonzero(targets_BL)), len(targets_BL))
        trainer.should_stop = CLOCK.done


def trainer() -> lightning.Trainer:
    return lightning.Trainer(
        max_steps=CLOCK.total,
        max_epochs=-1,
        min_epochs=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        devices=1,
        precision={"fp32": "32-true", "bf16": "bf16-mixed"}[request["precision"]],
        default_root_dir=request["scratch"],
        callbacks=[Watch()],
    )


def table(histories: list[list[int]], first: int | None, last: int | None) -> pd.DataFrame:
    """Events [first:last] of every history, with places as times."""
    parts = [history[first:last] for history in histories]
    lengths_U = [len(part) for part in parts]
    places_N = np.concatenate([np.arange(length) for length in lengths_U])
    return pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(1, len(parts) + 1), lengths_U),
            Columns.Item: np.concatenate(parts),
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(places_N, unit="s"),
        }
    )


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    histories = read_histories(request)
    bidirectional = request["model"] == "bert4rec"
    model = (BERT4RecModel if bidirectional else SASRecModel)(
        n_blocks=request["blocks"],
        n_heads=request["heads"],
        n_factors=request["embed_dim"],
        dropout_rate=request["dropout"],
        session_max_len=request["max_length"],
        batch_size=request["batch_size"],
        recommend_batch_size=request["eval_batch_size"],
        loss="softmax",
        get_trainer_func=trainer,
        **({"mask_prob": MASKED} if bidirectional else {}),
    )
    model.fit(Dataset.construct(table(histories, None, -2)))
    train = evaluate = None
    if "train" in request["parts"]:
        train = CLOCK.answer(
            f"{type(model).__name__}.fit by Lightning, loss softmax over all items, real targets of timed steps"
        )
    if "evaluate" in request["parts"]:
        known, targets = table(histories, None, -1), table(histories, -1, None)
        dataset = Dataset.construct(known)
        users = targets[Columns.User].to_numpy()
        metrics = {f"{m.__name__}@{k}": m(k) for m in (HitRate, NDCG, MRR) for k in (5, 10, 20)}
        began = now()
        advice = model.recommend(users, dataset, k=20, filter_viewed=True)
        calc_metrics(metrics, advice, targets)
        seconds = now() - began
        what = "recommend(k=20, filter_viewed=True) and calc_metrics (HitRate, NDCG, MRR)"
        evaluate = evaluation_answer(what, len(users), request["items"], seconds, seen_removed=True)
    inner = request["embed_dim"] * (4 if bidirectional else 1)
    shape = f"{type(model).__name__}, ffn_dim={inner}, {request['heads']} heads"
    give(request, "rectools", "rectools", shape, train=train, evaluate=evaluate)


if __name__ == "__main__":
    main()
