"""A tiny catalog, batches made by hand, and small versions of every model of conf/model.

Legend: B rows, L history events, C candidates, V items.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from seqrec_cli.config.model import ModelConfig
from seqrec_cli.config.registry import PACKAGE, config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import ClosedFormModel, Generator, Recommender, SequenceEncoder
from tests.shipped import shipped

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
ITEMS, USERS = 40, 8

# Every model shrinks the settings it has of these; a new model may need another line.
SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "ffn_dim": 24,
    "heads": 2,
    "max_length": 12,
    "mlp": [12, 8],
    "hidden": 10,
    "states": 12,
    "session_gap": 600,
    "session_events": 3,
    "codes": 7,
    "rqvae_steps": 20,
    "mask_open": 0.995,
    "sparsity": 1e-4,
    "smoothness": 1e-5,
}

# Recorded in tests/golden before cosines (`temperature`) were the default.
DOT_PRODUCTS = ("bert4rec", "ensemble", "esasrec", "gru4rec", "lrurec", "nextitnet", "sasrec")


def model_names() -> list[str]:
    """The models of conf/model."""
    return sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


CAUSAL = {
    "bsarec": {"filter": "causal", "layer_std": None},
    "fmlprec": {"filter": "causal", "layer_std": None, "filter_std": 1.0},
}


def numbers(name: str) -> dict[str, Any]:
    """A model's shipped settings; of one that by them sees a whole row at every position, those of its causal kind."""
    return shipped("model", name) | CAUSAL.get(name, {})


