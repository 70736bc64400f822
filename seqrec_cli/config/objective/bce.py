"""Settings of SASRec's published objective."""

from seqrec_cli.config.objective import Capabilities, KnownItemsConfig, NegativesConfig


class Config(KnownItemsConfig, NegativesConfig):
    """Sigmoid of target and negatives."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=True, weights=True
    )
