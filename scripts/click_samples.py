"""What the click benchmarks have in common: seqrec's settings, one category an item, and samples exported for all.

A sample is a history, one candidate and its label; item and category are all that any side sees. seqrec trains on the
packed log by its own rows; the peers read the same rows from files: histories once, beside their candidates.

Legend: R rows, L history places (padded with 0 on the right), C candidates, S samples (candidates that are there),
V items.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from scripts.bench_own import Setup
from seqrec_cli.commands.console import say
from seqrec_cli.commands.training_setup import objective_for, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import labelled_batches
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import HeldOut
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.training.precision import resolve_precision

HISTORY = 50  # events
BATCH = 1024  # samples: half as many of seqrec's rows, each a positive beside a negative
DATA = ("protocol=positions",)
COMMON = (
    "trainer=click",
    "objective.negatives=1",
    f"model.max_length={HISTORY}",
    "model.mlp=[256,128]",
    f"trainer.batch_size={BATCH // 2}",
)
SHAPES = {  # of each model compared; widths are of one embedding
    "din": ("model=din", "model.unit=[64]", "model.unit_activation=dice", "model.dropout=0"),
    "dien": ("model=dien", "model.hidden=null", "model.auxiliary=0", "model.dropout=0"),
    "dien-aux": ("model=dien", "model.hidden=null", "model.auxiliary=1", "model.dropout=0"),
    "bst": ("model=bst", "model.heads=2", "model.ffn_dim=128", "model.dropout=0.1"),
}
FOLDED = ("bst",)  # its item and category are added up, so its vectors are as wide as the peers' joined ones


def settings(model: str, width: int, overrides: Sequence[str], config_dir: str | None = None) -> TrainConfig:
    """seqrec's config of a model of SHAPES; `overrides` win."""
    wide = 2 * width if model in FOLDED else width
    preset = (*SHAPES[model], *DATA, *COMMON, f"model.embed_dim={wide}")
    cfg = validate("train", compose("train", [*preset, *overrides], config_dir))
    assert isinstance(cfg, TrainConfig)
    return cfg


def one_category(log: PackedLog) -> PackedLog:
    """The log with a single item attribute, the first value of its first one, and nothing known of users."""
    if not log.catalog.item_attributes:
        raise SeqrecError("the dataset has no item attributes, and the click peers are compared with a category")
    first = log.catalog.item_attributes[0]
    category = Attribute("category", first.size, 1)
    values = {"category": np.ascontiguousarray(log.catalog.item_values[first.name][:, :1])}
    return replace(log, catalog=Catalog(log.num_users, log.num_items, (category,), item_values=values), context_NF=None)


def set_up(cfg: TrainConfig, log: PackedLog) -> Setup:
    """What a run of `seqrec train` on this log would work on."""
    precision = resolve_precision(cfg.hardware)
    objective = objective_for(cfg, log, precision.device)
    return Setup(cfg, log, precision, objective, training_rows(cfg, objective, log, device=precision.device))


def click_log(cfg: TrainConfig) -> PackedLog:
    """The dataset, preprocessed if need be, as the click benchmarks see it."""
    resolve_precision(cfg.hardware)  # first: the allocator is told before anything large
    return one_category(with_view(prepare(cfg.dataset, Path(cfg.data_dir), say), cfg.protocol, say))


@dataclass(frozen=True)
class Samples:
    """Rows in the order of users and time, as they were given."""

    users_R: np.ndarray
    history_RL: np.ndarray
    candidates_RC: np.ndarray
    labels_RC: np.ndarray

    @classmethod
    def collect(cls, batches: Iterable[Batch], num_items: int) -> "Samples":
        small = np.min_scalar_type(num_items)
        users, histories, candidates, labels = [], [], [], []
        for batch in batches:
            assert batch.candidates_BC is not None
            assert batch.labels_BC is not None
            history_BL = np.zeros((len(batch), HISTORY), small)
            history_BL[:, : batch.items_BL.shape[1]] = batch.items_BL.cpu()
            users.append(batch.users_B.cpu().numpy())
            histories.append(history_BL)
            candidates.append(batch.candidates_BC.cpu().numpy().astype(small))
            labels.append(batch.labels_BC.cpu().numpy().astype(np.int8))
        return cls(*(np.concatenate(parts) for parts in (users, histories, candidates, labels)))

    def at(self, which_R: np.ndarray) -> "Samples":
        return Samples(
            self.users_R[which_R], self.history_RL[which_R], self.candidates_RC[which_R], self.labels_RC[which_R]
        )

    def subsample(self, samples: int, seed: int) -> "Samples":
        """At most that many samples, of rows in a random order."""
        rows = -(-samples // self.candidates_RC.shape[1])
        return self.at(np.random.default_rng(seed).permutation(len(self.users_R))[:rows])

    def __len__(self) -> int:
        """Samples."""
        return int(np.count_nonzero(self.candidates_RC))

    def save(self, path: Path, log: PackedLog) -> None:
        """For the peers, with the category of every item."""
        np.savez(
            path,
            history_RL=self.history_RL,
            candidates_RC=self.candidates_RC,
            labels_RC=self.labels_RC,
            category_V=log.catalog.item_values["category"][:, 0],
        )

    def batches(self, rows: int) -> Iterator[Batch]:
        """Batches of like length, longest first, as evaluation has them."""
        lengths_R = np.count_nonzero(self.history_RL, axis=1)
        order_R = np.argsort(-lengths_R, kind="stable")
        for first in range(0, len(order_R), rows):
            part, lengths_B = self.at(order_R[first : first + rows]), lengths_R[order_R[first : first + rows]]
            yield Batch(
                users_B=torch.from_numpy(part.users_R),
                items_BL=torch.from_numpy(part.history_RL[:, : lengths_B.max()].astype(np.int64)),
                lengths_B=torch.from_numpy(lengths_B),
                candidates_BC=torch.from_numpy(part.candidates_RC.astype(np.int64)),
            )


def training_samples(cfg: TrainConfig, log: PackedLog) -> Samples:
    """Those that a model of `cfg` trains on in its first epoch, all of them, one row a target."""
    alone = cfg.model_copy(update={"objective": cfg.objective.model_copy(update={"positions": False})})
    found = Samples.collect(set_up(alone, log).rows.epoch(0), log.num_items)
    return found.at(np.argsort(found.users_R, kind="stable"))


def held_out_samples(log: PackedLog, split: HeldOut) -> Samples:
    """The fixed candidates of a split, ordered by user."""
    found = Samples.collect(
        (batch for _, batch in labelled_batches(log, split, max_length=HISTORY, batch_size=BATCH)), log.num_items
    )
    return found.at(np.argsort(found.users_R, kind="stable"))
