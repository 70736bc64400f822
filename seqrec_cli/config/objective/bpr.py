"""Settings of Bayesian personalised ranking."""

from seqrec_cli.config.objective import Capabilities, KnownItemsConfig, NegativesConfig


class Config(KnownItemsConfig, NegativesConfig):
    """Sigmoid of the target's lead over each negative."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=True, weights=True
    )
