"""The training step of a BERT4Rec system as its README describes it, in plain PyTorch: bert4rec by rayzhao27 on GitHub.

Written from that description alone, none of its code. Every history is cut to its latest `max_length` events and
padded to that length on the left; 20 % of the events are chosen and masked (80 %), replaced (10 %) or kept (10 %);
pre-norm blocks of `nn.MultiheadAttention`; logits of the whole vocabulary at every place; the cross-entropy ignores
the places that were not chosen; AdamW with a warm-up and a cosine, gradients clipped to 5. Where the description is
silent the faster way is taken (attention weights are not returned). Its figure of 5,179,516 parameters for 3,706
items needs a d x d layer in the prediction head that its list leaves out; it is here.

Legend: B rows, L places, D width, V vocabulary: padding, the items, and the mask as the last one.
"""

import contextlib
import math

from peer_timing import Clock, give, read_histories, read_request

request = read_request()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

MASK_SHARE, MASKED, REPLACED = 0.2, 0.8, 0.1
EPOCHS, WARM_UP, LR, DECAY, CLIP = 300, 100, 1e-3, 0.01, 5.0
IGNORED = -100


class Windows(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """A user a row: the masked events and their labels, both [L]."""

    def __init__(self, histories: list[list[int]], length: int, items: int) -> None:
        self.histories, self.length, self.items = histories, length, items

    def __len__(self) -> int:
        return len(self.histories)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        events = np.array(self.histories[row][-self.length :], np.int64)
        labels = np.full_like(events, IGNORED)
        chosen = np.random.rand(len(events)) < MASK_SHARE
        if not chosen.any():
            chosen[np.random.randint(len(events))] = True
        labels[chosen] = events[chosen]
        chance = np.random.rand(len(events))
        random = np.random.randint(1, self.items + 1, len(events))
        inputs = np.where(chosen & (chance < MASKED), self.items + 1, events)
        inputs = np.where(chosen & (chance >= MASKED) & (chance < MASKED + REPLACED), random, inputs)
        missing = (self.length - len(events), 0)
        padded = np.pad(inputs, missing), np.pad(labels, missing, constant_values=IGNORED)
        return torch.from_numpy(padded[0]), torch.from_numpy(padded[1])


class Block(nn.Module):
    """Attention and feed-forward layer, each after a LayerNorm and beside a residual."""

    def __init__(self, dim: int, heads: int, inner: int, drop: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout=drop, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(), nn.Dropout(drop), nn.Linear(inner, dim), nn.Dropout(drop)
        )
        self.drop = nn.Dropout(drop)

    def forward(self, x_BLD: Tensor, padding_BL: Tensor) -> Tensor:
        normed = self.norm_attention(x_BLD)
        attended, _ = self.attention(normed, normed, normed, key_padding_mask=padding_BL, need_weights=False)
        x_BLD = x_BLD + self.drop(attended)
        wide: Tensor = x_BLD + self.feed_forward(self.norm_feed_forward(x_BLD))
        return wide


class Network(nn.Module):
    """Logits [B, L, V]."""

    def __init__(self, items: int, length: int, dim: int, blocks: int, heads: int, inner: int, drop: float) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 2, dim, padding_idx=0)
        self.places = nn.Embedding(length + 1, dim, padding_idx=0)  # 0 is padding's
        self.norm, self.drop = nn.LayerNorm(dim), nn.Dropout(drop)
        self.blocks = nn.ModuleList(Block(dim, heads, inner, drop) for _ in range(blocks))
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, items + 2))
        self.apply(self._start)

    @staticmethod
    def _start(part: nn.Module) -> None:
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding):
            nn.init.zeros_(part.weight[0])

    def forward(self, inputs_BL: Tensor) -> Tensor:
        padding_BL = inputs_BL == 0
        places_BL = torch.arange(1, inputs_BL.shape[1] + 1, device=inputs_BL.device).masked_fill(padding_BL, 0)
        x_BLD = self.drop(self.norm(self.items(inputs_BL) + self.places(places_BL)))
        for block in self.blocks:
            x_BLD = block(x_BLD, padding_BL)
        logits_BLV: Tensor = self.head(x_BLD)
        return logits_BLV


def optimizer_of(model: nn.Module) -> torch.optim.AdamW:
    """Biases and norms are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}], lr=LR)


def main() -> None:
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    np.random.seed(request["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    histories = [history[:-2] for history in read_histories(request)]
    model = Network(
        items=request["items"],
        length=request["max_length"],
        dim=request["embed_dim"],
        blocks=request["blocks"],
        heads=request["heads"],
        inner=request["ffn_dim"],
        drop=request["dropout"],
    ).to(device)
    loader = torch.utils.data.DataLoader(
        Windows(histories, request["max_length"], request["items"]), batch_size=request["batch_size"], shuffle=True
    )
    optimizer, total = optimizer_of(model), EPOCHS * len(loader)

    def rate(step: int) -> float:
        if step < WARM_UP:
            return step / WARM_UP
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - WARM_UP) / max(1, total - WARM_UP))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    measure = nn.CrossEntropyLoss(ignore_index=IGNORED)
    low = request["precision"] == "bf16"
    train, clock, losses = None, Clock(request), list[float]()
    while "train" in request["parts"] and not clock.done:
        for inputs_BL, labels_BL in loader:
            inputs, labels = inputs_BL.to(device), labels_BL.to(device)
            with torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext():
                logits = model(inputs)
                loss = measure(logits.flatten(0, 1), labels.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise RuntimeError(f"the loss became {losses[-1]}")
            clock.step(int((labels_BL != IGNORED).sum()), len(labels_BL))
            if clock.done:
                break
    if "train" in request["parts"]:
        train = clock.answer("training step with logits at every place, targets are the masked events")
        del train["targets_s"]  # rows are the same windows as seqrec's, but its rows that mask one event teach less
        train |= {"first_loss": losses[0], "last_loss": losses[-1]}
    parameters = sum(p.numel() for p in model.parameters())
    shape = f"plain pre-norm BERT4Rec, {parameters:,} parameters, untied output, ffn_dim={request['ffn_dim']}"
    give(request, "seed-bert4rec", "torch", shape, train=train)


if __name__ == "__main__":
    main()
