"""Records of runs from before a setting was there: what was done then, so that their folders stay of use."""

import copy
from typing import Any

from seqrec_cli.config.seal import fields_of

BEFORE: dict[str, Any] = {
    "model.batch_norm": False,
    "model.event_dropout": 0.0,
    "model.ffn_dropout": 0.0,
    "trainer.bucket_by_length": True,
}


def completed(plain: dict[str, Any]) -> dict[str, Any]:
    """The plain record of a `train` run with the settings that came later, where its model has them."""
    found = copy.deepcopy(plain)
    for key, _ in fields_of("train", found):
        group, _, name = key.rpartition(".")
        if key in BEFORE and isinstance(found.get(group), dict):
            found[group].setdefault(name, BEFORE[key])
    return found
