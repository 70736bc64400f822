"""Settings of Bayesian personalised ranking."""

from seqrec_cli.config.objective import Capabilities, NegativesConfig


class Config(NegativesConfig):
    """Sigmoid of the target's lead over each negative."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=True, weights=True
    )