def code_of(name: str) -> str:
    """The model that an option of conf/model is of: enough to collect tests, and no composition."""
    return str(OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml")["name"])


def made_of(name: str) -> set[str]:
    """The modules of layers and kernels that a model's file imports, and that it is one."""
    text = (PACKAGE / "models" / f"{code_of(name)}.py").read_text(encoding="utf-8")
    return {"model", *re.findall(r"^from (seqrec_cli\.(?:models|kernels)[\w.]*) import", text, re.M)}


def small_config(name: str, *, sizes: dict[str, Any] = SMALL, **changes: Any) -> ModelConfig:
    """A model's shipped settings with small sizes and no dropout, and `changes` on top."""
    plain = numbers(name)
    shrunk = _shrunk(plain, sizes) | changes
    return config_class("model", plain["name"]).from_plain(shrunk)  # type: ignore[return-value]


def _shrunk(plain: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    """Settings with small sizes and no dropout, those of an ensemble's members too."""
    still = {key: 0.0 for key in plain if key.endswith("dropout")}
    small = {key: value for key, value in sizes.items() if key in plain}
    if plain["name"] == "auto":  # which training fills
        members = {name: numbers(name) for name in ("itemknn", "graph", "sasrec")}
        plain = plain | {"members": members, "weights": dict.fromkeys(members, 0.5)}
    if "members" in plain:
        small["members"] = {key: _shrunk(member, sizes) for key, member in plain["members"].items()}
    return plain | small | still


def toy_catalog() -> Catalog:
    """40 items with up to three genres and a decade, 8 users with a segment; every value occurs."""
    rng = np.random.default_rng(0)
    genres = np.zeros((ITEMS + 1, 3), np.int32)
    for item in range(1, ITEMS + 1):
        values = rng.choice(np.arange(1, 6), size=1 + item % 3, replace=False)
        genres[item, : len(values)] = values
    decades = (np.arange(ITEMS + 1) % 4).astype(np.int32)[:, None]
    segments = (1 + np.arange(USERS + 1) % 3).astype(np.int32)[:, None]
    segments[0] = 0
    return Catalog(
        USERS,
        ITEMS,
        (Attribute("genre", 6, 3), Attribute("decade", 4, 1)),
        (Attribute("segment", 4, 1),),
        {"genre": genres, "decade": decades},
        {"segment": segments},
    )


def toy_histories() -> list[Tensor]:
    """One history a user, no item twice in one, 4 to 11 events; the first items of all users differ."""
    generator = torch.Generator().manual_seed(1)
    rest = [torch.randperm(ITEMS - USERS, generator=generator)[: 3 + u] + USERS + 1 for u in range(USERS)]
    return [torch.cat([torch.tensor([u + 1]), items]) for u, items in enumerate(rest)]


def toy_batch() -> Batch:
    """The toy histories but for their last event, with times, targets at every position and labelled candidates."""
    histories = toy_histories()
    lengths_B = torch.tensor([len(h) - 1 for h in histories])
    width = int(lengths_B.max())
    pad = lambda items: F.pad(items, (0, width - len(items)))  # noqa: E731
    last_B = torch.stack([h[-1] for h in histories])
    times_BL = torch.stack([pad(3600 * torch.arange(1, len(h)) ** 2) for h in histories])
    return Batch(
        users_B=torch.arange(1, USERS + 1),
        items_BL=torch.stack([pad(h[:-1]) for h in histories]),
        lengths_B=lengths_B,
        times_BL=times_BL,
        targets_BL=torch.stack([pad(h[1:]) for h in histories]),
        candidates_BC=torch.stack([last_B, last_B % ITEMS + 1], dim=1),  # the second: some other item
        labels_BC=torch.tensor([[1.0, 0.0]]).repeat(USERS, 1),
        request_times_B=times_BL.amax(1) + 1800,
        negatives_BLK=(torch.arange(USERS)[:, None, None] + torch.arange(width)[:, None]) % ITEMS + 1,
    )


def rows(batch: Batch, which: Any) -> Batch:
    """Some rows of a batch."""
    return Batch(**{k: None if v is None else v[which] for k, v in vars(batch).items()})


def padded(batch: Batch, more: int) -> Batch:
    """The batch with `more` padded positions."""
    longer = {k: F.pad(v, (0, more)) for k, v in vars(batch).items() if k.endswith("_BL") and v is not None}
    return replace(batch, **longer)


def toy_model(name: str, seed: int = 0, **changes: Any) -> Recommender:
    """A small model; one that counts has counted the toy histories."""
    model = build_model(small_config(name, **changes), toy_catalog(), seed)
    model.fit_closed_form(toy_histories())
    return model


def toy_loss(model: Recommender, batch: Batch) -> Tensor:
    """A loss of the kind the model is trained by: of items' probabilities, or cross-entropy of labelled candidates."""
    assert batch.targets_BL is not None
    if isinstance(model, SequenceEncoder) and model.causal:
        return _with_terms(model, batch, model.estimated_loss(lambda: _next_item_loss(model, batch)))
    if isinstance(model, Generator):
        return model.target_losses(batch, False).mean()
    if isinstance(model, SequenceEncoder | ClosedFormModel):
        last_B = batch.targets_BL.gather(1, batch.lengths_B[:, None] - 1)[:, 0]
        return F.cross_entropy(model.score_corpus(batch), last_B)
    assert batch.candidates_BC is not None
    assert batch.labels_BC is not None
    loss = F.binary_cross_entropy_with_logits(model.score(batch, batch.candidates_BC), batch.labels_BC)
    return _with_terms(model, batch, loss)


def _next_item_loss(model: SequenceEncoder, batch: Batch) -> Tensor:
    assert batch.targets_BL is not None
    real_BL = batch.targets_BL > 0
    scores_NV, bias_V = model.encode(batch)[real_BL] @ model.item_table().T, model.item_bias()
    return F.cross_entropy(scores_NV if bias_V is None else scores_NV + bias_V, batch.targets_BL[real_BL])


def _with_terms(model: Recommender, batch: Batch, loss: Tensor) -> Tensor:
    for term in (model.auxiliary_loss(), model.penalty(batch)):
        loss = loss if term is None else loss + term
    return loss


def losses(model: Recommender, steps: int, lr: float) -> Iterator[float]:
    """The loss of each of `steps` AdamW steps on the toy batch."""
    batch = toy_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.01)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = toy_loss(model, batch)
        loss.backward()
        optimizer.step()
        yield loss.item()


def _as_recorded(name: str) -> dict[str, Any]:
    """The settings that the losses were recorded with, where another number is shipped by now."""
    if name not in DOT_PRODUCTS:
        return {}
    plain = _shrunk(numbers(name), SMALL)
    if "members" not in plain:
        return {"temperature": None}
    return {"members": {key: member | {"temperature": None} for key, member in plain["members"].items()}}


def golden_losses(name: str) -> list[float]:
    """What tests/golden/NAME.json records: three steps in fp32 from seed 0, or the one loss of counted scores."""
    model = toy_model(name, **_as_recorded(name))
    if not model.trainable_models():
        return [toy_loss(model, toy_batch()).item()]
    return list(losses(model, steps=3, lr=0.01))
