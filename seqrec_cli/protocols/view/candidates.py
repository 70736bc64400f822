"""Click candidates beside held-out events, fixed when a view is made so that every model is judged on the same ones.

Legend: U users, N events, R labelled rows, M targets of a row, K negatives, C = M + K candidates.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.blocks import zeros
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.negatives import SeenItems, draw_unseen
from seqrec_cli.data.view import SPLITS, HeldOut, LabelledRows, Targets

NEGATIVES = {"remove": "an item the user never saw", "keep": "an item other than the targets, seen or not"}
CANDIDATES = (
    "the targets and click_negatives uniform draws of {negatives}, with replacement"  # where a protocol says nothing
)


@dataclass(frozen=True)
class Sampler:
    """Draws negatives by one protocol: of items the user never saw; where seen items stay, of all but the targets."""

    items_N: np.ndarray
    excluded: SeenItems
    pool_N: np.ndarray | None  # drawn as often as they occur here; None: uniform
    seed: int
    folder: Path | None  # where arrays lie that are large

    @classmethod
    def of(
        cls,
        cfg: ProtocolConfig,
        log: PackedLog,
        *,
        ends_U: np.ndarray | None = None,
        pool_N: np.ndarray | None = None,
    ) -> Self:
        """Seen is what the whole history holds, or what it holds before `ends_U`."""
        if cfg.seen == "keep":
            excluded = SeenItems.none(log.num_items)
        else:
            excluded = SeenItems.of(np.asarray(log.offsets_U1), np.asarray(log.items_N), log.num_items, ends_U=ends_U)
        return cls(np.asarray(log.items_N), excluded, pool_N, cfg.seed, log.folder)

    def labelled(self, rows_R: np.ndarray, ends_R: np.ndarray, *, negatives: int, stream: int) -> LabelledRows:
        """The event at `ends_R` and its negatives. `stream` numbers independent draws."""
        return self.labelled_targets(Targets.next_events(rows_R, ends_R), negatives=negatives, stream=stream)

    def labelled_targets(self, targets: Targets, *, negatives: int, stream: int) -> LabelledRows:
        """A row a request: its targets, labelled 1, and its negatives."""
        rows_R, counts_R = targets.rows_R, targets.counts_R
        most = int(counts_R.max(initial=1))
        items_RC = zeros((len(rows_R), most + negatives), np.int32, self.folder)
        items_RM, negatives_RK = items_RC[:, :most], items_RC[:, most:]
        filled_RM = np.arange(most) < counts_R[:, None]
        items_RM[filled_RM] = self.items_N[targets.positions_T]
        rng = np.random.default_rng([self.seed, stream])
        excluded, pool_N = self.excluded, self.pool_N
        draw_unseen(rows_R, negatives, excluded, rng=rng, pool_N=pool_N, avoid_RM=items_RM, out=negatives_RK)
        labels_RC = zeros(items_RC.shape, np.float32, self.folder)
        labels_RC[:, :most] = filled_RM
        return LabelledRows(rows_R, targets.ends_R, items_RC, labels_RC)


def held_out_candidates(
    cfg: ProtocolConfig, log: PackedLog, targets: dict[HeldOut, Targets]
) -> dict[str, LabelledRows]:
    """The labelled rows of val and test: the targets beside `click_negatives` uniform negatives."""
    sampler = Sampler.of(cfg, log)
    return {
        split: sampler.labelled_targets(targets[split], negatives=cfg.click_negatives, stream=stream)
        for stream, split in enumerate(reversed(SPLITS), 1)
    }
