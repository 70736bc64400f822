"""No loss: the model is fitted by counting events once (most popular, Markov)."""

from typing import ClassVar, Literal

from seqrec_cli.config.schema import ObjectiveConfig
from seqrec_cli.objectives import contract


class Config(ObjectiveConfig):
    """Counting has no settings."""

    families: ClassVar[frozenset[str]] = frozenset({"closed_form"})
    rows: ClassVar[Literal["windows", "prefixes", "none"]] = "none"


class Objective(contract.Objective):
    """Never asked for a loss: `train` counts instead of fitting."""

    def __init__(self, cfg: Config) -> None:
        self.name = cfg.name
