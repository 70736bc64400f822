"""The training step of the PyTorch SASRec most often copied: SASRec.pytorch by pmixer on GitHub, in plain PyTorch.

Written anew from what its repository does by default, none of its code. Every history is cut to its latest
`max_length` events and padded to that length on the left; each event is scored against the one that follows and one
uniform item the user has not met; binary cross-entropy of both; post-norm blocks of `nn.MultiheadAttention` (asked for
its weights, as there) and two convolutions of width 1, as wide as the embedding; Adam (.9, .98) at 1e-3; Xavier.
Its three sampling processes draw a negative at a time; here a row's are drawn at once, between two steps.

Legend: B rows, L places, D width, N events of one row, P places with a target.
"""

import contextlib
import math
from collections.abc import Iterator

from peer_timing import Clock, give, read_histories, read_request

request = read_request()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

LR, BETAS, EPS = 1e-3, (0.9, 0.98), 1e-8


def unmet(count: int, history: list[int], items: int, rng: np.random.Generator) -> np.ndarray:
    """`count` uniform items of 1..items outside the history; any item where it holds them all."""
    drawn_N = rng.integers(1, items + 1, count)
    met = np.unique(history)
    while len(met) < items and (again := np.isin(drawn_N, met)).any():
        drawn_N[again] = rng.integers(1, items + 1, int(again.sum()))
    return drawn_N


def batches(
    histories: list[list[int]], batch_size: int, length: int, items: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Full batches without end: inputs, targets and negatives as [3, B, L]."""
    order, place = rng.permutation(len(histories)), 0
    while True:
        batch_3BL = np.zeros((3, batch_size, length), np.int64)
        for row in range(batch_size):
            if place == len(order):
                order, place = rng.permutation(len(histories)), 0
            history = histories[order[place]]
            place += 1
            window = np.array(history[-length - 1 :])
            first = length - len(window) + 1
            batch_3BL[0, row, first:], batch_3BL[1, row, first:] = window[:-1], window[1:]
            batch_3BL[2, row, first:] = unmet(len(window) - 1, history, items, rng)
        yield batch_3BL


class Block(nn.Module):
    """Attention and the point-wise layer, each added to its input and then normed."""

    def __init__(self, dim: int, heads: int, drop: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, drop)
        self.norm_attention, self.norm_point_wise = nn.LayerNorm(dim, eps=EPS), nn.LayerNorm(dim, eps=EPS)
        self.point_wise = nn.Sequential(
            nn.Conv1d(dim, dim, 1), nn.Dropout(drop), nn.ReLU(), nn.Conv1d(dim, dim, 1), nn.Dropout(drop)
        )

    def forward(self, x_BLD: Tensor, future_LL: Tensor) -> Tensor:
        x_LBD = x_BLD.transpose(0, 1)
        attended_LBD, _ = self.attention(x_LBD, x_LBD, x_LBD, attn_mask=future_LL)
        x_BLD = self.norm_attention(x_LBD + attended_LBD).transpose(0, 1)
        wide: Tensor = self.norm_point_wise(x_BLD + self.point_wise(x_BLD.transpose(1, 2)).transpose(1, 2))
        return wide


class Network(nn.Module):
    """Logits of two items a place, both [B, L]."""

    def __init__(self, items: int, length: int, dim: int, blocks: int, heads: int, drop: float) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, dim, padding_idx=0)
        self.places = nn.Embedding(length + 1, dim, padding_idx=0)  # 0 is padding's
        self.drop, self.norm = nn.Dropout(drop), nn.LayerNorm(dim, eps=EPS)
        self.blocks = nn.ModuleList(Block(dim, heads, drop) for _ in range(blocks))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)
        for table in (self.items, self.places):
            nn.init.zeros_(table.weight[0])

    def forward(self, inputs_BL: Tensor, targets_BL: Tensor, negatives_BL: Tensor) -> tuple[Tensor, Tensor]:
        length, device = inputs_BL.shape[1], inputs_BL.device
        places_BL = torch.arange(1, length + 1, device=device) * (inputs_BL != 0)
        x_BLD = self.drop(self.items(inputs_BL) * self.items.embedding_dim**0.5 + self.places(places_BL))
        future_LL = ~torch.tril(torch.ones((length, length), dtype=torch.bool, device=device))
        for block in self.blocks:
            x_BLD = block(x_BLD, future_LL)
        x_BLD = self.norm(x_BLD)
        return (x_BLD * self.items(targets_BL)).sum(-1), (x_BLD * self.items(negatives_BL)).sum(-1)


def main() -> None:
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    histories = [history[:-2] for history in read_histories(request) if len(history) > 3]
    model = Network(
        items=request["items"],
        length=request["max_length"],
        dim=request["embed_dim"],
        blocks=request["blocks"],
        heads=request["heads"],
        drop=request["dropout"],
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, betas=BETAS)
    measure, losses = nn.BCEWithLogitsLoss(), list[float]()
    low = request["precision"] == "bf16"
    train, clock, rng = None, Clock(request), np.random.default_rng(request["seed"])
    for batch_3BL in batches(histories, request["batch_size"], request["max_length"], request["items"], rng):
        if "train" not in request["parts"] or clock.done:
            break
        inputs_BL, targets_BL, negatives_BL = torch.from_numpy(batch_3BL).to(device)
        with torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext():
            positive_BL, negative_BL = model(inputs_BL, targets_BL, negatives_BL)
        places = np.nonzero(batch_3BL[1])
        positive_P, negative_P = positive_BL[places].float(), negative_BL[places].float()
        optimizer.zero_grad()
        loss = measure(positive_P, torch.ones_like(positive_P)) + measure(negative_P, torch.zeros_like(negative_P))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise RuntimeError(f"the loss became {losses[-1]}")
        clock.step(len(places[0]), len(batch_3BL[0]))
    if "train" in request["parts"]:
        train = clock.answer("training step with one negative a place, binary cross-entropy, real targets")
        train |= {"first_loss": losses[0], "last_loss": losses[-1]}
    parameters = sum(p.numel() for p in model.parameters())
    shape = f"plain post-norm SASRec, {parameters:,} parameters, ffn_dim={request['embed_dim']}"
    give(request, "pmixer-sasrec", "torch", shape, train=train)


if __name__ == "__main__":
    main()
