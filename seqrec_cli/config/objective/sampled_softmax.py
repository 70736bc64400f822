"""Settings of the sampled softmax."""

from seqrec_cli.config.objective import Capabilities, CorpusNegativesConfig, KnownItemsConfig


class Config(KnownItemsConfig, CorpusNegativesConfig):
    """Softmax over target and negatives."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=True, weights=True
    )
