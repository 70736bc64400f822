"""`sampler=grid`: every combination of a space's values, in the space's order, each once."""

from seqrec_cli.tuning.records import Proposal, TrialRecord
from seqrec_cli.tuning.space import Space


class Grid:
    """A proposer: what has not been tried yet. Optuna's own grid knows no entries that apply at times only."""

    name = "grid"

    def __init__(self, space: Space) -> None:
        self.combinations = list(space.grid())

    def propose(self, trials: list[TrialRecord]) -> Proposal | None:
        """None where everything was tried."""
        tried = [trial.settings for trial in trials]
        left = (settings for settings in self.combinations if settings not in tried)
        return next((Proposal(settings) for settings in left), None)
