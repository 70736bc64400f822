"""No loss: the model is fitted once, by counting events or by solving an equation (most popular, Markov, EASE)."""

from seqrec_cli.config.objective import ObjectiveConfig
from seqrec_cli.objectives import contract


class Objective(contract.Objective):
    """Never asked for a loss."""

    def __init__(self, cfg: ObjectiveConfig) -> None: ...
