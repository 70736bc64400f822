"""Who owns the items, and which share of the exposure each owner is to have.

"How many items you interacted, how many times your items get recommended" (Huang, section 4.5): an owner is a user, and
the owner's target is that user's share of all owners' training events.

Legend: O owners, U users, V items (counted from 1; 0 is padding).
"""

from dataclasses import dataclass

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import user_training_counts


@dataclass(frozen=True)
class Owners:
    """Of a log's items. Exposure of items that belong to nobody is left out of all shares."""

    of_items_V1: np.ndarray  # int64: each item's owner, from 1; 0: nobody's
    users_O: np.ndarray  # the user (from 1) that each owner is
    target_O: np.ndarray  # float64, of one

    @classmethod
    def of(cls, log: PackedLog, *, otherwise: str = "") -> "Owners":
        """Raises SeqrecError for a log whose items belong to nobody, or whose owners do nothing in training.

        `otherwise` is what the caller can do with such a log, for the message.
        """
        if log.owners_V1 is None:
            raise SeqrecError(
                "exposure by owner: the items of this log belong to nobody; train with dataset.owner_column (csv) or "
                f"dataset.owners=true (synthetic), both with dataset.predict=items{otherwise}"
            )
        users_O, of_items_V1 = np.unique(np.asarray(log.owners_V1, np.int64), return_inverse=True)
        if users_O[0] > 0:  # every item is somebody's: 0 stands for nobody all the same
            users_O, of_items_V1 = np.concatenate([[0], users_O]), of_items_V1 + 1
        of_items_V1[0] = 0
        users_O = users_O[1:]
        acts_O = user_training_counts(log)[users_O].astype(np.float64)
        if not acts_O.sum():
            raise SeqrecError("exposure by owner: no owner of an item has a training event, so nothing is due to any")
        return cls(of_items_V1, users_O, acts_O / acts_O.sum())

    def shares(self, by_item_V1: np.ndarray) -> np.ndarray:
        """Of what owned items have in all, as exposure [V + 1], each owner's share, float64 [O]; zeros of nothing."""
        of_owner_O = np.bincount(self.of_items_V1, by_item_V1, minlength=len(self.users_O) + 1)[1:]
        total = of_owner_O.sum()
        return of_owner_O / total if total > 0 else of_owner_O
