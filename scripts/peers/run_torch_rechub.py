"""torch-rechub: its BST (for model=bst) or DIN (for model=din) on click samples, by its own CTRTrainer.

Samples follow the protocol of seqrec's click rows: every position of a history gives its next item and one uniform
item the user has not met, each a sample with the whole prefix, padded to max_length. Only as many are made as the
timed steps need. Histories end at the last place of a row, as the peer's BST adds the candidate behind them.

Legend: S samples, L history places.
"""

import contextlib
import io
import warnings
from typing import Any

from peer_timing import Clock, Counted, give, read_histories, read_request

request = read_request()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch_rechub.basic.features import SequenceFeature, SparseFeature  # noqa: E402
from torch_rechub.models.ranking import BST, DIN  # noqa: E402
from torch_rechub.trainers import CTRTrainer  # noqa: E402
from torch_rechub.utils.data import DataGenerator  # noqa: E402


def samples(histories: list[list[int]], count: int, rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    """About `count` samples at random training positions, positives and negatives in turn."""
    length, items = request["max_length"], request["items"]
    usable = [history[:-2] for history in histories if len(history) > 3]
    weights_U = np.array([len(history) - 1 for history in usable], float)
    owners = rng.choice(len(usable), count // 2 + 1, p=weights_U / weights_U.sum())
    hist_SL = np.zeros((2 * len(owners), length), np.int64)
    target_S, label_S = np.zeros(len(hist_SL), np.int64), np.zeros(len(hist_SL), np.float32)
    met = {}
    for row, owner in enumerate(owners):
        history = usable[owner]
        place = int(rng.integers(1, len(history)))
        window = history[max(0, place - length) : place]
        hist_SL[2 * row : 2 * row + 2, length - len(window) :] = window
        seen = met.setdefault(owner, set(history))
        negative = int(rng.integers(1, items + 1))
        while negative in seen and len(seen) < items:
            negative = int(rng.integers(1, items + 1))
        target_S[2 * row : 2 * row + 2] = history[place], negative
        label_S[2 * row] = 1
    return {"user": np.repeat(owners, 2), "hist": hist_SL, "target": target_S}, label_S


def build(users: int) -> torch.nn.Module:
    """Both refuse to be without a feature of the user: the user's id."""
    width, rows = request["embed_dim"], request["items"] + 1
    user = [SparseFeature("user", vocab_size=users, embed_dim=width)]
    target = [SparseFeature("target", vocab_size=rows, embed_dim=width)]
    history = [
        SequenceFeature("hist", vocab_size=rows, embed_dim=width, pooling="concat", shared_with="target", padding_idx=0)
    ]
    dims = request["mlp"]
    if request["model"] == "bst":
        mlp = {"dims": dims, "activation": "leakyrelu", "dropout": request["dropout"]}
        model = BST(
            user,
            history,
            target,
            mlp,
            nhead=request["heads"],
            dropout=request["dropout"],
            num_layers=request["blocks"],
            max_seq_len=request["max_length"] + 1,
        )
        # Its layers are 2,048 wide inside and there is no setting for it: the same layers, in the shape asked for.
        layer = torch.nn.TransformerEncoderLayer(
            width,
            request["heads"],
            dim_feedforward=request["ffn_dim"],
            dropout=request["dropout"],
            activation=torch.nn.LeakyReLU(),
            batch_first=True,
        )
        model.transformer_layers = torch.nn.TransformerEncoder(layer, num_layers=request["blocks"])
        return model
    attention = {"dims": [36], "activation": "dice", "use_softmax": False}
    return DIN(user, history, target, {"dims": dims, "dropout": request["dropout"]}, attention)


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    histories, rng = read_histories(request), np.random.default_rng(request["seed"])
    clock, model = Clock(request), build(len(histories))
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    trainer = CTRTrainer(model, device=device, model_path=request["scratch"])
    x, y = samples(histories, clock.total * request["batch_size"], rng)
    none = {name: values[:0] for name, values in x.items()}
    data = DataGenerator(x, y).generate_dataloader(
        x_val=none, y_val=y[:0], x_test=none, y_test=y[:0], batch_size=request["batch_size"]
    )
    loader = data[0]
    train = evaluate = None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        if "train" in request["parts"]:
            trainer.train_one_epoch(Counted(loader, clock))
            train = clock.answer("CTRTrainer.train_one_epoch, binary cross-entropy, one target a sample")
        if "evaluate" in request["parts"]:
            scored = Clock(request)
            trainer.evaluate(trainer.model, Counted(loader, scored))
            timed = scored.answer("CTRTrainer.evaluate (AUC) of labelled samples: it does not rank the corpus")
            evaluate = {key: timed[key] for key in ("what", "steps", "seconds")}
            evaluate |= {"scores_s": timed["targets_s"], "seen_removed": None}
    request["precision"] = "fp32"  # its loss refuses autocast
    shape = f"{type(model).__name__}, mlp={request['mlp']}"
    if request["model"] == "bst":
        shape += f", encoder layers replaced by the same with ffn_dim={request['ffn_dim']} (its own: 2,048)"
    give(request, "torch-rechub", "torch-rechub", shape, train=train, evaluate=evaluate)


if __name__ == "__main__":
    main()
