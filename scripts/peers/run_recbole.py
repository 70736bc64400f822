"""RecBole: SASRec with cross-entropy over all items, by its own Trainer and data loaders.

RecBole cuts every history into prefixes: a row teaches one target, so a batch of B rows has B targets.
"""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from peer_timing import Clock, Counted, evaluation_answer, give, now, read_histories, read_request

request = read_request()

import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.sequential_recommender import SASRec  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402


def settings(scratch: Path) -> dict[str, Any]:
    return {
        "data_path": str(scratch),
        "checkpoint_dir": str(scratch / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": request["max_length"],
        "n_layers": request["blocks"],
        "n_heads": request["heads"],
        "hidden_size": request["embed_dim"],
        "inner_size": request["ffn_dim"],
        "hidden_dropout_prob": request["dropout"],
        "attn_dropout_prob": 0.0,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "train_batch_size": request["batch_size"],
        "eval_batch_size": request["eval_batch_size"],
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "metrics": ["Hit", "NDCG", "MRR"],
        "topk": [5, 10, 20],
        "valid_metric": "NDCG@10",
        "epochs": 1,
        "enable_amp": request["precision"] == "bf16",
        "seed": request["seed"],
        "show_progress": False,
        "state": "ERROR",
    }


def write_events(scratch: Path) -> int:
    """RecBole's atomic file; the number of users."""
    histories = read_histories(request)
    folder = scratch / "bench"
    folder.mkdir()
    with (folder / "bench.inter").open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, history in enumerate(histories, 1):
            file.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(history))
    return len(histories)


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    scratch = Path(request["scratch"])
    users = write_events(scratch)
    os.chdir(scratch)  # RecBole writes log_tensorboard/ where it stands
    began = now()
    config = Config(model="SASRec", dataset="bench", config_dict=settings(scratch))
    init_seed(config["seed"], config["reproducibility"])
    torch.set_num_threads(request["threads"])
    dataset = create_dataset(config)
    train_data, _, test_data = data_preparation(config, dataset)
    preparation = now() - began
    model = SASRec(config, train_data.dataset).to(config["device"])
    trainer = Trainer(config, model)
    train = evaluate = None
    if "train" in request["parts"]:
        clock = Clock(request)
        trainer._train_epoch(Counted(train_data, clock), 0)
        train = clock.answer("Trainer._train_epoch of SASRec, loss CE over all items, one target a prefix")
    if "evaluate" in request["parts"]:
        trainer.eval_collector.data_collect(train_data)
        began = now()
        trainer.evaluate(test_data, load_best_model=False)
        seconds = now() - began
        what = "Trainer.evaluate, full sort, Hit, NDCG, MRR; RecBole does not remove seen items from sequential models"
        evaluate = evaluation_answer(what, users, request["items"], seconds, seen_removed=False)
    prepare = {"what": "Config, create_dataset and data_preparation from a .inter file", "seconds": preparation}
    shape = f"SASRec, inner_size={request['ffn_dim']}, {request['heads']} heads"
    give(request, "recbole", "recbole", shape, train=train, evaluate=evaluate, preprocess=prepare)


if __name__ == "__main__":
    main()
