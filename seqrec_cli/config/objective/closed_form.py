"""Settings of models that are fitted by counting or solving: none."""

from seqrec_cli.config.objective import Capabilities, ObjectiveConfig


class Config(ObjectiveConfig):
    """There is no loss to set."""

    capabilities = Capabilities(
        families=frozenset({"closed_form"}), rows="none", causal=None, sparse_rows=False, weights=False
    )
